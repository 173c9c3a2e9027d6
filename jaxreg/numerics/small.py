"""Products of small matrices, one per data set, with the data sets behind: (p, q, *batch).

Sums over a few terms are written out: XLA vectorizes an addition over the data sets, and not the
reduction over a short first axis, which takes five times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import jax.numpy as jnp

from jaxreg._typing import Array


def matmul(a: Array, b: Array) -> Array:
    """Σ_k a[i, k] b[k, j]."""
    return _sum([a[:, k, None] * b[k] for k in range(a.shape[1])])


def matvec(a: Array, b: Array) -> Array:
    """Σ_k a[i, k] b[k]."""
    return _sum([a[:, k] * b[k] for k in range(a.shape[1])])


def dot(a: Array, b: Array) -> Array:
    """Σ_k a[k] b[k]."""
    return _sum([a[k] * b[k] for k in range(a.shape[0])])


def norm(a: Array) -> Array:
    """√Σ_k a[k]²."""
    return dot(a, a) ** 0.5


def diagonal(a: Array) -> Array:
    """a[i, i], (p, *batch)."""
    return jnp.stack([a[i, i] for i in range(a.shape[0])])


def largest(a: Array) -> Array:
    """max_k a[k]."""
    return reduce(jnp.maximum, list(a))


def stored(a: Array) -> Array:
    """a, kept: on the CPU, XLA computes what many read anew for each of them, but not what it scatters."""
    return jnp.zeros_like(a).at[jnp.arange(a.shape[0])].set(a)


def alike(arrays: Sequence[Array]) -> list[Array]:
    """Arrays with their common shape, lying where the data sets lie on a mesh."""
    if len(arrays) == 1:
        return list(arrays)
    # Within `vmap` zeros_like is one zero for all data sets, which lies nowhere on a mesh.
    zero = _sum([jnp.where(jnp.zeros((), bool), a, 0) for a in arrays])
    return [a + zero for a in arrays]


def _sum(terms: list[Array]) -> Array:
    return sum(terms[1:], terms[0])
