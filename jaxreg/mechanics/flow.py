"""The flow θ̇ = −∇S, whose discretization is gradient descent (seed paper, equations 8, 12, 13).

On a quadratic cost it has a closed form. Along each eigenvector of H = ∇²S the error θ − θ* decays as
e^{−λt}, in steps of α as (1 − αλ)ᵏ, and with inertia and friction as a damped oscillation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Float
from jaxreg.engine.moments import Moments
from jaxreg.mechanics import modes
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.mechanics.spectrum import apply, spectrum
from jaxreg.numerics import html, small
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.numerics.short_repr import short_repr
from jaxreg.solvers.arguments import as_params, as_params_tree, scalar
from jaxreg.solvers.closed_form import turning_point


class LearningRates(NamedTuple):
    """Bounds on the learning rate α of θ ← θ − α∇S, for each data set.

    Attributes:
        largest: 2 / λmax of ∇²S; the descent converges for every α below it.
        best: 2 / (λmin + λmax), the fastest: each step multiplies the error by (κ − 1)/(κ + 1) or less.
    """

    largest: Float[Array, "*batch"]
    best: Float[Array, "*batch"]


@pytree
class Flow:
    """The flow θ̇ = −∇S around the turning point of each data set; exact if S is quadratic.

    Times carry units of 1 / rates. Methods accept times of any shape, whose axes come first in the results.

    Attributes:
        turning_point: θ* with ∇S(θ*) = 0, (p, *batch); NaN where it does not exist or is not unique.
        cost: S(θ*), (*batch).
        rates: the eigenvalues λ of H = ∇²S, ascending, (p, *batch).
        directions: their unit eigenvectors, (p, p, *batch); `directions[:, k]` belongs to `rates[k]`.
        hessian: H, (p, p, *batch). If κ is above 1/ε of the dtype, its small eigenvalues are lost to
            rounding; `rates` keeps them.

    >>> from jaxreg import moments
    >>> x, y = jnp.array([-1.0, 0.0, 0.0, 1.0]), jnp.array([-1.0, 0.0, 2.0, 3.0])
    >>> flow = exact_flow(moments(x, y))
    >>> print(flow.rates, flow.half_lives)
    [1. 2.] [0.6931472 0.3465736]
    >>> print(flow.trajectory(jnp.zeros(2), flow.half_lives[0]).params, flow.turning_point)
    [0.75 1.  ] [1. 2.]
    """

    turning_point: Float[Array, "p *batch"]
    cost: Float[Array, "*batch"]
    rates: Float[Array, "p *batch"]
    directions: Float[Array, "p p *batch"]
    hessian: Float[Array, "p p *batch"]

    def __repr__(self) -> str:
        return short_repr(self)

    def _repr_html_(self) -> str | None:
        """A table of turning point, rates and learning rates for notebooks; None without values to show."""
        leaves = (self.turning_point, self.cost, self.rates, *jax.tree.leaves(self))
        if not html.are_numbers(*leaves) or self.turning_point.shape[1:] != self.cost.shape:
            return None
        per_param = {
            "θ*": self.turning_point,
            "rate λ": self.rates,
            "half-life ln 2 / λ": self.half_lives,
        }
        shape = " × ".join(map(str, self.cost.shape))
        rows = {
            "S(θ*)": np.asarray(self.cost),
            "largest α": np.asarray(self.learning_rates.largest),
            "best α": np.asarray(self.learning_rates.best),
            "condition number κ": np.asarray(self.condition_number),
            **{
                f"{name} [{k}]": np.asarray(a)
                for name, values in per_param.items()
                for k, a in enumerate(values)
            },
        }
        return html.quantities("Flow θ̇ = −∇S" + f" of {shape} data sets" * bool(shape), rows)

    @property
    @in_own_precision
    def half_lives(self) -> Float[Array, "p *batch"]:
        """ln 2 / λ, the time in which the error along a direction halves; infinite where λ = 0."""
        return math.log(2) / self.rates

    @property
    @in_own_precision
    def condition_number(self) -> Float[Array, "*batch"]:
        """κ = λmax / λmin, the ratio of the slowest half-life to the fastest."""
        return self.rates[-1] / self.rates[0]

    @property
    @in_own_precision
    def learning_rates(self) -> LearningRates:
        """The upper bound on α for convergence, and the α of the fastest convergence."""
        return LearningRates(2 / self.rates[-1], 2 / (self.rates[0] + self.rates[-1]))

    @property
    @in_own_precision
    def critical_friction(self) -> Float[Array, "p *batch"]:
        """γ = 2√λ: below it a direction is underdamped, above it overdamped."""
        return 2 * jnp.sqrt(self.rates)

    @in_own_precision
    @jax.jit
    def trajectory(self, start: Any, times: Any) -> Trajectory:
        """θ(t) = θ* + e^{−Ht}(θ₀ − θ*).

        Args:
            start: θ₀, (p,) or (p, *batch).
            times: t.
        """

        error = self._like_params(start) - self.turning_point

        def at(t: Array) -> Trajectory:
            return self._state(
                t, self._apply(modes.decay, error, t), self._apply(modes.decay_times_rate, error, t)
            )

        return _at_each(at, self._number(times))

    @in_own_precision
    @jax.jit
    def iteration(self, start: Any, learning_rate: Any, steps: Any) -> Trajectory:
        """θ_k = θ* + (1 − αH)ᵏ(θ₀ − θ*), the result of k steps θ ← θ − α∇S in closed form.

        Args:
            start: θ₀, (p,) or (p, *batch).
            learning_rate: α, a number or (*batch).
            steps: k, whole numbers.

        Returns:
            `Trajectory` at the times αk if α is one number, else at the times k.
        """
        alpha, steps = self._per_data_set(learning_rate, "learning_rate"), _whole(steps)
        error = self._like_params(start) - self.turning_point

        def after(k: Array) -> Trajectory:
            new_error = self._apply(modes.power, error, alpha, k)
            momentum = self._apply(modes.power_times_rate, error, alpha, k)
            return self._state(alpha * k if alpha.ndim == 0 else self._number(k), new_error, momentum)

        return _at_each(after, steps)

    @in_own_precision
    @jax.jit
    def step_error(self, start: Any, learning_rate: Any, steps: Any) -> Float[Array, "*times p *batch"]:
        """θ_k − θ(αk), the discretization error of k steps of equation 16: −½αt H²e^{−Ht}(θ₀ − θ*) + O(α²).

        Args:
            start: θ₀, (p,) or (p, *batch).
            learning_rate: α, a number or (*batch).
            steps: k, whole numbers.
        """
        alpha, steps = self._per_data_set(learning_rate, "learning_rate"), _whole(steps)
        error = self._like_params(start) - self.turning_point
        return _at_each(lambda k: self._apply(modes.step_error, error, alpha, k), steps)

    @in_own_precision
    @jax.jit
    def oscillation(self, start: Any, times: Any, friction: Any, velocity: Any = None) -> Trajectory:
        """θ̈ + γθ̇ = −∇S, the flow with inertia, whose discretization is descent with momentum.

        v ← μv − α∇S, θ ← θ + v, as in `optax.sgd(α, momentum=μ)`, corresponds to time steps of √α and
        γ = (1 − μ)/√α. Convergence is fastest for γ = `critical_friction[0]`.

        Args:
            start: θ₀, (p,) or (p, *batch).
            times: t ≥ 0.
            friction: γ ≥ 0, a number or (*batch).
            velocity: θ̇ at time 0; 0 if omitted.

        Source: B. T. Polyak, USSR Comp. Math. and Math. Phys. 4 (1964) 1.
        """
        gamma = self._per_data_set(friction, "friction")
        error = self._like_params(start) - self.turning_point
        velocity = jnp.zeros_like(error) if velocity is None else self._like_params(velocity)

        def at(t: Array) -> Trajectory:
            def response(to_error: Callable[..., Array], to_velocity: Callable[..., Array]) -> Array:
                return self._apply(to_error, error, gamma, t) + self._apply(to_velocity, velocity, gamma, t)

            return self._state(
                t,
                response(modes.swing, modes.kick),
                response(modes.swing_times_rate, modes.kick_times_rate),
                response(modes.swing_velocity, modes.kick_velocity),
            )

        return _at_each(at, self._number(times))

    @in_own_precision
    @jax.jit
    def shrinkage(self, times: Any) -> Float[Array, "*times p *batch"]:
        """1 − e^{−λt}, the fraction of the distance to the turning point covered at time t, per direction.

        Early stopping at time t shrinks the params toward the start much as a ridge penalty of strength
        1/t does, for which the fraction is λ/(λ + 1/t).

        Source: A. Ali, J. Z. Kolter, R. J. Tibshirani, AISTATS 89 (2019) 1370.
        """
        return _at_each(lambda t: -jnp.expm1(-self.rates * t), self._number(times))

    @in_own_precision
    @jax.jit
    def effective_dof(self, times: Any) -> Float[Array, "*times *batch"]:
        """Σ (1 − e^{−λt}), the trace of ∂ŷ/∂y: the effective number of params when stopping at time t."""
        return _at_each(lambda t: -jnp.sum(jnp.expm1(-self.rates * t), axis=0), self._number(times))

    def _state(self, t: Array, error: Array, momentum: Array, velocity: Array | None = None) -> Trajectory:
        """The point with θ − θ* = error and ∇S = momentum; the velocity is −∇S if omitted."""
        return Trajectory(
            times=t,
            params=self.turning_point + error,
            velocity=-momentum if velocity is None else velocity,
            momentum=momentum,
            cost=self.cost + small.dot(momentum, error) / 2,
        )

    def _apply(self, function: Callable[..., Array], vector: Array, *others: Array) -> Array:
        return apply(function, self.hessian, self.rates, self.directions, vector, *others)

    def _per_data_set(self, value: Any, name: str) -> Array:
        a = self._number(value)
        if a.shape not in ((), self.cost.shape):
            raise ValueError(
                f"{name} is a number or one per data set, {self.cost.shape}; got shape {a.shape}"
            )
        return a

    def _like_params(self, vector: Any) -> Array:
        a, like = self._number(vector), self.turning_point
        if a.shape not in (like.shape, like.shape[:1]):
            raise ValueError(f"a point has shape {like.shape[:1]} or {like.shape}, got {a.shape}")
        return a if a.shape == like.shape else a.reshape(-1, *(1,) * (like.ndim - 1))

    def _number(self, a: Any) -> Array:
        return jnp.asarray(a, self.rates.dtype)


@in_own_precision
def momentum(cost: Callable[..., Array], params: Any, *data: Any) -> Any:
    """p = ∇S(θ), equation 8; for a line −2⟨y − β₀ − β₁x⟩ and −2⟨x(y − β₀ − β₁x)⟩, equations 10 to 13.

    Args:
        cost: S(params, *data).
        params: θ, an array or a pytree of arrays; integers are converted to floats.
        *data: arrays passed on to the cost.

    Returns:
        The gradient, with the shape of the params.

    >>> from jaxreg import mean_squared_error
    >>> x, y = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
    >>> momentum(mean_squared_error, jnp.zeros(2), x, y).tolist()
    [-4.0, -3.0]
    """
    return jax.grad(scalar(cost))(as_params_tree(params), *data)


@in_own_precision
@jax.jit
def exact_flow(moments: Moments) -> Flow:
    """The flow of the mean squared error in the units of the data, with H = 2⟨φ φᵀ⟩.

    Args:
        moments: those of one data set or of many.

    Returns:
        `Flow`; NaN for data sets without moments.

    Source: seed paper, equations 12 and 13.
    """
    point = turning_point(moments)
    rates, directions = spectrum(moments)
    usable = moments.is_usable
    return Flow(
        turning_point=jnp.where(point.full_rank, point.params, jnp.nan),
        cost=jnp.where(usable, point.cost * jnp.square(moments.scaling.y_scale), jnp.nan),
        rates=jnp.where(usable, rates, jnp.nan),
        directions=jnp.where(usable, directions, jnp.nan),
        hessian=jnp.where(usable, 2 * moments.gram, jnp.nan),
    )


@in_own_precision
def linearized_flow(cost: Callable[..., Array], turning_point: Any, *data: Any) -> Flow:
    """The flow of any cost near a point with ∇S = 0, linearized with H = ∇²S at that point.

    At a saddle or a maximum some rates are negative and the flow leaves the point along their directions:
    no learning rate converges, half-lives are negative doubling times, and critical frictions are NaN.
    Written for one data set; `jax.vmap(..., out_axes=-1)` applies it to many.

    Args:
        cost: S(params, *data).
        turning_point: θ*, (p,), for example from `descend` or `stationary_phase`.
        *data: arrays passed on to the cost.

    >>> flow = linearized_flow(lambda q: (q[0] ** 2 - 1) ** 2 + q[1] ** 2, jnp.array([0.0, 0.0]))
    >>> flow.rates.tolist()
    [-4.0, 2.0]
    """
    theta, cost = as_params(turning_point), scalar(cost)
    H = jax.hessian(cost)(theta, *data)
    rates, directions = jnp.linalg.eigh(H)
    return Flow(theta, jnp.asarray(cost(theta, *data)), rates, directions, H)


@in_own_precision
@jax.jit
def learning_rates(moments: Moments) -> LearningRates:
    """The largest and the best learning rate for the mean squared error in the units of the data.

    Each step multiplies the error along an eigenvector of H = ∇²S = 2⟨φ φᵀ⟩ by 1 − αλ.

    Args:
        moments: those of one data set or of many.

    Returns:
        `LearningRates`; NaN for data sets without moments. If the two agree to rounding, as for an intercept
        and x in calendar years, λmin is close to 0 and no α converges in reasonable time: center and scale x,
        as `GradientDescent` does.

    Source: B. T. Polyak, Introduction to Optimization (1987), section 1.4.

    >>> from jaxreg import moments
    >>> rates = learning_rates(moments(jnp.array([-1.0, 0.0, 1.0]), jnp.zeros(3)))
    >>> [round(float(rate), 3) for rate in rates]
    [1.0, 0.6]
    """
    return exact_flow(moments).learning_rates


def _at_each(function: Callable[[Array], Any], times: Array) -> Any:
    """The function at each of the times, whose axes come first in the result."""
    flat = jax.vmap(function)(times.reshape(-1))
    return jax.tree.map(lambda a: a.reshape(times.shape + a.shape[1:]), flat)


def _whole(steps: Any) -> Array:
    steps = jnp.asarray(steps)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise ValueError(f"steps are whole numbers, got {steps.dtype}")
    return steps
