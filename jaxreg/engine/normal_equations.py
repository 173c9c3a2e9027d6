"""The normal equations A c = b of many data sets at once.

Of few unknowns Cholesky's A = L Lᵀ is written out entry by entry: each is a quotient or a root, which XLA
stores instead of computing it anew wherever it is read. Of more, G = [[A, b], [bᵀ, y²]] is swept column
by column in a loop, which compiles in one time whatever k.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.engine.products import product
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.vectors import Symmetric, Vector, dot, elementwise

MAX_CHANGE = 0.5  # of A, relative, at which there still is a bound


class Solved(NamedTuple):
    """What solves the normal equations of k unknowns.

    Attributes:
        coefs: c = A⁻¹ b.
        inverse: A⁻¹.
        rest: y² − bᵀ A⁻¹ b, what is not explained, (*batch).
        share: the smallest share of a column that those before it do not explain, (*batch).
    """

    coefs: Vector
    inverse: Symmetric
    rest: Array
    share: Array


@pytree
class Bordered:
    """[[A, b], [bᵀ, y²]] of data sets that share A: (k, k, 1), (k, m) and (m,)."""

    A: Symmetric
    b: Array
    square: Array

    def leading(self) -> Symmetric:
        """A."""
        return self.A

    def last_column(self) -> Array:
        """The column b."""
        return self.b


def solve(G: Symmetric | Bordered, sizes: Vector, least: float | Array) -> Solved:
    """Solve; where the share left of a column is not above `least`, 1 is divided by: numbers stay finite.

    Args:
        G: [[A, b], [bᵀ, y²]].
        sizes: what a column is compared with: its mean square before anything was taken out.
        least: the share of a column below which it depends on those before it, to rounding.
    """
    if isinstance(G, Bordered):
        return _by_one_inverse(G, sizes, least)
    return _by_cholesky(G, sizes, least) if G.is_list else _by_sweeps(G, sizes, least)


def coef_error(found: Solved, size: Vector, of_y: Array, relative: Array) -> tuple[Vector, Array, Array]:
    """By how much c may be off where every G_ij is by ε · size_i · size_j, with ε sᵀ|A⁻¹|s and s_y + sᵀ|c|.

    Δc = A⁻¹(Δb − ΔA (c + Δc)), hence |Δc| ≤ ε |A⁻¹|s (s_y + sᵀ|c|) / (1 − ε sᵀ|A⁻¹|s); infinite where that
    is no bound.
    """
    gain = found.inverse.map(jnp.abs).times(size)
    change = relative * dot(size, gain)
    whole = of_y + dot(size, elementwise(jnp.abs, found.coefs))
    factor = relative * whole / jnp.where(change < MAX_CHANGE, 1 - change, 0)
    return elementwise(lambda g: g * factor, gain), change, whole


def _by_cholesky(G: Symmetric, sizes: Vector, least: float | Array) -> Solved:
    k = len(sizes)
    share = jnp.ones_like(G[k, k])
    L: dict[tuple[int, int], Array] = {}

    def left(i: int, j: int) -> Array:
        """G_ij without what the columns of L before j explain."""
        return _minus(G[i, j], [L[i, m] * L[j, m] for m in range(min(j, k))])

    for j in range(k):
        rest = left(j, j)
        share = jnp.minimum(share, rest / jnp.where(sizes[j] > 0, sizes[j], 1))
        L[j, j] = jnp.sqrt(jnp.where(rest > least * sizes[j], rest, 1))
        for i in range(j + 1, k + 1):  # the last row, that of y, is L⁻¹ b
            L[i, j] = left(i, j) / L[j, j]

    coefs: dict[int, Array] = {}
    for i in reversed(range(k)):
        coefs[i] = _minus(L[k, i], [L[m, i] * coefs[m] for m in range(i + 1, k)]) / L[i, i]

    inverse_L: dict[tuple[int, int], Array] = {}
    for j in range(k):
        inverse_L[j, j] = 1 / L[j, j]
        for i in range(j + 1, k):
            inverse_L[i, j] = (
                _minus(jnp.zeros(()), [L[i, m] * inverse_L[m, j] for m in range(j, i)]) / L[i, i]
            )
    inverse = [
        dot([inverse_L[m, i] for m in range(i, k)], [inverse_L[m, j] for m in range(i, k)])
        for i in range(k)
        for j in range(i + 1)
    ]
    return Solved([coefs[i] for i in range(k)], Symmetric(inverse, k), left(k, k), share)


def _by_sweeps(G: Symmetric, sizes: Vector, least: float | Array) -> Solved:
    """Sweeping G on j leaves G_il − G_ij G_jl / G_jj; on all of A, [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, y² − bᵀA⁻¹b]].

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    k = len(sizes)
    whole = jnp.stack([*sizes])
    index = jnp.arange(k + 1).reshape(-1, *(1,) * (whole.ndim - 1))

    def sweep(j: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        G, share = state
        column = lax.dynamic_index_in_dim(G, j, 1, keepdims=False)
        rest = lax.dynamic_index_in_dim(column, j, 0, keepdims=False)
        size = lax.dynamic_index_in_dim(whole, j, 0, keepdims=False)
        share = jnp.minimum(share, rest / jnp.where(size > 0, size, 1))
        inverse = 1 / jnp.where(rest > least * size, rest, 1)
        row = column * inverse
        on_row, on_column = (index == j)[:, None], (index == j)[None]
        swept = G - column[:, None] * row[None]
        swept = jnp.where(on_row, row[None], jnp.where(on_column, row[:, None], swept))
        return jnp.where(on_row & on_column, -inverse, swept), share

    swept, share = lax.fori_loop(0, k, sweep, (G.entries, jnp.ones_like(G[k, k])))
    return Solved(swept[:k, k], Symmetric(-swept[:k, :k], k), swept[k, k], share)


def _by_one_inverse(G: Bordered, sizes: Vector, least: float | Array) -> Solved:
    alone = Symmetric(jnp.pad(G.A.entries, ((0, 1), (0, 1), (0, 0))), G.A.k + 1)
    found = _by_sweeps(alone, sizes, least)
    coefs = product(found.inverse.entries[..., 0], G.b)
    return found._replace(coefs=coefs, rest=G.square - dot(G.b, coefs))


def _minus(a: Array, terms: list[Array]) -> Array:
    for term in terms:
        a = a - term
    return a
