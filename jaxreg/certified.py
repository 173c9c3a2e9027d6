"""The turning point of one data set to the last digit, whatever its condition: the slow and sure way.

z = (ψ(t), u) is computed in pairs of float64 and lies in [−1, 1]. Cut into slices of a few bits each, it
has products and sums that float64 holds exactly: G = ⟨z zᵀ⟩ is a matrix product of slices that rounds
nothing, in whatever order it is summed, and a third of the time of sums in pairs.

What is left is refined: the turning point of the residuals, found in the same way, is added until its
bound of the error is small. With a condition number κ of the columns of z a round leaves a share
κ² 2⁻¹⁰⁰ of the error: κ up to 10¹³ is solved, beyond float64 columns are dependent to their rounding.

Source: K. Ozaki, T. Ogita, S. Oishi, S. M. Rump, Numer. Algorithms 59 (2012) 95; refinement as in
N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 12.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import frame as frames
from jaxreg import pair, small
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import PAIR, TurningPoint, located
from jaxreg.cost import observed
from jaxreg.frame import Frame, power_of_two
from jaxreg.moments import Moments
from jaxreg.normal_equations import Solved, coef_error, solve
from jaxreg.pair import Pair
from jaxreg.precision import float64

SLICES = 5  # of 21 bits: 105 of them, as many as a pair has
BITS = 21
ROWS = 256  # products of slices that add up exactly: 2 · 21 + 8 bits, and the signs
LEAST_SHARE = 2.0**-86  # of a column that those before it do not explain; below is rounding
STORED = 2.0**2  # ulps: columns may depend on each other but for the rounding that stored them
ROUNDS = 4


class _Rows(NamedTuple):
    """Observations in the frame, ROWS at a time: (chunks, ROWS), t (chunks, ROWS, k) where x is a vector."""

    t: Pair
    u: Pair
    weight: Array
    seen: Array


class _Round(NamedTuple):
    """How far the refinement has come."""

    found: Solved
    point: TurningPoint
    goes_on: Array
    rounds: Array


def locate(ansatz: Ansatz, x: Array, y: Array, weights: Array | None) -> tuple[Moments, TurningPoint]:
    """The moments and the turning point of one data set.

    Args:
        ansatz: of p params.
        x: (n,), or (n, k) where the ansatz takes vectors.
        y: (n,).
        weights: (n,) or None.
    """
    dtype = y.dtype
    seen = observed(x, y, weights, ansatz)
    possible = jnp.isfinite(y) & (jnp.isfinite(x).all(axis=1) if ansatz.x_is_vector else jnp.isfinite(x))
    if weights is not None:
        possible &= (weights > 0) & jnp.isfinite(weights)
    invalid = jnp.any(seen & ~possible)
    seen &= possible
    frame = _frame(ansatz, x, y, seen)
    with float64():
        rows, unit = _rows(frame, x, y, weights, seen)
        weight = jnp.sum(rows.weight) * unit
        invalid |= ~jnp.isfinite(weight)
        least = _least_share(frame, dtype)
        G = _moments(ansatz, rows, None, jnp.ones(()))
        first = _solved(ansatz, frame, solve(G, least), None, least, dtype)

        def refine(state: _Round) -> _Round:
            coefs = state.found.coefs
            scale = _largest_residual(ansatz, rows, coefs)
            rest = solve(_moments(ansatz, rows, coefs, scale), least)
            return _solved(ansatz, frame, rest, state, least, dtype, scale)

        last = lax.while_loop(lambda state: state.goes_on, refine, first)
        moments = Moments(
            jnp.sum(seen, dtype=jnp.int32), weight.astype(dtype), pair.narrow(G, dtype), frame, invalid, ansatz
        )
    return moments, last.point


def _frame(ansatz: Ansatz, x: Array, y: Array, seen: Array) -> Frame:
    """The frame of the valid observations."""

    def ends(a: Array) -> tuple[Array, Array]:
        there = seen.reshape(-1, *(1,) * (a.ndim - 1))
        return jnp.where(there, a, jnp.inf).min(axis=0), jnp.where(there, a, -jnp.inf).max(axis=0)

    return frames.of_ranges(ends(x), ends(y), ansatz)


def _rows(frame: Frame, x: Array, y: Array, weights: Array | None, seen: Array) -> tuple[_Rows, Array]:
    """The observations in the frame, and the power of two that the weights are divided by."""
    n = y.shape[0]
    count = -(-n // ROWS)
    size = -(-n // count)

    def chunks(a: Array) -> Array:
        a = jnp.pad(a, ((0, count * size - n), *((0, 0),) * (a.ndim - 1)))
        return a.reshape(count, size, *a.shape[1:])

    def inside(a: Array, center: Array, scale: Array) -> Pair:
        there = seen.reshape(-1, *(1,) * (a.ndim - 1))
        unit = 1 / scale.astype(jnp.float64)
        a, center = jnp.where(there, a, 0).astype(jnp.float64) * unit, center.astype(jnp.float64) * unit
        return Pair(*pair.two_sum(a, -jnp.where(there, center, 0)))

    w = jnp.ones(n) if weights is None else weights.astype(jnp.float64)
    w = jnp.where(seen, w, 0)
    unit = power_of_two(jnp.max(w)) if weights is not None else jnp.ones(())
    t, u = inside(x, frame.x_center, frame.x_scale), inside(y, frame.y_center, frame.y_scale)
    return _Rows(t.map(chunks), u.map(chunks), chunks(w / unit), chunks(seen)), unit


def _least_share(frame: Frame, dtype: np.dtype) -> Array:
    """The share of a column below which it depends on the others, as far as its stored digits tell."""
    offset = jnp.abs(frame.x_center) / frame.x_scale
    rounding = STORED * float(jnp.finfo(dtype).eps) * (1 + jnp.max(offset).astype(jnp.float64))
    return jnp.maximum(LEAST_SHARE, rounding**2)


def _moments(ansatz: Ansatz, rows: _Rows, coefs: Pair | None, scale: Array) -> Pair:
    """⟨z zᵀ⟩ with z = (ψ, (u − cᵀψ) / scale), or with u itself where there are no coefs."""

    def add(total: Pair, chunk: _Rows) -> tuple[Pair, None]:
        z = _z(ansatz, chunk, coefs)
        z = pair.concatenate([z[:-1], z[-1:].scaled(1 / scale)])
        wz = z * chunk.weight
        return total + _exact_product(_slices(wz), _slices(z)), None

    q = len(ansatz.names(rows.t.hi.shape[2] if ansatz.x_is_vector else 1)) + 1
    total, _ = lax.scan(add, Pair.of(jnp.zeros((q, q))), rows)
    weight = jnp.sum(rows.weight)
    lower = jnp.tril(jnp.ones((q, q), bool))
    return pair.where(lower, total, pair.transpose(total)) / jnp.where(weight > 0, weight, 1)


def _largest_residual(ansatz: Ansatz, rows: _Rows, coefs: Pair) -> Array:
    """A power of two above every |u − cᵀψ|."""

    def add(largest: Array, chunk: _Rows) -> tuple[Array, None]:
        return jnp.maximum(largest, jnp.max(jnp.abs(_z(ansatz, chunk, coefs).hi[-1]))), None

    return power_of_two(lax.scan(add, jnp.zeros(()), rows)[0])


def _z(ansatz: Ansatz, rows: _Rows, coefs: Pair | None) -> Pair:
    """z = (ψ(t), u − cᵀψ(t)) of some rows, (p + 1, ROWS), 0 where there is no observation."""
    psi = pair.stack(ansatz.basis(rows.t))
    u = rows.u
    if coefs is not None:
        u = lax.fori_loop(0, psi.hi.shape[0], lambda k, u: u - coefs[k] * psi[k], u)
    z = pair.concatenate([psi, u[None]])
    return z.map(lambda a: jnp.where(rows.seen, a, 0))


def _slices(z: Pair) -> Array:
    """Numbers of BITS bits each, on grids that are the same for all, whose sum is z, (SLICES, …)."""
    rest, slices = z.hi, []
    for k in range(1, SLICES + 1):
        grid = 2.0 ** (k * BITS)
        slices.append(jnp.rint(rest * grid) * (1 / grid))
        rest = rest - slices[-1]
        if k == 2:  # so small that no digit of lo is lost
            rest = rest + z.lo
    return jnp.stack(slices)


def _exact_product(a: Array, b: Array) -> Pair:
    """Σ_r a[r] b[r]ᵀ over all rows, from slices (SLICES, q, ROWS)."""
    _, q, rows = a.shape
    flat = [s.reshape(SLICES * q, rows) for s in (a, b)]
    products = lax.dot_general(*flat, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
    products = products.reshape(SLICES, q, SLICES, q)
    total = Pair.of(jnp.zeros((q, q)))
    for order in reversed(range(2 * SLICES - 1)):  # the smallest first
        for i in range(max(0, order - SLICES + 1), min(order, SLICES - 1) + 1):
            total = Pair(*_added(total, products[i, :, order - i]))
    return total


def _added(total: Pair, a: Array) -> tuple[Array, Array]:
    s, lost = pair.two_sum(total.hi, a)
    return s, jnp.asarray(total.lo) + lost


def _solved(
    ansatz: Ansatz,
    frame: Frame,
    found: Solved,
    before: _Round | None,
    least: Array,
    dtype: np.dtype,
    scale: Array | float = 1.0,
) -> _Round:
    """What a round has found, added to what was found before, and whether to go on."""
    p = found.inverse.hi.shape[0]
    ones = jnp.ones(p + 1)  # the largest that a z_i can be
    step_error = coef_error(found, ones, jnp.asarray(PAIR)) * scale
    explained = (1 + jnp.sum(jnp.abs(found.coefs.hi))) * scale
    rest = found.rest.scaled(scale * scale)
    error = step_error
    if before is None:
        coefs = found.coefs
    else:
        coefs = before.found.coefs + found.coefs.scaled(scale)
        size = 1 + jnp.sum(jnp.abs(coefs.hi))  # residuals are off by so much, and c by ψ⁺ of it
        error = step_error + PAIR * size * jnp.sqrt(jnp.maximum(small.diagonal(found.inverse.hi), 0))
    total = Solved(coefs, found.inverse, rest, found.share)
    point = located(ansatz, frame, total, error, least, dtype)
    rounds = jnp.ones((), jnp.int32) if before is None else before.rounds + 1
    known = jnp.max(point.doubt) < jnp.finfo(dtype).eps / 16
    known &= PAIR * explained**2 <= 2.0**-40 * jnp.abs(rest.hi)
    goes_on = ~known & point.full_rank & (rounds < ROUNDS)
    return _Round(total, point, goes_on, rounds)
