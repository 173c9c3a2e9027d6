"""The turning point of a cost that is the mean of a loss, from the least-squares solution of each data set.

It works with coefs c in the basis of least squares, f = Σ c_k ψ_k(t), in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.costs.mean_loss import MeanLoss
from jaxreg.costs.robust import MEDIAN_OF_NORMAL
from jaxreg.data.source import Columns
from jaxreg.engine.cascade import BlockResult, Task, set_columns_on_host
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.features import deviation, feature_rows, params_of
from jaxreg.engine.loss_sums import (
    MIN_PRODUCTS,
    Data,
    Local,
    LossSums,
    Terms,
    shared_scaling,
    symmetric_from_lower,
)
from jaxreg.engine.normal_equations import solve
from jaxreg.engine.host import HOST_ROWS
from jaxreg.engine.rows import Rows
from jaxreg.engine.scores import Observation
from jaxreg.engine.sums import columns_of
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    select_columns,
    slice_columns,
    unbroadcast_columns,
    views,
)
from jaxreg.numerics.precision import float64
from jaxreg.numerics.vectors import Symmetric, Vector, as_array, elementwise, vector
from jaxreg.solvers.damped_steps import MIN_PIVOT, RUNNING, Rule, State, advance, start
from jaxreg.status import Status

QUADRATIC, LINEAR = 2.0**-16, 2.0**-34  # the last step, of a method whose errors are squared by a step, or not
MIN_SCALE = 2.0**-40  # of residuals, relative to those of least squares
MIN_TILE, MAX_TILE, TILE_ELEMENTS = 128, 1024, 2**16  # data sets of a tile, and observations of all of them
FIRST_TURNS = 8  # after which data sets that are not finished go on without the others


def loss_sums(
    ansatz: Ansatz, cost: MeanLoss, least_squares: Estimate, data: Data, rows: Rows | None, dtype: Any
) -> LossSums:
    """The sums of a cost in the basis of least squares."""
    x, axes = data[0], data[1].ndim - 1
    x_is_shared = math.prod(x.shape[x.ndim - axes :]) == 1
    p = len(least_squares.params)
    by_products = rows is not None and cost.is_likelihood and x_is_shared and p >= MIN_PRODUCTS
    cost = jax.tree.map(lambda a: jnp.asarray(a, dtype), cost)
    if by_products:
        center, scale = shared_scaling(ansatz, x.astype(dtype))
    else:
        center, scale = (
            columns_of(ansatz, a.astype(dtype), 0) for a in (least_squares.x_center, least_squares.x_scale)
        )
    return LossSums(ansatz, cost, center, scale, data, rows, by_products)


def rule_of(cost: MeanLoss) -> Rule:
    """What damped steps know of a cost."""
    judge = "none" if cost.has_scale else "slope" if cost.is_convex else "value"
    tolerance = QUADRATIC if cost.converges_quadratically else LINEAR
    return Rule(tolerance, judge, may_vanish=cost.is_likelihood, starts_anywhere=cost.starts_from_y)


def begin(sums: LossSums, least_squares: Estimate, exact: Exact) -> State:
    """The state at the start."""
    cost = sums.cost
    is_solved = least_squares.status == Status.ok
    if not cost.is_likelihood:
        coefs = vector(list(jnp.where(is_solved, exact.coefs, 0)))
        local, _, extra = evaluate(sums, least_squares, coefs, _first_guess(least_squares), jnp.int32(0))
        return start(coefs, local, extra, is_solved)
    is_solved |= least_squares.status == Status.exact_fit
    zeros = elementwise(jnp.zeros_like, vector(list(exact.coefs)))
    if not cost.starts_from_y:
        local = sums.local(zeros, None, with_value=False)
        is_admitted = jnp.isfinite(local.gradient[0])
        state = start(zeros, local, None, is_solved & is_admitted)
        return _with_invalid(state, is_solved & ~is_admitted)

    def terms(row: Observation, f: Array) -> Terms:
        not_admitted = jnp.where(row.weight > 0, jnp.isnan(cost.slope(row.y, f)), False)
        return Terms((row.weight, row.weight * row.y, not_admitted.astype(f.dtype)))

    (weight, sum_y, not_admitted), *_ = sums.total(terms, zeros)
    local = sums.first_local(zeros, sum_y / jnp.where(weight > 0, weight, 1))
    state = start(zeros, local, None, is_solved & (not_admitted == 0))
    has_mean = jnp.isfinite(local.gradient[0])  # counts that are all 0 have none
    status = jnp.where((state.status == RUNNING) & ~has_mean, Status.no_minimum, state.status)
    return _with_invalid(state._replace(status=status.astype(jnp.int8)), is_solved & (not_admitted > 0))


def _with_invalid(state: State, is_invalid: Array) -> State:
    status = jnp.where(is_invalid, Status.invalid_data, state.status)
    return state._replace(status=status.astype(jnp.int8))


def _first_guess(least_squares: Estimate) -> Array:
    """The median of √w |ε| of least squares, if errors are normal."""
    guess = MEDIAN_OF_NORMAL * _root_mean_size(least_squares)
    return jnp.where(guess > 0, guess, 1)


def _root_mean_size(least_squares: Estimate) -> Array:
    """√(Σ w ε² / n)."""
    residual = least_squares.residual.astype(jnp.float64)
    if least_squares.root_weight is None:
        return residual
    return residual * least_squares.root_weight / jnp.sqrt(jnp.maximum(least_squares.nobs, 1))


def evaluate(
    sums: LossSums, least_squares: Estimate, coefs: Vector, guess: Any, turns: Array
) -> tuple[Local, Array, Any]:
    """S near coefs, the unit of f, and the median of √w |ε|."""
    cost = sums.cost
    if cost.has_scale:
        median, scale = scale_of(sums, least_squares, coefs, guess)
        return sums.local(coefs, scale, with_value=False), scale, median
    local = sums.local(coefs, None, with_value=not cost.is_convex)
    unit = jnp.ones(()) if cost.is_likelihood else least_squares.residual
    return local, unit, None


def scale_of(
    sums: LossSums, least_squares: Estimate, coefs: Vector, guess: Array
) -> tuple[Array, Array]:
    """The median of √w |ε|, and the scale of the residuals from it, which is not 0."""
    median = sums.median_size(coefs, least_squares.nobs.astype(guess.dtype), guess)
    smallest = MIN_SCALE * _root_mean_size(least_squares)
    smallest = jnp.where(smallest > 0, smallest, 1)
    return jnp.where(median > 0, median, guess), jnp.maximum(median / MEDIAN_OF_NORMAL, smallest)


def finish(
    sums: LossSums,
    least_squares: Estimate,
    unit_cov: Array,
    coefs: Vector,
    guess: Any,
    dtype: np.dtype,
) -> Estimate:
    """The estimate at the coefs, of which params and errors are differentiable functions."""
    ansatz, cost, p = sums.ansatz, sums.cost, len(coefs)
    scale = scale_of(sums, least_squares, coefs, guess)[1] if cost.has_scale else None
    nobs = least_squares.nobs.astype(unit_cov.dtype)

    def terms(row: Observation, f: Array) -> Terms:
        t = cost.terms(row.y, f, row.weight, scale)
        totals = {
            "value": t.value,
            **({} if sums.data[2] is None else {"weight": row.weight}),
            **({"square": row.weight * jnp.square(row.y - f)} if cost.link == "identity" else {}),
            **cost.statistics(row.y, f, row.weight, scale),
        }
        return Terms(totals, None, t.working_curvature if cost.is_likelihood else None)

    totals, _, curvature = sums.total(terms, coefs)
    totals = {"weight": nobs} | totals
    summary = cost.summary(totals, nobs, p, scale)
    weight = jnp.where(totals["weight"] > 0, totals["weight"], 1)
    if curvature is None:
        V, dispersion = symmetric_from_lower(unit_cov, p), summary.dispersion / weight
    else:
        V, dispersion = inverse(curvature), summary.dispersion
    rows = feature_rows(ansatz, sums.center, sums.scale)
    params = params_of(rows, list(coefs))
    bse = [deviation(row, V) * jnp.sqrt(dispersion) for row in rows]
    changes: dict[str, Any] = {
        "params": jnp.stack(params),
        "bse": jnp.stack(bse),
        "coefs": as_array(coefs),
        "unit_cov": jnp.concatenate(V.lower),
        **{
            name: jnp.broadcast_to(jnp.stack(a) if ansatz.x_is_vector else a[0], getattr(least_squares, name).shape)
            for name, a in (("x_center", sums.center), ("x_scale", sums.scale))
        },
        "cost": totals["value"] / weight,
        "dispersion": dispersion,
        **{name: getattr(summary, name) for name in ("deviance", "pearson_chi2", "llf")},
        "error_scale": scale,
        **_squares(least_squares, totals.get("square", jnp.nan) / weight),
    }
    return replace(
        least_squares,
        digits=jnp.zeros_like(least_squares.digits),
        **{name: None if a is None else a.astype(dtype) for name, a in changes.items()},
    )


def _squares(least_squares: Estimate, mean_square: Array) -> dict[str, Array]:
    """`residual` and `explained` from ⟨ε²⟩, which is NaN if f is not the mean of y."""
    residual, explained = (
        a.astype(mean_square.dtype) for a in (least_squares.residual, least_squares.explained)
    )
    reduction = jnp.sign(explained) * jnp.square(explained) + jnp.square(residual) - mean_square
    return {
        "residual": jnp.sqrt(mean_square),
        "explained": jnp.sign(reduction) * jnp.sqrt(jnp.abs(reduction)),
    }


def inverse(H: Symmetric) -> Symmetric:
    """H⁻¹."""
    if H.is_list:
        zero = jnp.zeros_like(H[0, 0])
        bordered = Symmetric([*H.entries, *[zero] * (H.k + 1)], H.k + 1)
    else:
        bordered = Symmetric(jnp.pad(H.entries, ((0, 1), (0, 1), *((0, 0),) * (H.entries.ndim - 2))), H.k + 1)
    return solve(bordered, H.diagonal, MIN_PIVOT).inverse


def with_status(estimate: Estimate, least_squares: Estimate, status: Array) -> Estimate:
    """The estimate with its status, and NaN where it is one without params."""
    was_solved = (least_squares.status == Status.ok) | (least_squares.status == Status.exact_fit)
    status = jnp.where(was_solved & (status != Status.ok), status, least_squares.status)
    has_params = sum((status == s for s in Status if s.has_params), jnp.zeros((), bool))
    is_finite = jnp.isfinite(estimate.params).all(axis=0)
    status = jnp.where(has_params & ~is_finite, Status.out_of_range, status)
    has_params &= is_finite

    def nan_if_failed(a: Array) -> Array:
        return jnp.where(has_params, a, jnp.nan).astype(a.dtype)

    names = (
        "params bse coefs unit_cov residual explained cost dispersion deviance pearson_chi2 llf error_scale"
    ).split()
    values = {name: getattr(estimate, name) for name in names}
    changes = {name: nan_if_failed(a) for name, a in values.items() if a is not None}
    return replace(estimate, status=status.astype(jnp.int8), **changes)


@dataclass(frozen=True)
class InTiles:
    """A `postprocess` of tasks on the CPU, tile by tile; data sets that take many turns are moved together.

    Attributes:
        steps: the largest number of turns.
    """

    steps: int

    def __call__(self, task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
        """The estimates of the columns first to last."""
        columns, m = slice_columns(columns, first, last), last - first
        data = (columns.x, columns.y, columns.weights, columns.offset)
        problem = jax.tree.map(unbroadcast_columns, (columns.cost, result.estimate, result.exact, data))
        dtype = columns.y.dtype

        def solve_tiles(turns: tuple[int, int], state: Any, problem: Any, m: int) -> Any:
            def solve_tile(tile: Tile) -> Any:
                return _solve_tile(task.ansatz, HOST_ROWS, *turns, *views(tile))

            program = ("reweighted", task.ansatz, turns, jax.tree.structure(problem))
            return map_tiles(solve_tile, (state, *problem), 0, m, width(len(columns.y)), program=program)

        def finish_tile(tile: Tile) -> Estimate:
            return _finish_tile(task.ansatz, HOST_ROWS, dtype, *views(tile))

        state: Any = None
        for turns in pairwise([0, *self._pauses(), self.steps]):
            if state is None:
                state = solve_tiles(turns, None, problem, m)
                continue
            ids = np.flatnonzero(state.status == RUNNING)
            if not len(ids):
                break
            some, count = select_columns((state, problem), ids), max(len(ids), 2)
            new = solve_tiles(turns, *some, count)
            state = jax.tree.map(partial(set_columns_on_host, ids), state, new)
        program = ("reweighted estimate", task.ansatz, jax.tree.structure(problem))
        estimate = map_tiles(
            finish_tile, (state, *problem), 0, m, width(len(columns.y)), program=program
        )
        return jax.tree.map(partial(broadcast_columns, m), estimate)

    def _pauses(self) -> list[int]:
        """Numbers of turns after which the data sets that are not finished are moved together."""
        return [FIRST_TURNS << i for i in range(10) if FIRST_TURNS << i < self.steps]


def width(n: int) -> int:
    """Data sets of a tile, whose n observations stay in cache for all turns."""
    return max(MIN_TILE, min(MAX_TILE, 1 << (TILE_ELEMENTS // n).bit_length()))


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _solve_tile(
    ansatz: Ansatz,
    rows: Rows,
    first: int,
    last: int,
    state: State | None,
    cost: MeanLoss,
    least_squares: Estimate,
    exact: Exact,
    data: Data,
) -> State:
    """The state after the turns first to last; `state` is that before, None at the start."""
    with float64():
        sums = loss_sums(ansatz, cost, least_squares, data, rows, jnp.float64)
        state = begin(sums, least_squares, exact) if state is None else state
        return advance(partial(evaluate, sums, least_squares), rule_of(cost), state, first, last)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _finish_tile(
    ansatz: Ansatz,
    rows: Rows,
    dtype: np.dtype,
    state: State,
    cost: MeanLoss,
    least_squares: Estimate,
    exact: Exact,
    data: Data,
) -> Estimate:
    with float64():
        sums = loss_sums(ansatz, cost, least_squares, data, rows, jnp.float64)
        status = jnp.where(state.status == RUNNING, Status.not_converged, state.status)
        estimate = finish(sums, least_squares, exact.unit_cov, state.coefs, state.extra, dtype)
        return with_status(estimate, least_squares, status)
