"""The integrated flow of any cost against closed forms and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate

from jaxreg import exact_flow, linearized_flow, mean_squared_error, moments
from jaxreg.mechanics.integrated_flow import integrate_flow


def quartic(q):
    return jnp.sum(q**4) / 4


def logistic(theta, x, y):
    z = theta[0] + theta[1] * x
    return jnp.mean(jnp.logaddexp(0, z) - y * z)


def explosive(q):
    return -jnp.sum(q**4)


@pytest.mark.slow_in("float64")
def test_the_flow_of_a_quartic_is_its_closed_form(dtype):
    times = np.array([0, 1, 100, 1e6], dtype)
    path = integrate_flow(quartic, np.array([1, -1], dtype), times=times)
    exact = 1 / np.sqrt(1 + 2 * times.astype("f8"))
    np.testing.assert_allclose(
        path.params, np.stack([exact, -exact], axis=1), rtol=0, atol=10 * np.finfo(dtype).eps ** (2 / 3)
    )
    np.testing.assert_allclose(path.power, -2 * np.square(path.params[:, 0], dtype="f8") ** 3, rtol=1e-3)
    assert path.params.dtype == dtype


@pytest.mark.slow
def test_a_stiff_quadratic_is_the_exact_flow(rng):
    x, y = rng.uniform(99, 100, 30), rng.normal(size=30)  # κ = 10⁹
    times = np.array([1e-5, 1.0, 1e3])
    path = integrate_flow(mean_squared_error, np.zeros(2), x, y, times=times)
    exact = exact_flow(moments(x, y)).trajectory(np.zeros(2), times)
    np.testing.assert_allclose(path.cost, exact.cost, rtol=1e-4)
    np.testing.assert_allclose(path.params[-1], exact.params[-1], rtol=1e-3)


def test_the_flow_of_a_logistic_cost_is_that_of_scipy(rng):
    x = rng.normal(size=40)
    y = (rng.random(40) < 1 / (1 + np.exp(-x))).astype(float)
    times = np.array([0.5, 5.0, 50.0])
    path = integrate_flow(logistic, np.array([1.0, -2.0]), x, y, times=times)

    def velocity(t, theta):
        excess = 1 / (1 + np.exp(-theta[0] - theta[1] * x)) - y
        return [-np.mean(excess), -np.mean(x * excess)]

    exact = scipy.integrate.solve_ivp(velocity, (0, 50), [1.0, -2.0], "DOP853", times, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(path.params, exact.y.T, rtol=0, atol=1e-6)


def test_the_error_decays_at_the_local_rate_at_late_times(rng):
    """The slowest eigenvalue of ∇²S at the end is the rate at which the error decays at late times."""
    x = rng.normal(size=40)
    y = (rng.random(40) < 1 / (1 + np.exp(-x))).astype(float)
    path = integrate_flow(logistic, np.zeros(2), x, y, times=np.array([100.0, 110.0, 1000.0]), tol=1e-12)
    local = linearized_flow(logistic, path.params[-1], x, y)
    error = np.linalg.norm(path.params[:2] - path.params[-1], axis=1)
    assert np.log(error[0] / error[1]) / 10 == pytest.approx(float(local.rates[0]), rel=1e-3)


@pytest.mark.slow
def test_an_overflow_is_nan_from_there_on():
    path = integrate_flow(explosive, np.array([1.0]), times=np.array([0.0, 0.05, 4.0]))
    np.testing.assert_allclose(path.params[:2, 0], [1, 1 / np.sqrt(0.6)], rtol=1e-6)
    assert np.isnan(path.params[2]).all()


@pytest.mark.slow
def test_vmap_of_grad():
    def end(a):
        return integrate_flow(quartic, a[None], times=jnp.array([0.0, 1.0])).params[1, 0]

    gradients = jax.vmap(jax.grad(end))(jnp.array([0.5, 1.0]))
    np.testing.assert_allclose(gradients, (1 + 2 * np.array([0.25, 1.0])) ** -1.5, rtol=1e-3)


def test_times_of_the_wrong_shape_are_an_error():
    with pytest.raises(ValueError, match=r"times has shape \(times,\) and at least one entry"):
        integrate_flow(quartic, jnp.ones(1), times=1.0)


@pytest.mark.parametrize("times", [[2.0, 1.0, 0.0], [-1.0, 0.0]])
def test_negative_or_descending_times_are_an_error(times):
    with pytest.raises(ValueError, match="times are 0 or later and ascending"):
        integrate_flow(quartic, jnp.ones(1), times=jnp.array(times))


def test_a_cost_of_many_numbers_is_an_error():
    with pytest.raises(ValueError, match=r"a cost returns one number, .* got shape \(2,\)"):
        integrate_flow(jnp.square, jnp.ones(2), times=jnp.array([0.0, 1.0]))
