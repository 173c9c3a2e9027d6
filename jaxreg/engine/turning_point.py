"""The turning point p = ∇S = 0 of every data set: the normal equations A θ = b, from sums.

For a line, subtracting the means leaves covariances: the slope is cov(x, y) / var(x), equation 14 of the seed
paper, and the intercept ⟨y⟩ − β₁⟨x⟩, equation 15. All is computed in float64, with a bound of its rounding.
Values with several consumers are quotients or roots: these XLA stores, others it would recompute in each.
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
from jaxreg.numerics.precision import MIN_NORMAL, at_least_normal, power_of_two, rounding_unit
from jaxreg.numerics.vectors import (
    Symmetric,
    Vector,
    all_true,
    as_array,
    as_list,
    dot,
    elementwise,
    max_listed,
    prepend,
    vector,
)

UNDERFLOW = 2.0**-1012  # absolute error of a term near the smallest float64, in units in which z is about 1
MAX_UNROLLED_ROWS = 32  # rows that are added up before they are added to running sums
PADDED_ROWS = 1024  # an eager call may pad up to so many rows with gaps


class Tolerances(NamedTuple):
    """Relative errors above which a data set is computed again in double-double.

    Attributes:
        params: of a param, for each column except the constant.
        unexplained: of the unexplained variance.
        condition: of A⁻¹, for each column except the constant.
    """

    params: float
    unexplained: float
    condition: float


TOLERANCES = {
    "float32": Tolerances(2.0**-26, 2.0**-20, 2.0**-28),
    "float64": Tolerances(2.0**-44, 2.0**-36, 2.0**-44),
}


class Rounding(NamedTuple):
    """Relative errors of sums of rounded terms.

    Attributes:
        bound: the largest possible error.
        likely: the likely error.
        likely_share: the likely error of a param, relative to its bound.
    """

    bound: Array
    likely: Array
    likely_share: Array

    @classmethod
    def of(cls, ansatz: Ansatz, p: int, roundings: Array, weight: Array) -> Rounding:
        """For sums whose terms are rounded `roundings` times: the error grows with it, likely with its root.

        The sums of different columns have independent errors, except those of powers of one x.
        """
        fixed = 6 + 4 * p + (0 if ansatz.basis_is_x else 2 * p**2)  # z, its products, and the solution
        underflow = jnp.where(weight > 0, roundings * (UNDERFLOW / jnp.where(weight > 0, weight, 1)), 0)
        unit = rounding_unit()
        bound = unit * (roundings + fixed) + underflow
        likely = unit * (jnp.sqrt(roundings) / 4 + 2) + underflow
        return cls(bound, likely, likely / bound / math.sqrt(_independent_columns(ansatz, p)))


def _independent_columns(ansatz: Ansatz, p: int) -> int:
    """The number of columns of x except the constant; 1 for powers of one x and for a constant alone."""
    return max(p - ansatz.has_intercept, 1) if ansatz.basis_is_x else 1


def max_roundings(n: int) -> float:
    """How often a term of a sum over n rows is rounded at most.

    MAX_UNROLLED_ROWS times in the sum of a few rows, and n / 4 times in the running sum of these. Up to
    PADDED_ROWS it is unknown how many rows are padding, so there the bound is the number of observations.
    """
    return math.inf if n <= PADDED_ROWS else n / 4 + MAX_UNROLLED_ROWS


class Covariances(NamedTuple):
    """Means of z = (ψ₁ … ψ_k, u), and ⟨z zᵀ⟩ about them; without an intercept about 0.

    Attributes:
        means: ⟨ψ⟩.
        y_mean: ⟨y⟩ in units of u.
        G: the matrix, (k + 1) × (k + 1).
        y_variance: ⟨(u − ⟨u⟩)²⟩.
        sizes: √⟨ψ_i²⟩ before centering: rounding is relative to these.
        y_size: √⟨u²⟩, the same.
        finite: whether the sums are finite.
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
        first = as_list(sums.first) if squares.is_list else as_array(sums.first)
        z_mean = elementwise(lambda a: jnp.where(finite, a, 0) / weight, first)
        means, y_mean = z_mean[:-1], z_mean[-1]
        squares = squares.map(lambda a: jnp.where(finite, a, 0) / weight)
        sizes = elementwise(jnp.sqrt, squares.diagonal)
        sizes, y_size = sizes[:-1], sizes[-1]
        G = squares.with_outer(lambda s, a, b: s - a * b, z_mean, z_mean)
        y_variance = G[k, k]
        y_origin = 0.0 if scaling is None else scaling.y_center / scaling.y_scale
        y_mean = y_mean + y_origin
        if not ansatz.has_intercept:
            z_mean = prepend(y_mean, means[::-1])[::-1]
            G = G.with_outer(lambda s, a, b: s + a * b, z_mean, z_mean)
            y_size = y_size + abs(y_origin)
        return cls(means, y_mean, G, y_variance, sizes, y_size, finite)

    @classmethod
    def of_shared(cls, ansatz: Ansatz, sums: SharedSums, scaling: SumScaling) -> Covariances:
        """The same for data sets on one design."""
        weight_is_valid = jnp.isfinite(sums.weight) & (sums.weight > 0)
        finite = weight_is_valid & jnp.isfinite(sums.square)
        weight = jnp.where(weight_is_valid, sums.weight, 1)
        y_scaled, square, b = (jnp.where(finite, a, 0) / weight for a in (sums.y, sums.square, sums.cross))
        means, A = (jnp.where(weight_is_valid, a, 0) / weight for a in (sums.psi, sums.gram))
        sizes, y_size = jnp.sqrt(jnp.diagonal(A[..., 0]))[:, None], jnp.sqrt(square)
        y_variance, y_mean = square - y_scaled * y_scaled, y_scaled + scaling.y_center / scaling.y_scale
        if ansatz.has_intercept:
            A, b, square = A - means[:, None] * means[None], b - means * y_scaled, y_variance
        else:
            y_origin = y_mean - y_scaled
            b, square = b + means * y_origin, square + y_origin * (y_scaled + y_mean)
            y_size = y_size + jnp.abs(y_origin)
        G = Bordered(Symmetric(A, len(means)), b, square)
        return cls(means, y_mean, G, y_variance, sizes, y_size, finite)


class TurningPoint(NamedTuple):
    """Where p = 0, in float64; vectors are over params or basis functions, arrays of shape (*batch).

    The basis is that of t = (x − x_center) / x_scale, and f = c₀ + Σ c_k ψ_k(t).

    Attributes:
        params: θ, (p,).
        param_errors: bounds of their errors.
        param_terms: sizes of the terms of which they are sums.
        c0: f where all ψ_k are 0, in units of y; None without an intercept.
        coefs: c_k in units of y.
        x_center: for each column of x.
        x_scale: the same, powers of two.
        offsets: ⟨ψ_k⟩.
        gram: ⟨ψ_i ψ_j⟩, about the means if there is an intercept.
        inverse: its inverse.
        cross: ⟨ψ_i y⟩ in units of y_unit, about the means if there is an intercept.
        unit_deviations: √(⟨φ φᵀ⟩⁻¹)_jj, (p,); times √(S / df_resid) the standard errors.
        y_unit: the unit of y in the following fields.
        unexplained: S = ⟨ε²⟩.
        explained: reduction of S relative to the intercept-only model; to f = 0 without an intercept.
        y_mean: ⟨y⟩.
        y_variance: ⟨(y − ⟨y⟩)²⟩.
        full_rank: whether the turning point is unique; if not, the other fields are finite and meaningless.
        finite: whether the sums are finite.
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
    """The same point, with lists for arrays if there are at most `max_listed()` basis functions."""
    if point.gram.k > max_listed():
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
    sum_scaling: SumScaling | None,
    origin: Origin,
    roundings: float | Array,
    dtype: np.dtype,
) -> TurningPoint:
    """Solve the normal equations.

    Args:
        ansatz: with the basis ψ.
        sums: of every data set.
        sum_scaling: the scaling of z.
        origin: subtracted from x and y; params are those for x and y themselves.
        roundings: how often a term of a sum is rounded at most, see `max_roundings`.
        dtype: of the data.
    """
    is_shared = isinstance(sums, SharedSums)
    cov = (
        Covariances.of_shared(ansatz, sums, not_none(sum_scaling))
        if is_shared
        else Covariances.of(ansatz, sums, sum_scaling)
    )
    k = len(cov.sizes)
    rounding = Rounding.of(ansatz, k + ansatz.has_intercept, jnp.minimum(sums.nobs, roundings), sums.weight)
    solution = solve(cov.G, elementwise(jnp.square, cov.sizes), 16 * rounding.likely)
    errors, change, residual_size = coef_error(solution, cov.sizes, cov.y_size, rounding.bound)
    scaling = _data_units(k, sums.nobs.ndim) if sum_scaling is None else sum_scaling
    y_mean = cov.y_mean if origin.y is None else cov.y_mean + origin.y / scaling.y_scale
    y_mean_error = rounding.bound * residual_size
    x_center = _add_origin(scaling.x_center, origin.x)
    scaled = _scaled_params(
        ansatz, x_center, scaling.x_scale, cov.means, solution, errors, y_mean, y_mean_error
    )
    params, param_errors = (elementwise(lambda a: a * scaling.y_scale, v) for v in scaled[:2])
    terms = elementwise(lambda a: at_least_normal(a, scaling.y_scale), scaled.terms)
    point = TurningPoint(
        params,
        elementwise(lambda e, t: e + 4 * rounding_unit() * (k + 1) * t, param_errors, terms),
        terms,
        *_centered(ansatz, scaling, cov, solution, dtype),
        unit_deviations=scaled.deviations,
        y_unit=jnp.asarray(scaling.y_scale),
        unexplained=jnp.maximum(solution.unexplained, 0),
        explained=dot(cov.G.last_column(), solution.coefs),
        y_mean=y_mean,
        y_variance=cov.y_variance,
        full_rank=solution.smallest_pivot > 16 * rounding.likely,
        finite=cov.finite,
        accurate=cov.finite,
    )
    accurate = _is_accurate(ansatz, point, sums.nobs, residual_size, change, rounding, dtype)
    return point._replace(accurate=accurate)


def _data_units(k: int, axes: int) -> SumScaling:
    one = jnp.ones((1,) * axes)
    return SumScaling([0 * one] * k, [one] * k, 0 * one, one)


def _add_origin(center: list[Array], origin: list[Array] | None) -> list[Array]:
    return center if origin is None else [c + o for c, o in zip(center, origin, strict=True)]


class _ScaledParams(NamedTuple):
    """θ_j / y_scale, bounds of their errors, sizes of their terms, and √(⟨φ φᵀ⟩⁻¹)_jj."""

    values: Vector
    errors: Vector
    terms: Vector
    deviations: Vector


def _scaled_params(
    ansatz: Ansatz,
    x_center: list[Array],
    x_scale: list[Array],
    means: Vector,
    solution: Solution,
    errors: Vector,
    y_mean: Array,
    y_mean_error: Array,
) -> _ScaledParams:
    """θ_j = Σ_k c_k M_kj where ψ_k(t(x)) = Σ_j M_kj φ_j(x); the intercept is ⟨y⟩ + Σ_k c_k (M_k0 − ⟨ψ_k⟩)."""
    if ansatz.basis_is_x:
        unit = elementwise(lambda s: 1 / s, vector(x_scale))
        psi_at_zero = elementwise(lambda c, u: -c * u, vector(x_center), unit)
        slopes = _slopes_of_columns(unit, solution, errors)
    else:
        M = ansatz.in_features(x_center, x_scale)
        psi_at_zero = vector([row[0] for row in M])
        slopes = _slopes_of_powers(M, solution, errors)
    if not ansatz.has_intercept:
        return slopes
    c, a = solution.coefs, elementwise(jnp.subtract, psi_at_zero, means)
    intercept = _ScaledParams(
        y_mean + dot(c, a),
        y_mean_error + dot(errors, elementwise(jnp.abs, a)),
        jnp.abs(y_mean) + dot(elementwise(jnp.abs, c), elementwise(jnp.abs, a)),
        jnp.sqrt(1 + dot(a, solution.inverse.times(a))),
    )
    return _ScaledParams(*(prepend(first, others) for first, others in zip(intercept, slopes, strict=True)))


def _slopes_of_columns(unit: Vector, solution: Solution, errors: Vector) -> _ScaledParams:
    """For ψ_k = unit_k φ_k + constant."""
    return _ScaledParams(
        elementwise(jnp.multiply, solution.coefs, unit),
        elementwise(jnp.multiply, errors, unit),
        elementwise(at_least_normal, elementwise(jnp.abs, solution.coefs), unit),
        elementwise(lambda v, u: _root(v) * u, solution.inverse.diagonal, unit),
    )


def _slopes_of_powers(M: list[dict[int, Array]], solution: Solution, errors: Vector) -> _ScaledParams:
    """For ψ_k that is a sum of φ_0 … φ_k."""
    c, V, k = solution.coefs, solution.inverse, len(M)
    if not V.is_list:
        return _many_slopes_of_powers(M, solution, errors)
    values, param_errors, terms, deviations = [], [], [], []
    for j in range(1, k + 1):
        m = {i: M[i][j] for i in range(j - 1, k)}
        products = [c[i] * m[i] for i in m]
        values.append(sum(products[1:], products[0]))
        leading = at_least_normal(jnp.abs(c[j - 1]), jnp.abs(m[j - 1]))
        terms.append(sum((jnp.abs(a) for a in products[1:]), leading))
        param_errors.append(dot([errors[i] for i in m], [jnp.abs(m[i]) for i in m]))
        unit = jnp.maximum(jnp.abs(m[j - 1]), MIN_NORMAL)  # of ψ_j, whose square may overflow
        row = [a / unit for a in m.values()]
        deviations.append(unit * _root(dot([dot([V[i, h] for h in m], row) for i in m], row)))
    return _ScaledParams(*map(vector, (values, param_errors, terms, deviations)))


def _many_slopes_of_powers(M: list[dict[int, Array]], solution: Solution, errors: Vector) -> _ScaledParams:
    """The same in arrays: k³ operations one by one would take minutes to compile."""
    c, V, k = solution.coefs, solution.inverse.entries, len(M)
    entries = [row.get(j, jnp.zeros(())) for row in M for j in range(1, k + 1)]
    m = as_array(entries)
    m = m.reshape(k, k, *m.shape[1:])  # of ψ_i, φ_j
    products = jnp.abs(c[:, None] * m)
    index = np.arange(k)
    leading = m[index, index]
    below = np.tri(k, k, -1).reshape(k, k, *(1,) * leading[0].ndim)
    unit = jnp.maximum(jnp.abs(leading), MIN_NORMAL)  # of ψ_j, whose square may overflow
    scaled = m / unit
    V_times_scaled = sum((V[:, h, None] * scaled[h] for h in range(1, k)), V[:, 0, None] * scaled[0])
    return _ScaledParams(
        jnp.sum(c[:, None] * m, axis=0),
        jnp.sum(errors[:, None] * jnp.abs(m), axis=0),
        at_least_normal(jnp.abs(c), jnp.abs(leading)) + jnp.sum(below * products, axis=0),
        unit * _root(jnp.sum(scaled * V_times_scaled, axis=0)),
    )


class _Centered(NamedTuple):
    """The fields of a `TurningPoint` from c0 to cross."""

    c0: Array | None
    coefs: Vector
    x_center: list[Array]
    x_scale: list[Array]
    offsets: Vector
    gram: Symmetric
    inverse: Symmetric
    cross: Vector


def _centered(
    ansatz: Ansatz, scaling: SumScaling, cov: Covariances, solution: Solution, dtype: np.dtype
) -> _Centered:
    """The solution with columns of x centered at their means, in units of their deviations.

    A basis that needs t in [−1, 1] keeps its scaling.
    """
    c, offsets, A, inverse = solution.coefs, cov.means, cov.G.leading(), solution.inverse
    b = cov.G.last_column()
    x_center, x_scale = scaling.x_center, scaling.x_scale
    if ansatz.basis_is_x:
        center, unit = vector(scaling.x_center), vector(scaling.x_scale)
        deviation = elementwise(lambda a, u: _root(a) * u, A.diagonal, unit)
        scale = elementwise(lambda a: _power_of_two_in(dtype, a), deviation)
        ratio = elementwise(jnp.divide, scale, unit)
        if ansatz.has_intercept:
            mean = elementwise(
                lambda c, u, m: (c + u * m).astype(dtype).astype(jnp.float64), center, unit, offsets
            )
            offsets = elementwise(lambda m, new, old, u: m - (new - old) / u, offsets, mean, center, unit)
            x_center = list(mean)
        c, offsets, b = (
            elementwise(jnp.multiply, c, ratio),
            elementwise(jnp.divide, offsets, ratio),
            elementwise(jnp.divide, b, ratio),
        )
        A = A.with_outer(lambda a, s, t: a / (s * t), ratio, ratio)
        inverse = inverse.with_outer(lambda a, s, t: a * (s * t), ratio, ratio)
        x_scale = list(scale)
    c = elementwise(lambda a: a * scaling.y_scale, c)
    c0 = cov.y_mean * scaling.y_scale - dot(c, offsets) if ansatz.has_intercept else None
    return _Centered(c0, c, x_center, x_scale, offsets, A, inverse, b)


def _power_of_two_in(dtype: np.dtype, a: Array) -> Array:
    """A power of two near a whose inverse is a normal number of this dtype; 1 for 0."""
    largest = 2.0 ** (jnp.finfo(dtype).maxexp - 3)
    return power_of_two(jnp.where(a > 0, jnp.clip(a, 1 / largest, largest), 0))


def _root(a: Array) -> Array:
    """√a; 0 where rounding has made a negative."""
    return jnp.sqrt(jnp.maximum(a, 0))


def _is_accurate(
    ansatz: Ansatz,
    point: TurningPoint,
    nobs: Array,
    residual_size: Array,
    change: Array,
    rounding: Rounding,
    dtype: np.dtype,
) -> Array:
    """Whether rounding is small relative to params, their standard errors and the unexplained variance.

    A param that is 0 by chance has no correct digits; its error is compared with its standard error instead.
    """
    tolerances = TOLERANCES[dtype.name]
    p = len(point.params)
    columns = _independent_columns(ansatz, p)
    variance = jnp.where(nobs > p, point.unexplained / jnp.maximum(nobs - p, 1), 0)
    deviation = point.y_unit * jnp.sqrt(variance)

    def is_small(error: Array, theta: Array, unit_deviation: Array) -> Array:
        size = jnp.maximum(jnp.abs(theta), deviation * unit_deviation)
        return error * rounding.likely_share <= columns * tolerances.params * size

    accurate = all_true(elementwise(is_small, point.param_errors, point.params, point.unit_deviations))
    accurate &= (change * rounding.likely_share <= columns * tolerances.condition) & point.full_rank
    unexplained_error = rounding.likely * residual_size**2
    accurate &= (
        (unexplained_error <= tolerances.unexplained * point.unexplained) | (residual_size == 0) | (nobs <= p)
    )
    may_overflow = dtype == np.float64  # sums of float32 numbers are finite if these are
    return jnp.where(point.finite, accurate | (nobs < p), not may_overflow) | (nobs == 0)
