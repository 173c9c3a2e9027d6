"""The solvers that `fit` takes: small frozen objects, each a way to the turning point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import Partial

from jaxreg import small
from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import FromCoefs, TurningPoint, moved, usable_G
from jaxreg.cost import Cost
from jaxreg.descent import Descent, check_steps, in_lanes, loop
from jaxreg.frame import Frame
from jaxreg.inputs import Data
from jaxreg.iteration import iterated
from jaxreg.moments import Moments
from jaxreg.pair import Pair
from jaxreg.precision import float64
from jaxreg.pytree import pytree, static, tangent
from jaxreg.status import Status

DEFAULT_LEARNING_RATE = 0.1

Optimizer = optax.GradientTransformation


@pytree
class Solution:
    """What a solver found.

    Attributes:
        params: θ in the units of the data, (p, *batch).
        coefs: c with u ≈ cᵀψ(t), (p, *batch).
        coefs_rest: what rounding has taken from them, as far as that is known, (p, *batch).
        cost: S(θ) in units of u², which no unit of the data can make overflow, (*batch).
        least_squares: the mean squared error there, the same unless the cost is another, (*batch).
        status: how the search ended, (*batch).
    """

    params: Float[Array, "p *batch"]
    coefs: Float[Array, "p *batch"]
    coefs_rest: Float[Array, "p *batch"]
    cost: Float[Array, "*batch"]
    least_squares: Float[Array, "*batch"]
    status: Int[Array, "*batch"]


@pytree
class ClosedForm:
    """The turning point of the mean squared error itself, equations 14 and 15; what `fit` does if not told.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> fit(np.arange(3.0), np.array([1.0, 3.0, 5.0]), solver=ClosedForm()).params.tolist()
    [1.0, 2.0]
    """

    def solve(self, moments: Moments | None, point: TurningPoint) -> Solution:
        """The turning point is the solution."""
        ok = jnp.full(point.cost.shape, Status.ok, jnp.int8)
        return Solution(point.params, point.coefs, point.coefs_rest, point.cost, point.cost, ok)

    def solve_cost(self, cost: Cost, *_: Any) -> Solution:
        """There is no closed form for another cost."""
        raise ValueError(
            "the closed form exists for mean_squared_error alone; pass solver=GradientDescent() to "
            f"minimize {cost!r}"
        )


@pytree
class GradientDescent:
    """The loop of `descend` as a solver for `fit`, in standardized coordinates.

    There every feature and y have mean 0 and variance 1: whatever the units, the seed paper's α of 0.01
    to 0.1 converges for up to ten params, and any α below 1/p for p of them. θ is mapped back at the end.
    On the mean squared error the descent runs on the moments, from θ = 0: a step costs O(p²) per data
    set and no pass over the data, and the k steps of `optax.sgd` together cost O(p³ log k). On any other
    cost it starts from the least-squares solution, and each step reads the data, of some data sets at a
    time, which stay in cache for all their steps; one that meets `tol` makes room for the next.
    Gradients through such a fit are those at the minimum.

    Args:
        optimizer: a function from learning rate to optax optimizer, such as `optax.sgd` or `optax.adam`,
            or an optimizer that is ready, such as `optax.adam(0.05)` (compiled once per object).
        learning_rate: α for the function, 0.1 if not given; a new value compiles nothing anew.
        steps: how many steps at most.
        tol: a data set stops where |∇S| ≤ tol, with y in standard deviations. Without, every step is
            taken, and the end counts as converged if |∇S| is at most the square root of the dtype's
            epsilon.

    Source: seed paper, equation 16.

    >>> import numpy as np
    >>> from jaxreg import fit
    >>> year = np.arange(1960.0, 1970.0)
    >>> intercept, slope = fit(year, 3 * year - 5, solver=GradientDescent()).params
    >>> round(float(intercept), 4), round(float(slope), 7)
    (-5.0, 3.0)
    """

    optimizer: Optimizer | Callable[[Any], Optimizer] = static(default=optax.sgd)
    learning_rate: float | Array | None = None
    steps: int = static(default=1000)
    tol: float | None = None

    def __post_init__(self):
        if isinstance(self.optimizer, Optimizer) and self.learning_rate is not None:
            raise ValueError(
                "this optimizer carries its own learning rate: leave learning_rate out, or pass the "
                "function, such as GradientDescent(optax.adam, learning_rate=0.05)"
            )
        check_steps(self.steps)

    def solve(self, moments: Moments, point: TurningPoint) -> Solution:
        """Descend on the mean squared error, for which the moments are enough."""
        standard = _Standard.of(moments)
        if self.optimizer is optax.sgd:
            standardized, status = self._iterate(standard.correlations)
        else:
            start = jnp.zeros_like(point.coefs)
            descend = jax.vmap(partial(self._descend, _quadratic), in_axes=-1, out_axes=-1)
            found = descend(start, standard.correlations)
            standardized, status = found.params, found.status
        coefs = standard.to_coefs(standardized)
        params, cost = moved(point, coefs, moments)
        return Solution(params, coefs, jnp.zeros_like(coefs), cost, cost, status)

    def _iterate(self, correlations: Array) -> tuple[Array, Array]:
        """Plain gradient descent from 0 is linear: its steps need not be taken one by one."""
        H, gradient = 2 * correlations[:-1, :-1], -2 * correlations[:-1, -1]
        params, slope = iterated(H, gradient, self._rate, self.steps, self.tol)
        return params, self._status(params, small.norm(slope))

    def solve_cost(
        self,
        cost: Partial,
        moments: Moments,
        point: TurningPoint,
        data: Data,
    ) -> Solution:
        """Descend on any cost of (x, y, weights), data sets in the columns of y."""
        standard = _Standard.of(moments)
        start = standard.from_coefs(point.coefs)
        found = self._minimized(cost, moments.frame, standard, start, data, moments.ansatz)
        finite = jnp.isfinite(found.params).all(axis=0)
        coefs = standard.to_coefs(jnp.where(finite, found.params, 0))  # NaN has NaN for a derivative
        params, least_squares = moved(point, coefs, moments)
        params, coefs = (jnp.where(finite, a, jnp.nan) for a in (params, coefs))
        cost_in_frame = found.cost * standard.deviation[-1] ** 2
        return Solution(params, coefs, jnp.zeros_like(coefs), cost_in_frame, least_squares, found.status)

    def _minimized(
        self, cost: Partial, frame: Frame, standard: _Standard, start: Array, data: Data, ansatz: Ansatz
    ) -> Descent:
        own = {"y": data.y, "standard": standard, "frame": frame}
        shared = {"cost": cost, "x": data.x, "weights": data.weights}
        if not data.x_is_shared:
            own["x"] = shared.pop("x")
        if data.weights is not None and data.weights.ndim > 1:
            own["weights"] = shared.pop("weights")
        found = _minimize(_StandardizedCost(ansatz), self, start, own, shared)
        if self.tol is None:
            found = replace(found, status=self._status(found.params, found.gradient_norm))
        return found

    def _descend(self, cost: Callable[..., Array], start: Array, *data: Any) -> Descent:
        found = loop(cost, start, data, self._ready_optimizer, self.steps, self.tol, history=False)
        if self.tol is not None:
            return found
        return replace(found, status=self._status(found.params, found.gradient_norm))

    def _status(self, params: Array, gradient_norm: Array) -> Array:
        """`diverged` off the finite numbers, `not_converged` above the tolerance."""
        tol = jnp.finfo(params.dtype).eps ** 0.5 if self.tol is None else self.tol
        finite = jnp.isfinite(gradient_norm) & jnp.isfinite(params).all(axis=0)
        ended = jnp.where(gradient_norm <= tol, Status.ok, Status.not_converged)
        return jnp.where(finite, ended, Status.diverged).astype(jnp.int8)

    @property
    def _rate(self) -> Any:
        return DEFAULT_LEARNING_RATE if self.learning_rate is None else self.learning_rate

    @property
    def _ready_optimizer(self) -> Optimizer:
        return self.optimizer if isinstance(self.optimizer, Optimizer) else self.optimizer(self._rate)


@pytree
class _Standard:
    """Means and standard deviations of z = (ψ(t), u), and the correlations that are left."""

    mean: Array
    deviation: Array
    correlations: Array

    @classmethod
    def of(cls, moments: Moments) -> _Standard:
        """Without an intercept nothing is subtracted; a constant has deviation 1 instead of 0."""
        G = usable_G(moments)
        mean = G[:, 0] if moments.ansatz.has_intercept else Pair.of(jnp.zeros_like(G.hi[:, 0]))
        centered = G - mean[:, None] * mean[None]
        variance = small.diagonal(centered.value)
        deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1))
        correlations = centered.value / (deviation[:, None] * deviation[None])
        mean = mean.value
        if moments.ansatz.has_intercept:  # the constant stays 1, whatever rounding has left of its variance
            unit = jnp.zeros_like(mean).at[0].set(1)
            mean, deviation = mean.at[0].set(0), deviation.at[0].set(1)
            correlations = correlations.at[0].set(unit).at[:, 0].set(unit)
        return cls(mean, deviation, correlations)

    def to_coefs(self, a: Array) -> Array:
        """c of u = cᵀψ from a of (u − ū)/σᵤ = Σ a_i (ψ_i − ψ̄_i)/σ_i."""
        c = a * self.deviation[-1] / self.deviation[:-1]
        return c.at[0].add(self.mean[-1] - small.dot(c, self.mean[:-1]))

    def from_coefs(self, c: Array) -> Array:
        """The inverse of `to_coefs`."""
        c = c.at[0].add(small.dot(c, self.mean[:-1]) - self.mean[-1])
        return c * self.deviation[:-1] / self.deviation[-1]


def _wide(a: Any) -> Any:
    return a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a


def _quadratic(a: Array, G: Array) -> Array:
    """S = (−a, 1)ᵀ G (−a, 1)."""
    v = jnp.concatenate([-a, jnp.ones_like(a[:1])])
    return jnp.sum(v[:, None] * G * v)


@dataclass(frozen=True)
class _StandardizedCost:
    """A cost as a function of standardized coefficients a."""

    ansatz: Ansatz

    def __call__(
        self, a: Array, cost: Partial, x: Array, y: Array, w: Array | None, B: Array, origin: Array
    ) -> Array:
        return cost(origin + small.matvec(B, a), x, y, w, ansatz=self.ansatz)

    def prepare(
        self, cost: Partial, x: Array, y: Array, weights: Array | None, standard: _Standard, frame: Frame
    ) -> tuple[Partial, Array, Array, Array | None, Array, Array]:
        """The cost and what it reads of one data set: x, y, w, and B and θ₀ of θ = B a + θ₀."""
        with float64():
            P = FromCoefs.of(self.ansatz, frame, single=True).P.hi.astype(standard.deviation.dtype)

        def params(a: Array) -> Array:
            c = standard.to_coefs(a)
            return frame.y_scale * small.matvec(P, jnp.concatenate([-c, jnp.ones_like(c[:1])]))

        origin = jnp.zeros_like(standard.deviation[:-1])
        return cost, x, y, weights, jax.jacfwd(params)(origin), params(origin)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _minimize(
    cost: _StandardizedCost, solver: GradientDescent, start: Array, own: dict, shared: dict
) -> Descent:
    """Descend on the cost of every data set, in units of the variance of y.

    The cost is computed in the units of the data, whose offsets float32 does not bear.
    """
    with float64():
        wide_start, wide_own, wide_shared = jax.tree.map(_wide, (start, own, shared))
        found = in_lanes(
            cost,
            _unit(wide_own),
            wide_start,
            wide_own,
            lambda own: cost.prepare(**own, **wide_shared),
            solver._ready_optimizer,
            solver.steps,
            solver.tol,
        )
        return jax.tree.map(lambda a: a.astype(start.dtype) if a.dtype == jnp.float64 else a, found)


def _unit(own: dict) -> Array:
    """The variance of y."""
    return jnp.square(own["standard"].deviation[-1] * own["frame"].y_scale)


@_minimize.defjvp
def _minimize_jvp(cost: _StandardizedCost, primals: tuple, tangents: tuple) -> tuple[Descent, Descent]:
    """The implicit function theorem at ∇S = 0: ȧ = −H⁻¹ (∇S)˙, and Ṡ is that of the data alone.

    In the precision of the data: a gradient is pulled back where float64 may not exist.
    """
    found = _minimize(cost, *primals)
    ended = jnp.isfinite(found.cost) & jnp.isfinite(found.gradient_norm)
    _, _, own, shared = primals

    def if_ended(leaf: Array) -> Array:
        return jnp.where(ended, leaf, 0)

    a = if_ended(found.params)
    own = {name: part if name in ("standard", "frame") else if_ended(part) for name, part in own.items()}

    def slopes(own: dict, shared: dict) -> tuple[Array, Array]:
        def of_one(a: Array, own: dict) -> tuple[Array, Array]:
            return jax.value_and_grad(cost)(a, *cost.prepare(**own, **shared))

        value, slope = jax.vmap(of_one, in_axes=-1, out_axes=-1)(a, own)
        return value / _unit(own), slope

    def curvature(a: Array, own: dict) -> Array:
        return jax.hessian(cost)(a, *cost.prepare(**own, **shared))

    _, (value, force) = jax.jvp(slopes, (own, shared), tangents[2:])
    H = jax.vmap(curvature, in_axes=-1)(a, own)
    regular = ended & jnp.isfinite(jnp.linalg.inv(H)).all(axis=(1, 2))
    H = jnp.where(regular[:, None, None], H, jnp.eye(a.shape[0], dtype=a.dtype))
    moved = -jnp.linalg.solve(H, force.T[..., None])[..., 0].T
    moved, value = (if_ended(a).astype(found.cost.dtype) for a in (moved, value))  # whatever the cost returns
    return found, tangent(found, params=moved, cost=value)
