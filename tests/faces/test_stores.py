"""`fit_to_zarr`: results equal those of `fit`, and interrupted runs continue to the same bits."""

import json
import signal
import subprocess
import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from filelock import FileLock

import jaxreg
import jaxreg.xarray as jx
from jaxreg.faces.xarray import identity, stores

pytestmark = pytest.mark.either_mode


@pytest.fixture
def y(tmp_path, rng, monkeypatch):
    """Eight blocks in a Zarr store."""
    values = rng.normal(size=(20, 8, 6)).astype("f4")
    values[rng.random(values.shape) < 0.1] = np.nan
    coords = {"time": xr.date_range("1950-01-01", periods=20, freq="YS"), "lat": np.arange(8.0)}
    array = xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", {"units": "K"})
    array.to_dataset().chunk({"time": -1, "lat": 2, "lon": 3}).to_zarr(tmp_path / "sst.zarr", zarr_format=2)
    monkeypatch.setattr(stores, "BLOCK_BYTES", 20 * 2 * 3 * 4)
    return xr.open_zarr(tmp_path / "sst.zarr").sst


def blocks_of(folder):
    files = folder.glob("blocks-*.jsonl")
    return [line for file in files for line in file.read_text().splitlines() if line]


def test_the_store_holds_what_fit_returns(y, tmp_path):
    weights = xr.ones_like(y.load()[:, :, 0], dtype="f4").rename("w") + np.arange(8, dtype="f4")
    for options in ({"alpha": 0.1, "per": "decade"}, {"weights": weights}):
        found = jx.fit_to_zarr(y, "time", tmp_path / "out.zarr", **options)
        assert found.params.chunks is not None
        xr.testing.assert_identical(found.load(), jx.fit(y.load(), "time", **options))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zarr", "sst.zarr"]


def test_coordinates_in_chunks_are_written(y, tmp_path):
    values = np.arange(48.0).reshape(8, 6)
    lazy = y.assign_coords(area=(("lat", "lon"), values)).chunk({"lat": 2, "lon": 3})
    assert lazy.area.chunks is not None
    found = jx.fit_to_zarr(lazy, "time", tmp_path / "out.zarr")
    np.testing.assert_array_equal(found.area, values)


def test_y_of_another_format(y, tmp_path):
    store = tmp_path / "sst3.zarr"
    y.load().drop_encoding().to_dataset().to_zarr(store, zarr_format=3, consolidated=False)
    lazy = xr.open_zarr(store, consolidated=False).sst
    found = jx.fit_to_zarr(lazy, "time", tmp_path / "out.zarr")
    xr.testing.assert_identical(found.load(), jx.fit(y.load(), "time"))


@pytest.mark.parametrize("written", [0, 3, 8])
def test_an_interrupted_run_continues(y, tmp_path, monkeypatch, written):
    path, partial = tmp_path / "out.zarr", tmp_path / "out.zarr.partial"
    record, left = stores.Resumable.record, iter(range(written))

    def interrupted(self, block, checksum):
        if next(left, None) is None:
            raise KeyboardInterrupt
        record(self, block, checksum)

    def finish(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(stores.Resumable, "record", interrupted)
        patch.setattr(stores.Resumable, "finish", finish)
        with pytest.raises((KeyboardInterrupt, OSError)):
            jx.fit_to_zarr(y, "time", path)
    assert not path.exists()
    assert len(blocks_of(partial)) == written
    if written == 3:  # the line of a fourth was cut off, and the results of the second are damaged
        with (partial / "blocks-0-of-1.jsonl").open("a") as file:
            file.write('\n[3, "0')
        block, _ = json.loads(blocks_of(partial)[1])
        region = stores.regions_of(y, {"lat": 2, "lon": 3})[block]
        unfinished = xr.open_zarr(partial / "out.zarr", consolidated=False)
        zeros = xr.zeros_like(unfinished[["nobs"]].isel(region).load())
        zeros.drop_vars(list(zeros.coords)).to_zarr(
            partial / "out.zarr", region=region, zarr_format=2, consolidated=False
        )

    recorded = []
    monkeypatch.setattr(
        stores.Resumable, "record", lambda *arguments: (recorded.append(1), record(*arguments))
    )
    found = jx.fit_to_zarr(y, "time", path).load()
    assert len(recorded) == {0: 8, 3: 6, 8: 0}[written]
    xr.testing.assert_identical(found, jx.fit(y.load(), "time"))
    assert not partial.exists()


def test_a_run_with_other_options_or_data_is_refused(y, tmp_path, monkeypatch):
    path = tmp_path / "out.zarr"
    with monkeypatch.context() as patch:
        patch.setattr(stores.Resumable, "finish", lambda *arguments: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jx.fit_to_zarr(y, "time", path, cov_type="HC1")
    with pytest.raises(ValueError, match="cov_type was HC1 and is HC3: remove it to begin anew"):
        jx.fit_to_zarr(y, "time", path, cov_type="HC3")
    later = y.assign_coords(time=y.time + np.timedelta64(1, "D"))
    with pytest.raises(ValueError, match=r"coordinate time was .* and is"):
        jx.fit_to_zarr(later, "time", path, cov_type="HC1")
    with pytest.raises(ValueError, match=r"coordinate lat was .* and is"):
        jx.fit_to_zarr(y.assign_coords(lat=y.lat + 1), "time", path, cov_type="HC1")
    with pytest.raises(ValueError, match=r"last block of y was .* and is"):
        jx.fit_to_zarr(y.where(y.lat < 7), "time", path, cov_type="HC1")
    y.to_netcdf(tmp_path / "sst.nc")
    file = xr.open_dataset(tmp_path / "sst.nc", chunks={"lat": 2, "lon": 3}).sst
    with pytest.raises(ValueError, match=r"source of y was unknown and is .*sst.nc \(\d+ bytes"):
        jx.fit_to_zarr(file, "time", path, cov_type="HC1")


def test_functions_and_groups_in_another_process(y):
    """A function has another address there, and groups are the same if all labels are."""

    def options(*labels):
        def loss(params, x, y, weights, *, ansatz):
            return jnp.mean((y - ansatz.predict(params, x)) ** 2)

        groups = np.repeat(labels, 20 // len(labels))
        return {"cost": loss, "cov_type": jaxreg.Cluster(groups)}

    def described(options):
        return identity.description_of(y, "time", None, stores.regions_of(y, {"lat": 2, "lon": 3}), options)

    first, second = options(0, 1, 0, 1), options(0, 1, 0, 1)
    assert str(first["cost"]) != str(second["cost"])
    assert described(first) == described(second)
    assert described(first) != described(options(0, 0, 1, 1))


def test_weights_are_not_read_as_a_whole(y):
    read = []

    def note(block):
        read.append(block.size)
        return block

    weights = xr.ones_like(y).copy(data=y.data.map_blocks(note, dtype="f4", meta=np.empty((0, 0, 0), "f4")))
    regions = stores.regions_of(y, {"lat": 2, "lon": 3})
    before = identity.description_of(y, "time", None, regions, {"weights": weights})
    assert len(read) == 3 < len(regions)
    changed = weights.where(y.lat < 7)
    assert before != identity.description_of(y, "time", None, regions, {"weights": changed})


def test_a_run_that_failed_before_its_first_block_is_begun_anew(y, tmp_path):
    with pytest.raises(ValueError, match="cov_type"):
        jx.fit_to_zarr(y, "time", tmp_path / "out.zarr", cov_type="HC9")
    found = jx.fit_to_zarr(y, "time", tmp_path / "out.zarr", cov_type="HC1").load()
    xr.testing.assert_identical(found, jx.fit(y.load(), "time", cov_type="HC1"))


def test_two_runs_at_once(y, tmp_path):
    (tmp_path / "out.zarr.partial").mkdir()
    with (
        FileLock(tmp_path / "out.zarr.partial" / "lock-0-of-1"),
        pytest.raises(RuntimeError, match="another run"),
    ):
        jx.fit_to_zarr(y, "time", tmp_path / "out.zarr")


def test_processes_with_a_share_each(y, tmp_path, monkeypatch):
    path = tmp_path / "out.zarr"
    assert jx.fit_to_zarr(y, "time", path, share=(0, 2)) is None
    with monkeypatch.context() as patch:
        patch.setattr(stores.Resumable, "record", lambda *arguments: 1 / 0)  # a process that is lost
        with pytest.raises(ZeroDivisionError):
            jx.fit_to_zarr(y, "time", path, share=(1, 2))
    assert len(blocks_of(tmp_path / "out.zarr.partial")) == 4
    found = jx.fit_to_zarr(y, "time", path, share=(1, 2)).load()
    xr.testing.assert_identical(found, jx.fit(y.load(), "time"))
    assert jx.fit_to_zarr(y, "time", path, share=(8, 9)) is None  # there are eight blocks
    monkeypatch.setattr(stores, "BLOCK_BYTES", 2**27)
    assert jx.fit_to_zarr(y, "time", tmp_path / "few.zarr", share=(0, 2)) is None
    assert jx.fit_to_zarr(y, "time", tmp_path / "few.zarr", share=(1, 2)) is not None
    with pytest.raises(ValueError, match="share is"):
        jx.fit_to_zarr(y, "time", path, share=(2, 2))


def test_a_share_without_blocks_leaves_nothing_behind(y, tmp_path):
    for k in range(9):  # of eight blocks
        jx.fit_to_zarr(y, "time", tmp_path / "out.zarr", share=(k, 9))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.zarr", "sst.zarr"]


def test_only_results_are_replaced(y, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text").write_text("mine")
    (tmp_path / "file.zarr").write_text("mine")
    for path in (tmp_path / "notes", tmp_path / "file.zarr", tmp_path / "sst.zarr"):
        with pytest.raises(FileExistsError, match="holds no results of jaxreg, and is not replaced"):
            jx.fit_to_zarr(y, "time", path)
    assert (tmp_path / "notes" / "text").read_text() == (tmp_path / "file.zarr").read_text() == "mine"
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        jx.fit_to_zarr(y, "time", tmp_path / "missing" / "out.zarr")


def test_one_data_set_has_no_blocks(y, tmp_path):
    with pytest.raises(ValueError, match="so there are no blocks: use fit"):
        jx.fit_to_zarr(y[:, 0, 0], "time", tmp_path / "out.zarr")
    with pytest.raises(ValueError, match="y is empty: it has the sizes time: 20, lat: 0, lon: 6"):
        jx.fit_to_zarr(y[:, :0], "time", tmp_path / "out.zarr")
    with pytest.raises(TypeError, match="y is one DataArray; pass a variable of the Dataset, of sst"):
        jx.fit_to_zarr(y.to_dataset(), "time", tmp_path / "out.zarr")


SCRIPT = """
import sys
import xarray as xr
from jaxreg.faces.xarray import identity, stores
stores.BLOCK_BYTES = 480
stores.fit_to_zarr(xr.open_zarr("sst.zarr").sst, "time", "out.zarr")
"""


@pytest.mark.slow
def test_killed_at_random_moments(y, tmp_path, rng):
    """Each run is killed soon after its first block is written, until one ends."""
    blocks, killed = tmp_path / "out.zarr.partial" / "blocks-0-of-1.jsonl", 0

    def size():
        try:
            return blocks.stat().st_size
        except FileNotFoundError:
            return 0

    while not (tmp_path / "out.zarr").exists():
        before = size()
        run = subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=tmp_path)
        while run.poll() is None and size() <= before:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.05))
        run.kill()
        assert run.wait() in (0, -signal.SIGKILL)
        killed += run.returncode != 0
    assert killed
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "out.zarr").load(), jx.fit(y.load(), "time"))
