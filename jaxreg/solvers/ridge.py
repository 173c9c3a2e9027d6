"""Ridge regressions of concrete data: the moments of all data sets, then their solutions tile by tile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.costs.ridge import Ridge
from jaxreg.data.source import Columns
from jaxreg.engine.cascade import BlockResult, Task
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.operation import Operands, SumsAndPoint, result_of
from jaxreg.engine.products import TILE_COLUMNS
from jaxreg.engine.sums import columns_of
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    slice_columns,
    unbroadcast_columns,
    views,
)
from jaxreg.numerics.precision import in_float64
from jaxreg.numerics.vectors import Symmetric, as_array, vector
from jaxreg.solvers.minimization import without_errors
from jaxreg.solvers.ridge_system import Parts, chosen_alpha, eigenvectors, system_of
from jaxreg.status import Status

TILE_NUMBERS = 2**20  # of all ⟨xxᵀ⟩ of a tile, or of all x where they are read
RANK = 2.0**-48  # relative to the largest eigenvalue: a smaller one is rounding


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
    return estimate_at(ansatz, dtype, parts, solution, is_regular)


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


def estimate_at(
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
        "residual": root(solution.mean_square),
        "explained": jnp.sign(reduction) * root(jnp.abs(reduction)),
        "cost": solution.mean_square + penalty,
        "alpha": solution.alpha,
        "effective_dof": solution.dof,
    }
    if ansatz.has_intercept:
        changes["y_mean"] = parts.y_mean
    if template.y_deviation is not None:
        changes["y_deviation"] = template.y_deviation
    if template.root_weight is not None:
        changes["root_weight"] = root(parts.weight)
    return replace(
        template,
        status=status.astype(jnp.int8),
        digits=jnp.zeros_like(template.digits),
        unit_cov=jnp.zeros((p * (p + 1) // 2, *(1,) * status.ndim), dtype),
        **{name: rounded(a) for name, a in changes.items()},
    )


def root(a: Array) -> Array:
    """√a, with a derivative of 0 at 0."""
    return jnp.where(a > 0, jnp.sqrt(jnp.where(a > 0, a, 1)), 0)


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
