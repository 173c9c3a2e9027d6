"""Costs as functions of params: their values, slopes and curvatures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from jaxreg import (
    Bisquare,
    Gamma,
    Huber,
    Linear,
    Logistic,
    NegativeBinomial,
    Poisson,
    PseudoHuber,
    mean_loss,
    mean_squared_error,
)

pytestmark = pytest.mark.either_mode
LOSSES = {
    "logistic": (Logistic(), [0.0, 1.0, 0.3]),
    "poisson": (Poisson(), [0.0, 3.0, 7.0]),
    "negative binomial": (NegativeBinomial(alpha=0.7), [0.0, 3.0, 7.0]),
    "gamma": (Gamma(), [0.2, 3.0, 7.0]),
    "own": (mean_loss(lambda y, f: jnp.logaddexp(y - f, f - y)), [-1.0, 3.0, 7.0]),
}


@pytest.mark.parametrize(("cost", "y"), LOSSES.values(), ids=LOSSES)
def test_slope_and_curvature_are_derivatives_of_the_loss(cost, y):
    with jax.enable_x64(True):
        y, f = (a.ravel() for a in np.meshgrid(np.array(y), np.linspace(-3, 3, 7)))
        h = 1e-5
        slope = (cost.loss(y, f + h) - cost.loss(y, f - h)) / (2 * h)
        np.testing.assert_allclose(cost.slope(y, jnp.asarray(f)), slope, rtol=1e-7, atol=1e-8)
        curvature = (cost.slope(y, f + h) - cost.slope(y, f - h)) / (2 * h)
        np.testing.assert_allclose(cost.curvature(y, jnp.asarray(f)), curvature, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("cost", "y"), list(LOSSES.values())[:4], ids=list(LOSSES)[:4])
def test_the_working_curvature_is_the_expectation_of_the_curvature(cost, y):
    """Both are linear in y, whose expectation is the mean."""
    with jax.enable_x64(True):
        f = jnp.linspace(-3, 3, 7)
        np.testing.assert_allclose(cost.working_curvature(f, f), cost.curvature(cost.mean(f), f), rtol=1e-12)


@pytest.mark.parametrize(
    ("cost", "norm"),
    [
        (Huber(1.2), sm.robust.norms.HuberT(1.2)),
        (Bisquare(4.0), sm.robust.norms.TukeyBiweight(4.0)),
    ],
)
def test_robust_costs_are_those_of_statsmodels(cost, norm):
    with jax.enable_x64(True):
        u = jnp.linspace(0.01, 8, 50)
        np.testing.assert_allclose(cost.rho(u), 2 * norm.rho(np.array(u)), rtol=1e-9)  # statsmodels cancels
        np.testing.assert_allclose(cost.psi_over_u(u), norm.weights(np.array(u)), rtol=1e-12)
        np.testing.assert_allclose(cost.psi_slope(u), norm.psi_deriv(np.array(u)), rtol=1e-12, atol=1e-12)


def test_pseudo_huber_is_that_of_scipy():
    from scipy.special import pseudo_huber

    with jax.enable_x64(True):
        u, cost = jnp.linspace(0.0, 8, 50), PseudoHuber(1.5)
        np.testing.assert_allclose(cost.rho(u), 2 * pseudo_huber(1.5, np.array(u)), rtol=1e-12)
        slope = jax.vmap(jax.grad(cost.rho))(u[1:])
        np.testing.assert_allclose(2 * u[1:] * cost.psi_over_u(u[1:]), slope, rtol=1e-12)
        curvature = jax.vmap(jax.grad(jax.grad(cost.rho)))(u[1:])
        np.testing.assert_allclose(2 * cost.psi_slope(u[1:]), curvature, rtol=1e-12)


def test_a_robust_cost_of_small_residuals_is_the_mean_squared_error(rng):
    x, y, w = (jnp.asarray(rng.uniform(1, 2, 9), jnp.float32) for _ in range(3))
    y = y.at[2].set(jnp.nan)  # a gap
    theta = jnp.array([1.0, 0.3])
    expected = mean_squared_error(theta, x, y, w)
    for cost in (Huber(1e3), PseudoHuber(1e3), Bisquare(1e3)):
        np.testing.assert_allclose(cost(theta, x, y, w), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("cost", "logpmf"),
    [
        (Logistic(), lambda y, f: stats.bernoulli.logpmf(y, 1 / (1 + np.exp(-f)))),
        (Poisson(), lambda y, f: stats.poisson.logpmf(y, np.exp(f))),
        (NegativeBinomial(0.5), lambda y, f: stats.nbinom.logpmf(y, 2, 2 / (2 + np.exp(f)))),
    ],
)
def test_likelihoods_are_those_of_scipy(cost, logpmf):
    with jax.enable_x64(True):
        y, f = np.array([0.0, 1.0, 1.0]), np.array([-2.0, 0.3, 4.0])
        np.testing.assert_allclose(cost.log_constant(y) - cost.loss(y, f), logpmf(y, f), rtol=1e-10)
        saturated = cost.saturated_loss(np.array([2.0, 3.0]) if cost != Logistic() else np.array([0.2, 0.7]))
        y = np.array([2.0, 3.0]) if cost != Logistic() else np.array([0.2, 0.7])
        best = np.log(y) if cost != Logistic() else np.log(y / (1 - y))
        np.testing.assert_allclose(saturated, cost.loss(y, best), rtol=1e-12)


def test_gaps_and_weights_of_a_cost(rng):
    x, y = rng.normal(size=(6, 2)).astype("f4"), np.array([1, 0, 3, np.nan, 2, 5], "f4")
    w = np.array([1, 2, 0, 1, 1, 3], "f4")
    valid = [0, 1, 4, 5]
    theta = np.array([0.1, 0.4, -0.2], "f4")
    f = theta[0] + x @ theta[1:]
    loss = np.exp(f) - y * f
    expected = np.sum((w * loss)[valid]) / w[valid].sum()
    value, gradient = jax.value_and_grad(Poisson())(jnp.asarray(theta), x, y, w, ansatz=Linear())
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert np.isfinite(gradient).all()


def test_mean_loss_takes_a_function():
    with pytest.raises(TypeError, match="takes a function"):
        mean_loss(3)
