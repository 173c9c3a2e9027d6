"""Descent on any cost of (params, x, y, weights), from the least-squares solution of each data set.

It descends in standardized coordinates a with θ = B a + θ₀, in which every feature and y have mean 0 and
variance 1. The cost is called with params and data in their own units.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.source import Columns
from jaxreg.engine.cascade import BlockResult, Task, indices_of_true, set_columns
from jaxreg.engine.derivative import Observations, finite_or_1
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.features import feature_rows
from jaxreg.engine.operation import (
    Operands,
    SumsAndPoint,
    operation,
    result_of,
    solved,
)
from jaxreg.engine.tiles import Tile, map_tiles, select_columns, slice_columns, views
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64
from jaxreg.numerics.vectors import over_batch
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.descent import Descent, in_slots, loop
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.solvers.newtons_method import Newton
from jaxreg.status import Status

TILE = 4096  # data sets in a tile
NEWTON_TILE = 256  # the same where all take the steps of the slowest
MAX_OFFSET = 2.0**6  # in standard deviations of x and y: up to it, a cost in float32 keeps five digits


class Standardization(NamedTuple):
    """The map from standardized coordinates to params, θ = B a + θ₀, and the least-squares cost in them.

    Attributes:
        best: a*, the least-squares solution, (p, *batch).
        B: (p, p, *batch).
        theta0: (p, *batch).
        to_coefs: ∂coefs/∂a, (p, p, *batch).
        R: in the least-squares cost S(a) = S* + (a − a*)ᵀR(a − a*), in units of y_deviation², (p, p, *batch).
        y_deviation: standard deviation of y, (*batch).
    """

    best: Array
    B: Array
    theta0: Array
    to_coefs: Array
    R: Array
    y_deviation: Array

    @classmethod
    def of(cls, ansatz: Ansatz, operands: Operands, solution: SumsAndPoint) -> Standardization:
        """From the least-squares solution.

        Without an intercept no mean is subtracted; constant features and y have deviation 1.
        """
        point, origin, first = solution.point, operands.origin(ansatz), int(ansatz.has_intercept)
        k = point.gram.k
        total = point.y_variance if first else point.unexplained + point.explained
        y_deviation = point.y_unit * _root(total)
        one = jnp.ones_like(y_deviation)
        deviation = [_root(point.gram[i, i]) * one for i in range(k)]
        unit = [y_deviation / s for s in deviation]
        D = [[unit[i] if i == j else 0 * one for j in range(k)] for i in range(k)]
        R = [[point.gram[i, j] / (deviation[i] * deviation[j]) for j in range(k)] for i in range(k)]
        best = [point.coefs[i] / unit[i] for i in range(k)]
        y_mean = point.y_unit * point.y_mean
        theta0 = [0 * one] * (k + first)
        if first:
            D = [
                [y_deviation, *(-unit[j] * point.offsets[j] for j in range(k))],
                *([0 * one, *row] for row in D),
            ]
            R = [[one, *[0 * one] * k], *([0 * one, *row] for row in R)]
            best = [0 * one, *best]
            theta0[0] = y_mean * one
        p = k + first
        center = (
            point.x_center
            if origin.x is None
            else [c + o for c, o in zip(point.x_center, origin.x, strict=True)]
        )
        rows = feature_rows(ansatz, center, point.x_scale)
        B = [[sum((m * D[i][j] for i, m in row.items()), 0 * one) for j in range(p)] for row in rows]
        return cls(_stack(best), _matrix(B), _stack(theta0), _matrix(D), _matrix(R), y_deviation)


class Minimum(NamedTuple):
    """The end points of descents.

    Attributes:
        estimate: the estimate, without standard errors.
        a: the same point in standardized coordinates, (p, *batch).
        standardization: of these coordinates.
    """

    estimate: Estimate
    a: Array
    standardization: Standardization


def start(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, Standardization]:
    """The least-squares solution, where descents start, and its standardization, in float64."""
    result, _ = result_of(ansatz, operands._replace(solver=ClosedForm()), solution, dtype)
    return result.estimate, Standardization.of(ansatz, operands, solution)


def standardized_cost(
    ansatz: Ansatz,
    a: Array,
    cost: Partial,
    x: Array,
    y: Array,
    w: Array | None,
    standardization: Standardization,
) -> Array:
    """S(θ) of one data set in units of the variance of y."""
    theta = standardization.theta0 + small.matvec(standardization.B, a)
    return cost(theta, x, y, w, ansatz=ansatz) / jnp.square(standardization.y_deviation)


def estimate_at(
    least_squares: Estimate,
    standardization: Standardization,
    a: Array,
    value: Array,
    descent_status: Array,
    dtype: np.dtype,
) -> Estimate:
    """The estimate at the end of a descent, still with the standard errors of least squares."""
    p = len(a)
    step = jnp.where(jnp.isfinite(a), a - standardization.best, 0)
    excess = small.dot(step, small.matvec(standardization.R, step))  # of the squared error above its minimum
    unit = standardization.y_deviation
    explained = jnp.sign(least_squares.explained) * jnp.square(least_squares.explained / unit) - excess
    is_exact = (descent_status == Status.ok) & (least_squares.nobs == p)
    status = jnp.where(is_exact, Status.exact_fit, descent_status)
    is_solved = (least_squares.status == Status.ok) | (least_squares.status == Status.exact_fit)
    status = jnp.where(is_solved, status, least_squares.status)
    has_params = sum((status == s for s in Status if s.has_params), jnp.zeros((), bool))

    def nan_if_failed(a: Array) -> Array:
        return jnp.where(has_params, a, jnp.nan).astype(dtype)

    return replace(
        least_squares,
        params=nan_if_failed(least_squares.params + small.matvec(standardization.B, step)),
        status=status.astype(jnp.int8),
        digits=jnp.zeros_like(least_squares.digits),
        coefs=nan_if_failed(least_squares.coefs + small.matvec(standardization.to_coefs, step)),
        residual=nan_if_failed(unit * jnp.sqrt(jnp.square(least_squares.residual / unit) + excess)),
        explained=nan_if_failed(unit * jnp.sign(explained) * jnp.sqrt(jnp.abs(explained))),
        cost=nan_if_failed(value * jnp.square(unit)),
    )


def without_errors(estimate: Any, xp: Any) -> Any:
    """The estimate with NaN for standard errors, which a general cost does not have."""
    missing = {name: xp.full_like(getattr(estimate, name), xp.nan) for name in ("bse", "unit_cov")}
    return replace(estimate, **missing)


@partial(jax.jit, static_argnums=(0, 1))
def _minimize(ansatz: Ansatz, certified: bool, operands: Operands) -> Minimum:
    """Descend in the dtype of the data from the least-squares solution, which is computed in float64."""
    dtype, solver = operands.y.dtype, operands.solver
    with float64():
        least_squares, standardization = solved(ansatz, certified, operands, start)
    in_dtype = jax.tree.map(lambda a: a.astype(dtype), standardization)
    a, value, status = _descend(ansatz, solver, operands.cost, operands[:3], in_dtype)
    with float64():
        least_squares = jax.tree.map(lambda a: a + jnp.zeros_like(value, a.dtype), least_squares)
        estimate = estimate_at(least_squares, standardization, a, value, status, dtype)
    return Minimum(without_errors(estimate, jnp), a, in_dtype)


@partial(jax.jit, static_argnums=0)
def _descend(
    ansatz: Ansatz,
    solver: GradientDescent | Newton,
    cost: Partial,
    data: tuple,
    standardization: Standardization,
) -> tuple[Array, Array, Array]:
    """The end point a, S(a) in units of the variance of y, and the status."""
    cost_of_a = partial(standardized_cost, ansatz)
    axes = data[1].ndim - 1
    if isinstance(solver, Newton):
        arguments = (standardization.best, cost, *data, standardization)
        return over_batch(partial(solver.search, cost_of_a), arguments, axes)

    def descend_one(
        cost: Partial,
        x: Array,
        y: Array,
        w: Array | None,
        standardization: Standardization,
        rate: Any,
        tol: Any,
    ) -> Descent:
        data = (cost, x, y, w, standardization)
        optimizer = solver.optimizer_with(rate)
        return loop(cost_of_a, standardization.best, data, optimizer, solver.steps, tol, history=False)

    arguments = (cost, *data, standardization, solver.rate, solver.tol)
    descent = over_batch(descend_one, arguments, axes)
    return descent.params, descent.cost, solver.status_of(descent)


def _minimum_of_moved_data(
    ansatz: Ansatz, operands: Operands, fixed: Operands, result: Minimum, y_only: bool
) -> Minimum:
    """The minimum as a function of the data, to first order, which JAX differentiates.

    By the implicit function theorem at ∇S = 0 it is at a − H⁻¹∇S, with ∇S of `operands`, H of `fixed`.
    """
    estimate, axes = result.estimate, operands.y.ndim - 1
    has_params = jnp.isfinite(estimate.params[0])
    a, standardization = jax.tree.map(
        lambda leaf: jnp.where(has_params & jnp.isfinite(leaf), leaf, 1), result[1:]
    )
    cost_of_a = partial(standardized_cost, ansatz)

    def arguments(operands: Operands) -> tuple:
        return (a, operands.cost, *jax.tree.map(zero_if_failed, operands[:3]), standardization)

    def zero_if_failed(leaf: Array) -> Array:
        """0 in place of data of failed data sets; a shared array is not expanded."""
        if math.prod(leaf.shape[leaf.ndim - axes :]) == 1:
            return jnp.where(jnp.isinf(leaf), 0, leaf)
        return jnp.where(has_params, leaf, 0)

    value, gradient = over_batch(jax.value_and_grad(cost_of_a), arguments(operands), axes)
    H = over_batch(jax.hessian(cost_of_a), arguments(fixed), axes)
    step = jnp.where(has_params, over_batch(_newton_step, (H, gradient), axes), 0).astype(a.dtype)
    coefs_step = small.matvec(standardization.to_coefs, step)
    no_low_part = jnp.zeros_like(estimate.coefs)
    observations = Observations.of(ansatz, estimate, no_low_part, operands.sigma_unit, operands[:3])
    residual = observations.residual - sum(
        psi * c for psi, c in zip(observations.psi, coefs_step, strict=True)
    )
    estimate = jax.tree.map(finite_or_1, estimate)
    moved = replace(
        estimate,
        params=estimate.params + small.matvec(standardization.B, step),
        coefs=estimate.coefs + coefs_step,
        cost=(value * jnp.square(standardization.y_deviation)).astype(estimate.params.dtype),
        **observations.statistics(estimate, residual),
    )
    return result._replace(estimate=moved, a=result.a + step)  # a too, for second derivatives


def _newton_step(H: Array, gradient: Array) -> Array:
    """−H⁻¹∇S, 0 where H is singular.

    By eigenvalues: XLA would gather the factors of an LU decomposition on all devices of an Explicit mesh.
    """
    eigenvalues, vectors = jnp.linalg.eigh(H)
    smallest_regular = len(H) * jnp.finfo(H.dtype).eps * jnp.max(jnp.abs(eigenvalues))
    is_regular = jnp.min(jnp.abs(eigenvalues)) > smallest_regular
    divisors = jnp.where(is_regular, eigenvalues, 1)
    return jnp.where(is_regular, -vectors @ ((vectors.T @ gradient) / divisors), 0)


minimize: Callable[[Ansatz, bool, Operands], Minimum] = operation(_minimize, _minimum_of_moved_data)


def _root(a: Array) -> Array:
    """√a; 1 where a is not positive, since the result is a divisor."""
    return jnp.sqrt(jnp.where(a > 0, a, 1))


def _stack(arrays: list[Array]) -> Array:
    return jnp.stack(small.broadcast_arrays(arrays))


def _matrix(rows: list[list[Array]]) -> Array:
    return jnp.stack([_stack(row) for row in rows])


def with_batch_axes(cost: Partial, axes: int) -> Partial:
    """The cost with batch axes of length 1 appended to its leaves."""
    return jax.tree.map(lambda a: jnp.reshape(a, (*jnp.shape(a), *(1,) * axes)), cost)


def least_squares_start(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[tuple[Estimate, Standardization], None]:
    """`start` as a `finish` of tasks."""
    return start(ansatz, operands, solution, dtype), None


@dataclass(frozen=True)
class AtOnce:
    """A `postprocess` of tasks on an accelerator: all data sets of a block descend together.

    Attributes:
        cost: to be minimized.
        x64: whether JAX's 64-bit switch is on for the user, as in calls of the cost.
    """

    cost: Partial
    x64: bool

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """Descend in the dtype of the data, and in float64 where float32 would lose digits to offsets."""
        least_squares, standardization = result.estimate
        dtype, m = columns.y.dtype, last - first
        operands = (*columns[:3], standardization)
        minima = self._descend(task, operands, dtype)
        is_inaccurate = ~_is_float32_enough(standardization)
        if dtype == np.float32 and (count := int(is_inaccurate.sum())):
            ids = indices_of_true(is_inaccurate, count)
            recomputed = self._descend(task, select_columns(operands, ids), np.dtype(np.float64))
            minima = jax.tree.map(lambda a, b: set_columns(ids, m, a.astype(b.dtype), b), minima, recomputed)
        return without_errors(_estimate_at(dtype, least_squares, standardization, *minima), np)

    def _descend(self, task: Task, operands: tuple, dtype: np.dtype) -> tuple:
        *data, standardization = jax.tree.map(lambda a: a.astype(dtype), operands)
        cost = with_batch_axes(self.cost, 1)
        with jax.enable_x64(self.x64 or dtype == np.float64):
            return _descend(task.ansatz, task.solver, cost, tuple(data), standardization)


@dataclass(frozen=True)
class InTiles:
    """A `postprocess` of tasks on the CPU: the data sets of a tile descend in slots, see `in_slots`.

    Attributes:
        cost: to be minimized.
        x64: whether JAX's 64-bit switch is on for the user, as in calls of the cost.
    """

    cost: Partial
    x64: bool

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """Descend in the dtype of the data, but in float64 where float32 would lose digits to offsets."""
        least_squares, standardization = result.estimate
        dtype = columns.y.dtype
        operands = (*slice_columns(columns[:3], first, last), standardization)
        in_dtype = np.ones(last - first, bool) if dtype == np.float64 else _is_float32_enough(standardization)
        groups = [(np.flatnonzero(in_dtype), dtype), (np.flatnonzero(~in_dtype), np.dtype(np.float64))]
        groups = [(ids, precision) for ids, precision in groups if len(ids)]
        if len(groups) == 1:
            minima = self._descend(task, operands, groups[0][1], last - first)
        else:
            parts = [
                self._descend(task, select_columns(operands, ids), precision, max(len(ids), 2))
                for ids, precision in groups
            ]
            parts = [[a[..., : len(ids)] for a in part] for part, (ids, _) in zip(parts, groups, strict=True)]
            order = np.argsort(np.concatenate([ids for ids, _ in groups]))
            minima = [np.concatenate(arrays, axis=-1)[..., order] for arrays in zip(*parts, strict=True)]
        estimate = jax.tree.map(np.asarray, _estimate_at(dtype, least_squares, standardization, *minima))
        return without_errors(estimate, np)  # in NumPy: `jax_debug_nans` would stop at the NaN

    def _descend(self, task: Task, operands: tuple, dtype: np.dtype, count: int) -> tuple:
        x64 = self.x64 or dtype == np.float64

        def descend_tile(tile: Tile) -> tuple:
            x, y, w, standardization = jax.tree.map(lambda a: a.astype(dtype), views(tile))
            with jax.enable_x64(x64):
                if isinstance(task.solver, Newton):
                    cost = with_batch_axes(self.cost, 1)
                    minimum = _descend(task.ansatz, task.solver, cost, (x, y, w), standardization)
                else:
                    minimum = _descend_tile(task.ansatz, task.solver, self.cost, x, y, w, standardization)
            return jax.tree.map(np.asarray, minimum)

        program = ("descent", task.ansatz, dtype, jax.tree.structure((task.solver, self.cost)))
        width = NEWTON_TILE if isinstance(task.solver, Newton) else TILE
        return map_tiles(descend_tile, operands, 0, count, width, program=program)


@partial(jax.jit, static_argnums=0)
def _descend_tile(
    ansatz: Ansatz,
    solver: GradientDescent,
    cost: Partial,
    x: Array,
    y: Array,
    w: Array | None,
    standardization: Standardization,
) -> tuple[Array, Array, Array]:
    """The end point a, S(a) in units of the variance of y, and the status."""
    batched = {"y": y, "standardization": standardization}
    shared: dict[str, Any] = {"w": None}
    for name, a in (("x", x), ("w", w)):
        if a is not None:
            (shared if a.shape[-1] == 1 else batched)[name] = a[..., 0] if a.shape[-1] == 1 else a

    def prepare(batched: dict) -> tuple:
        data = shared | batched
        return cost, data["x"], data["y"], data["w"], data["standardization"]

    cost_of_a = partial(standardized_cost, ansatz)
    optimizer = solver.optimizer_with(solver.rate)
    descent = in_slots(cost_of_a, standardization.best, batched, prepare, optimizer, solver.steps, solver.tol)
    return descent.params, descent.cost, solver.status_of(descent)


@partial(jax.jit, static_argnums=0)
def _estimate_at(
    dtype: np.dtype,
    least_squares: Estimate,
    standardization: Standardization,
    a: Array,
    value: Array,
    descent_status: Array,
) -> Estimate:
    return estimate_at(least_squares, standardization, a, value, descent_status, dtype)


def _is_float32_enough(standardization: Standardization) -> Any:
    """Whether offsets of x and y are so small that a cost in float32 is accurate."""
    offsets = abs(standardization.theta0[0]) + abs(standardization.B[0, 1:]).sum(axis=0)
    return offsets < MAX_OFFSET * abs(standardization.y_deviation)
