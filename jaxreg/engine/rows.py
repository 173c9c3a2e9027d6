"""The number of rows of the data that are processed at once, which depends on the platform."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jax import lax


class Rows(NamedTuple):
    """Numbers of rows that make fast programs on a platform.

    Attributes:
        unrolled: rows that the body of a loop adds up before it adds them to running sums.
        multiplied: rows of a matrix product.
        has_bits: whether to split floats into exponent and mantissa as integers: impossible on a TPU, and no
            faster than logarithms on a GPU.
        padded: whether rows of 0 pad the last product, which gives it the same last bits in any tile.
    """

    unrolled: int
    multiplied: int
    has_bits: bool
    padded: bool = False


# CPU: 2 or 8 unrolled rows take 1.2 × as long; float64 copies of 128 rows stay in cache, and are many enough
# that adding their product to the sums costs little. GPU (H200): beyond 40 unrolled rows XLA makes many
# kernels. The bound of the rounding assumes products of at most 256 rows, see `max_roundings`.
ROWS = {
    "cpu": Rows(unrolled=4, multiplied=128, has_bits=True),
    "default": Rows(unrolled=30, multiplied=256, has_bits=False),
}


def padded_length(n: int) -> int:
    """n rounded up to a power of two or three quarters of one: few lengths compile few programs."""
    length = max(8, 1 << (n - 1).bit_length())
    return length * 3 // 4 if n <= length * 3 // 4 and length > 8 else length


def by_platform(function: Callable, *args: Any, padded: bool = False) -> Any:
    """`function(*args, rows=...)` with the `Rows` of the platform that it is compiled for."""
    branches = {name: partial(function, rows=rows._replace(padded=padded)) for name, rows in ROWS.items()}
    return lax.platform_dependent(*args, **branches)
