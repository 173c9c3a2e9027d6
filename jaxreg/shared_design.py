"""Data sets without gaps on a design that all share: its part of the work is done once.

With ψ = QR and ⟨QᵀQ⟩ = 1, the coefs of every data set are R⁻¹⟨Qᵀy⟩: one matrix product for all of them,
in float32, with sums of CHUNK rows at a time that are added in float64. Where little is left
unexplained, the residuals are projected once more, which brings back the digits that the product
rounded away. R is the Cholesky factor of ⟨ψψᵀ⟩, found in a loop: after a call of LAPACK its threads
spin on for a while and slow what follows (2 ×).
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from jaxreg import frame as frames
from jaxreg import products, tiles
from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import FromCoefs, TurningPoint, lost_in
from jaxreg.frame import Frame, power_of_two
from jaxreg.inputs import Data
from jaxreg.precision import float64
from jaxreg.pytree import pytree
from jaxreg.tiles import Tile

ENOUGH = 2.0**-3  # share of ⟨y²⟩ that is left unexplained, above which one projection will do
LEAST = 2.0**-16  # the same: below, rounding y − y₀ to float32 is felt, in 1e-5 of a standard error
SMALLEST = 2.0**-180  # ⟨y²⟩ above which products stay among the normal numbers of float32
LEAST_SHARE = 2.0**-8  # of a column of the design that those before it do not explain: below, params
# would feel the float32 of the products
FLOAT32 = 2.0**-24  # relative error of an operation
DEVIATIONS = 8.0  # standard deviations of the roundings that add up


@pytree
class Projected:
    """The turning points of data sets on one design.

    Attributes:
        nobs: of each data set, (m,).
        weight: Σ w, (m,).
        log_weight: Σ log w, (m,).
        mean: ⟨u⟩, (m,).
        frame: of each data set.
        point: the turning points.
        sure: whether a data set is empty, or complete and lost no digits; what stands here for the
            others means nothing: they have to be fitted by their moments, (m,).
    """

    nobs: Array
    weight: Array
    log_weight: Array
    mean: Array
    frame: Frame
    point: TurningPoint
    sure: Array

    @property
    def invalid(self) -> Array:
        """Those that nothing is known of here."""
        return ~self.sure


@pytree
class _Design:
    """What all data sets share, in float64.

    Attributes:
        frame: of x.
        there: which rows are, (n,).
        weight: Σ w of these, ().
        log_weight: Σ log w of these, ().
        share: w / Σ w, (n,).
        Q: ψ(t) R⁻¹, of which ⟨Q Qᵀ⟩ is the unit matrix, (n, p).
        to_coefs: R⁻¹, (p, p).
        to_params: M R⁻¹, where θ = M c, (p, p).
        usable: whether the rows determine the params well, ().
    """

    frame: Frame
    there: Array
    weight: Array
    log_weight: Array
    share: Array
    Q: Array
    to_coefs: Array
    to_params: Array
    usable: Array


@pytree
class _Strip:
    """What is found of a strip: see `TurningPoint`, in units of `y_scale` from `y_center`."""

    y_center: Array
    y_scale: Array
    coefs: Array
    params: Array
    mean: Array
    cost: Array
    explained: Array
    doubt: Array
    trusted: Array
    empty: Array


def applies(data: Data, ansatz: Ansatz) -> bool:
    """Whether all the data sets have one design of several columns, and of more rows.

    Not a polynomial, whose params are small differences of large coefs.
    """
    shared = products.apply_to(ansatz, data.x, data.x_is_shared) and ansatz.basis_is_x
    shared &= data.weights is None or data.weights.ndim == 1
    return shared and data.y.dtype == jnp.float32 and data.y.shape[0] >= tiles.size(ansatz, data.x)


def project(data: Data, ansatz: Ansatz) -> Projected:
    """The turning points of all data sets."""
    x = data.x[..., None]
    m = data.width

    def for_all(a: Array) -> Array:
        return jnp.broadcast_to(a[..., None], (*a.shape, m))

    with float64():
        design = _design(ansatz, x, jnp.ones(x.shape[0]) if data.weights is None else data.weights)
        tile = Tile(x, data.y, None, jnp.asarray(data.first, jnp.int32), m)
        found = products.over_strips(tile, partial(_strip, ansatz.has_intercept, design))
        inverse = products.dot(design.to_coefs.T, design.to_coefs.T)
        errors = jnp.sqrt(jnp.sum(design.to_params**2, axis=1))
        inverse, errors, weight, log_weight = (
            for_all(a.astype(jnp.float32)) for a in (inverse, errors, design.weight, design.log_weight)
        )
        nobs = jnp.sum(design.there, dtype=jnp.int32)
    point = TurningPoint(
        params=found.params,
        coefs=found.coefs,
        coefs_rest=jnp.zeros_like(found.coefs),
        cost=found.cost,
        explained=found.explained,
        inverse=inverse,
        unit_errors=errors,
        doubt=found.doubt,
        full_rank=found.trusted,
    )
    frame = Frame(
        for_all(design.frame.x_center), for_all(design.frame.x_scale), found.y_center, found.y_scale
    )
    return Projected(
        nobs=jnp.where(found.empty, 0, nobs),
        weight=weight,
        log_weight=log_weight,
        mean=found.mean,
        frame=frame,
        point=point,
        sure=found.trusted | found.empty,
    )


def _design(ansatz: Ansatz, x: Array, w: Array) -> _Design:
    possible = w >= 0
    there = (w > 0) & ~(jnp.isnan(x).any(axis=1) if ansatz.x_is_vector else jnp.isnan(x))[:, 0]
    seen = there.reshape(-1, *(1,) * (x.ndim - 1))
    ends = (jnp.where(seen, x, jnp.inf).min(axis=0), jnp.where(seen, x, -jnp.inf).max(axis=0))
    zero = jnp.zeros((), x.dtype)
    frame = frames.of_ranges(ends, (zero, zero), ansatz)
    psi, finite = products.design_of(ansatz, frame, x)
    frame = jax.tree.map(lambda a: a.reshape(a.shape[:-1]), frame)
    w = jnp.where(there, w, 0).astype(jnp.float64)
    weight = jnp.sum(w)
    share = w / jnp.where(weight > 0, weight, 1)
    A = products.dot(psi, share[:, None] * psi)
    to_coefs, left = _orthonormal(A)
    usable = (left > LEAST_SHARE) & (jnp.sum(there, dtype=jnp.int32) > A.shape[0])
    usable &= jnp.all(finite | ~there) & jnp.all(possible)
    M, size = FromCoefs.of(ansatz, replace(frame, y_center=zero, y_scale=zero + 1), single=True).slopes()
    return _Design(
        frame=frame,
        there=there,
        weight=weight,
        log_weight=jnp.sum(jnp.log(jnp.where(there, w, 1))),
        share=share,
        Q=products.dot(psi.T, to_coefs),
        to_coefs=to_coefs,
        to_params=products.dot((size[:, None] * M.hi).T, to_coefs),
        usable=usable,
    )


def _orthonormal(A: Array) -> tuple[Array, Array]:
    """The triangle T = R⁻¹ with TᵀAT = 1, and the smallest share of an A_kk that is left (Gram–Schmidt)."""

    def step(k: Array, state: tuple[Array, Array]) -> tuple[Array, Array]:
        T, least = state
        column = T[:, k]
        left = products.dot(column, products.dot(A, column))
        share = left / jnp.where(A[k, k] > 0, A[k, k], 1)
        unit = column / jnp.sqrt(jnp.where(left > 0, left, 1))
        behind = jnp.arange(A.shape[0]) > k
        T = T - jnp.where(behind, unit[:, None] * products.dot(products.dot(A, unit), T), 0)
        return T.at[:, k].set(unit), jnp.minimum(least, share)

    return lax.fori_loop(0, A.shape[0], step, (jnp.eye(A.shape[0]), jnp.ones(())))


def _strip(has_intercept: bool, design: _Design, strip: Tile) -> _Strip:
    mean, gap, nothing = _first_look(design, strip)
    y0 = mean if has_intercept else jnp.zeros_like(mean)

    def projected() -> tuple[Array, ...]:
        return _projected_once_or_twice(design, strip, y0)

    def skipped() -> tuple[Array, ...]:
        return jax.tree.map(jnp.zeros_like, jax.eval_shape(projected))

    b, away, rest, error, trusted = lax.cond(jnp.all(gap), skipped, projected)
    empty = lax.cond(jnp.any(nothing), lambda: _is_empty(design, strip), lambda: nothing)
    whole = rest + jnp.sum(b**2, axis=0)
    unit = power_of_two(jnp.sqrt(whole).astype(y0.dtype)).astype(whole.dtype)
    b, rest = b / unit, rest / unit**2
    params = unit * products.dot(design.to_params.T, b)
    params = params.at[0].add(y0[0]) if has_intercept else params
    params_error = jnp.sum(jnp.abs(design.to_params), axis=1)[:, None] * error
    doubt = jnp.where(params_error > 0, params_error / jnp.abs(params), 0)

    def rounded(a: Array) -> Array:
        return a.astype(y0.dtype)

    return _Strip(
        y_center=y0[0],
        y_scale=rounded(unit),
        coefs=rounded(products.dot(design.to_coefs.T, b)),
        params=rounded(params),
        mean=rounded(away / unit),
        cost=rounded(rest),
        explained=rounded(jnp.sum(b[int(has_intercept) :] ** 2, axis=0)),
        doubt=rounded(doubt + lost_in(params, jnp.dtype(jnp.float32))),
        trusted=trusted,
        empty=empty,
    )


def _first_look(design: _Design, strip: Tile) -> tuple[Array, Array, Array]:
    """In the first chunk, the mean of y, (1, STRIP), whether there is a gap and whether there is nothing.

    A gap behind it turns ⟨y²⟩ into NaN. The mean is what y is taken around: float32 products lose what a
    far offset takes.
    """
    rows = min(products.CHUNK, strip.y.shape[0])
    y = products.padded(strip.rows(jnp.int32(0), rows)[1])
    there = design.there[:rows, None]
    seen = there & ~jnp.isnan(y)
    count = jnp.sum(seen, axis=0, dtype=jnp.int32)
    mean = jnp.sum(jnp.where(seen, y, 0), axis=0, keepdims=True) / jnp.maximum(count, 1).astype(y.dtype)
    return mean, count < jnp.sum(there, dtype=jnp.int32), count == 0


def _projected_once_or_twice(design: _Design, strip: Tile, y0: Array) -> tuple[Array, ...]:
    """⟨Q y⟩, ⟨y⟩ and what is left of ⟨y²⟩, with y from y₀, how far ⟨Q y⟩ may be off, and where to trust it.

    That is where a data set is complete and lost no digits.
    """
    b, mean, rest = _projected(design, strip, y0, None)
    whole = rest + jnp.sum(b**2, axis=0)
    complete = jnp.isfinite(whole) & ((whole > SMALLEST) | (whole == 0)) & design.usable
    explained = complete & (rest < ENOUGH * whole)

    def again() -> tuple[Array, Array]:
        finer, _, left = _projected(design, strip, y0, b)
        return jnp.where(explained, finer, b), jnp.where(explained, left, rest)

    b, rest = lax.cond(jnp.any(explained), again, lambda: (b, rest))
    terms = float(min(strip.y.shape[0], products.CHUNK))
    projected = jnp.where(explained, rest, whole)
    error = DEVIATIONS * FLOAT32 * (jnp.sqrt(terms * projected) + jnp.sqrt(whole))
    return b, mean, rest, error, complete & ((rest > LEAST * whole) | (whole == 0))


def _projected(design: _Design, strip: Tile, y0: Array, b: Array | None) -> tuple[Array, Array, Array]:
    """b + ⟨Q r⟩ with r = y − y₀ − Qb, or b = 0 where there is none yet, ⟨r⟩ and ⟨r²⟩ − ⟨Q r⟩²."""
    b = None if b is None else b.astype(jnp.float32)
    p = design.Q.shape[1]
    rows = jnp.concatenate([design.Q, jnp.ones_like(design.Q[:, :1])], axis=1)  # the last one for the mean
    once = [a.astype(jnp.float32) for a in (design.Q, rows * design.share[:, None])]

    def add(state: tuple[Array, Array], first: Array, rows: tuple) -> tuple[Array, Array]:
        _, y, _ = rows
        there, Q, wQ, w = (products.chunk_of(a, first, y) for a in (design.there, *once, design.share))
        r = jnp.where(there[:, None], y - y0, 0)
        r = r if b is None else r - products.dot(Q.T, b)
        square = jnp.sum(w[:, None] * jnp.square(r.astype(jnp.float64)), axis=0)
        return state[0] + products.dot(wQ, r), state[1] + square

    nothing = jnp.zeros((p + 1, products.STRIP)), jnp.zeros(products.STRIP)
    sums, square = products.over_chunks(strip, add, nothing)
    more, mean = sums[:p], sums[p]
    return more if b is None else b + more, mean, jnp.maximum(square - jnp.sum(more**2, axis=0), 0)


def _is_empty(design: _Design, strip: Tile) -> Array:
    def add(empty: Array, first: Array, rows: tuple) -> Array:
        _, y, _ = rows
        missing = jnp.isnan(y) | ~products.chunk_of(design.there, first, y)[:, None]
        return empty & missing.all(axis=0)

    return products.over_chunks(strip, add, jnp.ones(products.STRIP, bool))
