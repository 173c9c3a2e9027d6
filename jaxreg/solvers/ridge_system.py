"""The penalized normal equations of ridge regressions in eigenvectors, and the choice of α.

With ⟨xxᵀ⟩ = V diag(s) Vᵀ about the means and z = Vᵀ⟨x y⟩, β = V z / (s + a) with a = α / Σ w: all α share one
decomposition, and complete data sets on a shared design do, too.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.ridge import Ridge
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.products import product
from jaxreg.engine.scores import observed_response
from jaxreg.engine.sums import columns_of


class Parts(NamedTuple):
    """What the methods of the engine hand on: a template of the estimate, and the normal equations.

    Attributes:
        estimate: of least squares, which may not exist.
        finite: whether the sums are finite.
        weight: Σ w.
        x_mean: ⟨x⟩, (k, *batch); 0 without an intercept.
        y_mean: ⟨y⟩; 0 without an intercept.
        gram: ⟨xxᵀ⟩ about the means, (k, k, *batch).
        cross: ⟨x y⟩, (k, *batch).
        total: ⟨y²⟩ about the mean.
    """

    estimate: Estimate
    finite: Array
    weight: Array
    x_mean: Array
    y_mean: Array
    gram: Array
    cross: Array
    total: Array


class System(NamedTuple):
    """The penalized normal equations of each data set, in the units of the data.

    Attributes:
        nobs: number of valid observations.
        weight: Σ w.
        x_mean: ⟨x⟩, (k, *batch); 0 without an intercept.
        y_mean: ⟨y⟩; 0 without an intercept.
        eigenvalues: s, (k, *batch).
        vectors: V, (k, k, *batch).
        cross: z, (k, *batch).
        total: ⟨y²⟩ about the mean.
    """

    nobs: Array
    weight: Array
    x_mean: Array
    y_mean: Array
    eigenvalues: Array
    vectors: Array
    cross: Array
    total: Array

    def filter(self, alpha: Any) -> Array:
        """1 / (s + a)."""
        return 1 / (self.eigenvalues + alpha / self.weight)

    def slopes(self, alpha: Any) -> Array:
        """β."""
        scaled = self.filter(alpha) * self.cross
        return _times(self.vectors, scaled)

    def mean_square(self, alpha: Any) -> Array:
        """⟨ε²⟩."""
        f = self.filter(alpha)
        explained = jnp.sum(self.cross**2 * f * (2 - self.eigenvalues * f), axis=0)
        return jnp.maximum(self.total - explained, 0)

    def dof(self, alpha: Any, *, intercept: bool) -> Array:
        """The trace of the hat matrix."""
        return jnp.sum(self.eigenvalues * self.filter(alpha), axis=0) + intercept


def eigenvectors(gram: Array) -> tuple[Array, Array]:
    """s, (k, *batch), and V, (k, k, *batch); 0 where the matrix is not finite."""
    gram = jnp.where(jnp.isfinite(gram), gram, 0)
    s, V = jnp.linalg.eigh(jnp.moveaxis(gram, (0, 1), (-2, -1)))
    return jnp.maximum(jnp.moveaxis(s, -1, 0), 0), jnp.moveaxis(V, (-2, -1), (0, 1))


def system_of(parts: Parts, eigen: tuple[Array, Array] | None) -> System:
    """The system, from the eigenvectors of ⟨xxᵀ⟩ if they are known."""
    s, V = eigenvectors(parts.gram) if eigen is None else eigen
    cross, total = (jnp.where(jnp.isfinite(a), a, 0) for a in (parts.cross, parts.total))
    weight = jnp.where(parts.weight > 0, parts.weight, 1)
    z = _times(jnp.swapaxes(V, 0, 1), cross)
    return System(parts.estimate.nobs, weight, parts.x_mean, parts.y_mean, s, V, z, total)


def _times(a: Array, b: Array) -> Array:
    """Σ_k a[i, k] b[k], one matrix product if all data sets share a."""
    if a.shape[2:] == (1,) and b.ndim == 2:
        return product(a[..., 0], b)
    return jnp.sum(a * b[None], axis=1)


def chosen_alpha(ansatz: Ansatz, cost: Ridge, system: System, data: tuple[Any, ...] | None) -> Array:
    """α of each data set: given, or the best candidate."""
    if cost.alphas is None:
        return jnp.asarray(cost.alpha, system.total.dtype) + jnp.zeros_like(system.total)
    alphas = jnp.asarray(cost.alphas, system.total.dtype)
    if cost.by == "gcv":
        scores = _gcv(ansatz, system, alphas)
    else:
        scores = lax.map(partial(_left_out, ansatz, system, *not_none(data)), alphas)
    best = jnp.argmin(jnp.where(jnp.isnan(scores), jnp.inf, scores), axis=0)
    column = (-1, *(1,) * best.ndim)  # a mask in place of an index, which an Explicit mesh refuses
    is_best = jnp.arange(len(alphas)).reshape(column) == best
    return jnp.sum(jnp.where(is_best, alphas.reshape(column), 0), axis=0)


def _gcv(ansatz: Ansatz, system: System, alphas: Array) -> Array:
    """⟨ε²⟩ / (1 − tr H / n)² of all candidates, (q, *batch)."""
    s = system.eigenvalues
    a = alphas.reshape(-1, 1, *(1,) * system.weight.ndim) / system.weight
    f = 1 / (s + a)
    explained = _times(f * (2 - s * f), system.cross**2)
    left = 1 - (jnp.sum(s * f, axis=1) + ansatz.has_intercept) / jnp.maximum(system.nobs, 1)
    mean_square = jnp.maximum(system.total - explained, 0)
    return mean_square / jnp.square(jnp.where(left > 0, left, jnp.nan))


def _left_out(
    ansatz: Ansatz, system: System, x: Array, y: Array, weights: Array | None, alpha: Array
) -> Array:
    """Σ w (ε / (1 − h))², with h = w (1 + Σ u² / (s + a)) / Σ w and u = Vᵀ(x − ⟨x⟩)."""
    columns, dtype = columns_of(ansatz, x, 1), system.total.dtype
    row = observed_response(columns, y, weights, dtype)
    centered = [
        jnp.where(jnp.isfinite(a), a, 0).astype(dtype) - m
        for a, m in zip(columns, system.x_mean, strict=True)
    ]
    u = _all_times(jnp.swapaxes(system.vectors, 0, 1), jnp.stack(centered))  # (k, n, *batch)
    f = system.filter(alpha)
    values = _all_times((f * system.cross)[None], u)[0]
    constant = 1.0 if ansatz.has_intercept else 0.0
    h = row.weight * (constant + _all_times(f[None], u * u)[0]) / system.weight
    error = jnp.where(row.valid, row.y - system.y_mean - values, 0)
    return jnp.sum(row.weight * jnp.square(error / jnp.where(h < 1, 1 - h, jnp.nan)), axis=0)


def _all_times(a: Array, u: Array) -> Array:
    """Σ_k a[i, k] u[k] over the rows of u, (k, n, *batch); one matrix product if all data sets share u."""
    k, n = u.shape[:2]
    if u.shape[2:] == (1,) and a.ndim == 3:
        flat = product(u[..., 0].T, jnp.swapaxes(a, 0, 1).reshape(k, -1))  # (n, i·m)
        return jnp.moveaxis(flat.reshape(n, *(a.shape[0], *a.shape[2:])), 1, 0)
    return jnp.sum(a[:, :, None] * u[None], axis=1)
