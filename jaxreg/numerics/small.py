"""Products of small matrices, one per data set, with the axes of the data sets last: (p, q, *batch).

Sums of a few terms are written out: XLA vectorizes additions over the data sets, but not a reduction over a
short first axis, which takes five times as long.
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


def solve(a: Array, b: Array) -> Array:
    """x in Σ_k a[i, k] x[k] = b[i], by elimination without a choice of pivots."""
    p = b.shape[0]
    rows = [[*(a[i, k] for k in range(p)), b[i]] for i in range(p)]
    for k in range(p):
        rows[k] = [entry / rows[k][k] for entry in rows[k]]
        for i in range(p):
            if i != k:
                rows[i] = [x - rows[i][k] * y for x, y in zip(rows[i], rows[k], strict=True)]
    return jnp.stack([row[p] for row in rows])


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


def materialize(a: Array) -> Array:
    """Return a copy of a that XLA stores, by a scatter: on the CPU it would recompute a in every consumer."""
    return jnp.zeros_like(a).at[jnp.arange(a.shape[0])].set(a)


def broadcast_arrays(arrays: Sequence[Array]) -> list[Array]:
    """`jnp.broadcast_arrays`, with the sharding of the data sets on a mesh."""
    if len(arrays) == 1:
        return list(arrays)
    # Within `vmap`, `zeros_like` makes a single zero for all data sets, which has no sharding.
    zero = _sum([jnp.where(jnp.zeros((), bool), a, 0) for a in arrays])
    return [a + zero for a in arrays]


def _sum(terms: list[Array]) -> Array:
    return sum(terms[1:], terms[0])
