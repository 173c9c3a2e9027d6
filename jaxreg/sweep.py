"""The sweep operator, which solves normal equations in place.

Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import pair
from jaxreg._typing import Array
from jaxreg.pair import Pair

UNROLLED = 5  # basis functions: beyond, XLA computes too much anew


def sweep_all(G: Pair, least: float) -> tuple[Pair, Array]:
    """G swept on all but its last index, and the smallest share of a G_kk left when k was swept.

    The sweep on k is G_ij − G_ik G_kj / G_kk, with row and column k over the pivot and −1 / G_kk where
    they cross. On all of A, [[A, b], [bᵀ, c]] becomes [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, c − bᵀA⁻¹b]]. Where the
    share that is left of a pivot is not above `least`, 1 is divided by instead: numbers stay finite.
    """
    p = G.hi.shape[0] - 1
    share = jnp.ones(G.hi.shape[2:], G.hi.dtype)
    if G.lo is None and p <= UNROLLED:
        return _unrolled(G, least, share)

    def step(k: Array, state: tuple[Pair, Array]) -> tuple[Pair, Array]:
        swept, share = state
        pivot, left = _pivot(G[k, k], swept[k, k], least)
        column = swept[:, k]
        row = column / pivot
        on_k = (jnp.arange(p + 1) == k).reshape(-1, *(1,) * (column.hi.ndim - 1))
        swept = swept - column[:, None] * row[None]
        swept = pair.where(on_k[:, None], row[None], pair.where(on_k[None], row[:, None], swept))
        swept = pair.where(on_k[:, None] & on_k[None], Pair.of(-1.0) / pivot, swept)
        return swept, jnp.minimum(share, left)

    # A loop, although p is known: unrolled, XLA recomputes every sweep inside the next, 4^p times.
    return lax.fori_loop(0, p, step, (G, share))


def _unrolled(G: Pair, least: float, share: Array) -> tuple[Pair, Array]:
    """The same on single floats and entry by entry, which XLA fuses into few kernels."""
    size = range(G.hi.shape[0])
    swept = {(i, j): G[i, j] for i in size for j in range(i + 1)}
    for k in size[:-1]:
        pivot, left = _pivot(G[k, k], swept[k, k], least)
        share = jnp.minimum(share, left)
        column = [swept[max(i, k), min(i, k)] for i in size]
        row = [a / pivot for a in column]
        for i, j in swept:
            if k in (i, j):
                swept[i, j] = row[i + j - k]
            else:
                swept[i, j] = swept[i, j] - column[i] * row[j]
        swept[k, k] = Pair(-1 / pivot.hi, None)
    return pair.symmetric(list(swept.values())), share


def _pivot(whole: Pair, left: Pair, least: float) -> tuple[Pair, Array]:
    """What to divide by, and the share that is left of G_kk."""
    share = left.hi / jnp.where(whole.hi > 0, whole.hi, 1)
    return pair.where(share > least, left, left.map(jnp.ones_like)), share


def rank_tolerance(dtype: np.dtype) -> float:
    """The share of a basis function not explained by those before it below which it is rounding noise.

    The noise is that of a float32 pair, 2⁻⁴⁸, or of a float64 product, 2⁻⁵³, with room for a few terms.
    """
    return 2.0**-43 if dtype == jnp.float32 else 2.0**-46
