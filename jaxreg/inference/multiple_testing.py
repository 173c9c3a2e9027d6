"""p-values adjusted for multiple testing."""

from __future__ import annotations

from collections.abc import Callable
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
    adjust = _choice(method, {"bh": _benjamini_hochberg, "by": _benjamini_yekutieli})
    return _adjusted(_checked(pvalues), adjust)


def familywise_error(pvalues: Any, method: str = "holm") -> Array:
    """p-values adjusted for the family-wise error rate, the probability of one or more false discoveries.

    Among m sorted p-values, p_(k) becomes max_{j ≤ k} p_(j) (m + 1 − j) with "holm" and p_(k) m with
    "bonferroni", and at most 1. Rejecting the adjusted p-values at most q keeps the family-wise error rate at
    most q, however the tests depend on each other. Holm's method rejects all that Bonferroni's does, or more.

    Args:
        pvalues: an array of any shape, one family of tests; NaN is left out and stays NaN.
        method: "holm" or "bonferroni".

    Returns:
        Adjusted p-values of the same shape; the discoveries are `familywise_error(fit.pvalues[1]) < 0.05`.

    Source: S. Holm, Scand. J. Statist. 6 (1979) 65.

    >>> print(familywise_error(np.array([0.01, 0.02, np.nan, 0.5])))
    [0.03 0.04  nan 0.5 ]
    """
    adjust = _choice(method, {"holm": _holm, "bonferroni": _bonferroni})
    return _adjusted(_checked(pvalues), adjust)


Adjustment = Callable[[Array, Array, Array], Array]  # of the sorted p-values, their ranks from 1, and m


def _choice(method: str, methods: dict[str, Adjustment]) -> Adjustment:
    if method not in methods:
        names = " or ".join(f'"{name}"' for name in methods)
        raise ValueError(f"method is {names}, got {method!r}")
    return methods[method]


def _checked(pvalues: Any) -> Any:
    if isinstance(pvalues, np.ma.MaskedArray):
        pvalues = pvalues.filled(np.nan)
    p: Any = pvalues if isinstance(pvalues, jax.Array) else np.asarray(pvalues)
    if not jnp.issubdtype(p.dtype, jnp.floating):
        raise TypeError(
            f"pvalues are floats between 0 and 1, such as fit.pvalues[1]; got {type(pvalues).__name__}"
        )
    if not isinstance(p, Tracer) and bool(((p < 0) | (p > 1)).any()):
        raise ValueError("pvalues must lie between 0 and 1 (or be NaN)")
    return p


@in_own_precision
def _adjusted(p: Array, adjust: Adjustment) -> Array:
    flat = jnp.asarray(p).ravel()
    order = jnp.argsort(flat)  # NaN last
    m = jnp.sum(~jnp.isnan(flat), dtype=jnp.int32)
    rank = jnp.arange(1, flat.size + 1, dtype=jnp.int32)
    adjusted = jnp.where(rank <= m, jnp.minimum(adjust(flat[order], rank, m), 1), jnp.nan)
    return jnp.zeros_like(flat).at[order].set(adjusted).reshape(p.shape)


def _benjamini_hochberg(p: Array, rank: Array, m: Array) -> Array:
    return _cummin_from_end(p * (m / rank.astype(p.dtype)))


def _benjamini_yekutieli(p: Array, rank: Array, m: Array) -> Array:
    harmonic = jnp.sum(jnp.where(rank <= m, 1 / rank.astype(p.dtype), 0))
    return _cummin_from_end(p * (m / rank.astype(p.dtype) * harmonic))


def _cummin_from_end(p: Array) -> Array:
    """min_{j ≥ k} p_(j), without NaN."""
    return jax.lax.cummin(jnp.where(jnp.isnan(p), jnp.inf, p), reverse=True)


def _holm(p: Array, rank: Array, m: Array) -> Array:
    return jax.lax.cummax(p * (m + 1 - rank).astype(p.dtype))  # NaN comes last


def _bonferroni(p: Array, rank: Array, m: Array) -> Array:
    return p * m.astype(p.dtype)
