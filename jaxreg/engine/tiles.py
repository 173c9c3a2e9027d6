"""Tiles: columns of NumPy arrays, a few at a time, through compiled programs of few shapes on two threads.

XLA runs a loop over rows on one core: two threads, each with a tile that stays in its cache, use two.
Compiled code reads aligned contiguous arrays in place; tiles of others are copied to a buffer that each
thread reuses.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxreg.numerics.precision import promotion

ALIGNMENT = 64  # bytes; of arrays that XLA reads in place
MIN_WIDTH = 16  # columns; for fewer XLA generates other code, with other last bits
MIN_PARALLEL_WIDTH = 1024  # columns; of fewer a thread would start for less than its own time
THREADS = 2
COPIED_COLUMNS = 64  # at once, from an array that is contiguous along another axis
LARGE_ALLOCATION = 2**22  # bytes; from this size on NumPy asks for large pages

Result = TypeVar("Result")

_compiled: set[int] = set()  # hashes of programs and shapes; a stale one costs at most a compilation


class Tile(NamedTuple):
    """Some columns of a tree of arrays.

    Attributes:
        data: arrays with the columns on their last axis, of length 1 if shared.
        start: the first column, or None if the tile is all of `data`.
        width: the number of columns.
    """

    data: Any
    start: Any
    width: int


def map_tiles(
    function: Callable[[Tile], Result],
    data: Any,
    first: int,
    last: int,
    width: int,
    *,
    program: Hashable,
    fixed_width: bool = False,
    threads: int = THREADS,
    one_allocation: bool = False,
) -> Result:
    """`function` of the columns first to last, tile by tile, in NumPy arrays that concatenate the results.

    Args:
        function: from a tile to a tree of arrays with its columns on their last axis, or of length 1 there.
        data: a tree of NumPy arrays, (…, m) or (…, 1).
        first: the first column.
        last: one past the last column.
        width: of a tile; fewer columns are padded to a power of two with copies of the last.
        fixed_width: whether to pad them to `width`, if other widths give other last bits.
        program: identifies what `function` compiles; the first tile of each runs alone, as two threads would
            compile it twice.
        threads: number of threads.
        one_allocation: whether the results share one allocation, if they have the same lifetime.
    """
    m = last - first
    if m <= width:
        return _map_one_tile(function, data, first, last, width if fixed_width else next_power_of_two(m))
    in_place = all(_is_readable_in_place(a) for a in jax.tree.leaves(data) if a.shape[-1] > 1)
    starts = [min(start, last - width) for start in range(first, last, width)]
    buffers = threading.local()
    results: list[Any] = []
    lock = threading.Lock()

    def run(start: int) -> None:
        if in_place:
            tile = Tile(data, np.int32(start), width)
        else:
            tile = Tile(_copy_to_buffers(buffers, data, start, width), None, width)
        tile_result = jax.block_until_ready(function(tile))
        with lock:
            if not results:
                results.append(_allocate(tile_result, m, one_allocation=one_allocation))

        def copy(a: np.ndarray, b: Any) -> None:
            if a.shape[-1] > 1:
                a[..., start - first : start - first + width] = np.asarray(b)

        jax.tree.map(copy, results[0], tile_result)

    if threads == 1:
        for start in starts:
            run(start)
        return results[0]
    key = hash((program, width, in_place, *((a.shape, str(a.dtype)) for a in jax.tree.leaves(data))))
    if key not in _compiled:
        run(starts.pop(0))
        _compiled.add(key)
    context = thread_context()

    def run_in_context(start: int) -> None:
        with context():
            run(start)

    with ThreadPoolExecutor(threads, thread_name_prefix="jaxreg") as pool:
        list(pool.map(run_in_context, starts))
    return results[0]


def _map_one_tile(function: Callable[[Tile], Result], data: Any, first: int, last: int, width: int) -> Result:
    """`function` of the columns first to last, padded to a tile of this width."""
    pad = partial(pad_columns, first=first, last=last, width=width)
    tile = Tile(jax.tree.map(pad, data), None, width)
    return jax.tree.map(lambda a: np.asarray(a)[..., : last - first], function(tile))


def width_for_all_threads(m: int) -> int:
    """A power of two, so that each thread has a tile of m columns, unless these are few."""
    return max(MIN_PARALLEL_WIDTH, next_power_of_two(m) // THREADS)


def few_widths(count: int, least: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Ranges first to last of `count` columns, and the width to which each is padded.

    Widths are `most`, or `least` times powers of four, so that few programs are compiled; except for the
    least, no more than half of one is padding.
    """
    widths = [least]
    while 4 * widths[-1] < most:
        widths.append(4 * widths[-1])
    widths.append(max(least, most))
    first = 0
    while first < count:
        i = min(bisect_left(widths, count - first), len(widths) - 1)
        if i > 0 and widths[i] > 2 * (count - first):
            i -= 1
        yield first, min(first + widths[i], count), widths[i]
        first += widths[i]


def views(tile: Tile) -> Any:
    """The columns of a tile, as views."""
    if tile.start is None:
        return tile.data
    start = int(tile.start)
    return slice_columns(tile.data, start, start + tile.width)


def select_columns(data: Any, ids: Any) -> Any:
    """Columns of a tree of arrays; a single one twice, since an array of one column would be a shared one."""
    ids = ids.repeat(2) if len(ids) == 1 else ids
    return jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., ids], data)


def slice_columns(data: Any, first: int, last: int) -> Any:
    """The columns first to last of a tree of arrays; arrays of one column are shared."""
    return jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., first:last], data)


def broadcast_columns(m: int, a: np.ndarray) -> np.ndarray:
    """A view of m columns of an array that may have one, shared column; it takes no memory."""
    return a if a.shape[-1] == m else np.broadcast_to(a, (*a.shape[:-1], m))


def unbroadcast_columns(a: np.ndarray) -> np.ndarray:
    """The inverse of `broadcast_columns`."""
    return a[..., :1] if a.shape[-1] > 1 and a.strides[-1] == 0 else a


def next_power_of_two(count: int) -> int:
    """The smallest power of two ≥ count, at least MIN_WIDTH."""
    return max(MIN_WIDTH, 1 << (count - 1).bit_length())


def aligned_empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """`np.empty` with the alignment of arrays that XLA reads in place."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def thread_context() -> Callable[[], ExitStack]:
    """A context that gives another thread JAX's settings of this one; they are thread-local."""
    x64, device = jax.config.jax_enable_x64, jax.config.jax_default_device  # pyright: ignore
    rank, dtype = promotion()

    def enter() -> ExitStack:
        stack = ExitStack()
        stack.enter_context(jax.enable_x64(x64))
        stack.enter_context(jax.default_device(device))
        stack.enter_context(jax.numpy_rank_promotion(rank))
        stack.enter_context(jax.numpy_dtype_promotion(dtype))
        return stack

    return enter


def _allocate(tile_result: Any, m: int, *, one_allocation: bool) -> Any:
    """Empty arrays like those of a tile, with m columns, and copies of shared ones."""
    leaves, tree = jax.tree.flatten(tile_result)
    is_shared = [a.shape[-1] == 1 for a in leaves]
    own = [
        ((*a.shape[:-1], m), np.dtype(a.dtype))
        for a, shared in zip(leaves, is_shared, strict=True)
        if not shared
    ]
    arrays = iter(_allocate_together(own) if one_allocation else [aligned_empty(*a) for a in own])
    return jax.tree.unflatten(
        tree, [np.array(a) if shared else next(arrays) for a, shared in zip(leaves, is_shared, strict=True)]
    )


def _allocate_together(arrays: list[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
    """Empty arrays in one allocation, on large pages, which are provided ten times faster than small ones."""
    sizes = [-(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for shape, dtype in arrays]
    memory = aligned_empty((max(sum(sizes), LARGE_ALLOCATION),), np.uint8)
    pieces = np.split(memory[: sum(sizes)], np.cumsum(sizes[:-1]))
    return [
        piece[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for piece, (shape, dtype) in zip(pieces, arrays, strict=True)
    ]


def _is_readable_in_place(a: np.ndarray) -> bool:
    return a.flags.c_contiguous and a.ctypes.data % ALIGNMENT == 0


def pad_columns(a: np.ndarray, first: int, last: int, width: int) -> np.ndarray:
    """The columns first to last, padded to `width` with copies of the last."""
    if a.shape[-1] == 1:
        return a
    m = last - first
    padded = aligned_empty((*a.shape[:-1], width), a.dtype)
    _copy_columns(padded[..., :m], a[..., first:last])
    padded[..., m:] = a[..., last - 1 : last]
    return padded


def _copy_columns(target: np.ndarray, source: np.ndarray) -> None:
    """Copy arrays of one shape; one whose columns are contiguous is copied a few of them at a time.

    NumPy copies along the last axis of the target, and would read each cache line of the source once for
    every number in it: four times slower for 128 rows.
    """
    columns = COPIED_COLUMNS if abs(source.strides[-1]) > source.itemsize else source.shape[-1]
    for first in range(0, source.shape[-1], columns):
        target[..., first : first + columns] = source[..., first : first + columns]


def _copy_to_buffers(buffers: Any, data: Any, start: int, width: int) -> Any:
    """Copy columns to the buffers of this thread, which are reused as fresh memory pages are slow."""
    leaves, tree = jax.tree.flatten(data)
    if not hasattr(buffers, "arrays"):
        buffers.arrays = [
            a if a.shape[-1] == 1 else aligned_empty((*a.shape[:-1], width), a.dtype) for a in leaves
        ]
    for buffer, a in zip(buffers.arrays, leaves, strict=True):
        if buffer is not a:
            _copy_columns(buffer, a[..., start : start + width])
    return jax.tree.unflatten(tree, buffers.arrays)
