"""`Newton`, the solver of smooth costs of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.solvers import newton
from jaxreg.solvers.damped_steps import MIN_CURVATURE
from jaxreg.solvers.steps import StepsOverData
from jaxreg.status import Status

FAR = 5.0  # in standard deviations of x and y: beyond, S falls without end if its curvature vanishes


@pytree
class Newton(StepsOverData):
    """Newton's method, the solver of any other smooth cost, with ∇S and ∇²S by differentiation.

    From the least-squares solution it descends with |λ| in place of the eigenvalues λ of ∇²S, damped so that
    S falls with each step, and ends with a search for ∇S = 0. It takes some ten steps where
    `GradientDescent` takes hundreds; a step takes p + 1 gradients, and S must have second derivatives: the
    mean of |y − f| has none, see `Quantile`.

    A data set that takes more steps gets the status `not_converged`; one with a direction along which S is
    flat `undetermined`; one whose S falls without end, its curvature to 0, `no_minimum`; one whose S is
    infinite or NaN `diverged`.

    Args:
        steps: the largest number of steps of the descent, and of the search.

    Raises:
        ValueError: if `steps` is not an integer of 0 or more.

    >>> import numpy as np
    >>> from jaxreg import fit, residuals
    >>> def growing_faster(params, x, y, weights=None, *, ansatz):
    ...     return jnp.mean(jnp.cosh(residuals(params, x, y, ansatz=ansatz)))
    >>> x, y = np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 5.0])
    >>> print(fit(x, y, cost=growing_faster, solver=Newton()).params.round(3))
    [-0.202  1.201]
    """

    steps: int = static(default=200)

    def search(self, cost: Callable[..., Array], start: Array, *data: Any) -> tuple[Array, Array, Array]:
        """The end of the search for one data set, its cost, and its status."""

        def S(theta: Array) -> Array:
            return cost(theta, *data)

        end = newton.minimum(S, start, self.steps)
        value, found = S(end), newton.examine(S, start, end)
        is_minimum = found.converged & jnp.all(found.rates > 0)
        status = jnp.where(is_minimum, Status.ok, Status.not_converged)
        status = jnp.where(found.singular, Status.undetermined, status)
        first, last = (jnp.diag(jax.hessian(S)(theta)) for theta in (start, end))
        distance = jnp.max(jnp.abs(end - start))
        vanishes = jnp.any((first > 0) & (last <= MIN_CURVATURE * first)) & (distance > FAR)
        status = jnp.where(vanishes, Status.no_minimum, status)
        is_lost = distance > jnp.finfo(end.dtype).eps ** -0.5  # where S has half of its digits
        status = jnp.where(is_lost & (status == Status.ok), Status.not_converged, status)
        status = jnp.where(jnp.isfinite(value), status, Status.diverged)
        return end, value, status.astype(jnp.int8)
