"""p-values adjusted for multiple testing."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.numerics.precision import in_own_precision


def false_discovery(pvalues: Any, method: str = "bh") -> Array:
    """p-values adjusted for the false discovery rate, the expected fraction of false discoveries.

    Among m sorted p-values, p_(k) becomes min_{j ≥ k} p_(j) m / j, and at most 1; with "by", m is
    multiplied by Σ_{j ≤ m} 1/j. Rejecting the adjusted p-values at most q keeps the false discovery rate at
    most q.

    Args:
        pvalues: an array of any shape, one family of tests; NaN is left out and stays NaN.
        method: "bh" (Benjamini-Hochberg) for independent or positively dependent tests, or "by"
            (Benjamini-Yekutieli) for any dependence.

    Returns:
        Adjusted p-values of the same shape; the discoveries are `false_discovery(fit.pvalues[1]) < 0.05`.

    Source: Y. Benjamini and Y. Hochberg, J. R. Stat. Soc. B 57 (1995) 289; Y. Benjamini and D. Yekutieli,
    Ann. Statist. 29 (2001) 1165.

    >>> print(false_discovery(np.array([0.01, 0.02, np.nan, 0.5])))
    [0.03 0.03  nan 0.5 ]
    """
    if method not in ("bh", "by"):
        raise ValueError(f'method is "bh" or "by", got {method!r}')
    p: Any = pvalues if isinstance(pvalues, jax.Array) else np.asarray(pvalues)
    if not jnp.issubdtype(p.dtype, jnp.floating):
        raise TypeError(f"pvalues are floats between 0 and 1, got {p.dtype}")
    if not isinstance(p, Tracer) and bool(((p < 0) | (p > 1)).any()):
        raise ValueError("pvalues must lie between 0 and 1 (or be NaN)")
    return _adjusted(p, method == "by")


@in_own_precision
def _adjusted(p: Array, any_dependence: bool) -> Array:
    flat = jnp.asarray(p).ravel()
    order = jnp.argsort(flat)  # NaN last
    there = jnp.sum(~jnp.isnan(flat), dtype=jnp.int32)
    rank = jnp.arange(1, flat.size + 1, dtype=jnp.int32)
    factor = there / rank.astype(flat.dtype)
    if any_dependence:
        factor *= jnp.sum(jnp.where(rank <= there, 1 / rank.astype(flat.dtype), 0))
    scaled = jnp.where(rank <= there, flat[order] * factor, jnp.inf)
    adjusted = jnp.minimum(jax.lax.cummin(scaled, reverse=True), 1)
    adjusted = jnp.where(rank <= there, adjusted, jnp.nan)
    return jnp.zeros_like(flat).at[order].set(adjusted).reshape(p.shape)
