"""Sums over the observations as matrix products, of some rows at a time.

On the CPU the last bits of a product depend on its shape, and in many shapes on where a column stands. All
products have one number of rows, and eager callers give them one number of columns, where neither is so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax.numpy as jnp
from jax import lax

from jaxreg._typing import Array

CHUNK = 128  # rows, whose float64 copies stay in a cache; few for sums that they are added to
STRIP = 1024

State = TypeVar("State")


def product(a: Array, b: Array) -> Array:
    """The matrix product of (i, k) and (k, m), with all digits on every platform."""
    return lax.dot_general(a, b, (((1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)


def over_chunks(n: int, step: Callable[[Callable[..., Array], State], State], state: State) -> State:
    """`step(rows, state)` for all: `rows(a, axis=0)` takes some of an array, the last filled up with 0."""

    def some(first: Any, count: int, state: State) -> State:
        def rows(a: Array, axis: int = 0) -> Array:
            taken = lax.dynamic_slice_in_dim(a, first, count, axis=axis)
            fill = [(0, CHUNK - count if i == axis else 0) for i in range(a.ndim)]
            return taken if count == CHUNK else jnp.pad(taken, fill)

        return step(rows, state)

    if n >= CHUNK:
        state = lax.fori_loop(0, n // CHUNK, lambda i, state: some(i * CHUNK, CHUNK, state), state)
    return some(n - n % CHUNK, n % CHUNK, state) if n % CHUNK else state
