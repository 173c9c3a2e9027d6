"""Sums over the observations as matrix products, of some rows at a time.

On the CPU the last bits of a product depend on its shape, and in many shapes on where a column stands. In all
products of an eager caller the rows are filled up to one number, and so are the columns: there neither is so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.engine.rows import Rows, few_lengths

TILE_COLUMNS = 1024  # columns of a product of an eager caller

State = TypeVar("State")
Step = Callable[[Callable[..., Array], State], State]


def product(a: Array, b: Array) -> Array:
    """The matrix product of (i, k) and (k, m), with all digits on every platform."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def over_chunks(n: int, rows: Rows, step: Step, state: State) -> State:
    """`step(some, state)` for all rows: `some(a, axis=0, fill=0)` takes those of a product of an array."""
    size = _length(n, rows)

    def of(first: Any, count: int, state: State) -> State:
        def some(a: Array, axis: int = 0, fill: float = 0) -> Array:
            taken = lax.dynamic_slice_in_dim(a, first, count, axis=axis)
            lengths = [(0, size - count if i == axis and rows.filled else 0) for i in range(a.ndim)]
            return taken if count == size else jnp.pad(taken, lengths, constant_values=fill)

        return step(some, state)

    if n >= size:
        state = lax.fori_loop(0, n // size, lambda i, state: of(i * size, size, state), state)
    return of(n - n % size, n % size, state) if n % size else state


def _length(n: int, rows: Rows) -> int:
    """The number of rows of a product; of a few rows one that they have with gaps behind them too."""
    return few_lengths(n) if rows.filled and n <= rows.multiplied else rows.multiplied
