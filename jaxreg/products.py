"""Sums over rows as matrix products, where all data sets share a design of several columns.

With φ_i the rows of the design and m_ij = 1 where y_ij is there, Σ_i m_ij φ_i φ_iᵀ for all data sets j is
the product of the p(p+1)/2 products of columns, the same for all, with the mask. In float64 the products
of float32 data are exact; at n = 300 and p = 9 that takes 0.8 µs a data set, sums row by row 2 µs.

A matrix product gives the same last bits for a column wherever it stands, but not in every width: all
are of one shape, STRIP columns of y and at most CHUNK rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import small, tiles
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.cost import observed
from jaxreg.frame import Frame
from jaxreg.tiles import Sums, Tile

STRIP = 2048  # columns: wider is hardly faster, and wasted on few data sets
CHUNK = 512  # rows
FEWEST = 6  # z_i: for fewer, sums row by row are faster

State = TypeVar("State")
Result = TypeVar("Result")


def apply_to(ansatz: Ansatz, x: Array, x_is_shared: bool) -> bool:
    """Whether products are the way to the sums."""
    return x_is_shared and tiles.size(ansatz, x) >= FEWEST


def sums(ansatz: Ansatz, frame: Frame, tile: Tile) -> Sums:
    """What `tiles.sums` gives."""
    design, finite = design_of(ansatz, frame, tile.x)
    q = design.shape[1] + 1
    row, column = np.tril_indices(q - 1)
    products = design[:, row] * design[:, column]

    def of_strip(strip: Tile, y_center: Array, y_scale: Array) -> tuple[Array, Array]:
        def add(state: Any, first: Array, rows: tuple) -> Any:
            x, y, w = rows
            seen = observed(x, y, w, ansatz)
            weight = jnp.ones((), y.dtype) if w is None else jnp.where(w > 0, w, jnp.nan)
            usable = chunk_of(finite, first, y)[:, None]
            weight = jnp.where(usable, weight, jnp.nan)  # makes a sum NaN, even of 0
            mask = jnp.where(seen, weight, 0).astype(jnp.float64)
            u = mask * ((jnp.where(seen, y, 0).astype(jnp.float64) - y_center) / y_scale)
            A, b = state
            return A + dot(chunk_of(products, first, y), mask), b + dot(chunk_of(design, first, y), u)

        return over_chunks(strip, add, nothing)

    nothing = jnp.zeros((products.shape[1], STRIP)), jnp.zeros((q - 1, STRIP))
    y_frame = (jnp.broadcast_to(a.astype(jnp.float64), tile.width) for a in (frame.y_center, frame.y_scale))
    A, b = over_strips(tile, of_strip, *y_frame)
    counts, square, u = tiles.sums_of_y(ansatz, frame, tile)
    first = counts.weight[None] if ansatz.has_intercept else A[:1]  # Σ w itself
    lower = jnp.concatenate([first, A[1:], b, square[None]])
    return Sums(*counts, lower[small.of_triangle(q)], u)


def design_of(ansatz: Ansatz, frame: Frame, x: Array) -> tuple[Array, Array]:
    """ψ of a shared x, (n, p) in float64, and which of its rows are finite; the others are 0."""
    finite = jnp.isfinite(x[..., 0])
    finite = finite.all(axis=1) if ansatz.x_is_vector else finite
    return jnp.where(finite[:, None], tiles.design(ansatz, frame, x)[..., 0], 0), finite


def over_strips(tile: Tile, function: Callable[..., Result], *columns: Array) -> Result:
    """A function of every strip of a tile and of columns of its width, put together.

    The function gets columns that are STRIP wide, and its result is.
    """

    def strip(start: Array | int) -> Result:
        cut = replace(tile, start=tile.start + jnp.int32(start), width=min(STRIP, tile.width))
        return function(cut, *(lax.dynamic_slice_in_dim(a, start, STRIP, axis=-1) for a in columns))

    if tile.width <= STRIP:
        columns = tuple(_widened(a, 1) for a in columns)
        return jax.tree.map(lambda a: a[..., : tile.width], strip(0))
    return tiles.put_together(strip, tile.width, STRIP)


def over_chunks(tile: Tile, add: Callable[[State, Array, tuple], State], state: State) -> State:
    """`add(state, first, rows)` for at most CHUNK observations at a time, STRIP columns wide."""
    n = tile.y.shape[0]
    count = -(-n // -(-n // CHUNK))

    def step(first: Array, count: int, state: State) -> State:
        x, y, w = tile.rows(first, count)
        return add(state, first, (x, padded(y), w if w is None or w.shape[-1] == 1 else padded(w)))

    whole = n - n % count
    state = lax.fori_loop(0, whole // count, lambda j, state: step(j * count, count, state), state)
    return step(jnp.asarray(whole), n - whole, state) if whole < n else state


def padded(a: Array) -> Array:
    """With columns of 0 to the width of a strip."""
    return _widened(a, 0)


def _widened(a: Array, value: int) -> Array:
    return jnp.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, STRIP - a.shape[-1])], constant_values=value)


def chunk_of(a: Array, first: Array, like: Array) -> Array:
    """The rows of a that belong to a chunk of y."""
    return lax.dynamic_slice_in_dim(a, first, like.shape[0])


def dot(a: Array, b: Array) -> Array:
    """aᵀb, as exact as the dtype is.

    `jnp.matmul` names the dtype of its result, which `vmap` takes for float32 outside of `float64()`.
    """
    return lax.dot_general(a, b, (((0,), (0,)), ((), ())), precision=lax.Precision.HIGHEST)
