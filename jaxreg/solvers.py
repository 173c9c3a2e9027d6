"""The solvers that `fit` takes: small frozen objects, each a way to the turning point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg._typing import Array, Float, Int
from jaxreg.ansatz import Ansatz
from jaxreg.closed_form import TurningPoint, moved, usable_G
from jaxreg.cost import Cost
from jaxreg.descent import Descent, check_steps, loop
from jaxreg.flow import iterated
from jaxreg.inputs import Data
from jaxreg.moments import Moments
from jaxreg.pair import Pair
from jaxreg.pytree import pytree, static
from jaxreg.status import Status

DEFAULT_LEARNING_RATE = 0.1

Optimizer = optax.GradientTransformation


@pytree
class Solution:
    """What a solver found.

    Attributes:
        params: θ in the units of the data, (p, *batch).
        coefs: c with u ≈ cᵀψ(t), (p, *batch).
        cost: S(θ) in units of u², which no unit of the data can make overflow, (*batch).
        least_squares: the mean squared error there, the same unless the cost is another, (*batch).
        status: how the search ended, (*batch).
    """

    params: Float[Array, "p *batch"]
    coefs: Float[Array, "p *batch"]
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

    def solve(self, moments: Moments, point: TurningPoint) -> Solution:
        """The turning point is the solution."""
        ok = jnp.full(point.cost.shape, Status.ok, jnp.int8)
        return Solution(point.params, point.coefs, point.cost, point.cost, ok)

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
    set and no pass over the data, and the k steps of `optax.sgd` together cost O(p³ log k). On any other cost it starts from the least-squares solution, and each
    step reads the data.

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
        return Solution(params, coefs, cost, cost, status)

    def _iterate(self, correlations: Array) -> tuple[Array, Array]:
        """Plain gradient descent from 0 is linear: its steps need not be taken one by one."""
        H, gradient = 2 * correlations[:-1, :-1], -2 * correlations[:-1, -1]
        params, slope = iterated(H, gradient, self._rate, self.steps, self.tol)
        return params, self._status(params, jnp.linalg.norm(slope, axis=0))

    def solve_cost(
        self,
        cost: Cost,
        moments: Moments,
        point: TurningPoint,
        data: Data,
    ) -> Solution:
        """Descend on any cost of (x, y, weights), data sets in the columns of y."""
        standard = _Standard.of(moments)
        start = standard.from_coefs(point.coefs)
        x, y, weights = data.x, data.y, data.weights
        f = moments.frame
        t, _ = f.inside(x[..., None] if data.x_is_shared else x, y)
        weights_axis = None if weights is None or weights.ndim == 1 else -1
        standardized = partial(_standardized, cost, moments.ansatz)
        found = jax.vmap(
            partial(self._descend, standardized),
            in_axes=(-1, -1, -1, -1, -1, weights_axis),
            out_axes=-1,
        )(start, standard, (f.y_center, f.y_scale), y, t, weights)
        coefs = standard.to_coefs(found.params)
        params, least_squares = moved(point, coefs, moments)
        cost_in_frame = found.cost * standard.deviation[-1] ** 2
        return Solution(params, coefs, cost_in_frame, least_squares, found.status)

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
        size = jnp.arange(mean.hi.shape[0])
        variance = centered.value[size, size]
        deviation = jnp.sqrt(jnp.where(variance > 0, variance, 1))
        correlations = centered.value / (deviation[:, None] * deviation[None])
        mean = mean.value
        if moments.ansatz.has_intercept:  # the constant itself stays 1
            correlations = correlations.at[0, 0].set(1)
            mean = mean.at[0].set(0)
        return cls(mean, deviation, correlations)

    def to_coefs(self, a: Array) -> Array:
        """c of u = cᵀψ from a of (u − ū)/σᵤ = Σ a_i (ψ_i − ψ̄_i)/σ_i."""
        c = a * self.deviation[-1] / self.deviation[:-1]
        return c.at[0].add(self.mean[-1] - jnp.sum(c * self.mean[:-1], axis=0))

    def from_coefs(self, c: Array) -> Array:
        """The inverse of `to_coefs`."""
        c = c.at[0].add(jnp.sum(c * self.mean[:-1], axis=0) - self.mean[-1])
        return c * self.deviation[:-1] / self.deviation[-1]


def _quadratic(a: Array, G: Array) -> Array:
    """S = (−a, 1)ᵀ G (−a, 1)."""
    v = jnp.concatenate([-a, jnp.ones_like(a[:1])])
    return jnp.sum(v[:, None] * G * v)


def _standardized(
    cost: Cost,
    ansatz: Ansatz,
    a: Array,
    standard: _Standard,
    y_units: tuple[Array, Array],
    y: Array,
    t: Array,
    weights: Array | None,
) -> Array:
    """A cost as a function of standardized coefficients, in units of the variance of y."""
    center, scale = y_units
    c = standard.to_coefs(a)
    params = scale * (ansatz.basis_in_features(c.shape[0]).T.astype(c.dtype) @ c)
    if ansatz.has_intercept:
        params = params.at[0].add(center)
    return cost(params, t, y, weights, ansatz=ansatz) / (standard.deviation[-1] * scale) ** 2
