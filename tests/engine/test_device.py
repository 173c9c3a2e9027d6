"""Eager calls whose data are computed on an accelerator, which the CPU stands for here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from nist import digits, regression
from scipy import optimize

from jaxreg import ClosedForm, GradientDescent, Linear, Status, closed_form, fit, moments
from jaxreg.data import source
from jaxreg.engine import device, memory

pytestmark = pytest.mark.either_mode
SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def _an_accelerator(monkeypatch):
    monkeypatch.setattr(source, "_default_platform", lambda: "gpu")
    monkeypatch.setattr(source, "is_on_host", lambda a: False)


class Columns:
    """Numbers that are read when they are sliced, and how many of them at once."""

    def __init__(self, a):
        self.a, self.shape, self.ndim, self.dtype, self.read = a, a.shape, a.ndim, a.dtype, []

    def __getitem__(self, index):
        piece = self.a[index]
        self.read.append(piece.shape[-1])
        return piece


def smooth(params, x, y, weights=None, *, ansatz):
    return jnp.mean(jnp.sqrt(1 + (y - ansatz.predict(params, x)) ** 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Norris", *(pytest.param(n, marks=SLOW) for n in ("Filip", "Longley"))])
def test_nist(name):
    r = regression(name, "float64")
    found = fit(r.x, r.y, ansatz=r.ansatz)
    assert digits(found.params, r.params) >= 13
    assert digits(found.bse, r.bse) >= 10


def test_what_plain_sums_lose_is_redone_and_nothing_else_changes(rng):
    x = np.repeat(np.linspace(0, 1, 25)[:, None], 300, axis=1)
    y = 1 + 2 * x + rng.normal(size=x.shape)
    plain = fit(x, y, solver=ClosedForm(precision="fast"))
    x[:, [3, 100, 299]] += 1e9
    found = fit(x, y)
    others = np.delete(np.arange(300), [3, 100, 299])
    np.testing.assert_array_equal(found.params[:, others], plain.params[:, others])
    for i in (3, 100, 299):
        design = sm.add_constant(x[:, i] - 1e9)
        np.testing.assert_allclose(found.params[1, i], sm.OLS(y[:, i], design).fit().params[1], rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("free", [1, *(pytest.param(n, marks=SLOW) for n in (50_000, 10**6))])
def test_double_double_of_some_at_a_time(rng, monkeypatch, free):
    monkeypatch.setattr(memory, "UNKNOWN_BYTES", free)
    x, y = rng.normal(size=(2, 20, 11))
    found = fit(x + 1e9, y, solver=ClosedForm(precision="certified"))
    slopes = [np.polyfit(x[:, i] + 1e9 - 1e9, y[:, i], 1)[0] for i in range(11)]
    np.testing.assert_allclose(found.params[1], slopes, rtol=1e-10)


@pytest.mark.slow
@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("cov_type", ["nonrobust", pytest.param("HC3", marks=SLOW)])
def test_a_shared_design_with_gaps_in_some(rng, cov_type, dtype, tol):
    X, y = rng.normal(size=(60, 8)).astype(dtype), rng.normal(size=(60, 20)).astype(dtype)
    y[7, 4] = y[9, 11] = np.nan
    found = fit(jnp.asarray(X) if dtype == np.float32 else X, y, ansatz=Linear(), cov_type=cov_type)
    for i in range(20):
        seen = np.isfinite(y[:, i])
        design, column = sm.add_constant(X[seen].astype(float)), y[seen, i].astype(float)
        of_statsmodels = sm.OLS(column, design).fit(cov_type=cov_type)
        np.testing.assert_allclose(found.params[:, i], of_statsmodels.params, rtol=tol, atol=tol)
        np.testing.assert_allclose(found.bse[:, i], of_statsmodels.bse, rtol=tol)


def test_files_are_read_block_by_block(rng):
    x, whole = np.linspace(0, 1, 20, dtype="f4"), rng.normal(size=(20, 5, 40)).astype("f4")
    whole[3, 2, 7] = np.inf
    y = Columns(whole)
    found = fit(x, y, block_size=40)
    assert y.read == [40] * 5
    assert found.status[2, 7] == Status.invalid_data
    flat = np.where(np.isfinite(whole), whole, 0).reshape(20, -1)
    slopes = np.polyfit(x.astype(float), flat.astype(float), 1)[0].reshape(5, 40)
    ok = np.asarray(found.status) == Status.ok
    assert ok.sum() == 199
    np.testing.assert_allclose(np.asarray(found.params[1])[ok], slopes[ok], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("block_size", [pytest.param(7, marks=SLOW), 64])
def test_blocks_do_not_change_a_bit(rng, block_size, dtype):
    x, y = rng.normal(size=(2, 30, 100)).astype(dtype)
    y[rng.random(y.shape) < 0.1] = np.nan
    whole, found = fit(x, y), fit(x, y, block_size=block_size)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(found), strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def test_moments(rng):
    x, y = rng.normal(size=(2, 30, 9)) + 1e6
    found = moments(x, y)
    right = [[1e6 + (a[:, i] - 1e6).mean() for i in range(9)] for a in (x, y)]
    np.testing.assert_allclose([found.gram[0, 1], found.cross[0]], right, rtol=1e-14)
    slopes = [np.polyfit(x[:, i] - 1e6, y[:, i] - 1e6, 1)[0] for i in range(9)]
    np.testing.assert_allclose(closed_form(found)[1], slopes, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.slow_in("float64")
@pytest.mark.parametrize("offset", [0, pytest.param(1000, marks=SLOW)])
def test_a_cost_of_the_user(rng, dtype, offset):
    """Far from 0 float32 data descend in float64, as on the CPU."""
    x = (rng.uniform(size=50) + offset).astype(dtype)
    y = (1 + 2 * (x[:, None] - offset) + rng.standard_t(2, size=(50, 4))).astype(dtype)
    y[:, :2] += 10 * offset
    found = fit(x, y, cost=smooth, solver=GradientDescent(steps=2000), block_size=3)
    np.testing.assert_array_equal(found.status, Status.ok)
    for i in range(4):
        of_x, of_y = x.astype(float) - offset, y[:, i].astype(float) - 10 * offset * (i < 2)

        def S(theta, of_x=of_x, of_y=of_y):
            return np.mean(np.sqrt(1 + (of_y - theta[0] - theta[1] * of_x) ** 2))

        right = optimize.minimize(S, np.zeros(2), method="BFGS", tol=1e-10).x
        np.testing.assert_allclose(found.params[1, i], right[1], atol=2e-5)


@pytest.mark.slow
def test_debug_nans_is_silent_on_healthy_data(rng):
    x, X, y = rng.normal(size=30), rng.normal(size=(30, 7)), rng.normal(size=(30, 4))
    with jax.debug_nans(True):
        slopes = fit(x, y, cost=smooth, solver=GradientDescent(steps=500)).params[1]
        y[3, 1] = np.nan
        found = fit(X, y, ansatz=Linear())
    assert np.isfinite(slopes).all()
    seen = np.isfinite(y[:, 1])
    np.testing.assert_allclose(found.bse[:, 1], sm.OLS(y[seen, 1], sm.add_constant(X[seen])).fit().bse)


@pytest.mark.parametrize("a", [np.arange(2**24, 2**24 + 20), jnp.arange(2**24, 2**24 + 20)])
def test_integers_that_float32_rounds_are_an_error(a):
    with pytest.raises(ValueError, match="which would round x by up to"):
        fit(a[:, None], np.arange(20, dtype="f4"), ansatz=Linear(intercept=False))


@pytest.mark.parametrize(
    "options",
    [
        {"sigma": np.full((40, 60), 2, "f4")},
        {"nan_policy": "raise"},
        {"nan_policy": "propagate", "weights": jnp.ones((40, 60))},
        {"cov_type": "HC1", "block_size": 17},
    ],
)
def test_data_on_the_device_stay_there(rng, monkeypatch, options):
    x, y = rng.normal(size=(2, 40, 60)).astype("f4")
    x[:, 7] += 1e5  # is recomputed
    slopes = [np.polyfit(*a.astype(float), 1)[0] for a in np.moveaxis(np.stack([x, y]), 2, 0)]
    x, y, to_numpy = jnp.asarray(x), jnp.asarray(y), np.asarray

    def of_few(a, *args, **kwargs):
        assert not isinstance(a, jax.Array) or a.size < 40
        return to_numpy(a, *args, **kwargs)

    monkeypatch.setattr(np, "asarray", of_few)
    found = fit(x, y, **options)
    monkeypatch.undo()
    np.testing.assert_allclose(found.params[1], slopes, rtol=1e-3, atol=1e-6)
    assert found.digits.min() >= 6


class Device:
    """A device with so many bytes of memory."""

    def __init__(self, stats):
        self.memory_stats = lambda: stats


def test_a_block_is_as_large_as_the_free_memory_allows(rng, monkeypatch):
    assert memory.free_bytes(Device({"bytes_limit": 10**6, "bytes_in_use": 400_000})) == 600_000
    assert memory.free_bytes(Device(None)) == memory.UNKNOWN_BYTES  # a CPU does not tell it
    x, y = np.arange(20, dtype="f4"), rng.normal(size=(20, 1000)).astype("f4")
    read = Columns(y)
    monkeypatch.setattr(memory, "UNKNOWN_BYTES", 400_000)
    found = fit(x, read)
    assert len(read.read) == 5
    assert len(set(read.read)) == 1  # each length would compile a program
    assert 0.1 < 3 * read.read[0] * 20 * 4 / 400_000 < 0.8
    np.testing.assert_allclose(found.params[1], np.polyfit(x.astype(float), y.astype(float), 1)[0], atol=1e-6)
    read = Columns(y)
    monkeypatch.setattr(memory, "UNKNOWN_BYTES", 10**9)
    fit(x, read)
    assert read.read == [1000]


def test_a_device_without_memory_for_a_block_names_block_size(monkeypatch):
    def exhausted(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12 bytes.")

    monkeypatch.setattr(device, "_solve", exhausted)
    with pytest.raises(MemoryError, match=r"with 40 data sets of 1.6e-06 GB .*block_size=10"):
        fit(np.arange(10.0), np.ones((10, 40), "f4"))
