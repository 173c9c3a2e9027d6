"""The flow θ̇ = −∇S of which gradient descent is the discretization (seed paper, equations 8, 12, 13)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxreg._typing import Array, Float
from jaxreg.closed_form import is_usable
from jaxreg.moments import Moments
from jaxreg.precision import in_own_precision


class LearningRates(NamedTuple):
    """Two learning rates α of θ ← θ − α∇S, one pair per data set.

    Attributes:
        largest: 2 / λmax of ∇²S; the descent converges for every α below.
        best: 2 / (λmin + λmax), at which the error shrinks fastest, by (κ − 1)/(κ + 1) a step.
    """

    largest: Float[Array, "*batch"]
    best: Float[Array, "*batch"]


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
    H = 2 * jnp.moveaxis(moments.gram, (0, 1), (-2, -1))
    rates = jnp.linalg.eigvalsh(jnp.where(is_usable(moments)[..., None, None], H, jnp.nan))
    least, most = rates[..., 0], rates[..., -1]
    return LearningRates(2 / most, 2 / (jnp.maximum(least, 0) + most))
