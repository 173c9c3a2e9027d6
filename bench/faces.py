"""The cases of the faces: DataArrays, groups of data frames, rolling windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench import peers
from bench.measure import Ratio, Row, Runner, at_most, compare
from jaxreg import fit

GAPS = 0.1


def data_arrays(scale: float, on_cpu: bool) -> list[Row | Ratio]:
    """Times and gaps: ≤ 1.3 × `fit` of the arrays, ≥ 100 × faster than polyfit; with dask ≤ 1.5 ×."""
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

    def ours(a: Any) -> Any:
        return jaxreg.xarray.fit(a, "time").compute().params.values.reshape(2, -1)

    runners = [
        Runner("jaxreg", lambda: fit(years.astype("f4"), y), m, lambda result: result.params.reshape(2, -1)),
        Runner("jaxreg.xarray", lambda: ours(array), m, lambda params: params),
        Runner("jaxreg.xarray, dask", lambda: ours(chunked), m, lambda params: params),
        Runner("xarray.polyfit", peers.xarray_polyfit(years, some), some.shape[1], lambda params: params),
    ]
    rows = compare("data arrays", runners)
    return at_most(
        rows,
        ("jaxreg.xarray", "jaxreg", 1.3),
        ("jaxreg.xarray, dask", "jaxreg", 1.5),
        ("jaxreg.xarray", "xarray.polyfit", 0.01),
    )
