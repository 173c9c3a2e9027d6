"""The methods of the eager caller on the CPU: tiles of data sets that stay in its caches, on all cores."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.data.source import Columns
from jaxreg.engine import matrix_sums, operation
from jaxreg.engine.cascade import BlockResult, Task, cascade, methods_for, shares_design, solve_columns
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.operation import Operands, SumsAndPoint
from jaxreg.engine.products import TILE_COLUMNS
from jaxreg.engine.row_sums import row_sums
from jaxreg.engine.rows import ROWS, padded_length
from jaxreg.engine.sandwich import Robust, max_lag, with_robust_errors
from jaxreg.engine.sums import Sums, SumScaling, augmented_size, sum_scaling
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    select_columns,
    slice_columns,
    unbroadcast_columns,
    views,
)
from jaxreg.engine.turning_point import PADDED_ROWS, max_roundings, turning_point
from jaxreg.numerics.precision import float64
from jaxreg.numerics.vectors import MAX_LISTED

HOST = ROWS["cpu"]._replace(padded=True)
ON_FILLED = partial(operation.on_shared_design, padded=True)
SUMS_IN_CACHE = 2**17  # numbers, of all running sums of a tile
SOLVED_COLUMNS = 2**18  # data sets whose few sums are solved at once, on all cores
MIN_TILE = 256  # columns
CERTIFIED_COUNTS = (64, 1024)  # data sets that are redone together, of few and of many
CERTIFIED_ELEMENTS = 2**22  # of an array that is copied for it


def compute(task: Task, columns: Columns, first: int, last: int) -> Any:
    """What is found of the columns first to last."""
    if last - first == 1:  # an array of one column would look shared
        y = np.repeat(columns.y[..., first:last], 2, axis=-1)
        columns = jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., [first, first]], columns)._replace(
            y=y
        )
        return jax.tree.map(lambda a: a[..., :1], compute(task, columns, 0, 2))
    plain = [on_shared_design, by_sums] if shares_design(task, columns) else [by_sums]
    found = cascade(methods_for(task.precision, plain, certified), task, columns, first, last)
    return found.estimate if task.postprocess is None else task.postprocess(task, columns, found, first, last)


def on_shared_design(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """The data sets without gaps, in float64; the others are not accurate."""
    ansatz, m = task.ansatz, last - first
    if not _has_complete(columns.y, first, last):
        return BlockResult(None, None, np.zeros(m, bool))
    solve = partial(solve_columns, ON_FILLED, ansatz, task.finish, task.solver)

    def of_tile(tile: Tile) -> BlockResult:
        return BlockResult(*solve(views(tile)))

    program = ("shared", ansatz, task.finish)
    found = map_tiles(of_tile, columns, first, last, TILE_COLUMNS, program=program, fixed_width=True)
    return jax.tree.map(partial(broadcast_columns, m), found)


def _has_complete(y: np.ndarray, first: int, last: int) -> bool:
    """Whether one of the columns has no gap: usually one of the first has none, or none of all."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (y[:, i : min(i + TILE_COLUMNS, last)].sum(axis=0) for i in range(first, last, TILE_COLUMNS))
        return any(np.isfinite(a).any() for a in sums)


def by_sums(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """By plain sums in float64."""
    ansatz, (n, _) = task.ansatz, columns.y.shape
    q = augmented_size(ansatz, columns.x)
    by_products = matrix_sums.applies(ansatz, columns.x, columns.x.shape[-1] == 1)
    width = TILE_COLUMNS if by_products else 1 << (SUMS_IN_CACHE // (q * (q + 3) // 2)).bit_length() - 1
    reader = _Reader(ansatz, by_products, may_be_unmasked=_is_exact(ansatz, columns))
    data = _lengthened(columns[:3]) if last - first <= width and n <= PADDED_ROWS else columns[:3]
    solve = partial(_solve, ansatz, columns.y.dtype, task.finish, task.solver, max_roundings(n))

    def of_tile(tile: Tile) -> BlockResult:
        return BlockResult(
            *solve(*reader(tile._replace(data=tile.data[0])), views(tile._replace(data=tile.data[1])))
        )

    def of_sums(tile: Tile) -> BlockResult:
        return BlockResult(*solve(*views(tile)))

    if q > MAX_LISTED + 1 or not task.solver.ends_at_turning_point:  # in the cache of a tile
        program = ("estimate", ansatz, task.finish, reader.masked)
        return map_tiles(
            of_tile, (data, columns[3:]), first, last, width, program=program, fixed_width=by_products
        )
    program = ("sums", ansatz, reader.masked)
    sums, scaling = map_tiles(
        reader, data, first, last, width, program=program, fixed_width=by_products, one_allocation=True
    )
    others = slice_columns(columns[3:], first, last)
    return map_tiles(
        of_sums, (sums, scaling, others), 0, last - first, SOLVED_COLUMNS, program=None, threads=1
    )


def certified(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """In double-double, some data sets at a time in programs of few shapes."""
    m = last - first
    count = CERTIFIED_COUNTS[m > CERTIFIED_COUNTS[0]]
    count = max(1, min(count, CERTIFIED_ELEMENTS // len(columns.y)))
    if m < count:
        ids = first + np.minimum(np.arange(count), m - 1)
        columns, first, last = select_columns(columns, ids), 0, count

    def of_tile(tile: Tile) -> BlockResult:
        some = views(tile)
        data = dict(zip(("x", "y", "weights"), _lengthened(some[:3]), strict=True))
        some = some._replace(**data)
        return BlockResult(
            *solve_columns(operation.in_double_double, task.ansatz, task.finish, task.solver, some)
        )

    found = map_tiles(of_tile, columns, first, last, count, program=("certified", task.ansatz, task.finish))
    return jax.tree.map(lambda a: a[..., :m], found)


class _Reader:
    """The sums of a tile, without a mask as long as no tile has a gap, if the bits are the same."""

    def __init__(self, ansatz: Ansatz, by_products: bool, *, may_be_unmasked: bool):
        self.ansatz, self.by_products = ansatz, by_products
        self.masked = not may_be_unmasked

    def __call__(self, tile: Tile) -> tuple[Sums, SumScaling | None]:
        if not self.masked:
            sums, scaling = _sums(self.ansatz, self.by_products, False, tile.width, tile.data, tile.start)
            diagonal = [sums.second[i * (i + 3) // 2] for i in range(len(sums.first))]
            if all(np.isfinite(a).all() for a in diagonal):
                return jax.tree.map(lambda a: np.broadcast_to(a, (tile.width,)), sums), scaling
            self.masked = True
        return _sums(self.ansatz, self.by_products, True, tile.width, tile.data, tile.start)


def _is_exact(ansatz: Ansatz, columns: Columns) -> bool:
    """Whether all products are exact in float64: then their sums have the same bits with a mask and without.

    With others a compiler contracts product and sum where there is no mask between them.
    """
    single = columns.y.dtype == np.float32 and columns.weights is None and ansatz.basis_is_x
    return (
        single
        and not matrix_sums.applies(ansatz, columns.x, columns.x.shape[-1] == 1)
        and not jax.config.jax_debug_nans  # pyright: ignore
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sums(
    ansatz: Ansatz, by_products: bool, masked: bool, width: int, data: tuple, start: Any
) -> tuple[Sums, SumScaling | None]:
    """The sums of a tile and their units."""
    window = None if start is None else (start, width)

    def cut(a: Array) -> Array:
        return a if start is None or a.shape[-1] == 1 else lax.dynamic_slice_in_dim(a, start, width, axis=-1)

    with float64():
        some = jax.tree.map(cut, data)
        scaling = sum_scaling(ansatz, *some, centered=by_products)
        if by_products:
            return matrix_sums.matrix_sums(ansatz, scaling, *some, rows=HOST), scaling
        return row_sums(ansatz, scaling, *data, rows=HOST, masked=masked, window=window), scaling


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(
    ansatz: Ansatz,
    dtype: np.dtype,
    finish: Callable,
    solver: Any,
    added: Any,
    sums: Sums,
    scaling: SumScaling | None,
    others: tuple,
) -> tuple:
    """What is found of sums."""
    sigma_unit, x_origin, y_origin = others
    nothing: Any = None
    operands = Operands(nothing, nothing, None, sigma_unit, x_origin, y_origin, solver)
    with float64():
        point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), added, dtype)
        return (*finish(ansatz, operands, SumsAndPoint(sums, point, None), dtype), point.accurate)


def robust_errors(task: Task, columns: Columns, found: BlockResult, first: int, last: int) -> Estimate:
    """One more pass over the columns first to last, with what was found of them."""
    ansatz, p, robust = task.ansatz, len(found.estimate.params), not_none(task.robust)
    by_products = matrix_sums.applies(ansatz, columns.x, columns.x.shape[-1] == 1) and ansatz.basis_is_x
    numbers = p * (p + 5) // 2
    if robust.cov_type == "HAC":
        numbers += 4 * p * (1 + max_lag(robust, len(columns.y)))
    width = TILE_COLUMNS if by_products else 1 << max(MIN_TILE, SUMS_IN_CACHE // numbers).bit_length() - 1
    data = slice_columns(columns[:3], first, last)

    def of_tile(tile: Tile) -> Estimate:
        some, *known = views(tile)
        if by_products or tile.start is None:
            return _robust(ansatz, tile.width, robust, some, None, *known)
        return _robust(ansatz, tile.width, robust, tile.data[0], tile.start, *known)

    known = jax.tree.map(unbroadcast_columns, (data, found.estimate, found.exact))
    program = ("robust", ansatz, robust.cov_type)
    m = last - first
    estimate = map_tiles(of_tile, known, 0, m, width, program=program, fixed_width=by_products)
    return jax.tree.map(partial(broadcast_columns, m), estimate)


@partial(jax.jit, static_argnums=(0, 1))
def _robust(
    ansatz: Ansatz, width: int, robust: Robust, data: tuple, start: Any, found: Estimate, exact: Exact
) -> Estimate:
    """The estimate of a tile with robust errors."""
    window = None if start is None else (start, width)
    with float64():
        return with_robust_errors(ansatz, robust, found, exact, *data, rows=HOST, window=window)


def _lengthened(data: tuple) -> tuple:
    """With gaps behind the last observation, to one of few numbers of rows."""
    n = len(data[1])
    rows = padded_length(n)

    def lengthened(a: np.ndarray | None, value: float) -> np.ndarray | None:
        if a is None:
            return None
        return np.pad(a, ((0, rows - n), *((0, 0),) * (a.ndim - 1)), constant_values=value)

    x, y, weights = data
    return lengthened(x, np.nan), lengthened(y, np.nan), lengthened(weights, 0.0)
