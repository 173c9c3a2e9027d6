"""The penalty of `Ridge` added to other costs, against scikit-learn and scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from jaxreg import (
    Huber,
    Line,
    Linear,
    Logistic,
    Poisson,
    Polynomial,
    PseudoHuber,
    Ridge,
    Status,
    fit,
    mean_squared_error,
)

N, M = 60, 4
ALPHAS = np.array([0.1, 0.5, 2, 10])


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(N, 3)) * [1, 3, 0.3] + 2


@pytest.fixture(scope="module")
def classes(x):
    chance = 1 / (1 + np.exp(2 - x @ [1, -0.3, 2]))
    return np.random.default_rng(1).binomial(1, chance[:, None], size=(N, M)).astype(float)


def sklearn_logistic(x, y, alpha):
    model = LogisticRegression(C=1 / (2 * alpha), tol=1e-12, max_iter=10**5).fit(x, y)
    return np.array([*model.intercept_, *model.coef_[0]])


def test_logistic_with_a_strength_for_each_data_set(x, classes):
    y = classes.copy()
    y[:7, 2] = np.nan
    fits = fit(x, y, ansatz=Linear(), cost=Logistic() + Ridge(ALPHAS))
    for i, alpha in enumerate(ALPHAS):
        valid = np.isfinite(y[:, i])
        expected = sklearn_logistic(x[valid], y[valid, i], alpha)
        np.testing.assert_allclose(fits.params[:, i], expected, rtol=1e-5)
        mean = fits.predict(x)[valid, i]
        psi = np.column_stack([np.ones(valid.sum()), x[valid]])
        H = (psi.T * mean * (1 - mean)) @ psi
        dof = np.trace(np.linalg.solve(H + 2 * alpha * np.diag([0, 1, 1, 1]), H))
        np.testing.assert_allclose(fits.effective_dof[i], dof, rtol=1e-5)
        np.testing.assert_allclose(fits.aic[i], -2 * fits.llf[i] + 2 * dof, rtol=1e-5)
        loss = -fits.llf[i] + alpha * np.sum(expected[1:] ** 2)
        np.testing.assert_allclose(fits.cost[i], loss / valid.sum(), rtol=1e-5)
    np.testing.assert_array_equal(fits.alpha, ALPHAS)
    assert np.isnan(fits.bse).all()
    assert np.isnan(fits.fvalue).all()


def test_counts(x):
    counts = np.random.default_rng(2).poisson(np.exp(x @ [0.2, 0.1, 0.3] - 0.5))
    model = PoissonRegressor(alpha=6 / N, tol=1e-12, max_iter=10**5).fit(x, counts)
    found = fit(x, counts, ansatz=Linear(), cost=Poisson() + Ridge(3.0))
    np.testing.assert_allclose(found.params, [model.intercept_, *model.coef_], rtol=1e-5)


@pytest.mark.parametrize("columns", [[0], [0, 1, 1], "many"])
def test_a_penalty_makes_a_minimum(x, columns):
    """Of separated classes, dependent columns, and more columns than observations."""
    y = (x[:, 0] > 2).astype(float)
    x = np.random.default_rng(3).normal(size=(N, N + 5)) if columns == "many" else x[:, columns]
    without = fit(x, y, ansatz=Linear(), cost=Logistic())
    assert without.status in (Status.no_minimum, Status.rank_deficient, Status.too_few_observations)
    found = fit(x, y, ansatz=Linear(), cost=Logistic() + Ridge(0.5))
    assert found.status == Status.ok
    np.testing.assert_allclose(found.params, sklearn_logistic(x, y, 0.5), rtol=1e-4, atol=1e-5)
    assert fit(x, y, ansatz=Linear(), cost=Logistic() + Ridge(0.0)).status == without.status


@pytest.mark.parametrize(
    ("n", "weights"), [(N, None), (3, None), pytest.param(3, [2, 0.5, 3], marks=pytest.mark.slow)]
)
def test_robust_costs(x, n, weights):
    """Also where least squares has no params, from which other fits start."""
    y = x @ np.array([1, 2, 3]) + np.random.default_rng(4).standard_t(2, size=N)
    cost, w = PseudoHuber(delta=1.5) + Ridge(4.0), np.ones(n) if weights is None else np.array(weights)
    found = fit(x[:n], y[:n], ansatz=Linear(), cost=cost, weights=weights)
    residuals = np.sqrt(w) * (y[:n] - found.predict(x[:n]))
    scale = np.median(abs(residuals)) / 0.6744897501960817
    np.testing.assert_allclose(found.scale, scale, rtol=1e-4)
    np.testing.assert_allclose(found.ssr, np.sum(residuals**2), rtol=1e-4)

    def S(theta):  # with this scale
        u = np.sqrt(w) * (y[:n] - theta[0] - x[:n] @ theta[1:]) / float(found.scale)
        loss = 2 * 1.5**2 * (np.sqrt(1 + (u / 1.5) ** 2) - 1)
        return (float(found.scale) ** 2 * np.sum(loss) + 4 * np.sum(theta[1:] ** 2)) / np.sum(w)

    minimum = minimize(S, np.asarray(found.params), method="Nelder-Mead", tol=1e-9)
    assert found.status == Status.ok
    np.testing.assert_allclose(found.params, minimum.x, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.cost, minimum.fun, rtol=1e-5)
    if n == N:
        strong, free = (
            fit(x, y, ansatz=Linear(), cost=c) for c in (Huber() + Ridge(4.0), Huber() + Ridge(0.0))
        )
        assert np.sum(strong.params[1:] ** 2) < np.sum(free.params[1:] ** 2)
        np.testing.assert_allclose(free.params, fit(x, y, ansatz=Linear(), cost=Huber()).params, rtol=1e-5)


def test_the_scale_is_that_of_the_residuals_where_least_squares_leaves_none(x):
    noise = np.random.default_rng(5).normal(size=N)
    y = (x @ np.array([1, 2, 3]))[:, None] + np.array([0, 1e-9, 1e-5]) * noise[:, None]
    for cost in (Huber() + Ridge(4.0), Huber()):
        found = fit(x, y, ansatz=Linear(), cost=cost)
        residuals = y - np.column_stack([np.ones(N), x]) @ np.asarray(found.params, "f8")
        scale = np.median(abs(residuals), axis=0) / 0.6744897501960817
        np.testing.assert_allclose(found.scale, scale, rtol=1e-3, atol=1e-10)


@pytest.mark.slow
def test_transformations(x, classes):
    """`vmap` over strengths, and the derivative of params in them."""
    y, alphas = jnp.asarray(classes[:, 0]), jnp.asarray(ALPHAS)

    def params(alpha, y=y):
        return fit(x, y, ansatz=Linear(), cost=Logistic() + Ridge(alpha)).params

    one_by_one = np.stack([params(alpha) for alpha in alphas])
    np.testing.assert_allclose(jax.jit(jax.vmap(params))(alphas), one_by_one, rtol=1e-5)
    derivative = jax.jacobian(params)(alphas[2])
    h = 0.02
    y = classes[:, 0]
    near = (sklearn_logistic(x, y, 2 + h) - sklearn_logistic(x, y, 2 - h)) / (2 * h)
    np.testing.assert_allclose(derivative, near, rtol=1e-3)
    assert np.isfinite(jax.jacobian(params, argnums=1)(alphas[0], jnp.asarray(y))).all()


def test_mistakes_have_messages(x, classes):
    with pytest.raises(TypeError, match=r"Huber\(\) and Logistic\(\)"):
        mean_squared_error + Ridge(1.0)
    with pytest.raises(TypeError, match=r"pass Ridge\(alpha\)"):
        Huber() + Ridge.choose([1.0, 2.0])
    with pytest.raises(ValueError, match="penalizes coefficients of columns"):
        fit(x[:, 0], classes, ansatz=Polynomial(2), cost=Logistic() + Ridge(1.0))
    with pytest.raises(ValueError, match="omit cov_type"):
        fit(x[:, 0], classes, ansatz=Line(), cost=Logistic() + Ridge(1.0), cov_type="HC0")
