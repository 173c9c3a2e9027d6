"""What JAX's transformations make of a fit: the operation, its programs and its derivatives."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from jax.tree_util import Partial

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

N, M = 24, 6
SLOW = pytest.mark.slow


LINE = Line()


def ridge(params, x, y, weights=None, *, ansatz=LINE, strength=0.1):
    """Its turning point is that of the normal equations with a strength on the diagonal of the slopes."""
    return mean_squared_error(params, x, y, weights, ansatz=ansatz) + strength * jnp.sum(params[1:] ** 2)


def ridge_line(x, y, strength):
    """Intercept and slope, of columns without gaps."""
    dx, dy = x - x.mean(axis=0), y - y.mean(axis=0)
    slope = (dx * dy).mean(axis=0) / ((dx * dx).mean(axis=0) + strength)
    return jnp.stack([y.mean(axis=0) - slope * x.mean(axis=0), slope])


DESCENT = GradientDescent(steps=3000, learning_rate=0.1)


@pytest.fixture
def grid(rng):
    """x, y and weights of 5 × 3 data sets, with gaps and a weight of 0."""
    x, y = rng.normal(size=(N, 5, 3)), rng.normal(2, 1, size=(N, 5, 3))
    w = rng.uniform(0.5, 2, size=(N, 5, 3))
    y[rng.random(y.shape) < 0.1] = np.nan
    w[4, 2, 1] = 0
    return x, y, w


# Programs are small.


@pytest.mark.parametrize("own_x", [False, True])
@pytest.mark.parametrize(
    ("result", "most"),
    [(lambda f: (f.params, f.bse), 900), (lambda f: f, 1200)],
    ids=["params and bse", "the whole fit"],
)
def test_a_line_lowers_to_few_operations(dtype, own_x, result, most):
    shape = jax.ShapeDtypeStruct((300, 100), "f4"), jax.ShapeDtypeStruct((300,), "f4")
    y, x = (jax.ShapeDtypeStruct(s.shape, dtype) for s in shape)
    with jax.enable_x64(dtype == np.float64):
        text = jax.jit(lambda x, y: result(fit(x, y))).lower(y if own_x else x, y).as_text()
    assert 100 < text.count("stablehlo.") <= most


@pytest.mark.parametrize(("axis", "share"), [(1, 0.5), (0, 2.1)])  # jax 0.12 transposes in two steps
def test_vmap_over_many_series_takes_little_memory(axis, share):
    x, y = np.zeros(100, "f4"), jax.ShapeDtypeStruct((100, 20_000) if axis else (20_000, 100), "f4")
    mapped = jax.vmap(lambda y: fit(x, y).params, in_axes=axis, out_axes=-1)
    used = jax.jit(mapped).lower(y).compile().memory_analysis()
    assert used.temp_size_in_bytes <= share * 4 * 100 * 20_000


def test_lengths_that_follow_each_other_share_their_programs(rng):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if "backend_compile" in event else None
    )
    x, y = rng.normal(size=64).astype("f4"), rng.normal(size=64).astype("f4")
    for n in (33, 49):
        fit(x[:n], y[:n])
    before = len(compiled)
    for n in (34, 35, 40, 47, 48, 50, 57, 64):
        fit(x[:n], y[:n])
    assert len(compiled) == before


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    ("ansatz", "weighted"),
    [
        (Line(), False),
        (Linear(), True),
        *(pytest.param(a, w, marks=SLOW) for a, w in ((Line(), True), (Linear(), False))),
        *(pytest.param(Polynomial(3), w, marks=SLOW) for w in (False, True)),
    ],
    ids=repr,
)
def test_rows_that_fill_up_change_no_bit(rng, dtype, ansatz, weighted):
    """An eager call on few rows adds gaps up to one of few lengths; a program of these very rows does not."""
    n = 37
    x = rng.normal(3, 1, size=(n, 2) if ansatz.x_is_vector else n).astype(dtype)
    y = rng.normal(5, 1, size=(n, 20)).astype(dtype)
    w = rng.uniform(0.5, 2, size=(n, 20)).astype(dtype) if weighted else None
    eager = fit(x, y, ansatz=ansatz, weights=w, solver=ClosedForm(precision="fast"))
    # NaN rows by hand, to a number of rows that is added to no more
    padding = [(0, 64 - n), (0, 0)]
    x_long = np.pad(x, padding[: x.ndim], constant_values=np.nan)
    w_long = None if w is None else np.pad(w, padding, constant_values=0)
    y_long = np.pad(y, padding, constant_values=np.nan)
    long = fit(x_long, y_long, ansatz=ansatz, weights=w_long, solver=ClosedForm(precision="fast"))
    for name in ("params", "bse", "nobs", "status", "ssr"):
        np.testing.assert_array_equal(getattr(eager, name), getattr(long, name), err_msg=name)


# vmap is one more axis of data sets.


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    "mapped", ["y", *(pytest.param(n, marks=SLOW) for n in ("xyw", "xw", "xy", "yw", "x", "w"))]
)
def test_nested_vmap_is_the_batched_call(grid, dtype, mapped):
    x, y, w = (a.astype(dtype) for a in grid)
    given = [a if name in mapped else a[:, 0, 0] for name, a in zip("xyw", (x, y, w), strict=True)]

    def params(x, y, w):
        found = fit(x, y, weights=w, solver=ClosedForm(precision="fast"))
        return found.params, found.bse, found.status

    def mapped_over(first, second):
        """The axis of the data sets that is first is the outer one."""
        outer, inner = (tuple(k if name in mapped else None for name in "xyw") for k in (first, second))
        return jax.vmap(jax.vmap(params, inner, -1), outer, -1)

    with jax.enable_x64(dtype == np.float64):
        in_order, turned = jax.jit(lambda *a: (mapped_over(2, 1)(*a), mapped_over(1, 1)(*a)))(*given)
    whole = [
        a if n in mapped else np.broadcast_to(a[:, None, None], x.shape)
        for n, a in zip("xyw", given, strict=True)
    ]
    expected = fit(whole[0], whole[1], weights=whole[2], solver=ClosedForm(precision="fast"))
    for a, b, c in zip(in_order, turned, (expected.params, expected.bse, expected.status), strict=True):
        for found in (np.asarray(a), np.asarray(b).swapaxes(-1, -2)):
            np.testing.assert_allclose(found, c, rtol=3e-6 if dtype == "f4" else 1e-12)


@pytest.mark.slow
@pytest.mark.slow_in("float64")
def test_other_transformations_in_combination(rng, dtype, tol):
    x, y = rng.normal(size=N).astype(dtype), rng.normal(size=(4, N, M)).astype(dtype)
    expected = np.stack([fit(x, a).bse for a in y])

    def of(y):
        return fit(x, y).bse

    def total(y):
        return of(y).sum()

    @jax.jit
    def values(y):
        _, scanned = jax.lax.scan(lambda carry, a: (carry, jax.checkpoint(of)(a)), 0, y)
        return scanned, jax.lax.map(of, y)

    @jax.jit
    def gradients(y):
        by_map = jax.grad(lambda y: jax.vmap(total)(y).sum())(y)
        by_scan = jax.grad(
            lambda y: jax.lax.scan(lambda c, a: (c + jax.checkpoint(total)(a), None), 0.0, y)[0]
        )(y)
        _, along = jax.jvp(total, (y[0],), (jnp.ones_like(y[0]),))
        return jax.vmap(jax.grad(total))(y), by_map, by_scan, along

    with jax.enable_x64(dtype == np.float64):
        y = jnp.asarray(y)
        again = jax.export.export(jax.jit(jax.vmap(of)))(y).call(y)
        for found in (*values(y), again):
            np.testing.assert_allclose(found, expected, rtol=tol)
        by_vmap, by_map, by_scan, along = gradients(y)
        for found in (by_map, by_scan):
            np.testing.assert_allclose(found, by_vmap, rtol=10 * tol, atol=tol)
        np.testing.assert_allclose(along, by_vmap[0].sum(), rtol=1e3 * tol, atol=10 * tol)


# Every name has a derivative, and failed data sets have the derivative 0.

NAMES = [
    *("params", "bse", "tvalues", "pvalues", "log10_pvalues", "rsquared", "rsquared_adj", "fvalue"),
    *("f_pvalue", "llf", "aic", "bic", "ssr", "ess", "scale", "cost", "centered_tss", "uncentered_tss"),
]
RESULTS = {name: lambda f, name=name: getattr(f, name) for name in NAMES} | {
    "conf_int": lambda f: f.conf_int(),
    "cov_params": lambda f: f.cov_params(),
    "predict": lambda f: f.predict(jnp.arange(3, dtype=f.params.dtype)),
    "an interval": lambda f: f.predict(2.0, "prediction").upper,
    "t_test": lambda f: f.t_test([1, 2]).pvalue,
    "f_test": lambda f: f.f_test(np.eye(2)).fvalue,
}


def by_hand(x, y):
    """Every result of a line that is none of the distributions', from the textbook's formulas."""
    n = len(x)
    X = jnp.stack([jnp.ones_like(x), x], axis=1)
    A = X.T @ X
    theta = jnp.linalg.solve(A, X.T @ y)
    ssr = jnp.sum((y - X @ theta) ** 2)
    cov = jnp.linalg.inv(A) * ssr / (n - 2)
    bse = jnp.sqrt(jnp.diag(cov))
    tss = jnp.sum((y - y.mean()) ** 2)
    llf = -n / 2 * (jnp.log(2 * jnp.pi) + jnp.log(ssr / n) + 1)
    return {
        "params": theta,
        "bse": bse,
        "tvalues": theta / bse,
        "rsquared": 1 - ssr / tss,
        "rsquared_adj": 1 - ssr / tss * (n - 1) / (n - 2),
        "fvalue": (tss - ssr) / (ssr / (n - 2)),
        "llf": llf,
        "aic": 4 - 2 * llf,
        "bic": 2 * jnp.log(n) - 2 * llf,
        "ssr": ssr,
        "ess": tss - ssr,
        "scale": ssr / (n - 2),
        "cost": ssr / n,
        "centered_tss": tss,
        "uncentered_tss": jnp.sum(y**2),
        "cov_params": cov,
        "predict": theta[0] + theta[1] * jnp.arange(3.0),
        "f_test": theta @ jnp.linalg.solve(cov, theta) / 2,
    }


ROBUST = ["HC0", "HC1", "HC2", "HC3", "HAC", "cluster"]
DTYPES = [("f4", False), ("f4", True), ("f8", True)]  # with 64 bits off nothing is traced in float64


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cov_type", "dtype", "wide"),
    [
        *(("nonrobust", *kind) for kind in DTYPES),
        *((c, *DTYPES[i % len(DTYPES)]) for i, c in enumerate(ROBUST)),
    ],
)
def test_every_result_has_a_derivative_in_both_dtypes(rng, dtype, wide, cov_type):
    """Finite and not all 0, and 0 into data sets without params or residuals."""
    x, y = rng.normal(size=N).astype(dtype), rng.normal(1, 1, size=(N, 4)).astype(dtype)
    y[:, 1] = np.nan  # none
    y[2:, 2] = np.nan  # as many observations as params
    y[3, 3] = np.inf
    covariance = {"cluster": Cluster(np.arange(N) // 3), "HAC": HAC()}.get(cov_type, cov_type)

    def sums(y):
        found = fit(x, y, cov_type=covariance)
        return [jnp.nansum(result(found)) for result in RESULTS.values()]

    @jax.jit
    def pulled(y, *back):
        """One program of all gradients: which of the sums goes back is a number."""
        out, pull = jax.vjp(sums, y)
        return pull([b.astype(a.dtype) for a, b in zip(out, back, strict=True)])[0]

    with jax.enable_x64(wide):
        for name, back in zip(RESULTS, np.eye(len(RESULTS), dtype=dtype), strict=True):
            gradient = np.asarray(pulled(y, *back))
            assert gradient.dtype == dtype
            assert np.isfinite(gradient).all(), name
            assert np.any(gradient[:, 0] != 0), name
            assert np.all(gradient[:, [1, 3]] == 0), name
            if name not in ("params", "predict", "uncentered_tss", "centered_tss", "ess"):
                assert np.abs(gradient[2:, 2]).max() < 1e-11, name


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [pytest.param("f4", marks=SLOW), "f8"])
def test_derivatives_of_every_result_are_those_of_the_textbook(rng, dtype):
    x, y = rng.normal(size=N), rng.normal(1, 1, size=N)
    x, y = (a.astype(dtype).astype("f8") for a in (x, y))

    def results(x, y):
        found = fit(x, y)
        return jnp.concatenate([jnp.ravel(RESULTS[name](found)) for name in by_hand(x, y)])

    @jax.jit
    def pulled(x, y, back):
        return jax.vjp(results, x, y)[1](back)

    with jax.enable_x64(True):
        expected = jax.jit(jax.jacrev(by_hand, (0, 1)))(x, y)
        values = jnp.asarray(x, dtype), jnp.asarray(y, dtype)
        size = jax.eval_shape(results, *values).size
        ours = [pulled(*values, back) for back in np.eye(size, dtype=dtype)]
        for argument in (0, 1):
            rows = [row[argument] for row in ours]
            assert all(row.dtype == dtype for row in rows)
            for name in by_hand(x, y):
                value = expected[name][argument]
                found = np.reshape([rows.pop(0) for _ in range(value.size // N)], value.shape)
                size = np.abs(value).max() + 1
                np.testing.assert_allclose(
                    found,
                    value,
                    rtol=2e-4 if dtype == "f4" else 1e-9,
                    atol=size * (2e-5 if dtype == "f4" else 1e-10),
                    err_msg=name,
                )
            assert not rows


@pytest.mark.slow
def test_p_values_have_the_derivative_of_their_density(rng):
    x, y = rng.normal(size=N), rng.normal(size=N)
    with jax.enable_x64(True):
        found = fit(x, y)
        d_t, d_p = jax.jit(jax.jacrev(lambda y: (fit(x, y).tvalues, fit(x, y).pvalues)))(y)
        df = N - 2
        with mpmath.workdps(30):
            density = [
                float(
                    mpmath.gamma((df + 1) / 2)
                    / (mpmath.sqrt(df * mpmath.pi) * mpmath.gamma(df / 2))
                    * (1 + mpmath.mpf(float(t)) ** 2 / df) ** (-(df + 1) / 2)
                )
                for t in found.tvalues
            ]
    slope = -2 * np.sign(found.tvalues) * np.array(density)
    np.testing.assert_allclose(d_p, slope[:, None] * np.asarray(d_t), rtol=1e-9)


# Numbers that are traced, whatever they are.


@pytest.mark.slow
@pytest.mark.parametrize(
    ("closed_over", "block_size"),
    [
        (False, 3),
        *(pytest.param(*case, marks=SLOW) for case in ((True, "auto"), (True, 3), (False, "auto"))),
    ],
)
def test_traced_numbers_of_a_cost_with_several_blocks(rng, block_size, closed_over):
    with jax.enable_x64(True):
        x, y = jnp.asarray(rng.normal(size=N)), jnp.asarray(rng.normal(size=(N, M)))

        def params(strength):
            def own(params, x, y, weights=None, *, ansatz):
                return ridge(params, x, y, weights, ansatz=ansatz, strength=strength)

            cost = own if closed_over else Partial(ridge, strength=strength)
            return fit(x, y, cost=cost, solver=DESCENT, block_size=block_size).params

        def expected(strength):
            return ridge_line(x[:, None], y, strength)

        def known(params):
            return jax.jit(
                lambda s: (params(s), jax.jacfwd(params)(s), jax.grad(lambda s: params(s)[1].sum())(s))
            )

        ours, theirs = known(params), known(expected)
        for strength in (0.3, 1.1):
            for a, b, rtol in zip(ours(strength), theirs(strength), (1e-9, 1e-7, 1e-7), strict=True):
                np.testing.assert_allclose(a, b, rtol=rtol)
        many = jnp.array([0.1, 0.5, 2.0])
        np.testing.assert_allclose(jax.vmap(params)(many), jax.vmap(expected)(many), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("block_size", ["auto", 3])
def test_a_traced_learning_rate_with_several_blocks(rng, block_size):
    x, y = rng.normal(size=N).astype("f4"), rng.normal(size=(N, M)).astype("f4")

    def params(rate):
        return fit(x, y, solver=GradientDescent(learning_rate=rate, steps=2000), block_size=block_size).params

    found, slope = jax.jit(lambda rate: (params(rate), jax.jacfwd(params)(rate)))(0.2)
    for ours in (found, jax.vmap(params)(jnp.array([0.1, 0.2]))[1]):
        np.testing.assert_allclose(ours, fit(x, y).params, rtol=1e-4, atol=1e-6)
    assert np.abs(slope).max() < 1e-3  # the turning point does not depend on the way to it


@pytest.mark.parametrize("options", [{}, {"cost": ridge}], ids=["least squares", "a cost"])
def test_a_diverged_descent_has_the_gradient_0(rng, options):
    x, y = rng.normal(size=N).astype("f4"), rng.normal(size=(N, M)).astype("f4")

    def total(y):
        found = fit(x, y, solver=GradientDescent(learning_rate=50.0, steps=500), **options)
        return jnp.nansum(found.params), found.status

    gradient, status = jax.jit(jax.grad(total, has_aux=True))(y)
    assert (status == 7).all()
    np.testing.assert_array_equal(gradient, np.zeros_like(y))


# Eager and compiled calls, and JAX's settings.


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    ("ansatz", "columns"),
    [
        (Line(), 1),
        pytest.param(Linear(), 2, marks=SLOW),
        pytest.param(Linear(), 6, marks=SLOW),
        pytest.param(Polynomial(4), 1, marks=SLOW),
    ],
    ids=str,
)
def test_compiled_results_are_the_eager_ones(rng, dtype, ansatz, columns):
    x = rng.normal(size=(N, columns) if ansatz.x_is_vector else N).astype(dtype)
    y = (rng.normal(size=(N, M)) + 3).astype(dtype)
    y[3, 2] = np.nan
    names = [n for n in NAMES if "pvalue" not in n]

    def results(x, y):
        found = fit(x, y, ansatz=ansatz, solver=ClosedForm(precision="fast"))
        return {name: getattr(found, name) for name in names}

    with jax.enable_x64(dtype == np.float64):
        eager, compiled = results(x, y), jax.jit(results)(x, y)
    for name in names:
        np.testing.assert_allclose(
            compiled[name], eager[name], rtol=1e-6 if dtype == "f4" else 1e-11, err_msg=name
        )


SETTINGS = {
    "strict dtype promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "no rank promotion": lambda: jax.numpy_rank_promotion("raise"),
    "leak checks": jax.checking_leaks,
    "NaN checks": lambda: jax.debug_nans(True),
    "no compilation": jax.disable_jit,
}


def of_a_line(x, y, setting):
    found, robust = fit(x, y), fit(x, y, cov_type="HC3")
    yield from (found.pvalues, found.fvalue, found.rsquared, found.conf_int(), robust.bse)
    yield found.predict(x[:3], "prediction").upper
    yield jax.grad(lambda y: fit(x, y).bse.sum())(jnp.asarray(y))
    if setting != "no compilation":
        yield jax.jit(lambda y: fit(x, y).pvalues)(y)
        yield jax.vmap(lambda y: fit(x, y).params, 1, 1)(jnp.asarray(y))


def of_others(x, y, setting):
    quick = GradientDescent(steps=3)
    X = np.random.default_rng(5).normal(size=(N, 5)).astype(x.dtype)
    yield fit(X, y, ansatz=Linear()).bse
    yield fit(x, y, weights=np.ones_like(y), ansatz=Polynomial(4)).llf
    yield fit(x, y, solver=quick).params
    yield fit(x, y, cost=ridge, solver=quick).params


@pytest.mark.slow
@pytest.mark.parametrize("paths", [of_a_line, of_others])
@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_jax_that_users_turn_on(rng, dtype, setting, paths):
    x, y = rng.normal(size=N).astype(dtype), rng.normal(size=(N, 2)).astype(dtype)
    with jax.enable_x64(dtype == np.float64):
        expected = [np.asarray(a) for a in paths(x, y, setting)]
        with SETTINGS[setting]():
            found = [np.asarray(a) for a in paths(x, y, setting)]
    for a, b in zip(found, expected, strict=False):
        np.testing.assert_allclose(a, b, rtol=1e-4 if dtype == "f4" else 1e-9)


# What is derived from params is as sure as they are.


@pytest.mark.slow
@pytest.mark.parametrize("distance", [1e-6, 1e-10])
def test_nearly_dependent_columns_keep_the_digits_of_all_results(rng, distance):
    a, e = rng.normal(size=N), rng.normal(size=N)
    X = np.stack([a, a + distance * e], axis=1)
    y = a + rng.normal(size=N)
    found = fit(X, y, ansatz=Linear())
    with mpmath.workdps(80):
        Z = mpmath.matrix([[1, *map(mpmath.mpf, row)] for row in X.tolist()])
        t = mpmath.matrix(y.tolist())
        inverse = (Z.T * Z) ** -1
        theta = inverse * (Z.T * t)
        r = t - Z * theta
        ssr = (r.T * r)[0]
        mean = sum(t) / N
        tss = sum((v - mean) ** 2 for v in t)
        scale = ssr / (N - 3)
        expected = {
            "params": list(theta),
            "bse": [mpmath.sqrt(scale * inverse[i, i]) for i in range(3)],
            "rsquared": [1 - ssr / tss],
            "ess": [tss - ssr],
            "fvalue": [(tss - ssr) / 2 / scale],
        }
        for name, values in expected.items():
            for ours, exact in zip(np.atleast_1d(getattr(found, name)), values, strict=True):
                assert abs(mpmath.mpf(float(ours)) / exact - 1) < 1e-11, name


def test_digits_are_a_bound_where_most_rows_are_gaps(rng):
    n, there = 4000, 40
    x = 1e5 + rng.random(n)
    y = rng.normal(size=(n, 30)) + 1e3
    for column in y.T:
        column[rng.permutation(n)[there:]] = np.nan
    found = fit(x, y, solver=ClosedForm(precision="fast"))
    for i in range(0, 30, 3):
        rows = ~np.isnan(y[:, i])
        with mpmath.workdps(60):
            Z = mpmath.matrix([[1, mpmath.mpf(v)] for v in x[rows].tolist()])
            exact = (Z.T * Z) ** -1 * (Z.T * mpmath.matrix(y[rows, i].tolist()))
            error = max(
                abs(mpmath.mpf(float(a)) / e - 1) for a, e in zip(found.params[:, i], exact, strict=True)
            )
        assert error < mpmath.mpf(10) ** -int(found.digits[i]), i
