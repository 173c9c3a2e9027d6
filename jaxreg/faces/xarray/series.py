"""`jaxreg.xarray.residuals` and `detrend`: what a fit leaves of y."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.ansatz import Ansatz, Features
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.curves.curve import Curve
from jaxreg.faces.xarray.model import Model, apply, float_dtype, model_of
from jaxreg.solvers.solver import Solver


def residuals(
    y: Any,
    dim: str,
    x: Any = None,
    *,
    ansatz: Ansatz | Features | Curve | None = None,
    cost: Cost = mean_squared_error,
    solver: Solver | None = None,
    weights: Any = None,
    skipna: bool = True,
    time_unit: str = "year",
    per: str | None = None,
) -> xr.DataArray:
    """Residuals ε = y − f(θ, x) of the fit along a dimension, NaN in gaps.

    Of a Dataset: `data.map(jaxreg.xarray.residuals, dim="time")`.

    Args:
        y: a DataArray, as for `jaxreg.xarray.fit`.
        dim: the dimension of the observations.
        x: as for `fit`.
        ansatz: as for `fit`.
        cost: as for `fit`.
        solver: as for `fit`.
        weights: as for `fit`.
        skipna: as for `fit`.
        time_unit: as for `fit`.
        per: as for `fit`.

    Returns:
        A DataArray with the dimensions, coordinates and attributes of y; NaN for data sets without params.

    >>> import numpy as np, xarray as xr
    >>> y = xr.DataArray([0.0, 1.0, 1.0, 3.0], {"time": np.arange(4.0)})
    >>> print(residuals(y, "time").values.round(2))
    [ 0.1  0.2 -0.7  0.4]
    """
    return _series(
        _residuals, y, dim, x, ansatz, (cost, solver, "nonrobust", skipna), weights, (time_unit, per)
    )


def detrend(
    y: Any,
    dim: str,
    x: Any = None,
    *,
    ansatz: Ansatz | Features | Curve | None = None,
    cost: Cost = mean_squared_error,
    solver: Solver | None = None,
    weights: Any = None,
    skipna: bool = True,
    time_unit: str = "year",
    per: str | None = None,
) -> xr.DataArray:
    """y without its trend but with its mean: y − f(θ, x) + ⟨f⟩, with ⟨f⟩ over the valid observations.

    Args:
        y: a DataArray, as for `jaxreg.xarray.fit`.
        dim: the dimension of the observations.
        x: as for `fit`.
        ansatz: as for `fit`.
        cost: as for `fit`.
        solver: as for `fit`.
        weights: as for `fit`.
        skipna: as for `fit`.
        time_unit: as for `fit`.
        per: as for `fit`.

    Returns:
        A DataArray with the dimensions, coordinates and attributes of y; NaN for data sets without params.

    >>> import numpy as np, xarray as xr
    >>> y = xr.DataArray([0.0, 1.0, 1.0, 3.0], {"time": np.arange(4.0)})
    >>> print(detrend(y, "time").values.round(2))
    [1.35 1.45 0.55 1.65]
    """
    return _series(
        _without_trend, y, dim, x, ansatz, (cost, solver, "nonrobust", skipna), weights, (time_unit, per)
    )


def _series(
    function: Any, y: Any, dim: str, x: Any, ansatz: Any, options: Any, weights: Any, times: Any
) -> xr.DataArray:
    model, regressors = model_of(y, dim, x, ansatz, options, times)
    dtype = float_dtype(y.dtype)
    outputs = {"series": ([dim], dtype)}
    series = apply(partial(function, dtype), model, y, dim, regressors, weights, outputs, {})
    return series.transpose(*y.dims, ...).assign_attrs(y.attrs).rename(y.name)


def _residuals(
    dtype: np.dtype,
    model: Model,
    y: np.ndarray,
    columns: list[np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    block = model.fit(y, columns, weights)
    return block.last(block.result.resid(block.x, block.y)).astype(dtype, copy=False)


def _without_trend(
    dtype: np.dtype,
    model: Model,
    y: np.ndarray,
    columns: list[np.ndarray],
    weights: np.ndarray | None = None,
) -> np.ndarray:
    block = model.fit(y, columns, weights)
    error = block.last(block.result.resid(block.x, block.y)).astype(np.float64)
    valid = np.isfinite(error)
    if weights is not None:
        valid &= weights != 0
    mean = np.sum(np.where(valid, np.moveaxis(block.y, 0, -1) - error, 0), axis=-1, keepdims=True)
    return (error + mean / np.maximum(valid.sum(axis=-1, keepdims=True), 1)).astype(dtype)
