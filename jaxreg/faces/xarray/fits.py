"""`jaxreg.xarray.fit`: the fit of every data set along a dimension, as a Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.ansatz import Ansatz, Features, Line, Linear, Polynomial
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.curves.curve import Curve
from jaxreg.data import time_units
from jaxreg.engine.sandwich import Covariance
from jaxreg.faces.xarray.model import Model, apply, model_of
from jaxreg.faces.xarray.regressors import Regressor
from jaxreg.inference.report import flags_of_status
from jaxreg.solvers.solver import Solver
from jaxreg.status import Status

LONG_NAMES = {
    "params": "params",
    "bse": "standard errors of the params",
    "tvalue": "t statistics of the params",
    "pvalue": "p-values of the params",
    "rsquared": "R²",
    "nobs": "number of valid observations",
    "status": "status of the fit",
}
INTERVALS = {
    "conf_low": "lower limits of the confidence intervals of the params",
    "conf_high": "upper limits of the confidence intervals of the params",
}


def fit(
    y: Any,
    dim: str,
    x: Any = None,
    *,
    ansatz: Ansatz | Features | Curve | None = None,
    cost: Cost = mean_squared_error,
    solver: Solver | None = None,
    weights: Any = None,
    skipna: bool = True,
    min_count: int | None = None,
    cov_type: str | Covariance = "nonrobust",
    time_unit: str = "year",
    per: str | None = None,
    alpha: float | None = None,
) -> xr.Dataset:
    """Fit y = f(θ, x) along a dimension, for every position in the others: `jaxreg.fit` of DataArrays.

    Times (datetime64, cftime of any calendar, numbers of "days since …") become numbers in `time_unit` since
    1970-01-01 00:00, so that intercepts of different periods and seasons can be compared. A year is the mean
    year of the calendar: 365.2425 days, 365 for noleap, 360 for 360_day.

    Dask arrays stay lazy: each chunk is fitted by itself, on any scheduler. An array in several chunks along
    `dim` is rechunked to one, with the other dimensions in chunks of dask's "auto" size.

    Of groups: `y.groupby("time.season").map(jaxreg.xarray.fit, dim="time")`.

    Args:
        y: numbers, NaN where missing; of a Dataset every variable of numbers that has the dimension. Results
            have its dtype, or float64 if float32 would round x noticeably, such as hours since 1970.
        dim: the dimension of the observations.
        x: the name of a coordinate along `dim`, or a DataArray along `dim`, which may have more dimensions;
            a list of these, or a mapping from names, for several columns. If omitted, the coordinate `dim`.
        ansatz: if omitted, `Line()`, or `Linear()` of several x.
        cost: as for `jaxreg.fit`.
        solver: as for `jaxreg.fit`.
        weights: inverse variances along `dim`, with or without the dimensions of y.
        skipna: whether observations with a missing value in y, x or weights are left out; if False, a data
            set with one has params of NaN.
        min_count: the number of valid observations below which a data set has the status
            `too_few_observations` and NaN; that of params if omitted.
        cov_type: as for `jaxreg.fit`.
        time_unit: of times: century, decade, year, month, week, day, hour, minute or second.
        per: the unit of x, such as "decade", also of x that are numbers in a unit of time.
        alpha: 1 − the confidence of `conf_low` and `conf_high`, which are left out if it is omitted.

    Returns:
        A Dataset of `params`, `bse`, `tvalue` and `pvalue` along `param`, whose coordinate `units` has the
        units of each, such as "K year-1"; `rsquared`, `nobs`, and `status` with the flags of
        `jaxreg.Status`. The attributes say the ansatz, the covariance, and the units and zero of x. For a
        Dataset y the names begin with those of its variables, such as `sst_params`.

    Raises:
        TypeError, ValueError: if there is no such dimension or coordinate, or y or x are not numbers.

    >>> import numpy as np, xarray as xr
    >>> time = xr.date_range("2000-01-01", periods=5, freq="YS")
    >>> y = xr.DataArray([0.0, 1, 2, 3, 5], {"time": time}, name="t", attrs={"units": "K"})
    >>> trend = fit(y, "time", per="decade")
    >>> slope = trend.params.sel(param="slope")
    >>> print(slope.values.round(2), slope.units.item())
    12.0 K decade-1
    """
    options, times = (cost, solver, cov_type, skipna), (time_unit, per)

    def fit_variable(y: Any) -> xr.Dataset:
        model, regressors = model_of(y, dim, x, ansatz, options, times)
        return _fit(model, y, dim, regressors, weights, (min_count, alpha))

    if not isinstance(y, xr.Dataset):
        return fit_variable(y)
    fits = {
        name: fit_variable(a) for name, a in y.data_vars.items() if dim in a.dims and a.dtype.kind in "fiu"
    }
    if not fits:
        raise ValueError(f"no variable of numbers has the dimension {dim!r}")
    return merged(fits)


def merged(fits: Mapping[Any, xr.Dataset]) -> xr.Dataset:
    """The fits of several variables as one Dataset, whose names begin with those of the variables."""
    named = [
        found.rename({old: f"{name}_{old}" for old in (*found.data_vars, "units")})
        for name, found in fits.items()
    ]
    return xr.merge(named, combine_attrs="drop_conflicts", compat="no_conflicts", join="exact")


def _fit(
    model: Model,
    y: xr.DataArray,
    dim: str,
    regressors: list[Regressor],
    weights: Any,
    limits: tuple[int | None, float | None],
) -> xr.Dataset:
    """The results of one variable with their coordinates, attributes and units."""
    names, dtype = model.ansatz.param_names(len(regressors)), model.dtype
    y_units = str(y.attrs.get("units", ""))
    outputs = {name: (["param"], dtype) for name in ("params", "bse", "tvalue", "pvalue")}
    outputs |= {"rsquared": ([], dtype), "nobs": ([], np.dtype("i4")), "status": ([], np.dtype("i1"))}
    long_names = LONG_NAMES
    if limits[1] is not None:
        outputs |= {name: (["param"], dtype) for name in INTERVALS}
        long_names = LONG_NAMES | INTERVALS
    statistics, sizes = partial(_statistics, limits), {"param": len(names)}
    results = apply(statistics, model, y, dim, regressors, weights, outputs, sizes)
    dataset = xr.Dataset(dict(zip(outputs, results, strict=True))).transpose("param", ...)
    units = _units(model, len(names), y_units, regressors)
    for name, long_name in long_names.items():
        dataset[name].attrs = {"long_name": long_name if y.name is None else f"{long_name}, {y.name}"}
    dataset["status"].attrs |= flags_of_status()
    return dataset.assign_coords(param=list(names), units=("param", units)).assign_attrs(
        _attributes(model, regressors, y_units)
    )


def _statistics(
    limits: tuple[int | None, float | None],
    model: Model,
    y: np.ndarray,
    columns: list[np.ndarray],
    weights: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """The results of a block, in the order of `LONG_NAMES` and `INTERVALS`."""
    min_count, alpha = limits
    block = model.fit(y, columns, weights)
    result, nan = block.result, model.dtype.type(np.nan)
    nobs, status = np.asarray(result.nobs, np.int32), np.asarray(result.status, np.int8)
    per_param = [block.last(a) for a in (result.params, result.bse, result.tvalues, result.pvalues)]
    rsquared = np.asarray(result.rsquared, model.dtype)
    if alpha is not None:
        per_param += [block.last(a) for a in result.conf_int(alpha)]
    if min_count is not None:
        is_few = (nobs < min_count) & (status != Status.no_observations) & (status != Status.invalid_data)
        status = np.where(is_few, np.int8(Status.too_few_observations), status)
        per_param = [np.where(is_few[..., None], nan, a) for a in per_param]
        rsquared = np.where(is_few, nan, rsquared)
    return *per_param[:4], rsquared, nobs, status, *per_param[4:]


def _units(model: Model, p: int, y_units: str, regressors: list[Regressor]) -> list[str]:
    """The units of each param; "" where x has none, and for curves and functions of x."""
    units, ansatz = [column.units for column in regressors], model.ansatz
    of_f = y_units if model.link == "identity" else "1"  # a logarithm, of counts or odds

    def of_power(unit: str, k: int) -> str:
        return time_units.units_of_power(of_f, unit, k) if unit or k == 0 else ""

    if isinstance(ansatz, Linear):
        slopes = [of_power(unit, 1) for unit in units]
        return [of_f, *slopes] if ansatz.intercept else slopes
    if isinstance(ansatz, Line | Polynomial):
        return [of_power(units[0], k) for k in range(p)]
    return [""] * p


def _attributes(model: Model, regressors: list[Regressor], y_units: str) -> dict[str, Any]:
    """What was fitted, and what x is."""
    covariance = model.cov_type if isinstance(model.cov_type, str) else model.cov_type.name
    zeros = [column.zero for column in regressors]
    attributes: dict[str, Any] = {
        "ansatz": str(model.ansatz),
        "cov_type": covariance,
        "x": ", ".join(column.name for column in regressors),
        "x_units": ", ".join(column.units for column in regressors),
        "zero_of_x": ", ".join(zeros) if any(zeros) else "",
        "calendar": next((column.calendar for column in regressors if column.calendar), ""),
        "link": "" if model.link == "identity" else model.link,
        "y_units": y_units,
        "source": "jaxreg",
    }
    if any(column.units in time_units.YEARS for column in regressors):
        attributes["days_per_year"] = time_units.days_per_year(attributes["calendar"] or None)
    return {name: value for name, value in attributes.items() if value != ""}
