"""Blocks of data sets, one after the other through the device."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.inputs import Data
from jaxreg.precision import in_own_precision

BLOCK_BYTES = 2**27  # of y in a block of "auto": far more than a dispatch costs, far less than memory

Result = TypeVar("Result")


def over_columns(
    function: Callable[[Data], Result], data: Data, block_size: int | str, progress: bool
) -> Result:
    """`function` of all data sets, in blocks, put together along the axes of the data sets."""
    m = data.y.shape[1]
    size = min(m, _block_size(data, block_size))
    starts = [min(start, m - size) for start in range(0, m, size)]
    if len(starts) == 1:
        return function(data)
    parts = []
    for start in _watched(starts, progress):
        parts.append(function(_columns(data, start, size)))
        jax.block_until_ready(parts[-1])  # or all blocks would be on their way to the device at once
    return _join(parts, m, data.batch)


@in_own_precision
@partial(jax.jit, static_argnums=(1, 2))
def _join(parts: list[Result], m: int, batch: tuple[int, ...]) -> Result:
    """The blocks side by side; the last one starts early enough to be whole and overlaps."""

    def join(*leaves: Array) -> Array:
        before = jnp.concatenate(leaves[:-1], axis=-1)
        missing = m - before.shape[-1]
        whole = jnp.concatenate([before, leaves[-1][..., -missing:]], axis=-1)
        return whole.reshape(*whole.shape[:-1], *batch)

    return jax.tree.map(join, *parts)


def _block_size(data: Data, block_size: int | str) -> int:
    if not isinstance(block_size, str):
        return block_size
    if isinstance(data.y, jax.Array):  # it is on the device, or traced: nothing is saved by blocks
        return data.y.shape[1]
    bytes_per_column = data.y.shape[0] * data.y.dtype.itemsize
    return max(1, BLOCK_BYTES // bytes_per_column)


def _columns(data: Data, start: int, size: int) -> Data:
    def cut(a: Any) -> Any:
        return a[..., start : start + size]

    return replace(
        data,
        x=data.x if data.x_is_shared else cut(data.x),
        y=cut(data.y),
        weights=data.weights if data.weights is None or data.weights.ndim == 1 else cut(data.weights),
        batch=(size,),
    )


def _watched(starts: list[int], progress: bool) -> Iterable[int]:
    if not progress:
        return starts
    try:
        from tqdm import tqdm
    except ModuleNotFoundError:
        raise ModuleNotFoundError('progress=True needs tqdm: python -m pip install "jaxreg[cli]"') from None
    return tqdm(starts, unit="block")
