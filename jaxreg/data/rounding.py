"""Rounding of x and y to the dtype of the results: an error where it would hide what tells values apart."""

from __future__ import annotations

from typing import Any

import numpy as np

ROUNDING = 1e-5  # of the spread of x: what a change to the dtype of y may cost


def check_rounding(a: Any, dtype: np.dtype, name: str) -> None:
    """Raise where the dtype of the results would round away what tells values apart."""
    error = rounded_away(a, dtype)
    if error is not None:
        raise ValueError(_message(a, dtype, name, error))


def _message(a: Any, dtype: np.dtype, name: str, error: float) -> str:
    there = (
        f"{name} is {a.dtype} and y {dtype}" if name == "x" else f"y is {a.dtype} and is fitted in {dtype}"
    )
    return (
        f"{there}, in which {name} is off by up to {error:.2g}; pass {name} from a "
        f"nearer origin ({name} - {name}[0]), or y as float64"
    )


def check_spacing(x: np.ndarray, floats: np.ndarray) -> None:
    """Raise where even the differences of integers are rounded by what tells them apart."""
    exact = (x - x[0]).astype(np.int64).astype(np.float64)
    away = floats.astype(np.float64) - floats[0].astype(np.float64)
    error, spread = np.abs(away - exact).max(axis=0), np.ptp(exact, axis=0)
    if (error > ROUNDING * spread).any():
        raise ValueError(_message(x, floats.dtype, "x", error.max()))


def rounded_away(x: Any, dtype: np.dtype) -> float | None:
    """By how much x is off in this dtype, if that is felt beside the spread of x; None otherwise."""
    if not isinstance(x, np.ndarray) or x.dtype == dtype or x.dtype.itemsize < np.dtype(dtype).itemsize:
        return None
    cast, wide = x.astype(dtype).astype(np.float64), x.astype(np.float64)
    there = np.isfinite(wide)
    error = np.abs(cast - wide)[there].max(initial=0)
    return float(error) if there.any() and error > ROUNDING * np.ptp(wide[there]) else None
