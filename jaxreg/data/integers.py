"""Integers to floats: an origin is subtracted first where rounding would change their differences."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer


def floats_and_origin(a: Any, dtype: np.dtype, *, is_part: bool = False) -> tuple[Any, Any]:
    """(a − origin, origin) in a float dtype, with an origin per data set, or (a, None) if a is exact in it.

    The origin is near the first observation and exact in the dtype (in float64 for JAX's 64-bit integers).
    The difference is taken between integers and rounded once. Data sets that are exact in the dtype have
    the origin 0.

    Args:
        a: integers, (n, ...).
        dtype: a float dtype.
        is_part: whether other data sets of the same array, which may need an origin, are converted on their
            own; then all have one unless the integer type is exact in the dtype.
    """
    bits = 8 * a.dtype.itemsize
    signed = jnp.issubdtype(a.dtype, jnp.signedinteger)
    if bits - signed <= jnp.finfo(dtype).nmant + 1:
        return a.astype(dtype), None
    xp: Any = jnp if isinstance(a, jax.Array) else np
    origin_dtype = np.dtype(np.float64) if xp is jnp and bits == 64 else dtype
    largest = xp.maximum(a.max(axis=0), ~a.min(axis=0)) if signed else a.max(axis=0)
    length = bits - lax.clz(largest) if xp is jnp else np.frexp(largest.astype(np.float64))[1]
    exact = length <= jnp.finfo(dtype).nmant + 1
    excess = xp.maximum(length.astype(np.int32) - (jnp.finfo(origin_dtype).nmant + 1), 0).astype(a.dtype)
    if not isinstance(exact, Tracer) and exact.all() and not is_part:
        return a.astype(dtype), None
    origin = xp.where(exact, a.dtype.type(0), (a[0] >> excess) << excess)
    integer, half = (jnp.int32 if bits == 32 else jnp.int64), bits // 2
    wide = np.float64 if xp is np or bits == 64 else dtype
    # Subtract the upper and the lower half of the bits separately: the differences are exact.
    high = (a >> half).astype(integer) - (origin >> half).astype(integer)
    low = (a & (2**half - 1)).astype(integer) - (origin & (2**half - 1)).astype(integer)
    difference = high.astype(wide) * 2.0**half + low.astype(wide)
    return difference.astype(dtype), origin.astype(origin_dtype)
