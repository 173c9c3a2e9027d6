"""One pass over the columns: the moments that every answer is a function of, for all data sets at once.

With z = (ψ(t), u), the basis of the ansatz and the response in the frame of the data set, the cost of a
linear ansatz is S(c) = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ: the data enter through the averages G = ⟨z zᵀ⟩ alone.

This is the only room that knows about tiles and layout. A tile is some columns of the data that fit
into cache (over the whole array at once, XLA's CPU reduction over axis 0 is ten times slower,
jax-ml/jax #25187). There rows are added plainly in blocks of 16, and the blocks to a total that is a
pair of floats: a pair for every row costs six times as much.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import frame as frames
from jaxreg import inputs, pair
from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.ansatz import Ansatz, Line
from jaxreg.cost import observed
from jaxreg.frame import Frame
from jaxreg.inputs import Data
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import pytree, static, tangent

BLOCK_ROWS = 16
TILE_ELEMENTS = 2**17  # observations × columns; 256 columns of 300 rows were the fastest measured
TILE_COLUMNS = (16, 256)  # at least, at most


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
    return of_columns(inputs.data(x, y, weights, None, "omit", ansatz), ansatz)


@in_own_precision
@partial(jax.jit, static_argnums=1)
def of_columns(data: Data, ansatz: Ansatz) -> Moments:
    """The moments of data that were checked, in the shape that the data sets came in."""
    x = data.x[..., None] if data.x_is_shared else data.x
    weights = data.weights
    if weights is not None and weights.ndim == 1:
        weights = weights[:, None]
    columns = _gather(ansatz, x, data.y, weights)
    return jax.tree.map(lambda a: a.reshape(*a.shape[:-1], *data.batch), columns)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gather(ansatz: Ansatz, x: Array, y: Array, weights: Array | None) -> Moments:
    """The moments of the columns of y (n, m), tile by tile."""
    n, m = y.shape
    width = _tile_columns(n, m)

    def tile(start: Array | int) -> Moments:
        def cut(a: Array) -> Array:
            return a if a.shape[-1] == 1 else lax.dynamic_slice_in_dim(a, start, width, axis=-1)

        return _tile(ansatz, *jax.tree.map(cut, (x, y, weights)))

    if width == m:
        return tile(0)

    def step(i: Array, whole: Moments) -> Moments:
        start = jnp.minimum(i * width, m - width)  # the last tile may overlap the one before
        place = partial(lax.dynamic_update_slice_in_dim, start_index=start, axis=-1)
        return jax.tree.map(place, whole, tile(start))

    def empty(part: jax.ShapeDtypeStruct) -> Array:
        return jnp.zeros((*part.shape[:-1], m), part.dtype)

    whole = jax.tree.map(empty, jax.eval_shape(tile, 0))
    return lax.fori_loop(0, -(-m // width), step, whole)


@_gather.defjvp
def _gather_jvp(ansatz: Ansatz, primals: tuple, tangents: tuple) -> tuple[Moments, Moments]:
    """In a frame that stays where it is, moments are plain averages, and so are their derivatives."""
    found = _gather(ansatz, *primals)
    frame = jax.tree.map(lax.stop_gradient, found.frame)
    _, (weight, G) = jax.jvp(partial(_averages, ansatz, frame), primals, tangents)
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


def _tile(ansatz: Ansatz, x: Array, y: Array, weights: Array | None) -> Moments:
    """The moments of the columns of one tile; float32 data are multiplied and summed in float64."""
    dtype = y.dtype
    seen = observed(x, y, weights, ansatz)
    frame, invalid = _frame(ansatz, x, y, seen)
    if weights is not None:
        invalid |= jnp.any(seen & ~((weights > 0) & (weights < jnp.inf)), axis=0)
    nobs = jnp.sum(seen, axis=0, dtype=jnp.int32)
    with float64():
        weight, *products = _sums(ansatz, frame, x, y, weights)
        safe = pair.where(weight.hi > 0, weight, 1.0)
        G = _narrow(pair.symmetric([a / safe for a in products]), dtype)
        weight = _narrow(weight, dtype).value
    return Moments(nobs, weight, G, frame, invalid, ansatz)


def _sums(ansatz: Ansatz, frame: Frame, x: Array, y: Array, weights: Array | None) -> list[Pair]:
    """Σ w and Σ w z_i z_j for j ≤ i, in the order of axis 0.

    The rows of a block are added one to the other, and the blocks as pairs. Every addition is written
    out, so that the sum of a column is the same to the last bit whatever stands beside it; what is
    missing is taken out behind the product, which also keeps a compiler from contracting product and
    sum into one rounding in one place and not in another.
    """
    n = y.shape[0]
    size = min(BLOCK_ROWS, n)
    frame = jax.tree.map(lambda a: a.astype(jnp.float64), frame)

    def block(j: Array, totals: list[Pair]) -> list[Pair]:
        start = jnp.minimum(j * size, n - size)  # the last block may overlap the one before
        new = (jnp.arange(size) >= j * size - start)[:, None]
        x_rows, y_rows, w = jax.tree.map(
            lambda a: lax.dynamic_slice_in_dim(a, start, size).astype(jnp.float64), (x, y, weights)
        )
        seen = new & observed(x_rows, y_rows, w, ansatz)
        w = jnp.ones_like(y_rows) if w is None else w
        z = _z(ansatz, frame, x_rows, y_rows)
        terms = [w] + [w * (a * b) for i, a in enumerate(z) for b in z[: i + 1]]
        return [_plus(t, _added(jnp.where(seen, a, 0))) for t, a in zip(totals, terms, strict=True)]

    q = 1 + len(ansatz.names(x.shape[1]))
    zero = Pair.of(jnp.zeros(y.shape[1:], jnp.float64))
    return lax.fori_loop(0, -(-n // size), block, [zero] * (1 + q * (q + 1) // 2))


def _added(rows: Array) -> Array:
    return sum((rows[i] for i in range(1, rows.shape[0])), rows[0])


def _plus(total: Pair, a: Array) -> Pair:
    s, lost = pair.two_sum(total.hi, a)
    return Pair(s, total.lo + lost)


def _z(ansatz: Ansatz, frame: Frame, x: Array, y: Array) -> list[Array]:
    """z = (ψ(t), u) of each observation."""
    t, u = frame.inside(x, y)
    return [*ansatz.basis(t), u]


def _frame(ansatz: Ansatz, x: Array, y: Array, seen: Array) -> tuple[Frame, Array]:
    """The frame of the valid observations, and which data sets have an infinite one."""
    x_range = _range(x, seen[:, None] if ansatz.x_is_vector else seen)
    y_range = _range(y, seen)
    x_infinite = jnp.isinf(x_range[0]) | jnp.isinf(x_range[1])
    if ansatz.x_is_vector:
        x_infinite = x_infinite.any(axis=0)
    infinite = x_infinite | jnp.isinf(y_range[0]) | jnp.isinf(y_range[1])
    return frames.of_ranges(x_range, y_range, ansatz), infinite & seen.any(axis=0)


def _range(a: Array, seen: Array) -> tuple[Array, Array]:
    low = jnp.min(jnp.where(seen, a, jnp.inf), axis=0)
    return low, jnp.max(jnp.where(seen, a, -jnp.inf), axis=0)


def _narrow(a: Pair, dtype: np.dtype) -> Pair:
    """A pair of float64 as a pair of the data's dtype."""
    hi = a.hi.astype(dtype)
    return Pair(hi, ((a.hi - hi.astype(a.hi.dtype)) + a.lo).astype(dtype))


def _tile_columns(n: int, m: int) -> int:
    least, most = TILE_COLUMNS
    return min(m, most, max(least, TILE_ELEMENTS // max(n, 1)))


def _seen_from(m: Moments, frame: Frame) -> Pair:
    """G in another frame."""
    return pair.congruence(frames.between(m.frame, frame, m.ansatz), m.G)
