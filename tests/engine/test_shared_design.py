"""Many data sets on one design of several columns: those without gaps together, the others one by one."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm

from jaxreg import ClosedForm, Linear, Polynomial, Status, fit
from jaxreg.engine.rows import ROWS

SLOW = pytest.mark.slow
N, K, M = 150, 7, 40
FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "digits")


@pytest.fixture
def data(rng):
    """Columns of different sizes and offsets, far from orthogonal."""
    x = rng.normal(size=(N, K))
    x = (x + 0.8 * x[:, :1]) * 10.0 ** np.arange(K) / 1e3 + np.arange(K)
    y = (x - x.mean(axis=0)) / x.std(axis=0) @ rng.normal(size=(K, M)) + rng.normal(size=(N, M))
    return x.astype("f4"), (y + 20).astype("f4")


def assert_agrees(found, i, expected, rtol=3e-6):
    error = np.abs(np.asarray(found.params[:, i], "f8") - expected.params)
    assert (error < 1e-4 * expected.bse + rtol * np.abs(expected.params)).all()
    np.testing.assert_allclose(found.bse[:, i], expected.bse, rtol=rtol)
    np.testing.assert_allclose(found.ssr[i], (expected.wresid**2).sum(), rtol=rtol)
    assert found.nobs[i] == expected.nobs
    assert found.status[i] == Status.ok


def assert_same(found, whole, columns):
    for name in FIELDS:
        expected = np.asarray(getattr(whole, name))[..., columns]
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), expected, err_msg=name)


@pytest.mark.parametrize("intercept", [True, pytest.param(False, marks=SLOW)])
def test_agrees_with_statsmodels(data, intercept, statsmodels):
    x, y = data
    design = np.column_stack([np.ones(N), x]) if intercept else x
    found = fit(x, y, ansatz=Linear(intercept=intercept))
    for i in range(0, M, 7):
        assert_agrees(found, i, statsmodels(design, y[:, i]))


@pytest.mark.slow
def test_shared_weights_and_rows_that_are_not_there(data, statsmodels, rng):
    x, y = data
    w = rng.uniform(0.1, 4, size=N).astype("f4")
    w[3], x[5, 2] = 0, np.nan
    y[3], y[5] = np.nan, np.nan
    found = fit(x, y, weights=w, ansatz=Linear())
    for i in range(0, M, 7):
        assert_agrees(found, i, statsmodels(np.column_stack([np.ones(N), x]), y[:, i], w))


@pytest.mark.slow
def test_a_polynomial(statsmodels, rng):
    x = np.linspace(-1, 1, N).astype("f4")
    y = (np.sin(5 * x)[:, None] + 0.1 * rng.normal(size=(N, M))).astype("f4")
    found = fit(x, y, ansatz=Polynomial(6))
    for i in range(0, M, 13):
        assert_agrees(found, i, statsmodels(np.vander(x.astype("f8"), 7, increasing=True), y[:, i]))


@pytest.mark.slow
@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
def test_little_that_is_left_unexplained_keeps_its_digits(data, noise, statsmodels, rng):
    x, _ = data
    y = (x / x.std(axis=0) @ rng.normal(size=(K, M)) + noise * rng.normal(size=(N, M))).astype("f4")
    found = fit(x, y, ansatz=Linear())
    for i in range(0, M, 7):
        assert_agrees(found, i, statsmodels(np.column_stack([np.ones(N), x]), y[:, i]), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("gaps", [False, True])
def test_more_rows_than_one_product_takes(gaps, statsmodels, rng):
    n = 2 * ROWS["cpu"].multiplied + 77
    x = rng.normal(size=(n, K)).astype("f4")
    y = (x @ rng.normal(size=(K, M)) + rng.normal(size=(n, M))).astype("f4")
    if gaps:
        y[rng.random(y.shape) < 0.1] = np.nan
    found = fit(x, y, ansatz=Linear())
    for i in range(0, M, 13):
        assert_agrees(found, i, statsmodels(np.column_stack([np.ones(n), x]), y[:, i]))


def test_gaps_of_each_column(data, statsmodels, rng):
    x, y = data
    y[rng.random((N, M)) < 0.2] = np.nan
    found = fit(x, y, ansatz=Linear())
    for i in range(0, M, 7):
        assert_agrees(found, i, statsmodels(np.column_stack([np.ones(N), x]), y[:, i]))


@pytest.mark.slow
def test_weights_of_each_column(data, statsmodels, rng):
    x, y = data
    w = rng.uniform(0.1, 4, size=(N, M)).astype("f4")
    found = fit(x, y, weights=w, ansatz=Linear())
    for i in range(0, M, 7):
        assert_agrees(found, i, statsmodels(np.column_stack([np.ones(N), x]), y[:, i], w[:, i]))


@pytest.mark.slow
def test_the_last_bits_do_not_depend_on_neighbors(data):
    """Among complete ones, among gaps, among what fails, alone, and in a batch of several strips."""
    x, y = data
    found = fit(x, y, ansatz=Linear())
    for i in (0, 11, M - 1):
        assert_same(fit(x, y[:, i], ansatz=Linear()), found, i)
    harmed = y.copy()
    harmed[4, 0], harmed[5, 1], harmed[:, 2], harmed[:, 3] = np.nan, np.inf, np.nan, 20
    assert_same(fit(x, harmed, ansatz=Linear())[4:], found, slice(4, None))
    many = np.tile(y, (1, 120))
    several = fit(x, many, ansatz=Linear())
    assert_same(several, found, np.arange(many.shape[1]) % M)
    assert_same(fit(x, many, ansatz=Linear(), block_size=1700), found, np.arange(many.shape[1]) % M)
    assert_same(jax.jit(lambda x, y: fit(x, y, ansatz=Linear()))(x, y), found, slice(None))


@pytest.mark.slow
def test_bad_data_sets(data):
    x, y = data
    y[4, 0], y[5, 1], y[:, 2], y[:, 3], y[3:, 4] = np.nan, np.inf, np.nan, 20, np.nan
    found = fit(x, y, ansatz=Linear())
    ends = ["ok", "invalid_data", "no_observations", "ok", "too_few_observations", "ok"]
    assert [Status(int(code)).name for code in found.status[:6]] == ends
    assert np.isnan(found.params[:, [1, 2, 4]]).all()
    assert found.params[0, 3] == 20
    assert (found.params[1:, 3] == 0).all()
    assert found.ssr[3] == 0
    assert found.nobs[np.array([0, 2, 3, 4, 5])].tolist() == [N - 1, 0, N, 3, N]


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_x_spoils_those_that_see_it(data, value):
    x, y = data
    x[7, 3] = value
    y[7, 0] = np.nan
    found = fit(x, y, ansatz=Linear())
    assert found.status[0] == Status.ok
    assert (np.asarray(found.status[1:]) == Status.invalid_data).all()


@pytest.mark.slow
def test_negative_weights_are_invalid(data):
    x, y = data
    w = np.ones(N, "f4")
    w[7] = -1
    assert (np.asarray(fit(x, y, weights=w, ansatz=Linear()).status) == Status.invalid_data).all()


@pytest.mark.slow
def test_columns_that_depend_on_each_other(data):
    x, y = data
    x[:, 3] = 2 * x[:, 5]
    assert (np.asarray(fit(x, y, ansatz=Linear()).status) == Status.rank_deficient).all()


def slopes_in_any_arithmetic(x, y):
    """Σ of the slopes of three data sets; complex steps differentiate it."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    unit = x.real.std(axis=0)
    x = x / unit
    return (np.linalg.solve(x.T @ x, x.T @ y[:, :3]) / unit[:, None]).sum()


@pytest.mark.slow
def test_derivatives(data):
    """Against complex steps, which subtract nothing and so are exact to the last bits of float64."""
    x, y = data

    def slopes(x, y):
        return fit(x, y, ansatz=Linear()).params[1:, :3].sum()

    found = jax.jit(jax.grad(slopes, argnums=(0, 1)))(x, y)
    arguments = x.astype(complex), y.astype(complex)
    for argument, index in ((0, (3, 0)), (0, (90, 6)), (1, (17, 2)), (1, (0, 0))):
        arguments[argument][index] += 1e-30j
        exact = slopes_in_any_arithmetic(*arguments).imag / 1e-30
        arguments[argument][index] -= 1e-30j
        np.testing.assert_allclose(found[argument][index], exact, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1e-30, 1e-25, 1e-18, 1e-17, 1e17, 1e25])
def test_the_size_of_y_costs_no_digits(data, size):
    x, y = data
    size = np.float32(2.0 ** np.round(np.log2(size)))
    expected, found = fit(x, y, ansatz=Linear()), fit(x, size * y, ansatz=Linear())
    np.testing.assert_allclose(found.params / size, expected.params, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.bse / size, expected.bse, rtol=1e-5)


@pytest.mark.slow
def test_forward_derivatives_and_vmap(data):
    x, y = data
    v = jnp.asarray(y[:, 0])
    design = np.column_stack([np.ones(N), x]).astype("f8")
    hat = np.linalg.pinv(design)
    jacobian = jax.jacfwd(lambda v: fit(x, v, ansatz=Linear()).params)(v)
    size = np.abs(hat).max(axis=1, keepdims=True)
    np.testing.assert_allclose(np.asarray(jacobian) / size, hat / size, atol=1e-4)
    hessian = jax.hessian(lambda v: fit(x, v, ansatz=Linear()).ssr)(v)
    np.testing.assert_allclose(hessian, 2 * (np.eye(N) - design @ hat), atol=1e-4)
    mapped = jax.vmap(lambda v: fit(x, v, ansatz=Linear()).params, in_axes=1, out_axes=1)(y[:, :5])
    np.testing.assert_allclose(mapped, fit(x, y[:, :5], ansatz=Linear()).params, rtol=1e-5, atol=1e-9)


@pytest.mark.slow_in("float64")
@pytest.mark.parametrize(
    ("intercept", "weighted"),
    [
        (True, False),
        *(pytest.param(*case, marks=SLOW) for case in ((True, True), (False, False), (False, True))),
    ],
)
def test_a_complete_data_set_has_its_bits_whatever_its_neighbors_lack(rng, dtype, intercept, weighted):
    """Complete columns take one matrix product; those with gaps sums of their own."""
    X, y = rng.normal(size=(60, 12)).astype(dtype), rng.normal(size=(60, 21)).astype(dtype)
    weights = rng.uniform(0.5, 2, 60).astype(dtype) if weighted else None
    gappy = y.copy()
    gappy[4, ::3], gappy[:, 7] = np.nan, np.nan
    fitted = partial(fit, X, ansatz=Linear(intercept=intercept), weights=weights)
    whole, mixed, alone = fitted(y), fitted(gappy), fitted(y[:, 1])
    complete = np.isfinite(gappy).all(axis=0)
    for name in ("params", "bse", "rsquared", "llf", "digits"):
        a, b = np.asarray(getattr(whole, name)), np.asarray(getattr(mixed, name))
        np.testing.assert_array_equal(a[..., complete], b[..., complete], err_msg=name)
        np.testing.assert_array_equal(a[..., 1], getattr(alone, name), err_msg=name)
    design = sm.add_constant(X.astype(float)) if intercept else X.astype(float)
    for j in (0, 1, 3, 20):
        there = np.isfinite(gappy[:, j])
        w = np.ones(60) if weights is None else weights.astype(float)
        want = sm.WLS(gappy[there, j].astype(float), design[there], w[there]).fit()
        relative, absolute = (1e-5, 1e-6) if dtype == np.float32 else (1e-11, 1e-12)
        np.testing.assert_allclose(mixed.params[:, j], want.params, rtol=relative, atol=absolute)
        np.testing.assert_allclose(mixed.bse[:, j], want.bse, rtol=relative, atol=absolute)
        np.testing.assert_allclose(mixed.llf[j], want.llf, rtol=relative, atol=absolute)


@pytest.mark.slow
def test_no_block_and_no_gap_elsewhere_changes_the_bits_of_a_complete_data_set(rng):
    """Strips without a complete data set, one in the middle of such strips, blocks of any size."""
    X, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 4500))
    gappy = y.copy()
    gappy[3, :2100], gappy[5, 2200:4400] = np.nan, np.nan
    complete = np.isfinite(gappy).all(axis=0)
    fitted = partial(fit, X, ansatz=Linear(), solver=ClosedForm(precision="fast"))
    whole = fitted(y)
    for found in (fitted(gappy), fitted(gappy, block_size=1000), fitted(y, block_size=700)):
        for name in ("params", "bse", "rsquared", "digits"):
            same = complete if found.nobs.min() < 60 else slice(None)
            a, b = np.asarray(getattr(whole, name)), np.asarray(getattr(found, name))
            np.testing.assert_array_equal(a[..., same], b[..., same], err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 40, 150])
def test_what_fills_up_a_product_does_not_overflow(rng, n):
    """y whose squares overflow but for what is taken out of them."""
    X, y = rng.normal(size=(n, 7)), np.full((n, 3), 1e160)
    y[1, 2] = np.nan
    for found in (
        fit(X, y, ansatz=Linear(), solver=ClosedForm(precision="fast")),
        jax.jit(lambda: fit(X, y, ansatz=Linear()))(),
    ):
        np.testing.assert_array_equal(found.status, 0)
        np.testing.assert_allclose(found.params[0], 1e160, rtol=1e-14)
