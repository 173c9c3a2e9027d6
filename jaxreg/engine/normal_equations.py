"""The normal equations A c = b of many data sets at once.

For a few unknowns Cholesky's A = L Lᵀ is written out entry by entry: each is a quotient or a root, which XLA
stores instead of recomputing it in every consumer. For more unknowns G = [[A, b], [bᵀ, y²]] is swept column
by column in a loop, whose compilation time does not depend on their number.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.engine.products import product
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.vectors import Symmetric, Vector, dot, elementwise

MAX_SINGLE = 8  # unknowns; of more, two are swept in one pass over the matrix: 0.7 × the time of 31 on a CPU
MAX_CHANGE = 0.5  # largest relative change of A for which the error of c is bounded


class Solution(NamedTuple):
    """The solution of the normal equations of k unknowns.

    Attributes:
        coefs: c = A⁻¹ b.
        inverse: A⁻¹.
        unexplained: y² − bᵀ A⁻¹ b, (*batch).
        smallest_pivot: min over columns of 1 − R² of a column regressed on those before it, (*batch).
    """

    coefs: Vector
    inverse: Symmetric
    unexplained: Array
    smallest_pivot: Array


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
        """b."""
        return self.b


def solve(G: Symmetric | Bordered, mean_squares: Vector, min_pivot: float | Array) -> Solution:
    """Solve A c = b; pivots not above `min_pivot` are replaced by 1, which keeps all numbers finite.

    Args:
        G: [[A, b], [bᵀ, y²]].
        mean_squares: ⟨ψ²⟩ of each column before it was centered: pivots are relative to it.
        min_pivot: the relative pivot up to which a column depends on those before it, given the rounding.
    """
    if isinstance(G, Bordered):
        return _sweep_shared(G, mean_squares, min_pivot)
    return _cholesky(G, mean_squares, min_pivot) if G.is_list else _sweep(G, mean_squares, min_pivot)


def coef_error(
    solution: Solution, sizes: Vector, y_size: Array, relative_error: Array
) -> tuple[Vector, Array, Array]:
    """A bound of the error of c if every G_ij has an error of ε s_i s_j.

    Δc = A⁻¹(Δb − ΔA (c + Δc)), hence |Δc| ≤ ε |A⁻¹|s (s_y + sᵀ|c|) / (1 − ε sᵀ|A⁻¹|s).

    Returns:
        The bound, infinite where there is none; the relative change ε sᵀ|A⁻¹|s of A; and the size
        s_y + sᵀ|c| of the terms of a residual.
    """
    gain = solution.inverse.map(jnp.abs).times(sizes)
    change = relative_error * dot(sizes, gain)
    residual_size = y_size + dot(sizes, elementwise(jnp.abs, solution.coefs))
    factor = relative_error * residual_size / jnp.where(change < MAX_CHANGE, 1 - change, 0)
    return elementwise(lambda g: g * factor, gain), change, residual_size


def _cholesky(G: Symmetric, mean_squares: Vector, min_pivot: float | Array) -> Solution:
    k = len(mean_squares)
    smallest_pivot = jnp.ones_like(G[k, k])
    L: dict[tuple[int, int], Array] = {}

    def remainder(i: int, j: int) -> Array:
        """G_ij − Σ_m L_im L_jm over the columns of L before j."""
        return _subtract(G[i, j], [L[i, m] * L[j, m] for m in range(min(j, k))])

    for j in range(k):
        pivot = remainder(j, j)
        smallest_pivot = jnp.minimum(
            smallest_pivot, pivot / jnp.where(mean_squares[j] > 0, mean_squares[j], 1)
        )
        L[j, j] = jnp.sqrt(jnp.where(pivot > min_pivot * mean_squares[j], pivot, 1))
        for i in range(j + 1, k + 1):  # the last row, that of y, is L⁻¹ b
            L[i, j] = remainder(i, j) / L[j, j]

    coefs: dict[int, Array] = {}
    for i in reversed(range(k)):
        coefs[i] = _subtract(L[k, i], [L[m, i] * coefs[m] for m in range(i + 1, k)]) / L[i, i]
    inverse = _inverse_from_cholesky(L, k)
    return Solution([coefs[i] for i in range(k)], inverse, remainder(k, k), smallest_pivot)


def _inverse_from_cholesky(L: dict[tuple[int, int], Array], k: int) -> Symmetric:
    """A⁻¹ = L⁻ᵀ L⁻¹."""
    inverse_L: dict[tuple[int, int], Array] = {}
    for j in range(k):
        inverse_L[j, j] = 1 / L[j, j]
        for i in range(j + 1, k):
            zero = jnp.zeros(())
            terms = [L[i, m] * inverse_L[m, j] for m in range(j, i)]
            inverse_L[i, j] = _subtract(zero, terms) / L[i, i]
    lower = [
        dot([inverse_L[m, i] for m in range(i, k)], [inverse_L[m, j] for m in range(i, k)])
        for i in range(k)
        for j in range(i + 1)
    ]
    return Symmetric(lower, k)


def _sweep(G: Symmetric, mean_squares: Vector, min_pivot: float | Array) -> Solution:
    """Sweeping G on j leaves G_il − G_ij G_jl / G_jj; on all of A, [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, y² − bᵀA⁻¹b]].

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    k = len(mean_squares)
    squares = jnp.stack([*mean_squares])
    index = jnp.arange(k + 1).reshape(-1, *(1,) * (squares.ndim - 1))

    def step(j: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        G, smallest_pivot = state
        column = lax.dynamic_index_in_dim(G, j, 1, keepdims=False)
        pivot = lax.dynamic_index_in_dim(column, j, 0, keepdims=False)
        square = lax.dynamic_index_in_dim(squares, j, 0, keepdims=False)
        smallest_pivot = jnp.minimum(smallest_pivot, pivot / jnp.where(square > 0, square, 1))
        inverse = 1 / jnp.where(pivot > min_pivot * square, pivot, 1)
        row = column * inverse
        on_row, on_column = (index == j)[:, None], (index == j)[None]
        swept = G - column[:, None] * row[None]
        swept = jnp.where(on_row, row[None], jnp.where(on_column, row[:, None], swept))
        return jnp.where(on_row & on_column, -inverse, swept), smallest_pivot

    state = (G.entries, jnp.ones_like(G[k, k]))
    swept, smallest_pivot = lax.fori_loop(0, k, step, state, unroll=2 if k > MAX_SINGLE else 1)
    return Solution(swept[:k, k], Symmetric(-swept[:k, :k], k), swept[k, k], smallest_pivot)


def _sweep_shared(G: Bordered, mean_squares: Vector, min_pivot: float | Array) -> Solution:
    """Invert the shared A by a sweep with b = 0, then multiply all b."""
    with_zeros = Symmetric(jnp.pad(G.A.entries, ((0, 1), (0, 1), (0, 0))), G.A.k + 1)
    solution = _sweep(with_zeros, mean_squares, min_pivot)
    coefs = product(solution.inverse.entries[..., 0], G.b)
    return solution._replace(coefs=coefs, unexplained=G.square - dot(G.b, coefs))


def _subtract(a: Array, terms: list[Array]) -> Array:
    for term in terms:
        a = a - term
    return a
