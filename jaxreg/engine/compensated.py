"""The turning point of one data set to full precision whatever the conditioning; slow.

z = (ψ(t), u) is computed in double-double and lies in [−1, 1]. Cut into slices of a few bits each, it
has products and sums that float64 holds exactly: G = ⟨z zᵀ⟩ is a matrix product of slices that rounds
nothing, in whatever order it is summed, and a third of the time of sums in double-double.

What is left is refined: the turning point of the residuals, found in the same way, is added until its
bound of the error is small. With a condition number κ of the columns of z a round leaves a share
κ² 2⁻¹⁰⁰ of the error: κ up to 10¹³ is solved, beyond float64 columns are dependent to their rounding.

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
from jaxreg.cost import is_valid
from jaxreg.engine import scaling as scalings
from jaxreg.engine.double_double_equations import (
    UNIT,
    FromBasis,
    double_double_coef_error,
    solve_in_double_double,
)
from jaxreg.engine.scaling import Scaling
from jaxreg.engine.sums import Sums, columns_of
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.numerics import double_double, small
from jaxreg.numerics.double_double import DoubleDouble
from jaxreg.numerics.precision import at_least_normal, float64, power_of_two
from jaxreg.numerics.vectors import Symmetric

SLICES = 5  # of 21 bits: 105 of them, as many as a pair has
BITS = 21
ROWS = 256  # products of slices that add up exactly: 2 · 21 + 8 bits, and the signs
MIN_SHARE = 2.0**-86  # of a column that those before it do not explain; below is rounding
STORED = 2.0**2  # ulps: columns may depend on each other but for the rounding that stored them
ROUNDS = 4


class Compensated(NamedTuple):
    """What is found of one data set.

    Attributes:
        sums: what was counted; the sums of z are left out.
        point: the turning point.
        G: ⟨z zᵀ⟩ of z = (ψ(t), u), (p + 1, p + 1).
        scaling: of t and u.
    """

    sums: Sums
    point: TurningPoint
    G: DoubleDouble
    scaling: Scaling


class _Rows(NamedTuple):
    """Observations in their scaling, ROWS at a time: t for each column of x, all (chunks, ROWS)."""

    t: list[DoubleDouble]
    u: DoubleDouble
    weight: Array
    valid: Array


class _Round(NamedTuple):
    """How far the refinement has come: c, its error, what solved for it, and the step to be taken off u."""

    coefs: DoubleDouble
    error: Array
    inverse: DoubleDouble
    rest: DoubleDouble
    share: Array
    G: DoubleDouble
    u: DoubleDouble
    step: DoubleDouble
    goes_on: Array
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
        ansatz: of p params.
        x: (n,), or (n, k) where the ansatz takes vectors.
        y: (n,).
        weights: (n,) or None.
        x_origin: what was taken out of integers, () or (k,), or None.
        y_origin: the same of y, ().
    """
    columns = columns_of(ansatz, x, 1)
    valid = is_valid(columns, y, weights)
    possible = jnp.isfinite(y)
    for column in columns:
        possible &= jnp.isfinite(column)
    if weights is not None:
        possible &= (weights > 0) & jnp.isfinite(weights)
    finite = jnp.all(possible | ~valid)
    nobs = jnp.sum(valid, dtype=jnp.int32)
    valid &= possible
    scaling = _scaling(ansatz, x, y, valid, x_origin, y_origin)
    with float64():
        wide = jax.tree.map(lambda a: a.astype(jnp.float64), scaling)
        rows, w_unit = _rows(ansatz, wide, columns, y, weights, valid)
        least = _least_share(scaling, y.dtype)
        from_basis = FromBasis.of(ansatz, wide)
        last = _refined(ansatz, from_basis, rows, least, y.dtype)
        log_weight = None if weights is None else _log_weight(weights, valid)
        sums = Sums(nobs.astype(jnp.float64), jnp.sum(rows.weight) * w_unit, log_weight, [], [])
        point = _turning_point(ansatz, wide, from_basis, last, _variance(rows), y.dtype)
        return Compensated(sums, point._replace(full_rank=last.share > least, finite=finite), last.G, wide)


def _turning_point(
    ansatz: Ansatz, scaling: Scaling, from_basis: FromBasis, last: _Round, y_variance: Array, dtype: np.dtype
) -> TurningPoint:
    """Rounded to float64, in the basis around the means, as in the plain pass."""
    first = int(ansatz.has_intercept)
    p = last.error.shape[0]
    params, off, terms = from_basis.params(last.coefs, last.error)
    coefs, unit = last.coefs.value, scaling.y_scale
    mean = last.G[0] if first else last.G[0].map(jnp.zeros_like)
    gram = (last.G[first:p, first:p] - mean[first:p, None] * mean[None, first:p]).value
    center, offsets = scaling.x_center, mean[first:p].value
    c0 = None
    if first:
        if ansatz.basis_is_x:
            moved = offsets if ansatz.x_is_vector else offsets[0]
            center = (scaling.x_center + scaling.x_scale * moved).astype(dtype).astype(jnp.float64)
            shift = jnp.atleast_1d((center - scaling.x_center) / scaling.x_scale)
            coefs = coefs.at[0].add(small.dot(coefs[1:], shift))
            offsets = offsets - shift
        c0 = scaling.y_center + unit * coefs[0]
    y_mean = mean[p].value + scaling.y_center / unit
    return TurningPoint(
        params=params.scaled(unit).value,
        param_errors=unit * off,
        param_terms=at_least_normal(terms, unit),
        c0=c0,
        coefs=unit * coefs[first:],
        x_center=columns_of(ansatz, center, 0),
        x_scale=columns_of(ansatz, scaling.x_scale, 0),
        offsets=offsets,
        gram=Symmetric(gram, p - first),
        inverse=Symmetric(last.inverse[first:, first:].value, p - first),
        cross=(last.G[p, first:p] - mean[p] * mean[first:p]).value,
        unit_deviations=from_basis.deviations(last.inverse),
        y_unit=unit,
        unexplained=jnp.maximum(last.rest.value, 0),
        explained=(last.G[p, p] - mean[p] * mean[p] - last.rest).value,
        y_mean=y_mean,
        y_variance=y_variance,
        full_rank=jnp.ones((), bool),
        finite=jnp.ones((), bool),
        accurate=jnp.ones((), bool),
    )


def _variance(rows: _Rows) -> Array:
    """⟨(u − ⟨u⟩)²⟩."""
    share = rows.weight / jnp.where(jnp.sum(rows.weight) > 0, jnp.sum(rows.weight), 1)
    return jnp.sum(share * jnp.square(rows.u.hi - jnp.sum(share * rows.u.hi)))


def _log_weight(weights: Array, valid: Array) -> Array:
    return jnp.sum(jnp.log(jnp.where(valid, weights, 1).astype(jnp.float64)))


def _refined(ansatz: Ansatz, from_basis: FromBasis, rows: _Rows, least: Array, dtype: np.dtype) -> _Round:
    """The turning point of u, then that of what it leaves, until the error is small."""
    p = len(ansatz.param_names(len(rows.t)))

    def refine(before: _Round) -> _Round:
        u, largest = _taken_off(ansatz, rows._replace(u=before.u), before.step)
        scale = power_of_two(largest)
        G = _moments(ansatz, rows._replace(u=u.scaled(1 / scale)))
        found = solve_in_double_double(G, least)
        step = found.coefs.scaled(scale)
        coefs = before.coefs + step
        rest = found.unexplained.scaled(scale * scale)
        error = double_double_coef_error(found, jnp.ones(p + 1), UNIT) * scale
        # Residuals are off by the rounding of what was taken off, and c by ψ⁺ of that.
        taken = jnp.sum(jnp.abs(before.coefs.hi))
        error += UNIT * taken * jnp.sqrt(jnp.maximum(small.diagonal(found.inverse.hi), 0))
        params, off, _ = from_basis.params(coefs, error)
        relative = jnp.max(jnp.where(off > 0, off / jnp.abs(params.hi), 0))
        known = relative < jnp.finfo(dtype).eps / 16
        known &= UNIT * jnp.square(scale + jnp.sum(jnp.abs(step.hi))) <= 2.0**-40 * jnp.abs(rest.hi)
        rounds = before.rounds + 1
        goes_on = ~known & (found.smallest_pivot > least) & (rounds < ROUNDS)
        G = double_double.where(rounds == 1, G, before.G)
        return _Round(coefs, error, found.inverse, rest, found.smallest_pivot, G, u, step, goes_on, rounds)

    zero = jnp.zeros_like(rows.weight[0, 0])  # lies where the data lie on a mesh
    nothing = DoubleDouble.of(jnp.zeros(p) + zero)
    start = _Round(
        coefs=nothing,
        error=nothing.hi,
        inverse=DoubleDouble.of(jnp.zeros((p, p)) + zero),
        rest=DoubleDouble.of(zero),
        share=zero,
        G=DoubleDouble.of(jnp.zeros((p + 1, p + 1)) + zero),
        u=rows.u,
        step=nothing,
        goes_on=zero == 0,
        rounds=zero.astype(jnp.int32),
    )
    return lax.while_loop(lambda state: state.goes_on, refine, start)


def _scaling(
    ansatz: Ansatz, x: Array, y: Array, valid: Array, x_origin: Array | None, y_origin: Array | None
) -> Scaling:
    """That of the valid observations."""

    def ends(a: Array) -> tuple[Array, Array]:
        there = valid.reshape(-1, *(1,) * (a.ndim - 1))
        return jnp.where(there, a, jnp.inf).min(axis=0), jnp.where(there, a, -jnp.inf).max(axis=0)

    found = scalings.of_ranges(ends(x), ends(y), ansatz)
    return replace(found, x_origin=x_origin, y_origin=y_origin)


def _rows(
    ansatz: Ansatz, scaling: Scaling, columns: list[Array], y: Array, weights: Array | None, valid: Array
) -> tuple[_Rows, Array]:
    """The observations in their scaling, and the power of two that the weights are divided by."""
    n = y.shape[0]
    count = -(-n // ROWS)
    size = -(-n // count)

    def chunks(a: Array) -> Array:
        return jnp.pad(a, (0, count * size - n)).reshape(count, size)

    def inside(a: Array, center: Array, scale: Array) -> DoubleDouble:
        unit = 1 / scale
        a = jnp.where(valid, a, 0).astype(jnp.float64) * unit
        return DoubleDouble(*double_double.two_sum(a, -jnp.where(valid, center * unit, 0))).map(chunks)

    w = jnp.ones(n) if weights is None else weights.astype(jnp.float64)
    w = jnp.where(valid, w, 0)
    unit = power_of_two(jnp.max(w)) if weights is not None else jnp.ones(())
    of_x = (columns_of(ansatz, a, 0) for a in (scaling.x_center, scaling.x_scale))
    t = [inside(a, c, s) for a, c, s in zip(columns, *of_x, strict=True)]
    return _Rows(t, inside(y, scaling.y_center, scaling.y_scale), chunks(w / unit), chunks(valid)), unit


def _least_share(scaling: Scaling, dtype: np.dtype) -> Array:
    """The share of a column below which it depends on the others, as far as its stored digits tell."""
    offset = jnp.abs(scaling.x_center) / scaling.x_scale
    rounding = STORED * float(jnp.finfo(dtype).eps) * (1 + jnp.max(offset).astype(jnp.float64))
    return jnp.maximum(MIN_SHARE, rounding**2)


def _moments(ansatz: Ansatz, rows: _Rows) -> DoubleDouble:
    """⟨z zᵀ⟩."""

    def add(total: DoubleDouble | None, chunk: _Rows) -> tuple[DoubleDouble, None]:
        z = double_double.concatenate([_basis(ansatz, chunk), chunk.u[None]])
        G = _exact_product(_slices(z * chunk.weight), _slices(z))
        return G if total is None else total + G, None

    zero = jax.eval_shape(lambda chunk: add(None, chunk)[0], jax.tree.map(lambda a: a[0], rows))
    start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype) + jnp.zeros_like(rows.weight[0, 0]), zero)
    total, _ = lax.scan(add, start, rows)
    weight = jnp.sum(rows.weight)
    lower = jnp.tril(jnp.ones(total.shape, bool))
    return double_double.where(lower, total, double_double.transpose(total)) / jnp.where(
        weight > 0, weight, 1
    )


def _taken_off(ansatz: Ansatz, rows: _Rows, coefs: DoubleDouble) -> tuple[DoubleDouble, Array]:
    """u − cᵀψ, and the largest of it."""

    def residual(chunk: _Rows) -> DoubleDouble:
        psi = _basis(ansatz, chunk)
        return lax.fori_loop(0, psi.shape[0], lambda k, u: u - coefs[k] * psi[k], chunk.u)

    u = lax.map(residual, rows)
    return u, jnp.max(jnp.abs(u.hi))


def _basis(ansatz: Ansatz, rows: _Rows) -> DoubleDouble:
    """ψ(t) of some rows, (p, ROWS), 0 where there is no observation."""
    return double_double.stack(ansatz.basis(rows.t)).map(lambda a: jnp.where(rows.valid, a, 0))


def _slices(z: DoubleDouble) -> Array:
    """Numbers of BITS bits each, on grids that are the same for all, whose sum is z, (SLICES, …)."""
    rest, slices = z.hi, []
    for k in range(1, SLICES + 1):
        grid = 2.0 ** (k * BITS)
        slices.append(jnp.rint(rest * grid) * (1 / grid))
        rest = rest - slices[-1]
        if k == 2:  # so small that no digit of lo is lost
            rest = rest + z.lo
    return jnp.stack(slices)


def _exact_product(a: Array, b: Array) -> DoubleDouble:
    """Σ_r a[r] b[r]ᵀ over all rows, from slices (SLICES, q, ROWS)."""
    products = lax.dot_general(a, b, (((2,), (2,)), ((), ())), precision=lax.Precision.HIGHEST)
    smallest_first = sorted(np.ndindex(SLICES, SLICES), key=lambda ij: -sum(ij))

    def add(total: DoubleDouble, a: Array) -> tuple[DoubleDouble, None]:
        s, lost = double_double.two_sum(total.hi, a)
        return DoubleDouble(s, total.lo + lost), None

    terms = jnp.stack([products[i, :, j] for i, j in smallest_first])
    return lax.scan(add, DoubleDouble.of(jnp.zeros_like(terms[0])), terms)[0]
