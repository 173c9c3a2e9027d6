"""The result of a data set is the same to the last bit whatever stands beside it."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg import GradientDescent, Line, Linear, Polynomial, fit, residuals
from jaxreg.numerics.vectors import max_listed

N, M = 40, 600  # three tiles of moments
FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "digits")


@pytest.fixture(scope="module", params=["float32", pytest.param("float64", marks=pytest.mark.slow)])
def batch(request):
    rng = np.random.default_rng(7)
    x = rng.normal(1e3, 5, size=N).astype(request.param)
    y = rng.normal(1e3, 5, size=(N, M)).astype(request.param)
    y[rng.random((N, M)) < 0.2] = np.nan
    y[:, 5], y[3, 6], y[2:, 7] = np.nan, np.inf, np.nan
    return x, y, fit(x, y)


def assert_same(found, whole, columns):
    for name in FIELDS:
        expected = np.asarray(getattr(whole, name))[..., columns]
        np.testing.assert_array_equal(np.asarray(getattr(found, name)), expected, err_msg=name)


def test_alone(batch):
    x, y, whole = batch
    for i in (0, 5, 6, 7, 255, 256, 599):
        assert_same(fit(x, y[:, i]), whole, i)


@pytest.mark.parametrize("width", [3, 257])
def test_among_others(batch, width):
    x, y, whole = batch
    for start in (0, 255, M - width):
        columns = slice(start, start + width)
        assert_same(fit(x, y[:, columns]), whole, columns)


def test_in_another_order(batch):
    x, y, whole = batch
    order = np.random.default_rng(8).permutation(M)
    assert_same(fit(x, y[:, order]), whole, order)


@pytest.mark.parametrize("block_size", [3, 257, 599, 600, 10_000])
def test_at_any_block_size(batch, block_size):
    x, y, whole = batch
    columns = slice(0, 20) if block_size == 3 else slice(None)
    assert_same(fit(x, y[:, columns], block_size=block_size), whole, columns)


def test_on_a_grid_in_blocks(batch):
    x, y, whole = batch
    found = fit(x, y.reshape(N, 20, 30), block_size=257)
    assert found.params.shape == (2, 20, 30)
    np.testing.assert_array_equal(np.asarray(found.params).reshape(2, M), whole.params)


def test_own_x_and_weights_and_a_curve():
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(2, N, 6)).astype("f4")
    y[rng.random(y.shape) < 0.2] = np.nan
    w = rng.uniform(0.5, 2, size=(N, 6)).astype("f4")
    whole = fit(x, y, weights=w, ansatz=Polynomial(2))
    for i in (0, 5):
        assert_same(fit(x[:, i], y[:, i], weights=w[:, i], ansatz=Polynomial(2)), whole, i)
    blocks = fit(x, y, weights=w, ansatz=Polynomial(2), block_size=4)
    assert_same(blocks, whole, slice(None))


def test_descent():
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=N).astype("f4"), rng.normal(size=(N, 6)).astype("f4")
    solver = GradientDescent()
    whole = fit(x, y, solver=solver)
    assert_same(fit(x, y[:, 4], solver=solver), whole, 4)


def test_long_columns():
    """So many rows that a tile holds 16 columns only."""
    rng = np.random.default_rng(11)
    x, y = rng.normal(size=9001).astype("f4"), rng.normal(size=(9001, 20)).astype("f4")
    assert_same(fit(x, y[:, 17]), fit(x, y), 17)


def assert_same_however(fit_some, m, some, block_size=7):
    """Alone, among fewer, in reverse and in blocks; `fit_some(columns, **options)`."""
    whole = fit_some(slice(None))
    for i in some:
        assert_same(fit_some(i), whole, i)
    assert_same(fit_some(slice(m - 3, m)), whole, slice(m - 3, m))
    assert_same(fit_some(slice(None, None, -1)), whole, slice(None, None, -1))
    assert_same(fit_some(slice(None), block_size=block_size), whole, slice(None))
    return whole


def pseudo_huber(params, x, y, weights=None, *, ansatz):
    gap = jnp.isnan(y)
    e = residuals(params, x, jnp.where(gap, 0, y), ansatz=ansatz)
    w = jnp.where(gap, 0, 1 if weights is None else weights)
    return jnp.sum(w * (jnp.sqrt(1 + e**2) - 1)) / jnp.sum(w)


@pytest.mark.parametrize("own_x", [False, True], ids=["shared x", "own x"])
@pytest.mark.slow
def test_a_cost_of_the_users_own(dtype, own_x):
    rng = np.random.default_rng(12)
    x = rng.normal(size=(N, 20) if own_x else N).astype(dtype)
    y = rng.normal(size=(N, 20)).astype(dtype)
    y[rng.random(y.shape) < 0.2] = np.nan
    y[:, 2] = np.nan
    solver = GradientDescent(learning_rate=0.9, steps=100, tol=1e-4)

    def fit_some(columns, **options):
        own = x[:, columns] if own_x else x
        return fit(own, y[:, columns], cost=pseudo_huber, solver=solver, **options)

    assert_same_however(fit_some, 20, (0, 2, 19))


@pytest.mark.slow
def test_own_designs(dtype):
    rng = np.random.default_rng(13)
    x, y = rng.normal(size=(N, 3, 20)).astype(dtype), rng.normal(size=(N, 20)).astype(dtype)
    y[rng.random(y.shape) < 0.2] = np.nan
    x[3, 1, 4] = np.nan
    y[:, 2] = np.nan

    def fit_some(columns, **options):
        return fit(x[..., columns], y[:, columns], ansatz=Linear(), **options)

    assert_same_however(fit_some, 20, (0, 2, 4, 19))


@pytest.mark.slow
def test_more_columns_than_lists_hold(dtype):
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(N, 12)).astype(dtype), rng.normal(size=(N, 20)).astype(dtype)
    y[rng.random(y.shape) < 0.2] = np.nan
    assert x.shape[1] > max_listed()

    def fit_some(columns, **options):
        return fit(x, y[:, columns], ansatz=Linear(), **options)

    whole = assert_same_however(fit_some, 20, (0, 19))
    assert (whole.status == 0).all()


@pytest.mark.slow
def test_far_ones_among_near_ones(dtype):
    """In float32 the far ones are gathered twice, and the near ones beside them once."""
    rng = np.random.default_rng(15)
    x, y = rng.normal(size=(2, N, 20))
    x[:, ::5] = 1.6e9 + 1000 * np.arange(N)[:, None]
    y[:, 5:8] += 1e7
    x, y = x.astype(dtype), y.astype(dtype)
    y[rng.random(y.shape) < 0.2] = np.nan

    def fit_some(columns, **options):
        return fit(x[:, columns], y[:, columns], **options)

    assert_same_however(fit_some, 20, (0, 1, 5, 6, 19))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.slow
def test_a_constant_and_a_perfect_fit_among_noisy_ones(dtype, shared):
    rng = np.random.default_rng(16)
    x = rng.normal(1e3, 1, size=N if shared else (N, 20)).astype(dtype)
    y = rng.normal(size=(N, 20)).astype(dtype)
    line = 3 * (x.reshape(N, -1)[:, :1] - 1000)
    y[:, [3]], y[:, [4]], y[:, 5], y[:, 6] = line, line + 1e-4 * y[:, [4]], 7.1, 0

    def fit_some(columns, **options):
        return fit(x if shared else x[:, columns], y[:, columns], **options)

    assert_same_however(fit_some, 20, (2, 3, 4, 5, 6))


@pytest.mark.parametrize("far", [0, 1e5])
@pytest.mark.parametrize("ansatz", [Line(), Polynomial(2), Linear()], ids=repr)
@pytest.mark.slow
def test_an_x_is_the_same_shared_and_own(dtype, ansatz, far):
    rng = np.random.default_rng(17)
    x = (far + rng.normal(size=(N, 2) if ansatz.x_is_vector else N)).astype(dtype)
    y = rng.normal(size=(N, 20)).astype(dtype)
    y[rng.random(y.shape) < 0.2] = np.nan
    own = np.repeat(x[..., None], 20, axis=-1)
    shared_fit, own_fit = (fit(a, y, ansatz=ansatz) for a in (x, own))
    assert_same(own_fit, shared_fit, slice(None))
    for i in (0, 19):
        alone = fit(x, y[:, i], ansatz=ansatz)
        assert_same(alone, shared_fit, i)
        assert_same(alone, own_fit, i)
