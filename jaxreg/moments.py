"""One pass over the columns: the moments that every answer is a function of, for all data sets at once.

With z = (ψ(t), u), the basis of the ansatz and the response in the frame of the data set, the cost of a
linear ansatz is S(c) = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ: the data enter through the averages G = ⟨z zᵀ⟩ alone.

The data are cut into tiles, whose sums `tiles.py` adds up. Products of float32 data are exact in float64,
which costs no more there than float32 with centered data: they are read once, raw, and centered
afterwards (`_quick`). The few data sets that this costs digits, with far offsets or tiny residuals, are
gathered again in a frame of their own, as are float64 data (`_careful`).
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import frame as frames
from jaxreg import inputs, pair, products, small, tiles
from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.ansatz import Ansatz, Line
from jaxreg.cost import observed
from jaxreg.frame import Frame, power_of_two
from jaxreg.inputs import Data
from jaxreg.normal_equations import rank_tolerance, solve
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import pytree, static, tangent
from jaxreg.tiles import Tile

TILE_COLUMNS = 2**16  # of a line: enough for every core, few enough that the running sums stay in cache
LEAST_COLUMNS = 256
PRODUCT_COLUMNS = 2**13  # where sums are matrix products, which have strips of their own
ENOUGH = 2.0**-28  # relative error of a float32 answer that is not worth a second look


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
    count = -(-m // tile_columns(ansatz, x, x.shape[-1] == 1))
    width = -(-m // count)

    def tile(start: Array | int) -> Moments:
        return _tile(ansatz, Tile(x, y, weights, first + jnp.int32(start), width))

    return tiles.put_together(tile, m, width)


def tile_columns(ansatz: Ansatz, x: Any, x_is_shared: bool) -> int:
    """How many data sets are read at once: of as many the sums stay in cache."""
    if products.apply_to(ansatz, x, x_is_shared):
        return PRODUCT_COLUMNS
    q = tiles.size(ansatz, x)
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
    z = [jnp.where(seen, a, 0) for a in tiles.z(ansatz, frame, x, y)]
    weight = jnp.sum(w, axis=0)
    safe = jnp.where(weight > 0, weight, 1)
    rows = [jnp.stack([jnp.sum(w * a * b, axis=0) / safe for b in z]) for a in z]
    return weight, jnp.stack(rows)


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
        nobs, weight, sums = tiles.sums(ansatz, frame, tile, Pair.of(jnp.zeros((), jnp.float64)))
        safe = pair.where(weight.hi > 0, weight, 1.0)
        G = pair.narrow(sums / safe, dtype)
        invalid |= ~jnp.isfinite(weight.hi)
        weight = weight.value.astype(dtype)
    return Moments(nobs, weight, G, frame, invalid, ansatz)


def _quick(ansatz: Ansatz, tile: Tile) -> tuple[Moments, Array]:
    """One pass: the sums of the raw float32 data in float64, centered afterwards; and who needs two."""
    dtype = tile.y.dtype
    raw = _raw_frame(ansatz, tile)
    with float64():
        if products.apply_to(ansatz, tile.x, tile.x.shape[-1] == 1):
            nobs, weight, sums = products.sums(ansatz, raw, tile)
        else:
            nobs, weight, sums = tiles.sums(ansatz, raw, tile, Pair(jnp.zeros((), jnp.float64), None))
        diagonal = small.diagonal(sums.hi)
        finite = reduce(jnp.logical_and, [jnp.isfinite(a) for a in (weight.hi, *diagonal)])
        safe = jnp.where(weight.hi > 0, weight.hi, 1)
        G0 = sums.hi / safe
        frame, center, size = _centered(ansatz, raw, G0)
        mean = G0[:, 0] if ansatz.has_intercept else jnp.zeros_like(G0[:, 0])
        G = G0 - center[:, None] * mean[None] - center[None] * (mean - center)[:, None]
        G = G / (size[:, None] * size[None])
        doubtful = _lost_digits(G0, G, size, nobs) & finite
        weight = weight.hi.astype(dtype)
        G = pair.narrow(Pair(G, None), dtype)
    return Moments(nobs, weight, G, frame, ~finite, ansatz), doubtful


def _own_frame(ansatz: Ansatz, tile: Tile) -> tuple[Frame, Array]:
    """The frame of the valid observations, and which data sets have an infinite one."""
    x_range, y_range, seen = tiles.ranges(ansatz, tile)
    x_infinite = jnp.isinf(x_range[0]) | jnp.isinf(x_range[1])
    if ansatz.x_is_vector:
        x_infinite = x_infinite.any(axis=0)
    infinite = x_infinite | jnp.isinf(y_range[0]) | jnp.isinf(y_range[1])
    return frames.of_ranges(x_range, y_range, ansatz), infinite & seen


def _raw_frame(ansatz: Ansatz, tile: Tile) -> Frame:
    """The frame in which `_quick` adds: the data as they are, but for a basis that lives on [−1, 1].

    It is the same for an x that is shared and for one that is not, and so are the last bits.
    """
    dtype = tile.y.dtype
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    if ansatz.basis_is_x:
        return Frame(zero, one, zero, one)

    x_frame = frames.of_ranges(tiles.x_range(tile), (zero, zero), ansatz)
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
