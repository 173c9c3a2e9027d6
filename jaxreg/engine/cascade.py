"""The methods of the eager caller: each recomputes the data sets for which the one before is not accurate.

All have one contract, from columns to results and whether these are accurate. Plain sums come first and
double-double last. Traced code has no values by which to select data sets, and runs a single method.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.data.source import Columns
from jaxreg.engine import matrix_sums
from jaxreg.engine.estimate import Estimate, Exact
from jaxreg.engine.operation import Operands, SumsAndPoint, moments_of, result_of
from jaxreg.engine.platforms import by_platform
from jaxreg.engine.rows import Rows
from jaxreg.engine.sandwich import Covariance
from jaxreg.engine.sums import augmented_size
from jaxreg.engine.tiles import next_power_of_two, select_columns
from jaxreg.numerics.precision import float64


@dataclass(frozen=True)
class Task:
    """The part of the arguments of `fit` that all methods read, and their output.

    Attributes:
        ansatz: what is fitted.
        precision: "auto", "fast" or "certified".
        solver: a solver of `fit`.
        covariance: of robust standard errors; None for nonrobust ones.
        finish: a function (ansatz, operands, solution, dtype) to the output, compiled with each method.
        postprocess: a function (task, columns, result, first, last) of the results of all methods, or None.
    """

    ansatz: Ansatz
    precision: str
    solver: Any
    covariance: Covariance | None = None
    finish: Callable[..., tuple[Any, Exact | None]] | None = None
    postprocess: Callable[..., Any] | None = None


class BlockResult(NamedTuple):
    """The result of a method, in NumPy arrays or on a device, with the data sets on the last axis.

    Attributes:
        estimate: what `finish` returns for each data set.
        exact: coefs and covariance in float64 for robust errors, or None.
        accurate: whether rounding is too small to be noticed.
    """

    estimate: Any
    exact: Exact | None
    accurate: Any


Method = Callable[[Task, Columns, int, int], BlockResult]


def cascade(methods: list[Method], task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """The result of the first method; data sets for which it is not accurate are recomputed by the others."""
    result = methods[0](task, columns, first, last)
    if not methods[1:]:
        return result
    on_device = isinstance(result.accurate, jax.Array)
    count = int((~result.accurate).sum())
    if count == 0:
        return result
    if count == last - first:
        return cascade(methods[1:], task, columns, first, last)
    ids: Any = indices_of_true(~result.accurate, count) if on_device else np.flatnonzero(~result.accurate)
    recomputed = cascade(methods[1:], task, select_columns(columns, first + ids), 0, max(len(ids), 2))
    if on_device:
        return jax.tree.map(partial(set_columns, ids, last - first), result, recomputed)
    return jax.tree.map(partial(set_columns_on_host, ids), result, recomputed)


def set_columns_on_host(ids: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Set columns of a to the first columns of b, in place if a can be written."""
    a = a if a.flags.writeable else a.copy()
    a[..., ids] = b[..., : len(ids)]
    return a


def indices_of_true(flags: Array, count: int) -> Array:
    """The indices of the flags, (m,), that are true, `count` of them, which stay on their device.

    The last is repeated up to a power of two: few lengths compile few programs.
    """
    return _indices_of_true(flags, next_power_of_two(count))


@partial(jax.jit, static_argnums=1)
def _indices_of_true(flags: Array, length: int) -> Array:
    (ids,) = jnp.nonzero(flags, size=length)
    return ids[jnp.minimum(jnp.arange(length), flags.sum() - 1)]


@partial(jax.jit, static_argnums=1)
def set_columns(ids: Array, m: int, a: Array, b: Array) -> Array:
    """Set columns of a, which has m of them or one that is shared, to b on a device."""
    return jnp.broadcast_to(a, (*a.shape[:-1], m)).at[..., ids].set(b)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def solve_columns(
    solve: Callable[..., SumsAndPoint],
    ansatz: Ansatz,
    finish: Callable,
    rows: Rows | None,
    solver: Any,
    columns: Columns,
) -> tuple[Any, Exact | None, Array]:
    """The fields of a `BlockResult`, by one of the functions that solve for turning points.

    Args:
        solve: a function (ansatz, operands, rows=…).
        ansatz: what is fitted.
        finish: of the task.
        rows: of the platform if omitted.
        solver: of the task.
        columns: the data.
    """

    def solve_and_finish(operands: Operands, rows: Rows) -> tuple[Any, Exact | None, Array]:
        solution = solve(ansatz, operands, rows=rows)
        return (*finish(ansatz, operands, solution, columns.y.dtype), solution.point.accurate)

    operands = Operands(*columns[:6], solver)
    with float64():
        return by_platform(solve_and_finish, operands) if rows is None else solve_and_finish(operands, rows)


def shares_design(task: Task, columns: Columns) -> bool:
    """Whether all data sets share x and weights, with many columns and all finite; y may have gaps.

    False under `jax_debug_nans`: gaps make NaN in the matrix products.
    """
    if jax.config.jax_debug_nans:  # pyright: ignore
        return False
    x, w = columns.x, columns.weights
    is_shared = x.shape[-1] == 1 and (w is None or w.shape[-1] == 1)
    if not is_shared or not matrix_sums.applies(task.ansatz, x, True) or task.finish is moments_of:
        return False
    all_valid = bool(np.isfinite(x).all()) and (w is None or bool(((w > 0) & np.isfinite(w)).all()))
    may_solve = len(x) >= augmented_size(task.ansatz, x) or columns.cost is not None  # by its penalty
    return all_valid and task.solver.ends_at_turning_point and may_solve


def methods_for(precision: str, plain: list[Method], certified: Method) -> list[Method]:
    """The methods for a `precision` of `fit`."""
    return {"auto": [*plain, certified], "fast": plain, "certified": [certified]}[precision]


def estimate_only(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, None]:
    """A `finish` of tasks with nonrobust errors."""
    return result_of(ansatz, operands, solution, dtype)[0].estimate, None


def estimate_and_exact(
    ansatz: Ansatz, operands: Operands, solution: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, Exact]:
    """A `finish` of tasks with robust errors."""
    result, exact = result_of(ansatz, operands, solution, dtype)
    return result.estimate, exact
