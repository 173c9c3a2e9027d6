"""The cases of the faces: DataArrays, groups of data frames, rolling windows."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from bench import peers
from bench.measure import Ratio, Row, Runner, at_most, compare
from jaxreg import fit

GAPS = 0.1


def data_arrays(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Times, gaps, all statistics: ≤ 1.3 × `fit` of arrays, with dask ≤ 1.5 ×; polyfit has params alone."""
    import xarray as xr

    import jaxreg.xarray

    n, shape = 300, (int(500 * scale), 500)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((n, *shape), dtype="f4")
    y[rng.random(y.shape, dtype="f4") < GAPS] = np.nan
    time = xr.date_range("1990-01-01", periods=n, freq="MS")
    array = xr.DataArray(y, {"time": time}, ("time", "lat", "lon"))
    chunked = array.chunk({"lat": max(1, shape[0] // 8)})
    years = np.asarray((time - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")) / 365.2425
    m, some = shape[0] * shape[1], y.reshape(n, -1)[:, :2_500]

    def of_arrays() -> Any:
        found = fit(years.astype("f4"), y)
        _ = found.tvalues, found.pvalues, found.rsquared
        return found.params.reshape(2, -1)

    def ours(a: Any) -> Any:
        return jaxreg.xarray.fit(a, "time").compute().params.values.reshape(2, -1)

    runners = [
        Runner("jaxreg", of_arrays, m, lambda params: params),
        Runner("jaxreg.xarray", lambda: ours(array), m, lambda params: params),
        Runner("jaxreg.xarray, dask", lambda: ours(chunked), m, lambda params: params),
        Runner("xarray.polyfit", peers.xarray_polyfit(years, some), some.shape[1], lambda params: params),
    ]
    rows = compare("data arrays", runners)
    return at_most(rows, ("jaxreg.xarray", "jaxreg", 1.3), ("jaxreg.xarray, dask", "jaxreg", 1.5))


def stores(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """From a Zarr store to a Zarr store with all statistics: ≥ 0.8 of the rate of reading alone."""
    import xarray as xr

    import jaxreg.xarray

    n, shape, chunk = 300, (int(1_000 * scale), 1_000), 100
    rng = np.random.default_rng(0)
    y = rng.standard_normal((n, *shape), dtype="f4").round(
        2
    )  # as measured, so that compression finds something
    y[rng.random(y.shape, dtype="f4") < GAPS] = np.nan
    time = xr.date_range("1990-01-01", periods=n, freq="MS")
    array = xr.DataArray(y, {"time": time}, ("time", "lat", "lon"), "y")
    with TemporaryDirectory() as folder:
        array.to_dataset().chunk(time=-1, lat=chunk, lon=500).to_zarr(f"{folder}/y.zarr", zarr_format=2)
        lazy = xr.open_zarr(f"{folder}/y.zarr").y

        def read() -> Any:
            for start in range(0, shape[0], chunk):
                lazy[:, start : start + chunk].compute()

        def ours() -> Any:
            return jaxreg.xarray.fit_to_zarr(lazy, "time", f"{folder}/fits.zarr").params.values.reshape(2, -1)

        m = shape[0] * shape[1]
        runners = [
            Runner("jaxreg", ours, m, lambda params: params),
            Runner("reading alone", read, m, None),
        ]
        rows = compare("Zarr to Zarr", runners)
    return at_most(rows, ("jaxreg", "reading alone", 1.25))


def groups(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """20,000 groups of 100 rows with all statistics: ≥ 20 × faster than polars-ols."""
    import jaxreg.frame

    m, n = int(20_000 * scale), 100
    table = _long_table(np.full(m, n))
    some = table[: 1_000 * n]

    def ours() -> Any:
        return jaxreg.frame.fit(table, y="y", x="x", by="id")

    runners = [
        Runner("jaxreg", ours, m, lambda found: found.select("intercept", "x").to_numpy().T),
        Runner("polars variances", lambda: _variances(table), m, lambda params: params),
    ]
    if peers.are_installed("polars_ols"):
        runners.append(Runner("polars-ols", lambda: peers.polars_ols(some), 1_000, lambda params: params))
    x, y = (table[name].to_numpy().reshape(m, n).T for name in ("x", "y"))
    runners.append(
        Runner(
            "statsmodels loop", peers.looped(peers.statsmodels_line, x, y), peers.LOOP, lambda params: params
        )
    )
    expected = np.stack([np.polyfit(x[:, i], y[:, i], 1)[::-1] for i in range(300)], axis=1)
    rows = compare("groups of 100 rows", runners, expected)
    return at_most(rows, ("jaxreg", "polars-ols", 0.05))


def ragged(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """200,000 groups of 5 to 500 rows, log-uniform, with all statistics."""
    import jaxreg.frame

    m = int(200_000 * scale)
    counts = np.exp(np.random.default_rng(1).uniform(np.log(5), np.log(501), m)).astype(int)
    table = _long_table(counts)
    runners = [
        Runner(
            "jaxreg",
            lambda: jaxreg.frame.fit(table, y="y", x="x", by="id"),
            m,
            lambda found: found.select("intercept", "x").to_numpy().T,
        ),
        Runner("polars variances", lambda: _variances(table), m, lambda params: params),
    ]
    return list(compare("groups of 5 to 500 rows", runners))


def windows(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Windows of 60 of 100,000 rows: ≥ 50 × faster than RollingOLS."""
    import pandas as pd
    from statsmodels.regression.rolling import RollingOLS

    import jaxreg.frame

    n, window = int(100_000 * scale), 60
    rng = np.random.default_rng(2)
    x = rng.normal(size=n)
    table = pd.DataFrame({"x": x, "y": 1 + 2 * x + rng.normal(size=n)})
    some = table.iloc[: max(window + 1, n // 10)]
    design = np.column_stack([np.ones(len(some)), some.x])

    def peer() -> np.ndarray:
        found = RollingOLS(some.y.to_numpy(), design, window).fit(use_t=True)
        return np.concatenate([found.params.T, found.bse.T, found.pvalues.T])

    def ours() -> Any:
        return jaxreg.frame.rolling(table, y="y", x="x", window=window)

    reference = peer()[:2, window - 1 :]
    runners = [
        Runner("jaxreg", ours, n, lambda found: found[["intercept", "x"]].to_numpy().T[:, window - 1 :]),
        Runner("RollingOLS", peer, len(some), lambda values: values[:2, window - 1 :]),
    ]
    rows = compare("windows of 60 rows", runners, reference)
    return at_most(rows, ("jaxreg", "RollingOLS", 0.02))


def _long_table(counts: np.ndarray) -> Any:
    """A polars table of groups with these numbers of rows, of lines with noise."""
    import polars as pl

    rng, number = np.random.default_rng(0), int(counts.sum())
    x = rng.normal(size=number)
    y = 1 + x + rng.normal(size=number)
    return pl.DataFrame({"id": np.repeat(np.arange(len(counts)), counts), "x": x, "y": y})


def _variances(table: Any) -> np.ndarray:
    """Lines by group_by with cov and var, without statistics."""
    import polars as pl

    slope = pl.cov("x", "y") / pl.var("x")
    columns = (pl.mean("y") - slope * pl.mean("x")).alias("intercept"), slope.alias("slope")
    return table.group_by("id").agg(*columns).sort("id").select("intercept", "slope").to_numpy().T
