"""One pass over the columns: the moments and the turning points of all data sets at once.

The data are cut into tiles, whose sums `tiles.py` and `products.py` add up in float64, raw or from a near
origin, to be centered afterwards: the data are read once. That costs digits where an offset is far, where
columns nearly depend on each other, where little is left unexplained, or where a param is small beside
what it is the difference of. A bound of the error tells; the data sets in doubt, usually few, are picked
out and located again by `certified.py`, which costs thirty times as much.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import certified, inputs, pair, products, small, tiles
from jaxreg import frame as frames
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz, Line
from jaxreg.closed_form import (
    SINGLE,
    FromCoefs,
    TurningPoint,
    explained_by,
    is_usable,
    located,
    moved_with,
    usable_G,
)
from jaxreg.cost import observed
from jaxreg.frame import Frame, power_of_two
from jaxreg.inputs import Data
from jaxreg.moments import Moments
from jaxreg.normal_equations import Solved, coef_error, rank_tolerance, solve
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import tangent
from jaxreg.tiles import Tile

TILE_COLUMNS = 2**16  # of a line: enough for every core, few enough that the running sums stay in cache
LEAST_COLUMNS = 256
PRODUCT_COLUMNS = 2**13  # where sums are matrix products, which have strips of their own
CERTIFIED_COLUMNS = 64  # located again at a time, at no more than
CERTIFIED_ELEMENTS = 2**21  # observations of each
FIRST_ROWS = 8  # among which a near origin lies


class Worth(NamedTuple):
    """What is worth a second look: relative errors of a param, of what is unexplained, and of A⁻¹."""

    params: float
    rest: float
    condition: float


# A param that is small by chance costs a digit or two of its own, and no look; a bad condition costs all.
WORTH = {"float32": Worth(2.0**-26, 2.0**-20, 2.0**-28), "float64": Worth(2.0**-39, 2.0**-36, 2.0**-44)}


class Gathered(NamedTuple):
    """What a pass over the data finds, and of which data sets its rounding is likely to be felt."""

    moments: Moments
    point: TurningPoint
    doubtful: Array


def moments(x: Any, y: Any, weights: Any = None, *, ansatz: Ansatz = Line()) -> Moments:
    """The moments of every data set, in one pass over the data.

    ⟨a⟩ = Σ w a / Σ w over the valid observations of a data set: those at which neither x nor y is NaN
    and the weight is not 0. Where the params would feel their rounding, the sums are carried to twice the
    digits of float64, as in `fit`.

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
    return gather(inputs.source(x, y, weights, None, "omit", ansatz).data(), ansatz).moments


@in_own_precision
@partial(jax.jit, static_argnums=(1, 2))
def gather(data: Data, ansatz: Ansatz, precision: str = "auto") -> Gathered:
    """Moments and turning points of data that were checked, and which of them stay in doubt, (*batch)."""
    columns = _gather(ansatz, precision, data.width, *data.arrays(), data.first)
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *data.batch), columns)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _gather(
    ansatz: Ansatz, precision: str, m: int, x: Array, y: Array, weights: Array | None, first: Any
) -> Gathered:
    """Those of m columns of y, tile by tile."""
    width = tiles.even_width(m, tile_columns(ansatz, x, x.shape[-1] == 1))

    def tile(start: Array | int) -> Gathered:
        return _quick(ansatz, Tile(x, y, weights, first + jnp.int32(start), width))

    def everything() -> Gathered:
        return tiles.put_together(tile, m, width)

    locate_again = partial(_certified, ansatz, x=x, y=y, weights=weights, first=first)
    if precision == "certified":
        nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), jax.eval_shape(everything))
        return locate_again(nothing._replace(doubtful=jnp.ones(m, bool)))
    gathered = everything()
    if precision == "fast":
        return gathered
    return lax.cond(jnp.any(gathered.doubtful), locate_again, lambda gathered: gathered, gathered)


def tile_columns(ansatz: Ansatz, x: Any, x_is_shared: bool) -> int:
    """How many data sets are read at once: of as many the sums stay in cache."""
    if products.apply_to(ansatz, x, x_is_shared):
        return PRODUCT_COLUMNS
    q = tiles.size(ansatz, x)
    return max(LEAST_COLUMNS, TILE_COLUMNS * 12 // (q * (q + 1)))


@_gather.defjvp
def _gather_jvp(
    ansatz: Ansatz, precision: str, m: int, primals: tuple, tangents: tuple
) -> tuple[Gathered, Gathered]:
    """In a frame that stays where it is, moments are plain averages, and so are their derivatives.

    With sums W = Σ w and S = Σ w z zᵀ, Ġ = (Ṡ − G Ẇ) / W. W and G are known: summed up again, they would take
    ten times as long as the rest of a gradient.
    """
    gathered = _gather(ansatz, precision, m, *primals)
    found = gathered.moments
    usable = is_usable(found)
    frame = jax.tree.map(lambda a: jnp.where(usable, lax.stop_gradient(a), 1), found.frame)
    *data, first = primals

    def sums(*data: Array | None) -> tuple[Array, Array, Array, Array]:
        def columns(a: Array) -> Array:
            if a.shape[-1] == 1:
                a = _spread(m, a)
            a = a if a.shape[-1] == m else lax.dynamic_slice_in_dim(a, first, m, axis=-1)
            return jnp.where(usable, a, 0)  # what overflows has NaN for a derivative

        return _sums(ansatz, frame, *jax.tree.map(columns, data))

    _, (weight, log_weight, S, U) = jax.jvp(sums, tuple(data), tuple(tangents[:-1]))
    share = 1 / jnp.where(found.weight > 0, found.weight, 1)
    G, mean = S * share, U * share
    if data[-1] is None:
        weight = log_weight = jnp.zeros_like(found.weight)
    else:
        G -= usable_G(found).value * (weight * share)
        mean -= found.mean * (weight * share)
    in_full = replace(found, G=usable_G(found))
    return gathered, Gathered(
        tangent(found, weight=weight, log_weight=log_weight, G=tangent(found.G, hi=G), mean=mean),
        moved_with(in_full, gathered.point, G, mean),
        jax.custom_derivatives.zero_from_primal(gathered.doubtful),
    )


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _spread(m: int, a: Array) -> Array:
    """A shared array for each of m data sets."""
    return jnp.broadcast_to(a, (*a.shape[:-1], m))


@_spread.defjvp
def _spread_jvp(m: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """A product with ones, whose transpose is one: a sum over the data sets takes ten times as long."""
    ones = jnp.ones((1, m), tangents[0].dtype)
    return _spread(m, *primals), lax.dot_general(
        tangents[0], ones, (((tangents[0].ndim - 1,), (0,)), ((), ())), precision=lax.Precision.HIGHEST
    )


def _sums(
    ansatz: Ansatz, frame: Frame, x: Array, y: Array, weights: Array | None
) -> tuple[Array, Array, Array, Array]:
    """Σ w, Σ log w, Σ w z zᵀ and Σ w u in a given frame, the definition of what is gathered."""
    seen = observed(x, y, weights, ansatz)
    x, y, weights = jax.tree.map(lambda a: jnp.where(jnp.isfinite(a), a, 0), (x, y, weights))
    w = jnp.where(seen, 1 if weights is None else weights, 0).astype(y.dtype)
    z = tiles.z(ansatz, frame, x, y)
    wz = [w * a for a in z]
    lower = [jnp.sum(a * b, axis=0) for i, a in enumerate(wz) for b in z[: i + 1]]
    log_weight = jnp.sum(jnp.log(jnp.where(seen & (w > 0), w, 1)), axis=0)
    zz = jnp.stack(lower)[small.of_triangle(len(z))]
    return jnp.sum(w, axis=0), log_weight, zz, jnp.sum(wz[-1], axis=0)


def _certified(
    ansatz: Ansatz, gathered: Gathered, *, x: Array, y: Array, weights: Array | None, first: Any
) -> Gathered:
    """What was gathered, with the data sets in doubt located again, a few at a time."""
    n, m = y.shape[0], gathered.doubtful.shape[0]
    width = max(1, min(CERTIFIED_COLUMNS, CERTIFIED_ELEMENTS // n))
    ids = jnp.nonzero(gathered.doubtful, size=-(-m // width) * width, fill_value=m)[0].astype(jnp.int32)
    count = jnp.sum(gathered.doubtful, dtype=jnp.int32)
    axes = [None if a is None or a.shape[-1] == 1 else -1 for a in (x, y, weights)]
    locate = jax.vmap(partial(certified.locate, ansatz), in_axes=axes, out_axes=-1, axis_size=width)

    def columns(a: Array, at: Array) -> Array:
        return a[..., 0] if a.shape[-1] == 1 else jnp.take(a, at + first, axis=-1, mode="clip")

    def some(state: tuple) -> tuple:
        start, found = state
        at = lax.dynamic_slice_in_dim(ids, start, width)
        part = locate(*jax.tree.map(lambda a: columns(a, jnp.minimum(at, m - 1)), (x, y, weights)))
        return start + width, jax.tree.map(lambda a, b: a.at[..., at].set(b, mode="drop"), found, part)

    start = (jnp.int32(0), (gathered.moments, gathered.point))
    _, (moments, point) = lax.while_loop(lambda state: state[0] < count, some, start)
    return Gathered(moments, point, jnp.zeros(m, bool))


def _quick(ansatz: Ansatz, tile: Tile) -> Gathered:
    """One pass: the sums in float64, centered afterwards; and which data sets are in doubt."""
    dtype = tile.y.dtype
    raw = _raw_frame(ansatz, tile)
    with float64():
        if products.apply_to(ansatz, tile.x, tile.x.shape[-1] == 1):
            sums = products.sums(ansatz, raw, tile)
            additions = sums.nobs.astype(jnp.float64)
        else:
            sums = tiles.sums(ansatz, raw, tile)
            additions = sums.nobs / tiles.ROWS + tiles.ROWS
        nobs, weight, G0 = sums.nobs, sums.weight, sums.zz
        finite = [jnp.isfinite(a) for a in (weight.astype(dtype), *small.diagonal(G0))]
        finite = reduce(jnp.logical_and, finite)
        G0 = jnp.where(finite, G0 / jnp.where(weight > 0, weight, 1), jnp.eye(G0.shape[0])[..., None])
        frame, center, size = _centered(ansatz, raw, G0)
        mean = G0[:, 0] if ansatz.has_intercept else jnp.zeros_like(G0[:, 0])
        G = G0 - center[:, None] * mean[None] - center[None] * (mean - center)[:, None]
        G = G / (size[:, None] * size[None])
        spread = jnp.sqrt(jnp.abs(small.diagonal(G0))) / size  # of the sums, before they were centered
        least = rank_tolerance(dtype)
        found = solve(Pair(G, None), least)
        explained = explained_by(found, Pair(G, None), ansatz)
        point, doubtful = _judged(ansatz, frame, found, explained, spread, nobs, additions, least, dtype)
        doubtful = (doubtful & finite) | (~finite if dtype == jnp.float64 else False)
        y_mean = jnp.where(finite, sums.u / jnp.where(weight > 0, weight, 1), 0)
        found_moments = Moments(
            nobs=nobs,
            weight=weight.astype(dtype),
            log_weight=jnp.where(finite, sums.log_weight, 0).astype(dtype),
            G=pair.narrow(Pair(G, None), dtype),
            mean=((y_mean - center[-1]) / size[-1]).astype(dtype),
            frame=frame,
            invalid=~finite,
            ansatz=ansatz,
        )
    return Gathered(found_moments, point, doubtful & (nobs > 0))


def _judged(
    ansatz: Ansatz,
    frame: Frame,
    found: Solved,
    explained: Array,
    spread: Array,
    nobs: Array,
    additions: Array,
    least: float,
    dtype: np.dtype,
) -> tuple[TurningPoint, Array]:
    """The turning point with a bound of its error, and whether the error is likely to be felt.

    A sum of k terms is off by at most k roundings and likely by a fraction of √k.
    """
    p = found.inverse.hi.shape[0]
    fixed = 6 + 4 * p + (0 if ansatz.basis_is_x else 2 * p**2)  # z, its products, and the solution
    at_most = SINGLE * (additions + fixed)
    likely = SINGLE * (jnp.sqrt(additions) / 4 + 2)
    error, change = coef_error(found, spread, at_most)
    from_coefs = FromCoefs.of(ansatz, frame, single=True)
    point = located(ansatz, frame.y_scale, from_coefs, found, explained, error, least, dtype)
    share = likely / at_most
    worth = WORTH[dtype.name]
    whole = spread[-1] + small.dot(spread[:-1], jnp.abs(found.coefs.hi))
    rest_lost = (likely * whole**2 > worth.rest * found.rest.hi) & (whole > 0) & (nobs > p)
    params_lost = ~(small.largest(point.doubt) * share <= worth.params) | ~(change * share <= worth.condition)
    return point, (params_lost | rest_lost | ~point.full_rank) & (nobs >= p)


def _raw_frame(ansatz: Ansatz, tile: Tile) -> Frame:
    """The frame in which `_quick` adds.

    Of float32 data the data themselves, whose products are exact in float64; of float64 data an origin
    among the first observations. A basis that lives on [−1, 1] needs the range of x. The frame of x is
    the same whether it is shared or not, and so are the last bits.
    """
    dtype = tile.y.dtype
    zero, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    raw = Frame(zero, one, zero, one) if dtype == jnp.float32 else _near_frame(ansatz, tile)
    if ansatz.basis_is_x:
        return raw
    of_x = frames.of_ranges(tiles.x_range(tile), (zero, zero), ansatz)
    return Frame(of_x.x_center, of_x.x_scale, raw.y_center, raw.y_scale)


def _near_frame(ansatz: Ansatz, tile: Tile) -> Frame:
    """The frame of the first few observations."""
    x, y, w = tile.rows(jnp.int32(0), min(FIRST_ROWS, tile.y.shape[0]))

    def ends(a: Array, there: Array) -> tuple[Array, Array]:
        return jnp.where(there, a, jnp.inf).min(axis=0), jnp.where(there, a, -jnp.inf).max(axis=0)

    seen = jnp.isfinite(y) & observed(x, y, w, ansatz)
    return frames.of_ranges(ends(x, jnp.isfinite(x)), ends(y, seen), ansatz)


def _centered(ansatz: Ansatz, raw: Frame, G: Array) -> tuple[Frame, Array, Array]:
    """The frame around the means with the standard deviations as units, and where z has moved to.

    Returns:
        The frame, and with it c and s of z_new = (z − c) / s, each (p + 1, width).
    """
    first = int(ansatz.has_intercept)
    p, width = G.shape[0] - 1, G.shape[-1]
    diagonal = small.diagonal(G)
    mean = G[:, 0] if first else jnp.zeros_like(diagonal)
    moving = np.arange(p + 1) >= (first if ansatz.basis_is_x else p)
    old = _by_z(raw.x_center, raw.y_center, p, first, width)
    unit = _by_z(raw.x_scale, raw.y_scale, p, first, width)
    new = (old + unit * mean).astype(raw.y_center.dtype)
    center = jnp.where(moving[:, None], (new.astype(G.dtype) - old) / unit, 0)
    spread = jnp.sqrt(jnp.maximum(diagonal - (2 * mean - center) * center, 0))
    size = power_of_two(spread.astype(raw.y_scale.dtype)).astype(G.dtype)
    size = jnp.where(moving[:, None], size, 1)
    largest = 2.0 ** (jnp.finfo(raw.y_scale.dtype).maxexp - 3)  # whose inverse is a normal number
    scale = jnp.minimum(unit * size, largest).astype(raw.y_scale.dtype)
    size = scale.astype(G.dtype) / unit
    x_center, x_scale = (jnp.broadcast_to(a, (*a.shape[:-1], width)) for a in (raw.x_center, raw.x_scale))
    if ansatz.basis_is_x:
        x_center, x_scale = new[first:p], scale[first:p]
        if not first:
            x_center = jnp.zeros_like(x_center)
        if not ansatz.x_is_vector:
            x_center, x_scale = x_center[0], x_scale[0]
    return Frame(x_center, x_scale, new[p], scale[p]), center, size


def _by_z(of_x: Array, of_y: Array, p: int, first: int, width: int) -> Array:
    """Centers or scales of x and y in float64 in the order of z, (p + 1, width); of a constant, any."""
    of_x = of_x.astype(jnp.float64)
    of_x = of_x[None] if of_x.ndim < 2 else of_x
    rows = [
        jnp.broadcast_to(of_x, (p - first, width)),
        jnp.broadcast_to(of_y.astype(jnp.float64), (1, width)),
    ]
    return jnp.concatenate([jnp.ones((first, width)), *rows])
