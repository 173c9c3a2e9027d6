"""Newton's method on functions with known stationary points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers import newton

MINIMUM = in_own_precision(jax.jit(newton.minimum, static_argnums=0))
TURNING_POINT = in_own_precision(jax.jit(newton.turning_point, static_argnums=0))
EXAMINE = in_own_precision(jax.jit(newton.examine, static_argnums=0))


def rosenbrock(q):
    return (1 - q[0]) ** 2 + 100 * (q[1] - q[0] ** 2) ** 2


def saddle(q):
    return q[0] ** 2 - q[1] ** 2 + q[0] * q[1] ** 3


def wells(q):
    return jnp.sum((q**2 - 1) ** 2)


def flat(q):
    return jnp.sum(q**4)


def inflection(q):
    return jnp.sum(q**3)


def test_the_minimum_of_a_curved_valley(dtype):
    end = MINIMUM(rosenbrock, np.array([-1.2, 1.0], dtype))
    np.testing.assert_allclose(end, [1, 1], rtol=100 * np.finfo(dtype).eps)


def test_a_descent_leaves_a_saddle_and_a_maximum():
    for start in ([0.01, -0.01], [0.01, 1.0], [-0.5, 0.2]):
        np.testing.assert_allclose(np.abs(MINIMUM(wells, np.array(start))), [1, 1], rtol=1e-12)


def test_the_search_for_turning_points_converges_to_a_saddle(dtype):
    end = TURNING_POINT(saddle, np.array([0.2, -0.3], dtype))
    np.testing.assert_allclose(end, [0, 0], atol=10 * np.finfo(dtype).eps)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    ("cost", "singular"), [(wells, False), (rosenbrock, False), (flat, True), (inflection, True)]
)
def test_points_without_curvature_are_recognized(cost, singular, dtype):
    start = np.array([0.9, 0.8], dtype)
    diagnosis = EXAMINE(cost, start, TURNING_POINT(cost, start))
    assert diagnosis.singular == singular
    assert diagnosis.converged


def test_newtons_method_does_not_converge_on_a_plane():
    def plane(q):
        return q[0] + 0 * q[1]

    start = np.array([0.3, 0.4])
    assert not EXAMINE(plane, start, start).converged
