"""Sums over the observations of each data set that take and give back rows, in double-double of float64.

With z = (1, ψ(t), u), the basis of the ansatz and the response in the scaling of the data set, they are
Σ w z zᵀ. A row that leaves is subtracted: in float64 that would keep the rounding of all rows ever seen. In
double-double a row leaves 2⁻¹⁰⁴ of the sums behind, and a bound of all that was left is summed with them.
The scaling follows the rows: a center that stays behind loses digits with the square of the distance.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz, Polynomial
from jaxreg.engine import scaling as scalings
from jaxreg.engine.moments import Moments
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.sums import columns_of
from jaxreg.gaps import is_valid
from jaxreg.numerics import double_double, small
from jaxreg.numerics.double_double import DoubleDouble, two_sum
from jaxreg.numerics.precision import addition_unit, float64, power_of_two
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.vectors import triangle

T = TypeVar("T")
Origins: TypeAlias = "tuple[Array | None, Array | None]"

# Words of the dtype of the data that hold the two float64 of a sum: JAX has no float64 between two calls if
# its 64-bit switch is off. Those of float32 keep 101 of 106 bits.
WORDS = {"float32": (3, 2), "float64": (1, 1)}
DROPPED = {"float32": 2.0**-100, "float64": 0.0}  # of a sum, when it is stored
DEVIATIONS = 4.0  # around the mean, in which the rows are expected
MAX_RATIO = 16.0  # of a scale and the rows it is for
GROWTH = 2.0**-20  # of a bound, more than its own rounding


@pytree
class RunningSums:
    """Σ w z zᵀ over the valid observations of each data set, and what else their inference needs.

    Attributes:
        nobs: number of valid observations, (*batch).
        invalid: number of observations that are infinite or have an invalid weight, (*batch).
        words: the lower triangle of Σ w z zᵀ row by row in units of root_unit², Σ λ^age, and Σ λ^age log w,
            as numbers of the dtype of the data whose sum they are, (words, entries, *batch).
        errors: bounds of the rounding errors of Σ w z zᵀ, (triangle, *batch).
        root_unit: √ of the unit of weights, a power of two, (*batch).
        scaling: from x and y to t and u; its origins are the integer parts of centers of integers.
        ansatz: with the basis ψ.
    """

    nobs: Int[Array, "*batch"]
    invalid: Int[Array, "*batch"]
    words: Float[Array, "words entries *batch"]
    errors: Float[Array, "triangle *batch"]
    root_unit: Float[Array, "*batch"]
    scaling: Scaling
    ansatz: Ansatz = static()

    @property
    def dtype(self) -> np.dtype:
        """The dtype of the data."""
        return np.dtype(self.words.dtype)

    @property
    def p(self) -> int:
        """Number of params."""
        return _side(self.errors.shape[0]) - 1 - (not self.ansatz.has_intercept)


class Totals(NamedTuple):
    """`RunningSums` in float64, to compute with.

    Attributes:
        S: Σ w z zᵀ, (q, q, *batch).
        errors: bounds of the rounding errors of S, (q, q, *batch).
        discounted: Σ λ^age and Σ λ^age log w, (2, *batch).
        root_unit: √ of the unit of weights, (*batch).
        scaling: of z.
    """

    S: DoubleDouble
    errors: Array
    discounted: DoubleDouble
    root_unit: Array
    scaling: Scaling


class Rows(NamedTuple):
    """Observations of all data sets, in float64.

    Attributes:
        x: the columns of x in double-double, (n, *batch) each; 0 where an observation is not valid.
        y: the same of y.
        weights: w λ^age, 0 where an observation is not valid, (n, *batch).
        discount: λ^age, 0 where an observation is not valid.
        log_weights: λ^age log w.
        valid: whether an observation is valid and finite.
        invalid: whether it is infinite, or its weight is not a positive number.
    """

    x: list[DoubleDouble]
    y: DoubleDouble
    weights: Array
    discount: Array
    log_weights: Array
    valid: Array
    invalid: Array


def empty(ansatz: Ansatz, columns: int, batch: tuple[int, ...], dtype: np.dtype) -> RunningSums:
    """The sums of no observations, of x of so many columns."""
    q = 1 + len(ansatz.param_names(columns)) + (not ansatz.has_intercept)
    entries = q * (q + 1) // 2
    x_shape = (columns, *batch) if ansatz.x_is_vector else batch
    xp: Any = np  # whose float64 does not depend on JAX's 64-bit switch
    zero, one, none, unit = (f(shape, dtype) for shape in (x_shape, batch) for f in (xp.zeros, xp.ones))
    return RunningSums(
        nobs=xp.zeros(batch, np.int32),
        invalid=xp.zeros(batch, np.int32),
        words=xp.zeros((sum(WORDS[dtype.name]), entries + 2, *batch), dtype),
        errors=xp.zeros((entries, *batch), dtype),
        root_unit=unit,
        scaling=Scaling(zero, one, none, unit, zero, none),
        ansatz=ansatz,
    )


@partial(jax.jit, static_argnames=("forgetting", "sign"))
def with_rows(
    sums: RunningSums,
    data: tuple[Array, Array, Array | None],
    origin: Origins,
    n: Array | int,
    *,
    forgetting: float | None,
    sign: int,
) -> RunningSums:
    """The sums with these rows added, or with `sign` −1 removed.

    Args:
        sums: before.
        data: x, y and weights as in `Operands`; rows from n on are not counted.
        origin: subtracted from x and from y.
        n: number of rows.
        forgetting: λ, by which each row multiplies the weights of those before it; None for 1.
        sign: 1 or −1.
    """
    zero = jnp.zeros_like(data[1][0])  # with the sharding of the data on a mesh
    sums = jax.tree.map(lambda a: a + zero.astype(a.dtype), sums)
    with float64():
        rows = _rows(sums, _without_derivative(data), origin, n, forgetting)
        totals = totals_of(sums)
        if forgetting is not None:
            totals = _decayed(totals, jnp.power(forgetting, jnp.asarray(n, jnp.float64)))
        totals = _in_range(sums, totals, rows, origin)
        totals = _summed(sums.ansatz, totals, rows, sign)
        counts = (jnp.sum(a, axis=0, dtype=jnp.int32) for a in (rows.valid, rows.invalid))
        nobs, invalid = (a + sign * b for a, b in zip((sums.nobs, sums.invalid), counts, strict=True))
        if sign < 0:  # the scaling may have been that of rows far away, which have left
            none = rows._replace(weights=0 * rows.weights, valid=jnp.zeros_like(rows.valid))
            totals = _in_range(replace(sums, nobs=nobs), totals, none, origin)
        return _stored(sums.ansatz, sums.dtype, totals, nobs, invalid)


@jax.jit
def added(a: RunningSums, b: RunningSums) -> RunningSums:
    """The sums of the observations of both."""
    with float64():
        A, B = totals_of(a), totals_of(b)
        union = scalings.union(A.scaling, a.nobs > 0, B.scaling, b.nobs > 0, a.ansatz)
        have_origin = (
            (getattr(A.scaling, name) != 0) | (getattr(B.scaling, name) != 0)
            for name in ("x_origin", "y_origin")
        )
        union = _with_origins(_plain(union), a.dtype, *have_origin)
        unit = jnp.maximum(A.root_unit, B.root_unit)
        parts = [
            _scaled(_rescaled(a.ansatz, totals, union), jnp.square(totals.root_unit / unit))
            for totals in (A, B)
        ]
        S, errors = _add(parts[0].S, parts[0].errors, parts[1].S)
        totals = Totals(S, errors + parts[1].errors, A.discounted + B.discounted, unit, union)
        return _stored(a.ansatz, a.dtype, totals, a.nobs + b.nobs, a.invalid + b.invalid)


@jax.jit
def of_moments(moments: Moments) -> RunningSums:
    """The sums of which the moments are averages.

    Moments have no Σ log w, and without an intercept no means: these are 0, and Σ log w is NaN.
    """
    with float64():
        dtype = moments.G.hi.dtype
        wide = _wide(moments)
        ansatz, scaling = moments.ansatz, wide.scaling
        zero_x, zero_y = jnp.zeros_like(scaling.x_center), jnp.zeros_like(scaling.y_center)
        scaling = replace(
            scaling,
            x_origin=zero_x if scaling.x_origin is None else scaling.x_origin,
            y_origin=zero_y if scaling.y_origin is None else scaling.y_origin,
        )
        nobs = moments.nobs.astype(jnp.float64)
        root = jnp.sqrt(nobs) if wide.root_weight is None else wide.root_weight
        unit = power_of_two(root)
        S = DoubleDouble(*two_sum(wide.G.hi, wide.G.lo)) * jnp.square(root / unit)
        if not ansatz.has_intercept:
            S = double_double.at_set(_bordered(S), (0, 0), jnp.square(root / unit))
        is_complete = ansatz.has_intercept and wide.root_weight is None
        log_weight = jnp.full_like(nobs, 0 if is_complete else jnp.nan)
        discounted = DoubleDouble.of(jnp.stack([nobs, log_weight]))
        totals = Totals(S, addition_unit() * jnp.abs(S.hi), discounted, unit, scaling)
        return _stored(ansatz, np.dtype(dtype), totals, moments.nobs, moments.invalid.astype(jnp.int32))


def totals_of(sums: RunningSums) -> Totals:
    """The sums in float64; 0 where there is no observation."""
    high, low = WORDS[sums.dtype.name]
    if len(sums.words) != high + low:
        raise TypeError(
            "the stream is of float64 data and was rounded to float32, as jit and vmap do if JAX's 64-bit "
            'switch is off: call jax.config.update("jax_enable_x64", True), or pass float32 data to update'
        )
    words = [a.astype(jnp.float64) for a in sums.words]
    value = DoubleDouble(*two_sum(_sum(words[:high]), _sum(words[high:])))
    entries = sums.errors.shape[0]
    square = triangle(_side(entries))
    return Totals(
        S=value[:entries][square],
        errors=sums.errors.astype(jnp.float64)[square],
        discounted=value[entries:],
        root_unit=sums.root_unit.astype(jnp.float64),
        scaling=_wide(sums.scaling),
    )


def _side(entries: int) -> int:
    """q of the q (q + 1) / 2 entries of a triangle."""
    return int(np.sqrt(2 * entries))


def _sum(words: list[Array]) -> Array:
    """The sum, smallest first; exact."""
    total = words[-1]
    for word in words[-2::-1]:
        total = word + total
    return total


def _stored(ansatz: Ansatz, dtype: np.dtype, totals: Totals, nobs: Array, invalid: Array) -> RunningSums:
    """The sums in words of the dtype of the data; exactly 0 where all observations have left."""
    q = totals.S.shape[0]
    lower = np.tril_indices(q)
    S = totals.S[lower]
    errors = totals.errors[lower] * (1 + GROWTH) + DROPPED[dtype.name] * jnp.abs(S.hi)
    value = double_double.concatenate([S, totals.discounted])
    is_empty = nobs <= 0
    value = double_double.where(is_empty, DoubleDouble.of(jnp.zeros_like(value.hi)), value)
    words = [
        w for a, k in zip((value.hi, value.lo), WORDS[dtype.name], strict=True) for w in _words(a, k, dtype)
    ]
    return RunningSums(
        nobs=nobs,
        invalid=invalid,
        words=jnp.stack(words),
        errors=jnp.where(is_empty, 0, errors).astype(dtype),
        root_unit=totals.root_unit.astype(dtype),
        scaling=jax.tree.map(lambda a: a.astype(dtype), totals.scaling),
        ansatz=ansatz,
    )


def _words(a: Array, number: int, dtype: np.dtype) -> list[Array]:
    """Numbers of the dtype whose sum is a, up to its last bits."""
    info, words = jnp.finfo(dtype), []
    for _ in range(number):
        word = lax.reduce_precision(a, info.nexp, info.nmant)  # XLA may remove a conversion to and fro
        words.append(word.astype(dtype))
        a = a - word
    return words


def _rows(
    sums: RunningSums,
    data: tuple[Array, Array, Array | None],
    origin: Origins,
    n: Array | int,
    forgetting: float | None,
) -> Rows:
    x, y, weights = data
    columns = columns_of(sums.ansatz, x, 1)
    is_row = (jnp.arange(y.shape[0]) < n).reshape(-1, *(1,) * (y.ndim - 1))
    valid = is_valid(columns, y, weights) & is_row
    usable = jnp.isfinite(y)
    for column in columns:
        usable &= jnp.isfinite(column)
    if weights is not None:
        usable &= (weights > 0) & jnp.isfinite(weights)
    invalid, valid = valid & ~usable, valid & usable

    def wide(a: Array, origin: Array | None) -> DoubleDouble:
        a = jnp.where(valid, a, 0).astype(jnp.float64)
        if origin is None:
            return DoubleDouble.of(a)
        return DoubleDouble(*two_sum(jnp.where(valid, origin.astype(jnp.float64), 0), a))

    x_origins = [None] * len(columns) if origin[0] is None else columns_of(sums.ansatz, origin[0], 0)
    w = jnp.ones_like(y) if weights is None else weights
    w = jnp.where(valid, w, 0).astype(jnp.float64)
    discount = jnp.where(valid, 1.0, 0.0)
    if forgetting is not None:
        age = jnp.maximum(n - 1 - jnp.arange(y.shape[0]), 0).astype(jnp.float64)
        discount = discount * jnp.power(forgetting, age).reshape(is_row.shape)
    return Rows(
        x=[wide(a, o) for a, o in zip(columns, x_origins, strict=True)],
        y=wide(y, origin[1]),
        weights=w * discount,
        discount=discount,
        log_weights=discount * jnp.log(jnp.where(valid, w, 1)),
        valid=valid,
        invalid=invalid,
    )


def _in_range(sums: RunningSums, totals: Totals, rows: Rows, origin: Origins) -> Totals:
    """The sums in a scaling and a unit of weights that suit the rows as well."""
    root = jnp.sqrt(jnp.max(rows.weights, axis=0))
    own = totals.root_unit * jnp.sqrt(jnp.maximum(totals.S.hi[0, 0], 0))
    unit = power_of_two(jnp.maximum(root, jnp.where(sums.nobs > 0, own, 0)))
    totals = _scaled(totals, jnp.square(totals.root_unit / unit))._replace(root_unit=unit)
    scaling, changes = _scaling_for(sums, totals, rows, origin)
    rescale: Callable[[Totals], Totals] = partial(_rescaled, sums.ansatz, scaling=scaling, where=changes)
    if changes.ndim:  # a `cond` on any of many data sets would be a collective on a mesh
        return rescale(totals)
    return lax.cond(changes, rescale, lambda totals: totals, totals)


def _scaling_for(sums: RunningSums, totals: Totals, rows: Rows, origin: Origins) -> tuple[Scaling, Array]:
    """The scaling for the observations of the sums and the rows, and whether it is worth the change.

    It has twice the range, so that rows with a trend change it seldom.
    """
    ansatz, old = sums.ansatz, _plain(totals.scaling)
    is_used = (totals.S.hi[0, 0] > 0) & (sums.nobs > 0)
    any_valid = jnp.any(rows.valid, axis=0)

    def ranges(a: DoubleDouble, index: int | None, center: Array, scale: Array) -> tuple[Array, Array, Array]:
        """The lowest and the highest value of sums and rows, and whether rows are outside of the scaling."""
        expected = (center + scale * t for t in _expected(totals, index, ansatz.has_intercept))
        low, high = (jnp.where(rows.valid, a.hi, far) for far in (jnp.inf, -jnp.inf))
        low, high = low.min(axis=0), high.max(axis=0)
        is_outside = any_valid & ((low < center - scale) | (high > center + scale))
        own_low, own_high = (
            jnp.where(is_used, e, far) for e, far in zip(expected, (jnp.inf, -jnp.inf), strict=True)
        )
        return jnp.minimum(low, own_low), jnp.maximum(high, own_high), is_outside

    has_t = ansatz.basis_is_x or (isinstance(ansatz, Polynomial) and ansatz.degree > 0)  # after the constant
    columns = zip(rows.x, *(columns_of(ansatz, a, 0) for a in (old.x_center, old.x_scale)), strict=True)
    of_x = [ranges(a, 1 + j if has_t else None, c, s) for j, (a, c, s) in enumerate(columns)]
    of_x = [jnp.stack(a) if ansatz.x_is_vector else a[0] for a in zip(*of_x, strict=True)]
    of_y = ranges(rows.y, -1, old.y_center, old.y_scale)
    new = scalings.of_ranges((of_x[0], of_x[1]), (of_y[0], of_y[1]), ansatz)
    new = replace(new, x_scale=2 * new.x_scale, y_scale=2 * new.y_scale)
    of_columns = of_x[2] | (MAX_RATIO * new.x_scale < old.x_scale)
    changes = jnp.any(of_columns, axis=0) if ansatz.x_is_vector else of_columns
    changes |= of_y[2] | (MAX_RATIO * new.y_scale < old.y_scale) | ~is_used
    have_origin = [
        old != 0 if given is None else (old != 0) | (given != 0)
        for old, given in zip((totals.scaling.x_origin, totals.scaling.y_origin), origin, strict=True)
    ]
    return _with_origins(new, sums.dtype, *have_origin), changes & (is_used | any_valid)


def _expected(totals: Totals, index: int | None, has_intercept: bool) -> tuple[Array, Array]:
    """The range of z of this index within [−1, 1]; all of it if it is none of the z."""
    weight = totals.S.hi[0, 0]
    one = jnp.ones_like(weight)
    if index is None:
        return -one, one
    weight = jnp.where(weight > 0, weight, 1)
    mean = totals.S.hi[index, 0] / weight if has_intercept else 0 * one
    variance = totals.S.hi[index, index] / weight - mean * mean
    reach = DEVIATIONS * jnp.sqrt(jnp.maximum(variance, 0))
    return jnp.maximum(mean - reach, -1), jnp.minimum(mean + reach, 1)


def _plain(scaling: Scaling) -> Scaling:
    """The scaling with the origins in the centers."""
    return Scaling(
        scaling.x_center if scaling.x_origin is None else scaling.x_center + scaling.x_origin,
        scaling.x_scale,
        scaling.y_center if scaling.y_origin is None else scaling.y_center + scaling.y_origin,
        scaling.y_scale,
    )


def _with_origins(scaling: Scaling, dtype: np.dtype, x_has_origin: Array, y_has_origin: Array) -> Scaling:
    """The scaling with centers of the dtype of the data.

    The integer part of a center is an origin where the data are integers that the dtype would round.
    """

    def parts(center: Array, has_origin: Array) -> tuple[Array, Array]:
        info = jnp.finfo(dtype)
        center = lax.reduce_precision(center, info.nexp, info.nmant)
        origin = jnp.where(has_origin, jnp.trunc(center), 0)
        return center - origin, origin

    (x, x_origin), (y, y_origin) = (
        parts(*a) for a in ((scaling.x_center, x_has_origin), (scaling.y_center, y_has_origin))
    )
    return Scaling(x, scaling.x_scale, y, scaling.y_scale, x_origin, y_origin)


def _rescaled(ansatz: Ansatz, totals: Totals, scaling: Scaling, where: Array | None = None) -> Totals:
    """The sums in this scaling, R S Rᵀ, for all data sets or where it says so."""
    if where is not None:
        scaling = jax.tree.map(partial(jnp.where, where), scaling, totals.scaling)
    R = scalings.between(totals.scaling, scaling, ansatz)
    if not ansatz.has_intercept:
        R = double_double.at_set(_bordered(R), (0, 0), 1.0)
    q = R.shape[0]
    S = double_double.congruence(R, totals.S)
    size = totals.errors + (4 * q) * addition_unit() * jnp.abs(totals.S.hi)
    absolute = jnp.abs(R.hi)
    errors = small.matmul(small.matmul(absolute, size), jnp.swapaxes(absolute, 0, 1))
    if where is not None:
        S, errors = double_double.where(where, S, totals.S), jnp.where(where, errors, totals.errors)
    return totals._replace(S=S, errors=errors, scaling=scaling)


def _bordered(a: DoubleDouble) -> DoubleDouble:
    """The matrix with zeros before the first row and the first column."""
    return a.map(lambda half: jnp.pad(half, [(1, 0), (1, 0), *[(0, 0)] * (half.ndim - 2)]))


def _scaled(totals: Totals, factor: Array) -> Totals:
    """S times a factor; exact for a power of two."""
    return totals._replace(S=totals.S * factor, errors=totals.errors * factor)


@jax.custom_jvp
def _without_derivative(data: T) -> T:
    """The data; an error where they are differentiated."""
    return data


@_without_derivative.defjvp
def _refuse(primals: tuple, tangents: tuple) -> Any:
    raise TypeError("a Stream has no derivatives; differentiate jaxreg.fit or jaxreg.moments")


def _decayed(totals: Totals, decay: Array) -> Totals:
    """All sums times a factor, and the rounding of the products."""
    errors = totals.errors + 8 * addition_unit() * jnp.abs(totals.S.hi)
    totals = totals._replace(errors=errors, discounted=totals.discounted * decay)
    return _scaled(totals, decay)


def _summed(ansatz: Ansatz, totals: Totals, rows: Rows, sign: int) -> Totals:
    """S ± Σ w z zᵀ over the rows."""
    scaling, unit = totals.scaling, 1 / totals.root_unit
    center = _plain(scaling)  # exact: of origins and fractions in float64
    centers, scales = (columns_of(ansatz, a, 0) for a in (center.x_center, center.x_scale))
    p = totals.S.shape[0] - 1
    basis_size = 1 if ansatz.basis_is_x else p**2

    def scaled(a: DoubleDouble, center: Array, scale: Array, valid: Array) -> DoubleDouble:
        return (a - jnp.where(valid, center, 0)).scaled(1 / scale)

    def step(state: tuple[DoubleDouble, Array, DoubleDouble], row: Rows) -> tuple[tuple, None]:
        S, errors, discounted = state
        t = [scaled(a, c, s, row.valid) for a, c, s in zip(row.x, centers, scales, strict=True)]
        u = scaled(row.y, center.y_center, center.y_scale, row.valid)
        psi = ansatz.basis(t)
        constant = [] if ansatz.has_intercept else [double_double.ones_like(u)]
        z = double_double.stack([*constant, *psi, u])
        term = z[:, None] * (z * (row.weights * unit * unit))[None]
        S, errors = _add(S, errors, term.scaled(sign))
        errors = errors + 8 * basis_size * addition_unit() * jnp.abs(term.hi)
        counted = jnp.stack([row.discount, row.log_weights])
        return (S, errors, discounted + counted * sign), None

    (S, errors, discounted), _ = lax.scan(step, (totals.S, totals.errors, totals.discounted), rows)
    return totals._replace(S=S, errors=errors, discounted=discounted)


def _add(S: DoubleDouble, errors: Array, term: DoubleDouble) -> tuple[DoubleDouble, Array]:
    """S + term, and the bound of its error."""
    return S + term, errors + addition_unit() * (jnp.abs(S.hi) + jnp.abs(term.hi))


def _wide(tree: T) -> T:
    """The floats of a pytree in float64."""
    return jax.tree.map(lambda a: a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)
