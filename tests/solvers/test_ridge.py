"""Ridge regressions, against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.linear_model import RidgeCV

from jaxreg import GradientDescent, Line, Linear, Polynomial, Ridge, Status, fit, mean_squared_error

N, K, M = 40, 5, 6
ALPHAS = tuple(np.logspace(-2, 4, 13))


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N, K)) * np.array([1, 2, 0.5, 1, 3]) + 3
    y = x @ rng.normal(size=(K, M)) + 3 * rng.normal(size=(N, M)) + 5
    return x, y, rng.uniform(0.5, 2, size=(N, M))


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("alpha", [2.0, np.arange(1.0, M + 1)])
def test_given_strength(data, intercept, alpha):
    x, y, weights = data
    fits = fit(x, y, ansatz=Linear(intercept), cost=Ridge(alpha), weights=weights)
    for i in range(M):
        a = np.broadcast_to(alpha, M)[i]
        model = SklearnRidge(a, fit_intercept=intercept).fit(x, y[:, i], sample_weight=weights[:, i])
        expected = [model.intercept_, *model.coef_] if intercept else model.coef_
        np.testing.assert_allclose(fits.params[:, i], expected, rtol=1e-10)
        np.testing.assert_allclose(fits.predict(x)[:, i], model.predict(x), rtol=1e-10)
        w = weights[:, i]
        mean = np.average(x, axis=0, weights=w) if intercept else 0
        G = ((x - mean).T * w) @ (x - mean)
        dof = np.trace(np.linalg.solve(G + a * np.eye(K), G)) + intercept
        ssr = np.sum(w * (y[:, i] - model.predict(x)) ** 2)
        cost = Ridge(float(a))(fits.params[:, i], x, y[:, i], w, ansatz=Linear(intercept))
        for found, right in (
            (fits.effective_dof, dof),
            (fits.df_resid, N - dof),
            (fits.ssr, ssr),
            (fits.scale, ssr / (N - dof)),
            (fits.alpha, a),
            (fits.cost, (ssr + a * np.sum(model.coef_**2)) / w.sum()),
        ):
            np.testing.assert_allclose(found[i], right, rtol=1e-9)
        np.testing.assert_allclose(cost, fits.cost[i], rtol=1e-5)
    assert np.isnan(fits.bse).all()


def test_choice_by_leaving_out(data):
    """On complete data of a shared design, with weights, and with gaps."""
    x, y, weights = data
    gaps = y.copy()
    gaps[3, 1] = gaps[8:20, 2] = np.nan
    for values, w in ((y, None), (y, weights), (gaps, None)):
        fits = fit(x, values, ansatz=Linear(), cost=Ridge.choose(ALPHAS), weights=w)
        for i in range(M):
            ok = ~np.isnan(values[:, i])
            sample_weight = None if w is None else w[ok, i]
            model = RidgeCV(ALPHAS).fit(x[ok], values[ok, i], sample_weight=sample_weight)
            assert fits.alpha[i] == model.alpha_
            np.testing.assert_allclose(fits.params[1:, i], model.coef_, rtol=1e-9)


def test_choice_by_generalized_cross_validation(data):
    x, y, _ = data
    fits = fit(x, y, ansatz=Linear(), cost=Ridge.choose(ALPHAS, by="gcv"))
    for i in range(M):
        scores = []
        for alpha in ALPHAS:
            one = fit(x, y[:, i], ansatz=Linear(), cost=Ridge(alpha))
            residual = y[:, i] - SklearnRidge(alpha).fit(x, y[:, i]).predict(x)
            scores.append(N * np.sum(residual**2) / (N - float(one.effective_dof)) ** 2)
        assert fits.alpha[i] == ALPHAS[int(np.argmin(scores))]


def test_hopeless_data_sets_and_more_columns_than_observations(data):
    x, y, _ = data
    y = y.copy()
    y[:, 1], y[4, 2] = np.nan, np.inf
    fits = fit(x, y, ansatz=Linear(), cost=Ridge(1.0))
    assert fits.status.tolist() == [0, Status.no_observations, Status.invalid_data, 0, 0, 0]
    assert np.isnan(fits.params[:, 1:3]).all()
    few = fit(x[:4], y[:4, 0], ansatz=Linear(), cost=Ridge(0.3))
    model = SklearnRidge(0.3).fit(x[:4], y[:4, 0])
    np.testing.assert_allclose(few.params[1:], model.coef_, rtol=1e-9)
    assert fit(x[:4], y[:4, 0], ansatz=Linear(), cost=Ridge(0.0)).status == Status.rank_deficient
    twice = np.column_stack([x[:, 0], x[:, 0]])
    np.testing.assert_allclose(
        fit(twice, y[:, 0], ansatz=Linear(), cost=Ridge(1.0)).params[1:],
        SklearnRidge(1.0).fit(twice, y[:, 0]).coef_,
        rtol=1e-9,
    )


@pytest.mark.slow
def test_transformations_and_derivatives(data):
    x, y, weights = data
    with jax.enable_x64(True):
        for cost in (Ridge(2.0), Ridge.choose(ALPHAS), Ridge.choose(ALPHAS, "gcv")):
            eager = fit(x, y, ansatz=Linear(), cost=cost, weights=weights)
            inside = jax.jit(lambda y, w, cost=cost: fit(x, y, ansatz=Linear(), cost=cost, weights=w))(
                y, weights
            )
            for name in ("params", "alpha", "effective_dof", "cost", "rsquared", "scale", "nobs", "status"):
                np.testing.assert_allclose(getattr(inside, name), getattr(eager, name), rtol=1e-8)
        mapped = jax.vmap(lambda a: fit(x, y[:, 0], ansatz=Linear(), cost=Ridge(a)).params)
        np.testing.assert_allclose(
            mapped(jnp.array([1.0, 2.0]))[1], fit(x, y[:, 0], ansatz=Linear(), cost=Ridge(2.0)).params
        )

        def total(x, y, alpha):
            result = fit(x, y, ansatz=Linear(), cost=Ridge(alpha))
            return jnp.sum(result.params**2) + result.scale

        arguments = [x, y[:, 0], np.array(2.0)]
        gradients = jax.grad(total, (0, 1, 2))(*map(jnp.asarray, arguments))
        for which, index in ((0, (3, 1)), (1, (4,)), (2, ())):
            ends = []
            for h in (1e-4, -1e-4):
                moved = [np.array(a) for a in arguments]
                moved[which][index] += h
                ends.append(float(total(*moved)))
            np.testing.assert_allclose(gradients[which][index], (ends[0] - ends[1]) / 2e-4, rtol=1e-5)
        slope = jax.grad(total, 2)
        second = jax.hessian(total, 2)(x, y[:, 0], 2.0)
        difference = (slope(x, y[:, 0], 2.001) - slope(x, y[:, 0], 1.999)) / 0.002
        np.testing.assert_allclose(second, difference, rtol=1e-5)


def test_lines_float32_and_blocks(data):
    x, y, _ = data
    line = fit(x[:, 0], y, cost=Ridge(1.0))
    model = SklearnRidge(1.0).fit(x[:, :1], y)
    np.testing.assert_allclose(line.params[1], model.coef_[:, 0], rtol=1e-10)
    single = fit(x.astype("float32"), y.astype("float32"), ansatz=Linear(), cost=Ridge(1.0))
    double = fit(x, y, ansatz=Linear(), cost=Ridge(1.0))
    assert single.params.dtype == np.float32
    np.testing.assert_allclose(single.params, double.params, rtol=1e-4)
    blocks = fit(x, y, ansatz=Linear(), cost=Ridge([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), block_size=4)
    whole = fit(x, y, ansatz=Linear(), cost=Ridge(np.arange(1.0, M + 1)))
    np.testing.assert_allclose(blocks.params, whole.params, rtol=1e-12)
    assert float(mean_squared_error(line.params[:, 0], x[:, 0], y[:, 0])) <= float(line.cost[0]) * (1 + 1e-5)


def test_mistakes_have_messages(data):
    x, y, _ = data
    for alpha in (-1.0, "a"):
        with pytest.raises(ValueError, match="0 or more"):
            Ridge(alpha)
    for alphas in ([], [1, 0], 3.0, "12"):
        with pytest.raises(ValueError, match="positive numbers"):
            Ridge.choose(alphas)
    with pytest.raises(ValueError, match='"loo" or "gcv"'):
        Ridge.choose([1, 2], "cv")
    with pytest.raises(ValueError, match="penalizes coefficients of columns"):
        fit(x[:, 0], y, ansatz=Polynomial(2), cost=Ridge(1.0))
    with pytest.raises(ValueError, match="closed form"):
        fit(x, y, ansatz=Linear(), cost=Ridge(1.0), cov_type="HC0")
    with pytest.raises(ValueError, match="closed form"):
        fit(x, y, ansatz=Linear(), cost=Ridge(1.0), solver=GradientDescent())
    with pytest.raises(ValueError, match=r"has shape \(3,\)"):
        fit(x, y, ansatz=Line() if x.ndim == 1 else Linear(), cost=Ridge(np.ones(3)))
