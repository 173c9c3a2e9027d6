"""Gradient descent as a solver for `fit`: on moments for least squares, on the data for other costs."""

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
    """Gradient descent θ ← θ − α∇S as a solver for `fit`, with any optimizer of optax.

    It descends in standardized coordinates, in which every feature and y have mean 0 and variance 1, and
    maps θ back at the end: whatever the units of the data, `optax.sgd` converges for α below 1/p with p
    params, such as the seed paper's 0.01 to 0.1 for up to ten.

    For the mean squared error it starts from θ = 0 and runs on the moments: a step takes O(p²) per data set
    and does not read the data, and all k steps of `optax.sgd` together take O(p³ log k). For any other cost
    it starts from the least-squares solution, and every step reads the data, tile by tile: a tile stays in
    cache for all its steps, and a converged data set gives its slot to the next. Derivatives of such a fit
    are those of the minimum.

    A data set that does not reach `tol` gets the status `not_converged`, one whose params or gradient become
    infinite or NaN `diverged`.

    Args:
        optimizer: a function of the learning rate that returns an optax optimizer, such as `optax.sgd` or
            `optax.adam`; or an optimizer, such as `optax.adam(0.05)` (compiled once per object).
        learning_rate: α, passed to the function, 0.1 if omitted. A new value does not recompile.
        steps: the largest number of steps.
        tol: a data set stops as soon as |∇S| ≤ tol, in standardized coordinates. If omitted, all steps are
            taken, and the tolerance for convergence is the square root of the dtype's epsilon.

    Raises:
        ValueError: if `steps` is not an integer of 0 or more, or if an optimizer (not a function) comes with
            a learning rate.

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

    def __repr__(self) -> str:
        name = getattr(self.optimizer, "__name__", "optax optimizer")
        return f"GradientDescent({name}, learning_rate={self.rate}, steps={self.steps}, tol={self.tol})"

    def __post_init__(self) -> None:
        if isinstance(self.optimizer, Optimizer) and self.learning_rate is not None:
            raise ValueError(
                "this optimizer carries its own learning rate: omit learning_rate, or pass the function, "
                "such as GradientDescent(optax.adam, learning_rate=0.05)"
            )
        check_steps(self.steps)

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Array | Status]:
        """Minimize the mean squared error from θ = 0 on the moments.

        In standardized coordinates a, S(a) = S* + (a − a*)ᵀR(a − a*) with the correlation matrix R. The
        intercept of standardized coordinates is 0 from the start.
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
        a, gradient = self._descend(R, jnp.stack([*best]).astype(dtype))
        step = vector([(a[i] - best[i]) * y_deviation / deviation[i] for i in range(k)])
        return displaced(ansatz, origin, point, step), self.status(a, small.norm(gradient))

    def _descend(self, R: Array, best: Array) -> tuple[Array, Array]:
        """The end of a descent from 0, and ∇S at it."""
        if self.optimizer is optax.sgd:  # linear iteration: k steps are a power of a matrix
            return iterated(2 * R, -2 * small.matvec(R, best), self.rate, self.steps, self.tol)

        def descend_one(R: Array, best: Array, rate: Any, tol: Any) -> Array:
            def cost(a: Array) -> Array:
                return 1 + a @ (R @ (a - 2 * best))

            optimizer = self.optimizer_with(rate)
            return loop(cost, jnp.zeros_like(best), (), optimizer, self.steps, tol, False).params

        a = over_batch(descend_one, (R, best, self.rate, self.tol), best.ndim - 1)
        return a, 2 * small.matvec(R, a - best)

    def status(self, params: Array, gradient_norm: Array) -> Array:
        """`diverged` if params or gradient are not finite, `not_converged` above the tolerance, else `ok`."""
        tol = jnp.finfo(params.dtype).eps ** 0.5 if self.tol is None else self.tol
        finite = jnp.isfinite(gradient_norm) & jnp.isfinite(params).all(axis=0)
        convergence = jnp.where(gradient_norm <= tol, Status.ok, Status.not_converged)
        return jnp.where(finite, convergence, Status.diverged).astype(jnp.int8)

    def status_of(self, descent: Descent) -> Array:
        """The status at the end of descents; without `tol`, |∇S| is compared with the default tolerance."""
        if self.tol is not None:
            return descent.status
        return self.status(descent.params, descent.gradient_norm)

    @property
    def rate(self) -> Any:
        """α, or its default."""
        return DEFAULT_LEARNING_RATE if self.learning_rate is None else self.learning_rate

    def optimizer_with(self, rate: Any) -> Optimizer:
        """The optax optimizer, with this learning rate if it does not carry its own."""
        return self.optimizer if isinstance(self.optimizer, Optimizer) else self.optimizer(rate)


def displaced(ansatz: Ansatz, origin: Origin, point: TurningPoint, step: Vector) -> TurningPoint:
    """The point of the parabola S whose coefs are those of the turning point plus a step.

    The step counts as an error of the params: `digits` compares them with the turning point.
    """
    unit_step = elementwise(lambda a: a / point.y_unit, step)
    excess = dot(unit_step, point.gram.times(unit_step))  # S above its minimum, in units of y_unit²
    c0, dc0 = point.c0, None
    if c0 is not None:
        dc0 = -dot(step, point.offsets)
        c0 = c0 + dc0
    center = (
        point.x_center if origin.x is None else [c + o for c, o in zip(point.x_center, origin.x, strict=True)]
    )
    params_step = vector(params_of(feature_rows(ansatz, center, point.x_scale), list(prepend(dc0, step))))
    if not isinstance(point.params, list):
        params_step = jnp.stack([*params_step])
    return point._replace(
        params=elementwise(jnp.add, point.params, params_step),
        param_errors=elementwise(lambda e, d: e + jnp.abs(d), point.param_errors, params_step),
        c0=c0,
        coefs=elementwise(jnp.add, point.coefs, step),
        unexplained=point.unexplained + excess,
        explained=point.explained - excess,
    )


def _root(a: Array) -> Array:
    """√a; 1 where a is not positive, since the result is a divisor."""
    return jnp.sqrt(jnp.where(a > 0, a, 1))
