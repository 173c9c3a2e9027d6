"""The eager caller: data sets are read and computed block by block, and the results concatenated."""

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

BLOCK_BYTES = 2**26  # of a block that is read: large enough to hide its overhead, small beside the memory
DEVICE_BYTES = 2**30  # the same on an accelerator, where each block size compiles a program
BLOCK_COLUMNS = 2**20  # of a block of data that are used in place

ComputeBlock = Callable[[Columns, int, int], Any]


def in_blocks(
    compute_block: ComputeBlock, source: Source, block_size: int | np.integer | str, progress: bool
) -> Any:
    """The results for all data sets, with the batch axes of the data.

    Args:
        compute_block: a function (columns, first, last) for the columns first to last.
        source: of the columns.
        block_size: columns of a block, or "auto".
        progress: whether to show a progress bar.
    """
    with float64():  # float64 sums are passed from one program to the next
        results = _concatenate_blocks(compute_block, source, block_size, progress)

    def to_output(a: Any) -> Any:
        output = a.reshape((*a.shape[:-1], *source.batch)) if len(source.batch) != 1 else a
        if isinstance(a, jax.Array) or unbroadcast_columns(a) is not a:
            return output
        stays_numpy = a.dtype == np.float64 and not jax.config.read("jax_enable_x64")
        return output if stays_numpy else jax.device_put(output)

    return jax.tree.map(to_output, results)


def _concatenate_blocks(compute_block: ComputeBlock, source: Source, block_size: Any, progress: bool) -> Any:
    """The results of all blocks, with the data sets on the last axis."""
    m = math.prod(source.batch)
    count = min(m, _block_columns(source, block_size))
    starts = range(0, m, count)
    results = _with_progress_bar(
        _block_results(compute_block, source, starts, count, m), len(starts), progress
    )
    if len(starts) == 1:
        return next(results)
    if not source.is_on_host:
        return jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1), *results)
    output: Any = None
    for start, result in zip(starts, results, strict=True):
        if output is None:
            output = jax.tree.map(lambda a: aligned_empty((*a.shape[:-1], m), a.dtype), result)
        jax.tree.map(partial(_copy_columns, start), output, result)
    return output


def _copy_columns(start: int, output: np.ndarray, result: np.ndarray) -> None:
    output[..., start : start + result.shape[-1]] = result


def _block_results(
    compute_block: ComputeBlock, source: Source, starts: range, count: int, m: int
) -> Iterator[Any]:
    """The result of each block; the next block is read while one is computed."""
    if source.is_in_place:
        columns = source.columns(0, m)
        for start in starts:
            yield compute_block(columns, start, min(start + count, m))
        return
    context = thread_context()

    def read(start: int) -> Columns:
        with context():
            return source.columns(start, min(start + count, m))

    with ThreadPoolExecutor(1, thread_name_prefix="jaxreg") as reader:
        next_block = reader.submit(read, 0)
        for start in starts:
            columns = next_block.result()
            if start + count < m:
                next_block = reader.submit(read, start + count)
            yield compute_block(columns, 0, columns.y.shape[-1])


def _block_columns(source: Source, block_size: int | np.integer | str) -> int:
    if not isinstance(block_size, str):
        return int(block_size)
    if source.is_in_place:
        return BLOCK_COLUMNS
    return max(1, (BLOCK_BYTES if source.is_on_host else DEVICE_BYTES) // source.bytes_per_column)


def _with_progress_bar(results: Iterator[Any], count: int, progress: bool) -> Iterator[Any]:
    if not progress:
        return results
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError('progress=True needs tqdm: python -m pip install "jaxreg[cli]"') from None
    return iter(tqdm(results, unit="block", total=count))
