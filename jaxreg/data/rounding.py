"""Rounding of x and y to the dtype of the results, refused where it would change differences noticeably."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg.numerics.precision import float64

MAX_ROUNDING = 1e-5  # of the range of the values


def check_rounding(a: Any, dtype: np.dtype, name: str) -> None:
    """Raise if the dtype of the results would round the values noticeably."""
    error = noticeable_rounding(a, dtype)
    if error is not None:
        raise ValueError(_message(a, dtype, name, error))


def _message(a: Any, dtype: np.dtype, name: str, error: float) -> str:
    dtypes = (
        f"{name} is {a.dtype} and y {dtype}" if name == "x" else f"y is {a.dtype} and is fitted in {dtype}"
    )
    return (
        f"{dtypes}, which would round {name} by up to {error:.2g}; pass {name} from a nearer origin "
        f"({name} - {name}[0]), or y as float64"
    )


def check_spacing(x: np.ndarray, floats: np.ndarray) -> None:
    """Raise if integers are rounded noticeably even after an origin was subtracted."""
    exact = (x - x[0]).astype(np.int64).astype(np.float64)
    differences = floats.astype(np.float64) - floats[0].astype(np.float64)
    error, spread = np.abs(differences - exact).max(axis=0), np.ptp(exact, axis=0)
    if (error > MAX_ROUNDING * spread).any():
        raise ValueError(_message(x, floats.dtype, "x", error.max()))


def noticeable_rounding(x: Any, dtype: np.dtype) -> float | None:
    """The largest rounding error of x in this dtype if it is noticeable within the range of x, else None.

    It is unknown, None, for traced arrays and for those on several devices.
    """
    is_on_device = isinstance(x, jax.Array) and not isinstance(x, Tracer) and len(x.devices()) == 1
    has_values = is_on_device or isinstance(x, np.ndarray)
    if not has_values or x.dtype == dtype or x.dtype.itemsize < np.dtype(dtype).itemsize:
        return None
    xp: Any = jnp if is_on_device else np
    with float64() if is_on_device else nullcontext():
        rounded, wide = x.astype(dtype).astype(np.float64), x.astype(np.float64)
        finite = xp.isfinite(wide)
        error = float(xp.where(finite, abs(rounded - wide), 0).max(initial=0))
        low, high = (
            xp.where(finite, wide, np.inf).min(initial=np.inf),
            xp.where(finite, wide, -np.inf).max(initial=-np.inf),
        )
        return error if error > MAX_ROUNDING * float(high - low) >= 0 else None
