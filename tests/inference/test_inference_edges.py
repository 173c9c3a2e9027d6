"""Inference at the edges: tiny residuals, far observations, extreme units, bad calls."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from jaxreg import (
    HAC,
    ClosedForm,
    Cluster,
    GradientDescent,
    Line,
    Linear,
    Polynomial,
    fit,
    mean_squared_error,
)
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS


@pytest.mark.slow
@pytest.mark.parametrize("cov_type", ["HC3", pytest.param(HAC(2), marks=pytest.mark.slow)])
def test_costs_without_standard_errors_have_no_robust_ones(rng, cov_type):
    x, y = rng.normal(size=12), rng.normal(size=(12, 2))

    def ridge(params, x, y, weights=None, *, ansatz):
        return mean_squared_error(params, x, y, weights, ansatz=ansatz) + 0.1 * params[1] ** 2

    found = fit(x, y, cost=ridge, solver=GradientDescent(), cov_type=cov_type)
    for known in (found.bse, found.pvalues, found.fvalue, found.f_pvalue, found.conf_int()):
        assert np.isnan(known).all()
    assert np.isnan(fit(x, y, cost=ridge, solver=GradientDescent()).fvalue).all()


@pytest.mark.slow
@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("cov_type", [pytest.param("HC2", marks=pytest.mark.slow), "HC3"])
def test_an_observation_fitted_by_itself_has_no_leverage_correction(rng, dtype, cov_type):
    """Leverage 1: 0/0, which rounding makes anything, also 0."""
    dummy = np.zeros(10, dtype)
    dummy[9] = 1
    for _ in range(20):
        x = np.stack([dummy, rng.normal(size=10).astype(dtype)], axis=1)
        found = fit(x, rng.normal(size=10).astype(dtype), ansatz=Linear(), cov_type=cov_type)
        assert np.isnan(found.bse).all()


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("cov_type", [pytest.param("HC2", marks=pytest.mark.slow), "HC3"])
@pytest.mark.parametrize("far", [100.0, 1e4])
def test_a_far_observation_keeps_its_leverage(dtype, cov_type, far):
    x = np.array([0, 0.125, 0.25, 0.375, 0.5, far], dtype)
    y = np.array([0.1, 0.4, 0.2, 0.5, 0.3, 0.7], dtype)
    exact = sm.OLS(y.astype("f8"), sm.add_constant(x.astype("f8"))).fit(cov_type=cov_type)
    np.testing.assert_allclose(fit(x, y, cov_type=cov_type).bse, exact.bse, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("cov_type", [pytest.param("HC0", marks=pytest.mark.slow), "HC3", "HAC"])
@pytest.mark.parametrize("degree", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_robust_errors_of_tight_fits(rng, dtype, cov_type, degree):
    """Residuals of 2⁻¹⁴ on a range of 120, of which a float32 c leaves nothing."""
    x = np.arange(40, dtype=dtype)
    e = rng.choice([-1, 0, 1], 40) * 2.0**-14
    lags = {"maxlags": 3} if cov_type == "HAC" else {}
    y = (2 + 3 * x.astype("f8") + e).astype(dtype)
    ansatz = Line() if degree == 1 else Polynomial(degree)
    found = fit(x, y, ansatz=ansatz, cov_type=HAC(3) if lags else cov_type)
    design = np.vander(x.astype("f8"), degree + 1, increasing=True)
    exact = sm.OLS(e, design).fit(cov_type=cov_type, cov_kwds=lags or None)
    np.testing.assert_allclose(found.bse, exact.bse, rtol=1e-5 if dtype == np.float32 else 1e-8)


@pytest.mark.parametrize("maxlags", [*(pytest.param(n, marks=pytest.mark.slow) for n in (10, 12)), 100])
def test_more_lags_than_observations(rng, maxlags):
    x, y = rng.normal(size=12), rng.normal(size=12)
    exact = sm.OLS(y, sm.add_constant(x)).fit(cov_type="HAC", cov_kwds={"maxlags": maxlags})
    np.testing.assert_allclose(fit(x, y, cov_type=HAC(maxlags)).bse, exact.bse, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [2.0**-80, 2.0**80])
def test_no_unit_of_y_costs_a_test_its_digits(rng, unit):
    """Squares of such float32 numbers are 0 or infinite."""
    x = np.arange(20, dtype="f4")
    y = (0.1 * x + rng.normal(size=20)).astype("f4")

    def known(y, unit):
        unit = np.float32(unit)
        line, curve = fit(x, y), fit(x, y, ansatz=Polynomial(2))
        test = line.t_test([0, 1])
        new, sure = (line.predict(x[:2], kind) for kind in ("prediction", "confidence"))
        widths = [(limits.upper - limits.mean) / unit for limits in (new, sure)]
        robust = fit(x, y, cov_type="HC1").t_test([0, 1])
        return [
            line.rsquared, line.rsquared_adj, line.fvalue, line.f_pvalue, test.tvalue, test.pvalue, *widths,
            line.f_test([0, 1]).fvalue, curve.compare(line).fvalue, curve.fvalue, robust.tvalue,
        ]  # fmt: skip

    for a, b in zip(known(y * np.float32(unit), unit), known(y, 1), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    shift = fit(x, y).llf - fit(x, y * np.float32(unit)).llf
    assert float(shift) == pytest.approx(20 * np.log(unit), rel=1e-5)


@pytest.mark.slow
def test_a_test_of_a_fit_without_residuals():
    found = fit(np.arange(8.0), 2 * np.arange(8.0) + 1)
    assert found.f_test(np.eye(2)).fvalue == np.inf
    assert found.f_test(np.eye(2)).pvalue == 0
    assert np.isnan(found.f_test(np.eye(2), [1, 2]).fvalue)


def test_sums_of_squares_where_the_cost_is_worse_than_the_mean(rng):
    x, y = rng.normal(size=20), rng.normal(size=20)

    def far_off(params, x, y, weights=None, *, ansatz):
        return jnp.mean((params - 2.0) ** 2)

    found = fit(x, y, cost=far_off, solver=GradientDescent())
    left = np.sum((y - 2 - 2 * x) ** 2)
    assert float(found.ssr) == pytest.approx(left, rel=1e-6)
    assert float(found.centered_tss) == pytest.approx(np.sum((y - y.mean()) ** 2), rel=1e-6)
    assert float(found.rsquared) == pytest.approx(1 - left / np.sum((y - y.mean()) ** 2), rel=1e-6)


@pytest.mark.slow
def test_intervals_of_a_fit_that_jit_closes_over(rng):
    x, y = rng.normal(size=20).astype("f4"), rng.normal(size=(20, 3)).astype("f4")
    found = fit(jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_array_equal(jax.jit(lambda s: found.conf_int() * s)(1.0), found.conf_int())
    inside = jax.jit(lambda s: fit(x, y).params * s)(1.0)
    np.testing.assert_allclose(inside, found.params, rtol=1e-6)
    slope = jax.grad(lambda a: found.conf_int(a)[1, 1, 0])(0.1)  # of the quantile q, dq/dα = −1 / (2 pdf(q))
    exact = -float(found.bse[1, 0]) / (2 * stats.t.pdf(stats.t.isf(0.05, 18), 18))
    assert float(slope) == pytest.approx(exact, rel=1e-5)


X8, Y8 = np.arange(8.0), np.array([[0, 1], [2, 1], [1, 3], [4, 4], [3, 7], [6, 5], [5, 8], [9, 6.0]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: f.t_test([0, 1], [1, 2]), r"value is the same for all data sets.*got shape \(2,\)"),
        (lambda f: f.f_test(np.eye(2), [[1], [2]]), r"got shape \(2, 1\)"),
        (lambda f: f.t_test([0, 1]).conf_int(1.5), "alpha is a probability between 0 and 1"),
        (lambda f: f.conf_int("a"), "alpha is a probability between 0 and 1"),
        (lambda f: f.t_test("slop"), "names 'slop', but the params are intercept, slope"),
        (lambda f: f.t_test("slope ** 2 = 1"), "is not a linear contrast of intercept, slope"),
        (lambda f: f.t_test("slope = 1", 1.0), "a contrast as text contains its value"),
        (lambda f: f.t_test([0, 0]), "finite numbers, not all 0"),
        (lambda f: f.t_test([0, np.nan]), "finite numbers, not all 0"),
        (lambda f: f.predict(1.0, "prediction", weights=np.ones(5)), "a number or of shape"),
        (lambda f: fit(X8, Y8, use_t="yes"), "use_t is True, False or None|parameter 'use_t'"),
        (lambda f: fit(X8, Y8, cov_type=Cluster([None, "a"] * 4)), "groups has 4 missing labels"),
        (lambda f: fit(X8, Y8, cov_type=Cluster([np.nan, 1] * 4)), "groups has 4 missing labels"),
        (lambda f: Cluster("firm"), r"a label for each observation, \(n,\); got 'firm'"),
        (lambda f: fit(X8, Y8, ansatz=Polynomial(2)).compare(fit(X8, 2 * Y8)), "fits of the same y"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call(fit(X8, Y8))


def test_a_fit_that_explains_more_is_no_special_case(rng):
    x, y = rng.normal(size=(2, 30))
    better = fit(y + 0.1 * rng.normal(size=30), y)
    assert np.isnan(fit(x, y, ansatz=Polynomial(2)).compare(better).fvalue)


@pytest.mark.parametrize("dtype", ["f4", pytest.param("f8", marks=pytest.mark.slow)])
def test_deviations_of_an_offset_without_an_intercept(rng, dtype):
    y = (1e8 if dtype == "f8" else 1e4) + rng.normal(size=50).astype(dtype)
    y = y.astype(dtype)
    found = fit(np.ones((50, 1), dtype), y, ansatz=Linear(intercept=False))
    exact = sum((Fraction(v) - sum(map(Fraction, y.tolist())) / 50) ** 2 for v in y.tolist())
    np.testing.assert_allclose(found.centered_tss, float(exact), rtol=1e-5 if dtype == "f4" else 1e-9)


@pytest.mark.parametrize("weight", [1e38, 1e-37])
def test_float32_weights_whose_sum_overflows(rng, weight):
    x, y = rng.normal(size=30).astype("f4"), rng.normal(size=(30, 3)).astype("f4")
    y[4, 1] = np.nan
    found = fit(x, y, weights=np.full(30, weight, "f4"))
    for j in range(3):
        there = np.isfinite(y[:, j])
        design = sm.add_constant(x[there].astype(float))
        weights = np.full(there.sum(), float(np.float32(weight)))
        want = sm.WLS(y[there, j].astype(float), design, weights).fit()
        assert found.status[j] == 0
        np.testing.assert_allclose(found.params[:, j], want.params, rtol=1e-5)
        np.testing.assert_allclose(found.bse[:, j], want.bse, rtol=1e-5)
        np.testing.assert_allclose(found.llf[j], want.llf, rtol=1e-5)


CONSTANTS = {
    "a column of ones": lambda a: np.column_stack([np.ones(40), a]),
    "a constant in the middle": lambda a: np.column_stack([a[:, :1], np.full(40, 2.5), a[:, 1:]]),
    "all levels of a factor": lambda a: np.column_stack([np.eye(4)[np.arange(40) % 4], a[:, :1]]),
    "none": lambda a: a,
}


@pytest.mark.parametrize(
    "kind", ["a column of ones", *(pytest.param(k, marks=pytest.mark.slow) for k in list(CONSTANTS)[1:])]
)
def test_a_constant_column_of_the_users_centers_as_in_statsmodels(rng, kind):
    design, y = CONSTANTS[kind](rng.normal(size=(40, 2))), 3 + rng.normal(size=(40, 2))
    y[5, 1] = np.nan
    found = fit(design, y, ansatz=Linear(intercept=False))
    for j in range(2):
        there = np.isfinite(y[:, j])
        want = sm.OLS(y[there, j], design[there]).fit()
        for name in ("rsquared", "rsquared_adj", "fvalue", "f_pvalue", "ess", "df_model"):
            value = getattr(found, name)
            value = value if name == "df_model" else value[j]
            np.testing.assert_allclose(value, getattr(want, name), rtol=1e-8, err_msg=name)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_logarithm_of_a_product_of_any_weights(rng, dtype):
    """One that overflows or underflows as a product, beside a sum of mpmath's logarithms."""
    info = np.finfo(dtype)
    extremes = [info.max, info.tiny, 1.5, info.max / 1.9, 3 * info.tiny, 0.7]
    random = 10.0 ** rng.uniform(np.log10(info.tiny) + 1, np.log10(info.max) - 1, 40)
    for weights in (np.array(extremes, dtype), random.astype(dtype)):
        x = np.zeros_like(weights)
        with jax.enable_x64(True):
            sums = row_sums(Line(), None, x[:, None], x[:, None], weights[:, None], rows=ROWS["cpu"])
        exact = sum(mpmath.log(mpmath.mpf(float(w))) for w in weights)
        np.testing.assert_allclose(np.asarray(sums.log_weight)[0], float(exact), rtol=1e-14, atol=1e-12)


@pytest.mark.parametrize("columns", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("unit", [1e-307, 1e-303, 1e-290, 1e-200, 1e290, 1e306])
@pytest.mark.parametrize("precision", [pytest.param("auto", marks=pytest.mark.slow), "fast"])
def test_float64_weights_near_the_ends_of_the_range(rng, unit, precision, columns):
    """Right, or with a status or digits that say it is not."""
    X, y, w = rng.normal(size=(60, columns)), rng.normal(size=(60, 3)), rng.uniform(0.5, 1, 60)
    found = fit(X, y, ansatz=Linear(), weights=w * unit, solver=ClosedForm(precision=precision))
    for j in range(3):
        want = sm.WLS(y[:, j], sm.add_constant(X), w).fit()
        if found.status[j] == 0:
            off = 10.0 ** -min(int(found.digits[j]), 9)
            np.testing.assert_allclose(found.params[:, j], want.params, rtol=off, atol=1e-12)
            np.testing.assert_allclose(found.bse[:, j], want.bse, rtol=off)
    if 1e-295 < unit < 1e300 or (precision == "auto" and unit > 1e-305):
        np.testing.assert_array_equal(found.status, 0)
        assert (found.digits >= 9).all()


@pytest.mark.either_mode
def test_clusters_under_jit_and_vmap(rng):
    x, y, groups = rng.normal(size=30), rng.normal(size=(30, 3)), rng.integers(0, 6, 30)
    x, y = x.astype("f4"), y.astype("f4")

    def errors(y):
        return fit(x, y, cov_type=Cluster(groups)).bse

    options = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    design = sm.add_constant(x.astype(float))
    expected = [sm.OLS(a.astype(float), design).fit(**options).bse for a in y.T]
    np.testing.assert_allclose(jax.jit(errors)(y).T, expected, rtol=2e-5)
    np.testing.assert_allclose(jax.vmap(errors, in_axes=1)(y), expected, rtol=2e-5)
