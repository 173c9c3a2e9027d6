"""The command line as a user meets it: tables, files, pictures, and errors of one sentence."""

import sys

import numpy as np
import pytest
import scipy.stats
import xarray as xr

from jaxreg import cli


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
    (tmp_path / "commas.csv").write_text(header + "\n".join(f"{i},{2 * i},1,1," for i in range(5)))
    (tmp_path / "gap.csv").write_text("x,y\n1,2\n\n3,oops\n")
    (tmp_path / "bare.csv").write_text("1,2\n3,4\n5,7\n")
    (tmp_path / "empty.csv").write_text("x,y\n1,\n2,\n")
    (tmp_path / "junk.nc").write_text("not a netCDF file")
    np.savez(tmp_path / "grid.npz", x=x, y=rng.normal(size=(20, 4, 5)))
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
    from jaxreg.datasets import pacific_sst

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
        (["wide.csv", "--y", "fourth"], "y one or all of first, second, third"),
        (["nowhere.nc", "--y", "a", "--x", "b"], "there is no file nowhere.nc"),
        (["empty.csv"], "nothing to fit in empty.csv: 1 no_observations"),
        (["junk.nc", "--y", "a", "--x", "b"], "junk.nc is not a netCDF"),
        (["grid.npz"], "name the variables of grid.npz: --y VAR --x DIM"),
        (["grid.npz", "--y", "z", "--x", "x"], "grid.npz has no array z; it has x, y"),
        (["example:moon"], "the examples are example:pacific-sst"),
        (["example:pacific-sst", "--x", "month"], "has no variable month"),
        (["wide.csv", "-o", "nowhere/out.nc"], "there is no folder nowhere"),
        (["wide.csv", "--plot", "out.foo"], "Format 'foo' is not supported"),
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


def test_a_failing_write_leaves_the_old_file(folder):
    target = folder / "results.nc"
    target.write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    from jaxreg.files import write_whole

    with pytest.raises(OSError, match="disk full"):
        write_whole(target, fail)
    assert target.read_text() == "old"
    assert not list(folder.glob("tmp*"))
