"""What the functions of this face have in common: a fit of NumPy blocks with the observations last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.ansatz import Ansatz, Features, Line, Linear
from jaxreg.cost import Cost
from jaxreg.curves.curve import Curve
from jaxreg.data.rounding import noticeable_rounding
from jaxreg.engine.sandwich import Covariance
from jaxreg.faces.xarray.regressors import Regressor, regressors_of
from jaxreg.fitting import fit
from jaxreg.inference.result import Fit
from jaxreg.solvers.solver import Solver


@dataclass(frozen=True)
class Model:
    """What is fitted, without the data."""

    ansatz: Ansatz | Features | Curve
    cost: Cost
    solver: Solver | None
    cov_type: str | Covariance
    skipna: bool
    dtype: np.dtype

    @property
    def link(self) -> str:
        """That of the cost."""
        return getattr(self.cost, "link", "identity")

    def fit(self, y: np.ndarray, columns: list[np.ndarray], weights: np.ndarray | None) -> FitOfBlock:
        """Fit blocks (*loops, n) whose loops broadcast."""
        batch = np.broadcast_shapes(*(a.shape[:-1] for a in (y, *columns)))
        if weights is not None:
            batch = np.broadcast_shapes(batch, weights.shape[:-1])
            weights = _observations_first(weights, batch)
            weights = np.where(np.isnan(weights), 0, weights) if self.skipna else weights
        x = self._design([_observations_first(a, batch) for a in columns])
        y = _observations_first(y.astype(self.dtype, copy=False), batch, own=True)
        result = fit(
            x,
            y,
            ansatz=self.ansatz,
            cost=self.cost,
            solver=self.solver,
            weights=weights,
            cov_type=self.cov_type,
            nan_policy="omit" if self.skipna else "propagate",
        )
        return FitOfBlock(result, x, y, self.dtype)

    def _design(self, columns: list[np.ndarray]) -> np.ndarray:
        """x as `fit` takes it."""
        if not isinstance(self.ansatz, Linear):
            return columns[0]
        own = [a for a in columns if a.ndim > 1]
        return np.stack([_with_axes(a, own[0].shape) if own else a for a in columns], axis=1)


@dataclass(frozen=True)
class FitOfBlock:
    """A fit, its x and y with the observations first, and the dtype of the results."""

    result: Fit
    x: np.ndarray
    y: np.ndarray
    dtype: np.dtype

    def last(self, a: Any) -> np.ndarray:
        """A result in the dtype of y with its first axis, of params or observations, moved to the end."""
        return np.moveaxis(np.asarray(a, self.dtype), 0, -1)


def model_of(
    y: Any,
    dim: str,
    x: Any,
    ansatz: Ansatz | Features | Curve | None,
    options: tuple[Cost, Solver | None, str | Covariance, bool],
    times: tuple[str, str | None],
) -> tuple[Model, list[Regressor]]:
    """The model and the columns of x, after a check of both."""
    check_y(y, dim)
    regressors, are_several = regressors_of(y, dim, x, *times)
    if ansatz is None:
        ansatz = Linear() if are_several else Line()
    if isinstance(ansatz, Linear) and not ansatz.names:
        ansatz = replace(ansatz, names=tuple(column.name for column in regressors))
    if are_several and not isinstance(ansatz, Linear):
        raise ValueError(f"several x are the columns of Linear(); {ansatz} takes one")
    return Model(ansatz, *options, _dtype(y, regressors)), regressors


def _dtype(y: xr.DataArray, regressors: list[Regressor]) -> np.dtype:
    """float64 if that of y would round a column of x noticeably; for all data sets and chunks alike."""
    dtype = float_dtype(y.dtype)
    for column in (regressor.values for regressor in regressors):
        if column.dtype.kind == "f" and column.dtype.itemsize <= dtype.itemsize:
            continue
        if (
            column.ndim > 1
            or column.chunks is not None
            or noticeable_rounding(column.values, dtype) is not None
        ):
            return np.dtype(np.float64)
    return dtype


def apply(
    function: Callable[..., Any],
    model: Model,
    y: xr.DataArray,
    dim: str,
    regressors: list[Regressor],
    weights: Any,
    outputs: dict[str, tuple[list[str], Any]],
    sizes: dict[str, int],
) -> Any:
    """`xr.apply_ufunc` of a function of (model, y, columns of x, weights), lazily on dask arrays.

    Args:
        function: of blocks.
        model: its first argument.
        y: the data.
        dim: of the observations.
        regressors: the columns of x.
        weights: of the observations, or None.
        outputs: name → core dimensions and dtype.
        sizes: of new dimensions.
    """
    if weights is not None and not (isinstance(weights, xr.DataArray) and dim in weights.dims):
        raise TypeError(f'weights are a DataArray along {dim!r}: pass xr.DataArray(weights, dims="{dim}")')
    arrays = [y, *(column.values for column in regressors), *([] if weights is None else [weights])]
    arrays = [in_one_chunk(a, dim) for a in arrays]
    return xr.apply_ufunc(
        partial(_on_block, function, model, len(regressors)),
        *arrays,
        input_core_dims=[[dim]] * len(arrays),
        output_core_dims=[dims for dims, _ in outputs.values()],
        dask="parallelized",
        output_dtypes=[dtype for _, dtype in outputs.values()],
        dask_gufunc_kwargs={"output_sizes": sizes},
    )


def _on_block(function: Callable[..., Any], model: Model, k: int, y: np.ndarray, *arrays: np.ndarray) -> Any:
    return function(model, y, list(arrays[:k]), *arrays[k:])


def in_one_chunk(a: xr.DataArray, *dims: str) -> xr.DataArray:
    """A dask array with all of some dimensions in each chunk; its others are cut to keep chunks small."""
    if a.chunks is None or all(len(a.chunksizes[dim]) == 1 for dim in dims):
        return a
    return a.chunk({dim: -1 if dim in dims else "auto" for dim in a.dims})


def check_y(y: Any, dim: str) -> None:
    """Raise unless y is a DataArray of numbers along the dimension."""
    if not isinstance(y, xr.DataArray):
        raise TypeError(f"y is a DataArray or a Dataset, got {type(y).__name__}; jaxreg.fit takes arrays")
    if dim not in y.dims:
        raise ValueError(f"y has no dimension {dim!r}; it has {', '.join(map(str, y.dims))}")
    if y.dtype.kind not in "fiub" or y.dtype == np.float16:
        raise TypeError(f'y is {y.dtype}; pass numbers, such as y.astype("float32")')


def float_dtype(dtype: np.dtype) -> np.dtype:
    """The dtype of the results: that of y, or float64 for integers and booleans."""
    return np.dtype(dtype).newbyteorder("=") if dtype.kind == "f" else np.dtype(np.float64)


def _observations_first(a: np.ndarray, batch: tuple[int, ...], own: bool = False) -> np.ndarray:
    """(*loops, n) as (n,) if it has no loops and need not have its own, else (n, *batch)."""
    if a.ndim == 1 and not own:
        return a
    return np.moveaxis(np.broadcast_to(a, (*batch, a.shape[-1])), -1, 0)


def _with_axes(a: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return a if a.ndim == len(shape) else np.broadcast_to(a.reshape(-1, *(1,) * (len(shape) - 1)), shape)
