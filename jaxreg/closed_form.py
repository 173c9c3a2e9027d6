"""The turning point of a quadratic cost, where p = ∇S = 0 (seed paper, equations 7, 14, 15).

Sweeping the moments ⟨z zᵀ⟩ on one basis function after the other solves the normal equations in place.
For a line the first sweep takes the constant out and leaves covariances, so the second divides
cov(x, y) by var(x), equation 14, and returns ⟨y⟩ − β₁⟨x⟩, equation 15, where the mean of y stood.
"""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg import frame as frames
from jaxreg import pair
from jaxreg._typing import Array, Bool, Float
from jaxreg.moments import Moments
from jaxreg.pair import Pair
from jaxreg.precision import in_own_precision
from jaxreg.pytree import pytree, tangent


@pytree
class TurningPoint:
    """Where p = 0, in the frame of the moments.

    Attributes:
        coefs: c with u ≈ cᵀψ(t), (p, *batch).
        inverse: ⟨ψ ψᵀ⟩⁻¹, (p, p, *batch).
        full_rank: whether the turning point is a single one, (*batch); where not, the rest is
            finite and means nothing.
    """

    coefs: Pair
    inverse: Pair
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
    params = to_params(point.coefs, moments).value
    return jnp.where(point.full_rank, params, jnp.nan)


def turning_point(moments: Moments) -> TurningPoint:
    """Sweep the moments on every basis function."""
    point = _solve(usable_G(moments))
    return replace(point, full_rank=point.full_rank & is_usable(moments))


def is_usable(moments: Moments) -> Bool[Array, "*batch"]:
    """Whether there are moments at all."""
    return (moments.nobs > 0) & ~moments.invalid


def usable_G(moments: Moments) -> Pair:
    """G where there is one, the unit matrix where not: finite numbers have finite gradients."""
    identity = frames.constant(np.eye(moments.G.hi.shape[0]), moments.G)
    return pair.where(is_usable(moments), moments.G, identity)


@jax.custom_jvp
def _solve(G: Pair) -> TurningPoint:
    p = G.hi.shape[0] - 1
    least = _rank_tolerance(G.hi.dtype)

    def step(k: Array, state: tuple[Pair, Array]) -> tuple[Pair, Array]:
        swept, full_rank = state
        pivot = swept[k, k]
        determined = pivot.hi > least * G.hi[k, k]
        swept = sweep(swept, k, pair.where(determined, pivot, 1.0))
        return swept, full_rank & determined

    # A loop, although p is known: unrolled, XLA recomputes every sweep inside the next, 4^p times.
    swept, full_rank = lax.fori_loop(0, p, step, (G, jnp.ones(G.hi.shape[2:], bool)))
    return TurningPoint(swept[:p, p], -swept[:p, :p], full_rank)


@_solve.defjvp
def _solve_jvp(primals: tuple[Pair], tangents: tuple[Pair]) -> tuple[TurningPoint, TurningPoint]:
    """The implicit function theorem at A c = b: ċ = A⁻¹(ḃ − Ȧ c), (A⁻¹)˙ = −A⁻¹ Ȧ A⁻¹."""
    point = _solve(*primals)
    change = tangents[0].hi
    p = change.shape[0] - 1
    inverse, c = point.inverse.value, point.coefs.value
    v = jnp.concatenate([-c, jnp.ones_like(c[:1])])
    force = jnp.sum(change[:p] * v, axis=1)  # ḃ − Ȧc
    c_change = jnp.sum(inverse * force, axis=1)
    inverse_change = -_matmul(_matmul(inverse, change[:p, :p]), inverse)
    return point, tangent(
        point,
        coefs=tangent(point.coefs, hi=c_change),
        inverse=tangent(point.inverse, hi=inverse_change),
    )


def sweep(G: Pair, k: Array | int, pivot: Pair) -> Pair:
    """The symmetric sweep of G on k: G_ij − G_ik G_kj / G_kk, with row and column k over the pivot.

    Swept on all of A, [[A, b], [bᵀ, c]] becomes [[−A⁻¹, A⁻¹b], [bᵀA⁻¹, c − bᵀA⁻¹b]].

    Source: J. H. Goodnight, The American Statistician 33 (1979) 149.
    """
    column = G[:, k]
    row = column / pivot
    on_k = (jnp.arange(column.hi.shape[0]) == k).reshape(-1, *(1,) * (column.hi.ndim - 1))
    swept = G - column[:, None] * row[None]
    swept = pair.where(on_k[:, None], row[None], pair.where(on_k[None], row[:, None], swept))
    return pair.where(on_k[:, None] & on_k[None], Pair.of(-1.0) / pivot, swept)


def cost_at(coefs: Pair, moments: Moments) -> Float[Array, "*batch"]:
    """S = (−c, 1) ⟨z zᵀ⟩ (−c, 1)ᵀ in units of u², at any coefs."""
    v = _residual(coefs)
    Gv = pair.matmul(usable_G(moments), v[:, None])[:, 0]
    return jnp.maximum(pair.total(v * Gv).value, 0)


def to_params(coefs: Pair, moments: Moments) -> Pair:
    """θ in the units of the data from c in the frame, by way of the covector (−c, 1) of the residual."""
    R = frames.between(frames.data_units(moments.frame), moments.frame, moments.ansatz)
    in_data_units = pair.matmul(pair.transpose(R), _residual(coefs)[:, None])[:-1, 0]
    in_features = _by_features(in_data_units[:, None], moments)[:, 0]
    return -in_features.scaled(moments.frame.y_scale)


def params_of_coefs(moments: Moments) -> Pair:
    """M with θ = M c in units of y_scale, but for the offset of y, (p, p, *batch)."""
    R = frames.between(frames.data_units(moments.frame), moments.frame, moments.ansatz)
    return _by_features(pair.transpose(R[:-1, :-1]), moments)


def _residual(coefs: Pair) -> Pair:
    """The covector (−c, 1), which takes z to the residual u − cᵀψ."""
    return pair.concatenate([-coefs, Pair.of(jnp.ones_like(coefs.hi[:1]))])


def _by_features(covectors: Pair, moments: Moments) -> Pair:
    """Covectors that multiply ψ(x), as columns, turned into those that multiply φ(x)."""
    K = moments.ansatz.basis_in_features(covectors.hi.shape[0])
    if (np.eye(len(K)) == K).all():
        return covectors
    return pair.matmul(frames.constant(K.T, covectors), covectors)


def _rank_tolerance(dtype: np.dtype) -> float:
    """The share of a basis function not explained by those before it below which it is rounding noise.

    The noise is that of a float32 pair, 2⁻⁴⁸, or of a float64 product, 2⁻⁵³, with room for a few terms.
    """
    return 2.0**-43 if dtype == jnp.float32 else 2.0**-46


def _matmul(a: Array, b: Array) -> Array:
    return jnp.sum(a[:, :, None] * b[None], axis=1)
