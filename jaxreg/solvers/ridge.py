"""Ridge regressions: from the moments of each data set, in the eigenvectors of ⟨xxᵀ⟩ about the means.

With ⟨xxᵀ⟩ = V diag(s) Vᵀ and z = Vᵀ⟨x y⟩, β = V z / (s + a) with a = α / Σ w: all α share one decomposition,
and complete data sets on a shared design do, too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.ridge import Ridge
from jaxreg.data.source import Columns
from jaxreg.engine.cascade import BlockResult, Task
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.normal_equations import solve
from jaxreg.engine.operation import Operands, SumsAndPoint, result_of
from jaxreg.engine.products import TILE_COLUMNS, product
from jaxreg.engine.scores import observed_response
from jaxreg.engine.sums import columns_of
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    slice_columns,
    unbroadcast_columns,
    views,
)
from jaxreg.gaps import is_valid
from jaxreg.numerics.precision import in_float64
from jaxreg.numerics.vectors import Symmetric, as_array, vector
from jaxreg.solvers.minimization import without_errors
from jaxreg.status import Status

TILE_NUMBERS = 2**20  # of all ⟨xxᵀ⟩ of a tile, or of all x where they are read
RANK = 2.0**-48  # relative to the largest eigenvalue: a smaller one is rounding
RANK_OF = {"float32": 2.0**-20, "float64": RANK}


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


def parts_of(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Parts, None]:
    """A `finish` of tasks."""
    point, sums = solution.point, solution.sums
    estimate = result_of(ansatz, operands, solution, dtype)[0].estimate
    scale, offsets = as_array(vector(point.x_scale)), as_array(point.offsets)
    unit, weight, total = point.y_unit, sums.weight, point.y_variance
    if operands.sigma_unit is not None:
        weight = weight / jnp.square(operands.sigma_unit.astype(weight.dtype))
    x_mean, y_mean = as_array(vector(point.x_center)) + scale * offsets, unit * point.y_mean
    if not ansatz.has_intercept:
        total = total + jnp.square(point.y_mean)
        x_mean, y_mean = jnp.zeros_like(x_mean), jnp.zeros_like(y_mean)
    gram = _dense(point.gram) * scale[:, None] * scale[None]
    cross = as_array(point.cross) * unit * scale
    return Parts(estimate, point.finite, weight, x_mean, y_mean, gram, cross, total * unit * unit), None


def _dense(a: Symmetric) -> Array:
    return (
        jnp.stack([jnp.stack([a[i, j] for j in range(a.k)]) for i in range(a.k)]) if a.is_list else a.entries
    )


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


def ridge_estimate(
    ansatz: Ansatz,
    dtype: np.dtype,
    cost: Ridge,
    parts: Parts,
    eigen: tuple[Array, Array] | None,
    data: tuple[Any, ...] | None,
) -> Estimate:
    """The estimate of each data set."""
    system = system_of(parts, eigen)
    alpha = chosen_alpha(ansatz, cost, system, data)
    dof = system.dof(alpha, intercept=ansatz.has_intercept)
    solution = Solution(alpha, system.slopes(alpha), system.mean_square(alpha), dof)
    smallest = system.eigenvalues[0] + alpha / system.weight
    is_regular = smallest > RANK * len(solution.slopes) * system.eigenvalues[-1]
    return _estimate(ansatz, dtype, parts, solution, is_regular)


class Solution(NamedTuple):
    """The minimum of S.

    Attributes:
        alpha: α.
        slopes: β, (k, *batch).
        mean_square: ⟨ε²⟩.
        dof: the trace of the hat matrix.
    """

    alpha: Array
    slopes: Array
    mean_square: Array
    dof: Array


def _estimate(
    ansatz: Ansatz, dtype: np.dtype, parts: Parts, solution: Solution, is_regular: Array
) -> Estimate:
    """The estimate of a minimum, with a status, and NaN where it has no params; see `without_errors`."""
    template, beta = parts.estimate, solution.slopes
    wide = [columns_of(ansatz, a.astype(beta.dtype), 0) for a in (template.x_center, template.x_scale)]
    center, scale = map(jnp.stack, wide)
    at_center = parts.y_mean - jnp.sum((parts.x_mean - center) * beta, axis=0)
    intercept = parts.y_mean - jnp.sum(parts.x_mean * beta, axis=0)
    coefs, params = beta * scale, beta
    if ansatz.has_intercept:
        coefs, params = (jnp.concatenate([a[None], b]) for a, b in ((at_center, coefs), (intercept, params)))
    reduction = parts.total - solution.mean_square
    weight = jnp.where(parts.weight > 0, parts.weight, 1)
    penalty = solution.alpha / weight * jnp.sum(beta * beta, axis=0)
    status = jnp.where(is_regular, Status.ok, Status.rank_deficient)
    status = jnp.where(template.nobs == 0, Status.no_observations, status)
    status = jnp.where(parts.finite, status, Status.invalid_data)
    is_in_range = jnp.isfinite(params.astype(dtype)).all(axis=0)
    status = jnp.where((status == Status.ok) & ~is_in_range, Status.out_of_range, status)
    has_params = status == Status.ok

    def rounded(a: Array) -> Array:
        return jnp.where(has_params, a, jnp.nan).astype(dtype)

    p = len(params)
    changes = {
        "params": params,
        "bse": params,
        "coefs": coefs,
        "residual": _root(solution.mean_square),
        "explained": jnp.sign(reduction) * _root(jnp.abs(reduction)),
        "cost": solution.mean_square + penalty,
        "alpha": solution.alpha,
        "effective_dof": solution.dof,
    }
    if ansatz.has_intercept:
        changes["y_mean"] = parts.y_mean
    if template.y_deviation is not None:
        changes["y_deviation"] = template.y_deviation
    if template.root_weight is not None:
        changes["root_weight"] = _root(parts.weight)
    return replace(
        template,
        status=status.astype(jnp.int8),
        digits=jnp.zeros_like(template.digits),
        unit_cov=jnp.zeros((p * (p + 1) // 2, *(1,) * status.ndim), dtype),
        **{name: rounded(a) for name, a in changes.items()},
    )


def _root(a: Array) -> Array:
    """√a, with a derivative of 0 at 0."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), 0)


def traced(ansatz: Ansatz, columns: Columns) -> Estimate:
    """The estimate within transformations: plain JAX in the dtype of the data, which has derivatives."""
    parts = _parts_of_arrays(ansatz, *columns[:4])
    constant = lax.stop_gradient(parts)
    alpha = jnp.asarray(columns.cost.alpha, parts.total.dtype) + jnp.zeros_like(parts.total)
    if columns.cost.alphas is not None:
        alpha = lax.stop_gradient(chosen_alpha(ansatz, columns.cost, system_of(constant, None), columns[:3]))
    weight = jnp.where(parts.weight > 0, parts.weight, 1)
    k = len(parts.gram)
    identity = jnp.eye(k, dtype=alpha.dtype).reshape(k, k, *(1,) * alpha.ndim)
    a = alpha / weight
    K = parts.gram + a * identity
    s = jnp.linalg.eigvalsh(jnp.moveaxis(lax.stop_gradient(K), (0, 1), (-2, -1)))
    is_regular = s[..., 0] > RANK_OF[alpha.dtype.name] * k * s[..., -1]
    K = jnp.where(is_regular, K, identity)
    # By sweeps: XLA's inverse is not partitioned over the data sets of an Explicit mesh.
    right, bottom = parts.cross[:, None], jnp.concatenate([parts.cross, parts.total[None]])[None]
    G = jnp.concatenate([jnp.concatenate([K, right], axis=1), bottom])
    inverse = solve(Symmetric(G, k + 1), jnp.stack([K[i, i] for i in range(k)]), 0.0).inverse.entries
    beta = jnp.sum(inverse * parts.cross[None], axis=1)
    fitted = jnp.sum(parts.gram * beta[None], axis=1)
    mean_square = parts.total - jnp.sum(beta * (2 * parts.cross - fitted), axis=0)
    dof = k - a * jnp.trace(inverse) + ansatz.has_intercept
    solution = Solution(alpha, beta, jnp.maximum(mean_square, 0), dof)
    return without_errors(_estimate(ansatz, columns.y.dtype, parts, solution, is_regular), jnp)


def _parts_of_arrays(
    ansatz: Ansatz, x: Array, y: Array, weights: Array | None, sigma_unit: Array | None
) -> Parts:
    """The normal equations from whole arrays."""
    columns, dtype = columns_of(ansatz, x, 1), y.dtype
    row = observed_response(columns, y, weights, dtype)
    zero = jnp.zeros_like(y)
    X = jnp.stack([jnp.where(row.valid, a, 0) + zero for a in columns])
    w = row.weight + zero
    total_weight = jnp.sum(w, axis=0)
    w = w / jnp.where(total_weight > 0, total_weight, 1)
    x_mean, y_mean = jnp.sum(w * X, axis=1), jnp.sum(w * row.y, axis=0)
    if not ansatz.has_intercept:
        x_mean, y_mean = jnp.zeros_like(x_mean), jnp.zeros_like(y_mean)
    X, y_centered = jnp.where(row.valid, X - x_mean[:, None], 0), jnp.where(row.valid, row.y - y_mean, 0)
    counts = is_valid(columns, y, weights) | (zero > 0)  # also where a value is infinite
    usable = jnp.stack([jnp.isfinite(a + zero) for a in (*columns, y)]).all(axis=0)
    if weights is not None:
        usable = usable & (weights >= 0) & (weights < jnp.inf)
    finite = (usable | ~counts).all(axis=0)
    if sigma_unit is not None:
        total_weight = total_weight / jnp.square(sigma_unit)
    nobs = jnp.sum(counts, axis=0).astype(jnp.int32)
    batch = jnp.zeros_like(y_mean)
    center = jnp.zeros_like(x_mean) if ansatz.x_is_vector else batch
    p = len(columns) + ansatz.has_intercept
    template = Estimate(
        params=jnp.zeros((p, *batch.shape), dtype),
        bse=jnp.zeros((p, *batch.shape), dtype),
        nobs=nobs,
        status=jnp.zeros_like(nobs, jnp.int8),
        digits=jnp.zeros_like(nobs, jnp.int8),
        coefs=jnp.zeros((p, *batch.shape), dtype),
        unit_cov=jnp.zeros((p * (p + 1) // 2, *batch.shape), dtype),
        x_center=center,
        x_scale=jnp.ones_like(center),
        residual=batch,
        explained=batch,
        y_mean=batch if ansatz.has_intercept else None,
        y_deviation=None if ansatz.has_intercept else _root(_variance(w, row.y)),
        root_weight=None if weights is None else batch,
        log_weight=None if weights is None else jnp.sum(jnp.log(jnp.where(w > 0, row.weight, 1)), axis=0),
    )
    gram = jnp.sum(w * X[:, None] * X[None], axis=2)
    cross = jnp.sum(w * X * y_centered, axis=1)
    return Parts(
        template, finite, total_weight, x_mean, y_mean, gram, cross, jnp.sum(w * y_centered**2, axis=0)
    )


def _variance(w: Array, y: Array) -> Array:
    return jnp.sum(w * jnp.square(y - jnp.sum(w * y, axis=0)), axis=0)


_eigenvectors = jax.jit(in_float64(eigenvectors))
_estimate_tile = partial(jax.jit, static_argnums=(0, 1))(in_float64(ridge_estimate))


@dataclass(frozen=True)
class AtOnce:
    """A `postprocess` of tasks on an accelerator: all data sets of a block together."""

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """The estimates of the columns."""
        arguments = (columns.cost, result.estimate, None, columns[:3])
        return without_errors(_estimate_tile(task.ansatz, columns.y.dtype, *arguments), jnp)


@dataclass(frozen=True)
class InTiles:
    """A `postprocess` of tasks on the CPU."""

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """The estimates of the columns first to last."""
        m, dtype = last - first, columns.y.dtype
        columns = slice_columns(columns, first, last)
        cost, parts, data = jax.tree.map(unbroadcast_columns, (columns.cost, result.estimate, columns[:3]))
        has_one_gram = parts.gram.shape[-1] == 1
        eigen = jax.tree.map(np.asarray, _eigenvectors(parts.gram)) if has_one_gram else None

        def estimate_tile(tile: Tile) -> Estimate:
            return _estimate_tile(task.ansatz, dtype, *views(tile))

        is_shared = has_one_gram and data[0].shape[-1] == 1
        numbers = (data[0] if cost.by == "loo" else parts.gram)[..., 0].size
        width = TILE_COLUMNS if is_shared else max(16, min(TILE_COLUMNS, TILE_NUMBERS // numbers))
        program = ("ridge", task.ansatz, jax.tree.structure(cost))
        data = data if cost.by == "loo" else None  # moments are enough
        estimate = map_tiles(estimate_tile, (cost, parts, eigen, data), 0, m, width, program=program)
        estimate = without_errors(estimate, np)  # in NumPy: `jax_debug_nans` would stop at the NaN
        return jax.tree.map(partial(broadcast_columns, m), estimate)
