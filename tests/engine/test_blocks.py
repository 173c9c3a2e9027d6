"""Data that are read block by block, from wherever they are."""

import jax
import numpy as np
import pytest

from jaxreg import Linear, fit

pytestmark = pytest.mark.slow

N, M = 12, 35
FIELDS = ("params", "bse", "cost", "ssr", "nobs", "df_resid", "status", "digits")


class OnDisk:
    """What a dataset of a file is like: it gives numbers when it is sliced, and not all at once."""

    def __init__(self, a, broken_from=None):
        self._a = a
        self.shape, self.ndim, self.dtype = a.shape, a.ndim, a.dtype
        self.broken_from = broken_from
        self.reads = []

    def __getitem__(self, index):
        assert isinstance(index, tuple)
        assert all(isinstance(i, slice) for i in index)
        columns = index[-1] if self.ndim == len(index) else index[1]
        self.reads.append(columns)
        if self.broken_from is not None and columns.stop > self.broken_from:
            raise OSError("unreadable")
        return self._a[index].copy()

    def __array__(self, *_, **__):
        raise AssertionError("read as a whole")

    def __len__(self):
        return self.shape[0]


def assert_same(found, expected):
    for name in FIELDS:
        a, b = np.asarray(getattr(found, name)), np.asarray(getattr(expected, name))
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=name)


def aligned(a, offset=0):
    """A copy that starts so many bytes behind a cache line."""
    memory = np.empty(a.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    copy = memory[start : start + a.nbytes].view(a.dtype).reshape(a.shape)
    copy[...] = a
    assert copy.ctypes.data % 64 == offset
    return copy


@pytest.fixture
def data(rng, dtype):
    x = rng.normal(size=N)
    y = 3 * x[:, None] + rng.normal(size=(N, M))
    y[rng.random((N, M)) < 0.2] = np.nan
    y[:, 4], y[3, 9] = np.nan, np.inf
    w = rng.uniform(0.5, 2, size=(N, M))
    own_x = rng.normal(1e3, 1, size=(N, M))
    return tuple(a.astype(dtype) for a in (x, y, w, own_x))


@pytest.mark.parametrize("block_size", [1, 8, 34, 35, 100, "auto"])
def test_a_file_is_its_numbers_in_memory(data, block_size):
    x, y, *_ = data
    assert_same(fit(x, OnDisk(y), block_size=block_size), fit(x, y))


@pytest.mark.parametrize("block_size", [8, 35, "auto"])
def test_own_x_and_weights_may_be_in_files(data, block_size):
    _, y, w, own_x = data
    expected = fit(own_x, y, weights=w)
    assert_same(fit(OnDisk(own_x), OnDisk(y), weights=OnDisk(w), block_size=block_size), expected)
    assert_same(fit(own_x, OnDisk(y), weights=w, block_size=block_size), expected)
    assert_same(fit(OnDisk(own_x), y, weights=OnDisk(w), block_size=block_size), expected)


@pytest.mark.parametrize("block_size", [3, 8, 35])
def test_a_grid_in_a_file_is_read_in_rows(data, block_size):
    _, y, w, own_x = data
    grids = [a.reshape(N, 7, 5) for a in (own_x, y, w)]
    x_file, y_file, w_file = map(OnDisk, grids)
    found = fit(x_file, y_file, weights=w_file, block_size=block_size)
    assert found.shape == (7, 5)
    assert_same(found, fit(grids[0], grids[1], weights=grids[2]))


def test_own_designs_may_be_in_a_file(data, rng):
    _, y, *_ = data
    x = rng.normal(size=(N, 2, M)).astype(y.dtype)
    found = fit(OnDisk(x), OnDisk(y), ansatz=Linear(), block_size=8)
    assert_same(found, fit(x, y, ansatz=Linear()))
    grid = fit(OnDisk(x.reshape(N, 2, 7, 5)), OnDisk(y.reshape(N, 7, 5)), ansatz=Linear(), block_size=8)
    np.testing.assert_array_equal(np.asarray(grid.params).reshape(3, M), fit(x, y, ansatz=Linear()).params)


def test_sigma_may_be_in_a_file(data):
    """Its unit is that of a block, a power of two, which rounds nothing."""
    x, y, w, _ = data
    sigma = w * (10.0 ** np.arange(M)).clip(max=1e4).astype(w.dtype)
    assert_same(fit(x, OnDisk(y), sigma=OnDisk(sigma), block_size=8), fit(x, y, sigma=sigma))


@pytest.mark.parametrize("nan_policy", ["propagate", "raise"])
def test_nan_policy_is_that_of_every_block(data, nan_policy):
    x, y, *_ = data
    if nan_policy == "raise":
        with pytest.raises(ValueError, match="y has NaN"):
            fit(x, OnDisk(y), nan_policy="raise", block_size=8)
        y = np.where(np.isnan(y), y.dtype.type(1), y)
    found = fit(x, OnDisk(y), nan_policy=nan_policy, block_size=8)
    assert_same(found, fit(x, y, nan_policy=nan_policy))


def test_a_file_of_other_numbers_is_cast_block_by_block(data):
    x, y, w, _ = data
    whole = np.nan_to_num(y, posinf=0).round().astype("i4")
    assert_same(fit(x, OnDisk(whole), block_size=8), fit(x, whole))
    other = "f8" if w.dtype == "f4" else "f4"
    weights = (w * 64).round().astype(other)
    found = fit(x, OnDisk(y), weights=OnDisk(weights), block_size=8)
    assert_same(found, fit(x, y, weights=weights))


@pytest.mark.parametrize("block_size", [8, 35, "auto"])
def test_a_memory_map_is_its_numbers_in_memory(data, tmp_path, block_size):
    x, y, w, own_x = data
    maps = []
    for name, a in {"x": own_x, "y": y, "w": w}.items():
        np.save(tmp_path / f"{name}.npy", a)
        maps.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
        assert isinstance(maps[-1], np.memmap)
    expected = fit(own_x, y, weights=w)
    assert_same(fit(maps[0], maps[1], weights=maps[2], block_size=block_size), expected)
    assert_same(fit(x, maps[1], block_size=block_size), fit(x, y))


def views(a):
    """The same numbers as they may lie in memory."""
    wide = np.zeros((a.shape[0], 2 * a.shape[1]), a.dtype)
    wide[:, ::2] = a
    reverse = a[::-1, ::-1].copy()
    read_only = a.copy()
    read_only.flags.writeable = False
    return {
        "aligned": aligned(a),
        "unaligned": aligned(a, offset=16),
        "every other column": wide[:, ::2],
        "transposed": a.T.copy().T,
        "reversed": reverse[::-1, ::-1],
        "read-only": read_only,
        "masked": np.ma.masked_invalid(np.where(np.isinf(a), np.nan, a)),
    }


@pytest.mark.parametrize("block_size", [8, 35])
@pytest.mark.parametrize("how", views(np.zeros((2, 2))))
def test_how_an_array_lies_in_memory_does_not_matter(data, how, block_size):
    _, y, w, own_x = data
    if how == "masked":
        y = np.where(np.isinf(y), np.nan, y).astype(y.dtype)
    expected = fit(own_x, y, weights=w)
    x_view, y_view, w_view = (views(a)[how] for a in (own_x, y, w))
    before = np.array(y_view)
    assert_same(fit(x_view, y_view, weights=w_view, block_size=block_size), expected)
    np.testing.assert_array_equal(np.array(y_view), before)


@pytest.mark.parametrize("switch", [False, True], ids=["32-bit JAX", "64-bit JAX"])
@pytest.mark.parametrize("block_size", [8, 35])
def test_float64_is_float64_in_every_block_whatever_the_switch(rng, switch, block_size):
    x, y = rng.normal(size=N), rng.normal(1e9, 1, size=(N, M))
    with jax.enable_x64(switch):
        found = fit(x, OnDisk(y), block_size=block_size)
        aligned_found = fit(x, aligned(y), block_size=block_size)
        before = jax.config.read("jax_enable_x64")
    assert before == switch
    assert np.asarray(found.params).dtype == np.float64
    expected = np.polyfit(x, y - 1e9, 1)[::-1] + np.array([[1e9], [0]])
    np.testing.assert_allclose(found.params[0], expected[0], rtol=1e-14)
    np.testing.assert_allclose(found.params[1], expected[1], rtol=1e-6)
    assert_same(aligned_found, found)


def test_jax_arrays_go_in_blocks(data):
    _, y, w, own_x = (a.astype("f4") for a in data)
    expected = fit(own_x, y, weights=w)
    arrays = [jax.numpy.asarray(a) for a in (own_x, y, w)]
    assert_same(fit(arrays[0], arrays[1], weights=arrays[2], block_size=8), expected)


@pytest.mark.parametrize("broken_from", [0, 20, M - 1])
def test_an_unreadable_block_is_an_error_and_stops_the_reading(data, broken_from):
    x, y, *_ = data
    broken = OnDisk(y, broken_from)
    with pytest.raises(OSError, match="unreadable"):
        fit(x, broken, block_size=1)
    assert len(broken.reads) <= broken_from + 4  # those under way, and no more
    assert_same(fit(x, OnDisk(y), block_size=8), fit(x, y))  # and nothing is left behind


def test_every_column_is_read_and_little_is_read_twice(data):
    x, y, *_ = data
    file = OnDisk(y)
    fit(x, file, block_size=8)
    read = np.zeros(M, int)
    for columns in file.reads:
        assert columns.stop - columns.start <= 8
        read[columns] += 1
    assert read.min() == 1
    assert read.sum() < M + 8  # the last block overlaps the one before


@pytest.mark.parametrize("in_place", [True, False])
def test_progress_is_a_bar_over_the_blocks(data, capsys, in_place):
    x, y, *_ = data
    fit(x, aligned(y) if in_place else OnDisk(y), block_size=8)
    assert capsys.readouterr().err == ""
    fit(x, aligned(y) if in_place else OnDisk(y), block_size=8, progress=True)
    captured = capsys.readouterr()
    assert "5/5" in captured.err
    assert "100%" in captured.err
    assert captured.out == ""
