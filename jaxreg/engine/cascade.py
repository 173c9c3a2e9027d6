"""The eager caller has values to look at: what is to be found of data sets, and a list of methods to find it.

The methods have one contract, from columns to what is found of them and which of them are accurate: plain
sums first; what is not accurate is redone by the next, in double-double.
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
from jaxreg.engine.sandwich import Robust
from jaxreg.engine.sums import augmented_size
from jaxreg.engine.tiles import next_power_of_two, select_columns
from jaxreg.numerics.precision import float64


@dataclass(frozen=True)
class Task:
    """What is to be found.

    Attributes:
        ansatz: what is fitted.
        precision: "auto", "fast" or "certified".
        solver: what finds the point.
        robust: what standard errors are made of, None for one variance.
        finish: what the methods return, a function (ansatz, operands, solution, dtype) compiled with them.
        postprocess: a function (task, columns, result, first, last) of what they returned, or None.
    """

    ansatz: Ansatz
    precision: str
    solver: Any
    robust: Robust | None = None
    finish: Callable[..., tuple[Any, Exact | None]] | None = None
    postprocess: Callable[..., Any] | None = None


class BlockResult(NamedTuple):
    """What a method finds, in NumPy arrays or on a device, with the data sets on the last axis.

    Attributes:
        estimate: what was to be found of each data set.
        exact: coefs and covariance to more digits, where robust errors are made with them; else None.
        accurate: whether the rounding of an estimate is too small to be noticed.
    """

    estimate: Any
    exact: Exact | None
    accurate: Any


Method = Callable[[Task, Columns, int, int], BlockResult]


def cascade(methods: list[Method], task: Task, columns: Columns, first: int, last: int) -> BlockResult:
    """What the first method finds, with the data sets that are not accurate redone by the others."""
    found = methods[0](task, columns, first, last)
    ids = np.flatnonzero(~np.asarray(found.accurate)) if methods[1:] else np.array([], int)
    if len(ids) == 0:
        return found
    if len(ids) == last - first:
        return cascade(methods[1:], task, columns, first, last)
    if isinstance(found.accurate, jax.Array):
        ids = pad_ids(ids)
    redone = cascade(methods[1:], task, select_columns(columns, first + ids), 0, max(len(ids), 2))
    if isinstance(found.accurate, jax.Array):
        return jax.tree.map(partial(set_columns, ids, last - first), found, redone)

    def placed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = a if a.flags.writeable else a.copy()
        a[..., ids] = b[..., : len(ids)]
        return a

    return jax.tree.map(placed, found, redone)


def pad_ids(ids: np.ndarray) -> np.ndarray:
    """With the last again and again, to one of few lengths: each is a program on a device."""
    return ids[np.minimum(np.arange(next_power_of_two(len(ids))), len(ids) - 1)]


@partial(jax.jit, static_argnums=1)
def set_columns(ids: Array, m: int, a: Array, b: Array) -> Array:
    """a of m columns with b as some of them, on a device."""
    return jnp.broadcast_to(a, (*a.shape[:-1], m)).at[..., ids].set(b)


@partial(jax.jit, static_argnums=(0, 1, 2))
def solve_columns(
    locate: Callable[[Ansatz, Operands], SumsAndPoint],
    ansatz: Ansatz,
    finish: Callable,
    solver: Any,
    columns: Columns,
) -> tuple[Any, Exact | None, Array]:
    """What is found of some columns by one way to locate turning points."""
    operands = Operands(*columns, solver)
    with float64():
        located = locate(ansatz, operands)
        return (*finish(ansatz, operands, located, columns.y.dtype), located.point.accurate)


def shares_design(task: Task, columns: Columns) -> bool:
    """Whether all have one design of many columns, each row of which counts for all.

    A product finds gaps in y by their NaN, which `jax_debug_nans` forbids.
    """
    if jax.config.jax_debug_nans:  # pyright: ignore
        return False
    x, w = columns.x, columns.weights
    shared = x.shape[-1] == 1 and (w is None or w.shape[-1] == 1)
    if not shared or not matrix_sums.applies(task.ansatz, x, True) or task.finish is moments_of:
        return False
    rows_count = bool(np.isfinite(x).all()) and (w is None or bool(((w > 0) & np.isfinite(w)).all()))
    return rows_count and task.solver.ends_at_turning_point and len(x) >= augmented_size(task.ansatz, x)


def methods_for(precision: str, plain: list[Method], certified: Method) -> list[Method]:
    """The methods of a `precision` of `fit`."""
    return {"auto": [*plain, certified], "fast": plain, "certified": [certified]}[precision]


def estimate_only(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, None]:
    """An estimate."""
    return result_of(ansatz, operands, found, dtype)[0].estimate, None


def estimate_and_exact(
    ansatz: Ansatz, operands: Operands, found: SumsAndPoint, dtype: np.dtype
) -> tuple[Estimate, Exact]:
    """An estimate, with more digits of its coefs."""
    result, exact = result_of(ansatz, operands, found, dtype)
    return result.estimate, exact
