"""Confidence intervals by quantiles of Student's t or of the normal distribution."""

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
    """The quantile of Student's t at 1 − alpha/2; an infinite df is the normal distribution."""
    if not isinstance(alpha, Tracer):
        value = np.asarray(alpha)
        if value.ndim or value.dtype.kind != "f" or not 0 < value < 1:
            raise ValueError(f"alpha is a probability between 0 and 1, such as 0.05; got {alpha!r}")
    return _quantiles(df, alpha)


@in_own_precision
def _quantiles(df: Array, alpha: Any) -> Array:
    return t.isf(jnp.zeros_like(df) + alpha / 2, df)


@in_own_precision
@jax.jit
def around(center: Array, sd: Array, quantile: Array) -> Array:
    """(lower, upper) = center ∓ quantile·sd."""
    return jnp.stack([center - quantile * sd, center + quantile * sd])
