"""The face of xarray against statsmodels and xarray's polyfit: coordinates, times, units, groups, dask."""

import re

import dask
import dask.array as da
import numpy as np
import pytest
import statsmodels.api as sm
import xarray as xr

import jaxreg
import jaxreg.xarray as jx
from jaxreg import HAC, Huber, Linear, Polynomial, Status

N, YEAR = 120, 365.2425
TIME = xr.date_range("2001-01-01", periods=N, freq="MS")
YEARS = np.asarray((TIME - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")) / YEAR


@pytest.fixture
def sst(rng):
    values = rng.normal(20, 1, size=(N, 3, 4)).cumsum(0) / 10
    values[rng.random(values.shape) < 0.1] = np.nan
    values[:, 0, 1] = np.nan
    coords = {"time": TIME, "lat": [10.0, 20.0, 30.0], "land": ("lat", [True, False, True])}
    attrs = {"units": "K", "long_name": "sea surface temperature"}
    return xr.DataArray(values, coords, ("time", "lat", "lon"), "sst", attrs)


def oracle(x, y, w=None, **options):
    """statsmodels' fit of the valid observations of one series."""
    X = sm.add_constant(np.asarray(x))
    valid = ~np.isnan(y) & ~np.isnan(X).any(1)
    valid &= True if w is None else ~np.isnan(w)
    return sm.WLS(y[valid], X[valid], 1.0 if w is None else w[valid]).fit(**options)


def test_trends_are_those_of_statsmodels_with_coordinates_and_units(sst):
    found = jx.fit(sst, "time")
    assert found.params.dims == ("param", "lat", "lon")
    assert found.param.values.tolist() == ["intercept", "slope"]
    assert found.units.values.tolist() == ["K", "K year-1"]
    xr.testing.assert_identical(found.lat, sst.lat)
    xr.testing.assert_identical(found.land, sst.land)
    expected = oracle(YEARS, sst.values[:, 2, 3])
    one = found.isel(lat=2, lon=3)
    for name, values in (
        ("params", expected.params),
        ("bse", expected.bse),
        ("tvalue", expected.tvalues),
        ("pvalue", expected.pvalues),
        ("rsquared", expected.rsquared),
        ("nobs", expected.nobs),
    ):
        np.testing.assert_allclose(one[name], values, rtol=1e-8, err_msg=name)
    assert found.status.sel(lat=10.0)[1] == Status.no_observations
    meanings = dict(zip(found.status.flag_values, found.status.flag_meanings.split(), strict=True))
    assert meanings == {code.value: code.name for code in Status}
    assert found.attrs["zero_of_x"] == "1970-01-01 00:00:00"
    assert found.attrs["days_per_year"] == YEAR
    assert found.attrs["x_units"] == "year"


@pytest.mark.slow
def test_params_are_those_of_polyfit(sst):
    y = sst.fillna(0).assign_coords(time=YEARS)
    found = jx.fit(y, "time", ansatz=Polynomial(2))
    expected = y.polyfit("time", 2).polyfit_coefficients.transpose("degree", "lat", "lon")
    np.testing.assert_allclose(found.params, expected[::-1], rtol=1e-6)
    assert found.param.values.tolist() == ["c0", "c1", "c2"]


@pytest.mark.parametrize(
    ("calendar", "days"), [("noleap", 365.0), ("360_day", 360.0), ("julian", 365.25), ("standard", YEAR)]
)
def test_years_of_calendars(sst, calendar, days):
    time = xr.date_range("2001-01-01", periods=N, freq="MS", calendar=calendar, use_cftime=True)
    found = jx.fit(sst.assign_coords(time=time), "time")
    first = (time[0] - type(time[0])(1970, 1, 1)).days
    x = (first + np.array([(t - time[0]).days for t in time])) / days
    expected = oracle(x, sst.values[:, 1, 1]).params
    np.testing.assert_allclose(found.params[:, 1, 1], expected, rtol=1e-8)
    assert found.attrs["calendar"] == calendar
    assert found.attrs["days_per_year"] == days


@pytest.mark.slow
def test_units_of_time(sst):
    year = jx.fit(sst, "time").params.sel(param="slope")
    for unit, factor in (("decade", 10), ("month", 1 / 12), ("day", 1 / YEAR), ("hours", 1 / YEAR / 24)):
        found = jx.fit(sst, "time", time_unit=unit)
        np.testing.assert_allclose(found.params.sel(param="slope"), year * factor, rtol=1e-12)
    assert found.units[1] == "K hour-1"
    per = jx.fit(sst, "time", per="decade")
    assert per.units[1] == "K decade-1"
    np.testing.assert_allclose(per.params.sel(param="slope"), year * 10, rtol=1e-12)
    np.testing.assert_allclose(per.params[0], jx.fit(sst, "time").params[0], rtol=1e-9)
    whole_years = sst.assign_coords(time=np.arange(N)).rename(time="year")
    np.testing.assert_allclose(
        jx.fit(whole_years, "year", per="decade").params[1], jx.fit(whole_years, "year").params[1] * 10
    )
    at = jx.predict(jx.fit(whole_years, "year", per="decade"), whole_years.year)
    np.testing.assert_allclose(at, jx.predict(jx.fit(whole_years, "year"), whole_years.year), rtol=1e-9)
    lag = sst.assign_coords(time=np.arange(N) * np.timedelta64(1, "D"))
    found = jx.fit(lag, "time", time_unit="day")
    np.testing.assert_allclose(
        found.params[:, 1, 1], oracle(np.arange(N), sst.values[:, 1, 1]).params, rtol=1e-9
    )
    assert "zero_of_x" not in found.attrs
    undecoded = sst.assign_coords(
        time=("time", np.arange(N), {"units": "days since 2000-01-01", "calendar": "noleap"})
    )
    found = jx.fit(undecoded, "time", per="year")
    np.testing.assert_allclose(found.params[1], jx.fit(lag, "time", time_unit="day").params[1] * 365)
    decoded = xr.decode_cf(undecoded.to_dataset()).sst
    xr.testing.assert_allclose(found.drop_vars("time", errors="ignore"), jx.fit(decoded, "time"))


def test_float32_stays_and_keeps_the_hours_of_decades(rng):
    """float32 would round hours since 1970 noticeably: such a fit is in float64."""
    time = xr.date_range("2020-01-01", periods=200, freq="h")
    y = xr.DataArray(rng.normal(size=200).astype("f4"), {"time": time})
    found = jx.fit(y, "time", time_unit="day")
    assert found.params.dtype == np.float64  # float32 params would lose the hours in predictions
    x = np.asarray((time - np.datetime64("1970-01-01")) / np.timedelta64(1, "D"))
    np.testing.assert_allclose(found.params, oracle(x, y.values.astype("f8")).params, rtol=1e-8)
    error = jx.residuals(y, "time", time_unit="day")
    assert error.dtype == np.float32
    np.testing.assert_allclose(y - jx.predict(found, y.time), error, atol=1e-6)
    z = xr.DataArray(1e6 * rng.normal(size=200), dims="time", name="z")
    both = jx.fit(y, "time", ["time", z], time_unit="day")
    expected = oracle(np.column_stack([x, z]), y.values.astype("f8"))
    np.testing.assert_allclose(both.params, expected.params, rtol=1e-6)
    assert jx.fit(y, "time", z).params.dtype == np.float32


def test_predictions_know_the_zero_the_calendar_and_the_link(sst, rng):
    days = xr.DataArray(np.arange(10.0), dims="time", attrs={"units": "days since 2000-01-01"})
    y = xr.DataArray(np.arange(10.0), {"time": days})
    of_numbers = jx.fit(y, "time", time_unit="day")
    of_times = jx.fit(xr.decode_cf(y.to_dataset(name="y")).y, "time", time_unit="day")
    sixth = xr.DataArray(np.datetime64("2000-01-06", "ns"))
    number = xr.DataArray(5.0, attrs={"units": "days since 2000-01-01"})
    for found in (of_numbers, of_times):
        for x in (sixth, number):
            np.testing.assert_allclose(jx.predict(found, x), 5, rtol=1e-9)
    with pytest.raises(ValueError, match="x of the fit are times, and the new ones numbers"):
        jx.predict(of_times, xr.DataArray(5.0))
    noleap = xr.date_range("2001-01-01", periods=N, freq="MS", calendar="noleap", use_cftime=True)
    with pytest.raises(ValueError, match="calendar noleap"):
        jx.predict(jx.fit(sst.assign_coords(time=noleap), "time"), sixth)
    counts = xr.DataArray(
        rng.poisson(np.exp(0.1 * np.arange(30))), {"t": np.arange(30.0)}, attrs={"units": "mm"}
    )
    of_counts = jx.fit(counts, "t", cost=jaxreg.Poisson())
    mean = jaxreg.fit(np.arange(30.0), counts.values, cost=jaxreg.Poisson()).predict(np.array([20.0]))
    np.testing.assert_allclose(jx.predict(of_counts, xr.DataArray([20.0], dims="t")), mean, rtol=1e-9)
    assert jx.predict(of_counts, counts.t).attrs["units"] == "mm"
    assert of_counts.units.values.tolist() == ["1", ""]


def test_the_mean_of_detrend_is_that_of_the_valid_observations():
    y = xr.DataArray([0.0, 1.0, 2.0, 100.0], dims="t")
    weights = xr.DataArray([1.0, 1.0, 1.0, 0.0], dims="t")
    np.testing.assert_allclose(jx.detrend(y, "t", weights=weights), [1, 1, 1, 98], atol=1e-12)


@pytest.mark.slow
def test_several_x_own_x_and_weights(sst, rng):
    enso = xr.DataArray(rng.normal(size=N), dims="time", name="enso", attrs={"units": "1"})
    wind = xr.DataArray(rng.normal(size=(N, 4)), dims=("time", "lon"), attrs={"units": "m s-1"})
    weights = xr.DataArray(rng.uniform(1, 2, size=(N, 3)), dims=("time", "lat"))
    weights[3, 1] = np.nan  # a gap, too
    found = jx.fit(sst, "time", {"year": "time", "enso": enso, "wind": wind}, weights=weights, cov_type="HC1")
    assert found.param.values.tolist() == ["intercept", "year", "enso", "wind"]
    assert found.units.values.tolist() == ["K", "K year-1", "K", "K (m s-1)-1"]
    for i, j in ((1, 2), (2, 0)):
        x = np.column_stack([YEARS, enso, wind[:, j]])
        expected = oracle(x, sst.values[:, i, j], weights.values[:, i], cov_type="HC1")
        np.testing.assert_allclose(found.params[:, i, j], expected.params, rtol=1e-7)
        np.testing.assert_allclose(found.bse[:, i, j], expected.bse, rtol=1e-7)
    without = jx.fit(sst, "time", [enso], ansatz=Linear(intercept=False))
    assert without.param.values.tolist() == ["enso"]
    many = jx.fit(enso, "time", wind)  # one y on many x
    assert many.params.dims == ("param", "lon")
    np.testing.assert_allclose(many.params[:, 1], oracle(wind[:, 1], enso.values).params, rtol=1e-9)


@pytest.mark.slow
def test_other_costs_and_covariances(sst):
    y = sst.isel(lat=1, lon=1)
    robust = jx.fit(y, "time", cost=Huber())
    np.testing.assert_allclose(robust.params, jaxreg.fit(YEARS, y.values, cost=Huber()).params, rtol=1e-7)
    hac = jx.fit(y.fillna(0), "time", cov_type=HAC(3))
    expected = oracle(YEARS, y.fillna(0).values, cov_type="HAC", cov_kwds={"maxlags": 3})
    np.testing.assert_allclose(hac.bse, expected.bse, rtol=1e-7)
    assert hac.attrs["cov_type"] == "HAC"


def test_missing_values(sst):
    y = sst[:, 1]
    assert np.isnan(jx.fit(y, "time", skipna=False).params).all()
    counts = y.notnull().sum("time")
    bound = int(counts.max())
    found = jx.fit(y, "time", min_count=bound)
    is_few = (counts < bound).values
    assert 0 < is_few.sum() < is_few.size
    assert (found.status == Status.too_few_observations).values.tolist() == is_few.tolist()
    for name in ("params", "bse", "tvalue", "pvalue"):
        assert np.isnan(found[name]).all("param").values.tolist() == is_few.tolist()
    assert np.isnan(found.rsquared).values.tolist() == is_few.tolist()


def test_a_dataset_and_groups(sst):
    data = xr.Dataset({"sst": sst, "twice": 2 * sst, "depth": ("lat", np.arange(3.0))})
    data.twice.attrs["units"] = "mm"
    found = jx.fit(data, "time")
    np.testing.assert_allclose(found.twice_params, 2 * found.sst_params)
    assert found.twice_units[1] == "mm year-1"
    at = jx.predict(found, sst.time)
    xr.testing.assert_allclose(at.sst, jx.predict(jx.fit(sst, "time"), sst.time))
    assert at.twice.attrs["units"] == "mm"
    left = data.drop_vars("depth").map(jx.residuals, dim="time")
    xr.testing.assert_allclose(left.twice, 2 * left.sst)
    assert not any(str(name).startswith("depth") for name in found)
    seasons = sst.groupby("time.season").map(jx.fit, dim="time")
    winter = sst.isel(time=np.isin(sst.time.dt.month, (12, 1, 2)))
    xr.testing.assert_allclose(seasons.sel(season="DJF", drop=True), jx.fit(winter, "time"))
    of_data = data.groupby("time.season").map(jx.fit, dim="time")
    np.testing.assert_allclose(of_data.sst_params, seasons.params)


def test_residuals_detrend_and_predict(sst):
    found = jx.fit(sst, "time")
    error = jx.residuals(sst, "time")
    assert error.dims == sst.dims
    assert error.attrs == sst.attrs
    series = sst.values[:, 2, 2]
    valid = ~np.isnan(series)
    np.testing.assert_allclose(error.values[valid, 2, 2], oracle(YEARS, series).resid, rtol=1e-7, atol=1e-9)
    assert np.isnan(error.values[~valid, 2, 2]).all()
    level = jx.detrend(sst, "time")
    np.testing.assert_allclose(level - error, sst.mean("time").broadcast_like(level).where(level.notnull()))
    at = jx.predict(found, sst.time)
    assert at.dims == sst.dims
    assert at.attrs["units"] == "K"
    np.testing.assert_allclose(sst - at, error, rtol=1e-6, atol=1e-9)
    later = xr.DataArray(np.array(["2050-01-01", "2051-01-01"], "datetime64[ns]"), dims="time")
    shifted = jx.predict(jx.fit(sst, "time", per="decade"), later)
    np.testing.assert_allclose(shifted, jx.predict(found, later), rtol=1e-9)
    assert jx.predict(found, later[0].drop_vars("time", errors="ignore")).dims == ("lat", "lon")
    both = jx.fit(sst, "time", {"t": "time", "z": sst.time.dt.month})
    new = jx.predict(both, {"t": later, "z": xr.DataArray(3.0)})
    years = np.asarray((later.values - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")) / YEAR
    want = np.tensordot(np.stack([np.ones(2), years, np.full(2, 3.0)]).T, both.params.values, 1)
    np.testing.assert_allclose(new, want, rtol=1e-9)


def test_false_discovery(sst):
    found = jx.fit(sst, "time")
    adjusted = jx.false_discovery(found.pvalue)
    np.testing.assert_allclose(adjusted.sel(param="slope"), jaxreg.false_discovery(found.pvalue.values[1]))
    by_lat = jx.false_discovery(found.pvalue, "lon", method="by")
    np.testing.assert_allclose(by_lat[1, 2], jaxreg.false_discovery(found.pvalue.values[1, 2], "by"))
    assert by_lat.dims == found.pvalue.dims
    lazy = jx.false_discovery(found.pvalue.chunk({"lat": 1}))
    xr.testing.assert_allclose(lazy.compute(), adjusted)


class Blocks:
    """An array that records how much of it is read at once."""

    def __init__(self, values):
        self.values, self.largest = values, 0
        self.shape, self.dtype, self.ndim = values.shape, values.dtype, values.ndim

    def __getitem__(self, index):
        part = self.values[index]
        self.largest = max(self.largest, part.size)
        return part


def test_dask_arrays_stay_lazy_and_are_never_read_whole(rng):
    source = Blocks(rng.normal(size=(N, 40, 50)))
    y = xr.DataArray(
        da.from_array(source, chunks=(N, 10, 10)), {"time": TIME}, ("time", "lat", "lon"), name="y"
    )

    def fail(*_, **__):
        raise AssertionError("computed")

    with dask.config.set(scheduler=fail):
        found = jx.fit(y, "time")
        error, adjusted = jx.residuals(y, "time"), jx.false_discovery(found.pvalue)
        at = jx.predict(found, y.time)
    assert source.largest == 0
    assert found.params.chunks == ((2,), (10,) * 4, (10,) * 5)
    assert at.chunksizes["lat"] == (10,) * 4
    computed = found.compute()
    assert source.largest == N * 100
    whole = jx.fit(y.compute(), "time")
    xr.testing.assert_identical(computed[["params", "bse"]], whole[["params", "bse"]])  # to the last bit
    xr.testing.assert_allclose(computed, whole, rtol=1e-12)
    xr.testing.assert_allclose(error.compute(), jx.residuals(y.compute(), "time"))
    xr.testing.assert_allclose(adjusted.compute(), jx.false_discovery(whole.pvalue))


@pytest.mark.slow
def test_chunks_along_the_observations_are_joined_in_small_parts(rng):
    values = rng.normal(size=(N, 40, 50))
    y = xr.DataArray(da.from_array(values, chunks=(10, 40, 50)), {"time": TIME}, ("time", "lat", "lon"))
    with dask.config.set({"array.chunk-size": "100KiB"}):
        found = jx.fit(y, "time")
    assert max(np.prod(found.params.data.chunksize), 1) < found.params.size / 4
    xr.testing.assert_allclose(found.compute(), jx.fit(y.compute(), "time"), rtol=1e-12)


@pytest.mark.slow
def test_a_zarr_store_on_a_cluster(rng, tmp_path):
    from dask.distributed import Client, LocalCluster

    y = xr.Dataset(
        {"sst": (("time", "lat", "lon"), rng.normal(size=(N, 20, 30)).astype("f4"))}, {"time": TIME}
    )
    y.chunk({"lat": 10}).to_zarr(tmp_path / "in.zarr", consolidated=False)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster),
        xr.open_zarr(tmp_path / "in.zarr", consolidated=False) as stored,
    ):
        found = jx.fit(stored, "time").compute()
    xr.testing.assert_allclose(found, jx.fit(y, "time"))


def test_results_are_written_to_netcdf(sst, tmp_path):
    found = jx.fit(sst, "time")
    found.to_netcdf(tmp_path / "trend.nc")
    with xr.open_dataset(tmp_path / "trend.nc") as stored:
        xr.testing.assert_allclose(jx.predict(stored, sst.time), jx.predict(found, sst.time))


def test_messages(sst):
    unnamed = xr.DataArray(np.zeros(N), dims="time")
    for call, message in (
        (lambda: jx.fit(sst, "tim"), "y has no dimension 'tim'; it has time, lat, lon"),
        (lambda: jx.fit(sst, "time", "depth"), "there is no coordinate 'depth'; there are time, lat, land"),
        (lambda: jx.fit(sst, "time", "land"), "x has dimensions ('lat',), and the fit runs along 'time'"),
        (lambda: jx.fit(sst, "time", per="score"), "a unit of time is one of century, decade"),
        (lambda: jx.fit(sst.drop_vars("time"), "time", per="year"), "needs an x in a unit of time"),
        (lambda: jx.fit(sst, "time", YEARS), 'pass xr.DataArray(x, dims="time")'),
        (lambda: jx.fit(sst, "time", weights=YEARS), "weights are a DataArray along 'time'"),
        (lambda: jx.fit(sst, "time", ["time", "time"]), "several x need a name each"),
        (lambda: jx.fit(sst, "time", ["time"], ansatz=Polynomial(2)), "are the columns of Linear()"),
        (lambda: jx.fit(sst.values, "time"), "jaxreg.fit takes arrays"),
        (lambda: jx.fit(sst.astype(str), "time"), "pass numbers"),
        (lambda: jx.fit(sst.time, "time"), "pass numbers"),
        (lambda: jx.fit(xr.Dataset({"a": sst.lat}), "time"), "no variable of numbers"),
        (lambda: jx.residuals(sst.to_dataset(), "time"), "y is a DataArray"),
        (lambda: jx.predict(sst.to_dataset(), sst.time), "takes the Dataset of jaxreg.xarray.fit"),
        (lambda: jx.predict(jx.fit(sst, "time"), YEARS), "x is a DataArray"),
        (lambda: jx.false_discovery(jx.fit(sst, "time").pvalue, "time"), "pvalue has no dimension 'time'"),
        (lambda: jaxreg.fit(sst.time, unnamed), "jaxreg.xarray.fit(y, 'time') takes them"),
    ):
        with pytest.raises((TypeError, ValueError), match=re.escape(message)):
            call()


def test_without_xarray_the_error_names_the_extra(monkeypatch):
    import importlib
    import sys

    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(ModuleNotFoundError, match=r"jaxreg\[xarray\]"):
        importlib.reload(jx)


def test_confidence_intervals_are_those_of_statsmodels(rng):
    y = xr.DataArray(rng.normal(size=(20, 3)), {"x": np.arange(20.0)}, ("x", "m"))
    found = jaxreg.xarray.fit(y, "x", cov_type="HC3", alpha=0.1)
    for m in range(3):
        expected = sm.OLS(y.values[:, m], sm.add_constant(y.x.values)).fit(cov_type="HC3").conf_int(0.1)
        limits = np.stack([found.conf_low[:, m], found.conf_high[:, m]], axis=1)
        np.testing.assert_allclose(limits, expected, rtol=1e-9)
    both = jaxreg.xarray.fit(xr.Dataset({"a": y}), "x", alpha=0.1)
    assert both.a_conf_low.attrs["long_name"] == "lower limits of the confidence intervals of the params, a"
    assert "conf_low" not in jaxreg.xarray.fit(y, "x")
