"""Gradient descent on any cost of (params, x, y, weights), for every data set from its least squares.

It descends in standardized coordinates a, θ = B a + θ₀: there every feature and y have mean 0 and variance 1.
The cost reads params and data in their own units.
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
from jaxreg.engine.cascade import BlockResult, Task, pad_ids, set_columns
from jaxreg.engine.derivative import Observations, finite_or_1
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.features import feature_rows
from jaxreg.engine.operation import (
    Operands,
    SumsAndPoint,
    by_sums,
    in_double_double,
    operation,
    result_of,
)
from jaxreg.engine.tiles import Tile, map_tiles, select_columns, slice_columns, views
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64
from jaxreg.numerics.vectors import over_batch
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.descent import Descent, in_slots, loop
from jaxreg.solvers.gradient_descent import GradientDescent
from jaxreg.status import Status

TILE = 4096  # data sets whose descents are one program
MAX_OFFSET = 2.0**6  # of x and y, in their deviations, up to which a cost in float32 keeps five digits


class Standard(NamedTuple):
    """The way from standardized coordinates to params, θ = B a + θ₀, and least squares in them.

    Attributes:
        best: a of the least-squares solution, (p, *batch).
        B: (p, p, *batch).
        theta0: (p, *batch).
        to_coefs: by what coefs change with a, (p, p, *batch).
        R: S(a) = S* + (a − a*)ᵀR(a − a*) in units of y_deviation², of least squares, (p, p, *batch).
        y_deviation: of y, (*batch).
    """

    best: Array
    B: Array
    theta0: Array
    to_coefs: Array
    R: Array
    y_deviation: Array

    @classmethod
    def of(cls, ansatz: Ansatz, operands: Operands, found: SumsAndPoint) -> Standard:
        """Without an intercept nothing is subtracted; what does not vary has deviation 1."""
        point, origin, first = found.point, operands.origin(ansatz), int(ansatz.has_intercept)
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
    """Where the descents ended.

    Attributes:
        estimate: the estimate.
        a: in standardized coordinates, (p, *batch).
        standard: what these are.
    """

    estimate: Estimate
    a: Array
    standard: Standard


def start(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, Standard]:
    """The least-squares solution, where descents start, float64."""
    closed, _ = result_of(ansatz, operands._replace(solver=ClosedForm()), found, dtype)
    return closed.estimate, Standard.of(ansatz, operands, found)


def standardized_cost(
    ansatz: Ansatz, a: Array, cost: Partial, x: Array, y: Array, w: Array | None, standard: Standard
) -> Array:
    """S(θ) of one data set in units of the variance of y."""
    theta = standard.theta0 + small.matvec(standard.B, a)
    return cost(theta, x, y, w, ansatz=ansatz) / jnp.square(standard.y_deviation)


def finished(
    found: Estimate, standard: Standard, a: Array, value: Array, end: Array, dtype: np.dtype
) -> Estimate:
    """The estimate at the end of a descent, but for standard errors, see `without_errors`."""
    p = len(a)
    step = jnp.where(jnp.isfinite(a), a - standard.best, 0)
    lost = small.dot(step, small.matvec(standard.R, step))
    unit = standard.y_deviation
    explained = jnp.sign(found.explained) * jnp.square(found.explained / unit) - lost
    code = jnp.where((end == Status.ok) & (found.nobs == p), Status.exact_fit, end)
    code = jnp.where((found.status == Status.ok) | (found.status == Status.exact_fit), code, found.status)
    solved = sum((code == s for s in Status if s.has_params), jnp.zeros((), bool))

    def kept(a: Array) -> Array:
        return jnp.where(solved, a, jnp.nan).astype(dtype)

    return replace(
        found,
        params=kept(found.params + small.matvec(standard.B, step)),
        status=code.astype(jnp.int8),
        digits=jnp.zeros_like(found.digits),
        coefs=kept(found.coefs + small.matvec(standard.to_coefs, step)),
        residual=kept(unit * jnp.sqrt(jnp.square(found.residual / unit) + lost)),
        explained=kept(unit * jnp.sign(explained) * jnp.sqrt(jnp.abs(explained))),
        cost=kept(value * jnp.square(unit)),
    )


def without_errors(found: Any, xp: Any) -> Any:
    """The estimate with standard errors that are not known."""
    missing = {name: xp.full_like(getattr(found, name), xp.nan) for name in ("bse", "unit_cov")}
    return replace(found, **missing)


@partial(jax.jit, static_argnums=(0, 1))
def _minimize(ansatz: Ansatz, certified: bool, operands: Operands) -> Minimum:
    """In the precision of the data, but for where it starts."""
    dtype, solver = operands.y.dtype, operands.solver
    with float64():
        located = (in_double_double if certified else by_sums)(ansatz, operands)
        found, standard = start(ansatz, operands, located, dtype)
    in_dtype = jax.tree.map(lambda a: a.astype(dtype), standard)
    a, value, end = _descend(ansatz, solver, operands.cost, operands[:3], in_dtype)
    with float64():
        found = jax.tree.map(lambda a: a + jnp.zeros_like(value, a.dtype), found)
        estimate = finished(found, standard, a, value, end, dtype)
    return Minimum(without_errors(estimate, jnp), a, in_dtype)


@partial(jax.jit, static_argnums=0)
def _descend(
    ansatz: Ansatz, solver: GradientDescent, cost: Partial, data: tuple, standard: Standard
) -> tuple[Array, Array, Array]:
    """a, S there in units of the variance of y, and the status."""

    def one(
        cost: Partial, x: Array, y: Array, w: Array | None, standard: Standard, rate: Any, tol: Any
    ) -> Descent:
        of_a = partial(standardized_cost, ansatz)
        data = (cost, x, y, w, standard)
        return loop(of_a, standard.best, data, solver.ready_optimizer(rate), solver.steps, tol, history=False)

    descent = over_batch(one, (cost, *data, standard, solver.rate, solver.tol), data[1].ndim - 1)
    return descent.params, descent.cost, solver.end_of(descent)


def _near_minimum(
    ansatz: Ansatz, operands: Operands, fixed: Operands, result: Minimum, y_only: bool
) -> Minimum:
    """By the implicit function theorem at ∇S = 0: a − H⁻¹∇S, where the data move ∇S and not H; and S at a."""
    found, axes = result.estimate, operands.y.ndim - 1
    ended = jnp.isfinite(found.params[0])
    a, standard = jax.tree.map(lambda leaf: jnp.where(ended & jnp.isfinite(leaf), leaf, 1), result[1:])
    of_a = partial(standardized_cost, ansatz)

    def data(operands: Operands) -> tuple:
        return (operands.cost, *jax.tree.map(harmless, operands[:3]), standard)

    def harmless(leaf: Array) -> Array:
        """Without what data sets have failed for; what is shared is not copied for each."""
        if math.prod(leaf.shape[leaf.ndim - axes :]) == 1:
            return jnp.where(jnp.isinf(leaf), 0, leaf)
        return jnp.where(ended, leaf, 0)

    value, slope = over_batch(lambda a, *data: jax.value_and_grad(of_a)(a, *data), (a, *data(operands)), axes)
    H = over_batch(lambda a, *data: jax.hessian(of_a)(a, *data), (a, *data(fixed)), axes)
    step = jnp.where(ended, over_batch(_newton_step, (H, slope), axes), 0).astype(a.dtype)
    change = small.matvec(standard.to_coefs, step)
    near = Observations.of(ansatz, found, jnp.zeros_like(found.coefs), operands.sigma_unit, operands[:3])
    e = near.residual - sum(psi * c for psi, c in zip(near.psi, change, strict=True))
    found = jax.tree.map(finite_or_1, found)
    moved = replace(
        found,
        params=found.params + small.matvec(standard.B, step),
        coefs=found.coefs + change,
        cost=(value * jnp.square(standard.y_deviation)).astype(found.params.dtype),
        **near.statistics(found, e),
    )
    return result._replace(
        estimate=moved, a=result.a + step
    )  # a moves too: second derivatives are taken there


def _newton_step(H: Array, slope: Array) -> Array:
    """−H⁻¹∇S, 0 where H is singular; by eigenvalues, since LU factors are gathered from Explicit meshes."""
    values, vectors = jnp.linalg.eigh(H)
    least = len(H) * jnp.finfo(H.dtype).eps * jnp.max(jnp.abs(values))
    regular = jnp.min(jnp.abs(values)) > least
    return jnp.where(regular, -vectors @ ((vectors.T @ slope) / jnp.where(regular, values, 1)), 0)


minimize: Callable[[Ansatz, bool, Operands], Minimum] = operation(_minimize, _near_minimum)


def _root(a: Array) -> Array:
    """√a; 1 where a is not positive."""
    return jnp.sqrt(jnp.where(a > 0, a, 1))


def _stack(arrays: list[Array]) -> Array:
    return jnp.stack(small.broadcast_arrays(arrays))


def _matrix(rows: list[list[Array]]) -> Array:
    return jnp.stack([_stack(row) for row in rows])


def with_batch_axes(cost: Partial, axes: int) -> Partial:
    """The cost, its numbers with so many axes of length 1 for the data sets behind their own."""
    return jax.tree.map(lambda a: jnp.reshape(a, (*jnp.shape(a), *(1,) * axes)), cost)


def least_squares_start(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[tuple[Estimate, Standard], None]:
    """What the eager caller looks for first."""
    return start(ansatz, operands, found, dtype), None


@dataclass(frozen=True)
class AtOnce:
    """The eager caller's way on an accelerator: all data sets of a block descend together.

    Attributes:
        cost: to be minimized.
        wide: whether 64 bits are on where the cost is called.
    """

    cost: Partial
    wide: bool

    def __call__(self, task: Task, columns: Columns, found: BlockResult, first: int, last: int) -> Estimate:
        """Descend in float32 where no offset costs float32 data digits, else in float64."""
        estimate, standard = found.estimate
        dtype, m = columns.y.dtype, last - first
        own = (*columns[:3], standard)
        ends = self._descend(task, own, dtype)
        far = np.flatnonzero(~_is_near(standard)) if dtype == np.float32 else np.array([], int)
        if len(far):
            ids = pad_ids(far)
            redone = self._descend(task, select_columns(own, ids), np.dtype(np.float64))
            ends = jax.tree.map(lambda a, b: set_columns(ids, m, a.astype(b.dtype), b), ends, redone)
        return without_errors(_finished(dtype, estimate, standard, *ends), np)

    def _descend(self, task: Task, own: tuple, dtype: np.dtype) -> tuple:
        *data, standard = jax.tree.map(lambda a: a.astype(dtype), own)
        with jax.enable_x64(self.wide or dtype == np.float64):
            return _descend(task.ansatz, task.solver, with_batch_axes(self.cost, 1), tuple(data), standard)


@dataclass(frozen=True)
class InTiles:
    """The eager caller's way on the CPU: tiles whose data sets descend in slots.

    Attributes:
        cost: to be minimized.
        wide: whether 64 bits are on where the cost is called.
    """

    cost: Partial
    wide: bool

    def __call__(self, task: Task, columns: Columns, found: BlockResult, first: int, last: int) -> Estimate:
        """Descend in float32 where no offset costs float32 data digits, else in float64."""
        estimate, standard = found.estimate
        dtype = columns.y.dtype
        own = (*slice_columns(columns[:3], first, last), standard)
        near = np.ones(last - first, bool) if dtype == np.float64 else _is_near(standard)
        groups = [(np.flatnonzero(near), dtype), (np.flatnonzero(~near), np.dtype(np.float64))]
        groups = [(ids, precision) for ids, precision in groups if len(ids)]
        if len(groups) == 1:
            ends = self._descend(task, own, groups[0][1], last - first)
        else:
            parts = [
                self._descend(task, select_columns(own, ids), dtype, max(len(ids), 2))
                for ids, dtype in groups
            ]
            order = np.argsort(np.concatenate([ids for ids, _ in groups]))
            cut = [[a[..., : len(ids)] for a in part] for part, (ids, _) in zip(parts, groups, strict=True)]
            ends = [np.concatenate(halves, axis=-1)[..., order] for halves in zip(*cut, strict=True)]
        whole = jax.tree.map(np.asarray, _finished(dtype, estimate, standard, *ends))
        return without_errors(whole, np)  # where `jax_debug_nans` does not look

    def _descend(self, task: Task, own: tuple, dtype: np.dtype, count: int) -> tuple:
        wide = self.wide or dtype == np.float64

        def of_tile(tile: Tile) -> tuple:
            x, y, w, standard = jax.tree.map(lambda a: a.astype(dtype), views(tile))
            with jax.enable_x64(wide):
                end = _descend_tile(task.ansatz, task.solver, self.cost, x, y, w, standard)
            return jax.tree.map(np.asarray, end)

        program = ("descent", task.ansatz, dtype, jax.tree.structure((task.solver, self.cost)))
        return map_tiles(of_tile, own, 0, count, TILE, program=program)


@partial(jax.jit, static_argnums=0)
def _descend_tile(
    ansatz: Ansatz,
    solver: GradientDescent,
    cost: Partial,
    x: Array,
    y: Array,
    w: Array | None,
    standard: Standard,
) -> tuple[Array, Array, Array]:
    """a, S there in units of the variance of y, and the status."""
    own = {"y": y, "standard": standard}
    shared: dict[str, Any] = {"w": None}
    for name, a in (("x", x), ("w", w)):
        if a is not None:
            (shared if a.shape[-1] == 1 else own)[name] = a[..., 0] if a.shape[-1] == 1 else a

    def prepare(own: dict) -> tuple:
        data = shared | own
        return cost, data["x"], data["y"], data["w"], data["standard"]

    of_a = partial(standardized_cost, ansatz)
    optimizer = solver.ready_optimizer(solver.rate)
    descent = in_slots(of_a, standard.best, own, prepare, optimizer, solver.steps, solver.tol)
    return descent.params, descent.cost, solver.end_of(descent)


@partial(jax.jit, static_argnums=0)
def _finished(
    dtype: np.dtype, found: Estimate, standard: Standard, a: Array, value: Array, end: Array
) -> Estimate:
    return finished(found, standard, a, value, end, dtype)


def _is_near(standard: Standard) -> np.ndarray:
    """Whether float32 has digits to spare for the offsets of x and y."""
    offsets = np.abs(standard.theta0[0]) + np.abs(standard.B[0, 1:]).sum(axis=0)  # of an intercept at 0
    return offsets < MAX_OFFSET * np.abs(standard.y_deviation)
