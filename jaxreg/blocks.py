"""Blocks of data sets, one after the other through the device."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.gather import tile_columns
from jaxreg.inputs import ALIGNMENT, Data, Source
from jaxreg.precision import in_own_precision

BLOCK_BYTES = 2**26  # of a block that is copied: far more than a dispatch costs, far less than memory
WORKERS = 2  # one block is read while the other is worked on

Result = TypeVar("Result")


@in_own_precision
def over_columns(
    function: Callable[[Data], Result], source: Source, block_size: int | np.integer | str, progress: bool
) -> Result:
    """`function` of all data sets, in blocks, put together along the axes of the data sets."""
    m = math.prod(source.batch)
    size = _block_size(source, block_size)
    size = -(-m // -(-m // size))  # as many blocks, of equal size
    starts = [min(start, m - size) for start in range(0, m, size)]
    if len(starts) == 1:
        return function(source.data())
    read = _reader(source, size)

    compiled = threading.Event()

    def block(start: int) -> Result:
        data = read(start)
        if start != starts[0]:
            compiled.wait()  # or both workers would compile the same
        try:
            result = function(data)
        finally:
            compiled.set()
        return jax.block_until_ready(result)

    whole = None
    for start, part in zip(starts, _watched(_ahead(block, starts), len(starts), progress), strict=True):
        whole = _empty(part, m) if whole is None else whole
        whole = _placed(whole, part, np.int32(start))
    return _shaped(whole, source.batch)


def _reader(source: Source, size: int) -> Callable[[int], Data]:
    """A block by its first column: a view of what can be read in place, a copy of what cannot."""
    if source.is_readable_in_place:
        data = replace(source.data(), batch=(size,))
        return lambda start: replace(data, first=np.int32(start))
    buffers = threading.local()

    def staged(name: str, a: Any) -> Any:
        """A copy where the last block was, which spares the operating system's fresh pages."""
        if not isinstance(a, np.ndarray) or a.nbytes < BLOCK_BYTES // 64:
            return a
        buffer = getattr(buffers, name, None)
        if buffer is None:
            buffer = _aligned(a.shape, a.dtype)
            setattr(buffers, name, buffer)
        np.copyto(buffer, a)
        return buffer

    def read(start: int) -> Data:
        data = source.columns(start, start + size)
        changes = {name: staged(name, getattr(data, name)) for name in ("x", "y", "weights")}
        return replace(data, **changes)

    return read


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array that compiled code reads in place."""
    count = math.prod(shape) * dtype.itemsize
    memory = np.empty(count + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + count].view(dtype).reshape(shape)


def _ahead(function: Callable[[int], Result], starts: list[int]) -> Iterator[Result]:
    """The blocks in order, a few of them under way; an error stops those that have not begun."""
    context = _thread_context()

    def work(start: int) -> Result:
        with context():
            return function(start)

    waiting = iter(starts)
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="jaxreg") as pool:
        under_way: list[Future] = [pool.submit(work, start) for start in islice(waiting, WORKERS)]
        try:
            while under_way:
                result = under_way.pop(0).result()
                under_way += [pool.submit(work, start) for start in islice(waiting, 1)]
                yield result
        finally:
            pool.shutdown(cancel_futures=True)


def _thread_context() -> Callable[[], ExitStack]:
    """JAX's settings belong to a thread: those of this one, for another."""
    wide, device = jax.config.jax_enable_x64, jax.config.jax_default_device  # pyright: ignore

    def enter() -> ExitStack:
        entered = ExitStack()
        entered.enter_context(jax.enable_x64(wide))
        entered.enter_context(jax.default_device(device))
        return entered

    return enter


def _empty(part: Result, m: int) -> Result:
    return jax.tree.map(lambda a: jnp.zeros((*a.shape[:-1], m), a.dtype), part)


@partial(jax.jit, donate_argnums=0)
def _placed(whole: Result, part: Result, start: Array) -> Result:
    """The whole with a part in its place; the last part overlaps the one before."""
    return jax.tree.map(lambda a, b: lax.dynamic_update_slice_in_dim(a, b, start, axis=-1), whole, part)


@partial(jax.jit, static_argnums=1)
def _shaped(whole: Result, batch: tuple[int, ...]) -> Result:
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *batch), whole)


def _block_size(source: Source, block_size: int | np.integer | str) -> int:
    if not isinstance(block_size, str):
        return int(block_size)
    if any(isinstance(a, Tracer) for a in (source.x, source.y, source.weights)):
        return math.prod(source.batch)
    if source.is_readable_in_place:  # as many as stay in cache while they are solved
        return tile_columns(source.ansatz, source.x, source.x_is_shared)
    return max(1, BLOCK_BYTES // source.bytes_per_column)


def _watched(parts: Iterator[Result], count: int, progress: bool) -> Iterator[Result]:
    if not progress:
        return parts
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError('progress=True needs tqdm: python -m pip install "jaxreg[cli]"') from None
    return iter(tqdm(parts, unit="block", total=count))
