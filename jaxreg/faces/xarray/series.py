"""`jaxreg.xarray.residuals` and `detrend`: what a fit leaves of y."""

from __future__ import annotations

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

    Returns:
        A DataArray with the dimensions, coordinates and attributes of y; NaN for data sets without params.

    >>> import numpy as np, xarray as xr
    >>> y = xr.DataArray([0.0, 1.0, 1.0, 3.0], {"time": np.arange(4.0)})
    >>> print(residuals(y, "time").values.round(2))
    [ 0.1  0.2 -0.7  0.4]
    """
    return _series(_residuals, y, dim, x, ansatz, (cost, solver, "nonrobust", skipna), weights)


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

    Returns:
        A DataArray with the dimensions, coordinates and attributes of y; NaN for data sets without params.

    >>> import numpy as np, xarray as xr
    >>> y = xr.DataArray([0.0, 1.0, 1.0, 3.0], {"time": np.arange(4.0)})
    >>> print(detrend(y, "time").values.round(2))
    [1.35 1.45 0.55 1.65]
    """
    return _series(_without_trend, y, dim, x, ansatz, (cost, solver, "nonrobust", skipna), weights)


def _series(function: Any, y: Any, dim: str, x: Any, ansatz: Any, options: Any, weights: Any) -> xr.DataArray:
    model, regressors = model_of(y, dim, x, ansatz, options, ("year", None))
    outputs = {"residuals": ([dim], float_dtype(y.dtype))}
    found = apply(function, model, y, dim, regressors, weights, outputs, {})
    return found.transpose(*y.dims, ...).assign_attrs(y.attrs).rename(y.name)


def _residuals(
    model: Model, y: np.ndarray, columns: list[np.ndarray], weights: np.ndarray | None = None
) -> np.ndarray:
    block = model.fit(y, columns, weights)
    return block.last(block.result.resid(block.x, block.y))


def _without_trend(
    model: Model, y: np.ndarray, columns: list[np.ndarray], weights: np.ndarray | None = None
) -> np.ndarray:
    block = model.fit(y, columns, weights)
    error = np.asarray(block.result.resid(block.x, block.y), np.float64)
    valid = np.isfinite(error)
    f = np.where(valid, block.y - error, 0)
    mean = f.sum(0) / np.maximum(valid.sum(0), 1)
    return block.last(error + mean)
