"""Sums over the rows of a tile: some columns of the data that are read together.

What makes it fast on a CPU, for n = 300 and float32: four rows at a time are read, each with a slice of
its own, multiplied, masked and added to running sums as long as a row of the tile, one kernel per sum,
which XLA spreads over the cores. Slicing the four rows as one block makes XLA store every product first
(2 × the time), `jnp.sum(axis=0)` is not vectorized (5 ×, jax-ml/jax #25187), one `lax.reduce` for all sums
is scalar (7 ×). More of this in bench/README.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from operator import add, mul
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg import small
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz, Linear
from jaxreg.cost import observed
from jaxreg.frame import Frame
from jaxreg.pytree import pytree, static

ROWS = 4  # read at a time: 2 and 8 take 1.2 times as long
UNROLLED = 10  # the most z_i whose sums are all gathered in one pass: each is a kernel to compile

State = TypeVar("State")
Result = TypeVar("Result")


@pytree
class Tile:
    """Some columns of the data, not yet read; an x or weights of one column are shared."""

    x: Array
    y: Array
    weights: Array | None
    start: Any
    width: int = static()

    def rows(self, first: Array, count: int) -> tuple[Array, Array, Array | None]:
        """Some observations as (count, width) or (count, 1), x as (count, k, …) where it is a vector."""
        return jax.tree.map(partial(self._slice, first, count), (self.x, self.y, self.weights))

    def _slice(self, first: Array, count: int, a: Array) -> Array:
        shared = a.shape[-1] == 1
        start = [first] + [jnp.zeros_like(first)] * (a.ndim - 1)
        if not shared:
            start[-1] = jnp.asarray(self.start, first.dtype)
        return lax.dynamic_slice(a, start, (count, *a.shape[1:-1], 1 if shared else self.width))

    def over_rows(self, step: Callable[[State, list[tuple]], State], state: State) -> State:
        """`step(state, rows)` for ROWS observations at a time, and one at a time for those left."""
        n = self.y.shape[0]

        def steps(state: State, first: int, last: int, size: int) -> State:
            def body(j: Array, state: State) -> State:
                return step(state, [self.rows(first + j * size + k, 1) for k in range(size)])

            return lax.fori_loop(0, (last - first) // size, body, state)

        whole = n - n % ROWS
        return steps(steps(state, 0, whole, ROWS), whole, n, 1)


class Counts(NamedTuple):
    """How many observations of each data set are valid, Σ w and Σ log w of them, (width,)."""

    nobs: Array
    weight: Array
    log_weight: Array


class Sums(NamedTuple):
    """What the counts are, Σ w z zᵀ, (q, q, width), and Σ w u, (width,)."""

    nobs: Array
    weight: Array
    log_weight: Array
    zz: Array
    u: Array


class LogProduct(NamedTuple):
    """The logarithm of a product: mantissas in [1, 2) are multiplied and exponents are added.

    That takes a third of the time of adding logarithms.
    """

    mantissa: Array
    exponent: Array

    @classmethod
    def of_nothing(cls, width: int) -> LogProduct:
        """log 1."""
        return cls(jnp.ones(width, jnp.float64), jnp.zeros(width, jnp.int32))

    def times(self, factors: list[Array]) -> LogProduct:
        """With positive factors: of float32 as many as are read at a time, of float64 one by one."""
        if factors[0].dtype == jnp.float64:
            return reduce(LogProduct._times, factors, self)
        return self._times(reduce(mul, [a.astype(jnp.float64) for a in factors]))

    def _times(self, factor: Array) -> LogProduct:
        bits = lax.bitcast_convert_type(self.mantissa * factor, jnp.int64)
        exponent = (bits >> 52).astype(jnp.int32) - 1023
        mantissa = lax.bitcast_convert_type((bits & (2**52 - 1)) | (1023 << 52), jnp.float64)
        return LogProduct(mantissa, self.exponent + exponent)

    @property
    def value(self) -> Array:
        """log Π."""
        return jnp.log(self.mantissa) + self.exponent * math.log(2)


def even_width(m: int, most: int) -> int:
    """The width of tiles that are as few as can be, and equal."""
    return -(-m // -(-m // most))


def put_together(function: Callable[[Array | int], Result], m: int, width: int) -> Result:
    """`function(start)` of every `width` of m columns, along the last axis; the last may overlap."""
    if width >= m:
        return function(0)

    def step(i: Array, whole: Result) -> Result:
        start = jnp.minimum(i * width, m - width)
        place = partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=-1)
        return jax.tree.map(place, whole, function(start))

    def empty(part: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros((*part.shape[:-1], m), part.dtype)

    whole = jax.tree.map(empty, jax.eval_shape(function, 0))
    return lax.fori_loop(0, -(-m // width), step, whole)


def size(ansatz: Ansatz, x: Array) -> int:
    """How many z_i there are."""
    return 1 + len(ansatz.names(x.shape[1] if ansatz.x_is_vector else 1))


def sums(ansatz: Ansatz, frame: Frame, tile: Tile) -> Sums:
    """The sums over the valid observations, added up in float64 in the order of axis 0."""
    q = size(ansatz, tile.x)
    if q > UNROLLED:
        return _sums_of_many(ansatz, frame, tile, q)

    def terms(z: list[Array], w: Array) -> list[Array]:
        u = z[-1]
        products = [w * (a * b) for i, a in enumerate(z) for b in z[: i + 1]]
        return products[1:] if ansatz.has_intercept else [*products, w * u]  # the first is Σ w itself

    numbers = [()] * (q * (q + 1) // 2 + (-1 if ansatz.has_intercept else 1))
    counts, sums = _added(ansatz, frame, tile, terms, numbers)
    if ansatz.has_intercept:
        zz = small.symmetric([counts.weight, *sums])
        return Sums(*counts, zz, zz[0, -1])
    return Sums(*counts, small.symmetric(sums[:-1]), sums[-1])


def sums_of_y(ansatz: Ansatz, frame: Frame, tile: Tile) -> tuple[Counts, Array, Array]:
    """The counts, Σ w u² and Σ w u."""

    def terms(z: list[Array], w: Array) -> list[Array]:
        return [w * (z[-1] * z[-1]), w * z[-1]]

    counts, (square, u) = _added(ansatz, frame, tile, terms, [(), ()])
    return counts, square, u


def _sums_of_many(ansatz: Ansatz, frame: Frame, tile: Tile, q: int) -> Sums:
    """The sums of so many z_i that a kernel for each pair of them would take too long to compile."""
    tile, frame = _designed(ansatz, frame, tile)
    ansatz = Linear(intercept=False)

    def of_y(z: list[Array], w: Array) -> list[Array]:
        return [w * (_stacked(z) * z[-1]), w * z[-1]]

    def of_x(z: list[Array], w: Array) -> list[Array]:
        basis = _stacked(z[:-1])
        return [w * (basis[:, None] * basis)]

    counts, (last, u) = _added(ansatz, frame, tile, of_y, [(q,), ()])
    _, (A,) = _added(ansatz, frame, tile, of_x, [(q - 1, q - 1)])
    zz = jnp.concatenate([jnp.concatenate([A, last[:-1, None]], axis=1), last[None]])
    return Sums(*counts, zz, u)


def _designed(ansatz: Ansatz, frame: Frame, tile: Tile) -> tuple[Tile, Frame]:
    """The tile with the basis ψ as its x, (n, p, 1) or (n, p, width), and the frame of y alone."""

    def columns(a: Array) -> Array:
        return a if a.shape[-1] == 1 else lax.dynamic_slice_in_dim(a, tile.start, tile.width, axis=-1)

    x, y, weights = jax.tree.map(columns, (tile.x, tile.y, tile.weights))
    zero = jnp.zeros((), jnp.float64)
    frame_of_y = replace(frame, x_center=zero, x_scale=zero + 1)
    return Tile(design(ansatz, frame, x), y, weights, 0, tile.width), frame_of_y


def design(ansatz: Ansatz, frame: Frame, x: Array) -> Array:
    """ψ(t) of every row of x, (n, p, width), in float64."""
    t, _ = frame.inside(x.astype(jnp.float64), jnp.zeros((), jnp.float64))
    return jnp.stack(jnp.broadcast_arrays(*ansatz.basis(t)), axis=1)


def _stacked(z: list[Array]) -> Array:
    return jnp.stack(jnp.broadcast_arrays(*z))


def _added(
    ansatz: Ansatz,
    frame: Frame,
    tile: Tile,
    terms: Callable[[list[Array], Array], list[Array]],
    shapes: list[tuple[int, ...]],
) -> tuple[Counts, list[Array]]:
    """The counts, and the sums over the valid observations of terms of these shapes.

    Every addition is written out, so that the sum of a column is the same to the last bit whatever
    stands beside it; what is missing is taken out behind the product, which also keeps a compiler from
    contracting product and sum into one rounding in one place and not in another.
    """
    frame = jax.tree.map(lambda a: a.astype(jnp.float64), frame)

    def masked(x: Array, y: Array, w: Array | None) -> tuple[Array, list[Array]]:
        seen = observed(x, y, w, ansatz)
        x, y, w = jax.tree.map(lambda a: a.astype(jnp.float64), (x, y, w))
        found = terms(z(ansatz, frame, x, y), jnp.ones((), jnp.float64) if w is None else w)
        weight = [] if w is None else [jnp.where(w > 0, w, jnp.nan)]  # NaN for an impossible one
        return seen[0], [jnp.where(seen, a, 0)[..., 0, :] for a in (*weight, *found)]

    def step(totals: tuple, rows: list[tuple]) -> tuple:
        nobs, logarithm, sums = totals
        each = [masked(*row) for row in rows]
        nobs += reduce(add, [seen.astype(jnp.int32) for seen, _ in each])
        if tile.weights is not None:
            factors = [jnp.where(seen, row[2][0], 1) for (seen, _), row in zip(each, rows, strict=True)]
            logarithm = logarithm.times(factors)
        return (
            nobs,
            logarithm,
            [s + reduce(add, a) for s, *a in zip(sums, *(a for _, a in each), strict=True)],
        )

    def zeros(*shape: int) -> Array:
        return jnp.zeros((*shape, tile.width), jnp.float64)

    weighted = tile.weights is not None
    logarithm = LogProduct.of_nothing(tile.width) if weighted else None
    start = zeros().astype(jnp.int32), logarithm, [zeros(*s) for s in ([(), *shapes] if weighted else shapes)]
    nobs, logarithm, sums = tile.over_rows(step, start)
    if logarithm is None:
        return Counts(nobs, nobs.astype(jnp.float64), zeros()), sums
    return Counts(nobs, sums[0], logarithm.value), sums[1:]


def z(ansatz: Ansatz, frame: Frame, x: Array, y: Array) -> list[Array]:
    """z = (ψ(t), u) of each observation."""
    t, u = frame.inside(x, y)
    return [*ansatz.basis(t), u]


def _widened(ends: tuple[Array, Array], a: Array, seen: Array) -> tuple[Array, Array]:
    low, high = ends
    a_low, a_high = (jnp.where(seen, a, end)[0] for end in (jnp.inf, -jnp.inf))
    return jnp.minimum(low, a_low), jnp.maximum(high, a_high)


def x_range(tile: Tile) -> tuple[Array, Array]:
    """(lowest, highest) of x over all its finite values, (1,) or (width,), (k, …) of vectors."""

    def step(ends: tuple[Array, Array], rows: list[tuple]) -> tuple[Array, Array]:
        for x, *_ in rows:
            ends = _widened(ends, x, jnp.isfinite(x))
        return ends

    width = 1 if tile.x.shape[-1] == 1 else tile.width
    start = jnp.full((*tile.x.shape[1:-1], width), jnp.inf, tile.x.dtype)
    return tile.over_rows(step, (start, -start))
