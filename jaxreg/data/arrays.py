"""Arrays of numbers from the arguments of `fit`: arrays, lists, tables, masked arrays, datasets of files."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MAX_IN_FLOAT32 = 2**24  # float32 represents every integer up to this one


def as_array(a: Any, name: str) -> Any:
    """The argument as an array of numbers, or unread if it is read by slicing; masked elements become NaN."""
    if hasattr(a, "todense"):
        raise TypeError(f"{name} is a sparse {type(a).__name__}; pass an array with all its elements")
    dims = getattr(a, "dims", None) if hasattr(a, "coords") else None  # of a DataArray
    if isinstance(a, np.ma.MaskedArray):
        kind = a.dtype if jnp.issubdtype(a.dtype, jnp.floating) else np.float64
        a = np.where(np.ma.getmaskarray(a), np.nan, a.data.astype(kind)).astype(kind)
    if not isinstance(a, jax.Array) and not _is_sliceable(a):
        try:
            a = _as_numpy(a)
        except ValueError as error:
            raise ValueError(f"{name} is not an array of numbers: {error}") from None
    if a.dtype == object:
        raise TypeError(f"{name} holds {_content_and_advice(a, dims)}")
    if np.issubdtype(a.dtype, np.datetime64) or np.issubdtype(a.dtype, np.timedelta64):
        raise TypeError(
            f"{name} holds times ({a.dtype}); {_face_of_xarray(dims)}pass numbers in the time unit of the "
            f'slope, such as days, ({name} - {name}[0]) / np.timedelta64(1, "D")'
        )
    is_real = jnp.issubdtype(a.dtype, jnp.floating) or jnp.issubdtype(a.dtype, jnp.integer)
    if not is_real and a.dtype != bool:
        raise TypeError(f"{name} holds {a.dtype}; pass real numbers (float32 or float64)")
    if jnp.issubdtype(a.dtype, jnp.floating) and _native(a.dtype) not in (jnp.float32, jnp.float64):
        dtype = "float32" if a.dtype.itemsize < 4 else "float64"
        raise TypeError(f'{name} is {a.dtype}; fits are in float32 or float64: pass {name}.astype("{dtype}")')
    return a


def _as_numpy(a: Any) -> np.ndarray:
    """The argument as a NumPy array; missing values of pandas' nullable dtypes become NaN."""
    array = np.asarray(a)
    if array.dtype != object or not hasattr(a, "dtypes"):
        return array
    dtypes = list(a.dtypes) if array.ndim == 2 else [a.dtypes]  # of a DataFrame or of a Series
    is_numeric = all(getattr(dtype, "kind", "O") in "iufb" for dtype in dtypes)
    return a.to_numpy(np.float64, na_value=np.nan) if is_numeric else array


def _face_of_xarray(dims: tuple[Any, ...] | None) -> str:
    """What takes times, for an error message about those of a DataArray."""
    return f"jaxreg.xarray.fit(y, {dims[0]!r}) takes them, or " if dims else ""


def _content_and_advice(a: Any, dims: tuple[Any, ...] | None) -> str:
    """The content of an array of objects, for an error message, and what to pass instead."""
    values = np.asarray(a).ravel()
    others = [value for value in values if not isinstance(value, int | float | np.number)]
    if not others:
        return "numbers as objects; pass float32 or float64"
    kind = f"{type(others[0]).__module__}.{type(others[0]).__qualname__}".removeprefix("builtins.")
    if all(value is None or type(value).__name__ == "NAType" for value in others):
        return f"{others[0]}; pass NaN for missing values"
    if hasattr(others[0], "strftime") or isinstance(others[0], timedelta):
        return (
            f"times ({kind}); {_face_of_xarray(dims)}pass numbers in the time unit of the slope, such as "
            'days: for dates (t - t[0]) / np.timedelta64(1, "D") with t = np.asarray(times, "datetime64[ns]")'
            ", for pandas periods the same of their to_timestamp(), for cftime "
            'date2num(times, "days since 2000-01-01")'
        )
    return f"objects ({kind}); pass real numbers (float32 or float64)"


def _is_sliceable(a: Any) -> bool:
    """Whether it is an array of several axes that is read by slicing, such as a dataset of a file."""
    try:
        np.dtype(a.dtype)
        return hasattr(a, "__getitem__") and len(a.shape) > 1
    except (AttributeError, TypeError):
        return False


def result_dtype(x: Any, y: Any) -> np.dtype:
    """The dtype of the results: that of y if it is floating; for integers that of x, or else the default.

    An integer y that float32 would round is fitted in float64 whatever the dtype of x.
    """
    if (
        y.dtype.kind in "iu"
        and y.dtype.itemsize > 4
        and (isinstance(y, Tracer) or not isinstance(y, np.ndarray | jax.Array))
    ):
        return np.dtype(np.float64)  # values are traced, or not read yet: they may need it
    for a in (y, x):
        if jnp.issubdtype(a.dtype, jnp.floating):
            return np.dtype(np.float64) if _is_too_large(y, a.dtype) else _native(a.dtype)
    return np.dtype(jnp.result_type(float) if isinstance(y, jax.Array) else np.float64)


def _is_too_large(y: Any, dtype: Any) -> bool:
    """Whether y holds integers that float32 would round, and can be converted to float64."""
    has_float64 = isinstance(y, np.ndarray) or y.dtype.itemsize > 4
    if not has_float64 or y.dtype.kind not in "iu" or np.dtype(dtype).itemsize > 4:
        return False
    return y.size > 0 and max(int(y.max()), -int(y.min())) > MAX_IN_FLOAT32


def _native(dtype: Any) -> np.dtype:
    """The dtype in the byte order of this machine; FITS files, for example, are big-endian."""
    return np.dtype(dtype).newbyteorder("=")


def in_memory(a: Any) -> Any:
    """The array itself, or a dataset of a file read as a NumPy array."""
    return a if isinstance(a, np.ndarray | jax.Array) else np.asarray(a)


def cast(a: Any, dtype: np.dtype) -> Any:
    """The array in this dtype, without a copy if it already has it."""
    return a if a.dtype == dtype else a.astype(dtype)
