"""The amplitude ∫dθ e^{iS/ħ} and its Wick rotation ∫dθ e^{−S/T} (seed paper, equation 9).

Both are dominated by points with ∇S = 0, around which S is expanded. With ε = iħ or ε = T the leading order
is (2πε)^{p/2} |H|^{−1/2} e^{−S/ε}, and the next order multiplies it by 1 + εc. The relative errors are O(ε)
and O(ε²), and 0 if S is quadratic.
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
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.short_repr import short_repr
from jaxreg.solvers import newton
from jaxreg.solvers.arguments import as_params, one_positive, positive, scalar

STARTS = 64  # searches around a single given point


@pytree
class StationaryPhase:
    """The amplitude and the stationary points that contribute to it, sorted by action.

    Attributes:
        amplitude: 𝒜, complex, (*hbar).
        points: θ* with ∇S(θ*) = 0, (k, p).
        actions: S(θ*), (k).
        negative_eigenvalues: their number ν in ∇²S(θ*), 0 at a minimum and p at a maximum, (k).
    """

    amplitude: Complex[Array, "*hbar"]
    points: Float[Array, "k p"]
    actions: Float[Array, " k"]
    negative_eigenvalues: Int[Array, " k"]

    def __repr__(self) -> str:
        return short_repr(self)


@pytree
class Laplace:
    """Laplace's approximation of e^{−S/T} by a Gaussian.

    Attributes:
        mean: θ*, the minimum of S, (p).
        covariance: T (∇²S)⁻¹, (p, p).
        log_evidence: log ∫dθ e^{−S/T}.
    """

    mean: Float[Array, " p"]
    covariance: Float[Array, "p p"]
    log_evidence: Float[Array, ""]

    def __repr__(self) -> str:
        return short_repr(self)


@in_own_precision
def stationary_phase(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    hbar: Any,
    order: int = 0,
    size: int | None = None,
) -> StationaryPhase:
    """𝒜 = ∫dθ e^{iS(θ)/ħ} ≈ Σ (2πiħ)^{p/2} |det ∇²S|^{−1/2} e^{iS/ħ} e^{−iπν/2} (1 + iħc) over points ∇S = 0.

    With G = (∇²S)⁻¹ and S₃, S₄ the third and fourth derivatives,
    c = ⅛ S₃S₃(G_ij G_kl G_mn) + 1/12 S₃S₃(G_il G_jm G_kn) − ⅛ S₄(G_ij G_kl). A quadratic S has c = 0.

    The points are searched from many starts by damped Newton steps, which converge to minima, maxima and
    saddles alike. If S has many stationary points, or none near the default starts, pass your own starts.
    Contributions of kinks, boundaries and complex stationary points are not included.

    Args:
        cost: S(params, *data), three times differentiable, five times for order 1; compiled once per
            function object.
        params: the starts of the search, (starts, p); or one point, (p,), for the point itself and 63 normal
            draws around it with standard deviation max(1, |θ|), the same in every call.
        *data: arrays passed on to the cost.
        hbar: ħ > 0 in units of S, of any shape.
        order: 0 for the leading order, 1 to include the next order.
        size: the maximum number of points to return, padded with NaN; required inside `jax.jit`.

    Returns:
        `StationaryPhase`. Without a stationary point k = 0 and the amplitude is 0; if ∇²S is singular at one
        of them the amplitude is NaN. In float32 the error of the phase is 10⁻⁷ S/ħ.

    Source: L. Hörmander, The Analysis of Linear Partial Differential Operators I (1990), theorem 7.7.5.

    >>> airy = stationary_phase(lambda q: q[0] ** 3 / 3 - q[0], jnp.zeros(1), hbar=0.1, order=1)
    >>> print(airy.points.ravel().round(3), airy.negative_eigenvalues)
    [ 1. -1.] [0 1]
    >>> print(airy.amplitude)  # 2π ħ^⅓ Ai(−ħ^−⅔) = 1.0263
    (1.0271...)
    """
    theta = as_params(params)
    if theta.ndim not in (1, 2) or 0 in theta.shape:
        raise ValueError(f"params is one point (p,) or starts (starts, p); got shape {theta.shape}")
    _check_order(order)
    hbar = positive("hbar", hbar, theta)
    starts = theta if theta.ndim == 2 else _around(theta)
    points, valid, singular = _search(cost, starts, data)
    if size is None:
        if isinstance(valid, Tracer):
            raise ValueError("inside jit and vmap pass the maximum number of points as size=")
        size = int(valid.sum())
    elif size < 0:
        raise ValueError(f"size is the maximum number of points, 0 or more; got {size}")
    return _amplitude(cost, points[:size], valid[:size], ~singular[:size], data, hbar, order)


@in_own_precision
def laplace(cost: Callable[..., Array], params: Any, *data: Any, temperature: Any, order: int = 0) -> Laplace:
    """∫dθ e^{−S/T} ≈ (2πT)^{p/2} |∇²S|^{−1/2} e^{−S(θ*)/T}, the amplitude at ħ = −iT, around a minimum.

    With S = εᵀε/n and T = 2σ²/n, e^{−S/T} is proportional to the likelihood and the covariance is that of
    the least-squares estimator. A prior enters the evidence only through the cost: to compare models, add
    −T times the log density of a normalized prior to it. First and second derivatives with respect to the
    data account for the shift of the minimum. Written for one data set; `jax.vmap` applies it to many.

    Args:
        cost: S(params, *data), twice differentiable; compiled once per function object.
        params: the start of the descent to the minimum, (p,).
        *data: arrays passed on to the cost.
        temperature: T > 0 in units of S.
        order: 1 to multiply the evidence by 1 + Tc, see `stationary_phase`.

    Returns:
        `Laplace`; covariance and evidence are NaN if the descent did not reach a minimum.

    Source: D. J. C. MacKay, Information Theory, Inference, and Learning Algorithms (2003), chapter 27.

    >>> gaussian = laplace(lambda q: q @ q / 2, jnp.ones(2), temperature=0.5)
    >>> print(gaussian.mean, gaussian.covariance.ravel(), gaussian.log_evidence)  # log 2πT
    [0. 0.] [0.5 0.  0.  0.5] 1.1447...
    """
    _check_order(order)
    theta = as_params(params)
    if theta.ndim != 1 or not theta.size:
        raise ValueError(f"params is the start of the descent, (p,); got shape {theta.shape}")
    return _gaussian(cost, theta, data, one_positive("temperature", temperature, theta), order)


def _check_order(order: Any) -> None:
    if order not in (0, 1):
        raise ValueError(f"order is 0 or 1, got {order!r}")


def _around(theta: Array) -> Array:
    """θ and normal draws around it."""
    cloud = jax.random.normal(jax.random.key(0), (STARTS - 1, *theta.shape), theta.dtype)
    return jnp.concatenate([theta[None], theta + cloud * jnp.maximum(1, jnp.abs(theta))])


@partial(jax.jit, static_argnums=0)
def _search(cost: Callable[..., Array], starts: Array, data: tuple) -> tuple[Array, Array, Array]:
    """The ends of all searches, which of them are distinct stationary points, and where ∇²S is singular.

    The stationary points come first, sorted by action.
    """
    action = partial(_at, cost, lax.stop_gradient(data))
    starts = lax.stop_gradient(starts)
    ends = jax.vmap(partial(newton.turning_point, action))(starts)
    actions = jax.vmap(action)(ends)
    diagnoses = jax.vmap(partial(newton.examine, action))(starts, ends)
    stationary = diagnoses.converged & jnp.isfinite(actions)

    order = jnp.lexsort([actions, ~stationary])
    ends, stationary, singular = ends[order], stationary[order], diagnoses.singular[order]
    size = jnp.max(jnp.abs(starts - starts[0]), axis=0)
    same_as_each = jax.vmap(newton.same, in_axes=(None, None, 0, None))
    same = jax.vmap(lambda theta: same_as_each(jax.hessian(action)(theta), theta, ends, size))(ends)
    distinct = stationary & ~jnp.any(jnp.tril((same | same.T) & stationary, -1), axis=1)
    order = jnp.argsort(~distinct, stable=True)
    return ends[order], distinct[order], singular[order]


@partial(jax.jit, static_argnums=(0, 6))
def _amplitude(
    cost: Callable[..., Array],
    points: Array,
    valid: Array,
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

    points = jnp.where(valid[:, None], points, points[:1])
    theta, actions, negative, terms = jax.vmap(contribution)(points, usable)
    contributes = valid.reshape(-1, *(1,) * hbar.ndim)
    return StationaryPhase(
        amplitude=jnp.sum(jnp.where(contributes, terms, 0), axis=0),
        points=jnp.where(valid[:, None], theta, jnp.nan),
        actions=jnp.where(valid, actions, jnp.nan),
        negative_eigenvalues=jnp.where(valid, negative, 0),
    )


@partial(jax.jit, static_argnums=(0, 4))
def _gaussian(cost: Callable[..., Array], theta: Array, data: tuple, T: Array, order: int) -> Laplace:
    action = partial(_at, cost, data)
    fixed_action, start = partial(_at, cost, lax.stop_gradient(data)), lax.stop_gradient(theta)
    theta = newton.minimum(fixed_action, start)
    diagnosis = newton.examine(fixed_action, start, theta)
    is_minimum = diagnosis.converged & (diagnosis.rates[0] > 0) & ~diagnosis.singular
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
    """c in ∫e^{−S/ε} = leading order × (1 + εc + O(ε²)), from the third and fourth derivatives at θ*."""
    second = jax.hessian(action)
    third = jax.jacfwd(second)
    G = jnp.linalg.inv(second(theta))
    S3, S4 = third(theta), jax.jacfwd(third)(theta)
    tadpole = jnp.einsum("ijk,jk->i", S3, G)
    dumbbell = tadpole @ G @ tadpole / 8
    sunset = jnp.einsum("ijk,lmn,il,jm,kn->", S3, S3, G, G, G) / 12
    return dumbbell + sunset - jnp.einsum("ijkl,ij,kl->", S4, G, G) / 8


def _at(cost: Callable[..., Array], data: tuple, theta: Array) -> Array:
    return scalar(cost)(theta, *data)
