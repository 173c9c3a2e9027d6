"""The normal equations in double-double, and the transformation of their solution to params.

The steps are loops although p is static: unrolled, XLA would recompute each step inside the next, 4^p times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine import scaling as scalings
from jaxreg.engine.normal_equations import MAX_CHANGE
from jaxreg.engine.scaling import Scaling
from jaxreg.numerics import double_double, small
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import at_least_normal, double_double_unit, power_of_two


class DoubleDoubleSolution(NamedTuple):
    """The solution of the normal equations of p unknowns.

    Attributes:
        coefs: c = A⁻¹ b, (p, *batch).
        inverse: A⁻¹, (p, p, *batch).
        unexplained: y² − bᵀ A⁻¹ b, (*batch).
        smallest_pivot: min over columns of 1 − R² of a column regressed on those before it, (*batch).
    """

    coefs: DoubleDouble
    inverse: DoubleDouble
    unexplained: DoubleDouble
    smallest_pivot: Array


def solve_in_double_double(G: DoubleDouble, min_pivot: float | Array) -> DoubleDoubleSolution:
    """Sweeping G on k leaves G_ij − G_ik G_kj / G_kk; on all of A, [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, y² − bᵀA⁻¹b]].

    Relative pivots not above `min_pivot` are replaced by 1, which keeps all numbers finite.

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    p = G.hi.shape[0] - 1

    def step(k: Any, state: tuple[DoubleDouble, Array]) -> tuple[DoubleDouble, Array]:
        swept, smallest_pivot = state
        pivot = swept[k, k]
        relative_pivot = pivot.hi / jnp.where(G.hi[k, k] > 0, G.hi[k, k], 1)
        pivot = double_double.where(relative_pivot > min_pivot, pivot, pivot.map(jnp.ones_like))
        column = swept[:, k]
        row = column / pivot
        on_k = (jnp.arange(p + 1) == k).reshape(-1, *(1,) * (column.hi.ndim - 1))
        swept = swept - column[:, None] * row[None]
        swept = double_double.where(
            on_k[:, None], row[None], double_double.where(on_k[None], row[:, None], swept)
        )
        swept = double_double.where(on_k[:, None] & on_k[None], DoubleDouble.of(-1.0) / pivot, swept)
        return swept, jnp.minimum(smallest_pivot, relative_pivot)

    swept, smallest_pivot = lax.fori_loop(0, p, step, (G, jnp.ones_like(G.hi[0, 0])))
    return DoubleDoubleSolution(swept[:p, p], -swept[:p, :p], swept[p, p], smallest_pivot)


def double_double_coef_error(
    solution: DoubleDoubleSolution, sizes: Array, relative_error: float | Array
) -> Array:
    """The bound of `coef_error` for sizes s of z, (p, *batch)."""
    s, y_size = sizes[:-1], sizes[-1]
    gain = small.materialize(small.matvec(jnp.abs(solution.inverse.hi), s))
    residual_size = y_size + small.dot(s, jnp.abs(solution.coefs.hi))
    change = relative_error * small.dot(s, gain)
    bound = gain * (relative_error * residual_size) / jnp.where(change < MAX_CHANGE, 1 - change, 0)
    return small.materialize(bound)


class FromBasis(NamedTuple):
    """The transformation from the basis to the features, θ / y_scale = P (−c, 1).

    Attributes:
        P: (p, p + 1, *batch).
        terms: the sizes of the terms of which P is a sum, (p, p + 1, *batch).
    """

    P: DoubleDouble
    terms: Array

    @classmethod
    def of(cls, ansatz: Ansatz, scaling: Scaling) -> FromBasis:
        """From a scaling in float64."""
        R = scalings.between(scalings.data_units(scaling), scaling, ansatz)
        of_basis = -double_double.transpose(R)[:-1]  # (−c, 1)ᵀz is the residual, so minus it is the fit
        sizes = DoubleDouble.of(jnp.abs(of_basis.hi))
        return cls(_to_features(of_basis, ansatz), _to_features(sizes, ansatz, abs).hi)

    def params(self, coefs: DoubleDouble, error: Array) -> tuple[DoubleDouble, Array, Array]:
        """θ / y_scale, the bound of its error if that of c is `error`, and the sizes of its terms."""
        p = error.shape[0]
        covector = double_double.concatenate([-coefs, coefs[:1].map(jnp.zeros_like) + 1.0])
        params = double_double.matmul(self.P, covector[:, None])[:, 0]
        terms = small.matvec(self.terms, jnp.abs(covector.hi))
        terms = jnp.maximum(terms, at_least_normal(jnp.abs(coefs.hi), small.diagonal(self.terms[:, :-1])))
        param_errors = small.matvec(jnp.abs(self.P.hi[:, :-1]), error) + 4 * p * double_double_unit() * terms
        return params, param_errors, terms

    def deviations(self, inverse: DoubleDouble) -> Array:
        """√diag(M A⁻¹ Mᵀ), where θ = M c + constant.

        Rows of M are scaled by a power of two, since their squares may overflow.
        """
        M = -self.P[:, :-1]
        unit = power_of_two(small.largest(jnp.swapaxes(jnp.abs(M.hi), 0, 1)))
        M = M.scaled(1 / unit[:, None])
        variances = double_double.total(double_double.transpose(double_double.matmul(M, inverse) * M)).value
        return unit * jnp.sqrt(jnp.maximum(variances, 0))


def _to_features(coefs: DoubleDouble, ansatz: Ansatz, map_entries: Callable = np.asarray) -> DoubleDouble:
    """Kᵀ c, coefficients of φ(x) from those of ψ(x) = K φ(x), in columns; with `map_entries` applied to K."""
    K = map_entries(ansatz.basis_in_features(coefs.hi.shape[0]))
    if (np.eye(len(K)) == K).all():
        return coefs
    return double_double.matmul(scalings.constant(K.T, coefs), coefs)
