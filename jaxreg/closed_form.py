"""The turning point of a quadratic cost, where p = ∇S = 0 (seed paper, equations 7, 14, 15).

There the normal equations A θ = b hold. For a line, taking the constant out leaves covariances: the slope
is cov(x, y) / var(x), equation 14, and the intercept ⟨y⟩ − β₁⟨x⟩, equation 15.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg import frame as frames
from jaxreg import pair, small
from jaxreg._typing import Array, Bool, Float
from jaxreg.ansatz import Ansatz
from jaxreg.frame import Frame, power_of_two
from jaxreg.moments import Moments
from jaxreg.normal_equations import Solved, coef_error, rank_tolerance, solve
from jaxreg.pair import Pair
from jaxreg.precision import float64, in_own_precision
from jaxreg.pytree import pytree, tangent

SINGLE = 2.0**-53  # relative error of an operation with single floats of 64 bits
PAIR = 2.0**-98  # the same with pairs of them, and with sums of their products
FLOAT32_PAIR = 2.0**-46  # the same of moments that are stored as pairs of float32


@pytree
class TurningPoint:
    """Where p = 0, computed in twice the digits of the data and rounded once.

    Attributes:
        params: θ in the units of the data, (p, *batch).
        coefs: the same point in the frame of the moments, c with u ≈ cᵀψ(t), (p, *batch).
        coefs_rest: what rounding to the dtype has taken from them, (p, *batch).
        cost: S there, in units of u², (*batch).
        explained: by how much S is lower there than at the best constant, or at 0 without an intercept,
            in units of u², (*batch).
        inverse: ⟨ψ ψᵀ⟩⁻¹, (p, p, *batch).
        unit_errors: √diag(⟨φ φᵀ⟩⁻¹) in units of y_scale, (p, *batch): standard errors but for the
            factor √(S / df_resid).
        doubt: a bound of the relative error of the params before they are rounded to their dtype,
            (p, *batch).
        full_rank: whether the turning point is a single one, (*batch); where not, the rest is
            finite and means nothing.
    """

    params: Float[Array, "p *batch"]
    coefs: Float[Array, "p *batch"]
    coefs_rest: Float[Array, "p *batch"]
    cost: Float[Array, "*batch"]
    explained: Float[Array, "*batch"]
    inverse: Float[Array, "p p *batch"]
    unit_errors: Float[Array, "p *batch"]
    doubt: Float[Array, "p *batch"]
    full_rank: Bool[Array, "*batch"]


@in_own_precision
@jax.jit
def closed_form(moments: Moments) -> Float[Array, "p *batch"]:
    """The params at which p = ∇S = 0: A θ = b, for a line β₁ = cov(x, y) / var(x), β₀ = ⟨y⟩ − β₁⟨x⟩.

    Args:
        moments: of one data set or of many.

    Returns:
        θ of shape (p, *batch) in the units of the data; NaN where moments do not determine it.

    Source: seed paper, equations 7, 14 and 15.

    >>> from jaxreg import moments
    >>> intercept, slope = closed_form(moments(jnp.arange(3.0), jnp.array([1.0, 3.0, 5.0])))
    >>> float(intercept), float(slope)
    (1.0, 2.0)
    """
    point = turning_point(moments)
    return jnp.where(point.full_rank, point.params, jnp.nan)


def turning_point(moments: Moments) -> TurningPoint:
    """Solve the normal equations."""
    point = _solve(replace(moments, G=usable_G(moments)))
    return replace(point, full_rank=point.full_rank & is_usable(moments))


def is_usable(moments: Moments) -> Bool[Array, "*batch"]:
    """Whether there are moments at all."""
    return (moments.nobs > 0) & ~moments.invalid


def usable_G(moments: Moments) -> Pair:
    """G where there is one, the unit matrix where not: finite numbers have finite gradients."""
    identity = frames.constant(np.eye(moments.G.hi.shape[0]), moments.G)
    return pair.where(is_usable(moments), moments.G, identity)


@jax.custom_jvp
def _solve(moments: Moments) -> TurningPoint:
    dtype = moments.G.hi.dtype
    with float64():
        G, least = pair.widen(moments.G), rank_tolerance(dtype)
        found = solve(G, least)
        rounding = PAIR if G.lo is not None else FLOAT32_PAIR
        error, _ = coef_error(found, jnp.sqrt(jnp.abs(small.diagonal(G.hi))), jnp.asarray(rounding))
        from_coefs = FromCoefs.of(moments.ansatz, moments.frame, single=G.lo is None)
        explained = explained_by(found, G, moments.ansatz)
        return located(
            moments.ansatz, moments.frame.y_scale, from_coefs, found, explained, error, least, dtype
        )


def explained_by(found: Solved, G: Pair, ansatz: Ansatz) -> Array:
    """bᵀc − ⟨u⟩², without ⟨u⟩ where there is no intercept."""
    explained = small.dot(G.value[:-1, -1], found.coefs.value)
    return explained - jnp.square(G.value[0, -1]) if ansatz.has_intercept else explained


def located(
    ansatz: Ansatz,
    y_scale: Array,
    from_coefs: FromCoefs,
    found: Solved,
    explained: Array,
    error: Array,
    least: float | Array,
    dtype: np.dtype,
) -> TurningPoint:
    """The turning point from what solves the normal equations, in single float64 or in pairs of it.

    Args:
        ansatz: of the basis ψ.
        y_scale: the unit of u.
        from_coefs: the way from c to θ.
        found: what solves the equations.
        explained: see `TurningPoint`.
        error: by how much its coefs may be off, (p, *batch).
        least: the share of a basis function above which it does not depend on those before it.
        dtype: of the data.
    """
    params, doubt = from_coefs(found.coefs, error)
    params = params.scaled(y_scale).value
    M, size = from_coefs.slopes()
    variances = _variances(M, found.inverse, ansatz).value

    def rounded(a: Array) -> Array:
        return a.astype(dtype)

    coefs = rounded(found.coefs.value)
    rest = found.coefs.hi - coefs
    return TurningPoint(
        params=rounded(params),
        coefs=coefs,
        coefs_rest=rounded(rest if found.coefs.lo is None else rest + found.coefs.lo),
        cost=rounded(jnp.maximum(found.rest.value, 0)),
        explained=rounded(jnp.maximum(explained, 0)),
        inverse=rounded(found.inverse.value),
        unit_errors=rounded(size * jnp.sqrt(jnp.maximum(variances, 0))),
        doubt=rounded(doubt + lost_in(params, dtype)),
        full_rank=found.share > least,
    )


def lost_in(params: Array, dtype: np.dtype) -> Array:
    """The relative error of params that leave the range of the dtype, 0 for others."""
    size, info = jnp.abs(params), jnp.finfo(dtype)
    inside = (size == 0) | ((size >= float(info.tiny)) & (size <= float(info.max)))
    return jnp.where(inside, 0.0, jnp.inf)


@pytree
class FromCoefs:
    """θ / y_scale = P (−c, 1), in float64 or in pairs of it.

    Attributes:
        P: (p, p + 1, *batch).
        terms: the size of what is added up to P, (p, p + 1, *batch).
    """

    P: Pair
    terms: Array

    @classmethod
    def of(cls, ansatz: Ansatz, frame: Frame, *, single: bool) -> FromCoefs:
        """Of a frame, in single float64 or in pairs."""

        def number(a: Array) -> Pair:
            a = a.astype(jnp.float64)
            return Pair(a, None) if single else Pair.of(a)

        R = frames.between(frames.data_units(frame), frame, ansatz, number)
        of_basis = -pair.transpose(R)[:-1]  # (−c, 1) takes z to the residual: minus that is the fit
        size = Pair(jnp.abs(of_basis.hi), None)
        return cls(_by_features(of_basis, ansatz), _by_features(size, ansatz, abs).hi)

    def __call__(self, coefs: Pair, error: Array) -> tuple[Pair, Array]:
        """θ / y_scale, and a bound of its relative error where c is off by no more than `error`."""
        p = error.shape[0]
        covector = pair.concatenate([-coefs, coefs[:1].map(jnp.zeros_like) + 1.0])
        params = pair.matmul(self.P, covector[:, None])[:, 0]
        rounding = 4 * p * (SINGLE if coefs.lo is None else PAIR)
        off = small.matvec(jnp.abs(self.P.hi[:, :-1]), error)
        off += rounding * small.matvec(self.terms, jnp.abs(covector.hi))
        return params, small.stored(jnp.where(off == 0, 0, off / jnp.abs(params.value)))

    def slopes(self) -> tuple[Pair, Array]:
        """M and the size of its rows with θ = y_scale · size · M c, but for the offset of y, (p, p, *batch).

        The size, a power of two, is taken out so that no square of M overflows.
        """
        M = -self.P[:, :-1]
        size = power_of_two(small.largest(jnp.swapaxes(jnp.abs(M.hi), 0, 1)))
        return M.scaled(1 / size[:, None]), size


def _variances(M: Pair, inverse: Pair, ansatz: Ansatz) -> Pair:
    """The diagonal of M A⁻¹ Mᵀ."""
    p = M.hi.shape[0]
    if inverse.lo is not None or not (ansatz.basis_is_x and ansatz.has_intercept):
        return pair.total(pair.transpose(pair.matmul(M, inverse) * M))
    # Behind the intercept every param is a coef in other units: M is a first row and a diagonal.
    intercept = pair.matmul(pair.matmul(M[:1], inverse), pair.transpose(M[:1]))[0]
    diagonal = [M[k, k] * M[k, k] * inverse[k, k] for k in range(1, p)]
    return pair.concatenate([intercept, *(a[None] for a in diagonal)])


@_solve.defjvp
def _solve_jvp(primals: tuple[Moments], tangents: tuple[Moments]) -> tuple[TurningPoint, TurningPoint]:
    (moments,) = primals
    point = _solve(moments)
    return point, moved_with(moments, point, tangents[0].G.hi, tangents[0].mean)


def moved_with(moments: Moments, point: TurningPoint, change: Array, mean: Array) -> TurningPoint:
    """The tangent of the turning point for those of G and ⟨u⟩, by the implicit function theorem at A c = b.

    ċ = A⁻¹(ḃ − Ȧ c), (A⁻¹)˙ = −A⁻¹ Ȧ A⁻¹, and Ṡ = vᵀĠv with v = (−c, 1).
    """
    p = change.shape[0] - 1
    v = jnp.concatenate([-point.coefs, jnp.ones_like(point.coefs[:1])])
    force = small.matvec(change, v)  # ḃ − Ȧc, and what is left of it in y
    coefs = small.matvec(point.inverse, force[:p])
    inverse = -small.matmul(small.matmul(point.inverse, change[:p, :p]), point.inverse)
    M, size = _coefs_to_params(moments)
    half_variances = small.dot(jnp.swapaxes(small.matmul(M, inverse), 0, 1), jnp.swapaxes(M, 0, 1)) / 2
    errors = point.unit_errors / size
    whole = change[p, p] - (2 * moments.mean * mean if moments.ansatz.has_intercept else 0)
    return tangent(
        point,
        params=moments.frame.y_scale * size * small.matvec(M, coefs),
        coefs=coefs,
        cost=small.dot(v, force),
        explained=whole - small.dot(v, force),
        inverse=inverse,
        unit_errors=size * half_variances / jnp.where(errors > 0, errors, 1),
    )


def moved(point: TurningPoint, coefs: Array, moments: Moments) -> tuple[Array, Array]:
    """(θ, S) at other coefs, by what they differ in from the turning point."""
    step = coefs - point.coefs
    M, size = _coefs_to_params(moments)
    params = point.params + moments.frame.y_scale * size * small.matvec(M, step)
    A = usable_G(moments).value[:-1, :-1]
    return params, point.cost + small.dot(step, small.matvec(A, step))


def _coefs_to_params(moments: Moments) -> tuple[Array, Array]:
    """M and the size of its rows, in the precision of the data."""
    with float64():
        M, size = FromCoefs.of(moments.ansatz, moments.frame, single=True).slopes()
        return M.hi.astype(moments.weight.dtype), size.astype(moments.weight.dtype)


def _by_features(covectors: Pair, ansatz: Ansatz, of: Callable = np.asarray) -> Pair:
    """Covectors that multiply ψ(x), as columns, turned into those that multiply φ(x)."""
    K = of(ansatz.basis_in_features(covectors.hi.shape[0]))
    if (np.eye(len(K)) == K).all():
        return covectors
    return pair.matmul(frames.constant(K.T, covectors), covectors)
