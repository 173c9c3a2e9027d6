"""Sums over the rows as one reduction, which is one kernel on an NVIDIA GPU: the data are read once.

XLA reduces fewer than 32 elements in a loop of each thread, without shared memory. An element is therefore
the sum of several rows, written out; a loop of such kernels reduces many rows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array

MAX_ELEMENTS = 31  # of a reduction without shared memory
MAX_ROWS = 10  # of an element: 10 rows of a million data sets are one kernel, 20 rows often two
MAX_TERMS = 330  # of an element, of all sums together
MAX_SUMS = 38  # a kernel has at most 96 arguments and results, and before its fusion a sum is two of them

# Own and shared arrays of some rows, and which of these are summed, or their weights; None for all.
SomeRows = tuple[Any, Any, "Array | None"]


def reduce_rows(
    own: Any,
    shared: Any,
    seen: Array | None,
    n: int,
    count: int,
    element: Callable[[list[SomeRows]], list[Array]],
) -> list[Array]:
    """Sum over n rows.

    Args:
        own: a pytree of arrays (n, …) of the data sets.
        shared: a pytree of arrays (n, …) that all data sets share, which are computed once.
        seen: which rows are summed, (n, …), or their weights; None for all.
        n: number of rows.
        count: number of sums.
        element: from a list of `SomeRows` to their `count` sums, element by element.
    """
    turns = -(-n // (min(MAX_ELEMENTS, n) * max(1, min(MAX_ROWS, MAX_TERMS // count))))
    length = -(-n // turns)

    def reduce_turn(first: Any, length: int) -> list[Array]:
        # Rows first, first + elements, … are summed to the first element. The last slice may overlap.
        elements = min(MAX_ELEMENTS, length)
        starts = [*range(0, length - elements, elements), length - elements]
        is_new = np.ones(len(starts) * elements, bool)
        is_new[(len(starts) - 1) * elements :][: len(is_new) - length] = False
        of_turn = jax.tree.map(partial(_slices, starts, elements), _slice(first, length, (shared, seen)))
        if seen is not None:
            is_new_row = is_new.reshape(-1, *(1,) * (seen.ndim - 1))
            of_turn = of_turn[0], jnp.where(is_new_row, of_turn[1], jnp.zeros_like(seen, shape=()))
        of_turn = lax.optimization_barrier(of_turn)
        rows = []
        for i, start in enumerate(starts):
            some_shared, is_summed = _slice(i * elements, elements, of_turn)
            if seen is None and not is_new[i * elements :][:elements].all():
                is_summed = jnp.asarray(is_new[i * elements :])
            rows.append((_slice(first + start, elements, own), some_shared, is_summed))
        return _reduce(element(rows))

    start = n - (turns - 1) * length
    total = reduce_turn(0, start)
    if turns == 1:
        return total
    return lax.while_loop(
        lambda loop: loop[0] < n,
        lambda loop: (loop[0] + length, _add(loop[1], reduce_turn(loop[0], length))),
        (jnp.int32(start), total),
    )[1]


def _slice(first: Any, length: int, arrays: Any) -> Any:
    if isinstance(first, int):
        return jax.tree.map(lambda a: a[first : first + length], arrays)
    slice_rows = partial(lax.dynamic_slice_in_dim, allow_negative_indices=False)
    return jax.tree.map(lambda a: slice_rows(a, first, length), arrays)


def _slices(starts: list[int], length: int, a: Array) -> Array:
    return jnp.concatenate([a[start : start + length] for start in starts])


def _reduce(elements: list[Array]) -> list[Array]:
    shape = jnp.broadcast_shapes(*(a.shape for a in elements))
    elements = [jnp.broadcast_to(a, shape) for a in elements]
    return list(lax.reduce(elements, [np.zeros((), a.dtype) for a in elements], _add, (0,)))


def _add(a: list[Array], b: list[Array]) -> list[Array]:
    return [i + j for i, j in zip(a, b, strict=True)]
