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
from jaxreg.closed_form import PAIR, FromCoefs, TurningPoint, located
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
    """How far the refinement has come: c, its error, what solved for it, and the step to be taken off u."""

    coefs: Pair
    error: Array
    inverse: Pair
    rest: Pair
    share: Array
    G: Pair
    u: Pair
    step: Pair
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
    nobs = jnp.sum(seen, dtype=jnp.int32)
    seen &= possible
    frame = _frame(ansatz, x, y, seen)
    with float64():
        rows, unit = _rows(frame, x, y, weights, seen)
        weight = jnp.sum(rows.weight)
        mean = jnp.sum(rows.weight * rows.u.hi) / jnp.where(weight > 0, weight, 1)
        weight *= unit
        least = _least_share(frame, dtype)
        from_coefs = FromCoefs.of(ansatz, frame, single=False)
        last = _refined(ansatz, from_coefs, rows, least, dtype)
        found = Solved(last.coefs, last.inverse, last.rest, last.share)
        b = last.G[:-1, -1]
        explained = small.dot(b.hi, last.coefs.hi) - (jnp.square(mean) if ansatz.has_intercept else 0)
        point = located(ansatz, frame.y_scale, from_coefs, found, explained, last.error, least, dtype)
        log_weight = jnp.zeros(()) if weights is None else _log_weight(weights, seen)
        moments = Moments(
            nobs=nobs,
            weight=weight.astype(dtype),
            log_weight=log_weight.astype(dtype),
            G=pair.narrow(last.G, dtype),
            mean=mean.astype(dtype),
            frame=frame,
            invalid=invalid | ~jnp.isfinite(weight.astype(dtype)),
            ansatz=ansatz,
        )
    return moments, point


def _log_weight(weights: Array, seen: Array) -> Array:
    return jnp.sum(jnp.log(jnp.where(seen, weights, 1).astype(jnp.float64)))


def _refined(ansatz: Ansatz, from_coefs: FromCoefs, rows: _Rows, least: Array, dtype: np.dtype) -> _Round:
    """The turning point of u, then that of what it leaves, until the error is small."""
    p = len(ansatz.names(rows.t.hi.shape[2] if ansatz.x_is_vector else 1))

    def refine(before: _Round) -> _Round:
        u, largest = _taken_off(ansatz, rows._replace(u=before.u), before.step)
        scale = power_of_two(largest)
        G = _moments(ansatz, rows._replace(u=u.scaled(1 / scale)))
        found = solve(G, least)
        step = found.coefs.scaled(scale)
        coefs = before.coefs + step
        rest = found.rest.scaled(scale * scale)
        error, _ = coef_error(found, jnp.ones(p + 1), jnp.asarray(PAIR))
        error *= scale
        # Residuals are off by the rounding of what was taken off, and c by ψ⁺ of that.
        taken = jnp.sum(jnp.abs(before.coefs.hi))
        error += PAIR * taken * jnp.sqrt(jnp.maximum(small.diagonal(found.inverse.hi), 0))
        _, doubt = from_coefs(coefs, error)
        known = jnp.max(doubt) < jnp.finfo(dtype).eps / 16
        known &= PAIR * jnp.square(scale + jnp.sum(jnp.abs(step.hi))) <= 2.0**-40 * jnp.abs(rest.hi)
        rounds = before.rounds + 1
        goes_on = ~known & (found.share > least) & (rounds < ROUNDS)
        G = pair.where(rounds == 1, G, before.G)
        return _Round(coefs, error, found.inverse, rest, found.share, G, u, step, goes_on, rounds)

    nothing, none = Pair.of(jnp.zeros(p)), jnp.zeros((), jnp.int32)
    start = _Round(
        coefs=nothing,
        error=nothing.hi,
        inverse=Pair.of(jnp.zeros((p, p))),
        rest=Pair.of(jnp.zeros(())),
        share=jnp.zeros(()),
        G=Pair.of(jnp.zeros((p + 1, p + 1))),
        u=rows.u,
        step=nothing,
        goes_on=none == 0,
        rounds=none,
    )
    return lax.while_loop(lambda state: state.goes_on, refine, start)


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


def _moments(ansatz: Ansatz, rows: _Rows) -> Pair:
    """⟨z zᵀ⟩."""

    def add(total: Pair | None, chunk: _Rows) -> tuple[Pair, None]:
        z = pair.concatenate([_basis(ansatz, chunk), chunk.u[None]])
        G = _exact_product(_slices(z * chunk.weight), _slices(z))
        return G if total is None else total + G, None

    zero = jax.eval_shape(lambda chunk: add(None, chunk)[0], jax.tree.map(lambda a: a[0], rows))
    total, _ = lax.scan(add, jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), zero), rows)
    weight = jnp.sum(rows.weight)
    lower = jnp.tril(jnp.ones(total.shape, bool))
    return pair.where(lower, total, pair.transpose(total)) / jnp.where(weight > 0, weight, 1)


def _taken_off(ansatz: Ansatz, rows: _Rows, coefs: Pair) -> tuple[Pair, Array]:
    """u − cᵀψ, and the largest of it."""

    def residual(chunk: _Rows) -> Pair:
        psi = _basis(ansatz, chunk)
        return lax.fori_loop(0, psi.shape[0], lambda k, u: u - coefs[k] * psi[k], chunk.u)

    u = lax.map(residual, rows)
    return u, jnp.max(jnp.abs(u.hi))


def _basis(ansatz: Ansatz, rows: _Rows) -> Pair:
    """ψ(t) of some rows, (p, ROWS), 0 where there is no observation."""
    return pair.stack(ansatz.basis(rows.t)).map(lambda a: jnp.where(rows.seen, a, 0))


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
    a, b = (s.reshape(SLICES * q, rows) for s in (a, b))
    products = lax.dot_general(a, b, (((1,), (1,)), ((), ())), precision=lax.Precision.HIGHEST)
    order = np.add.outer(np.arange(SLICES), np.arange(SLICES)).ravel()
    smallest_first = np.argsort(-order, kind="stable")
    products = jnp.swapaxes(products.reshape(SLICES, q, SLICES, q), 1, 2).reshape(-1, q, q)[smallest_first]

    def add(total: Pair, a: Array) -> tuple[Pair, None]:
        s, lost = pair.two_sum(total.hi, a)
        return Pair(s, jnp.asarray(total.lo) + lost), None

    return lax.scan(add, Pair.of(jnp.zeros((q, q))), products)[0]
