"""Derivatives of an estimate by the implicit function theorem at p(θ, data) = 0, whatever the solver.

With c and V = ⟨ψψᵀ⟩⁻¹ constant, c + V⟨ψ(y − cᵀψ)⟩ has the value and the derivative of the turning point, and
2V − V⟨ψψᵀ⟩V those of V: they are Newton steps that start at the solution. They are plain JAX on whole arrays,
in the dtype of the data, and are only differentiated.
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
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import Row, feature_rows, params_of, variance
from jaxreg.engine.sums import columns_of
from jaxreg.gaps import is_valid
from jaxreg.numerics.precision import float64, power_of_two, promoting
from jaxreg.numerics.small import broadcast_arrays
from jaxreg.numerics.vectors import Symmetric, elementwise, max_listed, triangle, vector


class Observations(NamedTuple):
    """The observations in the basis of an estimate, differentiable in the data; 0 where not valid.

    Attributes:
        psi: ψ(t), p of (n, *batch).
        y: measured from its origin.
        residual: ε at the coefs of the estimate.
        w: weights, scaled so that their sum does not overflow.
        normalized: w / Σ w.
        weight: the constant value of Σ w.
    """

    psi: list[Array]
    y: Array
    residual: Array
    w: Array
    normalized: Array
    weight: Array

    @classmethod
    def of(
        cls,
        ansatz: Ansatz,
        estimate: Estimate,
        coefs_lo: Array,
        sigma_unit: Array | None,
        data: tuple[Array, Array, Array | None],
    ) -> Observations:
        """From the data of an estimate, with its coefs as the double-double coefs + coefs_lo."""
        x, y, weights = data
        columns = columns_of(ansatz, x, 1)
        valid = is_valid(columns, y, weights) & lax.optimization_barrier(jnp.isfinite(estimate.params[0]))
        estimate, coefs_lo = jax.tree.map(finite_or_1, (estimate, coefs_lo))
        center, scale = (columns_of(ansatz, a, 0) for a in (estimate.x_center, estimate.x_scale))
        columns, y = [jnp.where(valid, a, 0) for a in columns], jnp.where(valid, y, 0)
        psi = ansatz.basis([(a - c) * (1 / s) for a, c, s in zip(columns, center, scale, strict=True)])
        e = residuals(ansatz, columns, y, center, scale, list(estimate.coefs), list(coefs_lo))
        weight = estimate.nobs.astype(y.dtype)
        w = jnp.where(valid, jnp.ones((), y.dtype) if weights is None else weights, 0)
        if estimate.root_weight is not None:
            root_weight = estimate.root_weight if sigma_unit is None else estimate.root_weight * sigma_unit
            unit = power_of_two(root_weight / jnp.sqrt(jnp.maximum(weight, 1)))
            w, weight = w * (1 / unit) * (1 / unit), jnp.square(root_weight / unit)
        normalized = w / _nonzero(jnp.sum(w, axis=0))
        return cls(psi, y, jnp.where(valid, e, 0), w, normalized, _nonzero(weight))

    def mean(self, a: Array) -> Array:
        """Σ w a / Σ w."""
        return lax.optimization_barrier(jnp.sum(self.normalized * a, axis=0))

    def root_mean(self, a: Array, b: Array, value: Array) -> Array:
        """√⟨a b⟩ by a Newton step from its value, with the sign of the value."""
        size = jnp.abs(value)
        unit = power_of_two(size)
        return value / 2 + self.mean((a / unit) * (b / unit)) * unit * (unit / _nonzero(2 * size))

    def statistics(self, estimate: Estimate, e: Array) -> dict[str, Array]:
        """The fields of the estimate that depend on residuals e, on y and on weights alone."""
        y = self.y
        center = 0 if estimate.y_mean is None else estimate.y_mean - _or_0(estimate.y_origin)
        residual = self.root_mean(e, e, estimate.residual)
        changes = {
            "residual": jnp.where(estimate.nobs > len(estimate.params), residual, estimate.residual),
            "explained": self.root_mean(y - center - e, y - center + e, estimate.explained),
        }
        if estimate.y_mean is not None:
            changes["y_mean"] = self.mean(y) + _or_0(estimate.y_origin)
        if estimate.y_deviation is not None:
            centered = y - self.mean(y)
            centered -= self.mean(centered)
            changes["y_deviation"] = self.root_mean(centered, centered, estimate.y_deviation)
        if estimate.root_weight is not None:
            changes["root_weight"] = estimate.root_weight * (1 + jnp.sum(self.w, axis=0) / self.weight) / 2
            changes["log_weight"] = jnp.sum(jnp.log(jnp.where(self.w > 0, self.w, 1)), axis=0)
        return changes


def first_order(
    ansatz: Ansatz,
    estimate: Estimate,
    bread: Array,
    coefs_lo: Array,
    sigma_unit: Array | None,
    data: tuple[Array, Array, Array | None],
    *,
    at_minimum: bool,
    y_only: bool,
) -> tuple[Estimate, Exact]:
    """The estimate as a differentiable function of the data, with nonrobust errors; its coefs and V.

    Args:
        ansatz: with the basis ψ.
        estimate: the estimate.
        bread: V, the lower triangle row by row.
        coefs_lo: its coefs in float64 minus its rounded coefs.
        sigma_unit: see `Operands`.
        data: x, y and weights.
        at_minimum: whether the coefs are those of the turning point.
        y_only: whether only y is differentiated, which leaves V constant.
    """
    p = len(estimate.params)
    observations = Observations.of(ansatz, estimate, coefs_lo, sigma_unit, data)
    estimate, bread = jax.tree.map(finite_or_1, (estimate, bread))

    def newton_step(e: Array) -> list[Array]:
        """V⟨ψ e⟩."""
        return list(V.times(vector([observations.mean(a * e) for a in observations.psi])))

    V = Symmetric(list(bread) if p <= max_listed() else bread[triangle(p)], p)
    coefs, e = list(estimate.coefs), observations.residual
    if not at_minimum:
        step = newton_step(e)
        coefs = [c + s for c, s in zip(coefs, step, strict=True)]
        e = e - sum(a * s for a, s in zip(observations.psi, step, strict=True))
    coefs = [c + s for c, s in zip(coefs, newton_step(e), strict=True)]
    new_V = V
    if not y_only:
        V_A_V = V.sandwich(lax.optimization_barrier(_gram(observations.psi, observations.normalized)))
        new_V = Symmetric(elementwise(lambda a, b: 2 * a - b, V.entries, V_A_V.entries), p)
    changes = observations.statistics(estimate, e)
    rows = feature_rows(ansatz, *_center_and_scale(ansatz, estimate))
    df = jnp.maximum(estimate.nobs - p, 1).astype(estimate.params.dtype)

    def deviation(b: Array, row: Row) -> Array:
        """√(residual² var(c_row) / df) by a Newton step from its value."""
        unit, square = variance(row, new_V)
        residual = estimate.residual * unit
        change_by_variance = residual / _nonzero(2 * b) * (residual / df) * square - b / 2
        return b * changes["residual"] / _nonzero(estimate.residual) + change_by_variance

    params = params_of(rows, coefs)
    bse = [deviation(b, row) for b, row in zip(estimate.bse, rows, strict=True)]
    exact = Exact(jnp.stack(coefs), jnp.concatenate(new_V.lower))
    changes |= {
        "params": jnp.stack([params[0] + _or_0(estimate.y_origin), *params[1:]]),
        "bse": jnp.stack(bse),
        "coefs": exact.coefs,
        "unit_cov": exact.unit_cov,
    }
    return replace(estimate, **changes), exact


def _center_and_scale(ansatz: Ansatz, estimate: Estimate) -> tuple[list[Array], list[Array]]:
    """Center, measured from 0, and scale of the columns of x."""
    center, scale = (columns_of(ansatz, a, 0) for a in (estimate.x_center, estimate.x_scale))
    if estimate.x_origin is not None:
        origin = columns_of(ansatz, estimate.x_origin, 0)
        center = [c + o for c, o in zip(center, origin, strict=True)]
    return center, scale


def residuals(
    ansatz: Ansatz,
    x: list[Array],
    y: Array,
    center: list[Array],
    scale: list[Array],
    coefs: list[Array],
    coefs_lo: list[Array],
) -> Array:
    """y − Σ c_k ψ_k(t), computed in float64, as it cancels where the fit is good."""
    return _residuals_in_float64(ansatz, x, y, center, scale, coefs, coefs_lo)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _residuals_in_float64(
    ansatz: Ansatz,
    x: list[Array],
    y: Array,
    center: list[Array],
    scale: list[Array],
    coefs: list[Array],
    coefs_lo: list[Array],
) -> Array:
    with float64():
        arguments = (x, y, center, scale, coefs, coefs_lo)
        arguments = jax.tree.map(lambda a: a.astype(jnp.float64), arguments)
        return _residuals(ansatz, *arguments).astype(y.dtype)


@_residuals_in_float64.defjvp
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
    x_scaled = [(a - c) * (1 / s) for a, c, s in zip(x, center, scale, strict=True)]
    for c, c_lo, psi in zip(coefs, coefs_lo, ansatz.basis(x_scaled), strict=True):
        y = y - (c + c_lo) * psi
    return y


def _gram(psi: list[Array], normalized: Array) -> Symmetric:
    """⟨ψ ψᵀ⟩."""
    p = len(psi)
    if p <= max_listed():
        return Symmetric(
            [jnp.sum(normalized * (psi[i] * psi[j]), axis=0) for i in range(p) for j in range(i + 1)], p
        )
    psi_array = jnp.stack(broadcast_arrays(psi), axis=1)
    w = normalized[:, None, None]
    return Symmetric(jnp.sum(w * (psi_array[:, :, None] * psi_array[:, None]), axis=0), p)


def _or_0(a: Array | None) -> Array | int:
    return 0 if a is None else a


def finite_or_1(a: Array) -> Array:
    """Replace NaN, whose product with a cotangent of 0 is NaN, and infinity by 1.

    The barrier keeps XLA from recomputing values of a data set for each of its observations.
    """
    if not jnp.issubdtype(a.dtype, jnp.floating):
        return a
    return lax.optimization_barrier(jnp.where(jnp.isfinite(a), a, 1))


def _nonzero(a: Array) -> Array:
    return jnp.where(a != 0, a, 1)
