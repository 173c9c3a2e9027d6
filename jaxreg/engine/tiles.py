"""Tiles: some columns of NumPy arrays at a time through compiled programs of few shapes, on two threads.

XLA runs a loop over rows on one core: two threads, each with a tile that stays in its cache, use both.
Arrays that compiled code reads in place are not copied; of others a tile is copied to where the last one was.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxreg.numerics.precision import promotion

ALIGNMENT = 64  # bytes: what XLA asks of an array that it reads in place
MIN_WIDTH = 16  # columns: of fewer a compiler makes other code, with other last bits
WORKERS = 2
LARGE = 2**22  # bytes: from here on NumPy asks for large pages

Result = TypeVar("Result")

_compiled: set[int] = set()  # hashes of programs and shapes; a stale one costs a second compilation, no more


class Tile(NamedTuple):
    """Some columns of a tree of arrays.

    Attributes:
        data: arrays with the columns on their last axis, of length 1 where they are shared.
        start: which is the first column, or None if these are all.
        width: how many they are.
    """

    data: Any
    start: Any
    width: int

    @property
    def window(self) -> tuple[Any, int] | None:
        """Start and width, if these are not all columns."""
        return None if self.start is None else (self.start, self.width)


def tiled(
    function: Callable[[Tile], Result],
    data: Any,
    first: int,
    last: int,
    width: int,
    *,
    program: Hashable,
    fixed: bool = False,
    threads: int = WORKERS,
    in_one_piece: bool = False,
) -> Result:
    """`function` of the columns first to last, put together in NumPy arrays along the last axis.

    Args:
        function: of a tile to a tree of arrays with its columns on their last axis, or of length 1 there.
        data: a tree of NumPy arrays, (…, m) or (…, 1).
        first: column.
        last: column behind the last.
        width: of a tile; fewer columns are rounded up to a power of two, with copies of the last.
        fixed: whether they are rounded up to the width, where others give other last bits.
        program: what `function` runs; of each the first tile runs alone, as two threads would compile twice.
        threads: on how many.
        in_one_piece: whether the arrays share their memory, for what lives and dies together.
    """
    m = last - first
    if m <= width:
        padded = width if fixed else rounded_up(m)
        tile = Tile(jax.tree.map(partial(_padded, first=first, last=last, width=padded), data), None, padded)
        return jax.tree.map(lambda a: np.asarray(a)[..., :m], function(tile))
    in_place = all(_is_in_place(a) for a in jax.tree.leaves(data) if a.shape[-1] > 1)
    starts = [min(start, last - width) for start in range(first, last, width)]
    buffers = threading.local()
    whole: list[Any] = []
    lock = threading.Lock()

    def work(start: int) -> None:
        if in_place:
            tile = Tile(data, np.int32(start), width)
        else:
            tile = Tile(_staged(buffers, data, start, width), None, width)
        part = jax.block_until_ready(function(tile))
        with lock:
            if not whole:
                whole.append(_room_for(part, m, in_one_piece=in_one_piece))

        def place(a: np.ndarray, b: Any) -> None:
            if a.shape[-1] > 1:
                a[..., start - first : start - first + width] = np.asarray(b)

        jax.tree.map(place, whole[0], part)

    if threads == 1:
        for start in starts:
            work(start)
        return whole[0]
    compiled = hash((program, width, in_place, *((a.shape, str(a.dtype)) for a in jax.tree.leaves(data))))
    if compiled not in _compiled:
        work(starts.pop(0))
        _compiled.add(compiled)
    context = thread_context()

    def in_context(start: int) -> None:
        with context():
            work(start)

    with ThreadPoolExecutor(threads, thread_name_prefix="jaxreg") as pool:
        list(pool.map(in_context, starts))
    return whole[0]


def cut(tile: Tile) -> Any:
    """The columns of a tile, as views."""
    if tile.start is None:
        return tile.data
    columns = slice(int(tile.start), int(tile.start) + tile.width)
    return jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., columns], tile.data)


def picked(data: Any, ids: np.ndarray) -> Any:
    """Some columns of a tree of arrays; a single one twice, for an array of one column is a shared one."""
    ids = np.repeat(ids, 2) if len(ids) == 1 else ids
    return jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., ids], data)


def between(data: Any, first: int, last: int) -> Any:
    """The columns from first to last of a tree of arrays, in which one column is what all share."""
    return jax.tree.map(lambda a: a if a.shape[-1] == 1 else a[..., first:last], data)


def seen_by_all(m: int, a: np.ndarray) -> np.ndarray:
    """What is the same for all, in one place: of 32 columns the covariance is 2 KB."""
    return a if a.shape[-1] == m else np.broadcast_to(a, (*a.shape[:-1], m))


def one_if_shared(a: np.ndarray) -> np.ndarray:
    """One column of an array in which all are the same memory."""
    return a[..., :1] if a.shape[-1] > 1 and a.strides[-1] == 0 else a


def rounded_up(count: int, least: int = MIN_WIDTH) -> int:
    """The next power of two."""
    return max(least, 1 << (count - 1).bit_length())


def empty(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array that compiled code reads in place."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def thread_context() -> Callable[[], ExitStack]:
    """JAX's settings belong to a thread: those of this one, for another."""
    wide, device = jax.config.jax_enable_x64, jax.config.jax_default_device  # pyright: ignore
    rank, dtype = promotion()

    def enter() -> ExitStack:
        entered = ExitStack()
        entered.enter_context(jax.enable_x64(wide))
        entered.enter_context(jax.default_device(device))
        entered.enter_context(jax.numpy_rank_promotion(rank))
        entered.enter_context(jax.numpy_dtype_promotion(dtype))
        return entered

    return enter


def _room_for(part: Any, m: int, *, in_one_piece: bool) -> Any:
    """Arrays for m columns like those of a part, and what is shared."""
    leaves, tree = jax.tree.flatten(part)
    arrays = [np.array(a) if a.shape[-1] == 1 else ((*a.shape[:-1], m), np.dtype(a.dtype)) for a in leaves]
    missing = [a for a in arrays if isinstance(a, tuple)]
    made = iter(_in_one_piece(missing) if in_one_piece else [empty(*a) for a in missing])
    return jax.tree.unflatten(tree, [next(made) if isinstance(a, tuple) else a for a in arrays])


def _in_one_piece(arrays: list[tuple[tuple[int, ...], np.dtype]]) -> list[np.ndarray]:
    """Empty arrays in one allocation: large pages come ten times faster than as many small ones."""
    sizes = [-(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT for shape, dtype in arrays]
    memory = empty((max(sum(sizes), LARGE),), np.uint8)
    pieces = np.split(memory[: sum(sizes)], np.cumsum(sizes[:-1]))
    return [
        piece[: math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for piece, (shape, dtype) in zip(pieces, arrays, strict=True)
    ]


def _is_in_place(a: np.ndarray) -> bool:
    return a.flags.c_contiguous and a.ctypes.data % ALIGNMENT == 0


def _padded(a: np.ndarray, first: int, last: int, width: int) -> np.ndarray:
    """The columns from first to last, and copies of the last."""
    if a.shape[-1] == 1:
        return a
    m = last - first
    whole = empty((*a.shape[:-1], width), a.dtype)
    whole[..., :m] = a[..., first:last]
    whole[..., m:] = a[..., last - 1 : last]
    return whole


def _staged(buffers: Any, data: Any, start: int, width: int) -> Any:
    """Copies of some columns where those of the last tile of this thread were, which spares fresh pages."""
    leaves, tree = jax.tree.flatten(data)
    if not hasattr(buffers, "arrays"):
        buffers.arrays = [a if a.shape[-1] == 1 else empty((*a.shape[:-1], width), a.dtype) for a in leaves]
    for buffer, a in zip(buffers.arrays, leaves, strict=True):
        if buffer is not a:
            np.copyto(buffer, a[..., start : start + width])
    return jax.tree.unflatten(tree, buffers.arrays)
