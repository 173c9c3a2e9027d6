"""How many rows of the data are worked on at once, which is the platform's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jax import lax


class Rows(NamedTuple):
    """What a platform likes.

    Attributes:
        added: rows that are added up, one by one, before they are added to running sums.
        multiplied: rows of a matrix product.
        has_bits: whether to take floats apart as integers; a TPU cannot, and logarithms cost a GPU nothing.
        filled: whether the last product is filled up with rows of 0, for one with the same bits in any tile.
    """

    added: int
    multiplied: int
    has_bits: bool
    filled: bool = False


# CPU: 2 and 8 added take 1.2 × as long; the float64 copies of 128 rows stay in a cache, and are few for sums
# that they are added to. GPU (H200): beyond 40 added XLA makes many kernels. The bound of the rounding counts
# on sums of 256 rows at most, see `max_added`.
ROWS = {
    "cpu": Rows(added=4, multiplied=128, has_bits=True),
    "default": Rows(added=30, multiplied=256, has_bits=False),
}


def few_lengths(n: int) -> int:
    """n rounded up to one of few numbers: a power of two, or three quarters of one."""
    rows = max(8, 1 << (n - 1).bit_length())
    return rows * 3 // 4 if n <= rows * 3 // 4 and rows > 8 else rows


def by_platform(function: Callable, *args: Any, filled: bool = False) -> Any:
    """`function(*args, rows=...)` with the rows of the platform that it is compiled for."""
    ways = {name: partial(function, rows=rows._replace(filled=filled)) for name, rows in ROWS.items()}
    return lax.platform_dependent(*args, **ways)
