"""The normal equations and their way back to the units of the data, in double-double.

Loops, although p is known: written out, XLA computes every step anew inside the next, 4^p times.
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
from jaxreg.numerics.precision import at_least_normal, power_of_two

UNIT = 2.0**-98  # relative error of an operation with pairs of float64, and of sums of their products


class DoubleDoubleSolution(NamedTuple):
    """What solves the normal equations of p unknowns.

    Attributes:
        coefs: c = A⁻¹ b, (p, *batch).
        inverse: A⁻¹, (p, p, *batch).
        rest: y² − bᵀ A⁻¹ b, what is not explained, (*batch).
        share: the smallest share of a column that those before it do not explain, (*batch).
    """

    coefs: DoubleDouble
    inverse: DoubleDouble
    rest: DoubleDouble
    share: Array


def solve_in_double_double(G: DoubleDouble, least: float | Array) -> DoubleDoubleSolution:
    """Sweeping G on k leaves G_ij − G_ik G_kj / G_kk; on all of A, [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, y² − bᵀA⁻¹b]].

    Where the share left of a column is not above `least`, 1 is divided by: numbers stay finite.

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    p = G.hi.shape[0] - 1

    def step(k: Any, state: tuple[DoubleDouble, Array]) -> tuple[DoubleDouble, Array]:
        swept, share = state
        pivot = swept[k, k]
        left = pivot.hi / jnp.where(G.hi[k, k] > 0, G.hi[k, k], 1)
        pivot = double_double.where(left > least, pivot, pivot.map(jnp.ones_like))
        column = swept[:, k]
        row = column / pivot
        on_k = (jnp.arange(p + 1) == k).reshape(-1, *(1,) * (column.hi.ndim - 1))
        swept = swept - column[:, None] * row[None]
        swept = double_double.where(
            on_k[:, None], row[None], double_double.where(on_k[None], row[:, None], swept)
        )
        swept = double_double.where(on_k[:, None] & on_k[None], DoubleDouble.of(-1.0) / pivot, swept)
        return swept, jnp.minimum(share, left)

    swept, share = lax.fori_loop(0, p, step, (G, jnp.ones_like(G.hi[0, 0])))
    return DoubleDoubleSolution(swept[:p, p], -swept[:p, :p], swept[p, p], share)


def double_double_coef_error(found: DoubleDoubleSolution, size: Array, relative: float) -> Array:
    """`coef_error` where every G_ij is off by `relative` · size_i · size_j, (p, *batch)."""
    s, of_y = size[:-1], size[-1]
    gain = small.materialize(small.matvec(jnp.abs(found.inverse.hi), s))
    whole = of_y + small.dot(s, jnp.abs(found.coefs.hi))
    change = relative * small.dot(s, gain)
    return small.materialize(gain * (relative * whole) / jnp.where(change < MAX_CHANGE, 1 - change, 0))


class FromBasis(NamedTuple):
    """θ / y_scale = P (−c, 1).

    Attributes:
        P: (p, p + 1, *batch).
        terms: the size of what is added up to P, (p, p + 1, *batch).
    """

    P: DoubleDouble
    terms: Array

    @classmethod
    def of(cls, ansatz: Ansatz, scaling: Scaling) -> FromBasis:
        """Of a scaling in float64."""
        R = scalings.between(scalings.data_units(scaling), scaling, ansatz)
        of_basis = -double_double.transpose(R)[:-1]  # (−c, 1) takes z to the residual: minus that is the fit
        size = DoubleDouble.of(jnp.abs(of_basis.hi))
        return cls(_by_features(of_basis, ansatz), _by_features(size, ansatz, abs).hi)

    def params(self, coefs: DoubleDouble, error: Array) -> tuple[DoubleDouble, Array, Array]:
        """θ / y_scale, how far it is off where c is off by `error`, and the size of its terms."""
        p = error.shape[0]
        covector = double_double.concatenate([-coefs, coefs[:1].map(jnp.zeros_like) + 1.0])
        params = double_double.matmul(self.P, covector[:, None])[:, 0]
        terms = small.matvec(self.terms, jnp.abs(covector.hi))
        terms = jnp.maximum(terms, at_least_normal(jnp.abs(coefs.hi), small.diagonal(self.terms[:, :-1])))
        off = small.matvec(jnp.abs(self.P.hi[:, :-1]), error) + 4 * p * UNIT * terms
        return params, off, terms

    def deviations(self, inverse: DoubleDouble) -> Array:
        """The roots of the diagonal of M A⁻¹ Mᵀ, where θ moves by M c.

        The size of the rows of M, a power of two, is taken out so that no square of it overflows.
        """
        M = -self.P[:, :-1]
        size = power_of_two(small.largest(jnp.swapaxes(jnp.abs(M.hi), 0, 1)))
        M = M.scaled(1 / size[:, None])
        variances = double_double.total(double_double.transpose(double_double.matmul(M, inverse) * M)).value
        return size * jnp.sqrt(jnp.maximum(variances, 0))


def _by_features(covectors: DoubleDouble, ansatz: Ansatz, of: Callable = np.asarray) -> DoubleDouble:
    """Covectors that multiply ψ(x), as columns, turned into those that multiply φ(x)."""
    K = of(ansatz.basis_in_features(covectors.hi.shape[0]))
    if (np.eye(len(K)) == K).all():
        return covectors
    return double_double.matmul(scalings.constant(K.T, covectors), covectors)
