"""How many data sets fit into the memory of an accelerator at once."""

from __future__ import annotations

from typing import Any

from jaxreg.data.source import Source
from jaxreg.engine.matrix_sums import MIN_SIZE
from jaxreg.engine.sums import augmented_size

UNKNOWN_BYTES = 2**31  # taken for the free memory of a device that does not tell it
SHARE = 0.8  # of the free memory, beside fragments and other programs
DATA_COPIES = 2  # that a program makes of its data at most: masks, and residuals of a cost
DOUBLE_DOUBLE_BYTES = 120  # of a data set in double-double, for each observation and entry of z


def free_bytes(device: Any) -> int:
    """The free memory of a device."""
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return UNKNOWN_BYTES
    return max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def data_sets_at_once(source: Source, state_size: int = 0) -> int:
    """The number of data sets of a block, all if they fit.

    Args:
        source: of the data.
        state_size: numbers per data set that a robust covariance keeps while it sums.

    With z of q entries a program has about 6 q² + 30 q + 50 numbers for each, in matrix products ten for
    each observation (as a TPU makes them), and copies of its data. Blocks of data that are not on the
    device, or are too many for one block, are copied, the next one ahead.
    """
    q, m = augmented_size(source.ansatz, source.x), source.number
    # A loop has its state twice: before and after a turn.
    numbers = 2 * state_size + 6 * q**2 + 30 * q + 50 + (10 * source.y.shape[0] if q >= MIN_SIZE else 0)
    free = SHARE * free_bytes(source.device) * max(1, len(source.devices))

    def fit(copies: int) -> int:
        return int(free / (8 * numbers + (DATA_COPIES + copies) * source.bytes_per_column))

    if source.is_in_place and m <= fit(0):
        return m
    return max(1, min(m, fit(2)))


def double_double_at_once(n: int, q: int, device: Any) -> int:
    """The number of data sets in double-double at once, a power of two."""
    count = int(SHARE * free_bytes(device) / (DOUBLE_DOUBLE_BYTES * n * q))
    return 1 << max(2, count).bit_length() - 1


def out_of_memory(source: Source, count: int) -> str:
    """The error message for blocks of so many data sets."""
    size = source.bytes_per_column * count / 1e9
    return (
        f"{source.device} ran out of memory with {count} data sets of {size:.3g} GB at once: pass a smaller "
        f"block_size, such as block_size={max(1, count // 4)}"
    )
