"""The eager caller: data sets are read and computed block by block, and the results concatenated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxreg.data.source import Columns, Source
from jaxreg.engine.memory import data_sets_at_once, out_of_memory
from jaxreg.engine.tiles import aligned_empty, thread_context, unbroadcast_columns
from jaxreg.numerics.precision import float64

BLOCK_BYTES = 2**26  # of a block that is read: large enough to hide its overhead, small beside the memory
BLOCK_COLUMNS = 2**20  # of a block of data that are used in place

ComputeBlock = Callable[[Columns, int, int], Any]


def in_blocks(
    compute_block: ComputeBlock,
    source: Source,
    block_size: int | np.integer | str,
    progress: bool,
    state_size: int = 0,
) -> Any:
    """The results for all data sets, with the batch axes of the data.

    Args:
        compute_block: a function (columns, first, last) for the columns first to last.
        source: of the columns.
        block_size: columns of a block, or "auto".
        progress: whether to show a progress bar.
        state_size: numbers per data set that a robust covariance keeps while it sums.
    """
    count = _even(source, min(source.number, _block_columns(source, block_size, state_size)))
    try:
        with float64():  # float64 sums are passed from one program to the next
            results = _concatenate_blocks(compute_block, source, count, progress)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise MemoryError(out_of_memory(source, count)) from None

    def to_output(a: Any) -> Any:
        output = a.reshape((*a.shape[:-1], *source.batch)) if len(source.batch) != 1 else a
        if isinstance(a, jax.Array) or unbroadcast_columns(a) is not a:
            return output
        stays_numpy = a.dtype == np.float64 and not jax.config.read("jax_enable_x64")
        return output if stays_numpy else jax.device_put(output)

    return jax.tree.map(to_output, results)


def _concatenate_blocks(compute_block: ComputeBlock, source: Source, count: int, progress: bool) -> Any:
    """The results of all blocks, with the data sets on the last axis."""
    m = source.number
    starts = list(range(0, m, count))
    if not source.is_on_host:  # the last block may overlap the one before
        starts = [min(start, m - count) for start in starts]
    results = with_progress_bar(_block_results(compute_block, source, starts, count), len(starts), progress)
    if len(starts) == 1:
        return next(results)
    if not source.is_on_host:
        *blocks, last = results
        new = len(blocks) * count - starts[-1]
        blocks.append(jax.tree.map(lambda a: a[..., new:], last))
        return jax.tree.map(lambda *a: jnp.concatenate(a, axis=-1), *blocks)
    output: Any = None
    for start, result in zip(starts, results, strict=True):
        if output is None:
            output = jax.tree.map(lambda a: aligned_empty((*a.shape[:-1], m), a.dtype), result)
        jax.tree.map(partial(_copy_columns, start), output, result)
    return output


def _even(source: Source, count: int) -> int:
    """The size of blocks of about `count`.

    On devices all have one size, since each size compiles a program, and every device has an equal share.
    """
    if source.is_on_host:
        return count
    m, devices = source.number, max(1, len(source.devices))
    blocks = -(-m // count)
    share = -(-m // (blocks * devices))
    if share * devices > m:  # two blocks overlap by less
        share = -(-m // ((blocks + 1) * devices))
    return share * devices


def _to_devices(source: Source, columns: Columns) -> Columns:
    """The columns on the device that computes, or divided among several."""
    if len(source.devices) < 2:
        return jax.device_put(columns, source.device)
    mesh = Mesh(np.array(source.devices), ("data_sets",))

    def put(a: Any) -> Any:
        axes = (*(None,) * (a.ndim - 1), "data_sets" if a.shape[-1] > 1 else None)
        return jax.device_put(a, NamedSharding(mesh, PartitionSpec(*axes)))

    return jax.tree.map(put, columns)


def _copy_columns(start: int, output: np.ndarray, result: np.ndarray) -> None:
    output[..., start : start + result.shape[-1]] = result


def _block_results(
    compute_block: ComputeBlock, source: Source, starts: list[int], count: int
) -> Iterator[Any]:
    """The result of each block; the next block is read, and copied to the device, while one is computed."""
    m = source.number
    if source.is_in_place:
        columns = source.columns(0, m)
        for start in starts:
            yield compute_block(columns, start, min(start + count, m))
        return
    context = thread_context()

    def read(start: int) -> Columns:
        with context():
            columns = source.columns(start, min(start + count, m))
            return columns if source.is_on_host else _to_devices(source, columns)

    with ThreadPoolExecutor(1, thread_name_prefix="jaxreg") as reader:
        following = iter([*starts[1:], None])
        next_block = reader.submit(read, starts[0])
        for start in following:
            columns = next_block.result()
            if start is not None:
                next_block = reader.submit(read, start)
            result = compute_block(columns, 0, columns.y.shape[-1])
            if not source.is_on_host:  # else blocks would be read while others wait for the device
                jax.block_until_ready(result)
            yield result


def _block_columns(source: Source, block_size: int | np.integer | str, state_size: int) -> int:
    if not isinstance(block_size, str):
        return int(block_size)
    if not source.is_on_host:
        return data_sets_at_once(source, state_size)
    if source.is_in_place:
        return BLOCK_COLUMNS
    return max(1, BLOCK_BYTES // source.bytes_per_column)


def with_progress_bar(results: Iterator[Any], count: int, progress: bool) -> Iterator[Any]:
    """The results of `count` blocks, with a bar on the terminal if progress is to be shown."""
    if not progress:
        return results
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError('progress=True needs tqdm: python -m pip install "jaxreg[cli]"') from None
    return iter(tqdm(results, unit="block", total=count))
