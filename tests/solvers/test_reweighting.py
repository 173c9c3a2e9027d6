"""Fits of robust costs and likelihoods, against statsmodels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy.stats import chi2

from jaxreg import (
    Bisquare,
    ClosedForm,
    Cluster,
    Gamma,
    GradientDescent,
    Huber,
    Line,
    Linear,
    Logistic,
    NegativeBinomial,
    Poisson,
    Polynomial,
    PseudoHuber,
    Reweighted,
    Status,
    fit,
    load,
    mean_loss,
)
from jaxreg.solvers import reweighting

N, M = 60, 5
families = sm.families
SLOW = pytest.mark.slow
LIKELIHOODS = {
    "logistic": (Logistic(), families.Binomial()),
    "poisson": (Poisson(), families.Poisson()),
    "negative binomial": (NegativeBinomial(alpha=0.5), families.NegativeBinomial(alpha=0.5)),
    "gamma": (Gamma(), families.Gamma(families.links.Log())),
}
ROBUST = {
    "huber": (Huber(), sm.robust.norms.HuberT()),
    "bisquare": (Bisquare(), sm.robust.norms.TukeyBiweight()),
}


def designs(rng):
    """x of a line and of two columns."""
    return {1: np.linspace(0, 3, N), 2: rng.normal(size=(N, 2))}


def data_for(cost, f, rng, gaps=True):
    """y of the kind that a cost is for, at f (N,) and for M data sets."""
    mu = np.exp(f)[:, None] * np.ones(M)
    if isinstance(cost, Logistic):
        y = (rng.random((N, M)) < mu / (1 + mu)) * 1.0
    elif isinstance(cost, Gamma):
        y = mu * rng.gamma(3.0, 1 / 3, size=(N, M))
    elif isinstance(cost, Poisson | NegativeBinomial):
        y = rng.poisson(mu) * 1.0
    else:
        y = f[:, None] + 0.3 * rng.standard_t(2, size=(N, M))
    if gaps:
        y[rng.random(y.shape) < 0.1] = np.nan
    return y


def likelihood_of(family, y, X, **options):
    seen = np.isfinite(y)
    options = {name: a[seen] if isinstance(a, np.ndarray) else a for name, a in options.items()}
    return sm.GLM(y[seen], X[seen], family=family, **options)


CASES = [  # cost, columns of x, dtype; the first two are quick
    *[("poisson", 1, "float64"), ("logistic", 2, "float32"), ("poisson", 2, "float64")],
    *[("logistic", 1, "float64"), ("negative binomial", 1, "float64"), ("negative binomial", 2, "float32")],
    *[("gamma", 1, "float32"), ("gamma", 2, "float64")],
]


@pytest.mark.either_mode
@pytest.mark.parametrize(
    ("name", "columns", "dtype"),
    [*CASES[:2], *(pytest.param(*case, marks=SLOW) for case in CASES[2:])],
)
def test_likelihoods_agree_with_statsmodels(rng, name, columns, dtype):
    cost, family = LIKELIHOODS[name]
    x = designs(rng)[columns].astype(dtype)
    X = sm.add_constant(x.astype(float))
    y = data_for(cost, X @ [0.2, 0.5, -0.4][: 1 + columns], rng).astype(dtype)
    result = fit(x, y, ansatz=Line() if columns == 1 else Linear(), cost=cost)
    assert result.params.dtype == dtype
    assert (result.status == Status.ok).all()
    rtol = {"float32": 2e-5, "float64": 1e-7}[dtype]  # statsmodels' errors are those of its last step
    for i in range(M):
        expected = likelihood_of(family, y[:, i].astype(float), X).fit(tol=1e-13, tol_criterion="params")
        np.testing.assert_allclose(result.params[:, i], expected.params, rtol=rtol, atol=rtol / 10)
        np.testing.assert_allclose(result.bse[:, i], expected.bse, rtol=rtol)
        np.testing.assert_allclose(result.pvalues[:, i], expected.pvalues, rtol=50 * rtol, atol=1e-30)
        for name in ("llf", "deviance", "pearson_chi2", "scale", "aic"):
            np.testing.assert_allclose(getattr(result, name)[i], getattr(expected, name), rtol=5 * rtol)
        np.testing.assert_allclose(
            result.cov_params()[..., i], expected.cov_params(), rtol=rtol, atol=rtol * expected.bse.max() ** 2
        )
    assert np.isnan(result.rsquared).all()
    assert np.isnan(result.ssr).all()


@pytest.mark.either_mode
@pytest.mark.parametrize(
    ("name", "weighted", "dtype"),
    [
        ("huber", False, "float64"),
        pytest.param("huber", True, "float32", marks=SLOW),
        pytest.param("bisquare", True, "float64", marks=SLOW),
        pytest.param("bisquare", False, "float32", marks=SLOW),
    ],
)
def test_robust_fits_agree_with_statsmodels(rng, name, weighted, dtype):
    cost, norm = ROBUST[name]
    x = designs(rng)[1].astype(dtype)
    X = sm.add_constant(x.astype(float))
    y = data_for(cost, X @ [1.0, 2.0], rng).astype(dtype)
    w = rng.uniform(0.5, 2, size=N).astype(dtype) if weighted else None
    result = fit(x, y, cost=cost, weights=w)
    root = np.ones(N) if w is None else np.sqrt(w.astype(float))
    rtol = {"float32": 3e-5, "float64": 1e-7}[dtype]
    for i in range(M):
        seen = np.isfinite(y[:, i])
        expected = sm.RLM((root * y[:, i])[seen], (root[:, None] * X)[seen], M=norm).fit(
            tol=1e-13, maxiter=500
        )
        np.testing.assert_allclose(result.params[:, i], expected.params, rtol=rtol)
        np.testing.assert_allclose(result.bse[:, i], expected.bse, rtol=rtol)
        np.testing.assert_allclose(result.scale[i], expected.scale, rtol=rtol)
        np.testing.assert_allclose(result.pvalues[:, i], expected.pvalues, rtol=100 * rtol, atol=1e-30)
        ssr = np.sum((root * (y[:, i] - X @ result.params[:, i].astype(float)))[seen] ** 2)
        np.testing.assert_allclose(result.ssr[i], ssr, rtol=rtol)
    assert np.isnan(result.llf).all()
    assert np.isnan(result.deviance).all()


@pytest.mark.slow
@pytest.mark.either_mode
@pytest.mark.parametrize(
    ("name", "cov_type"), [("poisson", "HC0"), ("negative binomial", "HC1"), ("poisson", "cluster")]
)
def test_sandwich_covariances_of_likelihoods(rng, name, cov_type):
    cost, family = LIKELIHOODS[name]
    x, groups = designs(rng)[1], np.arange(N) // 5
    X = sm.add_constant(x)
    y = data_for(cost, X @ [0.2, 0.5], rng)
    result = fit(x, y, cost=cost, cov_type=Cluster(groups) if cov_type == "cluster" else cov_type)
    for i in range(M):
        seen = np.isfinite(y[:, i])
        options = {"cov_kwds": {"groups": groups[seen]}} if cov_type == "cluster" else {}
        expected = (
            likelihood_of(family, y[:, i], X)
            .fit(tol=1e-13, tol_criterion="params", cov_type=cov_type, **options)
            .bse
        )
        if cov_type == "HC1":  # statsmodels has no factor for models that are not linear
            expected = expected * np.sqrt(seen.sum() / (seen.sum() - 2))
        np.testing.assert_allclose(result.bse[:, i], expected, rtol=1e-9)


@pytest.mark.either_mode
def test_sandwich_covariances_of_other_costs_sum_scores(rng):
    x = designs(rng)[1]
    X = sm.add_constant(x)
    y = data_for(None, X @ [1.0, 2.0], rng, gaps=False)
    cost = mean_loss(lambda y, f: jnp.logaddexp(y - f, f - y))  # log(2 cosh ε), with slope −tanh ε
    result = fit(x, y, cost=cost, cov_type="HC0")
    for i in range(M):
        error = y[:, i] - X @ result.params[:, i]
        assert abs(X.T @ np.tanh(error)).max() < 1e-9
        bread = np.linalg.inv((X * (1 - np.tanh(error) ** 2)[:, None]).T @ X)
        meat = (X * np.tanh(error)[:, None] ** 2).T @ X
        np.testing.assert_allclose(result.bse[:, i], np.sqrt(np.diag(bread @ meat @ bread)), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.either_mode
def test_exposure_and_offset(rng):
    x, exposure = designs(rng)[2], rng.uniform(0.5, 9, size=(N, M))
    X = sm.add_constant(x)
    y = rng.poisson(exposure * np.exp(X @ [0.2, 0.5, -0.4])[:, None]) * 1.0
    result = fit(x, y, ansatz=Linear(), cost=Poisson(), exposure=exposure)
    restricted = fit(x[:, :1], y, ansatz=Linear(), cost=Poisson(), offset=np.log(exposure))
    test = result.compare(restricted)
    for i in range(M):
        expected = likelihood_of(families.Poisson(), y[:, i], X, exposure=exposure[:, i]).fit(
            tol=1e-13, tol_criterion="params"
        )
        np.testing.assert_allclose(result.params[:, i], expected.params, rtol=1e-9)
        np.testing.assert_allclose(result.bse[:, i], expected.bse, rtol=1e-7)
        smaller = likelihood_of(families.Poisson(), y[:, i], X[:, :2], exposure=exposure[:, i]).fit(
            tol=1e-13, tol_criterion="params"
        )
        statistic = 2 * (expected.llf - smaller.llf)
        np.testing.assert_allclose(test.statistic[i], statistic, rtol=1e-7)
        np.testing.assert_allclose(test.pvalue[i], chi2.sf(statistic, 1), rtol=1e-6)
        frame = expected.get_prediction(X[:3], exposure=np.full(3, 2.0)).summary_frame()
        found = result[i].predict(x[:3], "confidence", offset=np.log(2.0))
        for name, a in zip(("mean", "mean_ci_lower", "mean_ci_upper"), found, strict=True):
            np.testing.assert_allclose(a, frame[name], rtol=1e-7)
        np.testing.assert_allclose(result[i].resid(x, y[:, i]), y[:, i] - np.exp(X @ result.params[:, i]))


@pytest.mark.either_mode
def test_hopeless_data_sets_get_a_status_and_harm_nobody():
    x = np.linspace(-1, 1, 40)
    rng = np.random.default_rng(5)
    good = (rng.random(40) < 1 / (1 + np.exp(-x))) * 1.0
    columns = {
        Status.ok: good,
        Status.no_minimum: (x > 0) * 1.0,
        Status.invalid_data: np.where(np.arange(40) == 3, 2, good),
        Status.no_observations: np.full(40, np.nan),
        Status.too_few_observations: np.where(np.arange(40) == 3, 1, np.nan),
    }
    y = np.stack([*columns.values(), np.ones(40), np.zeros(40)], axis=1)
    result = fit(x, y, cost=Logistic())
    expected = [*columns, Status.no_minimum, Status.no_minimum]
    assert [Status(int(s)) for s in result.status] == expected
    assert np.isfinite(result.params[:, 0]).all()
    assert np.isnan(result.params[:, 1:]).all()
    np.testing.assert_array_equal(result.params[:, 0], fit(x, good, cost=Logistic()).params)
    assert "no_minimum" in result.describe()


@pytest.mark.slow
@pytest.mark.either_mode
def test_counts_that_are_all_0_have_no_minimum():
    x, rng = np.linspace(-1, 1, 40), np.random.default_rng(5)
    group = np.stack([x, np.arange(40) < 10], axis=1)
    counts = rng.poisson(2.0, size=40) * 1.0
    y = np.stack([np.where(np.arange(40) < 10, 0, counts), counts, 0 * counts, counts - 1], axis=1)
    status = fit(group, y, ansatz=Linear(), cost=Poisson()).status
    assert [Status(int(s)).name for s in status] == ["no_minimum", "ok", "no_minimum", "invalid_data"]


@pytest.mark.slow
@pytest.mark.either_mode
def test_robust_fits_of_data_on_a_line():
    x = np.linspace(-1, 1, 40)
    on_line, outlier = 1 + 2 * x, np.where(np.arange(40) < 5, 100, 1 + 2 * x)
    two = np.where(np.arange(40) < 2, on_line, np.nan)
    y = np.stack([on_line, outlier, two], axis=1)
    for cost in (Huber(), Bisquare(), PseudoHuber()):
        result = fit(x, y, cost=cost)
        np.testing.assert_allclose(result.params, [[1, 1, 1], [2, 2, 2]], rtol=1e-6)
        assert [Status(int(s)).name for s in result.status] == ["ok", "ok", "exact_fit"]


@pytest.mark.either_mode
@pytest.mark.slow
@pytest.mark.parametrize("cost", [Huber(), Poisson()])
def test_neighbors_blocks_and_grids_do_not_matter(rng, cost, monkeypatch):
    x = designs(rng)[1]
    y = data_for(cost, 0.2 + 0.5 * x, rng)
    y = np.concatenate([y] * 9, axis=1)
    whole = fit(x, y, cost=cost)
    for other in (
        fit(x, y.reshape(N, 9, M), cost=cost).params.reshape(2, -1),
        fit(x, y, cost=cost, block_size=7).params,
        np.concatenate([fit(x, y[:, i : i + 3], cost=cost).params for i in range(0, 9 * M, 3)], axis=1),
    ):
        np.testing.assert_array_equal(other, whole.params)
    monkeypatch.setattr(reweighting, "FIRST_TURNS", 2)  # data sets that take longer move together
    np.testing.assert_array_equal(fit(x, y, cost=cost).params, whole.params)


@pytest.mark.slow
@pytest.mark.either_mode
@pytest.mark.parametrize(
    "cost",
    [Huber(), Bisquare(), mean_loss(lambda y, f: jnp.logaddexp(y - f, f - y))],
    ids=["huber", "bisquare", "own"],
)
def test_the_origin_of_y_does_not_matter(rng, cost):
    x = designs(rng)[1]
    y = data_for(cost, 1 + 2 * x, rng)
    expected, found = (fit(x, y + origin, cost=cost) for origin in (0, 1e6))
    np.testing.assert_allclose(found.params[1], expected.params[1], atol=1e-6 * expected.bse[1].min())
    np.testing.assert_array_equal(found.status, Status.ok)


@pytest.mark.slow
@pytest.mark.either_mode
def test_a_large_offset(rng):
    x = designs(rng)[1]
    y = data_for(Logistic(), 0.2 + 0.5 * x, rng)
    expected, found = (fit(x, y, cost=Logistic(), offset=np.full(N, a)) for a in (0.0, -30.0))
    np.testing.assert_allclose(found.params - [[30], [0]], expected.params, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.either_mode
def test_robust_fits_of_few_and_wild_observations_converge(rng):
    x = rng.normal(size=12)
    y = 1 + 2 * x[:, None] + rng.standard_t(1.5, size=(12, 200))
    for cost in (Huber(), PseudoHuber(), Bisquare()):
        result = fit(x, y, cost=cost)
        assert (result.status == Status.ok).mean() > 0.97
        assert abs(result.params).max() < abs(y).max()


@pytest.mark.slow
@pytest.mark.either_mode
def test_one_number_of_a_cost_for_each_data_set(rng):
    x = designs(rng)[1]
    y = data_for(Poisson(), 0.2 + 0.5 * x, rng)
    alpha = np.linspace(0.1, 2, M)
    result = fit(x, y, cost=NegativeBinomial(alpha), block_size=2)
    for i in range(M):
        alone = fit(x, y[:, i], cost=NegativeBinomial(alpha[i]))
        np.testing.assert_allclose(result.params[:, i], alone.params, rtol=1e-12)


@pytest.mark.either_mode
@pytest.mark.slow
@pytest.mark.parametrize("cost", [Huber(), NegativeBinomial(0.5)])
def test_transformations(rng, cost):
    x = designs(rng)[1]
    y = data_for(cost, 0.2 + 0.5 * x, rng)
    expected = fit(x, y, cost=cost)
    with jax.enable_x64(True):
        y = jnp.asarray(y)
        for found in (
            jax.jit(lambda y: fit(x, y, cost=cost))(y),
            jax.vmap(lambda y: fit(x, y, cost=cost), in_axes=1, out_axes=-1)(y),
        ):
            np.testing.assert_allclose(found.params, expected.params, rtol=1e-9)
            np.testing.assert_allclose(found.bse, expected.bse, rtol=1e-9)
            np.testing.assert_array_equal(found.status, expected.status)


@pytest.mark.slow
@pytest.mark.either_mode
@pytest.mark.parametrize(
    "cost", [Huber(), Bisquare(), Gamma(), mean_loss(lambda y, f: jnp.logaddexp(y - f, f - y))]
)
def test_derivatives_are_those_of_finite_differences(rng, cost):
    x = designs(rng)[1]
    y, w = data_for(cost, 0.2 + 0.5 * x, rng)[:, :2], rng.uniform(0.5, 2, size=(N, 2))
    directions = [rng.normal(size=a.shape) for a in (x, y, w)]

    def value(step):
        moved = [a + step * d for a, d in zip((x, y, w), directions, strict=True)]
        result = fit(*moved[:2], cost=cost, weights=moved[2])
        return jnp.stack([jnp.sum(result.params), jnp.sum(result.bse)])

    with jax.enable_x64(True):
        difference = (value(1e-5) - value(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.jacrev(value)(0.0), difference, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.either_mode
def test_vmap_over_a_number_of_the_cost_and_over_the_offset(rng):
    x = designs(rng)[1]
    y = data_for(Poisson(), 0.2 + 0.5 * x, rng, gaps=False)[:, 0]
    alphas, offsets = np.array([0.1, 2.0]), rng.normal(size=(N, 2))

    def of_alpha(alpha):
        return fit(x, y, cost=NegativeBinomial(alpha)).params

    def of_offset(offset):
        return fit(x, y, cost=Poisson(), offset=offset).params

    with jax.enable_x64(True):
        for function, values in ((of_alpha, alphas), (of_offset, offsets)):
            found = jax.vmap(function, in_axes=-1, out_axes=-1)(jnp.asarray(values))
            expected = np.stack([function(values[..., i]) for i in range(2)], axis=-1)
            np.testing.assert_allclose(found, expected, rtol=1e-9)
        slopes = jax.vmap(jax.grad(lambda alpha: of_alpha(alpha)[1]))(jnp.asarray(alphas))
        difference = (of_alpha(2.0 + 1e-5)[1] - of_alpha(2.0 - 1e-5)[1]) / 2e-5
        np.testing.assert_allclose(slopes[1], difference, rtol=1e-5)


@pytest.mark.slow
def test_derivatives_in_float32(rng):
    x = designs(rng)[1].astype("f4")
    y = jnp.asarray(data_for(None, 1 + 2 * x, rng, gaps=False), jnp.float32)
    slopes = jax.grad(lambda y: fit(x, y, cost=Huber()).params[1].sum())(y)
    lifted = jnp.sum(slopes * (x - 1.5)[:, None], axis=0)  # the slope follows y that changes along x
    np.testing.assert_allclose(lifted, np.ones(M), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.either_mode
def test_the_derivative_in_a_number_of_the_cost(rng):
    x = designs(rng)[1]
    y = data_for(None, 1 + 2 * x, rng)

    def value(delta):
        return jnp.sum(fit(x, y, cost=Huber(delta)).params)

    with jax.enable_x64(True):
        difference = (value(1.3 + 1e-5) - value(1.3 - 1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(value)(1.3), difference, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.either_mode
def test_a_descent_has_the_same_params_and_no_sums_of_squares(rng):
    x = designs(rng)[1]
    y = data_for(Logistic(), 0.2 + 0.5 * x, rng)
    expected, found = (fit(x, y, cost=Logistic(), solver=s) for s in (None, GradientDescent(steps=3000)))
    np.testing.assert_allclose(found.params, expected.params, atol=1e-4)
    np.testing.assert_allclose(found.predict(x), expected.predict(x), atol=1e-4)
    assert np.isnan(found.ssr).all()
    assert np.isnan(found.rsquared).all()


@pytest.mark.slow
@pytest.mark.either_mode
def test_other_ansaetze_and_steps(rng):
    x = designs(rng)[1]
    y = data_for(Poisson(), 0.2 + 0.5 * x, rng, gaps=False)
    result = fit(x, y, ansatz=Polynomial(2), cost=Poisson())
    X = np.stack([np.ones(N), x, x**2], axis=1)
    expected = likelihood_of(families.Poisson(), y[:, 0], X).fit(tol=1e-13, tol_criterion="params")
    np.testing.assert_allclose(result.params[:, 0], expected.params, rtol=1e-8)
    np.testing.assert_allclose(result.bse[:, 0], expected.bse, rtol=1e-7)
    few = fit(x, y, cost=Poisson(), solver=Reweighted(steps=2))
    assert (few.status == Status.not_converged).all()
    with pytest.raises(ValueError, match="steps"):
        Reweighted(steps=-1)
    robust = fit(x, y, ansatz=Polynomial(2), cost=Huber())
    with pytest.raises(ValueError, match="f_test"):
        robust.compare(fit(x, y, cost=Huber()))


@pytest.mark.slow
@pytest.mark.either_mode
def test_save_and_load_keep_the_link(rng, tmp_path):
    x = designs(rng)[1]
    result = fit(x, data_for(Poisson(), 0.2 + 0.5 * x, rng), cost=Poisson())
    result.save(tmp_path / "fit.npz")
    np.testing.assert_array_equal(load(tmp_path / "fit.npz").predict(x), result.predict(x))


@pytest.mark.either_mode
def test_mistakes_have_messages(rng):
    x, y = np.arange(4.0), np.array([1.0, 2.0, 1.0, 3.0])
    with pytest.raises(ValueError, match="subtract it from y"):
        fit(x, y, offset=y)
    with pytest.raises(ValueError, match="logarithmic link"):
        fit(x, y / 3, cost=Logistic(), exposure=y)
    with pytest.raises(ValueError, match=r"exposure has shape \(3,\)"):
        fit(x, y, cost=Poisson(), exposure=y[:3])
    with pytest.raises(ValueError, match="delta is positive"):
        Huber(0)
    with pytest.raises(ValueError, match=r"has shape \(2,\)"):
        fit(x, y, cost=Huber(np.ones(2)))
    with pytest.raises(ValueError, match="omit solver"):
        fit(x, y, cost=Huber(), solver=ClosedForm())
    with pytest.raises(TypeError, match=r"pass Huber\(\)"):
        fit(x, y, cost=Huber)
    with pytest.raises(ValueError, match="normal errors"):
        fit(x, y, cost=Poisson()).predict(x, "prediction")
    with pytest.raises(ValueError, match="same cost"):
        fit(x, y).compare(fit(x, y, ansatz=Polynomial(0), cost=Poisson()))


@pytest.mark.slow
@pytest.mark.optimized
@pytest.mark.either_mode
def test_neighbors_and_blocks_do_not_matter_on_a_shared_design(rng):
    x = designs(rng)[2]
    y = np.concatenate([data_for(Poisson(), 0.2 + x @ [0.5, -0.4], rng)] * 300, axis=1)
    whole = fit(x, y, ansatz=Linear(), cost=Poisson()).params
    np.testing.assert_array_equal(fit(x, y, ansatz=Linear(), cost=Poisson(), block_size=700).params, whole)
    np.testing.assert_array_equal(fit(x, y[:, :3], ansatz=Linear(), cost=Poisson()).params, whole[:, :3])


def test_leverages_of_likelihoods():
    """HC3 with the hat matrix of the last weighted least squares, from statsmodels."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=N)
    y = (rng.random(N) < 1 / (1 + np.exp(-x))) * 1.0
    result = fit(x, y, cost=Logistic(), cov_type="HC3")
    X = sm.add_constant(x)
    model = sm.GLM(y, X, families.Binomial()).fit()
    bread = model.cov_params()
    h = model.get_influence().hat_matrix_diag
    scores = X * ((y - model.mu) / (1 - h))[:, None]
    np.testing.assert_allclose(result.bse, np.sqrt(np.diag(bread @ scores.T @ scores @ bread)), rtol=1e-6)


@pytest.mark.parametrize("unit", [1.0, 2.0**-40])
def test_sigma_has_units(unit):
    """The scale of residuals in units of sigma, whatever these are, also within jit."""
    rng = np.random.default_rng(6)
    x, sigma = np.linspace(0, 1, N), rng.uniform(0.01, 0.04, N)
    y = 1 + 2 * x + sigma * rng.standard_t(2, N)
    weights = 1 / sigma**2
    expected = sm.RLM(np.sqrt(weights) * y, np.sqrt(weights)[:, None] * sm.add_constant(x)).fit(
        scale_est="mad", tol=1e-12, maxiter=200
    )
    with jax.enable_x64(True):

        def of_sigma(sigma):
            return fit(x, y * unit, cost=Huber(), sigma=sigma)

        for function in (of_sigma, jax.jit(of_sigma)):
            result = function(sigma * unit)
            np.testing.assert_allclose(result.scale, expected.scale, rtol=1e-6)
            np.testing.assert_allclose(result.bse, expected.bse * unit, rtol=1e-5)


@pytest.mark.either_mode
def test_few_numbers_of_observations_are_compiled(rng, compiled):
    x, counts = rng.normal(size=(62, 2)), rng.poisson(3, 62).astype("f4")
    for n in (50, 62):
        compiled.clear()
        result = fit(x[:n].astype("f4"), counts[:n], ansatz=Linear(), cost=Poisson())
        model = sm.GLM(counts[:n], sm.add_constant(x[:n]), family=sm.families.Poisson()).fit(tol=1e-12)
        np.testing.assert_allclose(result.params, model.params, rtol=1e-5)
        assert result.nobs == n
    assert not compiled
