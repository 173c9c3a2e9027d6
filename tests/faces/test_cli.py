"""The command line as a user meets it: tables, files, pictures, and errors of one sentence."""

import io
import json
import os
import re
import shlex
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import statsmodels.formula.api as smf
import xarray as xr

import jaxreg
from jaxreg.faces import cli
from jaxreg.status import Status


def run(monkeypatch, capsys, *arguments):
    """Exit code, stdout and stderr of `jaxreg ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["jaxreg", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    return end.value.code, printed.out, printed.err


YEARS = np.arange(2000, 2020)
GDP = {"Chile": 1 + 0.3 * (YEARS - 2000), "Peru": 5 - 0.1 * (YEARS - 2000)}
GDP = {name: values + np.random.default_rng(5).normal(size=20) for name, values in GDP.items()}
LONG = "country,year,gdp\n" + "".join(
    f"{name},{year},{'-999.9' if year == 2003 else value}\n"
    for name, values in GDP.items()
    for year, value in zip(YEARS, values, strict=True)
)


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
    (tmp_path / "one.csv").write_text("depth\n1\n2\n")
    (tmp_path / "nothing.csv").write_text("")
    (tmp_path / "latin.csv").write_bytes("Höhe;y\n1;2\n".encode("latin-1"))
    (tmp_path / "dates.csv").write_text("day,y\n01/02/2020,1\n03/04/2020,2\n")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "long.csv").write_text(LONG)
    ocean = xr.Dataset({name: (("time", "lat", "lon"), np.ones((20, 2, 3))) for name in ("sst", "ice")})
    coords = {"time": np.arange(20), "lat": [10.0, 0.0], "lon": [0.0, 1.0, 2.0]}
    ocean.assign_coords(coords).to_netcdf(tmp_path / "two.nc", engine="netcdf4")
    height = xr.Dataset(
        {"height": (("lat", "lon"), np.ones((2, 3)))}, {"lat": [10.0, 0.0], "lon": [0.0, 1, 2]}
    )
    height.to_netcdf(tmp_path / "map.nc", engine="netcdf4")
    ocean.to_netcdf(tmp_path / "groups.nc", group="obs/surface", engine="netcdf4")
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
    slopes = results.sel(param="slope")
    assert slopes.params.dims == ("lat", "lon")
    assert slopes.units == "K year-1"
    assert results.params.intercept_at == "year = 0"
    meanings = dict(zip(results.status.flag_meanings.split(), results.status.flag_values, strict=True))
    assert int((results.status == meanings["no_observations"]).sum()) == 90
    from jaxreg.data.datasets import pacific_sst

    cell = pacific_sst().sst.sel(lat=results.lat[3], lon=results.lon[20])
    expected = scipy.stats.linregress(cell.year.astype(float), cell.astype(float))
    one = slopes.isel(lat=3, lon=20)
    assert one.params.item() == pytest.approx(expected.slope, rel=1e-5)
    assert one.bse.item() == pytest.approx(expected.stderr, rel=1e-5)
    half = scipy.stats.t.ppf(0.975, 48) * expected.stderr
    assert one.conf_low.item() == pytest.approx(expected.slope - half, rel=1e-4)
    assert one.conf_high.item() == pytest.approx(expected.slope + half, rel=1e-4)
    p = slopes.pvalue.values[np.isfinite(slopes.pvalue)]
    found = slopes.pvalue_adjusted.values[np.isfinite(slopes.pvalue_adjusted)]
    np.testing.assert_allclose(found, scipy.stats.false_discovery_control(p), rtol=1e-4)


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
        slope = results.sel(param="slope").isel(data_set=j)
        assert slope.params.item() == pytest.approx(expected.slope, rel=1e-10)
        assert slope.bse.item() == pytest.approx(expected.stderr, rel=1e-10)
    assert (folder / "out.png").stat().st_size > 10_000


def test_a_comma_at_the_end_of_a_row_moves_no_column(folder, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "fit", "commas.csv", "--y", "first", "-o", "out.nc")
    assert (code, err) == (0, "")
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    assert results.params.sel(param="slope").item() == pytest.approx(2, rel=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "# station 5\n#\nx,y\n1,2\n2,5\n4,7\n",
        "# x y\n1 2\n2 5\n4 7\n",  # np.savetxt(…, header="x y")
        "sep=;\nx;y\n1;2\n2;5\n4;7\n",
        "# name x y\na 1 2\nb 2 5\nc 4 7\n",
        "#,x,y\n1,1,2\n2,2,5\n3,4,7\n",
    ],
)
def test_lines_before_the_names_of_columns(folder, monkeypatch, capsys, text):
    (folder / "early.csv").write_text(text)
    code, _, err = run(monkeypatch, capsys, "fit", "early.csv", "--y", "y", "--x", "x", "-o", "out.nc")
    assert (code, err) == (0, "")
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    expected = scipy.stats.linregress([1, 2, 4], [2, 5, 7])
    assert results.params.sel(param="slope").item() == pytest.approx(expected.slope, rel=1e-10)
    (folder / "early.csv").write_text(text.replace("7", "oops"))
    _, _, err = run(monkeypatch, capsys, "fit", "early.csv", "--y", "y", "--x", "x")
    assert f"row {len(text.splitlines())} of early.csv: 'oops'" in err


def test_descent_and_degree_on_npz(folder, monkeypatch, capsys):
    arguments = ("fit", "grid.npz", "--y", "y", "--x", "x", "--degree", "2")
    code, out, _ = run(monkeypatch, capsys, *arguments, "--method", "gradient-descent", "-o", "out.nc")
    assert code == 0
    assert "c2" in out
    results = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    y = np.load(folder / "grid.npz")["y"]
    expected = np.polyfit(np.arange(20.0), y.reshape(20, -1), 2)[0]
    assert results.params.sel(param="c2").values.ravel() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["wrong.csv"], "not a number in column 2 (first) row 12 of wrong.csv: 'abc'"),
        (["gap.csv"], "not a number in column 2 (y) row 4 of gap.csv: 'oops'"),
        (["bare.csv"], "the first row of bare.csv holds numbers"),
        (["one.csv"], "one.csv has one column, 'depth'"),
        (["nothing.csv"], "nothing.csv is empty"),
        (["wide.csv", "--y", "fourth"], "no column 'fourth' for --y; it has depth, first, second, third"),
        (["wide.csv", "--x", "month"], "no column 'month' for --x; it has depth, first, second, third"),
        (["long.csv"], "column 'country' of long.csv holds text, such as 'Chile': pass --by country"),
        (["long.csv", "--by", "country"], "pass --y and --x: the other columns of long.csv are year, gdp"),
        (["long.csv", "--by", "land", "--y", "gdp"], "no column 'land' for --by"),
        (["long.csv", "--by", "country", "--formula", "gdp ~ year", "--y", "gdp"], "omit --y and --x"),
        (["grid.nc", "--by", "x"], "--by is for tables, of CSV or Parquet, and grid.nc holds arrays"),
        (["nowhere.nc", "--y", "a", "--x", "b"], "there is no file nowhere.nc"),
        (["empty.csv"], "nothing to fit in empty.csv: 1 no_observations"),
        (["junk.nc"], "junk.nc is not a netCDF file: it holds text that begins with 'not a netCDF file'"),
        (["cut.npz"], "cut.npz cannot be read as an .npz file"),
        (["nested"], "nested is a folder, and not a Zarr store"),
        (["latin.csv"], "latin.csv is not utf-8 text (byte 0xf6 in line 1): pass its --encoding"),
        (["latin.csv", "--encoding", "klingon"], "there is no --encoding klingon"),
        (["dates.csv"], "begin with the day or the month: pass --date-format %d/%m/%Y or %m/%d/%Y"),
        (["grid.npz", "--y", "z", "--x", "x"], "grid.npz has no variable z; it has x, y"),
        (["grid.npz", "--x", "z"], "grid.npz has no variable z; it has x, y"),
        (["two.nc"], "pass --y: two.nc has the variables sst (time, lat, lon); ice (time, lat, lon)"),
        (["two.nc", "--y", "snow"], "two.nc has no variable snow; it has sst, ice, time, lat, lon"),
        (["two.nc", "--x", "month"], "two.nc has no variable month; it has sst, ice, time, lat, lon"),
        (
            ["two.nc", "--y", "sst", "--x", "ice", "--dim", "z"],
            "sst has no dimension z; it has time, lat, lon",
        ),
        (["map.nc"], "pass --x: height of map.nc has the dimensions lat, lon"),
        (["groups.nc"], "groups.nc has its variables in groups: pass --group obs or obs/surface"),
        (["groups.nc", "--group", "model"], "groups.nc has no --group model"),
        (["example:moon"], "the examples are example:pacific-sst"),
        (["example:pacific-sst", "--x", "month"], "has no variable month"),
        (["wide.csv", "-o", "nowhere/out.nc"], "there is no folder nowhere"),
        (["wide.csv", "--plot", "out.foo"], "out.foo does not end in the extension of a format"),
        (["wide.csv", "--plot", "wide.csv"], "wide.csv does not end in the extension of a format"),
        (["wide.csv", "-o", "wide.csv"], "wide.csv is the input file"),
        (["wide.csv", "-o", "out"], "can be written: .nc, .nc4, .cdf, .zarr, .npz, .npy, .csv, .parquet"),
        (["grid.nc", "-o", "grid.nc"], "grid.nc is the input file"),
        (["grid.nc", "-o", "nested/../grid.nc"], "is the input file"),
        (["grid.nc", "-o", "soft.nc"], "soft.nc is the input file"),
        (["grid.nc", "-o", "hard.nc"], "hard.nc is the input file"),
        (["grid.nc", "-o", "folder.nc"], "folder.nc is a folder"),
        (["decimals.csv"], "row 3 of decimals.csv has 4 fields and the header 2; a number with a decimal"),
        (["first.csv"], "rows of first.csv have more fields than the header"),
        (["objects.npz", "--y", "names", "--x", "x"], "objects.npz has no variable names"),
        (["wide.csv", "--degree", "30"], "has 31 params, and there are 20 points: pass a --degree of 19"),
        (["wide.csv", "--degree", "-1"], "--degree"),
        (["wide.csv", "--x", "depth", "--x", "first", "--degree", "2"], "--degree is that of a polynomial"),
        (["wide.csv", "--alpha", "95"], "--alpha is between 0 and 1"),
        (["wide.csv", "--per", "fortnight"], "a unit of time is one of century"),
        (["wide.csv", "--per", "decade"], 'needs an x in a unit of time; depth has units ""'),
        (["wide.csv", "--cost", "hubber"], "--cost is one of mean-squared-error"),
        (["wide.csv", "--cost", "huber:x"], "--cost takes name:number, such as quantile:0.9; got huber:x"),
        (["wide.csv", "--cov-type", "HC9"], "--cov-type is one of nonrobust, HC0"),
        (["wide.csv", "--method", "magic"], "--method is one of closed-form"),
        (["wide.csv", "--device", "abacus"], "there is no --device abacus; there are cpu:0"),
        (["wide.csv", "--false-discovery", "none"], "--false-discovery is bh or by"),
        (["wide.csv", "--yy", "a"], "No such option"),
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
    assert xr.load_dataset(folder / "out.nc", engine="netcdf4").params[1].item() == pytest.approx(
        2, rel=1e-12
    )


SECONDS_PER_YEAR = 365.2425 * 86400
TIMES = {  # units, times, seconds per unit, where the intercept is
    "minutes": (
        "minutes since 1900-01-01",
        np.int64(60 * 1_051_896) + np.arange(40),
        60,
        "1970-01-01 00:00:00",
    ),
    "seconds": ("seconds since 1970-01-01", 1.7e9 + 0.5 * np.arange(40), 1, "1970-01-01 00:00:00"),
    "nanoseconds": (
        "nanoseconds since 1970-01-01",
        np.int64(17 * 10**17) + 30 * np.arange(40),
        1e-9,
        "2023-11-14 22:13:20",
    ),
    "days": ("days since 1850-01-01", 62_091.125 + 0.01 * np.arange(40), 86400, "1970-01-01 00:00:00"),
}


@pytest.mark.parametrize("name", TIMES)
def test_times_of_files_that_float32_would_round(folder, rng, monkeypatch, capsys, name):
    units, times, seconds, date = TIMES[name]
    t = (times - times[0]).astype(float) * seconds / SECONDS_PER_YEAR
    y = (280 + t / t[-1] + rng.normal(size=40)).astype("f4")
    stored = {"t2m": ("time", y, {"units": "K"})}, {"time": ("time", times, {"units": units})}
    xr.Dataset(*stored).to_netcdf("era.nc", engine="netcdf4")
    code, out, err = run(monkeypatch, capsys, "fit", "era.nc", "-o", "out.nc")
    assert (code, err) == (0, "")
    assert f"intercept at {date}" in out
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4").sel(param="slope")
    expected = scipy.stats.linregress(t, y.astype(float))
    assert float(found.params) == pytest.approx(expected.slope, rel=1e-5)
    assert float(found.bse) == pytest.approx(expected.stderr, rel=1e-5)
    assert found.units == "K year-1"
    assert found.params.intercept_at == date


def test_noleap_times_per_decade_of_a_packed_file_with_descending_latitudes(folder, rng, monkeypatch, capsys):
    months = np.arange(40)
    y = 280 + rng.normal(size=(40, 3, 2)) + months[:, None, None] / 40
    dims = ("time", "lat", "lon")
    time = ("time", 365 / 12 * months, {"units": "days since 2000-01-01", "calendar": "noleap"})
    data = xr.Dataset({"t2m": (dims, y, {"units": "K"})}, {"time": time, "lat": [20.0, 10.0, 0.0]})
    packing = {"dtype": "i2", "scale_factor": 0.001, "add_offset": 280.0, "_FillValue": np.int16(-32768)}
    data.t2m[4, 1, 1] = np.nan
    data.to_netcdf("model.nc", unlimited_dims=["time"], encoding={"t2m": packing}, engine="netcdf4")
    arguments = ("fit", "model.nc", "--per", "decade", "-o", "out.nc", "--plot", "map.png")
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert (code, err) == (0, "")
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    assert found.lat.values.tolist() == [20, 10, 0]
    assert found.calendar == "noleap"
    slope = found.sel(param="slope")
    valid = months != 4
    expected = scipy.stats.linregress(months[valid] / 120, y[valid, 1, 1])
    assert slope.units == "K decade-1"
    assert slope.nobs.values.tolist() == [[40, 40], [40, 39], [40, 40]]
    assert float(slope.params[1, 1]) == pytest.approx(expected.slope, abs=2e-3)
    assert float(found.params[0, 1, 1]) == pytest.approx(
        expected.intercept - 3 * expected.slope, abs=1e-2
    )  # 2000 is three decades after 1970


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
    code, _, err = run(monkeypatch, capsys, "fit", "packed.nc", "-o", "out.nc")
    assert (code, err) == (0, "")
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    valid = np.abs(stored) < 9999
    expected = scipy.stats.linregress(np.flatnonzero(valid), stored[valid] / 10)
    assert found.nobs == 6
    assert float(found.params.sel(param="slope")) == pytest.approx(expected.slope, rel=1e-5)


def test_a_failing_write_leaves_the_old_file(folder):
    target = folder / "results.nc"
    target.write_text("old")

    def fail(path):
        path.write_text("half")
        raise OSError("disk full")

    from jaxreg.data.output import write_whole

    with pytest.raises(OSError, match=r"cannot write .*results.nc: disk full"):
        write_whole(target, fail)
    assert target.read_text() == "old"
    assert not list(folder.glob(".tmp*"))


def read_table(path):
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_groups_of_a_long_table(folder, monkeypatch, capsys, suffix):
    pd.read_csv("long.csv").to_parquet("long.parquet")
    arguments = ("--by", "country", "--y", "gdp", "--x", "year", "--missing", "-999.9", "--per", "decade")
    code, out, err = run(monkeypatch, capsys, "fit", f"long{suffix}", *arguments, "-o", f"out{suffix}")
    assert (code, err) == (0, "")
    assert "Chile year (per decade)" in out.replace("\n", " ") or "Chile year (per" in out
    table = read_table(folder / f"out{suffix}").set_index(["country", "term"])
    valid = YEARS != 2003
    for name, values in GDP.items():
        expected = scipy.stats.linregress(YEARS[valid] / 10, values[valid])
        row = table.loc[name, "year"]
        half = scipy.stats.t.ppf(0.975, 17) * expected.stderr
        assert row.estimate == pytest.approx(expected.slope, rel=1e-9)
        assert row.p_value == pytest.approx(expected.pvalue, rel=1e-6)
        assert (row.conf_low, row.conf_high) == pytest.approx((row.estimate - half, row.estimate + half))
        assert (row.nobs, row.status, row.units) == (19, "ok", "per decade")
    p = table.xs("year", level="term")
    np.testing.assert_allclose(p.p_adjusted, scipy.stats.false_discovery_control(p.p_value), rtol=1e-9)


def test_a_formula_weights_and_robust_errors_of_a_table_from_a_pipe_as_json(folder, rng, monkeypatch, capsys):
    table = pd.DataFrame({"y": rng.normal(size=20), "x": np.arange(20.0), "w": rng.uniform(1, 2, 20)})
    table["z"] = ["a", "b"] * 10
    piped = io.TextIOWrapper(io.BytesIO(table.to_csv(index=False).encode()))
    monkeypatch.setattr(sys, "stdin", piped)
    arguments = ("--formula", "y ~ x + C(z)", "--weights", "w", "--cov-type", "HC1", "--json")
    code, out, err = run(monkeypatch, capsys, "fit", "-", *arguments)
    assert (code, err) == (0, "")
    rows = json.loads(out)["results"]
    expected = smf.wls("y ~ x + C(z)", table, weights=table.w).fit(cov_type="HC1")
    assert [row["term"] for row in rows] == ["intercept", "x", "C(z)[T.b]"]
    np.testing.assert_allclose(
        [row["estimate"] for row in rows], expected.params[["Intercept", "x", "C(z)[T.b]"]]
    )
    np.testing.assert_allclose(
        [row["std_error"] for row in rows], expected.bse[["Intercept", "x", "C(z)[T.b]"]]
    )
    assert json.loads(out)["summary"]["y"]["status"] == {"ok": 1}


def test_several_x_of_a_table_and_a_quantile(folder, monkeypatch, capsys):
    arguments = ("--y", "first", "--x", "depth", "--x", "third", "--cost", "quantile:0.5", "-o", "out.csv")
    code, _, err = run(monkeypatch, capsys, "fit", "wide.csv", *arguments)
    assert (code, err) == (0, "")
    table = pd.read_csv("wide.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = smf.quantreg("first ~ depth + third", table).fit(q=0.5)
    found = pd.read_csv("out.csv")
    assert found.term.tolist() == ["intercept", "depth", "third"]
    np.testing.assert_allclose(found.estimate, expected.params, rtol=1e-3, atol=1e-3)


DIALECTS = {
    "semicolons": ("Datum;Höhe\n", "{:%d.%m.%Y};{}\n", ",", "latin-1", ("--encoding", "latin-1")),
    "quoted commas": ("Datum,Höhe\n", '{:%Y-%m-%d},"{}"\n', ",", "utf-8-sig", ()),
    "tabs": ("Datum\tHöhe\n", "{:%Y-%m-%dT%H:%M:%SZ}\t{}\n", ".", "utf-16", ()),
    "spaces": ("Datum Höhe\n", "{:%d/%m/%Y} {}\n", ".", "utf-8", ("--date-format", "%d/%m/%Y")),
    "bars": ("Datum|Höhe\n", "{:%Y-%m-%d}|{}\n", ".", "utf-8", ()),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_of_csv_and_dates(folder, rng, monkeypatch, capsys, name):
    header, row, decimal, encoding, options = DIALECTS[name]
    dates = pd.date_range("2001-02-03", periods=20, freq="7D")
    y = rng.normal(size=20).round(6)
    text = header + "".join(
        row.format(d, str(v).replace(".", decimal)) for d, v in zip(dates, y, strict=True)
    )
    (folder / "table.csv").write_bytes(text.encode(encoding))
    code, _, err = run(monkeypatch, capsys, "fit", "table.csv", *options, "-o", "out.nc")
    assert (code, err) == (0, "")
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    years = (dates - pd.Timestamp("1970-01-01")) / pd.Timedelta(days=365.2425)
    expected = scipy.stats.linregress(years, y)
    assert found.params.y == "Höhe"
    np.testing.assert_allclose(found.params, [expected.intercept, expected.slope], rtol=1e-8)


@pytest.mark.parametrize("suffix", [".nc", ".zarr", ".npz", ".npy", ".csv", ".parquet"])
def test_every_format_of_results(folder, monkeypatch, capsys, suffix):
    for _ in range(2):  # the second replaces the first
        code, _, err = run(monkeypatch, capsys, "fit", "wide.csv", "-o", f"out{suffix}")
        assert (code, err) == (0, "")
    table = pd.read_csv("wide.csv")
    expected = [
        np.polyfit(table.depth[g := table[n].notna()], table[n][g], 1)[0] for n in ("first", "second")
    ]
    path = folder / f"out{suffix}"
    if suffix in (".nc", ".zarr"):
        engine = {".nc": "netcdf4", ".zarr": "zarr"}[suffix]
        options = {"consolidated": False} if suffix == ".zarr" else {}
        found = xr.open_dataset(path, engine=engine, **options).params.sel(param="slope").values
    elif suffix == ".npz":
        with np.load(path) as arrays:
            found = arrays["params"][arrays["param"].tolist().index("slope")]
            assert arrays["data_set"].tolist() == ["first", "second", "third"]
    elif suffix == ".npy":
        found = np.load(path)[1]
    else:
        found = read_table(path).query("term == 'slope'").estimate.to_numpy()
    np.testing.assert_allclose(found[:2], expected, rtol=1e-9)
    assert not list(folder.glob(".tmp*"))


@pytest.mark.parametrize("kind", ["zarr", "npy", "npz", "group"])
def test_every_format_of_arrays(folder, rng, monkeypatch, capsys, kind):
    x, y = np.arange(20.0), rng.normal(size=(20, 4))
    data = xr.Dataset({"y": (("x", "m"), y)}, {"x": x})
    name, options = f"data.{kind}", ()
    if kind == "zarr":
        data.to_zarr(name, consolidated=False)
    elif kind == "npy":
        np.save(name, y)
    elif kind == "npz":
        np.savez(name, position=x, response=y)
    else:
        name, options = "data.nc", ("--group", "deep/inside")
        data.to_netcdf(name, group="deep/inside", engine="netcdf4")
    code, _, err = run(monkeypatch, capsys, "fit", name, *options, "-o", "out.npy")
    assert (code, err) == (0, "")
    np.testing.assert_allclose(np.load("out.npy")[::-1], np.polyfit(x, y, 1), rtol=1e-9, atol=1e-12)
    code, out, err = run(monkeypatch, capsys, "info", name, *options)
    assert (code, err) == (0, "")
    command = next(line for line in out.splitlines() if line.startswith("  jaxreg fit"))
    assert run(monkeypatch, capsys, *shlex.split(command)[1:])[0] == 0


def test_blocks_change_no_result(folder, rng, monkeypatch, capsys):
    y = rng.normal(size=(20, 5, 7)).astype("f4")
    y[y > 2] = -999.9
    weights = rng.uniform(1, 2, size=(20, 5, 7)).astype("f4")
    dims = ("time", "lat", "lon")
    data = xr.Dataset({"y": (dims, y), "w": (dims, weights)}, {"lat": np.arange(5.0)[::-1]})
    data.to_netcdf("data.nc", engine="netcdf4")
    arguments = ("fit", "data.nc", "--y", "y", "--x", "time", "--weights", "w", "--missing", "-999.9")
    for name, size in (("whole.nc", 100), ("blocks.nc", 3)):
        code, _, err = run(monkeypatch, capsys, *arguments, "--block-size", size, "-o", name)
        assert (code, err) == (0, "")
    whole, blocks = (xr.load_dataset(folder / n, engine="netcdf4") for n in ("whole.nc", "blocks.nc"))
    assert whole.attrs == blocks.attrs
    for name in ("params", "bse", "nobs", "status"):
        xr.testing.assert_identical(whole[name], blocks[name])
    xr.testing.assert_allclose(whole, blocks, rtol=1e-5)
    assert int(whole.nobs.sum()) == int((y != np.float32(-999.9)).sum())
    valid = y[:, 2, 3] != np.float32(-999.9)
    expected = np.polyfit(np.arange(20)[valid], y[valid, 2, 3], 1, w=np.sqrt(weights[valid, 2, 3]))
    np.testing.assert_allclose(whole.params[::-1, 2, 3], expected, rtol=1e-4)


def test_several_y_and_their_pictures(folder, rng, monkeypatch, capsys):
    dims = ("time", "station")
    data = xr.Dataset({name: (dims, rng.normal(size=(20, 4))) for name in ("wind", "rain")})
    data.to_netcdf("data.nc", engine="netcdf4")
    arguments = ("fit", "data.nc", "--y", "wind", "--y", "rain", "-o", "out.nc", "--plot", "out.png")
    assert run(monkeypatch, capsys, *arguments)[0] == 0
    found = xr.load_dataset(folder / "out.nc", engine="netcdf4")
    for name in data:
        np.testing.assert_allclose(found[f"{name}_params"][::-1], np.polyfit(np.arange(20), data[name], 1))
        assert (folder / f"out_{name}.png").stat().st_size > 10_000
    code, _, err = run(monkeypatch, capsys, "plot", "out.nc")
    assert (code, err) == (2, "jaxreg: pass --y: out.nc has results of wind, rain\n")
    code, out, _ = run(monkeypatch, capsys, "plot", "out.nc", "--y", "rain", "--param", "intercept")
    assert (code, out) == (0, "out.png\n")
    assert (folder / "out.png").stat().st_size > 5_000


@pytest.mark.parametrize("file", ["wide.csv", "grid.npz", "junk.nc"])
def test_what_is_no_result_is_not_drawn(folder, monkeypatch, capsys, file):
    code, _, err = run(monkeypatch, capsys, "plot", file)
    assert code == 2
    assert err.count("\n") == 1


def test_info_of_a_table_ends_in_commands_that_run(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "info", "long.csv", "--missing", "-999.9")
    assert (code, err) == (0, "")
    assert "2 different, such as 'Chile'" in out
    (command,) = (line.strip() for line in out.splitlines() if line.startswith("  jaxreg fit"))
    assert command == "jaxreg fit long.csv --missing -999.9 --by country --y gdp --x year"
    assert run(monkeypatch, capsys, *shlex.split(command)[1:])[0] == 0


def test_the_examples_of_the_help_run(folder, monkeypatch, capsys):
    ran = 0
    for command in ((), ("fit",), ("info",), ("plot",)):
        code, out, _ = run(monkeypatch, capsys, *command, "--help")
        assert code == 0
        for line in re.findall(r"^ +jaxreg (\w+ .*)$", out.partition("Examples:")[2], flags=re.M):
            code, _, err = run(monkeypatch, capsys, *shlex.split(line))
            assert (code, err) == (0, ""), line
            ran += 1
    assert ran == 10


def test_version_and_no_arguments(monkeypatch, capsys):
    assert run(monkeypatch, capsys, "--version")[:2] == (0, f"jaxreg {jaxreg.__version__}\n")
    code, out, _ = run(monkeypatch, capsys)
    assert (code, out[:14]) == (0, "Usage: jaxreg ")


def test_nothing_fitted_is_an_error_after_the_table(folder, monkeypatch, capsys):
    code, out, err = run(monkeypatch, capsys, "fit", "empty.csv", "-o", "out.nc")
    assert code == 2
    assert Status.no_observations.name in out
    assert err.endswith("nothing to fit in empty.csv: 1 no_observations\n")


def program(*arguments, **options):
    """`python -m jaxreg`, as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "jaxreg", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_module_is_the_program_and_completes_words(tmp_path):
    with program("fit", "nowhere.nc") as process:
        assert process.communicate()[1] == "jaxreg: there is no file nowhere.nc\n"
    assert process.returncode == 2
    words = {"COMP_WORDS": "jaxreg fi", "COMP_CWORD": "1", "_JAXREG_COMPLETE": "complete_bash"}
    with program(env={**os.environ, **words}) as process:
        assert process.communicate()[0].split() == ["fit"]


@pytest.mark.parametrize("module", ["typer", "jax", "jaxreg.faces.cli.along", "matplotlib.pyplot"])
def test_an_interrupt_at_any_time_is_one_line_and_leaves_nothing(folder, module):
    """The signal comes when a module is imported, the last one after the fit."""
    before = sorted(folder.iterdir())
    code = f"""
import os, signal, sys
from jaxreg.faces.cli import main

class Interrupt:
    def find_spec(self, name, *_):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["jaxreg", "fit", "wide.csv", "--plot", "out.png"]
main()
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr.strip()) == (130, "jaxreg: interrupted")
    assert sorted(folder.iterdir()) == before


def test_an_interrupted_write_is_removed(tmp_path):
    """What is being written when the signal comes."""
    code = f"""
import os, signal, sys
from pathlib import Path
from jaxreg.faces.cli import program
from jaxreg.data.output import write_whole

def write(path):
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, program._interrupted)
write_whole(Path({str(tmp_path / "out.csv")!r}), write)
"""
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr.strip()) == (130, "jaxreg: interrupted")
    assert not list(tmp_path.iterdir())


def test_only_the_program_has_a_compilation_cache():
    code = "import jax, jaxreg; jaxreg.fit([0, 1, 2], [1, 3, 5]); print(jax.config.jax_compilation_cache_dir)"
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert process.stdout == "None\n"
