"""The command line as a user meets it: tables, files, pictures, and errors of one sentence."""

import sys

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from jaxreg.faces import cli


def run(monkeypatch, capsys, *arguments):
    """Exit code, stdout and stderr of `jaxreg ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["jaxreg", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.arange(20.0)
    rng = np.random.default_rng(3)
    y = np.stack([2 * x, 5 - x, 0 * x], axis=1) + rng.normal(size=(20, 3))
    header = "depth,first,second,third\n"
    rows = [f"{a},{b},{c if i % 5 else ''},{d}" for i, (a, (b, c, d)) in enumerate(zip(x, y, strict=True))]
    (tmp_path / "wide.csv").write_text(header + "\n".join(rows))
    rows[10] = "10,abc,1,2"
    (tmp_path / "wrong.csv").write_text(header + "\n".join(rows))
    (tmp_path / "commas.csv").write_text(header + "\n".join(f"{i},{2 * i},1,1," for i in range(20)))
    (tmp_path / "gap.csv").write_text("x,y\n1,2\n\n3,oops\n")
    (tmp_path / "bare.csv").write_text("1,2\n3,4\n5,7\n")
    (tmp_path / "empty.csv").write_text("x,y\n1,\n2,\n")
    (tmp_path / "junk.nc").write_text("not a netCDF file")
    np.savez(tmp_path / "grid.npz", x=x, y=rng.normal(size=(20, 4, 5)))
    np.savez(tmp_path / "objects.npz", x=x, y=2 * x + 1, names=np.array([None, "a"] * 10, object))
    (tmp_path / "decimals.csv").write_text("x,y\n1,2\n2,5,3,5\n3,4\n")
    (tmp_path / "first.csv").write_text("x,y\n1,2,3\n2,3\n3,4\n")
    xr.Dataset({"y": (("x", "m"), y)}, {"x": x}).to_netcdf(tmp_path / "grid.nc", engine="netcdf4")
    for name in ("nested", "folder.nc"):
        (tmp_path / name).mkdir()
    (tmp_path / "soft.nc").symlink_to("grid.nc")
    (tmp_path / "hard.nc").hardlink_to(tmp_path / "grid.nc")
    return tmp_path


def test_the_main_command(folder, monkeypatch, capsys):
    code, out, err = run(
        monkeypatch, capsys, "fit", "example:pacific-sst", "-o", "trend.nc", "--plot", "trend.png"
    )
    assert (code, err) == (0, "")
    assert "540" in out
    assert "450" in out
    assert "no_observations" in out
    assert (folder / "trend.png").read_bytes().startswith(b"\x89PNG")
    results = xr.load_dataset(folder / "trend.nc", engine="netcdf4")
    assert results.slope.dims == ("lat", "lon")
    assert results.slope.units == "K year-1"
    from jaxreg.data.datasets import pacific_sst

    cell = pacific_sst().sst.sel(lat=results.lat[3], lon=results.lon[20])
    expected = scipy.stats.linregress(cell.year.astype(float), cell.astype(float))
    assert results.slope.values[3, 20] == pytest.approx(expected.slope, rel=1e-5)
    assert results.slope_bse.values[3, 20] == pytest.approx(expected.stderr, rel=1e-5)


def test_wide_csv_with_gaps(folder, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "fit", "wide.csv", "-o", "out.nc", "--plot", "out.png")
    assert (code, err) == (0, "")
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    assert results.data_set.values.tolist() == ["first", "second", "third"]
    assert results.nobs.values.tolist() == [20, 16, 20]
    table = np.genfromtxt(folder / "wide.csv", delimiter=",", skip_header=1)
    for j in range(3):
        there = ~np.isnan(table[:, j + 1])
        expected = scipy.stats.linregress(table[there, 0], table[there, j + 1])
        assert results.slope.values[j] == pytest.approx(expected.slope, rel=1e-10)
        assert results.slope_bse.values[j] == pytest.approx(expected.stderr, rel=1e-10)
    assert (folder / "out.png").stat().st_size > 10_000


def test_a_comma_at_the_end_of_a_row_moves_no_column(folder, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "fit", "commas.csv", "--y", "first", "-o", "out.nc")
    assert (code, err) == (0, "")
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    assert results.slope.values == pytest.approx([2], rel=1e-12)


def test_descent_and_degree_on_npz(folder, monkeypatch, capsys):
    arguments = ("fit", "grid.npz", "--y", "y", "--x", "x", "--degree", "2")
    code, out, _ = run(monkeypatch, capsys, *arguments, "--method", "gradient-descent", "-o", "out.nc")
    assert code == 0
    assert "c2" in out
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    y = np.load(folder / "grid.npz")["y"]
    expected = np.polyfit(np.arange(20.0), y.reshape(20, -1), 2)[0]
    assert results.c2.values.ravel() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["wrong.csv"], "not a number in column 2 row 12: 'abc'"),
        (["gap.csv"], "not a number in column 2 row 4: 'oops'"),
        (["bare.csv"], "the first row of bare.csv holds numbers"),
        (["wide.csv", "--y", "fourth"], "y is one of first, second, third"),
        (["nowhere.nc", "--y", "a", "--x", "b"], "there is no file nowhere.nc"),
        (["empty.csv"], "nothing to fit in empty.csv: 1 no_observations"),
        (["junk.nc", "--y", "a", "--x", "b"], "junk.nc is not a netCDF"),
        (["grid.npz"], "name the variables of grid.npz: --y VAR --x DIM"),
        (["grid.npz", "--y", "z", "--x", "x"], "grid.npz has no array z; it has x, y"),
        (["example:moon"], "the examples are example:pacific-sst"),
        (["example:pacific-sst", "--x", "month"], "has no variable month"),
        (["wide.csv", "-o", "nowhere/out.nc"], "there is no folder nowhere"),
        (["wide.csv", "--plot", "out.foo"], "out.foo does not end in the extension of a format"),
        (["wide.csv", "--plot", "wide.csv"], "wide.csv does not end in the extension of a format"),
        (["wide.csv", "-o", "wide.csv"], "wide.csv does not end in the extension of a format"),
        (["wide.csv", "-o", "out.csv"], "out.csv does not end in the extension of a format"),
        (["wide.csv", "-o", "out"], "can be written: .nc, .nc4, .cdf"),
        (["grid.nc", "--y", "y", "--x", "x", "-o", "grid.nc"], "grid.nc is the input file"),
        (["grid.nc", "--y", "y", "--x", "x", "-o", "nested/../grid.nc"], "is the input file"),
        (["grid.nc", "--y", "y", "--x", "x", "-o", "soft.nc"], "soft.nc is the input file"),
        (["grid.nc", "--y", "y", "--x", "x", "-o", "hard.nc"], "hard.nc is the input file"),
        (["grid.nc", "--y", "y", "--x", "x", "-o", "folder.nc"], "folder.nc is a folder"),
        (["decimals.csv"], "row 3 of decimals.csv has 4 fields and the header 2; a number with a decimal"),
        (["first.csv"], "row 2 of first.csv has 3 fields and the header 2"),
        (["objects.npz", "--y", "names", "--x", "x"], "names of objects.npz is not an array of numbers"),
    ],
)
def test_an_error_is_one_sentence_and_exit_code_2(folder, monkeypatch, capsys, arguments, sentence):
    before = sorted(folder.iterdir())
    code, _, err = run(monkeypatch, capsys, "fit", *arguments)
    assert code == 2
    assert err.startswith("jaxreg: ")
    assert sentence in err
    assert err.count("\n") == 1
    assert sorted(folder.iterdir()) == before  # nothing half-written


def test_an_object_array_beside_the_numbers_is_not_read(folder, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "fit", "objects.npz", "--y", "y", "--x", "x", "-o", "out.nc")
    assert (code, err) == (0, "")
    assert xr.load_dataset(folder / "out.nc", engine="netcdf4").slope.item() == pytest.approx(2, rel=1e-12)


TIMES = {
    "minutes": ("minutes since 1900-01-01", np.int64(60 * 1_051_896) + np.arange(40), "2020-01-01 00:00:00"),
    "seconds": ("seconds since 1970-01-01", 1.7e9 + 0.5 * np.arange(40), "2023-11-14 22:13:20"),
    "nanoseconds": ("nanoseconds since 1970-01-01", np.int64(17 * 10**17) + 30 * np.arange(40), "2023-11-14"),
    "days": ("days since 1850-01-01", 62_091.125 + 0.01 * np.arange(40), "2020-01-01 03:00:00"),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_that_float32_would_round_are_counted_from_the_first(folder, rng, monkeypatch, capsys, name):
    units, times, date = TIMES[name]
    t = (times - times[0]).astype(float)
    y = (280 + t / t[-1] + rng.normal(size=40)).astype("f4")
    stored = {"t2m": ("time", y, {"units": "K"})}, {"time": ("time", times, {"units": units})}
    xr.Dataset(*stored).to_netcdf("era.nc", engine="netcdf4")
    code, out, err = run(monkeypatch, capsys, "fit", "era.nc", "--y", "t2m", "--x", "time", "-o", "out.nc")
    assert (code, err) == (0, "")
    assert date in out
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    expected = scipy.stats.linregress(t, y.astype(float))
    assert float(found.slope) == pytest.approx(expected.slope, rel=1e-5)
    assert float(found.intercept) == pytest.approx(expected.intercept, rel=1e-5)
    assert found.slope.units == f"K {units.split()[0]}-1"
    assert date in found.attrs["zero_of_x"]
    assert date in found.intercept.long_name


def test_of_times_that_float32_holds_the_origin_is_that_of_the_file(folder, rng, monkeypatch, capsys):
    hours = np.int64(1_051_896) + 6 * np.arange(40)
    y = rng.normal(280, 1, size=40).astype("f4")
    time = ("time", hours, {"units": "hours since 1900-01-01", "calendar": "noleap"})
    xr.Dataset({"t2m": ("time", y)}, {"time": time}).to_netcdf("era.nc", engine="netcdf4")
    code, out, err = run(monkeypatch, capsys, "fit", "era.nc", "--y", "t2m", "--x", "time", "-o", "out.nc")
    assert (code, err) == (0, "")
    assert "1900-01-01 00:00:00" in out
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    expected = scipy.stats.linregress(hours, y.astype(float))
    assert float(found.intercept) == pytest.approx(expected.intercept, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("range", {"valid_range": np.array([-50, 100], "i2")}),
        ("min", {"valid_min": np.int16(-50), "valid_max": np.int16(100)}),
        ("decoded", {"valid_range": np.array([-5.0, 10.0], "f4")}),
    ],
)
def test_the_valid_range_of_netcdf_is_honored(folder, monkeypatch, capsys, name, attributes):
    """Stored tenths in int16: 9999 and −9999 are fill values that only `valid_range` tells of."""
    stored = np.array([3, -11, 20, 35, 9999, 60, -9999, 77], "i2")
    variable = ("x", stored, {"scale_factor": np.float32(0.1), **attributes})
    xr.Dataset({"y": variable}, {"x": np.arange(8.0)}).to_netcdf("packed.nc", engine="netcdf4")
    code, _, err = run(monkeypatch, capsys, "fit", "packed.nc", "--y", "y", "--x", "x", "-o", "out.nc")
    assert (code, err) == (0, "")
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    valid = np.abs(stored) < 9999
    expected = scipy.stats.linregress(np.flatnonzero(valid), stored[valid] / 10)
    assert found.nobs == 6
    assert float(found.slope) == pytest.approx(expected.slope, rel=1e-5)


def test_a_failing_write_leaves_the_old_file(folder):
    target = folder / "results.nc"
    target.write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    from jaxreg.data.output import write_whole

    with pytest.raises(OSError, match="disk full"):
        write_whole(target, fail)
    assert target.read_text() == "old"
    assert not list(folder.glob("tmp*"))
