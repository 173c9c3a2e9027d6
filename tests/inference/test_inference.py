import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from jaxreg import HAC, HC0, Cluster, Line, Linear, Polynomial, fit

N = 40


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=N).astype(dtype)
    return x, (x[:, None] + rng.normal(size=(N, 6))).astype(dtype)


def test_standard_errors_are_those_of_the_textbook(data, tol):
    """σ̂ / √Σ(x − ⟨x⟩)² for the slope, σ̂ √(1/n + ⟨x⟩²/Σ(x − ⟨x⟩)²) for the intercept."""
    x, y = data
    found = fit(x, y)
    x, y = x.astype("f8"), y.astype("f8")
    spread = ((x - x.mean()) ** 2).sum()
    for i in range(6):
        e = y[:, i] - np.polyval(np.polyfit(x, y[:, i], 1), x)
        sigma = np.sqrt((e**2).sum() / (N - 2))
        expected = [sigma * np.sqrt(1 / N + x.mean() ** 2 / spread), sigma / np.sqrt(spread)]
        np.testing.assert_allclose(found.bse[:, i], expected, rtol=tol)


@pytest.mark.parametrize("factor", [2.0**-75, 2.0**-20, 2.0**40, 2.0**65])
def test_units_scale_standard_errors_to_the_last_bit(data, factor, dtype):
    x, y = data
    expected = np.asarray(fit(x, y).bse)
    factor = dtype.type(factor)
    np.testing.assert_array_equal(fit(x, factor * y).bse, factor * expected)
    in_x = fit(factor * x, y).bse
    np.testing.assert_array_equal(in_x, expected / np.array([[1], [factor]], dtype))


def test_the_unit_of_the_weights_does_not_matter(data, tol):
    x, y = data
    w = np.linspace(1, 2, N).astype(x.dtype)
    a, b = fit(x, y, weights=w), fit(x, y, weights=1000 * w)
    np.testing.assert_allclose(b.bse, np.asarray(a.bse, "f8"), rtol=0.1 * tol)


def test_a_far_origin_costs_the_slope_no_digits(data, tol):
    x, y = data
    x = (np.round(x * 8) + 2**20).astype(x.dtype)  # exact in float32
    found = fit(x, y)
    t = x.astype("f8") - 2.0**20
    for i in range(6):
        (_, _), covariance = np.polyfit(t, y[:, i].astype("f8"), 1, cov=True)
        np.testing.assert_allclose(found.bse[1, i], np.sqrt(covariance[0, 0]), rtol=tol)


def test_a_line_without_error_has_no_standard_error(dtype):
    x = np.arange(N, dtype=dtype)
    found = fit(x, np.stack([2 * x + k for k in range(6)], axis=1))
    np.testing.assert_allclose(found.params[1], 2, rtol=2 * np.finfo(dtype).eps)
    assert np.max(found.bse) < 10 * np.finfo(dtype).eps


@pytest.mark.parametrize("unit", [1e-20, 1e20])
def test_sigma_in_tiny_and_huge_units(data, unit):
    """In the units of a small or a large world 1/sigma² is not a float32, and nobody needs to see it."""
    x, y = (a.astype("f4") for a in data)
    sigma = np.linspace(1, 2, N).astype("f4")
    expected, found = fit(x, y, sigma=sigma), fit(x, y * np.float32(unit), sigma=sigma * np.float32(unit))
    np.testing.assert_allclose(found.params, np.asarray(expected.params) * unit, rtol=1e-5)
    np.testing.assert_allclose(found.bse, np.asarray(expected.bse) * unit, rtol=1e-5)
    np.testing.assert_allclose(found.ssr, expected.ssr, rtol=1e-5)


# --- beside statsmodels, data set by data set, on data with gaps and weights

ROWS, SETS = 40, 6
GROUPS = np.arange(ROWS) * 7 % 9
COVARIANCES = {
    "nonrobust": {},
    "HC0": {},
    "HC1": {},
    "HC2": {},
    "HC3": {},
    "cluster": {"groups": GROUPS},
    "HAC": {"maxlags": 3},
}
OBJECTS = {"cluster": Cluster(GROUPS), "HAC": HAC(3)}
DESIGNS = {
    "line": (Line(), ()),
    "cubic": (Polynomial(3), ()),
    "linear": (Linear(), (2,)),
    "origin": (Linear(False), (7,)),
}
SLOW = pytest.mark.slow


def problem(rng, design, dtype, weighted):
    ansatz, columns = DESIGNS[design]
    x = rng.uniform(1, 3, size=(ROWS, *columns))
    y = 2 + (x if x.ndim == 1 else x[:, 0])[:, None] * rng.normal(1, 1, size=(ROWS, SETS))
    y[rng.random(y.shape) < 0.1] = np.nan
    w = rng.uniform(0.5, 2, size=y.shape) if weighted else None
    x, y, w = (None if a is None else a.astype(dtype) for a in (x, y, w))
    return ansatz, x, y, w


def oracle(ansatz, x, y, w, cov_type, options):
    there = ~np.isnan(y)
    x, y = x[there].astype("f8"), y[there].astype("f8")
    if not ansatz.x_is_vector:
        X = np.vander(x, len(ansatz.param_names(1)), increasing=True)
    else:
        X = np.column_stack([np.ones(len(x)), x]) if ansatz.has_intercept else x
    options = {k: v[there] if k == "groups" else v for k, v in options.items()}
    model = sm.OLS(y, X) if w is None else sm.WLS(y, X, w[there].astype("f8"))
    return model.fit(cov_type=cov_type, cov_kwds=options or None)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    ("design", "cov_type", "weighted"),
    [
        *(("line", c, False) for c in COVARIANCES if c not in ("HC0", "HC2")),
        *(
            pytest.param(design, c, (i + j) % 2 == 0, marks=SLOW)  # each pair of two of the three
            for i, design in enumerate(DESIGNS)
            for j, c in enumerate(COVARIANCES)
        ),
    ],
)
def test_numbers_are_those_of_statsmodels(rng, dtype, design, cov_type, weighted):
    ansatz, x, y, w = problem(rng, design, dtype, weighted)
    options = COVARIANCES[cov_type]
    found = fit(x, y, ansatz=ansatz, weights=w, cov_type=OBJECTS.get(cov_type, cov_type))
    tol = {"float32": 2e-5, "float64": 1e-8}[dtype.name]  # statsmodels solves with the pseudoinverse
    covariances, intervals = found.cov_params(), found.conf_int(0.1)
    for j in range(SETS):
        expected = oracle(ansatz, x, y[:, j], None if w is None else w[:, j], cov_type, options)

        def same(a, b, name, atol=0.0):
            np.testing.assert_allclose(np.asarray(a, "f8"), b, rtol=tol, atol=atol, err_msg=name)

        for name in (
            "params",
            "bse",
            "tvalues",
            "ssr",
            "ess",
            "centered_tss",
            "uncentered_tss",
            "scale",
            "llf",
        ):
            same(getattr(found, name)[..., j], getattr(expected, name), name)
        for name in ("rsquared", "rsquared_adj", "aic", "bic", "nobs", "df_resid", "df_model"):
            same(getattr(found, name)[..., j], getattr(expected, name), name, atol=tol)
        # A robust F is solved with a covariance in the dtype of y, which few clusters make nearly singular.
        size = np.sqrt(np.outer(*[np.diag(expected.cov_params())] * 2))
        f_tol = tol + np.finfo(dtype).eps * np.linalg.cond(expected.cov_params() / size)
        np.testing.assert_allclose(found.fvalue[j], expected.fvalue, rtol=f_tol)
        np.testing.assert_allclose(
            np.log10(found.f_pvalue[j]), np.log10(expected.f_pvalue), rtol=f_tol, atol=f_tol
        )
        same(np.log10(found.pvalues[:, j]), np.log10(expected.pvalues), "pvalues", atol=tol)
        same(found.log10_pvalues[:, j], np.log10(expected.pvalues), "log10_pvalues", atol=tol)
        same(intervals[..., j].T, expected.conf_int(0.1), "conf_int", atol=tol * np.max(expected.bse))
        same(covariances[..., j] / size, expected.cov_params() / size, "cov_params", atol=tol)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    "cov_type", [pytest.param(name, marks=SLOW) for name in ("nonrobust", "HC1")] + ["cluster"]
)
@pytest.mark.parametrize("design", ["line", pytest.param("origin", marks=SLOW)])
def test_contrasts_and_predictions_are_those_of_statsmodels(rng, dtype, design, cov_type):
    ansatz, x, y, _ = problem(rng, design, dtype, False)
    options = COVARIANCES[cov_type]
    found = fit(x, y, ansatz=ansatz, cov_type=OBJECTS.get(cov_type, cov_type))
    p = len(found.params)
    c, C = rng.normal(size=(3, p)), rng.normal(size=(2, p))
    t, f = found.t_test(c, 0.5), found.f_test(C)
    limits = t.conf_int(0.1)
    line, point = found.predict(x, "confidence", 0.1), found.predict(x, "prediction", 0.1)
    tol = {"float32": 5e-5, "float64": 1e-8}[dtype.name]
    for j in range(SETS):
        expected = oracle(ansatz, x, y[:, j], None, cov_type, options)
        there = ~np.isnan(y[:, j])
        theirs = expected.t_test((c, np.full(3, 0.5)))
        np.testing.assert_allclose(t.effect[:, j], theirs.effect, rtol=tol, atol=tol)
        np.testing.assert_allclose(t.sd[:, j], theirs.sd, rtol=tol)
        np.testing.assert_allclose(t.tvalue[:, j], theirs.tvalue, rtol=tol, atol=tol)
        np.testing.assert_allclose(t.pvalue[:, j], theirs.pvalue, rtol=100 * tol, atol=1e-30)
        np.testing.assert_allclose(limits[..., j].T, theirs.conf_int(0.1), rtol=tol, atol=tol)
        theirs = expected.f_test(C)
        np.testing.assert_allclose(f.fvalue[j], theirs.fvalue, rtol=10 * tol)
        assert (f.df_num, f.df_denom[j]) == (theirs.df_num, theirs.df_denom)
        frame = expected.get_prediction().summary_frame(alpha=0.1)
        for ours, mean in ((line.mean, "mean"), (line.lower, "mean_ci_lower"), (line.upper, "mean_ci_upper")):
            np.testing.assert_allclose(ours[there, j], frame[mean], rtol=tol, atol=tol)
        for ours, mean in ((point.lower, "obs_ci_lower"), (point.upper, "obs_ci_upper")):
            np.testing.assert_allclose(ours[there, j], frame[mean], rtol=tol, atol=tol)


@pytest.mark.slow_in("float64")
def test_a_restricted_fit_is_compared_as_statsmodels_does(rng, dtype):
    _, x, y, _ = problem(rng, "line", dtype, False)
    found = fit(x, y, ansatz=Polynomial(3)).compare(fit(x, y))
    for j in range(SETS):
        full, restricted = (oracle(a, x, y[:, j], None, "nonrobust", {}) for a in (Polynomial(3), Line()))
        fvalue, pvalue, df = full.compare_f_test(restricted)
        np.testing.assert_allclose(found.fvalue[j], fvalue, rtol=1e-3 if dtype == "f4" else 1e-8)
        np.testing.assert_allclose(found.pvalue[j], pvalue, rtol=1e-3 if dtype == "f4" else 1e-8)
        assert found.df_num == df


@pytest.mark.slow
def test_student_or_normal_is_a_choice(rng):
    _, x, y, _ = problem(rng, "line", np.dtype("f8"), False)
    for cov_type in ("nonrobust", "HC3"):
        for use_t in (True, False):
            found = fit(x, y, cov_type=cov_type, use_t=use_t)
            pvalues, limits = found.pvalues, found.conf_int()
            for j in range(SETS):
                there = ~np.isnan(y[:, j])
                model = sm.OLS(y[there, j], sm.add_constant(x[there]))
                expected = model.fit(cov_type=cov_type, use_t=use_t)
                np.testing.assert_allclose(pvalues[:, j], expected.pvalues, rtol=1e-9)
                np.testing.assert_allclose(limits[..., j].T, expected.conf_int(), rtol=1e-9)


@pytest.mark.slow_in("float64")
def test_sigma_gives_the_likelihood_of_its_weights(rng, dtype, tol):
    _, x, y, w = problem(rng, "line", dtype, True)
    a, b = fit(x, y, weights=w), fit(x, y, sigma=1 / np.sqrt(w))
    for name in ("ssr", "ess", "uncentered_tss", "llf", "fvalue"):
        np.testing.assert_allclose(getattr(b, name), getattr(a, name), rtol=10 * tol, err_msg=name)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("cov_type", ["nonrobust", *(pytest.param(c, marks=SLOW) for c in ("HC1", HAC()))])
def test_nothing_is_known_without_degrees_of_freedom(dtype, cov_type):
    x, y = np.array([0, 1], dtype), np.array([[0, 1, 2, 3, 4, 5], [1, np.nan, 5, 2, 0, 1]], dtype)
    found = fit(x, y, cov_type=cov_type)
    for values in (
        found.bse,
        found.tvalues,
        found.pvalues,
        found.scale,
        found.cov_params(),
        found.conf_int(),
    ):
        assert np.isnan(values).all()
    assert np.isnan(found.fvalue).all()
    np.testing.assert_array_equal(fit(x, y[:, 0]).rsquared, 1)


def test_one_cluster_is_too_few(dtype):
    x = np.arange(9, dtype=dtype)
    found = fit(x, x**2, cov_type=Cluster(np.zeros(9)))
    assert np.isnan(found.bse).all()
    assert np.isfinite(found.params).all()


def test_newey_and_west_choose_the_lags_of_each_data_set(rng):
    """⌊4 (nobs/100)^(2/9)⌋, which is statsmodels' rule where it is not told."""
    x, y = rng.normal(size=200), rng.normal(size=(200, 2))
    y[60:, 1] = np.nan
    found = fit(x, y, cov_type=HAC())
    for j, lags in ((0, 4), (1, 3)):
        there = ~np.isnan(y[:, j])
        model = sm.OLS(y[there, j], sm.add_constant(x[there]))
        np.testing.assert_allclose(
            found.bse[:, j], model.fit(cov_type="HAC", cov_kwds={"maxlags": lags}).bse, rtol=1e-9
        )


@pytest.mark.slow
def test_many_columns_take_the_way_of_tiles(rng):
    """More data sets than a tile has, x of their own, more z_i than are unrolled."""
    x, y = rng.normal(size=(30, 11, 300)), rng.normal(size=(30, 300))
    found = fit(x, y, ansatz=Linear(), cov_type="HC3")
    for j in (0, 299):
        expected = sm.OLS(y[:, j], sm.add_constant(x[..., j])).fit(cov_type="HC3")
        np.testing.assert_allclose(found.bse[:, j], expected.bse, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cov_type",
    ["HC2", *(pytest.param(c, marks=SLOW) for c in (HAC(2), Cluster(np.arange(40) // 5)))],
    ids=["HC2", "HAC", "cluster"],
)
def test_a_robust_covariance_does_not_depend_on_the_neighbors(rng, cov_type):
    x, y = rng.normal(size=40).astype("f4"), rng.normal(size=(40, 50)).astype("f4")
    whole = fit(x, y, cov_type=cov_type)
    np.testing.assert_array_equal(fit(x, y[:, 20:40], cov_type=cov_type).bse, whole.bse[:, 20:40])
    np.testing.assert_array_equal(fit(x, y, block_size=17, cov_type=cov_type).bse, whole.bse)


def sandwich_in_any_arithmetic(x, y, meat):
    """Σ of robust standard errors of a line: complex steps differentiate it."""
    phi = np.stack([np.ones_like(x), x], axis=1)
    bread = np.linalg.inv(phi.T @ phi)
    e = y - phi @ (bread @ (phi.T @ y))
    scores = e[:, None] * phi
    V = bread @ meat(scores, np.sum(phi @ bread * phi, axis=1)) @ bread
    return np.sqrt(np.diag(V)).sum()


def meat_hc3(scores, leverage):
    return (scores / (1 - leverage[:, None]) ** 2).T @ scores


def meat_hac(scores, leverage):
    total = scores.T @ scores
    for lag in (1, 2):
        later = scores[lag:].T @ scores[:-lag]
        total = total + (1 - lag / 3) * (later + later.T)
    return total


def meat_cluster(scores, leverage):
    n, labels = len(scores), np.delete(np.arange(20), 4) // 4
    sums = np.stack([scores[labels == k].sum(axis=0) for k in range(5)])
    return 5 / 4 * (n - 1) / (n - 2) * sums.T @ sums


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "meat"),
    [
        ({"cov_type": "HC3"}, meat_hc3),
        pytest.param({"cov_type": HAC(2)}, meat_hac, marks=SLOW),
        ({"cov_type": Cluster(np.arange(20) // 4)}, meat_cluster),
    ],
    ids=["HC3", "HAC", "cluster"],
)
def test_robust_errors_can_be_differentiated_and_gaps_get_nothing(rng, options, meat):
    x, y = rng.normal(size=20), rng.normal(size=(20, 3))
    y[4, 0], y[3, 1], y[:, 2] = np.nan, np.inf, np.nan
    valid = np.delete(np.arange(20), 4)

    def total(y):
        return jnp.nansum(fit(x, y, **options).bse)

    with jax.enable_x64(True):
        gradient = np.asarray(jax.jit(jax.grad(total))(y))
    assert np.isfinite(gradient).all()
    assert gradient[4, 0] == 0
    assert (gradient[:, 1:] == 0).all()
    steps = 1e-30j * np.eye(19)
    exact = [sandwich_in_any_arithmetic(x[valid], y[valid, 0] + step, meat).imag / 1e-30 for step in steps]
    np.testing.assert_allclose(gradient[valid, 0], exact, rtol=1e-9, atol=1e-12)


def test_a_fit_is_asked_inside_of_jit_and_by_index(rng):
    x, y = rng.normal(size=20).astype("f4"), rng.normal(size=(20, 3)).astype("f4")

    @jax.jit
    def asked(x, y):
        found = fit(x, y, cov_type="HC1")
        return found.pvalues, found.conf_int(), found.predict(x, "confidence").upper, found.f_pvalue

    found = fit(x, y, cov_type="HC1")
    expected = found.pvalues, found.conf_int(), found.predict(x, "confidence").upper, found.f_pvalue
    for a, b in zip(asked(x, y), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    np.testing.assert_allclose(found[1].pvalues, found.pvalues[:, 1], rtol=1e-6)
    np.testing.assert_allclose(found[1].cov_params(), found.cov_params()[..., 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cov_type": "HC4"}, "cov_type is one of"),
        ({"cov_type": "cluster"}, r"pass cov_type=Cluster\(groups\)"),
        ({"cov_type": "HAC"}, r"pass cov_type=HAC\(maxlags=None\)"),
        ({"cov_type": Cluster}, "not the class"),
        ({"cov_type": Cluster(np.zeros(4))}, r"pass a label for every observation, \(9,\)"),
        ({"groups": np.zeros(9)}, r"groups= has moved: pass cov_type=Cluster\(groups\)"),
        ({"maxlags": 2}, r"maxlags= has moved: pass cov_type=HAC\(maxlags=2\)"),
        ({"precision": "fast"}, r'precision= has moved: pass solver=ClosedForm\(precision="fast"\)'),
        ({"cov_typ": "HC0"}, "unexpected keyword argument 'cov_typ'"),
    ],
)
def test_options_that_do_not_exist(options, message):
    x = np.arange(9.0)
    with pytest.raises((ValueError, TypeError), match=message):
        fit(x, x, **options)


def test_a_covariance_that_is_no_pytree_is_named():
    class Unregistered(HC0):
        name = "unregistered"

    with pytest.raises(TypeError, match="Unregistered is not a pytree: decorate the class"):
        fit(np.arange(9.0), np.arange(9.0), cov_type=Unregistered())


def test_a_number_of_lags_is_a_whole_one():
    with pytest.raises(ValueError, match="integer of 0 or more"):
        HAC(-1)


def test_questions_that_make_no_sense():
    x = np.arange(20.0)
    found = fit(x, x**2)
    with pytest.raises(ValueError, match=r"shape \(2,\) or \(q, 2\)"):
        found.t_test([1, 2, 3])
    with pytest.raises(ValueError, match="linearly dependent"):
        found.f_test([[1, 0], [2, 0]])
    with pytest.raises(ValueError, match="between 0 and 1"):
        found.conf_int(5.0)
    with pytest.raises(ValueError, match='"confidence", "prediction" or None'):
        found.predict(x, "both")
    with pytest.raises(ValueError, match="fewer params"):
        found.compare(found)
    with pytest.raises(ValueError, match="f_test"):
        fit(x, x**2, ansatz=Polynomial(2), cov_type="HC1").compare(found)


LABELS = {
    "None": np.array(["a", None, "b"] * 8, object),
    "NaN among numbers": np.array([1.0, np.nan, 2.0] * 8),
    "NaN among objects": np.array(["a", np.nan, "b"] * 8, object),
    "NaT": np.array(["2020-01-01", "NaT", "2021-01-01"] * 8, "datetime64[D]"),
    "NaT among objects": np.array([pd.Timestamp("2020"), pd.NaT, pd.Timestamp("2021")] * 8, object),
    "NA": pd.array([1, pd.NA, 2] * 8, dtype="Int64"),
    "category": pd.Categorical(["a", None, "b"] * 8),
    "string": pd.array(["a", None, "b"] * 8, dtype="string"),
    "series": pd.Series(["a", None, "b"] * 8),
    "mixed": np.array(["a", None, 3] * 8, object),
    "masked": np.ma.array([1, 7, 2] * 8, mask=[0, 1, 0] * 8),
}


@pytest.mark.parametrize("kind", LABELS)
def test_a_missing_label_is_one_clear_error(rng, kind):
    x, y = rng.normal(size=24), rng.normal(size=24)
    with pytest.raises(ValueError, match=r"groups has 8 missing labels, the first at observation 1: give"):
        fit(x, y, cov_type=Cluster(LABELS[kind]))


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b", "c"] * 8,
        ["a", 1, (2, 3)] * 8,
        pd.Categorical(["x", "y", "z"] * 8),
        pd.Series(["x", "y", "z"] * 8, dtype="string"),
        pd.date_range("2020", periods=3, tz="UTC").tolist() * 8,
        [True, "true", None.__class__] * 8,
    ],
)
def test_labels_of_any_kind_are_welcome(rng, labels):
    x, y = rng.normal(size=24), rng.normal(size=24)
    labels = np.array([*labels, None], object)[:-1] if isinstance(labels, list) else labels
    found, expected = (fit(x, y, cov_type=Cluster(g)).bse for g in (labels, [0, 1, 2] * 8))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("cov_type", [pytest.param("HC0", marks=SLOW), "HC1"])
def test_a_dummy_with_a_single_one_leaves_the_f_test_of_the_others(rng, cov_type):
    """Its residual is 0 and the whole covariance singular, to its rounding."""
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 8))
    x[:, 2] = np.arange(30) == 4
    found = fit(x, y, ansatz=Linear(), cov_type=cov_type)
    slopes = found.f_test(np.eye(4)[1:3])
    for j in range(8):
        exact = sm.OLS(y[:, j], sm.add_constant(x)).fit(cov_type=cov_type)
        np.testing.assert_allclose(found.fvalue[j], exact.fvalue, rtol=1e-8)
        np.testing.assert_allclose(slopes.fvalue[j], exact.f_test(np.eye(4)[1:3]).fvalue, rtol=1e-8)


@pytest.mark.slow
@pytest.mark.slow_in("float32")
def test_fewer_clusters_than_params(rng, dtype):
    """Of 8 scores a covariance of rank 7: tests of few params have numbers, one of all has none."""
    x, y = rng.normal(size=(80, 9)).astype(dtype), rng.normal(size=(80, 4)).astype(dtype)
    labels = np.arange(80) // 10
    found = fit(x, y, ansatz=Linear(), cov_type=Cluster(labels))
    few = found.f_test(np.eye(10)[[2, 5]])
    assert np.isnan(found.fvalue).all()
    for j in range(4):
        exact = sm.OLS(y[:, j].astype("f8"), sm.add_constant(x.astype("f8")))
        exact = exact.fit(cov_type="cluster", cov_kwds={"groups": labels}, use_t=True)
        expected = exact.f_test(np.eye(10)[[2, 5]]).fvalue
        np.testing.assert_allclose(few.fvalue[j], expected, rtol=1e-3 if dtype == np.float32 else 1e-8)


def test_the_line_at_two_unix_times_is_two_contrasts(rng):
    """600 s apart at 1.7e9, in seconds dependent rows to the rounding of float64."""
    t = 600.0 * np.arange(30)
    y = 1e-4 * t + rng.normal(size=30)
    C = np.array([[1, 1.7e9], [1, 1.7e9 + 600]])
    found = fit(1.7e9 + t, y).f_test(C)
    exact = sm.OLS(y, sm.add_constant(t)).fit().f_test([[1, 0], [1, 600]])  # the same line from a near origin
    np.testing.assert_allclose(found.fvalue, exact.fvalue, rtol=1e-8)
    with pytest.raises(ValueError, match="linearly dependent"):
        fit(t, y).f_test([[1, 0.1], [3, 0.3]])


@pytest.mark.parametrize("use_t", [False, True])
def test_two_way_clusters_are_those_of_statsmodels(rng, use_t):
    x, y = rng.normal(size=60), rng.normal(size=(60, 3))
    y[4, 1] = np.nan
    groups = np.stack([np.arange(60) // 6, np.arange(60) % 7], axis=1)
    line = fit(x, y, cov_type=Cluster(groups), use_t=use_t)
    assert line.cov_type == "cluster"
    for j in range(3):
        valid = ~np.isnan(y[:, j])
        model = sm.OLS(y[valid, j], sm.add_constant(x[valid]))
        expected = model.fit(cov_type="cluster", cov_kwds={"groups": groups[valid]}, use_t=use_t)
        np.testing.assert_allclose(line.bse[:, j], expected.bse, rtol=1e-9)
        np.testing.assert_allclose(line.pvalues[:, j], expected.pvalues, rtol=1e-7)


@jax.tree_util.register_static
class HC4(HC0):
    """Cribari-Neto's correction (1 − h)^−min(4, h nobs / p), which is not one of jaxreg's."""

    name = "HC4"
    leverage = True

    def corrected(self, square, h, scores):
        return square / (1 - h) ** jnp.minimum(4, h * scores.nobs / scores.p)


@pytest.mark.parametrize("columns", [1, pytest.param(6, marks=SLOW)])
def test_a_covariance_of_the_users_own(rng, columns):
    """Row by row, and by products on a shared design of several columns."""
    X, y = rng.normal(size=(40, columns)), rng.normal(size=(40, 3))
    y[3, 1] = np.nan
    fitted = fit(X, y, ansatz=Linear(), cov_type=HC4())
    assert fitted.cov_type == "HC4"
    for j in range(3):
        valid = ~np.isnan(y[:, j])
        expected = sm.OLS(y[valid, j], sm.add_constant(X[valid])).fit()
        bread, h = expected.normalized_cov_params, expected.get_influence().hat_matrix_diag
        score = (
            expected.model.exog
            * (expected.resid / (1 - h) ** (np.minimum(4, h * valid.sum() / (columns + 1)) / 2))[:, None]
        )
        np.testing.assert_allclose(
            fitted.cov_params()[..., j], bread @ score.T @ score @ bread, rtol=1e-9, atol=1e-12
        )


@pytest.mark.slow
def test_an_indefinite_two_way_covariance_gives_no_errors(rng):
    x, y = np.linspace(0, 5, 40), rng.normal(size=(40, 60))
    groups = np.stack([rng.integers(0, 8, 40), rng.integers(0, 5, 40)], axis=1)
    line, indefinite = fit(x, y, cov_type=Cluster(groups)), 0
    for j in range(60):
        expected = sm.OLS(y[:, j], sm.add_constant(x)).fit(cov_type="cluster", cov_kwds={"groups": groups})
        lowest = np.linalg.eigvalsh(expected.cov_params())[0]
        assert np.isnan(line.bse[:, j]).all() == (lowest < 0)
        assert np.isnan(line.pvalues[:, j]).all() == (lowest < 0)
        indefinite += lowest < 0
    assert 0 < indefinite < 60


def test_settings_of_a_covariance_are_fields(rng):
    @jax.tree_util.register_static
    class Power(HC0):
        name = "power"

        def __init__(self, power):
            object.__setattr__(self, "power", power)

    with pytest.raises(TypeError, match=r"settings that are not fields \(power\)"):
        fit(np.arange(9.0), np.arange(9.0), cov_type=Power(2))


@pytest.mark.slow
def test_contrasts_as_text_are_those_of_numbers(rng):
    X, y = rng.normal(size=(30, 2)), rng.normal(size=30)
    plane = fit(X, y, ansatz=Linear())
    for text, contrast, value in (
        ("x1 = -1", [0, 1, 0], -1),
        ("x1 = -x2", [0, 1, 1], 0),
        ("x1 = 1.5e-03", [0, 1, 0], 1.5e-3),
        ("2 * x1 - x2 = 3", [0, 2, -1], 3),
    ):
        assert plane.t_test(text).pvalue == plane.t_test(contrast, value).pvalue
    both = plane.f_test("x1 = x2, x2 = 0")
    assert both.fvalue == plane.f_test([[0, 1, -1], [0, 0, 1]]).fvalue
    with pytest.raises(ValueError, match="separate them"):
        plane.f_test("x1 = x2 = 0")
