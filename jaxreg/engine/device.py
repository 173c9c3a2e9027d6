"""The methods of the eager caller on an accelerator: whole blocks, on the device of their data."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.data.source import Columns
from jaxreg.engine import operation
from jaxreg.engine.cascade import BlockResult, Task, cascade, methods_for, shares_design, solve_columns
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.memory import double_double_at_once
from jaxreg.engine.rows import ROWS, Rows
from jaxreg.engine.sandwich import Covariance
from jaxreg.engine.sums import augmented_size
from jaxreg.engine.tiles import next_power_of_two, select_columns, slice_columns
from jaxreg.numerics.precision import float64


def compute(task: Task, columns: Columns, first: int, last: int) -> Any:
    """The results for the columns first to last."""
    block, m = _slice(columns, first, last), last - first
    block = block if isinstance(block.y, jax.Array) else jax.device_put(block)
    plain = [on_shared_design, by_sums] if shares_design(task, block) else [by_sums]
    result = cascade(methods_for(task.precision, plain, certified), task, block, 0, m)
    output = result.estimate if task.postprocess is None else task.postprocess(task, block, result, 0, m)

    def broadcast(a: Array) -> Array:
        return a if a.shape[-1] == m else jnp.broadcast_to(a, (*a.shape[:-1], m))

    return jax.tree.map(broadcast, output)


def by_sums(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """All data sets, from plain sums in float64."""
    return _solve(operation.by_sums, task, None, _slice(columns, first, last))


def on_shared_design(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """The data sets without gaps, in float64; those with gaps are marked as not accurate."""
    block = _slice(columns, first, last)
    if not _any_complete(block.y):
        return BlockResult(None, None, np.zeros(last - first, bool))
    return _solve(operation.on_shared_design, task, None, block)


@jax.jit
def _any_complete(y: Array) -> Array:
    """Whether a column has no gap."""
    return jnp.isfinite(y).all(axis=0).any()


def certified(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """All data sets in double-double, as many at once as memory allows."""
    m = last - first
    device = next(iter(columns.y.devices()))
    q = augmented_size(task.ansatz, columns.x)
    count = min(next_power_of_two(m), double_double_at_once(len(columns.y), q, device))
    ids = first + np.minimum(np.arange(-(-m // count) * count), m - 1).reshape(-1, count)
    results = [
        _solve(operation.in_double_double, task, ROWS["default"], select_columns(columns, block_ids))
        for block_ids in ids
    ]
    return jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1)[..., :m], *results)


def _solve(solve: Callable, task: Task, rows: Rows | None, columns: Columns) -> BlockResult:
    return BlockResult(*solve_columns(solve, task.ansatz, task.finish, rows, task.solver, columns))


def _slice(columns: Columns, first: int, last: int) -> Columns:
    return columns if (first, last) == (0, columns.y.shape[-1]) else slice_columns(columns, first, last)


def robust_errors(task: Task, columns: Columns, result: BlockResult, first: int, last: int) -> Estimate:
    """The estimate with robust errors, from one more pass over the columns first to last."""
    data = _slice(columns, first, last)[:3]
    return _robust(task.ansatz, not_none(task.covariance), result.estimate, result.exact, data)


@partial(jax.jit, static_argnums=0)
def _robust(
    ansatz: Ansatz, covariance: Covariance, estimate: Estimate, exact: Exact, data: tuple
) -> Estimate:
    with float64():
        return operation.robust_estimate(ansatz, covariance, estimate, exact, data)
