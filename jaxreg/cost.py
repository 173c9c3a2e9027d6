"""The cost S(θ) as pure functions of (params, x, y, weights): equations 4 and 6.

`jax.grad` of a cost is the momentum p = ∇S. Written for one data set; `jax.vmap` applies them to many.
They follow JAX's own dtype rules: with the 64-bit switch off they compute in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax.numpy as jnp

from jaxreg._typing import Array, Float
from jaxreg.ansatz import Ansatz, Features, Line, compiled_ansatz, design
from jaxreg.curves.curve import Curve
from jaxreg.gaps import observed


@runtime_checkable
class Cost(Protocol):
    """A callable with the signature of `mean_squared_error`."""

    def __call__(
        self, params: Array, x: Array, y: Array, weights: Array | None = None, *, ansatz: Ansatz
    ) -> Array:
        """S(θ), one number."""
        ...


def residuals(
    params: Any,
    x: Any,
    y: Any,
    *,
    ansatz: Ansatz | Features | Curve = Line(),
) -> Float[Array, "n *batch"]:
    """ε(θ) = y − f(θ, x), equation 4; NaN where x or y is NaN.

    Args:
        params: θ, parameters first.
        x: (n,) or, where the ansatz takes vectors, (n, k).
        y: (n,).

    >>> residuals(jnp.array([1.0, 2.0]), jnp.array([0.0, 1.0]), jnp.array([1.0, 5.0])).tolist()
    [0.0, 2.0]
    """
    params, x, y = jnp.asarray(params), jnp.asarray(design(ansatz, x)), jnp.asarray(y)
    return y - compiled_ansatz(ansatz).predict(params, x)


def mean_squared_error(
    params: Any,
    x: Any,
    y: Any,
    weights: Any = None,
    *,
    ansatz: Ansatz | Features | Curve = Line(),
) -> Float[Array, ""]:
    """S(θ) = Σ w ε(θ)² / Σ w over the valid observations, equation 6.

    If weights are omitted, w = 1 and S = εᵀε / n with n the number of observations where neither x nor y is
    NaN. An observation of weight 0 is ignored. S carries units of y².

    Args:
        params: θ, shape (p,).
        x: (n,) or, where the ansatz takes vectors, (n, k).
        y: (n,); NaN is a gap and gets gradient 0.
        weights: inverse variances (n,), 0 or positive.

    >>> x, y = jnp.array([0.0, 1.0, 2.0]), jnp.array([1.0, jnp.nan, 7.0])
    >>> float(mean_squared_error(jnp.array([1.0, 2.0]), x, y))
    2.0
    """
    y, f, w = observations(params, x, y, weights, ansatz)
    return jnp.sum(w * (y - f) ** 2) / jnp.sum(w)


class CostOfObservations(ABC):
    """A cost with the signature of `mean_squared_error`, of the valid observations.

    Attributes:
        safe_y: a y at which the cost and its derivatives are finite, in place of missing ones.
    """

    safe_y: ClassVar[float] = 0.0

    @abstractmethod
    def of_observations(self, params: Array, y: Array, f: Array, w: Array, ansatz: Any) -> Array:
        """S from y, f(θ, x) and w, which is 0 where an observation is missing."""

    def __call__(
        self,
        params: Any,
        x: Any,
        y: Any,
        weights: Any = None,
        *,
        ansatz: Ansatz | Features | Curve = Line(),
    ) -> Float[Array, ""]:
        """S(θ) over the valid observations.

        Args:
            params: θ, shape (p,).
            x: (n,) or, where the ansatz takes vectors, (n, k).
            y: (n,); NaN is a gap and gets gradient 0.
            weights: (n,), 0 or positive.
            ansatz: f(θ, x).
        """
        y, f, w = observations(params, x, y, weights, ansatz, self.safe_y)
        return self.of_observations(jnp.asarray(params), y, f, w, ansatz)


def observations(
    params: Any, x: Any, y: Any, weights: Any, ansatz: Ansatz | Features | Curve, safe_y: float = 0.0
) -> tuple[Array, Array, Array]:
    """y, f(θ, x) and w of one data set; where an observation is missing w is 0 and y is `safe_y`."""
    x, y, ansatz = jnp.asarray(design(ansatz, x)), jnp.asarray(y), compiled_ansatz(ansatz)
    weights = None if weights is None else jnp.asarray(weights)
    valid = observed(x, y, weights, ansatz)
    w = jnp.where(valid, jnp.ones(y.shape) if weights is None else weights, 0)
    x = jnp.where(valid[:, None] if ansatz.x_is_vector else valid, x, 0)
    return jnp.where(valid, y, safe_y), ansatz.predict(jnp.asarray(params), x), w
