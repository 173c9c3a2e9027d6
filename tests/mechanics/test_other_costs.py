"""The mechanics of likelihoods, robust costs and curves, against statsmodels and their fits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm

from jaxreg import (
    Huber,
    Logistic,
    Poisson,
    Ridge,
    exponential_decay,
    fit,
    laplace,
    linearized_flow,
    mean_squared_error,
    momentum,
    sample,
    stationary_phase,
)

N = 60


@pytest.fixture(scope="module")
def x():
    return np.linspace(-1, 1, N)


def data_of(cost, x):
    rng = np.random.default_rng(0)
    f = 0.3 + 1.5 * x
    if isinstance(cost, Logistic):
        return rng.binomial(1, 1 / (1 + np.exp(-f))) * 1.0, sm.families.Binomial()
    return rng.poisson(np.exp(f)) * 1.0, sm.families.Poisson()


@pytest.mark.parametrize("cost", [Logistic(), Poisson()])
def test_the_covariance_of_laplace_is_that_of_the_likelihood(x, cost):
    """S is −log p / n: at the temperature 1/n, e^{−S/T} is the likelihood."""
    y, family = data_of(cost, x)
    expected = sm.GLM(y, sm.add_constant(x), family=family).fit(tol=1e-12)
    params = fit(x, y, cost=cost).params
    found = laplace(cost, params, x, y, temperature=1 / N)
    np.testing.assert_allclose(found.mean, expected.params, rtol=1e-4)
    np.testing.assert_allclose(found.covariance, expected.cov_params(), rtol=1e-4, atol=1e-7)
    flow = linearized_flow(cost, params, x, y)
    rates = np.linalg.eigvalsh(np.linalg.inv(expected.cov_params()) / N)
    np.testing.assert_allclose(np.sort(flow.rates), rates, rtol=1e-4)


@pytest.mark.parametrize("cost", [Huber(), Logistic() + Ridge(0.5)], ids=["Huber", "penalized"])
def test_fits_are_the_points_that_dominate_the_path_integral(x, cost):
    y, _ = data_of(Logistic(), x)
    found = fit(x, y, cost=cost)
    np.testing.assert_allclose(momentum(cost, jnp.asarray(found.params), x, y), 0, atol=1e-6)
    integral = stationary_phase(cost, found.params, x, y, hbar=0.1)
    np.testing.assert_allclose(integral.points, np.asarray(found.params)[None], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(integral.actions, [found.cost], rtol=1e-5)


@pytest.mark.slow
def test_curves_and_thermal_samples(x):
    rng = np.random.default_rng(1)
    y = 1 + 2 * np.exp(-1.5 * x) + 0.02 * rng.normal(size=N)
    found = fit(x, y, ansatz=exponential_decay)
    cost = partial(mean_squared_error, ansatz=exponential_decay)
    temperature = 2 * float(found.scale) / N  # e^{−S/T} is the likelihood of normal errors
    covariance = laplace(cost, found.params, x, y, temperature=temperature).covariance
    np.testing.assert_allclose(covariance, found.cov_params(), rtol=0.05)
    y, _ = data_of(Logistic(), x)
    params = fit(x, y, cost=Logistic()).params
    samples = sample(Logistic(), params, x, y, temperature=1 / N, key=jax.random.key(0))
    wide = laplace(Logistic(), params, x, y, temperature=1 / N).covariance
    np.testing.assert_allclose(np.cov(samples.params.T), wide, rtol=0.3, atol=0.02)
