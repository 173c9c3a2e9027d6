"""`jaxreg.xarray.predict`: f(θ, x) of fitted params at new x."""

from __future__ import annotations

import ast
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
import xarray as xr

from jaxreg.ansatz import Ansatz, Line, Linear, Polynomial
from jaxreg.data import time_units
from jaxreg.faces.xarray.regressors import as_numbers
from jaxreg.numerics.precision import in_own_precision

ANSAETZE = {ansatz.__name__: ansatz for ansatz in (Line, Polynomial, Linear)}


def predict(fitted: Any, x: Any) -> Any:
    """f(θ, x) of a Dataset of `jaxreg.xarray.fit`, at new times or other x.

    Args:
        fitted: the result of `fit`, with `Line`, `Polynomial` or `Linear`.
        x: a DataArray of times or numbers, of any dimensions; for several x a mapping from their names.
            Times are converted as in the fit; numbers are in the attribute `x_units`.

    Returns:
        A DataArray with the dimensions of x and of the data sets, in units of y; NaN for data sets without
        params. Of the fit of a Dataset, a Dataset with its variables. Dask arrays stay lazy.

    Raises:
        ValueError: if the fit has another ansatz, or x lacks a column.

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
    ansatz = _ansatz_of(fitted.attrs["ansatz"])
    columns = _columns(fitted, ansatz, x)
    found = xr.apply_ufunc(
        partial(_predicted, ansatz),
        fitted.params,
        *columns,
        input_core_dims=[["param"], *[[]] * len(columns)],
        dask="parallelized",
        output_dtypes=[fitted.params.dtype],
    )
    dims = list(dict.fromkeys(dim for column in columns for dim in column.dims))
    units = fitted.units.values.tolist()[0] if "units" in fitted.coords and ansatz.has_intercept else ""
    return found.transpose(*dims, ...).assign_attrs({"units": units} if units else {})


def _columns(fitted: xr.Dataset, ansatz: Ansatz, x: Any) -> list[xr.DataArray]:
    """The columns of x as numbers in the units of the fit."""
    units = [part.strip() for part in fitted.attrs.get("x_units", "").split(",")]
    if isinstance(ansatz, Linear):
        names = fitted.param.values.tolist()[ansatz.intercept :]
        if not isinstance(x, dict) or set(x) != set(names):
            raise ValueError(f"x is a mapping from {', '.join(names)} to DataArrays")
        given = [x[name] for name in names]
    else:
        given = [x]
    return [_numbers(a, unit) for a, unit in zip(given, units, strict=True)]


def _numbers(x: Any, unit: str) -> xr.DataArray:
    if not isinstance(x, xr.DataArray):
        raise TypeError(f"x is a DataArray, got {type(x).__name__}; pass xr.DataArray(x)")
    own_unit = time_units.unit_of_time(unit)
    if own_unit is None:
        return x
    x = x if x.name is not None else x.rename("x")
    named_unit = time_units.unit_of_time(x.attrs.get("units", x.name))
    return as_numbers(x, own_unit, own_unit if named_unit else None).values


def _predicted(ansatz: Ansatz, params: np.ndarray, *columns: Any) -> np.ndarray:
    """f for params (*loops, p) and columns of loops that broadcast."""
    loops = np.broadcast_shapes(params.shape[:-1], *map(np.shape, columns))
    theta = np.moveaxis(np.broadcast_to(params, (*loops, params.shape[-1])), -1, 0)
    x = [np.broadcast_to(a, loops).astype(theta.dtype)[None] for a in columns]
    value = _predict(ansatz, theta, np.stack(x, axis=1) if ansatz.x_is_vector else x[0])
    return np.asarray(value)[0, ...]


def _predict(ansatz: Ansatz, params: np.ndarray, x: np.ndarray) -> Any:
    return in_own_precision(lambda params, x: ansatz.predict(jnp.asarray(params), jnp.asarray(x)))(params, x)


def _ansatz_of(text: str) -> Ansatz:
    """The ansatz that an attribute such as "Polynomial(degree=2)" says."""
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id not in ANSAETZE:
        raise ValueError(f"predict knows {', '.join(ANSAETZE)}; the fit has {text}")
    return ANSAETZE[call.func.id](**{k.arg: ast.literal_eval(k.value) for k in call.keywords if k.arg})
