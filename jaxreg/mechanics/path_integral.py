"""The amplitude ∫dθ e^{iS/ħ} and its Wick rotation ∫dθ e^{−S/T} (seed paper, equation 9).

Both are dominated by points with ∇S = 0, around which S is quadratic. With ε = iħ or ε = T the leading
order is (2πε)^{p/2} |H|^{−1/2} e^{−S/ε}, and the next one multiplies it by 1 + εc: exact where S is
quadratic, and elsewhere wrong by O(ε) and O(ε²).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.core import Tracer

from jaxreg._typing import Array, Complex, Float, Int
from jaxreg.mechanics.arguments import as_params, one_positive, positive
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.solvers import newton

STARTS = 64  # of a search around one point


@pytree
class StationaryPhase:
    """The amplitude and the points it comes from, in the order of their actions.

    Attributes:
        amplitude: 𝒜, complex, (*hbar).
        points: θ* with ∇S(θ*) = 0, (k, p).
        actions: S(θ*), (k).
        negative_eigenvalues: ν of ∇²S(θ*), 0 at a minimum and p at a maximum, (k).
    """

    amplitude: Complex[Array, "*hbar"]
    points: Float[Array, "k p"]
    actions: Float[Array, " k"]
    negative_eigenvalues: Int[Array, " k"]


@pytree
class Laplace:
    """The Gaussian that e^{−S/T} resembles.

    Attributes:
        mean: θ*, the minimum of S, (p).
        covariance: T (∇²S)⁻¹, (p, p).
        log_evidence: log ∫dθ e^{−S/T}.
    """

    mean: Float[Array, " p"]
    covariance: Float[Array, "p p"]
    log_evidence: Float[Array, ""]


@in_own_precision
def stationary_phase(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    hbar: Any,
    order: int = 0,
    size: int | None = None,
) -> StationaryPhase:
    """𝒜 = ∫dθ e^{iS(θ)/ħ} ≈ Σ (2πiħ)^{p/2} |det ∇²S|^{−1/2} e^{iS/ħ} e^{−iπν/2} (1 + iħc) over ∇S = 0.

    With G = (∇²S)⁻¹ and S₃, S₄ the third and fourth derivatives,
    c = ⅛ S₃S₃(G_ij G_kl G_mn) + 1/12 S₃S₃(G_il G_jm G_kn) − ⅛ S₄(G_ij G_kl). A quadratic S has c = 0.

    The points are searched from many starts, by damped Newton steps that lead to minima, maxima and saddles
    alike; where S has many points, or none near the starts, pass more starts. What S does at its kinks,
    edges and complex turning points is not in it.

    Args:
        cost: S(params, *data), three times differentiable, five times for order 1; compiled once per
            function object.
        params: where to search: starts (starts, p), or (p,) for 64 starts that are normal around it with
            max(1, |θ|) for a standard deviation, the same ones in every call.
        *data: what the cost reads.
        hbar: ħ > 0 in units of S, of any shape.
        order: 0 for the leading order, 1 for the next one as well.
        size: how many points to return at most, filled with NaN; needed inside `jax.jit`.

    Returns:
        `StationaryPhase`; with k = 0 and amplitude 0 if there is no point, and amplitude NaN if ∇²S
        is singular at one of them. In float32 its phase has an error of 10⁻⁷ S/ħ.

    Source: L. Hörmander, The Analysis of Linear Partial Differential Operators I (1990), theorem 7.7.5.

    >>> found = stationary_phase(lambda q: q[0] ** 3 / 3 - q[0], jnp.zeros(1), hbar=0.1, order=1)
    >>> print(found.points.ravel().round(3), found.negative_eigenvalues)
    [ 1. -1.] [0 1]
    >>> print(found.amplitude)  # 2π ħ^⅓ Ai(−ħ^−⅔) = 1.0263
    (1.0271...)
    """
    theta = as_params(params)
    if theta.ndim not in (1, 2) or 0 in theta.shape:
        raise ValueError(f"params is (p,), or (starts, p) for starts of your own; got shape {theta.shape}")
    _check_order(order)
    hbar = positive("hbar", hbar, theta)
    starts = theta if theta.ndim == 2 else _around(theta)
    points, found, singular = _search(cost, starts, data)
    if size is None:
        if isinstance(found, Tracer):
            raise ValueError("inside jit and vmap say how many points there are at most: size=")
        size = int(found.sum())
    elif size < 0:
        raise ValueError(f"size is how many points to return at most, got {size}")
    return _amplitude(cost, points[:size], found[:size], ~singular[:size], data, hbar, order)


@in_own_precision
def laplace(cost: Callable[..., Array], params: Any, *data: Any, temperature: Any, order: int = 0) -> Laplace:
    """∫dθ e^{−S/T} ≈ (2πT)^{p/2} |∇²S|^{−1/2} e^{−S(θ*)/T}, the amplitude at ħ = −iT, around a minimum.

    With S = εᵀε/n and T = 2σ²/n, e^{−S/T} is the likelihood and the covariance that of the least-squares
    estimator. The evidence knows no prior but what the cost has of it: to compare models, add T times minus
    the log density of a proper one to the cost. Derivatives, up to the second, are those of the minimum that
    moves with the data. Written for one data set; `jax.vmap` makes it many.

    Args:
        cost: S(params, *data), twice differentiable; compiled once per function object.
        params: where to begin the descent to the minimum, (p,).
        *data: what the cost reads.
        temperature: T > 0 in units of S.
        order: 1 to multiply the evidence by 1 + Tc, see `stationary_phase`.

    Returns:
        `Laplace`; covariance and evidence are NaN where no minimum was found.

    Source: D. J. C. MacKay, Information Theory, Inference, and Learning Algorithms (2003), chapter 27.

    >>> found = laplace(lambda q: q @ q / 2, jnp.ones(2), temperature=0.5)
    >>> print(found.mean, found.covariance.ravel(), found.log_evidence)  # log 2πT
    [0. 0.] [0.5 0.  0.  0.5] 1.1447...
    """
    _check_order(order)
    theta = as_params(params)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"params is (p,), where the descent begins; got shape {theta.shape}")
    return _gaussian(cost, theta, data, one_positive("temperature", temperature, theta), order)


def _check_order(order: Any) -> None:
    if order not in (0, 1):
        raise ValueError(f"order is 0 or 1, got {order!r}")


def _around(theta: Array) -> Array:
    """θ and starts around it."""
    cloud = jax.random.normal(jax.random.key(0), (STARTS - 1, *theta.shape), theta.dtype)
    return jnp.concatenate([theta[None], theta + cloud * jnp.maximum(1, jnp.abs(theta))])


@partial(jax.jit, static_argnums=0)
def _search(cost: Callable[..., Array], starts: Array, data: tuple) -> tuple[Array, Array, Array]:
    """The ends of all searches, which of them are points of their own, and where ∇²S is singular.

    Points come first, by their actions.
    """
    action = partial(_at, cost, lax.stop_gradient(data))
    starts = lax.stop_gradient(starts)
    ends = jax.vmap(partial(newton.turning_point, action))(starts)
    actions = jax.vmap(action)(ends)
    examined = jax.vmap(partial(newton.examine, action))(starts, ends)
    found = examined.converged & jnp.isfinite(actions)

    order = jnp.lexsort([actions, ~found])
    ends, found, singular = ends[order], found[order], examined.singular[order]
    size = jnp.max(jnp.abs(starts - starts[0]), axis=0)
    one_by_one = jax.vmap(newton.same, in_axes=(None, None, 0, None))
    same = jax.vmap(lambda theta: one_by_one(jax.hessian(action)(theta), theta, ends, size))(ends)
    told_apart = found & ~jnp.any(jnp.tril((same | same.T) & found, -1), axis=1)
    order = jnp.argsort(~told_apart, stable=True)
    return ends[order], told_apart[order], singular[order]


@partial(jax.jit, static_argnums=(0, 6))
def _amplitude(
    cost: Callable[..., Array],
    points: Array,
    found: Array,
    usable: Array,
    data: tuple,
    hbar: Array,
    order: int,
) -> StationaryPhase:
    action = partial(_at, cost, data)
    p = points.shape[1]

    def contribution(theta: Array, usable: Array) -> tuple[Array, Array, Array, Array]:
        theta = newton.implicit(action, theta, usable)
        rates = jnp.where(usable, jnp.linalg.eigvalsh(jax.hessian(action)(theta)), jnp.nan)
        negative = jnp.sum(rates < 0)
        size = (2 * math.pi * hbar) ** (p / 2) / jnp.sqrt(jnp.prod(jnp.abs(rates)))
        phase = action(theta) / hbar + (p - 2 * negative) * (math.pi / 4)
        next_order = 1 + 1j * hbar * correction(action, theta) if order else 1
        return theta, action(theta), negative, size * jnp.exp(1j * phase) * next_order

    filled = jnp.where(found[:, None], points, points[:1])
    theta, actions, negative, terms = jax.vmap(contribution)(filled, usable)
    shown = found.reshape(-1, *(1,) * hbar.ndim)
    return StationaryPhase(
        amplitude=jnp.sum(jnp.where(shown, terms, 0), axis=0),
        points=jnp.where(found[:, None], theta, jnp.nan),
        actions=jnp.where(found, actions, jnp.nan),
        negative_eigenvalues=jnp.where(found, negative, 0),
    )


@partial(jax.jit, static_argnums=(0, 4))
def _gaussian(cost: Callable[..., Array], theta: Array, data: tuple, T: Array, order: int) -> Laplace:
    action = partial(_at, cost, data)
    fixed, start = partial(_at, cost, lax.stop_gradient(data)), lax.stop_gradient(theta)
    theta = newton.minimum(fixed, start)
    end = newton.examine(fixed, start, theta)
    is_minimum = end.converged & (end.rates[0] > 0) & ~end.singular
    theta = newton.implicit(action, theta, is_minimum)
    H = jnp.where(is_minimum, jax.hessian(action)(theta), jnp.eye(theta.size, dtype=theta.dtype))
    L = jnp.linalg.cholesky(H)
    evidence = theta.size / 2 * jnp.log(2 * math.pi * T) - jnp.sum(jnp.log(jnp.diag(L))) - action(theta) / T
    if order:
        evidence = evidence + jnp.log1p(T * correction(action, theta))
    return Laplace(
        mean=theta,
        covariance=jnp.where(is_minimum, T * jnp.linalg.inv(H), jnp.nan),
        log_evidence=jnp.where(is_minimum, evidence, jnp.nan),
    )


def correction(action: Callable[[Array], Array], theta: Array) -> Array:
    """c in ∫e^{−S/ε} = leading order × (1 + εc + O(ε²)), of the third and fourth derivatives at θ*."""
    second = jax.hessian(action)
    third = jax.jacfwd(second)
    G = jnp.linalg.inv(second(theta))
    S3, S4 = third(theta), jax.jacfwd(third)(theta)
    pulled = jnp.einsum("ijk,jk->i", S3, G)
    bubble = pulled @ G @ pulled / 8
    sunset = jnp.einsum("ijk,lmn,il,jm,kn->", S3, S3, G, G, G) / 12
    return bubble + sunset - jnp.einsum("ijkl,ij,kl->", S4, G, G) / 8


def _at(cost: Callable[..., Array], data: tuple, theta: Array) -> Array:
    return cost(theta, *data)
