"""Intervals: limits around a value, of Student's t or of the normal distribution."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.inference.distributions import t
from jaxreg.numerics.precision import in_own_precision


def quantiles(df: Array, alpha: Any) -> Array:
    """Of Student's t, at 1 − alpha/2."""
    if not isinstance(alpha, Tracer):
        number = np.asarray(alpha)
        if number.ndim or number.dtype.kind != "f" or not 0 < number < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, such as 0.05; got {alpha!r}")
    return _quantiles(df, alpha)


@in_own_precision
def _quantiles(df: Array, alpha: Any) -> Array:
    return t.isf(jnp.zeros_like(df) + alpha / 2, df)


@in_own_precision
@jax.jit
def around(center: Array, sd: Array, quantile: Array) -> Array:
    """(lower, upper)."""
    return jnp.stack([center - quantile * sd, center + quantile * sd])
