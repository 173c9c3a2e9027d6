"""The methods of the eager caller on the CPU: tiles of data sets that stay in cache, on two threads."""

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
from jaxreg.engine.sandwich import Covariance, with_robust_errors
from jaxreg.engine.sums import Sums, SumScaling, augmented_size, sum_scaling
from jaxreg.engine.tiles import (
    Tile,
    broadcast_columns,
    map_tiles,
    select_columns,
    slice_columns,
    unbroadcast_columns,
    views,
    width_for_all_threads,
)
from jaxreg.engine.turning_point import PADDED_ROWS, max_roundings, turning_point
from jaxreg.numerics.precision import float64
from jaxreg.numerics.vectors import max_listed

HOST_ROWS = ROWS["cpu"]._replace(padded=True)
SUMS_IN_CACHE = 2**17  # numbers in all running sums of a tile
SOLVED_COLUMNS = 2**18  # data sets whose normal equations are solved at once, by XLA on all cores
MIN_TILE_COLUMNS = 256
CERTIFIED_COLUMNS = (64, 1024)  # of a tile in double-double, for few data sets and for many
CERTIFIED_ELEMENTS = 2**22  # of y in such a tile at most


def compute(task: Task, columns: Columns, first: int, last: int) -> Any:
    """The results for the columns first to last."""
    if last - first == 1:  # twice, since an array of one column would be a shared one
        y = np.repeat(columns.y[..., first:last], 2, axis=-1)
        twice = select_columns(columns, np.array([first]))._replace(y=y)
        return jax.tree.map(lambda a: a[..., :1], compute(task, twice, 0, 2))
    plain = [on_shared_design, by_sums] if shares_design(task, columns) else [by_sums]
    result = cascade(methods_for(task.precision, plain, certified), task, columns, first, last)
    if task.postprocess is None:
        return result.estimate
    return task.postprocess(task, columns, result, first, last)


def on_shared_design(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """The data sets without gaps, in float64; those with gaps are marked as not accurate."""
    ansatz, m = task.ansatz, last - first
    if not _any_complete(columns.y, first, last):
        return BlockResult(None, None, np.zeros(m, bool))
    solve = partial(solve_columns, operation.on_shared_design, ansatz, task.finish, HOST_ROWS, task.solver)

    def solve_tile(tile: Tile) -> BlockResult:
        return BlockResult(*solve(views(tile)))

    program = ("shared", ansatz, task.finish)
    result = map_tiles(solve_tile, columns, first, last, TILE_COLUMNS, program=program, fixed_width=True)
    return jax.tree.map(partial(broadcast_columns, m), result)


def _any_complete(y: np.ndarray, first: int, last: int) -> bool:
    """Whether a column has no gap; the first tile usually decides."""
    with np.errstate(over="ignore", invalid="ignore"):
        sums = (y[:, i : min(i + TILE_COLUMNS, last)].sum(axis=0) for i in range(first, last, TILE_COLUMNS))
        return any(np.isfinite(a).any() for a in sums)


def by_sums(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """All data sets, from plain sums in float64."""
    ansatz, (n, _) = task.ansatz, columns.y.shape
    q = augmented_size(ansatz, columns.x)
    uses_products = matrix_sums.applies(ansatz, columns.x, columns.x.shape[-1] == 1)
    width = TILE_COLUMNS if uses_products else 1 << (SUMS_IN_CACHE // (q * (q + 3) // 2)).bit_length() - 1
    sum_tile = _TileSums(ansatz, uses_products, masked=not _sums_are_exact(ansatz, columns))
    data = (pad_rows(columns) if last - first <= width and n <= PADDED_ROWS else columns)[:3]
    width = width if uses_products else min(width, width_for_all_threads(last - first))
    units = columns[3:6]
    solve = partial(_solve, ansatz, columns.y.dtype, task.finish, task.solver, max_roundings(n))

    def solve_tile(tile: Tile) -> BlockResult:
        tile_data, tile_units = (tile._replace(data=part) for part in tile.data)
        return BlockResult(*solve(*sum_tile(tile_data), views(tile_units)))

    if q > max_listed() + 1 or not task.solver.ends_at_turning_point:  # sums and solution share the cache
        program = ("estimate", ansatz, task.finish, sum_tile.masked)
        return map_tiles(
            solve_tile, (data, units), first, last, width, program=program, fixed_width=uses_products
        )
    program = ("sums", ansatz, sum_tile.masked)
    sums, scaling = map_tiles(
        sum_tile,
        data,
        first,
        last,
        width,
        program=program,
        fixed_width=uses_products,
        one_allocation=True,
    )

    def solve_sums(tile: Tile) -> BlockResult:
        return BlockResult(*solve(*views(tile)))

    inputs = (sums, scaling, slice_columns(units, first, last))
    return map_tiles(solve_sums, inputs, 0, last - first, SOLVED_COLUMNS, program=None, threads=1)


def certified(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """All data sets in double-double, in tiles of few sizes."""
    m = last - first
    width = CERTIFIED_COLUMNS[m > CERTIFIED_COLUMNS[0]]
    width = max(1, min(width, CERTIFIED_ELEMENTS // len(columns.y)))
    if m < width:
        ids = first + np.minimum(np.arange(width), m - 1)
        columns, first, last = select_columns(columns, ids), 0, width

    def solve_tile(tile: Tile) -> BlockResult:
        padded = pad_rows(views(tile))
        return BlockResult(
            *solve_columns(
                operation.in_double_double, task.ansatz, task.finish, HOST_ROWS, task.solver, padded
            )
        )

    program = ("certified", task.ansatz, task.finish)
    result = map_tiles(solve_tile, columns, first, last, width, program=program)
    return jax.tree.map(lambda a: a[..., :m], result)


class _TileSums:
    """The sums of a tile; those of exact products are not masked until a tile has a gap."""

    def __init__(self, ansatz: Ansatz, uses_products: bool, *, masked: bool):
        self.ansatz, self.uses_products, self.masked = ansatz, uses_products, masked

    def __call__(self, tile: Tile) -> tuple[Sums, SumScaling | None]:
        if not self.masked:
            sums, scaling = _sums(self.ansatz, self.uses_products, False, tile.width, tile.data, tile.start)
            diagonal = [sums.second[i * (i + 3) // 2] for i in range(len(sums.first))]
            if all(np.isfinite(a).all() for a in diagonal):
                return jax.tree.map(lambda a: np.broadcast_to(a, (tile.width,)), sums), scaling
            self.masked = True
        return _sums(self.ansatz, self.uses_products, True, tile.width, tile.data, tile.start)


def _sums_are_exact(ansatz: Ansatz, columns: Columns) -> bool:
    """Whether all products are exact in float64, so that sums have the same bits with and without a mask.

    Otherwise XLA would contract a product and a sum to a fused operation, unless a mask is between them.
    """
    float32_products = columns.y.dtype == np.float32 and columns.weights is None and ansatz.basis_is_x
    return (
        float32_products
        and not matrix_sums.applies(ansatz, columns.x, columns.x.shape[-1] == 1)
        and not jax.config.jax_debug_nans  # pyright: ignore
    )


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _sums(
    ansatz: Ansatz, uses_products: bool, masked: bool, width: int, data: tuple, start: Any
) -> tuple[Sums, SumScaling | None]:
    """The sums of a tile and their scaling."""
    window = None if start is None else (start, width)

    def slice_tile(a: Array) -> Array:
        return a if start is None or a.shape[-1] == 1 else lax.dynamic_slice_in_dim(a, start, width, axis=-1)

    with float64():
        tile_data = jax.tree.map(slice_tile, data)
        scaling = sum_scaling(ansatz, *tile_data, centered=uses_products)
        if uses_products:
            return matrix_sums.matrix_sums(ansatz, scaling, *tile_data, rows=HOST_ROWS), scaling
        return row_sums(ansatz, scaling, *data, rows=HOST_ROWS, masked=masked, window=window), scaling


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(
    ansatz: Ansatz,
    dtype: np.dtype,
    finish: Callable,
    solver: Any,
    roundings: Any,
    sums: Sums,
    scaling: SumScaling | None,
    units: tuple,
) -> tuple:
    """The fields of a `BlockResult`, from sums, and from sigma_unit and the origins of x and y."""
    sigma_unit, x_origin, y_origin = units
    no_data: Any = None
    operands = Operands(no_data, no_data, None, sigma_unit, x_origin, y_origin, solver)
    with float64():
        point = turning_point(ansatz, sums, scaling, operands.origin(ansatz), roundings, dtype)
        return (*finish(ansatz, operands, SumsAndPoint(sums, point, None), dtype), point.accurate)


def robust_errors(task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
    """The estimate with robust errors, from one more pass over the columns first to last."""
    ansatz, p, covariance = task.ansatz, len(result.estimate.params), not_none(task.covariance)
    x_is_shared = columns.x.shape[-1] == 1
    uses_products = ansatz.basis_is_x and matrix_sums.applies(ansatz, columns.x, x_is_shared)
    numbers = p + covariance.state_size(p, len(columns.y))  # per data set
    width = 1 << max(MIN_TILE_COLUMNS, SUMS_IN_CACHE // numbers).bit_length() - 1
    width = TILE_COLUMNS if uses_products else width
    data = slice_columns(columns[:3], first, last)

    def robust_tile(tile: Tile) -> Estimate:
        tile_data, estimate, exact = views(tile)
        if uses_products or tile.start is None:
            return _robust(ansatz, tile.width, covariance, tile_data, None, estimate, exact)
        return _robust(ansatz, tile.width, covariance, tile.data[0], tile.start, estimate, exact)

    inputs = jax.tree.map(unbroadcast_columns, (data, result.estimate, result.exact))
    program = ("robust", ansatz, covariance.name)
    m = last - first
    estimate = map_tiles(robust_tile, inputs, 0, m, width, program=program, fixed_width=uses_products)
    return jax.tree.map(partial(broadcast_columns, m), estimate)


@partial(jax.jit, static_argnums=(0, 1))
def _robust(
    ansatz: Ansatz,
    width: int,
    covariance: Covariance,
    data: tuple,
    start: Any,
    estimate: Estimate,
    exact: Exact,
) -> Estimate:
    """The estimate of a tile with robust errors."""
    window = None if start is None else (start, width)
    with float64():
        return with_robust_errors(ansatz, covariance, estimate, exact, *data, rows=HOST_ROWS, window=window)


def pad_rows(columns: Columns) -> Columns:
    """Append gaps, up to one of few numbers of rows."""
    n = len(columns.y)
    length = padded_length(n)
    if length == n:
        return columns

    def pad(a: np.ndarray | None, value: float) -> np.ndarray | None:
        if a is None:
            return None
        return np.pad(a, ((0, length - n), *((0, 0),) * (a.ndim - 1)), constant_values=value)

    return columns._replace(
        x=pad(columns.x, np.nan),
        y=pad(columns.y, np.nan),
        weights=pad(columns.weights, 0.0),
        offset=pad(columns.offset, 0.0),
    )
