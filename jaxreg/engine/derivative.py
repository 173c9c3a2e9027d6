"""Derivatives of an estimate, from p(θ, data) = 0 and whatever found the point.

With c and V = ⟨ψψᵀ⟩⁻¹ held fixed, c + V⟨ψ(y − cᵀψ)⟩ has the derivative of the turning point in the data, and
2V − V⟨ψψᵀ⟩V that of V: Newton steps from where the answer is known, which they do not move. It is written in
the dtype of the data, as plain JAX of whole arrays, and only differentiated.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.cost import is_valid
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import Row, feature_rows, params_of, variance
from jaxreg.engine.sums import columns_of
from jaxreg.numerics.precision import float64, power_of_two, promoting
from jaxreg.numerics.small import broadcast_arrays
from jaxreg.numerics.vectors import MAX_LISTED, Symmetric, elementwise, triangle, vector


class Observations(NamedTuple):
    """The observations in the basis of an estimate; what is not valid is 0.

    Attributes:
        psi: ψ(t), p of (n, *batch).
        y: from its origin.
        residual: ε at the coefs of the estimate.
        w: weights, in units in which their sum does not overflow.
        share: w / Σ w.
        known_weight: Σ w as the estimate has it.
    """

    psi: list[Array]
    y: Array
    residual: Array
    w: Array
    share: Array
    known_weight: Array

    @classmethod
    def of(
        cls,
        ansatz: Ansatz,
        found: Estimate,
        coefs_lo: Array,
        sigma_unit: Array | None,
        data: tuple[Array, Array, Array | None],
    ) -> Observations:
        """Of data next to those that an estimate is made of."""
        x, y, weights = data
        columns = columns_of(ansatz, x, 1)
        valid = is_valid(columns, y, weights) & lax.optimization_barrier(jnp.isfinite(found.params[0]))
        found, coefs_lo = jax.tree.map(finite_or_1, (found, coefs_lo))
        center, scale = (columns_of(ansatz, a, 0) for a in (found.x_center, found.x_scale))
        columns, y = [jnp.where(valid, a, 0) for a in columns], jnp.where(valid, y, 0)
        psi = ansatz.basis([(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)])
        e = residuals(ansatz, columns, y, center, scale, list(found.coefs), list(coefs_lo))
        known = found.nobs.astype(y.dtype)
        w = jnp.where(valid, jnp.ones((), y.dtype) if weights is None else weights, 0)
        if found.root_weight is not None:
            root_weight = found.root_weight if sigma_unit is None else found.root_weight * sigma_unit
            unit = power_of_two(root_weight / jnp.sqrt(jnp.maximum(known, 1)))
            w, known = w * (1 / unit) * (1 / unit), jnp.square(root_weight / unit)
        share = w / _not_0(jnp.sum(w, axis=0))
        return cls(psi, y, jnp.where(valid, e, 0), w, share, _not_0(known))

    def mean(self, a: Array) -> Array:
        """Σ w a / Σ w."""
        return lax.optimization_barrier(jnp.sum(self.share * a, axis=0))

    def root_mean(self, a: Array, b: Array, value: Array) -> Array:
        """√⟨a b⟩ by a Newton step from its value."""
        size = jnp.abs(value)
        unit = power_of_two(size)
        return value / 2 + self.mean((a / unit) * (b / unit)) * unit * (unit / _not_0(2 * size))

    def quality(self, found: Estimate, e: Array) -> dict[str, Array]:
        """What an estimate says of y, of the weights and of residuals e."""
        y = self.y
        about = 0 if found.y_mean is None else found.y_mean - _or_0(found.y_origin)
        of_rest = self.root_mean(e, e, found.residual)
        changes = {
            "residual": jnp.where(found.nobs > len(found.params), of_rest, found.residual),
            "explained": self.root_mean(y - about - e, y - about + e, found.explained),
        }
        if found.y_mean is not None:
            changes["y_mean"] = self.mean(y) + _or_0(found.y_origin)
        if found.y_deviation is not None:
            centered = y - self.mean(y)
            centered -= self.mean(centered)
            changes["y_deviation"] = self.root_mean(centered, centered, found.y_deviation)
        if found.root_weight is not None:
            changes["root_weight"] = found.root_weight * (1 + jnp.sum(self.w, axis=0) / self.known_weight) / 2
            changes["log_weight"] = jnp.sum(jnp.log(jnp.where(self.w > 0, self.w, 1)), axis=0)
        return changes


def first_order(
    ansatz: Ansatz,
    found: Estimate,
    bread: Array,
    coefs_lo: Array,
    sigma_unit: Array | None,
    data: tuple[Array, Array, Array | None],
    *,
    at_minimum: bool,
    y_only: bool,
) -> tuple[Estimate, Exact]:
    """The estimate near the data that it is made of, with errors of one variance, its coefs and V.

    Args:
        ansatz: of the basis.
        found: the estimate.
        bread: V, the lower triangle row by row.
        coefs_rest: what rounding has taken from its coefs.
        sigma_unit: see `Operands`.
        data: x, y and weights.
        at_minimum: whether the coefs are those of the turning point.
        y_only: whether y alone moves, and V does not.
    """
    p = len(found.params)
    near = Observations.of(ansatz, found, coefs_lo, sigma_unit, data)
    found, bread = jax.tree.map(finite_or_1, (found, bread))

    def newton(e: Array) -> list[Array]:
        """V⟨ψ e⟩."""
        return list(V.times(vector([near.mean(a * e) for a in near.psi])))

    V = Symmetric(list(bread) if p <= MAX_LISTED else bread[triangle(p)], p)
    coefs, e = list(found.coefs), near.residual
    if not at_minimum:
        step = newton(e)
        coefs = [c + s for c, s in zip(coefs, step, strict=True)]
        e = e - sum(a * s for a, s in zip(near.psi, step, strict=True))
    coefs = [c + s for c, s in zip(coefs, newton(e), strict=True)]
    near_V = V
    if not y_only:
        V_A_V = V.sandwich(lax.optimization_barrier(_gram(near.psi, near.share)))
        near_V = Symmetric(elementwise(lambda a, b: 2 * a - b, V.entries, V_A_V.entries), p)
    changes = near.quality(found, e)
    center, scale = (columns_of(ansatz, a, 0) for a in (found.x_center, found.x_scale))
    if found.x_origin is not None:
        center = [c + o for c, o in zip(center, columns_of(ansatz, found.x_origin, 0), strict=True)]
    rows = feature_rows(ansatz, center, scale)
    df = jnp.maximum(found.nobs - p, 1).astype(found.params.dtype)

    def deviation(b: Array, row: Row) -> Array:
        """√(residual² var(c_row) / df) by a Newton step from its value."""
        unit, square = variance(row, near_V)
        residual = found.residual * unit
        by_variance = residual / _not_0(2 * b) * (residual / df) * square - b / 2
        return b * changes["residual"] / _not_0(found.residual) + by_variance

    params = params_of(rows, coefs)
    bse = [deviation(b, row) for b, row in zip(found.bse, rows, strict=True)]
    exact = Exact(jnp.stack(coefs), jnp.concatenate(near_V.lower))
    changes |= {
        "params": jnp.stack([params[0] + _or_0(found.y_origin), *params[1:]]),
        "bse": jnp.stack(bse),
        "coefs": exact.coefs,
        "unit_cov": exact.unit_cov,
    }
    return replace(found, **changes), exact


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def residuals(
    ansatz: Ansatz,
    x: list[Array],
    y: Array,
    center: list[Array],
    scale: list[Array],
    coefs: list[Array],
    coefs_lo: list[Array],
) -> Array:
    """y − Σ c_k ψ_k(t), computed in float64: next to a y that is fitted well little of it is left."""
    with float64():
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), (x, y, center, scale, coefs, coefs_lo))
        return _residuals(ansatz, *wide).astype(y.dtype)


@residuals.defjvp
@promoting
def _residuals_jvp(ansatz: Ansatz, primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    return residuals(ansatz, *primals), jax.jvp(partial(_residuals, ansatz), primals, tangents)[1]


def _residuals(
    ansatz: Ansatz,
    x: list[Array],
    y: Array,
    center: list[Array],
    scale: list[Array],
    coefs: list[Array],
    coefs_lo: list[Array],
) -> Array:
    t = [(a - c) * (1 / s) for a, c, s in zip(x, center, scale, strict=True)]
    for c, rest, psi in zip(coefs, coefs_lo, ansatz.basis(t), strict=True):
        y = y - (c + rest) * psi
    return y


def _gram(psi: list[Array], share: Array) -> Symmetric:
    """⟨ψ ψᵀ⟩."""
    p = len(psi)
    if p <= MAX_LISTED:
        return Symmetric(
            [jnp.sum(share * (psi[i] * psi[j]), axis=0) for i in range(p) for j in range(i + 1)], p
        )
    psi_array = jnp.stack(broadcast_arrays(psi), axis=1)
    return Symmetric(jnp.sum(share[:, None, None] * (psi_array[:, :, None] * psi_array[:, None]), axis=0), p)


def _or_0(a: Array | None) -> Array | int:
    return 0 if a is None else a


def finite_or_1(a: Array) -> Array:
    """1 for NaN, which must not meet a cotangent of 0, and for infinity.

    The barrier keeps XLA from computing what is known of a data set anew for each of its observations.
    """
    return (
        lax.optimization_barrier(jnp.where(jnp.isfinite(a), a, 1))
        if jnp.issubdtype(a.dtype, jnp.floating)
        else a
    )


def _not_0(a: Array) -> Array:
    return jnp.where(a != 0, a, 1)
