"""`jaxreg.xarray.predict`: f(θ, x) of fitted params at new x."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxreg.ansatz import Ansatz, Line, Linear, Polynomial
from jaxreg.data import time_units
from jaxreg.faces.xarray.regressors import as_numbers
from jaxreg.inference.prediction import INVERSE_LINKS
from jaxreg.numerics.precision import in_own_precision

ANSAETZE = {ansatz.__name__: ansatz for ansatz in (Line, Polynomial, Linear)}


def predict(fitted: Any, x: Any) -> Any:
    """f(θ, x) of a Dataset of `jaxreg.xarray.fit`, at new times or other x.

    Args:
        fitted: the result of `fit`, with `Line`, `Polynomial` or `Linear`.
        x: a DataArray of any dimensions; for several x a mapping from their names. Where x of the fit were
            times, these are times of the same calendar; otherwise they are numbers in the units of the
            attribute `x_units`, or in the unit of time of their own attribute `units`, or of their name if
            that is year, month, day or hour.

    Returns:
        The mean of y, a DataArray with the dimensions of x and of the data sets, in units of y; NaN for data
        sets without params. Of the fit of a Dataset, a Dataset with its variables. Dask arrays stay lazy.

    Raises:
        TypeError, ValueError: if the fit has another ansatz, x lacks a column, or x holds numbers in place of
            times, times in place of numbers, or times of another calendar.

    >>> import numpy as np, xarray as xr
    >>> from jaxreg.xarray import fit
    >>> y = xr.DataArray([0.0, 1.0, 1.0, 3.0], {"time": np.arange(4.0)})
    >>> print(predict(fit(y, "time"), xr.DataArray(10.0)).values.round(2))
    8.9
    """
    if not isinstance(fitted, xr.Dataset) or "ansatz" not in fitted.attrs:
        raise ValueError("predict takes the Dataset of jaxreg.xarray.fit, with its attributes")
    if "params" in fitted:
        return _of_variable(fitted, x)
    names = [str(name).removesuffix("_params") for name in fitted if str(name).endswith("_params")]
    renamed = {name: fitted.rename({f"{name}_{a}": a for a in ("params", "units")}) for name in names}
    return xr.Dataset({name: _of_variable(a, x) for name, a in renamed.items()})


def _of_variable(fitted: xr.Dataset, x: Any) -> xr.DataArray:
    ansatz, link = _ansatz_of(fitted.attrs["ansatz"]), fitted.attrs.get("link", "identity")
    columns = _columns(fitted, ansatz, x)
    mean = xr.apply_ufunc(
        partial(_predicted, ansatz, link),
        fitted.params,
        *columns,
        input_core_dims=[["param"], *[[]] * len(columns)],
        dask="parallelized",
        output_dtypes=[fitted.params.dtype],
    )
    dims = list(dict.fromkeys(dim for column in columns for dim in column.dims))
    units = fitted.attrs.get("y_units", "")
    if "units" in fitted.coords and ansatz.has_intercept and link == "identity":
        units = fitted.units.values.tolist()[0]
    return mean.transpose(*dims, ...).assign_attrs({"units": units} if units else {})


def _columns(fitted: xr.Dataset, ansatz: Ansatz, x: Any) -> list[xr.DataArray]:
    """The columns of x as numbers in the units of the fit."""
    texts = (fitted.attrs.get(name, "").split(",") for name in ("x_units", "zero_of_x"))
    units, zeros = ([part.strip() for part in text] for text in texts)
    if isinstance(ansatz, Linear):
        names = fitted.param.values.tolist()[ansatz.intercept :]
        if not isinstance(x, Mapping) or set(x) != set(names):
            raise ValueError(f"x is a mapping from {', '.join(names)} to DataArrays")
        given = [x[name] for name in names]
    else:
        given = [x]
    zeros = zeros if any(zeros) else [""] * len(units)
    calendar = fitted.attrs.get("calendar", "")
    columns = zip(given, units, zeros, strict=True)
    return [_numbers(a, unit, zero, calendar) for a, unit, zero in columns]


def _numbers(x: Any, unit: str, zero: str, calendar: str) -> xr.DataArray:
    """New x as numbers in the unit and from the zero of the fit."""
    if not isinstance(x, xr.DataArray):
        raise TypeError(f"x is a DataArray, got {type(x).__name__}; pass xr.DataArray(x)")
    new = as_numbers(x, time_units.unit_of_time(unit) or "year", None)
    if bool(new.zero) != bool(zero):
        kinds = ("numbers or time differences", "times")
        raise ValueError(f"x of the fit are {kinds[bool(zero)]}, and the new ones {kinds[bool(new.zero)]}")
    if zero and not time_units.are_same(new.calendar, calendar):
        raise ValueError(f"x of the fit are times of calendar {calendar}, and the new ones of {new.calendar}")
    own_unit = time_units.unit_of_time(time_units.units_of(x))
    if not time_units.is_time(x) and not zero and own_unit and unit:
        return as_numbers(x, time_units.checked_unit(unit), unit).values
    return new.values


def _predicted(ansatz: Ansatz, link: str, params: np.ndarray, *columns: Any) -> np.ndarray:
    """The mean of y for params (*loops, p) and columns of loops that broadcast, computed in float64."""
    loops = np.broadcast_shapes(params.shape[:-1], *map(np.shape, columns))
    theta = np.moveaxis(np.broadcast_to(params, (*loops, params.shape[-1])), -1, 0)
    x = [np.broadcast_to(a, loops).astype(np.float64)[None] for a in columns]
    design = np.stack(x, axis=1) if ansatz.x_is_vector else x[0]
    mean = _mean(ansatz, link, theta.astype(np.float64), design)
    return np.asarray(mean, params.dtype)[0, ...]


@in_own_precision
def _mean(ansatz: Ansatz, link: str, params: Any, x: Any) -> Any:
    return INVERSE_LINKS[link](ansatz.predict(jnp.asarray(params), jnp.asarray(x)))


def _ansatz_of(text: str) -> Ansatz:
    """The ansatz that an attribute such as "Polynomial(degree=2)" says."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in ANSAETZE:
        raise ValueError(f"predict knows {', '.join(ANSAETZE)}; the fit has {text}")
    return ANSAETZE[call.func.id](**{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
