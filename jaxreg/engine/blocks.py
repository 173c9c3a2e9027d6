"""The eager caller: data sets are read, computed and put together block by block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.data.source import Columns, Source
from jaxreg.engine.tiles import aligned_empty, thread_context, unbroadcast_columns
from jaxreg.numerics.precision import float64

BLOCK_BYTES = 2**26  # of data that are read: far more than a dispatch costs, far less than memory
DEVICE_BYTES = 2**30  # the same on an accelerator, where a block of another size is another program
BLOCK_COLUMNS = 2**20  # of data that are used where they are

OfBlock = Callable[[Columns, int, int], Any]


def in_blocks(of_block: OfBlock, source: Source, block_size: int | np.integer | str, progress: bool) -> Any:
    """What is found of all data sets, with the axes that they came with.

    Args:
        of_block: what is found of the columns first to last, a function of (columns, first, last).
        source: of the columns.
        block_size: "auto" or how many columns at once.
        progress: whether to show it.
    """
    with float64():  # or arrays of float64 sums would not pass from one program to the next
        whole = _put_together(of_block, source, block_size, progress)

    def finished(a: Any) -> Any:
        of_batch = a.reshape((*a.shape[:-1], *source.batch)) if len(source.batch) != 1 else a
        if isinstance(a, jax.Array) or unbroadcast_columns(a) is not a:
            return of_batch
        stays = a.dtype == np.float64 and not jax.config.read("jax_enable_x64")
        return of_batch if stays else jax.device_put(of_batch)

    return jax.tree.map(finished, whole)


def _put_together(of_block: OfBlock, source: Source, block_size: Any, progress: bool) -> Any:
    """What is found of the blocks, with the data sets on the last axis."""
    m = math.prod(source.batch)
    count = min(m, _block_columns(source, block_size))
    starts = range(0, m, count)
    parts = _watched(_blocks(of_block, source, starts, count, m), len(starts), progress)
    if len(starts) == 1:
        return next(parts)
    if not source.is_on_host:
        return jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1), *parts)
    whole: Any = None
    for start, part in zip(starts, parts, strict=True):
        whole = (
            jax.tree.map(lambda a: aligned_empty((*a.shape[:-1], m), a.dtype), part)
            if whole is None
            else whole
        )
        jax.tree.map(partial(_place, start), whole, part)
    return whole


def _place(start: int, whole: np.ndarray, part: np.ndarray) -> None:
    whole[..., start : start + part.shape[-1]] = part


def _blocks(of_block: OfBlock, source: Source, starts: range, count: int, m: int) -> Iterator[Any]:
    """What is found of the blocks, of which the next is read while one is computed."""
    if source.is_in_place:
        columns = source.columns(0, m)
        for start in starts:
            yield of_block(columns, start, min(start + count, m))
        return
    context = thread_context()

    def read(start: int) -> Columns:
        with context():
            return source.columns(start, min(start + count, m))

    with ThreadPoolExecutor(1, thread_name_prefix="jaxreg") as reader:
        ahead = reader.submit(read, 0)
        for start in starts:
            columns = ahead.result()
            if start + count < m:
                ahead = reader.submit(read, start + count)
            yield of_block(columns, 0, columns.y.shape[-1])


def _block_columns(source: Source, block_size: int | np.integer | str) -> int:
    if not isinstance(block_size, str):
        return int(block_size)
    if source.is_in_place:
        return BLOCK_COLUMNS
    return max(1, (BLOCK_BYTES if source.is_on_host else DEVICE_BYTES) // source.bytes_per_column)


def _watched(parts: Iterator[Any], count: int, progress: bool) -> Iterator[Any]:
    if not progress:
        return parts
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError('progress=True needs tqdm: python -m pip install "jaxreg[cli]"') from None
    return iter(tqdm(parts, unit="block", total=count))
