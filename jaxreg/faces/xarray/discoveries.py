"""`jaxreg.xarray.false_discovery`: p-values adjusted over the data sets of a grid."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from functools import partial
from typing import Any

import numpy as np
import xarray as xr

from jaxreg.faces.xarray.model import in_one_chunk
from jaxreg.inference.multiple_testing import false_discovery as adjusted


def false_discovery(
    pvalue: Any, dim: Hashable | Iterable[Hashable] | None = None, *, method: str = "bh"
) -> xr.DataArray:
    """p-values adjusted for the false discovery rate, by `jaxreg.false_discovery`.

    Args:
        pvalue: p-values; NaN is left out and stays NaN.
        dim: the dimensions over which they are one family of tests; if omitted, all but `param`.
        method: "bh" (Benjamini-Hochberg) or "by" (Benjamini-Yekutieli).

    Returns:
        Adjusted p-values with the dimensions, coordinates and attributes of `pvalue`.

    Raises:
        ValueError: if there is no such dimension or method.

    >>> import xarray as xr
    >>> print(false_discovery(xr.DataArray([0.01, 0.02, 0.5], dims="station")).values)
    [0.03 0.03 0.5 ]
    """
    if not isinstance(pvalue, xr.DataArray):
        raise TypeError(f"pvalue is a DataArray, such as fitted.pvalue; got {type(pvalue).__name__}")
    if dim is None:
        dims = [str(name) for name in pvalue.dims if name != "param"]
    else:
        dims = [dim] if isinstance(dim, str) or not isinstance(dim, Iterable) else list(dim)
    unknown = [name for name in dims if name not in pvalue.dims]
    if unknown:
        raise ValueError(f"pvalue has no dimension {unknown[0]!r}; it has {', '.join(map(str, pvalue.dims))}")
    names = [str(name) for name in dims]
    found = xr.apply_ufunc(
        partial(_adjusted, method, len(names)),
        in_one_chunk(pvalue, *names),
        input_core_dims=[names],
        output_core_dims=[names],
        dask="parallelized",
        output_dtypes=[pvalue.dtype],
        keep_attrs=True,
    )
    return found.transpose(*pvalue.dims)


def _adjusted(method: str, axes: int, p: np.ndarray) -> np.ndarray:
    """Each family by itself."""
    families = p.reshape(-1, *p.shape[p.ndim - axes :])
    return np.stack([np.asarray(adjusted(a, method)) for a in families]).reshape(p.shape)
