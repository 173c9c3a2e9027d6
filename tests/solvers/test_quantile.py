"""Quantile regressions, against linear programs of scipy and against statsmodels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import norm
from statsmodels.api import QuantReg, add_constant
from statsmodels.regression.quantile_regression import hall_sheather, kernels

from jaxreg import (
    GradientDescent,
    InteriorPoint,
    Line,
    Linear,
    Polynomial,
    Quantile,
    Reweighted,
    Ridge,
    Status,
    exponential_decay,
    fit,
)

N, M = 40, 6


def made(kind, k, seed=0):
    """x (n, k) and y (n, m) of several kinds."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, k))
    errors = {
        "heavy tails": lambda: rng.standard_t(1.5, size=(N, M)),
        "counts": lambda: rng.poisson(1.0, size=(N, M)).astype(float),
        "two values": lambda: np.sign(rng.normal(size=(N, M))),
    }[kind]()
    return x, errors + (kind == "heavy tails") * (1 + x.sum(axis=1))[:, None]


def of_program(psi, y, w, q):
    """The params and S by a linear program in θ⁺, θ⁻, ε⁺ and ε⁻."""
    n, p = psi.shape
    costs = np.concatenate([np.zeros(2 * p), q * w, (1 - q) * w])
    program = linprog(costs, A_eq=np.hstack([psi, -psi, np.eye(n), -np.eye(n)]), b_eq=y)
    return program.x[:p] - program.x[p : 2 * p], program.fun / w.sum()


@pytest.mark.parametrize("k", [1, 4])
@pytest.mark.parametrize("kind", ["heavy tails", "counts", "two values"])
def test_the_minimum_is_that_of_a_linear_program(kind, k):
    """With gaps, weights and a quantile for each data set; S is compared, which is unique."""
    x, y = made(kind, k)
    rng = np.random.default_rng(1)
    y[rng.random(y.shape) < 0.1] = np.nan
    weights = rng.integers(0, 4, size=y.shape).astype(float)
    q = np.linspace(0.05, 0.9, M)
    fits = fit(x, y, ansatz=Linear(), cost=Quantile(q), weights=weights)
    assert (fits.status == Status.ok).all()
    psi = add_constant(x)
    for i in range(M):
        valid = np.isfinite(y[:, i]) & (weights[:, i] > 0)
        some = psi[valid], y[valid, i], weights[valid, i]
        params, S = of_program(*some, q[i])
        np.testing.assert_allclose(fits.cost[i], S, rtol=1e-6)
        error = some[1] - some[0] @ np.asarray(fits.params[:, i], float)
        at_params = np.sum(some[2] * error * np.where(error > 0, q[i], q[i] - 1)) / some[2].sum()
        np.testing.assert_allclose(at_params, S, rtol=1e-6)
        if kind == "heavy tails":
            np.testing.assert_allclose(fits.params[:, i], params, rtol=1e-5, atol=1e-6)


def test_certified_digits_of_the_median():
    """The median of an odd number is one of them, also of values that are large beside their scatter."""
    y = np.random.default_rng(0).normal(size=(N + 1, M)) + 1e4
    fits = fit(np.arange(N + 1.0), y, ansatz=Polynomial(0), cost=Quantile(0.5))
    np.testing.assert_allclose(fits.params[0], np.median(y, axis=0), rtol=1e-12)


def test_errors_of_the_median_are_those_of_statsmodels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    y = 1 + 2 * x[:, None] + rng.standard_t(3, size=(100, M)) * (1 + 0.3 * abs(x[:, None]))
    fits = fit(x, y, cost=Quantile(0.5))
    for i in range(M):
        model = QuantReg(y[:, i], add_constant(x)).fit(q=0.5)
        np.testing.assert_allclose(fits.params[:, i], model.params, rtol=1e-4)
        np.testing.assert_allclose(fits.bse[:, i], model.bse, rtol=1e-4)
        np.testing.assert_allclose(fits.tvalues[:, i], model.tvalues, rtol=1e-3)
        np.testing.assert_allclose(fits.pvalues[:, i], model.pvalues, rtol=1e-2, atol=1e-12)


@pytest.mark.parametrize("q", [0.25, 0.8])
def test_errors_of_other_quantiles(q):
    """With the functions of statsmodels, where observations on f are above or below it by rounding."""
    x, y = made("heavy tails", 2)
    fits = fit(x, y, ansatz=Linear(), cost=Quantile(q))
    psi = add_constant(x)
    inverse = np.linalg.inv(psi.T @ psi)
    for i in range(M):
        params, _ = of_program(psi, y[:, i], np.ones(N), q)
        error = y[:, i] - psi @ params
        iqr = np.diff(np.quantile(error, [0.25, 0.75]))
        share = hall_sheather(N, q)
        width = min(y[:, i].std(), iqr / 1.34) * np.diff(norm.ppf([q - share, q + share]))
        density = np.mean(kernels["epa"](error / width)) / width
        square = np.where(error > 0, q**2, (1 - q) ** 2)
        square[np.argsort(abs(error))[:3]] = q * (1 - q)
        cov = inverse @ (psi.T * square / density**2) @ psi @ inverse
        np.testing.assert_allclose(fits.bse[:, i], np.sqrt(np.diag(cov)), rtol=1e-4)


@pytest.mark.parametrize("offset", [0, 1])
def test_many_equal_y_have_no_errors(offset):
    """Residuals of which half are 0 have no density there."""
    rng = np.random.default_rng(2)
    y = np.where(rng.random((N, M)) < 0.93, 0, rng.exponential(size=(N, M))) + offset
    fits = fit(np.arange(N), y, cost=Quantile(0.5))
    assert (fits.status == Status.ok).all()
    np.testing.assert_allclose(fits.params, [[offset] * M, [0] * M], atol=1e-6)
    assert np.isnan(fits.bse).all()
    assert np.isnan(fits.rsquared).all()


@pytest.mark.parametrize("weight", [1e-300, 1e-160, 1e160, 1e300])
def test_the_unit_of_weights_does_not_matter(weight):
    x, y = made("heavy tails", 1)
    y = np.asarray(y, "f8")
    expected = fit(x[:, 0], y, cost=Quantile(0.3))
    fits = fit(x[:, 0], y, cost=Quantile(0.3), weights=np.full(y.shape, weight))
    np.testing.assert_allclose(fits.params, expected.params, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fits.bse, expected.bse, rtol=1e-6)


def test_errors_do_not_depend_on_the_sign_of_y():
    x, y = made("heavy tails", 1)
    fits, mirrored = (fit(x[:, 0], sign * y, cost=Quantile(q)) for sign, q in ((1, 0.7), (-1, 1 - 0.7)))
    np.testing.assert_allclose(mirrored.params, -fits.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(mirrored.bse, fits.bse, rtol=1e-4)


def test_hopeless_data_sets_have_a_status_and_do_not_change_others():
    x, y = made("heavy tails", 1)
    alone = fit(x[:, 0], y[:, :1], cost=Quantile(0.3))
    y[2:, 1] = np.nan
    y[1:, 2] = np.nan
    y[:, 3] = np.nan
    y[5, 4] = np.inf
    y[:, 5] = 1 + 2 * x[:, 0]
    fits = fit(x[:, 0], y, cost=Quantile(0.3))
    expected = ["ok", "exact_fit", "too_few_observations", "no_observations", "invalid_data", "ok"]
    assert [Status(s).name for s in fits.status] == expected
    np.testing.assert_array_equal(fits.params[:, 0], alone.params[:, 0])
    np.testing.assert_allclose(fits.params[:, 5], [1, 2], rtol=1e-6)
    assert np.isnan(fits.params[:, 2:5]).all()
    few = fit(x[:, 0], y, cost=Quantile(0.3), solver=InteriorPoint(steps=2))
    assert [Status(s).name for s in few.status] == ["not_converged", *expected[1:5], "not_converged"]
    constant = fit(np.ones(N), y[:, 0], cost=Quantile(0.3))
    assert constant.status == Status.rank_deficient
    # The bandwidth reaches beyond 1.
    assert np.isnan(fit(x[:, 0], y[:, 0], cost=Quantile(0.99)).bse).all()


@pytest.mark.slow
def test_derivatives_are_those_of_the_observations_on_f():
    x, y = (jnp.asarray(a) for a in made("heavy tails", 1))

    def params(x, y, q):
        return fit(x, y, cost=Quantile(q)).params

    x = x[:, 0]
    fits = fit(x, y[:, 0], cost=Quantile(0.3))
    on_f = np.argsort(np.abs(y[:, 0] - fits.predict(x)))[:2]
    psi = np.column_stack([np.ones(2), np.asarray(x)[on_f]])
    expected = np.zeros((2, N))
    expected[:, on_f] = np.linalg.inv(psi)
    np.testing.assert_allclose(jax.jacrev(params, 1)(x, y[:, 0], 0.3), expected, rtol=1e-3, atol=1e-4)
    slope = float(fits.params[1])
    np.testing.assert_allclose(jax.jacfwd(params)(x, y[:, 0], 0.3), -slope * expected, rtol=1e-3, atol=1e-4)
    of_quantiles = jax.jit(jax.vmap(params, (None, None, 0), -1))(x, y[:, 0], jnp.array([0.3, 0.5]))
    np.testing.assert_allclose(of_quantiles[:, 0], fits.params, rtol=1e-5)
    columns = jax.vmap(params, (None, 1, None), 1)(x, y, 0.3)
    np.testing.assert_allclose(columns, fit(x, y, cost=Quantile(0.3)).params, rtol=1e-5)


def test_mistakes_have_messages():
    x, y = made("counts", 1)
    x = x[:, 0]
    for q in (0, 1, 50):
        with pytest.raises(ValueError, match="q is"):
            Quantile(q)
    with pytest.raises(ValueError, match="omit cov_type"):
        fit(x, y, cost=Quantile(0.5), cov_type="HC0")
    with pytest.raises(ValueError, match=r"pass InteriorPoint\(\)"):
        fit(x, y, ansatz=Line(), cost=Quantile(0.5), solver=Reweighted())
    with pytest.raises(ValueError, match="does not minimize mean_squared_error"):
        fit(x, y, solver=InteriorPoint())
    with pytest.raises(ValueError, match="curves are fitted with"):
        fit(x, y, ansatz=exponential_decay, cost=Quantile(0.5))
    with pytest.raises(TypeError, match="Ridge adds to"):
        Quantile(0.5) + Ridge(1.0)
    assert fit(x, y, cost=Quantile(0.5), solver=GradientDescent(steps=10)).params.shape == (2, M)
