"""Arrays of numbers from what users pass: NumPy and JAX arrays, lists, tables, masked arrays, files."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MAX_IN_FLOAT32 = 2**24  # the largest integer up to which float32 holds all


def as_array(a: Any, name: str) -> Any:
    """An array of numbers, or what can be sliced into them; masked elements become NaN."""
    if hasattr(a, "todense"):
        raise TypeError(f"{name} is a sparse {type(a).__name__}; pass an array with all its elements")
    if isinstance(a, np.ma.MaskedArray):
        kind = a.dtype if np.issubdtype(a.dtype, np.floating) else np.float64
        a = np.where(np.ma.getmaskarray(a), np.nan, a.data.astype(kind)).astype(kind)
    if not isinstance(a, jax.Array) and not _is_sliceable(a):
        try:
            a = np.asarray(a)
        except ValueError as error:
            raise ValueError(f"{name} is no array of numbers: {error}") from None
    if a.dtype == object:
        raise TypeError(f"{name} holds {_objects(a)}")
    if np.issubdtype(a.dtype, np.datetime64) or np.issubdtype(a.dtype, np.timedelta64):
        raise TypeError(
            f"{name} holds times ({a.dtype}); pass numbers in the unit the slope shall have, "
            f'such as ({name} - {name}[0]) / np.timedelta64(1, "D")'
        )
    real = jnp.issubdtype(a.dtype, jnp.floating) or jnp.issubdtype(a.dtype, jnp.integer)
    if not real and a.dtype != bool:
        raise TypeError(f"{name} holds {a.dtype}; pass real numbers (float32 or float64)")
    if jnp.issubdtype(a.dtype, jnp.floating) and _native(a.dtype) not in (jnp.float32, jnp.float64):
        raise TypeError(f"{name} is {a.dtype}; pass float32 or float64")
    return a


def _objects(a: Any) -> str:
    """What an array of objects holds, and what to pass instead."""
    values = np.asarray(a).ravel()
    others = [value for value in values if not isinstance(value, int | float | np.number)]
    if not others:
        return "numbers as objects; pass float32 or float64"
    kind = f"{type(others[0]).__module__}.{type(others[0]).__qualname__}".removeprefix("builtins.")
    if all(value is None for value in others):
        return "None; pass NaN for what is missing"
    if hasattr(others[0], "strftime") or isinstance(others[0], timedelta):
        return (
            f"times ({kind}); pass numbers in the unit the slope shall have: of dates and times "
            '(t - t[0]) / np.timedelta64(1, "D") with t = np.asarray(times, "datetime64[ns]"), of a pandas '
            'period its to_timestamp(), of cftime cftime.date2num(times, "days since 2000-01-01")'
        )
    return f"objects ({kind}); pass real numbers (float32 or float64)"


def _is_sliceable(a: Any) -> bool:
    """Whether it is an array of several axes that need not be read at once: a dataset of a file."""
    try:
        np.dtype(a.dtype)
        return hasattr(a, "__getitem__") and len(a.shape) > 1
    except (AttributeError, TypeError):
        return False


def result_dtype(x: Any, y: Any) -> np.dtype:
    """The dtype of y; integers y take that of x if it holds them, and integers alone the default one."""
    if (
        y.dtype.kind in "iu"
        and y.dtype.itemsize > 4
        and (isinstance(y, Tracer) or not isinstance(y, np.ndarray | jax.Array))
    ):
        return np.dtype(np.float64)  # there is nothing to look at, or too much
    for a in (y, x):
        if jnp.issubdtype(a.dtype, jnp.floating):
            return np.dtype(np.float64) if _is_too_large(y, a.dtype) else _native(a.dtype)
    return np.dtype(jnp.result_type(float) if isinstance(y, jax.Array) else np.float64)


def _is_too_large(y: Any, dtype: Any) -> bool:
    """Whether y holds integers that a float32 would round, and float64 is there to fit it in."""
    has_float64 = isinstance(y, np.ndarray) or y.dtype.itemsize > 4
    if not has_float64 or y.dtype.kind not in "iu" or np.dtype(dtype).itemsize > 4:
        return False
    return y.size > 0 and max(int(y.max()), -int(y.min())) > MAX_IN_FLOAT32


def _native(dtype: Any) -> np.dtype:
    """The dtype in this machine's order of bytes; files such as FITS have the other."""
    return np.dtype(dtype).newbyteorder("=")


def cast(a: Any, dtype: np.dtype) -> Any:
    """In this dtype; itself if it has it."""
    return a if a.dtype == dtype else a.astype(dtype)
