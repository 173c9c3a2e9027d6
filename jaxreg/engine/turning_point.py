"""The turning point p = ∇S = 0 of every data set from its sums, where the normal equations A θ = b hold.

For a line, taking the means out leaves covariances: the slope is cov(x, y) / var(x), equation 14 of the
seed paper, and the intercept ⟨y⟩ − β₁⟨x⟩, equation 15. All of it is float64, with a bound of its rounding.
What many read is a quotient or a root: XLA stores these, and computes other things anew for each reader.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, not_none
from jaxreg.ansatz import Ansatz
from jaxreg.engine.normal_equations import Bordered, Solution, coef_error, solve
from jaxreg.engine.shared_sums import SharedSums
from jaxreg.engine.sums import Origin, Sums, SumScaling
from jaxreg.numerics.precision import MIN_NORMAL, at_least_normal, power_of_two
from jaxreg.numerics.vectors import (
    MAX_LISTED,
    Symmetric,
    Vector,
    all_true,
    as_array,
    as_list,
    dot,
    elementwise,
    prepend,
    vector,
)

UNIT = 2.0**-53  # what an operation rounds, relative
BLOCK_ROWS = 32  # rows that are added up before they are added to the sums, at most
PADDED_ROWS = 1024  # up to so many a few rows may be gaps that an eager call has added


class Worth(NamedTuple):
    """Relative errors that are worth a second look.

    Attributes:
        params: of a param, for each column but the constant one.
        rest: of what is unexplained.
        condition: of A⁻¹, for each column but the constant one.
    """

    params: float
    rest: float
    condition: float


UNDERFLOW = 2.0**-1012  # what a term near the least float64 may lose, where z is a few powers of two below 1
WORTH = {"float32": Worth(2.0**-26, 2.0**-20, 2.0**-28), "float64": Worth(2.0**-44, 2.0**-36, 2.0**-44)}


class Rounding(NamedTuple):
    """Relative errors of sums of rounded terms.

    Attributes:
        at_most: a bound.
        likely: what is likely.
        share: what share of the bound of a param is likely.
    """

    at_most: Array
    likely: Array
    share: Array

    @classmethod
    def of(cls, ansatz: Ansatz, p: int, added: Array, weight: Array) -> Rounding:
        """A sum of m terms is off by at most m roundings and likely by a fraction of √m; gaps add nothing.

        A param is made of sums of each column, whose errors are independent unless all are of one x.
        """
        fixed = 6 + 4 * p + (0 if ansatz.basis_is_x else 2 * p**2)  # z, its products, and the solution
        lost = jnp.where(weight > 0, added * (UNDERFLOW / jnp.where(weight > 0, weight, 1)), 0)
        at_most, likely = UNIT * (added + fixed) + lost, UNIT * (jnp.sqrt(added) / 4 + 2) + lost
        return cls(at_most, likely, likely / at_most / math.sqrt(_columns(ansatz, p)))


def _columns(ansatz: Ansatz, p: int) -> int:
    """The number of columns of x but the constant one, 1 of powers of one x and of a constant alone."""
    return max(p - ansatz.has_intercept, 1) if ansatz.basis_is_x else 1


def max_roundings(n: int) -> float:
    """How often a term of a sum over n rows is rounded at most: BLOCK_ROWS times, and with the sum of rows.

    Of few rows as often as there are terms: an eager call may have added gaps to these.
    """
    return math.inf if n <= PADDED_ROWS else n / 4 + BLOCK_ROWS


class Covariances(NamedTuple):
    """Means of z = (ψ₁ … ψ_k, u), and ⟨z zᵀ⟩ about them; without an intercept about 0.

    Attributes:
        means: of ψ.
        y_mean: ⟨y⟩ in units of u.
        G: the matrix, k + 1 square.
        y_variance: ⟨(u − ⟨u⟩)²⟩.
        sizes: √⟨ψ_i²⟩ as it was added up: rounding is relative to these.
        y_size: √⟨u²⟩, the same.
        finite: whether the sums are.
    """

    means: Vector
    y_mean: Array
    G: Symmetric | Bordered
    y_variance: Array
    sizes: Vector
    y_size: Array
    finite: Array

    @classmethod
    def of(cls, ansatz: Ansatz, sums: Sums, scaling: SumScaling | None) -> Covariances:
        """From sums, which may have overflowed."""
        k = len(sums.first) - 1
        squares = Symmetric.from_lower(sums.second, k + 1)
        finite = jnp.isfinite(sums.weight) & all_true(elementwise(jnp.isfinite, squares.diagonal))
        weight = jnp.where(finite & (sums.weight > 0), sums.weight, 1)
        first = sums.first if squares.is_list else as_array(sums.first)
        of_z = elementwise(lambda a: jnp.where(finite, a, 0) / weight, first)
        means, mean = of_z[:-1], of_z[-1]
        squares = squares.map(lambda a: jnp.where(finite, a, 0) / weight)
        sizes = elementwise(jnp.sqrt, squares.diagonal)
        sizes, y_size = sizes[:-1], sizes[-1]
        G = squares.with_outer(lambda s, a, b: s - a * b, of_z, of_z)
        variance = G[k, k]
        origin = 0.0 if scaling is None else scaling.y_center / scaling.y_scale
        mean = mean + origin
        if not ansatz.has_intercept:
            of_z = prepend(mean, means[::-1])[::-1]
            G = G.with_outer(lambda s, a, b: s + a * b, of_z, of_z)
            y_size = y_size + abs(origin)
        return cls(means, mean, G, variance, sizes, y_size, finite)

    @classmethod
    def of_shared(cls, ansatz: Ansatz, sums: SharedSums, scaling: SumScaling) -> Covariances:
        """The same of data sets on one design."""
        counts = jnp.isfinite(sums.weight) & (sums.weight > 0)
        finite = counts & jnp.isfinite(sums.square)
        weight = jnp.where(counts, sums.weight, 1)
        u, square, b = (jnp.where(finite, a, 0) / weight for a in (sums.y, sums.square, sums.cross))
        means, A = (jnp.where(counts, a, 0) / weight for a in (sums.psi, sums.gram))
        sizes, y_size = jnp.sqrt(jnp.diagonal(A[..., 0]))[:, None], jnp.sqrt(square)
        variance, mean = square - u * u, u + scaling.y_center / scaling.y_scale
        if ansatz.has_intercept:
            A, b, square = A - means[:, None] * means[None], b - means * u, variance
        else:
            origin = mean - u
            b, square, y_size = b + means * origin, square + origin * (u + mean), y_size + jnp.abs(origin)
        G = Bordered(Symmetric(A, len(means)), b, square)
        return cls(means, mean, G, variance, sizes, y_size, finite)


class TurningPoint(NamedTuple):
    """Where p = 0, in float64; vectors are over params or basis functions, arrays of shape (*batch).

    The basis is that of t = (x − x_center) / x_scale, and f = c₀ + Σ c_k ψ_k(t).

    Attributes:
        params: θ, p of them.
        param_errors: by how much they may be off.
        param_terms: the size of what they are sums of.
        c0: f where the ψ_k are 0, in units of y; None without an intercept.
        coefs: c_k in units of y.
        x_center: for each column of x.
        x_scale: the same, powers of two.
        offsets: ⟨ψ_k⟩.
        gram: ⟨ψ_i ψ_j⟩, about the means where there is an intercept.
        inverse: its inverse.
        cross: ⟨ψ_i y⟩ in units of y_unit, about the means where there is an intercept.
        unit_deviations: the roots of the diagonal of ⟨φ φᵀ⟩⁻¹, p of them: times √(S / df_resid), the errors.
        y_unit: the unit of y in what follows.
        unexplained: S = ⟨ε²⟩.
        explained: by how much S is lower than at the best constant, at 0 without an intercept.
        y_mean: ⟨y⟩.
        y_variance: ⟨(y − ⟨y⟩)²⟩.
        full_rank: whether there is one such point; where not, the rest is finite and means nothing.
        finite: whether the sums are.
        accurate: whether rounding is too small to be noticed.
    """

    params: Vector
    param_errors: Vector
    param_terms: Vector
    c0: Array | None
    coefs: Vector
    x_center: list[Array]
    x_scale: list[Array]
    offsets: Vector
    gram: Symmetric
    inverse: Symmetric
    cross: Vector
    unit_deviations: Vector
    y_unit: Array
    unexplained: Array
    explained: Array
    y_mean: Array
    y_variance: Array
    full_rank: Array
    finite: Array
    accurate: Array


def with_lists(point: TurningPoint) -> TurningPoint:
    """A point in arrays with lists instead, if there are few basis functions."""
    if point.gram.k > MAX_LISTED:
        return point
    names = (
        "params",
        "param_errors",
        "param_terms",
        "coefs",
        "offsets",
        "gram",
        "inverse",
        "cross",
        "unit_deviations",
    )
    return point._replace(**{name: as_list(getattr(point, name)) for name in names})


def turning_point(
    ansatz: Ansatz,
    sums: Sums | SharedSums,
    scaling: SumScaling | None,
    origin: Origin,
    added: float | Array,
    dtype: np.dtype,
) -> TurningPoint:
    """Solve the normal equations of what was added up.

    Args:
        ansatz: of the basis.
        sums: of every data set.
        raw: the units of z.
        origin: what x and y are counted from; params are those of 0.
        added: how many terms a sum has at most, see `max_added`.
        dtype: of the data.
    """
    is_shared = isinstance(sums, SharedSums)
    cov = (
        Covariances.of_shared(ansatz, sums, not_none(scaling))
        if is_shared
        else Covariances.of(ansatz, sums, scaling)
    )
    k = len(cov.sizes)
    rounding = Rounding.of(ansatz, k + ansatz.has_intercept, jnp.minimum(sums.nobs, added), sums.weight)
    found = solve(cov.G, elementwise(jnp.square, cov.sizes), 16 * rounding.likely)
    errors, change, whole = coef_error(found, cov.sizes, cov.y_size, rounding.at_most)
    units = _units_of_data(k, sums.nobs.ndim) if scaling is None else scaling
    y_mean = cov.y_mean if origin.y is None else cov.y_mean + origin.y / units.y_scale
    of_mean = (y_mean, rounding.at_most * whole)
    x_center = _far(units.x_center, origin.x)
    in_data_units = _in_data_units(ansatz, x_center, units, cov, found, errors, of_mean)
    params, off = (elementwise(lambda a: a * units.y_scale, v) for v in in_data_units[:2])
    terms = elementwise(lambda a: at_least_normal(a, units.y_scale), in_data_units.terms)
    point = TurningPoint(
        params,
        elementwise(lambda e, t: e + 4 * UNIT * (k + 1) * t, off, terms),
        terms,
        *_around_the_means(ansatz, units, cov, found, dtype),
        unit_deviations=in_data_units.deviations,
        y_unit=jnp.asarray(units.y_scale),
        unexplained=jnp.maximum(found.unexplained, 0),
        explained=dot(cov.G.last_column(), found.coefs),
        y_mean=y_mean,
        y_variance=cov.y_variance,
        full_rank=found.smallest_pivot > 16 * rounding.likely,
        finite=cov.finite,
        accurate=cov.finite,
    )
    return point._replace(accurate=_accurate(ansatz, point, sums.nobs, whole, change, rounding, dtype))


def _units_of_data(k: int, axes: int) -> SumScaling:
    one = jnp.ones((1,) * axes)
    return SumScaling([0 * one] * k, [one] * k, 0 * one, one)


class _Params(NamedTuple):
    """θ_j in units of y as it was added, how far it may be off, the size of its terms, and √(⟨φ φᵀ⟩⁻¹)_jj."""

    values: Vector
    errors: Vector
    terms: Vector
    deviations: Vector


def _far(center: list[Array], origin: list[Array] | None) -> list[Array]:
    return center if origin is None else [c + o for c, o in zip(center, origin, strict=True)]


def _in_data_units(
    ansatz: Ansatz,
    x_center: list[Array],
    scaling: SumScaling,
    cov: Covariances,
    found: Solution,
    errors: Vector,
    of_mean: tuple[Array, Array],
) -> _Params:
    """θ_j = Σ_k c_k M_kj where ψ_k(t(x)) = Σ_j M_kj φ_j(x); the constant takes what the means leave."""
    if ansatz.basis_is_x:
        unit = elementwise(lambda s: 1 / s, vector(scaling.x_scale))
        at_zero = elementwise(lambda c, u: -c * u, vector(x_center), unit)
        behind = _by_units(unit, found, errors)
    else:
        M = ansatz.in_features(x_center, scaling.x_scale)
        at_zero = vector([row[0] for row in M])
        behind = _by_powers(M, found, errors)
    if not ansatz.has_intercept:
        return behind
    c, a = found.coefs, elementwise(jnp.subtract, at_zero, cov.means)
    intercept = _Params(
        of_mean[0] + dot(c, a),
        of_mean[1] + dot(errors, elementwise(jnp.abs, a)),
        jnp.abs(of_mean[0]) + dot(elementwise(jnp.abs, c), elementwise(jnp.abs, a)),
        jnp.sqrt(1 + dot(a, found.inverse.times(a))),
    )
    return _Params(*(prepend(first, others) for first, others in zip(intercept, behind, strict=True)))


def _by_units(unit: Vector, found: Solution, errors: Vector) -> _Params:
    """Where every ψ_k is one feature in another unit."""
    return _Params(
        elementwise(jnp.multiply, found.coefs, unit),
        elementwise(jnp.multiply, errors, unit),
        elementwise(at_least_normal, elementwise(jnp.abs, found.coefs), unit),
        elementwise(lambda v, u: _root(v) * u, found.inverse.diagonal, unit),
    )


def _by_powers(M: list[dict[int, Array]], found: Solution, errors: Vector) -> _Params:
    """Where ψ_k is a sum of the features up to φ_k."""
    c, V, k = list(found.coefs), found.inverse, len(M)
    values, off, terms, deviations = [], [], [], []
    for j in range(1, k + 1):
        m = {i: M[i][j] for i in range(j - 1, k)}
        products = [c[i] * m[i] for i in m]
        values.append(sum(products[1:], products[0]))
        leading = at_least_normal(jnp.abs(c[j - 1]), jnp.abs(m[j - 1]))
        terms.append(sum((jnp.abs(a) for a in products[1:]), leading))
        off.append(dot([errors[i] for i in m], [jnp.abs(m[i]) for i in m]))
        unit = jnp.maximum(jnp.abs(m[j - 1]), MIN_NORMAL)  # of ψ_j, whose square may overflow
        row = [a / unit for a in m.values()]
        deviations.append(unit * _root(dot([dot([V[i, h] for h in m], row) for i in m], row)))
    return _Params(*map(vector, (values, off, terms, deviations)))


def _around_the_means(
    ansatz: Ansatz, scaling: SumScaling, cov: Covariances, found: Solution, dtype: np.dtype
) -> tuple[Array | None, Vector, list[Array], list[Array], Vector, Symmetric, Symmetric, Vector]:
    """c₀, c, x_center, x_scale, offsets, A, A⁻¹ and b in the basis around the means, in units of deviations.

    A basis that lives on [−1, 1] stays where it is.
    """
    c, offsets, A, inverse = found.coefs, cov.means, cov.G.leading(), found.inverse
    b = cov.G.last_column()
    x_center, x_scale = scaling.x_center, scaling.x_scale
    if ansatz.basis_is_x:
        center, unit = vector(scaling.x_center), vector(scaling.x_scale)
        deviation = elementwise(lambda a, u: _root(a) * u, A.diagonal, unit)
        scale = elementwise(lambda a: _power_of_two_in(dtype, a), deviation)
        size = elementwise(jnp.divide, scale, unit)
        if ansatz.has_intercept:
            near = elementwise(
                lambda c, u, m: (c + u * m).astype(dtype).astype(jnp.float64), center, unit, offsets
            )
            offsets = elementwise(lambda m, new, old, u: m - (new - old) / u, offsets, near, center, unit)
            x_center = list(near)
        c, offsets, b = (
            elementwise(jnp.multiply, c, size),
            elementwise(jnp.divide, offsets, size),
            elementwise(jnp.divide, b, size),
        )
        A = A.with_outer(lambda a, s, t: a / (s * t), size, size)
        inverse = inverse.with_outer(lambda a, s, t: a * (s * t), size, size)
        x_scale = list(scale)
    c = elementwise(lambda a: a * scaling.y_scale, c)
    c0 = cov.y_mean * scaling.y_scale - dot(c, offsets) if ansatz.has_intercept else None
    return c0, c, x_center, x_scale, offsets, A, inverse, b


def _power_of_two_in(dtype: np.dtype, a: Array) -> Array:
    """A power of two whose inverse is a normal number of this dtype; 1 for 0."""
    largest = 2.0 ** (jnp.finfo(dtype).maxexp - 3)
    return power_of_two(jnp.where(a > 0, jnp.clip(a, 1 / largest, largest), 0))


def _root(a: Array) -> Array:
    """√a, 0 of what rounding has made negative."""
    return jnp.sqrt(jnp.maximum(a, 0))


def _accurate(
    ansatz: Ansatz,
    point: TurningPoint,
    nobs: Array,
    whole: Array,
    change: Array,
    rounding: Rounding,
    dtype: np.dtype,
) -> Array:
    """Whether rounding is too small to be noticed beside a param, its standard error and what is unexplained.

    A param that is 0 by chance costs digits of its own, which its standard error hides.
    """
    worth = WORTH[dtype.name]
    p = len(point.params)
    columns = _columns(ansatz, p)
    deviation = point.y_unit * jnp.sqrt(jnp.where(nobs > p, point.unexplained / jnp.maximum(nobs - p, 1), 0))

    def hidden(theta: Array, error: Array, unit_deviation: Array) -> Array:
        noticed = jnp.maximum(jnp.abs(theta), deviation * unit_deviation)
        return error * rounding.share <= columns * worth.params * noticed

    accurate = all_true(elementwise(hidden, point.params, point.param_errors, point.unit_deviations))
    accurate &= (change * rounding.share <= columns * worth.condition) & point.full_rank
    accurate &= (rounding.likely * whole**2 <= worth.rest * point.unexplained) | (whole == 0) | (nobs <= p)
    may_overflow = dtype == np.float64  # sums of float32 numbers are finite unless these are infinite
    return jnp.where(point.finite, accurate | (nobs < p), not may_overflow) | (nobs == 0)
