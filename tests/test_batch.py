"""The result of a data set is the same to the last bit whatever stands beside it."""

import numpy as np
import pytest

from jaxreg import GradientDescent, Polynomial, fit

N, M = 40, 600  # three tiles of moments
FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "coefs")


@pytest.fixture(scope="module", params=["float32", "float64"])
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
