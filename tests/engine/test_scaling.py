from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import Line, Linear
from jaxreg.engine import scaling
from jaxreg.numerics.precision import power_of_two


@pytest.mark.parametrize("value", [0.0, 1.0, 3.0, 4.0, 1e-20, 7e30])
def test_power_of_two_is_one_and_not_below(value):
    found = float(power_of_two(jnp.float32(value)))
    assert np.frexp(found)[0] == 0.5
    assert value <= found
    assert found < 2 * value or (value, found) == (0, 1)


def test_a_scaling_maps_the_ranges_into_one(rng):
    x = jnp.float32(1.6e9 + 1000 * np.arange(50))
    y = jnp.float32(rng.normal(1e4, 1, size=50))
    f = scaling.of_ranges((x.min(), x.max()), (y.min(), y.max()), Line())
    for a, center, scale in ((x, f.x_center, f.x_scale), (y, f.y_center, f.y_scale)):
        assert 0.5 <= float(jnp.abs((a - center) / scale).max()) <= 1


def test_without_an_intercept_the_origin_stays():
    x_range = jnp.float32([100.0]), jnp.float32([101.0])
    f = scaling.of_ranges(x_range, (jnp.float32(5), jnp.float32(6)), Linear(intercept=False))
    assert float(f.x_center[0]) == float(f.y_center) == 0


def test_a_range_that_is_none_gives_finite_numbers():
    inf = jnp.float32(jnp.inf)
    f = scaling.of_ranges((inf, -inf), (-inf, inf), Line())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(f))


def test_between_scalings_is_exact_to_twice_the_digits():
    """z_new = R z_old, on fractions."""
    ranges = [(1.6e9, 1.601e9, 1e4, 1.1e4), (1.5e9, 1.7e9, 0, 3e4)]
    old, new = (
        scaling.of_ranges((jnp.float32(a), jnp.float32(b)), (jnp.float32(c), jnp.float32(d)), Line())
        for a, b, c, d in ranges
    )
    R = scaling.between(old, new, Line())
    t, u = Fraction(3, 8), Fraction(-5, 16)
    z_old = [Fraction(1), t, u]

    def exact(a):
        return Fraction(float(a))

    x = exact(old.x_center) + exact(old.x_scale) * t
    y = exact(old.y_center) + exact(old.y_scale) * u
    z_new = [
        Fraction(1),
        (x - exact(new.x_center)) / exact(new.x_scale),
        (y - exact(new.y_center)) / exact(new.y_scale),
    ]
    for i in range(3):
        found = sum((exact(R.hi[i, j]) + exact(R.lo[i, j])) * z_old[j] for j in range(3))
        assert abs(found - z_new[i]) < Fraction(1, 2**44)
