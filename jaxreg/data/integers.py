"""Integers into floats: an origin is taken out first where a float would round what tells them apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer


def floats_and_origin(a: Any, dtype: np.dtype) -> tuple[Any, Any]:
    """(a − origin, origin) in a float dtype, an origin per data set, or (a, None) where a is exact as it is.

    The origin is near the first observation and exact in the dtype (in float64 for JAX's 64-bit integers);
    the difference is that of integers, rounded once. Data sets that are exact as they are have the origin 0.

    Args:
        a: integers, (n, ...).
        dtype: of floats.
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
    if not isinstance(exact, Tracer) and exact.all():
        return a.astype(dtype), None
    origin = xp.where(exact, a.dtype.type(0), (a[0] >> excess) << excess)
    whole, half = (jnp.int32 if bits == 32 else jnp.int64), bits // 2
    wide = np.float64 if xp is np or bits == 64 else dtype
    # Halves of the bits, whose differences neither overflow nor are rounded.
    high = (a >> half).astype(whole) - (origin >> half).astype(whole)
    low = (a & (2**half - 1)).astype(whole) - (origin & (2**half - 1)).astype(whole)
    away = high.astype(wide) * 2.0**half + low.astype(wide)
    return away.astype(dtype), origin.astype(origin_dtype)
