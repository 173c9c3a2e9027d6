"""Eigenvalues and eigenvectors of ∇²S for many data sets, and functions of ∇²S with their derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxreg._typing import Array
from jaxreg.engine import scaling as scalings
from jaxreg.engine.moments import Moments
from jaxreg.numerics import small
from jaxreg.numerics.precision import float64, promoting

ROUNDING = 2.0**-51  # columns with a smaller cosine count as orthogonal
MAX_SWEEPS = 30  # of Jacobi rotations; quadratic convergence makes about ten enough


@jax.custom_jvp
def spectrum(moments: Moments) -> tuple[Array, Array]:
    """Eigenvalues (p, *batch), ascending, and eigenvectors (p, p, *batch) of H = 2⟨φ φᵀ⟩.

    Computed from the singular values of a factor F with H = F Fᵀ, because in H itself the small eigenvalues
    are lost to rounding: an intercept and x in calendar years have κ = 10¹¹.
    """
    dtype = moments.G.hi.dtype
    with float64():
        G = moments.usable_G
        A = (G.hi.astype(jnp.float64) + G.lo.astype(jnp.float64))[:-1, :-1]
        F = 2**0.5 * small.matmul(_features_in_basis(moments), _cholesky(A))
        directions, roots = _left_singular(F)
        return jnp.square(roots).astype(dtype), directions.astype(dtype)


@spectrum.defjvp
@promoting
def _spectrum_jvp(primals: tuple[Moments], tangents: tuple[Moments]) -> tuple[tuple, tuple]:
    """λ̇_k = v_kᵀḢv_k and v̇_k = Σ_j v_j v_jᵀḢv_k / (λ_k − λ_j) over the other λ_j.

    Where two eigenvalues are equal, eigenvectors have no derivative, but functions of H made by `apply`
    have one.
    """
    (moments,) = primals
    rates, V = spectrum(moments)
    R = _features_in_basis(moments).astype(V.dtype)
    RV = small.matmul(jnp.swapaxes(R, 0, 1), V)
    change = 2 * small.matmul(jnp.swapaxes(RV, 0, 1), small.matmul(tangents[0].G.hi[:-1, :-1], RV))
    gaps = rates[None] - rates[:, None]
    other = _off_diagonal(gaps) & (gaps != 0)
    mixed = jnp.where(other, change / jnp.where(other, gaps, 1), 0)
    return (rates, V), (small.diagonal(change), small.matmul(V, mixed))


def apply(
    function: Callable[..., Array], H: Array, rates: Array, V: Array, vector: Array, *others: Array
) -> Array:
    """f(H) v = V f(λ) Vᵀv.

    The derivative in H is V (Φ ∘ VᵀḢV) Vᵀv, with Φ_ij the divided difference of f, or f′ if λ_i = λ_j.

    Args:
        function: f(λ, *others), elementwise.
        H: a symmetric matrix, (p, p, *batch); only its tangent is used.
        rates: its eigenvalues.
        V: its eigenvectors.
        vector: v, (p, *batch).
        others: further arguments of f, broadcast against the rates.
    """

    @jax.custom_jvp
    def applied(H: Array, rates: Array, V: Array, vector: Array, others: tuple) -> Array:
        return small.matvec(V, function(rates, *others) * small.matvec(jnp.swapaxes(V, 0, 1), vector))

    @promoting
    def jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
        _, rates, V, vector, others = primals
        dot_H, _, _, dot_vector, dot_others = tangents
        Vt = jnp.swapaxes(V, 0, 1)
        components = small.matvec(Vt, vector)
        f, dot_f = jax.jvp(lambda *others: function(rates, *others), others, dot_others)
        change = small.matmul(Vt, small.matmul(dot_H, V)) * _divided_differences(function, rates, others)
        tangent = f * small.matvec(Vt, dot_vector) + dot_f * components + small.matvec(change, components)
        return small.matvec(V, f * components), small.matvec(V, tangent)

    applied.defjvp(jvp)
    return applied(H, rates, V, vector, others)


def _divided_differences(function: Callable[..., Array], rates: Array, others: tuple) -> Array:
    """(f(λ_i) − f(λ_j)) / (λ_i − λ_j), or f′ at their mean where that would cancel, (p, p, *batch)."""
    a, b = rates[:, None], rates[None]
    f = function(rates, *others)
    near = jnp.abs(a - b) <= jnp.finfo(rates.dtype).eps ** (1 / 3) * jnp.maximum(jnp.abs(a), jnp.abs(b))
    near |= ~_off_diagonal(a - b)
    quotient = (f[:, None] - f[None]) / jnp.where(near, 1, a - b)
    mean = (a + b) / 2
    _, derivative = jax.jvp(lambda rates: function(rates, *others), (mean,), (jnp.ones_like(mean),))
    return jnp.where(near, derivative, quotient)


def _off_diagonal(a: Array) -> Any:
    p = a.shape[0]
    return ~np.eye(p, dtype=bool).reshape(p, p, *(1,) * (a.ndim - 2))


def _features_in_basis(moments: Moments) -> Array:
    """R with φ(x) = R ψ(t) for the scaled x, t; in float64."""
    with float64():
        scaling = jax.tree.map(lambda a: a.astype(jnp.float64), moments.scaling)
        basis = scalings.between(scaling, scalings.data_units(scaling), moments.ansatz).value[:-1, :-1]
        K = np.linalg.inv(moments.ansatz.basis_in_features(basis.shape[0]))
        return small.matmul(jnp.asarray(K.reshape(K.shape + (1,) * (basis.ndim - 2))), basis)


def _cholesky(A: Array) -> Array:
    """L with A = L Lᵀ, whose columns are 0 where A is singular."""
    rows = jnp.arange(len(A)).reshape(-1, *(1,) * (A.ndim - 2))

    def column(j: Any, state: tuple[Array, Array]) -> tuple[Array, Array]:
        remainder, L = state
        pivot = remainder[j, j]
        usable = pivot > 0
        c = jnp.where(usable & (rows >= j), remainder[:, j] / jnp.sqrt(jnp.where(usable, pivot, 1)), 0)
        return remainder - c[:, None] * c[None], L.at[:, j].set(c)

    return lax.fori_loop(0, len(A), column, (A, jnp.zeros_like(A)))[1]


def _left_singular(F: Array) -> tuple[Array, Array]:
    """Left singular vectors, in columns, and singular values, ascending, by one-sided Jacobi rotations.

    Unlike with LAPACK, small singular values keep their digits next to large ones, and all data sets are
    computed together. The vectors of zero singular values are 0.

    Source: J. Demmel, K. Veselić, SIAM J. Matrix Anal. Appl. 13 (1992) 1204.
    """
    first, second = (jnp.asarray(k) for k in np.triu_indices(len(F), 1))

    def rotate(k: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        F, active, worst = state
        i, j = first[k], second[k]
        a, b = F[:, i], F[:, j]
        aa, bb, ab = small.dot(a, a), small.dot(b, b), small.dot(a, b)
        size = jnp.sqrt(aa) * jnp.sqrt(bb)
        cosine = jnp.abs(ab) / jnp.where(size > 0, size, 1)
        rotates = active & (cosine > ROUNDING)
        zeta = (bb - aa) / jnp.where(rotates, 2 * ab, 1)
        t = jnp.where(rotates, jnp.where(zeta < 0, -1, 1) / (jnp.abs(zeta) + jnp.hypot(1.0, zeta)), 0)
        c = 1 / jnp.sqrt(1 + t * t)
        F = F.at[:, i].set(c * (a - t * b)).at[:, j].set(c * (b + t * a))
        return F, active, jnp.maximum(worst, cosine)

    def sweep(state: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
        """Rotate every pair of columns once, in active data sets only: none depends on its neighbors."""
        count, F, active = state
        F, _, worst = lax.fori_loop(0, len(first), rotate, (F, active, jnp.zeros_like(F[0, 0])))
        return count + 1, F, active & (worst > ROUNDING)

    def continues(state: tuple[Any, Array, Array]) -> Array:
        return (state[0] < MAX_SWEEPS) & jnp.any(state[2])

    if len(first) > 0:
        _, F, _ = lax.while_loop(continues, sweep, (0, F, jnp.isfinite(F).all(axis=(0, 1))))
    roots = jnp.sqrt(small.dot(F, F))
    order = jnp.argsort(roots, axis=0)
    roots, F = jnp.take_along_axis(roots, order, axis=0), jnp.take_along_axis(F, order[None], axis=1)
    return jnp.where(roots > 0, F / jnp.where(roots > 0, roots, 1), 0), roots
