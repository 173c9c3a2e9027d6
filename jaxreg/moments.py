"""One pass over the columns: the moments that every answer is a function of, for all data sets at once.

With z = (ψ(t), u), the basis of the ansatz and the response in the frame of the data set, the cost of a
linear ansatz is S(c) = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ: the data enter through the averages G = ⟨z zᵀ⟩ alone.

This is the only room that knows about tiles and layout. What makes it fast on a CPU, n = 300, float32:
- Four rows at a time are read, each with a slice of its own, multiplied, masked and added to running
  sums as long as a row of the tile: one kernel per sum, which XLA spreads over the cores. Slicing the
  four rows as one block makes XLA store every product first (2 × the time), `jnp.sum(axis=0)` is not
  vectorized (5 ×, jax-ml/jax #25187), one `lax.reduce` for all sums is scalar (7 ×).
- Products of float32 data are exact in float64, which costs no more than float32 with centered data:
  the data are read once, raw, and centered afterwards (`_quick`). The few data sets that this costs
  digits, with far offsets or tiny residuals, are gathered again in a frame of their own (`_careful`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import frame as frames
from jaxreg import inputs, pair, small
from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.ansatz import Ansatz, Line, Linear
from jaxreg.cost import observed
from jaxreg.frame import Frame, power_of_two
from jaxreg.inputs import Data
from jaxreg.normal_equations import rank_tolerance, solve
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import pytree, static, tangent

ROWS = 4  # read at a time: 2 and 8 take 1.2 times as long
TILE_COLUMNS = 2**16  # of a line: enough for every core, few enough that the running sums stay in cache
LEAST_COLUMNS = 256
UNROLLED = 10  # the most z_i whose sums are all gathered in one pass: each is a kernel to compile
ENOUGH = 2.0**-28  # relative error of a float32 answer that is not worth a second look

State = TypeVar("State")


@pytree
class Moments:
    """Averages over the valid observations of each data set; `a + b` merges those of two halves.

    Attributes:
        nobs: how many observations are valid, (*batch).
        weight: Σ w, equal to nobs without weights, (*batch).
        G: ⟨z zᵀ⟩ in the frame, (p + 1, p + 1, *batch), to twice the digits of the data.
        frame: what t and u are in units of x and y.
        invalid: whether an observation was infinite or had an impossible weight, (*batch).
        ansatz: whose basis it is.

    >>> m = moments(jnp.array([0.0, 1.0, 0.0, 3.0]), jnp.array([1.0, 2.0, 3.0, 18.0]))
    >>> print(m.gram)  # [[1, ⟨x⟩], [⟨x⟩, ⟨x²⟩]]
    [[1.  1. ]
     [1.  2.5]]
    >>> print(m.cross)  # [⟨y⟩, ⟨xy⟩]
    [ 6. 14.]
    """

    nobs: Int[Array, "*batch"]
    weight: Float[Array, "*batch"]
    G: Pair
    frame: Frame
    invalid: Bool[Array, "*batch"]
    ansatz: Ansatz = static()

    @property
    def gram(self) -> Float[Array, "p p *batch"]:
        """A = ⟨φ φᵀ⟩ in the units of the data."""
        return self._in_data_units().value[:-1, :-1]

    @property
    def cross(self) -> Float[Array, "p *batch"]:
        """b = ⟨φ y⟩ in the units of the data."""
        return self._in_data_units().value[:-1, -1]

    @property
    def square(self) -> Float[Array, "*batch"]:
        """⟨y²⟩ in the units of the data."""
        return self._in_data_units().value[-1, -1]

    @in_own_precision
    @jax.jit
    def _in_data_units(self) -> Pair:
        p = self.G.hi.shape[0] - 1
        features_in_basis = np.eye(p + 1)
        features_in_basis[:p, :p] = np.linalg.inv(self.ansatz.basis_in_features(p))
        inside = _seen_from(self, frames.data_units(self.frame))
        return pair.congruence(frames.constant(features_in_basis, inside), inside)

    @in_own_precision
    @jax.jit
    def __add__(self, other: Moments) -> Moments:
        """The moments of the observations of both."""
        if self.ansatz != other.ansatz:
            raise ValueError(f"moments of {self.ansatz} and of {other.ansatz} do not add")
        a, b, ansatz = self, other, self.ansatz
        frame = frames.union(a.frame, a.nobs > 0, b.frame, b.nobs > 0, ansatz)
        weight = a.weight + b.weight
        safe = jnp.where(weight > 0, weight, 1)
        G = _seen_from(a, frame) * a.weight / safe + _seen_from(b, frame) * b.weight / safe
        return Moments(a.nobs + b.nobs, weight, G, frame, a.invalid | b.invalid, ansatz)


def moments(x: Any, y: Any, weights: Any = None, *, ansatz: Ansatz = Line()) -> Moments:
    """The moments of every data set, in one pass over the data.

    ⟨a⟩ = Σ w a / Σ w over the valid observations of a data set: those at which neither x nor y is NaN
    and the weight is not 0. The sums are carried to twice the digits of the data.

    Args:
        x: (n,) shared or (n, *batch) own; (n, k) or (n, k, *batch) where the ansatz takes vectors.
        y: (n, *batch), data sets behind the observations; its dtype decides, as in `fit`.
        weights: inverse variances, (n,) shared or (n, *batch) own.
        ansatz: whose features φ are averaged.

    Returns:
        `Moments`, differentiable in x, y and weights. Data sets with an infinite value or an impossible
        weight are marked `invalid`.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit together.
    """
    return of_columns(inputs.source(x, y, weights, None, "omit", ansatz).data(), ansatz)


@in_own_precision
@partial(jax.jit, static_argnums=1)
def of_columns(data: Data, ansatz: Ansatz) -> Moments:
    """The moments of data that were checked, in the shape that the data sets came in."""
    x = data.x[..., None] if data.x_is_shared else data.x
    weights = data.weights
    if weights is not None and weights.ndim == 1:
        weights = weights[:, None]
    columns = _gather(ansatz, data.width, x, data.y, weights, data.first)
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *data.batch), columns)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _gather(ansatz: Ansatz, m: int, x: Array, y: Array, weights: Array | None, first: Any) -> Moments:
    """The moments of m columns of y, tile by tile."""
    tiles = -(-m // tile_columns(ansatz, x))
    width = -(-m // tiles)

    def tile(start: Array | int) -> Moments:
        return _tile(ansatz, Tile(x, y, weights, first + jnp.int32(start), width))

    if tiles == 1:
        return tile(0)

    def step(i: Array, whole: Moments) -> Moments:
        start = jnp.minimum(i * width, m - width)  # the last tile may overlap the one before
        place = partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=-1)
        return jax.tree.map(place, whole, tile(start))

    def empty(part: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros((*part.shape[:-1], m), part.dtype)

    whole = jax.tree.map(empty, jax.eval_shape(tile, 0))
    return lax.fori_loop(0, tiles, step, whole)


def tile_columns(ansatz: Ansatz, x: Any) -> int:
    """How many data sets are worked on at once: of as many the sums stay in cache."""
    q = 1 + len(ansatz.names(x.shape[-1] if x.ndim == 1 else x.shape[1]))
    return max(LEAST_COLUMNS, TILE_COLUMNS * 12 // (q * (q + 1)))


@_gather.defjvp
def _gather_jvp(ansatz: Ansatz, m: int, primals: tuple, tangents: tuple) -> tuple[Moments, Moments]:
    """In a frame that stays where it is, moments are plain averages, and so are their derivatives."""
    found = _gather(ansatz, m, *primals)
    frame = jax.tree.map(lax.stop_gradient, found.frame)
    *data, first = primals

    def averages(*data: Array | None) -> tuple[Array, Array]:
        def columns(a: Array) -> Array:
            return a if a.shape[-1] in (1, m) else lax.dynamic_slice_in_dim(a, first, m, axis=-1)

        return _averages(ansatz, frame, *jax.tree.map(columns, data))

    _, (weight, G) = jax.jvp(averages, tuple(data), tuple(tangents[:-1]))
    return found, tangent(found, weight=weight, G=tangent(found.G, hi=G))


def _averages(ansatz: Ansatz, frame: Frame, x: Array, y: Array, weights: Array | None) -> tuple[Array, Array]:
    """Σ w and G in a given frame, the definition of what `_tile` computes."""
    seen = observed(x, y, weights, ansatz)
    x, y, weights = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, 0), (x, y, weights))
    w = jnp.where(seen, 1 if weights is None else weights, 0).astype(y.dtype)
    z = [jnp.where(seen, a, 0) for a in _z(ansatz, frame, x, y)]
    weight = jnp.sum(w, axis=0)
    safe = jnp.where(weight > 0, weight, 1)
    rows = [jnp.stack([jnp.sum(w * a * b, axis=0) / safe for b in z]) for a in z]
    return weight, jnp.stack(rows)


@pytree
class Tile:
    """Some columns of the data, not yet read; an x or weights of one column are shared."""

    x: Array
    y: Array
    weights: Array | None
    start: Any
    width: int = static()

    def row(self, i: Array) -> tuple[Array, Array, Array | None]:
        """Observation i as (1, width) or (1, 1), x as (1, k, …) where it is a vector."""
        return jax.tree.map(partial(self._slice, i), (self.x, self.y, self.weights))

    def _slice(self, i: Array, a: Array) -> Array:
        shared = a.shape[-1] == 1
        start = [i] + [jnp.zeros_like(i)] * (a.ndim - 1)
        if not shared:
            start[-1] = jnp.asarray(self.start, i.dtype)
        return lax.dynamic_slice(a, start, (1, *a.shape[1:-1], 1 if shared else self.width))

    def over_rows(self, step: Callable[[State, list[tuple]], State], state: State) -> State:
        """`step(state, rows)` for ROWS observations at a time, and one at a time for those left."""
        n = self.y.shape[0]

        def steps(state: State, first: int, last: int, size: int) -> State:
            def body(j: Array, state: State) -> State:
                return step(state, [self.row(first + j * size + k) for k in range(size)])

            return lax.fori_loop(0, (last - first) // size, body, state)

        whole = n - n % ROWS
        return steps(steps(state, 0, whole, ROWS), whole, n, 1)


def _tile(ansatz: Ansatz, tile: Tile) -> Moments:
    """The moments of the columns of one tile."""
    if tile.y.dtype == jnp.float64:
        return _careful(ansatz, tile)
    found, doubtful = _quick(ansatz, tile)

    def look_again() -> Moments:
        return jax.tree.map(partial(jnp.where, doubtful), _careful(ansatz, tile), found)

    return lax.cond(jnp.any(doubtful), look_again, lambda: found)


def _careful(ansatz: Ansatz, tile: Tile) -> Moments:
    """Two passes: the frame of every data set, then the sums in it, in pairs of float64."""
    dtype = tile.y.dtype
    frame, invalid = _own_frame(ansatz, tile)
    with float64():
        nobs, weight, products = _sums(ansatz, frame, tile, Pair.of(jnp.zeros((), jnp.float64)))
        safe = pair.where(weight.hi > 0, weight, 1.0)
        G = pair.narrow(products / safe, dtype)
        invalid |= ~jnp.isfinite(weight.hi)
        weight = weight.value.astype(dtype)
    return Moments(nobs, weight, G, frame, invalid, ansatz)


def _quick(ansatz: Ansatz, tile: Tile) -> tuple[Moments, Array]:
    """One pass: the sums of the raw float32 data in float64, centered afterwards; and who needs two."""
    dtype = tile.y.dtype
    raw = _raw_frame(ansatz, tile)
    with float64():
        nobs, weight, products = _sums(ansatz, raw, tile, Pair(jnp.zeros((), jnp.float64), None))
        diagonal = [products.hi[i, i] for i in range(products.hi.shape[0])]
        finite = reduce(jnp.logical_and, [jnp.isfinite(a) for a in (weight.hi, *diagonal)])
        safe = jnp.where(weight.hi > 0, weight.hi, 1)
        G0 = products.hi / safe
        frame, center, size = _centered(ansatz, raw, G0)
        mean = G0[:, 0] if ansatz.has_intercept else jnp.zeros_like(G0[:, 0])
        G = G0 - center[:, None] * mean[None] - center[None] * (mean - center)[:, None]
        G = G / (size[:, None] * size[None])
        doubtful = _lost_digits(G0, G, size, nobs) & finite
        weight = weight.hi.astype(dtype)
        G = pair.narrow(Pair(G, None), dtype)
    return Moments(nobs, weight, G, frame, ~finite, ansatz), doubtful


def _sums(ansatz: Ansatz, frame: Frame, tile: Tile, zero: Pair) -> tuple[Array, Pair, Pair]:
    """nobs, Σ w and Σ w z zᵀ in the order of axis 0, added up as what `zero` is."""
    q = 1 + len(ansatz.names(tile.x.shape[1]))
    if q > UNROLLED:
        return _sums_of_many(ansatz, frame, tile, zero, q)

    def triangle(z: list[Array], w: Array) -> list[Array]:
        products = [w * (a * b) for i, a in enumerate(z) for b in z[: i + 1]]
        return products[int(ansatz.has_intercept) :]  # the first is Σ w itself

    numbers = [()] * (q * (q + 1) // 2 - ansatz.has_intercept)
    nobs, sums = _added(ansatz, frame, tile, zero, triangle, numbers)
    weight = _total_weight(tile, zero, nobs, sums)
    return nobs, weight, pair.symmetric([weight, *sums] if ansatz.has_intercept else sums)


def _sums_of_many(ansatz: Ansatz, frame: Frame, tile: Tile, zero: Pair, q: int) -> tuple[Array, Pair, Pair]:
    """The sums of so many z_i that a kernel for each pair of them would take too long to compile.

    Those of a shared design are the same for every data set without gaps, and are gathered once.
    """
    tile, frame = _designed(ansatz, frame, tile)
    ansatz = Linear(intercept=False)

    def of_y(z: list[Array], w: Array) -> list[Array]:
        return [w * (_stacked(z) * z[-1])]

    def of_x(z: list[Array], w: Array) -> list[Array]:
        basis = _stacked(z[:-1])
        return [w * (basis[:, None] * basis)]

    nobs, sums = _added(ansatz, frame, tile, zero, of_y, [(q,)])
    weight = _total_weight(tile, zero, nobs, sums)
    last = sums[0]

    def x_part(tile: Tile, frame: Frame) -> Pair:
        return _added(ansatz, frame, tile, zero, of_x, [(q - 1, q - 1)])[1][-1]

    if tile.x.shape[-1] > 1 or (tile.weights is not None and tile.weights.shape[-1] > 1):
        G = x_part(tile, frame)
    else:
        nothing = jnp.zeros_like(tile.y[:, :1])
        alone = Tile(tile.x, nothing, tile.weights, 0, 1)
        no_y = replace(frame, y_center=nothing[0], y_scale=nothing[0] + 1)
        rows, _ = _added(ansatz, no_y, alone, zero, lambda z, w: [], [])

        def once() -> Pair:
            whole = (q - 1, q - 1, tile.width)
            return x_part(alone, no_y).map(lambda a: jnp.broadcast_to(a, whole))

        G = lax.cond(jnp.all(nobs == rows), once, lambda: x_part(tile, frame))
    G = pair.concatenate([G, last[None, :-1]])
    return nobs, weight, pair.transpose(pair.concatenate([pair.transpose(G), last[None]]))


def _designed(ansatz: Ansatz, frame: Frame, tile: Tile) -> tuple[Tile, Frame]:
    """The tile with the basis ψ as its x, (n, p, 1) or (n, p, width), and the frame of y alone."""

    def columns(a: Array) -> Array:
        return a if a.shape[-1] == 1 else lax.dynamic_slice_in_dim(a, tile.start, tile.width, axis=-1)

    x, y, weights = jax.tree.map(columns, (tile.x, tile.y, tile.weights))
    t = (x.astype(jnp.float64) - frame.x_center) * (1 / frame.x_scale)
    zero = jnp.zeros((), t.dtype)
    design = jnp.stack(ansatz.basis(t), axis=1)
    return Tile(design, y, weights, 0, tile.width), replace(frame, x_center=zero, x_scale=zero + 1)


def _stacked(z: list[Array]) -> Array:
    return jnp.stack(jnp.broadcast_arrays(*z))


def _total_weight(tile: Tile, zero: Pair, nobs: Array, sums: list[Pair]) -> Pair:
    """Σ w, taken from the front of the sums or, without weights, from nobs."""
    return zero + nobs.astype(jnp.float64) if tile.weights is None else sums.pop(0)


def _added(
    ansatz: Ansatz,
    frame: Frame,
    tile: Tile,
    zero: Pair,
    terms: Callable[[list[Array], Array], list[Array]],
    shapes: list[tuple[int, ...]],
) -> tuple[Array, list[Pair]]:
    """nobs, and the sums over the valid observations of terms of these shapes, behind that of w.

    Every addition is written out, so that the sum of a column is the same to the last bit whatever
    stands beside it; what is missing is taken out behind the product, which also keeps a compiler from
    contracting product and sum into one rounding in one place and not in another.
    """
    frame = jax.tree.map(lambda a: a.astype(jnp.float64), frame)

    def masked(x: Array, y: Array, w: Array | None) -> list[Array]:
        seen = observed(x, y, w, ansatz)
        x, y, w = jax.tree.map(lambda a: a.astype(jnp.float64), (x, y, w))
        found = terms(_z(ansatz, frame, x, y), jnp.ones((), jnp.float64) if w is None else w)
        weight = [] if w is None else [jnp.where(w > 0, w, jnp.nan)]  # NaN for an impossible one
        return [seen[0].astype(jnp.int32)] + [jnp.where(seen, a, 0)[..., 0, :] for a in (*weight, *found)]

    def step(totals: list[Pair], rows: list[tuple]) -> list[Pair]:
        each = [masked(*row) for row in rows]
        return [_plus(t, reduce(add, a)) for t, *a in zip(totals, *each, strict=True)]

    none = Pair(jnp.zeros(tile.width, jnp.int32), None)
    all_shapes = [*([] if tile.weights is None else [()]), *shapes]
    nothing = [zero.map(lambda a, s=s: jnp.broadcast_to(a, (*s, tile.width))) for s in all_shapes]
    nobs, *sums = tile.over_rows(step, [none, *nothing])
    return nobs.hi, sums


def _plus(total: Pair, a: Array) -> Pair:
    if total.lo is None:
        return Pair(total.hi + a, None)
    s, lost = pair.two_sum(total.hi, a)
    return Pair(s, total.lo + lost)


def _z(ansatz: Ansatz, frame: Frame, x: Array, y: Array) -> list[Array]:
    """z = (ψ(t), u) of each observation."""
    t, u = frame.inside(x, y)
    return [*ansatz.basis(t), u]


def _own_frame(ansatz: Ansatz, tile: Tile) -> tuple[Frame, Array]:
    """The frame of the valid observations, and which data sets have an infinite one."""
    x_range, y_range, seen = _ranges(ansatz, tile)
    x_infinite = jnp.isinf(x_range[0]) | jnp.isinf(x_range[1])
    if ansatz.x_is_vector:
        x_infinite = x_infinite.any(axis=0)
    infinite = x_infinite | jnp.isinf(y_range[0]) | jnp.isinf(y_range[1])
    return frames.of_ranges(x_range, y_range, ansatz), infinite & seen


def _ranges(ansatz: Ansatz, tile: Tile) -> tuple[tuple[Array, Array], tuple[Array, Array], Array]:
    """(lowest, highest) of x and of y over the valid observations, and whether there are any."""

    def step(state: tuple, rows: list[tuple]) -> tuple:
        for x, y, w in rows:
            seen = observed(x, y, w, ansatz)
            seen_x = seen[:, None] if ansatz.x_is_vector else seen
            x_range, y_range, any_seen = state
            state = (_widened(x_range, x, seen_x), _widened(y_range, y, seen), any_seen | seen[0])
        return state

    dtype, width = tile.y.dtype, tile.width
    x_shape = (*tile.x.shape[1:-1], width)

    def nothing(shape: tuple[int, ...]) -> tuple[Array, Array]:
        return jnp.full(shape, jnp.inf, dtype), jnp.full(shape, -jnp.inf, dtype)

    return tile.over_rows(step, (nothing(x_shape), nothing((width,)), jnp.zeros(width, bool)))


def _widened(ends: tuple[Array, Array], a: Array, seen: Array) -> tuple[Array, Array]:
    low, high = ends
    a_low, a_high = (jnp.where(seen, a, end)[0] for end in (jnp.inf, -jnp.inf))
    return jnp.minimum(low, a_low), jnp.maximum(high, a_high)


def _raw_frame(ansatz: Ansatz, tile: Tile) -> Frame:
    """The frame in which `_quick` adds: the data as they are, but for a basis that lives on [−1, 1].

    It is the same for an x that is shared and for one that is not, and so are the last bits.
    """
    dtype = tile.y.dtype
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    if ansatz.basis_is_x:
        return Frame(zero, one, zero, one)

    def step(ends: tuple[Array, Array], rows: list[tuple]) -> tuple[Array, Array]:
        for x, *_ in rows:
            ends = _widened(ends, x, jnp.isfinite(x))
        return ends

    width = 1 if tile.x.shape[-1] == 1 else tile.width
    start = jnp.full(width, jnp.inf, dtype)
    x_frame = frames.of_ranges(tile.over_rows(step, (start, -start)), (zero, zero), ansatz)
    return Frame(x_frame.x_center, x_frame.x_scale, zero, one)


def _centered(ansatz: Ansatz, raw: Frame, G: Array) -> tuple[Frame, Array, Array]:
    """The frame around the means with the standard deviations as units, and where z has moved to.

    Returns:
        The frame, and with it c and s of z_new = (z − c) / s, each (p + 1, width).
    """
    first = int(ansatz.has_intercept)
    dtype = raw.y_scale.dtype
    p = G.shape[0] - 1
    diagonal = small.diagonal(G)
    moving = (np.arange(p + 1) >= (first if ansatz.basis_is_x else p))[:, None]
    mean = G[:, 0] if first else jnp.zeros_like(diagonal)
    center = jnp.where(moving, mean.astype(dtype).astype(G.dtype), 0)
    spread = jnp.sqrt(jnp.maximum(diagonal - (2 * mean - center) * center, 0))
    size = jnp.where(moving, power_of_two(spread.astype(dtype)).astype(G.dtype), 1)
    x_center, x_scale = raw.x_center, raw.x_scale
    if ansatz.basis_is_x:
        x_center, x_scale = (a[first:p].astype(dtype) for a in (center, size))
        if not ansatz.x_is_vector:
            x_center, x_scale = x_center[0], x_scale[0]
    width = G.shape[-1]
    x_center, x_scale = (jnp.broadcast_to(a, (*a.shape[:-1], width)) for a in (x_center, x_scale))
    return Frame(x_center, x_scale, center[p].astype(dtype), size[p].astype(dtype)), center, size


def _lost_digits(raw: Array, G: Array, size: Array, nobs: Array) -> Array:
    """Whether rounding of the raw sums is felt in a float32 answer.

    Of the raw ⟨z_i²⟩ only a share is left when the mean is taken out, and of that a share when the
    basis functions before it are; the relative error of what remains grows by what was lost.
    """
    p = G.shape[0] - 1
    *_, rest, share = solve(Pair(G, None), rank_tolerance(np.dtype(np.float32)))
    unexplained = rest.hi / jnp.where(G[p, p] > 0, G[p, p], 1)
    before, after = small.diagonal(raw), small.diagonal(G) * size**2
    kept = small.smallest(jnp.where(before > 0, after / before, 1))
    share = jnp.where((nobs > p) & (G[p, p] > 0), jnp.minimum(share, unexplained), share)
    error = jnp.sqrt(nobs) * jnp.finfo(G.dtype).eps
    return (nobs >= p) & (kept * share * ENOUGH < error)


def _seen_from(m: Moments, frame: Frame) -> Pair:
    """G in another frame."""
    return pair.congruence(frames.between(m.frame, frame, m.ansatz), m.G)
