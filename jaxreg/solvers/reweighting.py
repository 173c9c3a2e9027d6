"""Reweighted fits: tile by tile on the CPU, all at once on a device, and as an operation of JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, takewhile
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.costs.robust import MEDIAN_OF_NORMAL
from jaxreg.curves.curve import CompiledCurve, Mean
from jaxreg.data.source import Columns
from jaxreg.engine.cascade import BlockResult, Task, estimate_and_exact, set_columns_on_host
from jaxreg.engine.derivative import Observations, finite_or_1
from jaxreg.engine.estimate import Estimate
from jaxreg.engine.host import HOST_ROWS, pad_rows
from jaxreg.engine.loss_sums import (
    LossSums,
    Terms,
)
from jaxreg.engine.operation import Operands, operation, solved
from jaxreg.engine.platforms import by_platform
from jaxreg.engine.products import TILE_COLUMNS
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    select_columns,
    slice_columns,
    unbroadcast_columns,
    views,
)
from jaxreg.engine.turning_point import PADDED_ROWS
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64, in_float64
from jaxreg.numerics.vectors import Symmetric, as_array, elementwise
from jaxreg.solvers.closed_form import ClosedForm
from jaxreg.solvers.curve_minimum import curve_sums
from jaxreg.solvers.curve_minimum import finish as finish_curve
from jaxreg.solvers.damped_steps import RUNNING, State
from jaxreg.solvers.loss_minimum import (
    finish,
    inverse,
    loss_sums,
    median_size,
    uses_products,
    with_sandwich,
)
from jaxreg.solvers.problem import Problem, advance_problem, begin_problem, estimate_of, solve_and_estimate
from jaxreg.solvers.quantile_errors import distance_on_f

MIN_TILE, MAX_TILE, TILE_ELEMENTS = 256, 2048, 2**17  # data sets of a tile, and observations of all of them
FIRST_TURNS, MORE_TURNS = 9, 1.35  # after which, and times which, the finished leave the others


class Result(NamedTuple):
    """The result of the operation.

    Attributes:
        estimate: the estimate.
        guess: the median of √w |ε| of a robust cost, or None.
        least_squares: the estimate of least squares.
    """

    estimate: Estimate
    guess: Array | None
    least_squares: Estimate


_begin_tile = partial(jax.jit, static_argnums=0)(in_float64(partial(begin_problem, rows=HOST_ROWS)))
_advance_tile = partial(jax.jit, static_argnums=0)(in_float64(partial(advance_problem, rows=HOST_ROWS)))
_estimate_tile = partial(jax.jit, static_argnums=(0, 1))(in_float64(partial(estimate_of, rows=HOST_ROWS)))


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve_at_once(ansatz: Ansatz, steps: int, dtype: np.dtype, problem: Problem) -> Estimate:
    with float64():
        return by_platform(partial(solve_and_estimate, ansatz, steps, dtype), problem)[0]


@dataclass(frozen=True)
class AtOnce:
    """A `postprocess` of tasks on an accelerator: all data sets of a block together.

    Attributes:
        ansatz: that of the cost, or a curve, where that of the task is the intercept-only model.
    """

    ansatz: Ansatz

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """The estimates of the columns."""
        return _solve_at_once(
            self.ansatz, task.solver.steps, columns.y.dtype, problem_of(task, columns, result)
        )


@dataclass(frozen=True)
class InTiles:
    """A `postprocess` of tasks on the CPU: tiles; data sets that take many turns are moved together.

    Attributes:
        ansatz: that of the cost, or a curve, where that of the task is the intercept-only model.
    """

    ansatz: Ansatz

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """The estimates of the columns first to last."""
        columns, m = slice_columns(columns, first, last), last - first
        is_small = m <= MIN_TILE  # then another program takes longer than turns without effect, or padding
        has_labels = bool(jax.tree.leaves(task.covariance))  # one for each row
        if is_small and len(columns.y) <= PADDED_ROWS and not has_labels:
            columns = pad_rows(columns)
        problem = problem_of(task, columns, result)
        covariance, dtype = problem.covariance, columns.y.dtype
        arrays = jax.tree.map(unbroadcast_columns, problem._replace(covariance=None))

        is_curve = isinstance(self.ansatz, CompiledCurve)
        p = len(result.estimate.params)
        by_products = not is_curve and uses_products(problem.loss, p, columns.x.shape[-1] == 1)
        is_program = problem.loss.is_piecewise_linear
        width = TILE_COLUMNS if by_products else tile_width(len(columns.y), is_program)
        in_tiles = partial(map_tiles, width=width, fixed_width=by_products)

        def begin_tile(tile: Tile) -> State:
            return _begin_tile(self.ansatz, views(tile))

        def advance_tiles(turns: tuple[int, int], state: State, arrays: Problem, m: int) -> State:
            def advance_tile(tile: Tile) -> State:
                return _advance_tile(self.ansatz, *map(np.int32, turns), *views(tile))

            return in_tiles(advance_tile, (state, arrays), 0, m, program=("advance", key))

        def estimate_tile(tile: Tile) -> Estimate:
            state, arrays = views(tile)
            return _estimate_tile(self.ansatz, dtype, state, arrays._replace(covariance=covariance))

        key = (self.ansatz, jax.tree.structure(problem))
        turns = problem.turns(self.ansatz, task.solver.steps)
        state = in_tiles(begin_tile, arrays, 0, m, program=("begin", key))
        pauses = [] if is_small or is_program else _pauses(turns)
        for stage in pairwise([0, *pauses, turns]):
            ids = np.flatnonzero(state.status == RUNNING)
            if len(ids) == m or (is_small and len(ids)):
                state = advance_tiles(stage, state, arrays, m)
            elif len(ids):
                some = advance_tiles(stage, *select_columns((state, arrays), ids), max(len(ids), 2))
                state = jax.tree.map(partial(set_columns_on_host, ids), state, some)
        program = ("estimate of a cost", key)
        estimate = in_tiles(estimate_tile, (state, arrays), 0, m, program=program)
        return jax.tree.map(partial(broadcast_columns, m), estimate)


def ansatz_of_start(ansatz: Ansatz) -> Ansatz:
    """What is fitted first: the ansatz by least squares, or the intercept-only model before a curve."""
    return Mean(ansatz.x_is_vector) if isinstance(ansatz, CompiledCurve) else ansatz


def problem_of(task: Task, columns: Columns, result: BlockResult) -> Problem:
    """The problem of columns whose least squares are solved."""
    data = (columns.x, columns.y, columns.weights, columns.offset)
    exact = not_none(result.exact)
    return Problem(
        columns.cost, result.estimate, exact, data, task.covariance, columns.sigma_unit, columns.start
    )


def _pauses(turns: int) -> list[int]:
    """Numbers of turns after which the data sets that are not finished are moved together."""
    pauses = (int(FIRST_TURNS * MORE_TURNS**i) for i in range(turns))
    return list(takewhile(lambda pause: pause < turns, pauses))


def tile_width(n: int, is_program: bool = False) -> int:
    """Data sets of a tile, whose n observations stay in cache for all turns.

    Args:
        n: number of observations.
        is_program: whether each has the dozen numbers of a linear program.
    """
    smallest, elements = (MIN_TILE // 16, TILE_ELEMENTS // 16) if is_program else (MIN_TILE, TILE_ELEMENTS)
    return max(smallest, min(MAX_TILE, 1 << (elements // n).bit_length()))


@partial(jax.jit, static_argnums=(0, 1))
def _reweight(ansatz: Ansatz, certified: bool, operands: Operands) -> Result:
    """The kernel of the operation: computed in float64, returned in the dtype of the data."""
    solver, dtype = operands.solver, operands.y.dtype
    with float64():
        least_squares = operands._replace(solver=ClosedForm(), covariance=None)
        first = ansatz_of_start(ansatz)
        estimate, exact = solved(first, certified, least_squares, estimate_and_exact)
        # `vmap` may map numbers of the cost, the offset or the start alone: all results then have its axis.
        rows = [a[:1] for a in (operands.offset, operands.start) if a is not None]
        numbers = [*jax.tree.leaves(operands.cost), *(a[0] for a in rows)]
        zero = sum((jnp.zeros_like(a) for a in numbers), jnp.zeros_like(estimate.residual))
        estimate, exact = jax.tree.map(lambda a: a + zero.astype(a.dtype), (estimate, exact))
        data = (operands.x, operands.y, operands.weights, operands.offset)
        extra = (operands.covariance, operands.sigma_unit, operands.start)
        problem = Problem(operands.cost, estimate, exact, data, *extra)
        function = partial(solve_and_estimate, ansatz, solver.steps, dtype)
        result, median = by_platform(function, problem)
        return Result(result, None if median is None else median.astype(dtype), estimate)


def _near_data(
    ansatz: Ansatz, operands: Operands, constant_operands: Operands, result: Result, y_only: bool
) -> Result:
    """The estimate as a function of the data, to first order, which JAX differentiates.

    By the implicit function theorem at ∇S = 0 it is at c − H⁻¹∇S, with ∇S of `operands` and H of
    `constant_operands`. The scale of a robust cost is a function of c and of the data.
    """
    estimate, first, guess = jax.tree.map(finite_or_1, (result.estimate, result.least_squares, result.guess))
    is_curve = isinstance(ansatz, CompiledCurve)
    if not is_curve:
        first = replace(first, x_center=estimate.x_center, x_scale=estimate.x_scale)
    is_solved = jnp.isfinite(result.estimate.params[0])
    dtype, p = operands.y.dtype, len(estimate.coefs)

    def sums_of(operands: Operands) -> LossSums:
        y = jnp.where(is_solved, operands.y, jnp.nan)  # data sets without params have no observations
        x = jnp.where(is_solved, operands.x, 0) if is_curve else operands.x
        data = (x, y, operands.weights, operands.offset)
        function: Callable[..., LossSums] = curve_sums if is_curve else loss_sums
        return function(ansatz, operands.cost, first, data, None, dtype)

    def median(sums: LossSums, coefs: Array) -> Array | None:
        return median_size(sums, first, coefs, guess) if sums.cost.has_scale else None

    def gradient(sums: LossSums, coefs: Array) -> Array:
        size = median(sums, coefs)
        scale = None if size is None else size / MEDIAN_OF_NORMAL
        if sums.cost.is_piecewise_linear:
            distance = distance_on_f(*sums.all_rows(coefs))
            scale = jax.lax.stop_gradient(jnp.where(distance > 0, distance, 1))
        return as_array(sums.local(coefs, scale, with_value=False).gradient)

    sums, coefs = sums_of(operands), estimate.coefs
    unit = [jnp.zeros_like(coefs).at[k].set(1) for k in range(p)]
    constant = partial(gradient, sums_of(constant_operands))
    H = jnp.stack([jax.jvp(constant, (coefs,), (e,))[1] for e in unit], axis=1)
    H = jnp.where(is_solved, H, jnp.eye(p, dtype=dtype).reshape(p, p, *(1,) * is_solved.ndim))
    coefs = coefs - jnp.where(is_solved, small.solve(H, gradient(sums, coefs)), 0)
    finish = _finish_curve if is_curve else _finish_linear
    new = finish(sums, operands, estimate, first, coefs, median(sums, coefs), is_solved)
    if operands.covariance is not None:
        new = with_sandwich(sums, operands.covariance, new, coefs)
    if operands.sigma_unit is not None and new.error_scale is not None:
        new = replace(new, error_scale=new.error_scale / operands.sigma_unit)
    return result._replace(estimate=new)


def _finish_curve(
    sums: LossSums,
    operands: Operands,
    estimate: Estimate,
    mean: Estimate,
    coefs: Array,
    median: Array | None,
    is_solved: Array,
) -> Estimate:
    """The estimate of a curve near its data, from the intercept-only model near them."""
    data = (operands.x, operands.y, operands.weights)
    no_low_part = jnp.zeros_like(mean.coefs)
    observations = Observations.of(
        Mean(sums.ansatz.x_is_vector), mean, no_low_part, operands.sigma_unit, data
    )
    mean = replace(mean, **observations.statistics(mean, observations.residual))
    return finish_curve(sums, cast("CompiledCurve", sums.ansatz), mean, coefs, operands.y.dtype)[0]


def _finish_linear(
    sums: LossSums,
    operands: Operands,
    estimate: Estimate,
    least_squares: Estimate,
    coefs: Array,
    median: Array | None,
    is_solved: Array,
) -> Estimate:
    """The estimate of an ansatz that is linear near its data."""
    weight, _, gram = sums.total(lambda row, f: Terms(row.weight, None, row.weight), coefs)
    weight = jnp.where(is_solved, weight, 1)
    gram = not_none(gram).map(lambda a: a / weight)
    gram = Symmetric(
        elementwise(lambda a, e: jnp.where(is_solved, a, e), gram.entries, _identity(gram)), gram.k
    )
    unit_cov = jnp.concatenate(inverse(gram).lower)
    new = finish(sums, least_squares, unit_cov, coefs, median, operands.y.dtype)
    data = (operands.x, operands.y, operands.weights)
    observations = Observations.of(sums.ansatz, estimate, jnp.zeros_like(coefs), operands.sigma_unit, data)
    residual = observations.y - sum(c * psi for c, psi in zip(coefs, observations.psi, strict=True))
    return replace(new, **observations.statistics(estimate, jnp.where(observations.w > 0, residual, 0)))


def _identity(like: Symmetric) -> Any:
    if like.is_list:
        return [float(i == j) for i in range(like.k) for j in range(i + 1)]
    return jnp.eye(like.k).reshape(like.k, like.k, *(1,) * (like.entries.ndim - 2))


reweight: Callable[[Ansatz, bool, Operands], Result] = operation(_reweight, _near_data)
