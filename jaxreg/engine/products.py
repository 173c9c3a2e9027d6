"""Sums over the observations as matrix products of a tile of rows at a time.

On the CPU the last bits of a product depend on its shape, and in many shapes on the position of a column. The
eager caller therefore pads all its products to one number of rows and of columns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array
from jaxreg.engine.rows import Rows, padded_length

TILE_COLUMNS = 1024  # columns of a product of an eager caller

State = TypeVar("State")


def product(a: Array, b: Array) -> Array:
    """The matrix product of (i, k) and (k, m), in full precision on every platform."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def over_row_tiles(
    n: int, rows: Rows, step: Callable[[Callable[..., Array], State], State], state: State
) -> State:
    """Loop `step(tile, state)` over n rows; `tile(a, axis=0, fill=0)` slices the rows of one tile from a."""
    length = _tile_length(n, rows)

    def step_at(first: Any, count: int, state: State) -> State:
        def tile(a: Array, axis: int = 0, fill: float = 0) -> Array:
            a_tile = lax.dynamic_slice_in_dim(a, first, count, axis=axis)
            padding = [(0, length - count if i == axis and rows.padded else 0) for i in range(a.ndim)]
            return a_tile if count == length else jnp.pad(a_tile, padding, constant_values=fill)

        return step(tile, state)

    if n >= length:
        state = lax.fori_loop(0, n // length, lambda i, state: step_at(i * length, length, state), state)
    return step_at(n - n % length, n % length, state) if n % length else state


def _tile_length(n: int, rows: Rows) -> int:
    """The number of rows of a product; the same for few rows and for those padded by `padded_length`."""
    return padded_length(n) if rows.padded and n <= rows.multiplied else rows.multiplied
