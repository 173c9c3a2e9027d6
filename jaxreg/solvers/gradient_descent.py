"""Gradient descent as a solver for `fit`: on the moments of least squares, on the data of other costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine.features import feature_rows, params_of
from jaxreg.engine.sums import Origin
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.numerics import small
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.numerics.vectors import Vector, dot, elementwise, over_batch, prepend, vector
from jaxreg.solvers.descent import Descent, check_steps, loop
from jaxreg.solvers.iteration import iterated
from jaxreg.status import Status

DEFAULT_LEARNING_RATE = 0.1

Optimizer = optax.GradientTransformation


@pytree
class GradientDescent:
    """The loop of `descend` as a solver for `fit`, in standardized coordinates.

    There every feature and y have mean 0 and variance 1: whatever the units, the seed paper's α of 0.01
    to 0.1 converges for up to ten params, and any α below 1/p for p of them. θ is mapped back at the end.
    On the mean squared error the descent runs on the moments, from θ = 0: a step costs O(p²) per data
    set and no pass over the data, and the k steps of `optax.sgd` together cost O(p³ log k). On any other
    cost it starts from the least-squares solution, and each step reads the data, of some data sets at a
    time, which stay in cache for all their steps; a converged data set gives its slot to the next.
    Gradients through such a fit are those at the minimum.

    Args:
        optimizer: a function from learning rate to optax optimizer, such as `optax.sgd` or `optax.adam`,
            or an optimizer that is ready, such as `optax.adam(0.05)` (compiled once per object).
        learning_rate: α for the function, 0.1 if omitted; a new value compiles nothing anew.
        steps: how many steps at most.
        tol: a data set stops where |∇S| ≤ tol, with y in standard deviations. If omitted, every step is
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

    ends_at_turning_point = False
    precision = "auto"

    optimizer: Optimizer | Callable[[Any], Optimizer] = static(default=optax.sgd)
    learning_rate: float | Array | None = None
    steps: int = static(default=1000)
    tol: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, Optimizer) and self.learning_rate is not None:
            raise ValueError(
                "this optimizer carries its own learning rate: leave learning_rate out, or pass the "
                "function, such as GradientDescent(optax.adam, learning_rate=0.05)"
            )
        check_steps(self.steps)

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Array | Status]:
        """Descend on the mean squared error from 0, for which the moments are enough.

        In standardized coordinates a, S(a) = S* + (a − a*)ᵀR(a − a*) with the correlations R. An intercept
        starts at the mean of y, where it stays.
        """
        k = point.gram.k
        if not k:
            return point, Status.ok
        total = point.y_variance if ansatz.has_intercept else point.unexplained + point.explained
        y_deviation = point.y_unit * _root(total)
        deviation = elementwise(_root, point.gram.diagonal)
        best = elementwise(lambda c, s: c * s / y_deviation, point.coefs, deviation)
        R = point.gram.with_outer(lambda a, s, t: a / (s * t), deviation, deviation)
        R = jnp.stack([jnp.stack([R[i, j] for j in range(k)]) for i in range(k)]).astype(dtype)
        a, slope = self._descend(R, jnp.stack([*best]).astype(dtype))
        step = vector([(a[i] - best[i]) * y_deviation / deviation[i] for i in range(k)])
        return moved(ansatz, origin, point, step), self.status(a, small.norm(slope))

    def _descend(self, R: Array, best: Array) -> tuple[Array, Array]:
        """Where a descent from 0 ends, and ∇S there."""
        if self.optimizer is optax.sgd:  # linear: its steps need not be taken one by one
            return iterated(2 * R, -2 * small.matvec(R, best), self.rate, self.steps, self.tol)

        def of_one(R: Array, best: Array, rate: Any, tol: Any) -> Array:
            def cost(a: Array) -> Array:
                return 1 + a @ (R @ (a - 2 * best))

            descent = loop(cost, jnp.zeros_like(best), (), self.ready_optimizer(rate), self.steps, tol, False)
            return descent.params

        a = over_batch(of_one, (R, best, self.rate, self.tol), best.ndim - 1)
        return a, 2 * small.matvec(R, a - best)

    def status(self, params: Array, gradient_norm: Array) -> Array:
        """`diverged` off the finite numbers, `not_converged` above the tolerance."""
        tol = jnp.finfo(params.dtype).eps ** 0.5 if self.tol is None else self.tol
        finite = jnp.isfinite(gradient_norm) & jnp.isfinite(params).all(axis=0)
        ended = jnp.where(gradient_norm <= tol, Status.ok, Status.not_converged)
        return jnp.where(finite, ended, Status.diverged).astype(jnp.int8)

    def end_of(self, descent: Descent) -> Array:
        """The status of descents."""
        if self.tol is not None:
            return descent.status
        return self.status(descent.params, descent.gradient_norm)

    @property
    def rate(self) -> Any:
        """α."""
        return DEFAULT_LEARNING_RATE if self.learning_rate is None else self.learning_rate

    def ready_optimizer(self, rate: Any) -> Optimizer:
        """The optimizer with this learning rate."""
        return self.optimizer if isinstance(self.optimizer, Optimizer) else self.optimizer(rate)


def moved(ansatz: Ansatz, origin: Origin, point: TurningPoint, step: Vector) -> TurningPoint:
    """Another point of the parabola S, by what its coefs differ from the turning point; with fewer digits."""
    unit_step = elementwise(lambda a: a / point.y_unit, step)
    more = dot(unit_step, point.gram.times(unit_step))
    c0, dc0 = point.c0, None
    if c0 is not None:
        dc0 = -dot(step, point.offsets)
        c0 = c0 + dc0
    center = (
        point.x_center if origin.x is None else [c + o for c, o in zip(point.x_center, origin.x, strict=True)]
    )
    away = vector(params_of(feature_rows(ansatz, center, point.x_scale), list(prepend(dc0, step))))
    if not isinstance(point.params, list):
        away = jnp.stack([*away])
    return point._replace(
        params=elementwise(jnp.add, point.params, away),
        param_errors=elementwise(lambda e, a: e + jnp.abs(a), point.param_errors, away),
        c0=c0,
        coefs=elementwise(jnp.add, point.coefs, step),
        unexplained=point.unexplained + more,
        explained=point.explained - more,
    )


def _root(a: Array) -> Array:
    """√a; 1 where a is not positive, for it is divided by."""
    return jnp.sqrt(jnp.where(a > 0, a, 1))
