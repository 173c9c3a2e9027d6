"""The methods of the eager caller on an accelerator: whole blocks, computed where their data lie."""

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
from jaxreg.engine.sandwich import Robust
from jaxreg.engine.tiles import next_power_of_two, select_columns, slice_columns
from jaxreg.numerics.precision import float64

AT_ONCE = 2**22  # of y in double-double at once, of some hundred numbers each


def compute(task: Task, columns: Columns, first: int, last: int) -> Any:
    """What is found of the columns first to last."""
    some, m = jax.device_put(_cut(columns, first, last)), last - first
    plain = [on_shared_design, by_sums] if shares_design(task, some) else [by_sums]
    found = cascade(methods_for(task.precision, plain, certified), task, some, 0, m)
    estimate = found.estimate if task.postprocess is None else task.postprocess(task, some, found, 0, m)

    def of_all(a: Array) -> Array:
        return a if a.shape[-1] == m else jnp.broadcast_to(a, (*a.shape[:-1], m))

    return jax.tree.map(of_all, estimate)


def by_sums(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """By plain sums in float64."""
    return _found_by(operation.by_sums, task, _cut(columns, first, last))


def on_shared_design(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """The data sets without gaps, in float64; the others are not accurate."""
    some = _cut(columns, first, last)
    if not _has_complete(some.y):
        return BlockResult(None, None, np.zeros(last - first, bool))
    return _found_by(operation.on_shared_design, task, some)


@jax.jit
def _has_complete(y: Array) -> Array:
    """Whether one of the columns has no gap."""
    return jnp.isfinite(y).all(axis=0).any()


def certified(task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """In double-double, as many at once as memory allows."""
    m = last - first
    count = min(next_power_of_two(m), 1 << max(2, AT_ONCE // len(columns.y)).bit_length() - 1)
    ids = first + np.minimum(np.arange(-(-m // count) * count), m - 1).reshape(-1, count)
    parts = [_found_by(operation.in_double_double, task, select_columns(columns, some)) for some in ids]
    return jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1)[..., :m], *parts)


def _found_by(locate: Callable, task: Task, columns: Columns) -> BlockResult:
    return BlockResult(*solve_columns(locate, task.ansatz, task.finish, task.solver, columns))


def _cut(columns: Columns, first: int, last: int) -> Columns:
    return columns if (first, last) == (0, columns.y.shape[-1]) else slice_columns(columns, first, last)


def robust_errors(task: Task, columns: Columns, found: BlockResult, first: int, last: int) -> Estimate:
    """One more pass over the columns, with what was found of them."""
    return _robust(
        task.ansatz, not_none(task.robust), found.estimate, found.exact, _cut(columns, first, last)[:3]
    )


@partial(jax.jit, static_argnums=0)
def _robust(ansatz: Ansatz, robust: Robust, found: Estimate, exact: Exact, data: tuple) -> Estimate:
    with float64():
        return operation.robust_estimate(ansatz, robust, found, exact, data)
