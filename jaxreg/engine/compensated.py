"""The turning point of one data set to full precision whatever the conditioning; slow.

z = (ψ(t), u) is computed in double-double and lies in [−1, 1]. It is split into slices of a few bits each,
whose products and sums float64 represents exactly: G = ⟨z zᵀ⟩ is a matrix product of slices without rounding,
in any order of summation, and takes a third of the time of sums in double-double.

The solution is refined: the turning point of its residuals, computed in the same way, is added until the
error bound is small. With a condition number κ of the columns of z, a round leaves κ² 2⁻¹⁰⁰ of the error. κ
up to 10¹³ is solved; beyond it, float64 columns are linearly dependent up to their rounding.

Source: K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, Numer. Algorithms 59 (2012) 95; refinement as in
N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 12.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine import scaling as scalings
from jaxreg.engine.double_double_equations import (
    FromBasis,
    double_double_coef_error,
    solve_in_double_double,
)
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.sums import Sums, columns_of
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.gaps import is_valid
from jaxreg.numerics import double_double, small
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import at_least_normal, double_double_unit, float64, power_of_two
from jaxreg.numerics.vectors import Symmetric

SLICES = 5  # of 21 bits: 105 of them, as many as a double-double has
BITS = 21
TILE_ROWS = 256  # rows for which sums of products of slices are exact: 2 · 21 + 8 bits, and the signs
PIVOT_ROUNDINGS = 2.0**12  # of a relative pivot; below them it is rounding
INPUT_ROUNDING = 2.0**2  # ulps of the data, up to which columns may be linearly dependent
MAX_ROUNDS = 4


class Compensated(NamedTuple):
    """The turning point of one data set and its moments.

    Attributes:
        sums: number of observations and weights; the sums of z are empty.
        point: the turning point.
        G: ⟨z zᵀ⟩ of z = (ψ(t), u), (p + 1, p + 1).
        scaling: from x and y to t and u.
    """

    sums: Sums
    point: TurningPoint
    G: DoubleDouble
    scaling: Scaling


class _Rows(NamedTuple):
    """Scaled observations, (tiles, rows of a tile) each: t for each column of x, u, w and validity."""

    x_scaled: list[DoubleDouble]
    y_scaled: DoubleDouble
    weight: Array
    valid: Array


class _Refinement(NamedTuple):
    """The state of the iterative refinement.

    Attributes:
        coefs: c.
        error: a bound of its error.
        inverse: A⁻¹.
        unexplained: the mean square of the residuals.
        smallest_pivot: see `DoubleDoubleSolution`.
        G: ⟨z zᵀ⟩ of the first round.
        residual: u − cᵀψ before the last step was subtracted.
        step: the last step of c.
        continues: whether another round is needed.
        rounds: number of rounds.
    """

    coefs: DoubleDouble
    error: Array
    inverse: DoubleDouble
    unexplained: DoubleDouble
    smallest_pivot: Array
    G: DoubleDouble
    residual: DoubleDouble
    step: DoubleDouble
    continues: Array
    rounds: Array


def compensated(
    ansatz: Ansatz,
    x: Array,
    y: Array,
    weights: Array | None,
    x_origin: Array | None,
    y_origin: Array | None,
) -> Compensated:
    """The turning point of one data set.

    Args:
        ansatz: with p params.
        x: (n,), or (n, k) where the ansatz takes vectors.
        y: (n,).
        weights: (n,) or None.
        x_origin: subtracted from integer x before its conversion to floats, () or (k,); None for floats.
        y_origin: the same of y, ().
    """
    columns = columns_of(ansatz, x, 1)
    valid = is_valid(columns, y, weights)
    usable = jnp.isfinite(y)
    for column in columns:
        usable &= jnp.isfinite(column)
    if weights is not None:
        usable &= (weights > 0) & jnp.isfinite(weights)
    finite = jnp.all(usable | ~valid)
    nobs = jnp.sum(valid, dtype=jnp.int32)
    valid &= usable
    scaling = _scaling(ansatz, x, y, valid, x_origin, y_origin)
    with float64():
        scaling_64 = jax.tree.map(lambda a: a.astype(jnp.float64), scaling)
        rows, w_unit = _rows(ansatz, scaling_64, columns, y, weights, valid)
        min_pivot = smallest_usable_pivot(scaling, y.dtype)
        from_basis = FromBasis.of(ansatz, scaling_64)
        refined = _refine(ansatz, from_basis, rows, min_pivot, y.dtype)
        log_weight = None if weights is None else _log_weight(weights, valid)
        sums = Sums(nobs.astype(jnp.float64), jnp.sum(rows.weight) * w_unit, log_weight, [], [])
        solved = Solved(refined.coefs, refined.error, refined.inverse, refined.unexplained, refined.G)
        point = point_in_float64(ansatz, scaling_64, from_basis, solved, _y_variance(rows), y.dtype)
        point = point._replace(full_rank=refined.smallest_pivot > min_pivot, finite=finite)
        return Compensated(sums, point, refined.G, scaling_64)


class Solved(NamedTuple):
    """The solution of the normal equations of one data set.

    Attributes:
        coefs: c, (p,).
        error: a bound of its error, (p,).
        inverse: A⁻¹, (p, p).
        unexplained: the mean square of the residuals.
        G: ⟨z zᵀ⟩, (p + 1, p + 1).
    """

    coefs: DoubleDouble
    error: Array
    inverse: DoubleDouble
    unexplained: DoubleDouble
    G: DoubleDouble


def point_in_float64(
    ansatz: Ansatz,
    scaling: Scaling,
    from_basis: FromBasis,
    solved: Solved,
    y_variance: Array,
    dtype: np.dtype,
) -> TurningPoint:
    """The solution rounded to float64, with columns of x centered at their means as from plain sums."""
    first = int(ansatz.has_intercept)
    p = solved.error.shape[0]
    params, param_errors, terms = from_basis.params(solved.coefs, solved.error)
    coefs, unit = solved.coefs.value, scaling.y_scale
    mean = solved.G[0] if first else solved.G[0].map(jnp.zeros_like)
    gram = (solved.G[first:p, first:p] - mean[first:p, None] * mean[None, first:p]).value
    center, offsets = scaling.x_center, mean[first:p].value
    c0 = None
    if first:
        if ansatz.basis_is_x:
            x_mean = offsets if ansatz.x_is_vector else offsets[0]
            center = (scaling.x_center + scaling.x_scale * x_mean).astype(dtype).astype(jnp.float64)
            shift = jnp.atleast_1d((center - scaling.x_center) / scaling.x_scale)
            coefs = coefs.at[0].add(small.dot(coefs[1:], shift))
            offsets = offsets - shift
        c0 = scaling.y_center + unit * coefs[0]
    y_mean = mean[p].value + scaling.y_center / unit
    if scaling.y_origin is not None:
        y_mean = y_mean + scaling.y_origin / unit
    return TurningPoint(
        params=params.scaled(unit).value,
        param_errors=unit * param_errors,
        param_terms=at_least_normal(terms, unit),
        c0=c0,
        coefs=unit * coefs[first:],
        x_center=columns_of(ansatz, center, 0),
        x_scale=columns_of(ansatz, scaling.x_scale, 0),
        offsets=offsets,
        gram=Symmetric(gram, p - first),
        inverse=Symmetric(solved.inverse[first:, first:].value, p - first),
        cross=(solved.G[p, first:p] - mean[p] * mean[first:p]).value,
        unit_deviations=from_basis.deviations(solved.inverse),
        y_unit=unit,
        unexplained=jnp.maximum(solved.unexplained.value, 0),
        explained=(solved.G[p, p] - mean[p] * mean[p] - solved.unexplained).value,
        y_mean=y_mean,
        y_variance=y_variance,
        full_rank=jnp.ones((), bool),
        finite=jnp.ones((), bool),
        accurate=jnp.ones((), bool),
    )


def _y_variance(rows: _Rows) -> Array:
    """⟨(u − ⟨u⟩)²⟩."""
    normalized = rows.weight / jnp.where(jnp.sum(rows.weight) > 0, jnp.sum(rows.weight), 1)
    return jnp.sum(normalized * jnp.square(rows.y_scaled.hi - jnp.sum(normalized * rows.y_scaled.hi)))


def _log_weight(weights: Array, valid: Array) -> Array:
    return jnp.sum(jnp.log(jnp.where(valid, weights, 1).astype(jnp.float64)))


def _refine(
    ansatz: Ansatz, from_basis: FromBasis, rows: _Rows, min_pivot: Array, dtype: np.dtype
) -> _Refinement:
    """The turning point of u, plus those of its residuals until the error is small."""
    p = len(ansatz.param_names(len(rows.x_scaled)))

    def refine(state: _Refinement) -> _Refinement:
        residual, largest = _subtract_fit(ansatz, rows._replace(y_scaled=state.residual), state.step)
        scale = power_of_two(largest)
        G = _moments(ansatz, rows._replace(y_scaled=residual.scaled(1 / scale)))
        solution = solve_in_double_double(G, min_pivot)
        step = solution.coefs.scaled(scale)
        coefs = state.coefs + step
        unexplained = solution.unexplained.scaled(scale * scale)
        error = double_double_coef_error(solution, jnp.ones(p + 1), double_double_unit()) * scale
        # Rounding of the fit that is subtracted changes the residuals, and c by ψ⁺ times that change.
        fit_size = jnp.sum(jnp.abs(state.coefs.hi))
        error += (
            double_double_unit() * fit_size * jnp.sqrt(jnp.maximum(small.diagonal(solution.inverse.hi), 0))
        )
        params, param_errors, _ = from_basis.params(coefs, error)
        relative = jnp.max(jnp.where(param_errors > 0, param_errors / jnp.abs(params.hi), 0))
        accurate = relative < jnp.finfo(dtype).eps / 16
        residual_size = scale + jnp.sum(jnp.abs(step.hi))
        accurate &= double_double_unit() * jnp.square(residual_size) <= 2.0**-40 * jnp.abs(unexplained.hi)
        rounds = state.rounds + 1
        continues = ~accurate & (solution.smallest_pivot > min_pivot) & (rounds < MAX_ROUNDS)
        return _Refinement(
            coefs=coefs,
            error=error,
            inverse=solution.inverse,
            unexplained=unexplained,
            smallest_pivot=solution.smallest_pivot,
            G=double_double.where(rounds == 1, G, state.G),
            residual=residual,
            step=step,
            continues=continues,
            rounds=rounds,
        )

    zero = jnp.zeros_like(rows.weight[0, 0])  # with the sharding of the data on a mesh
    zeros = DoubleDouble.of(jnp.zeros(p) + zero)
    start = _Refinement(
        coefs=zeros,
        error=zeros.hi,
        inverse=DoubleDouble.of(jnp.zeros((p, p)) + zero),
        unexplained=DoubleDouble.of(zero),
        smallest_pivot=zero,
        G=DoubleDouble.of(jnp.zeros((p + 1, p + 1)) + zero),
        residual=rows.y_scaled,
        step=zeros,
        continues=zero == 0,
        rounds=zero.astype(jnp.int32),
    )
    return lax.while_loop(lambda state: state.continues, refine, start)


def _scaling(
    ansatz: Ansatz, x: Array, y: Array, valid: Array, x_origin: Array | None, y_origin: Array | None
) -> Scaling:
    """The scaling of the range of the valid observations."""

    def valid_range(a: Array) -> tuple[Array, Array]:
        row_is_valid = valid.reshape(-1, *(1,) * (a.ndim - 1))
        low = jnp.where(row_is_valid, a, jnp.inf).min(axis=0)
        return low, jnp.where(row_is_valid, a, -jnp.inf).max(axis=0)

    scaling = scalings.of_ranges(valid_range(x), valid_range(y), ansatz)
    return replace(scaling, x_origin=x_origin, y_origin=y_origin)


def _rows(
    ansatz: Ansatz, scaling: Scaling, columns: list[Array], y: Array, weights: Array | None, valid: Array
) -> tuple[_Rows, Array]:
    """The scaled observations, and the power of two by which their weights are divided."""
    n = y.shape[0]
    count = -(-n // TILE_ROWS)
    length = -(-n // count)

    def in_tiles(a: Array) -> Array:
        return jnp.pad(a, (0, count * length - n)).reshape(count, length)

    def scaled(a: Array, center: Array, scale: Array) -> DoubleDouble:
        unit = 1 / scale
        a = jnp.where(valid, a, 0).astype(jnp.float64) * unit
        return DoubleDouble(*double_double.two_sum(a, -jnp.where(valid, center * unit, 0))).map(in_tiles)

    w = jnp.ones(n) if weights is None else weights.astype(jnp.float64)
    w = jnp.where(valid, w, 0)
    w_unit = power_of_two(jnp.max(w)) if weights is not None else jnp.ones(())
    centers, scales = (columns_of(ansatz, a, 0) for a in (scaling.x_center, scaling.x_scale))
    x_scaled = [scaled(a, c, s) for a, c, s in zip(columns, centers, scales, strict=True)]
    y_scaled = scaled(y, scaling.y_center, scaling.y_scale)
    return _Rows(x_scaled, y_scaled, in_tiles(w / w_unit), in_tiles(valid)), w_unit


def smallest_usable_pivot(scaling: Scaling, dtype: np.dtype) -> Array:
    """The relative pivot below which a column depends on the others, given the rounding of the data."""
    offset = jnp.abs(scaling.x_center) / scaling.x_scale
    rounding = INPUT_ROUNDING * float(jnp.finfo(dtype).eps) * (1 + jnp.max(offset).astype(jnp.float64))
    return jnp.maximum(PIVOT_ROUNDINGS * double_double_unit(), rounding**2)


def _moments(ansatz: Ansatz, rows: _Rows) -> DoubleDouble:
    """⟨z zᵀ⟩."""

    def step(total: DoubleDouble | None, tile: _Rows) -> tuple[DoubleDouble, None]:
        z = double_double.concatenate([_basis(ansatz, tile), tile.y_scaled[None]])
        G = _exact_product(_slices(z * tile.weight), _slices(z))
        return G if total is None else total + G, None

    shapes = jax.eval_shape(lambda tile: step(None, tile)[0], jax.tree.map(lambda a: a[0], rows))
    start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype) + jnp.zeros_like(rows.weight[0, 0]), shapes)
    total, _ = lax.scan(step, start, rows)
    weight = jnp.sum(rows.weight)
    is_lower = jnp.tril(jnp.ones(total.shape, bool))
    symmetric = double_double.where(is_lower, total, double_double.transpose(total))
    return symmetric / jnp.where(weight > 0, weight, 1)


def _subtract_fit(ansatz: Ansatz, rows: _Rows, coefs: DoubleDouble) -> tuple[DoubleDouble, Array]:
    """The residuals u − cᵀψ, and the largest |u − cᵀψ|."""

    def residual(tile: _Rows) -> DoubleDouble:
        psi = _basis(ansatz, tile)
        return lax.fori_loop(0, psi.shape[0], lambda k, u: u - coefs[k] * psi[k], tile.y_scaled)

    residuals = lax.map(residual, rows)
    return residuals, jnp.max(jnp.abs(residuals.hi))


def _basis(ansatz: Ansatz, tile: _Rows) -> DoubleDouble:
    """ψ(t) of a tile, (p, rows); 0 for missing observations."""
    return double_double.stack(ansatz.basis(tile.x_scaled)).map(lambda a: jnp.where(tile.valid, a, 0))


def _slices(z: DoubleDouble) -> Array:
    """Numbers of BITS bits on common grids, whose sum is z, (SLICES, …)."""
    remainder, slices = z.hi, []
    for k in range(1, SLICES + 1):
        grid = 2.0 ** (k * BITS)
        slices.append(jnp.rint(remainder * grid) * (1 / grid))
        remainder = remainder - slices[-1]
        if k == 2:  # small enough to add lo exactly
            remainder = remainder + z.lo
    return jnp.stack(slices)


def _exact_product(a: Array, b: Array) -> DoubleDouble:
    """Σ_r a[r] b[r]ᵀ over the rows of a tile, from slices (SLICES, q, rows)."""
    products = lax.dot_general(a, b, (((2,), (2,)), ((), ())), precision=lax.Precision.HIGHEST)
    smallest_first = sorted(np.ndindex(SLICES, SLICES), key=lambda ij: -sum(ij))

    def add(total: DoubleDouble, a: Array) -> tuple[DoubleDouble, None]:
        s, error = double_double.two_sum(total.hi, a)
        return DoubleDouble(s, total.lo + error), None

    terms = jnp.stack([products[i, :, j] for i, j in smallest_first])
    return lax.scan(add, DoubleDouble.of(jnp.zeros_like(terms[0])), terms)[0]
