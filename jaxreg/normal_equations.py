"""The normal equations A c = b of many data sets at once, from G = [[A, b], [bᵀ, y²]].

Single floats are solved by Cholesky's A = L Lᵀ, written out entry by entry: each is a quotient or a
root, which XLA stores instead of computing it anew wherever it is read. Systems that would take too long
to compile go through LAPACK, and pairs are swept in a loop.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import pair, small
from jaxreg._typing import Array
from jaxreg.pair import Pair

UNROLLED = 12  # unknowns; p³/6 multiplications to compile
MOST_CHANGE = 0.5  # of A, relative, at which there still is a bound


class Solved(NamedTuple):
    """What solves the normal equations.

    Attributes:
        coefs: c = A⁻¹ b, (p, *batch).
        inverse: A⁻¹, (p, p, *batch).
        rest: y² − bᵀ A⁻¹ b, what is not explained, (*batch).
        share: the smallest share of an A_kk that is left when those before it are taken out, (*batch).
    """

    coefs: Pair
    inverse: Pair
    rest: Pair
    share: Array


def solve(G: Pair, least: float | Array) -> Solved:
    """Solve; where the share left of a pivot is not above `least`, 1 is divided by: numbers stay finite."""
    if G.lo is not None:
        return _by_sweeps(G, least)
    return _by_cholesky(G.hi, least) if G.hi.shape[0] - 1 <= UNROLLED else _by_lapack(G.hi, least)


def coef_error(found: Solved, size: Array, relative: Array) -> tuple[Array, Array]:
    """By how much c may be off where every G_ij is by ε · size_i · size_j, (p, *batch), and ε sᵀ|A⁻¹|s.

    Δc = A⁻¹(Δb − ΔA (c + Δc)), hence |Δc| ≤ ε |A⁻¹|s (s_y + sᵀ|c|) / (1 − ε sᵀ|A⁻¹|s); infinite where that
    is no bound.
    """
    *of_basis, of_y = size
    s = jnp.stack(of_basis)
    gain = small.stored(small.matvec(jnp.abs(found.inverse.hi), s))
    whole = of_y + small.dot(s, jnp.abs(found.coefs.hi))
    change = relative * small.dot(s, gain)
    error = gain * (relative * whole) / jnp.where(change < MOST_CHANGE, 1 - change, 0)
    return small.stored(error), change


def _by_cholesky(G: Array, least: float | Array) -> Solved:
    p = G.shape[0] - 1
    share = jnp.ones(G.shape[2:], G.dtype)
    L: dict[tuple[int, int], Array] = {}

    def left(i: int, j: int) -> Array:
        """G_ij without what the columns of L before j explain."""
        return _minus(G[i, j], [L[i, k] * L[j, k] for k in range(min(j, p))])

    for j in range(p):
        pivot, left_of_it = _pivot(G[j, j], left(j, j), least)
        share = jnp.minimum(share, left_of_it)
        L[j, j] = jnp.sqrt(pivot)
        for i in range(j + 1, p + 1):  # the last row, that of y, is L⁻¹ b
            L[i, j] = left(i, j) / L[j, j]

    coefs: dict[int, Array] = {}
    for i in reversed(range(p)):
        coefs[i] = _minus(L[p, i], [L[k, i] * coefs[k] for k in range(i + 1, p)]) / L[i, i]

    inverse_L: dict[tuple[int, int], Array] = {}
    for j in range(p):
        for i in range(j, p):
            start = jnp.full_like(share, float(i == j))
            inverse_L[i, j] = _minus(start, [L[i, k] * inverse_L[k, j] for k in range(j, i)]) / L[i, i]
    inverse = [
        jnp.asarray(sum(inverse_L[k, i] * inverse_L[k, j] for k in range(i, p)))
        for i in range(p)
        for j in range(i + 1)
    ]
    return Solved(
        Pair(jnp.stack([coefs[i] for i in range(p)]), None),
        Pair(small.symmetric(inverse), None),
        Pair(left(p, p), None),
        share,
    )


def _by_lapack(G: Array, least: float | Array) -> Solved:
    """The same by the factorization of one matrix after the other."""
    p = G.shape[0] - 1
    A, b = jnp.moveaxis(G[:p, :p], (0, 1), (-2, -1)), jnp.moveaxis(G[:p, p], 0, -1)[..., None]
    L = lax.linalg.cholesky(A)
    diagonals = [jnp.diagonal(a, axis1=-2, axis2=-1) for a in (A, L)]
    share = jnp.min(diagonals[1] ** 2 / jnp.where(diagonals[0] > 0, diagonals[0], 1), axis=-1)
    share = jnp.where(share > least, share, 0)  # NaN where it broke down
    unit = jnp.broadcast_to(jnp.eye(p, dtype=G.dtype), A.shape)
    L = jnp.where((share > 0)[..., None, None], L, unit)
    inverse_L = lax.linalg.triangular_solve(L, unit, left_side=True, lower=True)
    transposed = jnp.swapaxes(inverse_L, -2, -1)
    half = inverse_L @ b
    rest = G[p, p] - jnp.sum(half[..., 0] ** 2, axis=-1)
    return Solved(
        Pair(jnp.moveaxis((transposed @ half)[..., 0], -1, 0), None),
        Pair(jnp.moveaxis(transposed @ inverse_L, (-2, -1), (0, 1)), None),
        Pair(rest, None),
        share,
    )


def _minus(a: Array, terms: list[Array]) -> Array:
    for term in terms:
        a = a - term
    return a


def _by_sweeps(G: Pair, least: float | Array) -> Solved:
    """Sweeping G on k leaves G_ij − G_ik G_kj / G_kk; on all of A, [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, y² − bᵀA⁻¹b]].

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    p = G.hi.shape[0] - 1

    def step(k: Array, state: tuple[Pair, Array]) -> tuple[Pair, Array]:
        swept, share = state
        pivot = swept[k, k]
        _, left = _pivot(G.hi[k, k], pivot.hi, least)
        pivot = pair.where(left > least, pivot, pivot.map(jnp.ones_like))
        column = swept[:, k]
        row = column / pivot
        on_k = (jnp.arange(p + 1) == k).reshape(-1, *(1,) * (column.hi.ndim - 1))
        swept = swept - column[:, None] * row[None]
        swept = pair.where(on_k[:, None], row[None], pair.where(on_k[None], row[:, None], swept))
        swept = pair.where(on_k[:, None] & on_k[None], Pair.of(-1.0) / pivot, swept)
        return swept, jnp.minimum(share, left)

    # A loop, although p is known: unrolled, XLA recomputes every sweep inside the next, 4^p times.
    share = jnp.ones(G.hi.shape[2:], G.hi.dtype)
    swept, share = lax.fori_loop(0, p, step, (G, share))
    return Solved(swept[:p, p], -swept[:p, :p], swept[p, p], share)


def _pivot(whole: Array, left: Array, least: float | Array) -> tuple[Array, Array]:
    """What to divide by, and the share that is left of G_kk."""
    share = left / jnp.where(whole > 0, whole, 1)
    return jnp.where(share > least, left, 1), share


def rank_tolerance(dtype: np.dtype) -> float:
    """The share of a basis function not explained by those before it below which it is rounding noise.

    The noise is that of a float32 pair, 2⁻⁴⁸, or of a float64 product, 2⁻⁵³, with room for a few terms.
    """
    return 2.0**-43 if dtype == jnp.float32 else 2.0**-46
