from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize, stats

from jaxreg import (
    GradientDescent,
    Linear,
    Polynomial,
    Status,
    datasets,
    fit,
    mean_squared_error,
    residuals,
)

N, M = 40, 6
ADAM = optax.adam(optax.cosine_decay_schedule(0.05, 3000))  # at one rate it circles the minimum


@pytest.fixture
def data(rng, dtype):
    """x, y (N, M) with gaps, weights (N, M) with zeros."""
    x = rng.uniform(-1, 3, size=N)
    y = 2 - 3 * x[:, None] + rng.normal(size=(N, M))
    y[rng.random((N, M)) < 0.2] = np.nan
    w = rng.uniform(0.5, 2, size=(N, M))
    w[rng.random((N, M)) < 0.1] = 0
    return x.astype(dtype), y.astype(dtype), w.astype(dtype)


def assert_agrees(found, i, expected, tol):
    """Column i of a fit with a result of statsmodels."""
    np.testing.assert_allclose(found.params[:, i], expected.params, rtol=tol, atol=tol)
    np.testing.assert_allclose(found.bse[:, i], expected.bse, rtol=tol)
    np.testing.assert_allclose(found.ssr[i], expected.ssr, rtol=tol)
    assert (found.nobs[i], found.df_resid[i]) == (expected.nobs, expected.df_resid)
    assert found.status[i] == Status.ok


# --- against other libraries ---------------------------------------------------------------------


def test_a_real_grid_is_linregress_cell_by_cell(dtype, tol):
    """Equation 2: x is a column, and y n rows of any number of columns."""
    sst = datasets.pacific_sst().sst.values.astype(dtype)
    year = np.arange(1963, 2013)
    found = fit(year, sst)
    assert found.params.shape == (2, 18, 30)
    for cell in np.ndindex(18, 30):
        y = sst[(slice(None), *cell)].astype("f8")
        at = (slice(None), *cell)
        if np.isnan(y).all():
            assert found.status[cell] == Status.no_observations
            continue
        expected = stats.linregress(year, y)
        errors = expected.intercept_stderr, expected.stderr
        np.testing.assert_allclose(
            found.params[at], [expected.intercept, expected.slope], rtol=tol, atol=tol * errors[1]
        )
        np.testing.assert_allclose(found.bse[at], errors, rtol=tol)
        assert found.status[cell] == Status.ok


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("weighting", ["none", "own", "shared", "sigma"])
def test_gaps_and_weights_are_those_of_statsmodels(data, tol, statsmodels, weighting):
    x, y, own = data
    shared = own.max(axis=1)
    w = {"none": None, "own": own, "shared": shared, "sigma": shared}[weighting]
    found = fit(x, y, sigma=1 / np.sqrt(shared)) if weighting == "sigma" else fit(x, y, weights=w)
    for i in range(M):
        column = w if w is None or w.ndim == 1 else w[:, i]
        design = np.stack([np.ones(N), x], axis=1)
        assert_agrees(found, i, statsmodels(design, y[:, i], column), tol)


def test_own_x_is_as_many_fits(data, rng, tol, statsmodels):
    _, y, _ = data
    x = rng.normal(size=(N, M)).astype(y.dtype)
    x[rng.random((N, M)) < 0.1] = np.nan
    found = fit(x, y)
    for i in range(M):
        design = np.stack([np.ones(N), x[:, i]], axis=1)
        assert_agrees(found, i, statsmodels(design, y[:, i]), tol)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    "ansatz", [Polynomial(3), Linear(), Linear(intercept=False)], ids=["cubic", "linear", "through 0"]
)
def test_other_ansaetze_are_those_of_statsmodels(data, rng, tol, statsmodels, ansatz):
    x, y, _ = data
    if ansatz.x_is_vector:
        x = rng.normal(size=(N, 2)).astype(x.dtype)
    found = fit(x, y, ansatz=ansatz)
    design = {
        Polynomial(3): lambda: np.vander(x.astype("f8"), 4, increasing=True),
        Linear(): lambda: np.column_stack([np.ones(N), x]),
        Linear(intercept=False): lambda: x,
    }[ansatz]()
    for i in range(M):
        assert_agrees(found, i, statsmodels(design, y[:, i]), tol)


def test_unix_time_in_float32_costs_no_digits(rng, tol, dtype):
    """Exact arithmetic on the stored numbers is the oracle; float32 stores 1.6e9 in steps of 128."""
    x = (1.6e9 + 1000 * np.arange(N)).astype(dtype)
    trends = np.linspace(-1e-3, 1e-3, M)
    y = (1e4 + trends * (x[:, None].astype("f8") - 1.6e9) + rng.normal(size=(N, M))).astype(dtype)
    batch, alone = fit(x, y), fit(x, y[:, 2])
    t = [Fraction(float(v)) for v in x]
    t_mean = sum(t) / N
    spread = sum((v - t_mean) ** 2 for v in t)
    slopes = [
        float(sum((a - t_mean) * Fraction(float(b)) for a, b in zip(t, y[:, i], strict=True)) / spread)
        for i in range(M)
    ]
    np.testing.assert_allclose(batch.params[1], slopes, rtol=tol)
    np.testing.assert_allclose(alone.params[1], slopes[2], rtol=tol)
    middle = float(t_mean)
    expected = y.mean(axis=0, dtype="f8") + np.array(slopes) * (float(dtype.type(middle)) - middle)
    np.testing.assert_allclose(batch.predict(dtype.type(middle)), expected, rtol=0.1 * tol)


# --- shapes and dtypes ---------------------------------------------------------------------------


def test_n_by_m_is_a_loop_over_columns_and_a_grid_is_n_by_m(data):
    x, y, _ = data
    many, grid = fit(x, y), fit(x, y.reshape(N, 2, 3))
    for i in range(M):
        one = fit(x, y[:, i])
        for name in ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status"):
            np.testing.assert_array_equal(getattr(many, name)[..., i], getattr(one, name))
            cell = getattr(grid, name)[(..., *divmod(i, 3))]
            np.testing.assert_array_equal(cell, getattr(one, name))


def test_dtype_in_is_dtype_out_and_no_setting_changes(data, dtype):
    before = jax.config.read("jax_enable_x64")
    found = fit(*data[:2])
    assert jax.config.read("jax_enable_x64") == before
    for leaf in (found.params, found.bse, found.cost, found.ssr, found.predict(data[0])):
        assert leaf.dtype == dtype
        assert isinstance(leaf, np.ndarray) == (dtype == np.float64 and not before)
    x, y, _ = data
    assert fit(x, jnp.asarray(y, "f4")).params.dtype == np.float32


def test_whole_numbers_are_data(rng):
    y = rng.integers(-5, 5, size=N)
    found = fit(np.arange(N), y)
    expected = stats.linregress(np.arange(N), y)
    np.testing.assert_allclose(found.params, [expected.intercept, expected.slope], rtol=1e-10)
    assert found.params.dtype == np.float64


def test_masked_elements_are_gaps(data):
    x, y, _ = data
    masked = np.ma.array(np.nan_to_num(y, nan=999), mask=np.isnan(y))
    np.testing.assert_array_equal(fit(x, masked).params, fit(x, y).params)


# --- bad data: the table of statuses -------------------------------------------------------------

nan, inf = np.nan, np.inf
ROWS = {  # what is planted in one column of x, y and weights, and what becomes of it
    "df_resid = 0": (lambda x, y, w: np.put(y, range(2, N), nan), Status.exact_fit),
    "too few": (lambda x, y, w: np.put(y, range(1, N), nan), Status.too_few_observations),
    "no y": (lambda x, y, w: y.fill(nan), Status.no_observations),
    "no x": (lambda x, y, w: x.fill(nan), Status.no_observations),
    "no weight": (lambda x, y, w: w.fill(0), Status.no_observations),
    "constant x": (lambda x, y, w: x.fill(0.1), Status.rank_deficient),
    "constant x far off": (lambda x, y, w: x.fill(1e7 + 3), Status.rank_deficient),
    "x +inf": (lambda x, y, w: x.put(3, inf), Status.invalid_data),
    "x -inf": (lambda x, y, w: x.put(3, -inf), Status.invalid_data),
    "y +inf": (lambda x, y, w: y.put(3, inf), Status.invalid_data),
    "y -inf": (lambda x, y, w: y.put(3, -inf), Status.invalid_data),
    "weight < 0": (lambda x, y, w: w.put(3, -1), Status.invalid_data),
    "weight NaN": (lambda x, y, w: w.put(3, nan), Status.invalid_data),
    "weight inf": (lambda x, y, w: w.put(3, inf), Status.invalid_data),
}


def own_columns(rng, dtype):
    x, y, w = rng.normal(size=(3, M, N)).astype(dtype)
    return x, y, np.abs(w) + dtype.type(0.1)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("row", ROWS)
def test_a_bad_data_set_gets_its_status_and_its_neighbors_keep_every_bit(rng, dtype, row):
    plant, status = ROWS[row]
    x, y, w = own_columns(rng, dtype)
    clean = fit(x.T, y.T, weights=w.T)
    plant(x[2], y[2], w[2])
    found = fit(x.T, y.T, weights=w.T)
    assert Status(int(found.status[2])) == status
    assert np.isnan(found.params[:, 2]).all() == (status != Status.exact_fit)
    assert np.isnan(found.bse[:, 2]).all()
    assert (found.nobs[2] == 0) == (status == Status.no_observations)
    others = [0, 1, 3, 4, 5]
    for name in ("params", "bse", "cost", "ssr", "nobs", "status"):
        a, b = (np.asarray(getattr(f, name))[..., others] for f in (clean, found))
        np.testing.assert_array_equal(a, b)
    assert (found.status[np.array(others)] == Status.ok).all()


def test_nan_weights_under_the_gaps_of_y_are_harmless_and_weight_0_is_a_gap(rng, dtype):
    x, y, w = own_columns(rng, dtype)
    y[1, 4] = nan
    expected = fit(x.T, y.T, weights=w.T)
    w[1, 4] = nan
    found = fit(x.T, y.T, weights=w.T)
    np.testing.assert_array_equal(found.params, expected.params)
    y[1, 4], w[1, 4] = 1e3, 0
    np.testing.assert_array_equal(fit(x.T, y.T, weights=w.T).params, expected.params)


@pytest.mark.slow
def test_columns_that_depend_on_each_other_are_rank_deficient(rng, dtype):
    x = rng.normal(size=(N, 2, 3)).astype(dtype)
    x[:, 1, 1] = 2 * x[:, 0, 1]
    found = fit(x, rng.normal(size=(N, 3)).astype(dtype), ansatz=Linear())
    np.testing.assert_array_equal(found.status, [Status.ok, Status.rank_deficient, Status.ok])
    np.testing.assert_array_equal(np.isnan(found.params).any(axis=0), [False, True, False])


@pytest.mark.slow
def test_nan_policy(data):
    x, y, _ = data
    y[:, 0] = 1 - x
    found = fit(x, y, nan_policy="propagate")
    has_nan = np.isnan(y).any(axis=0)
    np.testing.assert_array_equal(found.status == Status.invalid_data, has_nan)
    omitted = fit(x, y)
    np.testing.assert_array_equal(found.params[:, 0], omitted.params[:, 0])
    assert (omitted.status == Status.ok).all()
    with pytest.raises(ValueError, match="y has NaN"):
        fit(x, y, nan_policy="raise")


# --- gradient descent ----------------------------------------------------------------------------


@pytest.mark.parametrize("adam", [False, True], ids=["sgd", "adam"])
def test_descent_in_raw_units_reaches_linregress(data, dtype, adam):
    _, y, _ = data
    year = np.arange(1960, 2000)
    solver = GradientDescent(ADAM, steps=3000) if adam else GradientDescent()
    found = fit(year, y, solver=solver)
    # in standard errors
    tol = 1e-3 if adam else {"float32": 1e-4, "float64": 1e-10}[dtype.name]
    for i in range(M):
        there = ~np.isnan(y[:, i])
        expected = stats.linregress(year[there], y[there, i].astype("f8"))
        errors = np.array([expected.intercept_stderr, expected.stderr])
        off = np.asarray(found.params[:, i]) - [expected.intercept, expected.slope]
        assert np.abs(off / errors).max() < tol
        np.testing.assert_allclose(found.bse[:, i], errors, rtol=1e-5)
    assert adam or (found.status == Status.ok).all()


@pytest.mark.slow
def test_too_few_steps_are_not_converged_and_too_large_ones_diverge(data):
    x, y, _ = data
    short = fit(x, y, solver=GradientDescent(steps=3))
    assert (short.status == Status.not_converged).all()
    assert np.isfinite(short.params).all()
    far = fit(x, y, solver=GradientDescent(learning_rate=3.0))
    assert (far.status == Status.diverged).all()
    assert np.isnan(far.params).all()
    assert np.isnan(far.bse).all()


@pytest.mark.slow
def test_one_column_short_of_its_tolerance_leaves_the_others_alone(rng, dtype):
    x = rng.normal(size=N)
    y = 0.2 * x[:, None] + rng.normal(size=(N, M))
    y[:, 1] = 5 * x + 0.1 * rng.normal(size=N)  # the one that has far to go
    solver = GradientDescent(steps=3, tol=0.9)
    found = fit(x.astype(dtype), y.astype(dtype), solver=solver)
    np.testing.assert_array_equal(found.status == Status.not_converged, np.arange(M) == 1)
    assert np.isfinite(found.params).all()
    y[:, 1] = 0
    others = np.arange(M) != 1
    again = fit(x.astype(dtype), y.astype(dtype), solver=solver)
    np.testing.assert_array_equal(found.params[:, others], again.params[:, others])


@pytest.mark.slow
def test_one_column_that_diverges_leaves_the_others_alone(rng, dtype):
    x = rng.normal(size=(N, 2, 3))
    y = rng.normal(size=(N, 3))
    solver = GradientDescent(learning_rate=0.7, steps=2000)
    clean = fit(x.astype(dtype), y.astype(dtype), ansatz=Linear(), solver=solver)
    x[:, 1, 1] = x[:, 0, 1] + 0.1 * x[:, 1, 1]  # correlated, so λmax ≈ 4 and 2/λmax < 0.7
    found = fit(x.astype(dtype), y.astype(dtype), ansatz=Linear(), solver=solver)
    np.testing.assert_array_equal(found.status, [Status.ok, Status.diverged, Status.ok])
    assert np.isnan(found.params[:, 1]).all()
    np.testing.assert_array_equal(found.params[:, [0, 2]], clean.params[:, [0, 2]])


def pseudo_huber(params, x, y, weights=None, *, ansatz):
    """A cost that grows linearly far out."""
    e = residuals(params, x, jnp.where(jnp.isnan(y), 0, y), ansatz=ansatz)
    return jnp.nanmean(jnp.where(jnp.isnan(y), jnp.nan, jnp.sqrt(1 + e**2) - 1))


@pytest.mark.slow_in("float64")
def test_a_cost_of_the_users_own_is_minimized(data, dtype):
    x, y, _ = data
    y[5] += 20
    found = fit(x, y, cost=pseudo_huber, solver=GradientDescent(learning_rate=1.0, steps=3000))
    for i in range(M):
        there = ~np.isnan(y[:, i])
        a, b = x[there].astype("f8"), y[there, i].astype("f8")

        def S(theta, a=a, b=b):
            return np.mean(np.sqrt(1 + (b - theta[0] - theta[1] * a) ** 2) - 1)

        expected = optimize.minimize(S, np.zeros(2), method="Nelder-Mead", tol=1e-13)
        best = 1e-4 if dtype == "f4" else 1e-6
        np.testing.assert_allclose(found.params[:, i], expected.x, rtol=best)
        np.testing.assert_allclose(found.cost[i], expected.fun, rtol=1e-5)
    assert np.isnan(found.bse).all()  # those of least squares would be wrong


# --- what a Fit is -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    x = np.arange(N, dtype="f4")
    y = np.random.default_rng(1).normal(size=(N, 2, 3)).astype("f4") + 0.5 * x[:, None, None]
    y[:, 1, 2] = np.nan
    return fit(x, y)


def test_fit_is_a_pytree(found):
    doubled = jax.tree.map(lambda a: 2 * a, found)
    np.testing.assert_array_equal(doubled.params, 2 * found.params)
    through = jax.jit(lambda f: f)(found)
    np.testing.assert_array_equal(through.bse, found.bse)
    assert through.ansatz == found.ansatz
    slopes = jax.vmap(lambda f: f.params[1], in_axes=-1, out_axes=-1)
    single = jax.tree.map(lambda a: jnp.broadcast_to(a, (*a.shape[:-2], 2, 3)), found)
    np.testing.assert_array_equal(slopes(single), found.params[1])


def test_fit_is_indexed_by_data_set(found):
    assert len(found) == 2
    assert found.shape == (2, 3)
    assert found[0].shape == (3,)
    assert found[:, 1:].shape == (2, 2)
    assert found[1, 2].shape == ()
    assert [row.shape for row in found] == [(3,), (3,)]
    np.testing.assert_array_equal(found[0, 1].params, found.params[:, 0, 1])
    np.testing.assert_array_equal(found[0, 1].predict([1.0]), found.predict([1.0])[:, 0, 1])
    for act in (len, iter, lambda f: f[0]):
        with pytest.raises(TypeError, match="single data set"):
            next(act(found[0, 0]))


def test_predict_is_the_line(found, rng):
    intercept, slope = np.asarray(found.params, "f8")
    x = np.array([-3, 0.5, 100], "f4")
    expected = intercept + slope * x[:, None, None]
    np.testing.assert_allclose(found.predict(x), expected, rtol=1e-5)
    np.testing.assert_allclose(found.predict(0.5), intercept + slope * 0.5, rtol=1e-5)
    own = rng.uniform(10, 20, size=(4, 2, 3)).astype("f4")
    np.testing.assert_allclose(found.predict(own), intercept + slope * own, rtol=1e-5)
    with pytest.raises(ValueError, match=r"predict takes.*\(3, 5\)"):
        found.predict(np.ones((3, 5), "f4"))


def test_a_fit_reads_well(found):
    assert repr(found).startswith("Fit of Line() to 2 × 3 data sets: 5 ok, 1 no_observations\n")
    assert "slope     median  0.49" in repr(found)
    one = repr(found[0, 0])
    assert one.splitlines()[0] == "Fit of Line() to 40 observations, ok"
    assert "slope      0." in one
    assert "±" in one
    assert "no_observations" in repr(found[1, 2])
    described = found.describe().splitlines()
    assert described[0] == "5 ok: fitted."
    assert described[1].startswith("1 no_observations: not one valid observation")
    texts = []
    jax.eval_shape(lambda f: texts.append(repr(f)), found)
    assert texts == ["<Fit of Line() to data sets (2, 3), traced>"]


def test_names(found):
    assert found.names == ("intercept", "slope")


# --- fit inside transformations ------------------------------------------------------------------


def line_with_weights(x, y, w):
    """Slope and its standard error, in any arithmetic: complex steps differentiate it."""
    w_sum = w.sum()
    x_mean, y_mean = (w * x).sum() / w_sum, (w * y).sum() / w_sum
    spread = (w * (x - x_mean) ** 2).sum()
    slope = (w * (x - x_mean) * (y - y_mean)).sum() / spread
    ssr = (w * (y - y_mean - slope * (x - x_mean)) ** 2).sum()
    return slope, np.sqrt(ssr / (len(y) - 2) / spread)


@pytest.mark.parametrize("what", ["slope", "bse"])
def test_gradients_are_derivatives_and_0_where_nothing_is(rng, what):
    x, y = rng.normal(size=(2, 9, 4))
    w = rng.uniform(0.5, 2, size=(9, 4))
    y[2, 1], x[3, 1], w[4, 1], y[:, 2], x[:, 3] = nan, nan, 0, nan, 1.0

    def total(x, y, w):
        found = fit(x, y, weights=w)
        result = found.params[1] if what == "slope" else found.bse[1]
        return jnp.sum(jnp.where(found.status == Status.ok, result, 0))

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(*map(jnp.asarray, (x, y, w)))
    at = 0 if what == "slope" else 1
    expected = np.zeros((3, 9, 4))
    for column in (0, 1):
        there = [i for i in range(9) if column == 0 or i not in (2, 3, 4)]
        arguments = np.stack([x[there, column], y[there, column], w[there, column]])
        for k, (j, i) in enumerate(np.ndindex(3, len(there))):
            step = np.zeros(arguments.size, complex)
            step[k] = 1e-30j
            value = line_with_weights(*(arguments + step.reshape(arguments.shape)))[at]
            expected[j, there[i], column] = value.imag / 1e-30
    np.testing.assert_allclose(gradients, expected, rtol=1e-9, atol=1e-12)


def test_vmap_over_data_sets_is_the_batch(rng):
    x, y = rng.normal(size=N).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    mapped = jax.vmap(fit, in_axes=(None, 1))(x, jnp.asarray(y))
    expected = np.polyfit(x, y, 1)[::-1]
    np.testing.assert_allclose(mapped.params.T, expected, rtol=1e-5, atol=1e-5)
    assert (mapped.status == Status.ok).all()
    behind = jax.vmap(fit, in_axes=(None, 1), out_axes=-1)(x, jnp.asarray(y))
    assert behind.shape == (M,)
    assert repr(mapped).startswith("Fit(params=")
    with pytest.raises(ValueError, match="out_axes=-1"):
        mapped.predict(x)


def test_a_shared_x_is_seen_only_where_y_is(rng, dtype):
    """What stands in a gap of y, however large, changes no data set: shared and own x agree."""
    x = (1e5 + np.arange(N)).astype(dtype)
    y = (0.5 * np.arange(N)[:, None] + rng.normal(size=(N, M))).astype(dtype)
    y[-1] = np.nan
    expected = fit(x, y)
    for outlier in (1e8, 1e20, np.inf):
        x[-1] = outlier
        found = fit(x, y)
        np.testing.assert_array_equal(found.params, expected.params)
        np.testing.assert_array_equal(found.bse, expected.bse)
        assert (np.asarray(found.status) == Status.ok).all()


@pytest.mark.slow_in("float64")
def test_an_index_out_of_range_is_an_error(rng, dtype):
    x, y = rng.normal(size=N).astype(dtype), rng.normal(size=(N, M)).astype(dtype)
    found = fit(x, y)
    for index in (M, -M - 1):
        with pytest.raises(IndexError):
            found[index]
    np.testing.assert_array_equal(found[-1].params, np.asarray(found.params)[:, -1])
    np.testing.assert_array_equal(found[[2, 0]].bse, np.asarray(found.bse)[:, [2, 0]])
    odd = np.arange(M) % 2 == 1
    np.testing.assert_array_equal(found[odd].params, np.asarray(found.params)[:, odd])
    cube = fit(x, np.broadcast_to(y[:, :, None, None], (N, M, 2, 3)))
    a, b = np.array([0, 1]), np.array([2, 0])
    assert cube[a, :, b].params.shape == (2, 2, 2)
    np.testing.assert_array_equal(cube[a, :, b].params[1, :, 0], np.asarray(found.params)[1, :2])


def test_predict_with_vectors_wants_all_columns(rng):
    x, y = rng.normal(size=(N, 2)).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    found = fit(x, y, ansatz=Linear())
    expected = np.asarray(found.params[0]) + x.astype("f8") @ np.asarray(found.params[1:], "f8")
    np.testing.assert_allclose(found.predict(x), expected, rtol=1e-4, atol=1e-5)
    for wrong in (x[:, :1], np.ones((N, 3)), np.ones((N, 2, 1))):
        with pytest.raises(ValueError, match=r"predict takes x of shape \(n, 2\)"):
            found.predict(wrong)


def test_new_data_compile_nothing_anew(rng):
    traces = []

    def counted(params, x, y, weights=None, *, ansatz):
        traces.append(1)
        return mean_squared_error(params, x, y, weights, ansatz=ansatz)

    x, y = rng.normal(size=N).astype("f4"), rng.normal(size=(N, M)).astype("f4")
    fit(x, y, cost=counted, solver=GradientDescent(steps=5, learning_rate=0.1))
    once = len(traces)
    assert once > 0
    fit(2 * x, y - 1, cost=counted, solver=GradientDescent(steps=5, learning_rate=0.2))
    assert len(traces) == once
