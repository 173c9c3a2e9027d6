"""The flow θ̇ = −∇S of which gradient descent is the discretization (seed paper, equations 8, 12, 13).

On a quadratic cost it is known for all times: along each eigenvector of H = ∇²S what is left of the
error falls as e^{−λt}, in steps of α as (1 − αλ)ᵏ, and with inertia and friction as a damped oscillation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._typing import Array, Float
from jaxreg.engine.moments import Moments
from jaxreg.mechanics import modes
from jaxreg.mechanics.arguments import as_params
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.mechanics.spectrum import apply, spectrum
from jaxreg.numerics import small
from jaxreg.numerics.precision import in_own_precision
from jaxreg.numerics.pytrees import pytree
from jaxreg.solvers.closed_form import turning_point


class LearningRates(NamedTuple):
    """Two learning rates α of θ ← θ − α∇S, one pair per data set.

    Attributes:
        largest: 2 / λmax of ∇²S; the descent converges for every α below.
        best: 2 / (λmin + λmax), at which the error shrinks fastest, by (κ − 1)/(κ + 1) a step.
    """

    largest: Float[Array, "*batch"]
    best: Float[Array, "*batch"]


@pytree
class Flow:
    """θ̇ = −∇S around a turning point, for all data sets at once: exact where S is quadratic.

    Times carry units of 1 / rates. Methods take times of any shape and put their axes in front.

    Attributes:
        turning_point: θ* with ∇S(θ*) = 0, (p, *batch); NaN where there is not a single one.
        cost: S(θ*), (*batch).
        rates: the eigenvalues λ of H = ∇²S, ascending, (p, *batch).
        directions: their unit eigenvectors, `directions[:, k]` that of `rates[k]`, (p, p, *batch).
        hessian: H, (p, p, *batch); of a κ above that of the dtype it has no digits, unlike the rates.

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

    @property
    @in_own_precision
    def half_lives(self) -> Float[Array, "p *batch"]:
        """ln 2 / λ: the time in which the error along a direction halves; infinite where λ = 0."""
        return math.log(2) / self.rates

    @property
    @in_own_precision
    def condition_number(self) -> Float[Array, "*batch"]:
        """κ = λmax / λmin: how many times longer the slowest direction takes than the fastest."""
        return self.rates[-1] / self.rates[0]

    @property
    @in_own_precision
    def learning_rates(self) -> LearningRates:
        """The largest α that converges and the one that does so fastest."""
        return LearningRates(2 / self.rates[-1], 2 / (self.rates[0] + self.rates[-1]))

    @property
    @in_own_precision
    def critical_friction(self) -> Float[Array, "p *batch"]:
        """γ = 2√λ: with less friction a direction swings, with more it creeps."""
        return 2 * jnp.sqrt(self.rates)

    @in_own_precision
    @jax.jit
    def trajectory(self, start: Any, times: Any) -> Trajectory:
        """θ(t) = θ* + e^{−Ht}(θ₀ − θ*).

        Args:
            start: θ₀, (p,) or (p, *batch).
            times: t.
        """

        away = self._like_params(start) - self.turning_point

        def at(t: Array) -> Trajectory:
            return self._state(
                t, self._apply(modes.decay, away, t), self._apply(modes.decay_and_rate, away, t)
            )

        return _at_each(at, self._number(times))

    @in_own_precision
    @jax.jit
    def iteration(self, start: Any, learning_rate: Any, steps: Any) -> Trajectory:
        """θ_k = θ* + (1 − αH)ᵏ(θ₀ − θ*): where k steps θ ← θ − α∇S lead, without taking them.

        Args:
            start: θ₀, (p,) or (p, *batch).
            learning_rate: α, a number or (*batch).
            steps: k, whole numbers.

        Returns:
            `Trajectory` at the times αk if α is one number, else at k.
        """
        alpha, steps = self._per_data_set(learning_rate, "learning_rate"), _whole(steps)
        away = self._like_params(start) - self.turning_point

        def after(k: Array) -> Trajectory:
            left, momentum = (self._apply(f, away, alpha, k) for f in (modes.power, modes.power_and_rate))
            return self._state(alpha * k if alpha.ndim == 0 else self._number(k), left, momentum)

        return _at_each(after, steps)

    @in_own_precision
    @jax.jit
    def step_error(self, start: Any, learning_rate: Any, steps: Any) -> Float[Array, "*times p *batch"]:
        """θ_k − θ(αk), by how much k steps of equation 16 miss the flow: −½αt H²e^{−Ht}(θ₀ − θ*) + O(α²).

        Args:
            start: θ₀, (p,) or (p, *batch).
            learning_rate: α, a number or (*batch).
            steps: k, whole numbers.
        """
        alpha, steps = self._per_data_set(learning_rate, "learning_rate"), _whole(steps)
        away = self._like_params(start) - self.turning_point
        return _at_each(lambda k: self._apply(modes.error_of_steps, away, alpha, k), steps)

    @in_own_precision
    @jax.jit
    def oscillation(self, start: Any, times: Any, friction: Any, velocity: Any = None) -> Trajectory:
        """θ̈ + γθ̇ = −∇S: the flow with inertia, of which descent with momentum is the discretization.

        θ ← θ + v after v ← μv − α∇S, as in `optax.sgd(α, momentum=μ)`, takes time steps of √α under
        γ = (1 − μ)/√α. γ = `critical_friction[0]` reaches the turning point soonest.

        Args:
            start: θ₀, (p,) or (p, *batch).
            times: t ≥ 0.
            friction: γ ≥ 0, a number or (*batch).
            velocity: θ̇ at time 0; at rest without.

        Source: B. T. Polyak, USSR Comp. Math. and Math. Phys. 4 (1964) 1.
        """
        gamma = self._per_data_set(friction, "friction")
        away = self._like_params(start) - self.turning_point
        push = jnp.zeros_like(away) if velocity is None else self._like_params(velocity)

        def at(t: Array) -> Trajectory:
            def both(of_start: Callable[..., Array], of_push: Callable[..., Array]) -> Array:
                return self._apply(of_start, away, gamma, t) + self._apply(of_push, push, gamma, t)

            left, momentum = both(modes.swing, modes.push), both(modes.swing_and_rate, modes.push_and_rate)
            return self._state(t, left, momentum, both(modes.swing_velocity, modes.push_velocity))

        return _at_each(at, self._number(times))

    @in_own_precision
    @jax.jit
    def shrinkage(self, times: Any) -> Float[Array, "*times p *batch"]:
        """1 − e^{−λt}: the share of the way from the start to the turning point that is behind at time t.

        Stopping early at time t shrinks toward the start as a ridge penalty does, whose shares are
        λ/(λ + 1/t).

        Source: A. Ali, J. Z. Kolter, R. J. Tibshirani, AISTATS 89 (2019) 1370.
        """
        return _at_each(lambda t: -jnp.expm1(-self.rates * t), self._number(times))

    @in_own_precision
    @jax.jit
    def effective_dof(self, times: Any) -> Float[Array, "*times *batch"]:
        """Σ (1 − e^{−λt}), the trace of ∂ŷ/∂y: how many params are fitted when stopping at time t."""
        return _at_each(lambda t: -jnp.sum(jnp.expm1(-self.rates * t), axis=0), self._number(times))

    def _state(self, t: Array, left: Array, momentum: Array, velocity: Array | None = None) -> Trajectory:
        """Where θ − θ* is `left` and ∇S the momentum."""
        return Trajectory(
            times=t,
            params=self.turning_point + left,
            velocity=-momentum if velocity is None else velocity,
            momentum=momentum,
            cost=self.cost + small.dot(momentum, left) / 2,
        )

    def _apply(self, function: Callable[..., Array], vector: Array, *others: Array) -> Array:
        return apply(function, self.hessian, self.rates, self.directions, vector, *others)

    def _per_data_set(self, given: Any, name: str) -> Array:
        a = self._number(given)
        if a.shape not in ((), self.cost.shape):
            raise ValueError(
                f"{name} is a number or one per data set, {self.cost.shape}; got shape {a.shape}"
            )
        return a

    def _like_params(self, vector: Any) -> Array:
        a, like = self._number(vector), self.turning_point
        if a.shape not in (like.shape, like.shape[:1]):
            raise ValueError(f"a point is {like.shape[:1]} or {like.shape} as the params are, got {a.shape}")
        return a if a.shape == like.shape else a.reshape(-1, *(1,) * (like.ndim - 1))

    def _number(self, a: Any) -> Array:
        return jnp.asarray(a, self.rates.dtype)


@in_own_precision
def momentum(cost: Callable[..., Array], params: Any, *data: Any) -> Any:
    """p = ∇S(θ), equation 8; for a line −2⟨y − β₀ − β₁x⟩ and −2⟨x(y − β₀ − β₁x)⟩, equations 10 to 13.

    Args:
        cost: S(params, *data).
        params: θ.
        *data: what the cost reads.

    Returns:
        The gradient, of the shape of params.

    >>> from jaxreg import mean_squared_error
    >>> x, y = jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])
    >>> momentum(mean_squared_error, jnp.zeros(2), x, y).tolist()
    [-4.0, -3.0]
    """
    return jax.grad(cost)(params, *data)


@in_own_precision
@jax.jit
def exact_flow(moments: Moments) -> Flow:
    """The flow of the mean squared error in the units of the data, where H = 2⟨φ φᵀ⟩.

    Args:
        moments: of one data set or of many.

    Returns:
        `Flow`, NaN where there are no moments.

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
    """The flow of any cost near a point with ∇S = 0, by H = ∇²S there: local rates and directions.

    Negative rates are those of a saddle or a maximum, which the flow leaves: no learning rate converges
    there, half-lives are times of doubling, and no friction is critical. Written for one data set;
    `jax.vmap(..., out_axes=-1)` makes it many.

    Args:
        cost: S(params, *data).
        turning_point: θ*, (p,), as `descend` or `stationary_phase` finds it.
        *data: what the cost reads.

    >>> flow = linearized_flow(lambda q: (q[0] ** 2 - 1) ** 2 + q[1] ** 2, jnp.array([0.0, 0.0]))
    >>> flow.rates.tolist()
    [-4.0, 2.0]
    """
    theta = as_params(turning_point)
    H = jax.hessian(cost)(theta, *data)
    rates, directions = jnp.linalg.eigh(H)
    return Flow(theta, cost(theta, *data), rates, directions, H)


@in_own_precision
@jax.jit
def learning_rates(moments: Moments) -> LearningRates:
    """The learning rates that converge on the mean squared error in the units of the data.

    Each step multiplies the error along an eigenvector of H = ∇²S = 2⟨φ φᵀ⟩ by 1 − αλ.

    Args:
        moments: of one data set or of many.

    Returns:
        `LearningRates`, NaN where there are no moments. Where the two agree to rounding, as for an
        intercept beside a raw calendar year, λmin is next to 0 and the descent is hopeless in these
        coordinates: center and scale x, as `GradientDescent` does.

    Source: B. T. Polyak, Introduction to Optimization (1987), section 1.4.

    >>> from jaxreg import moments
    >>> rates = learning_rates(moments(jnp.array([-1.0, 0.0, 1.0]), jnp.zeros(3)))
    >>> [round(float(rate), 3) for rate in rates]
    [1.0, 0.6]
    """
    return exact_flow(moments).learning_rates


def _at_each(function: Callable[[Array], Any], times: Array) -> Any:
    """The function of each time, with the axes of the times in front."""
    flat = jax.vmap(function)(times.reshape(-1))
    return jax.tree.map(lambda a: a.reshape(times.shape + a.shape[1:]), flat)


def _whole(steps: Any) -> Array:
    steps = jnp.asarray(steps)
    if not jnp.issubdtype(steps.dtype, jnp.integer):
        raise ValueError(f"steps are whole numbers; got {steps.dtype}")
    return steps
