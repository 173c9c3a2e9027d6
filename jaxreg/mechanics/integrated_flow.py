"""The flow of any cost, integrated by diffrax (extra `physics`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from jaxreg._typing import Array
from jaxreg.mechanics.phase_space import Trajectory
from jaxreg.numerics.precision import in_own_precision
from jaxreg.solvers.arguments import as_params, scalar
from jaxreg.solvers.descent import check_steps

try:
    import diffrax
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        'jaxreg.physics needs diffrax: python -m pip install "jaxreg[physics]"'
    ) from None


@in_own_precision
def integrate_flow(
    cost: Callable[..., Array],
    params: Any,
    *data: Any,
    times: Any,
    tol: float | None = None,
    max_steps: int = 100_000,
) -> Trajectory:
    """The flow θ̇ = −∇S of any cost from `params`, by an implicit method suited to stiff costs.

    Written for one data set; `jax.vmap` applies it to many. For a quadratic cost use `exact_flow`.

    Args:
        cost: S(params, *data); compiled once per function object.
        params: θ at time 0, (p,).
        *data: arrays passed on to the cost.
        times: t, (times,), 0 or later and ascending.
        tol: the relative and absolute tolerance of the local error; ε^⅔ of the dtype if omitted.
        max_steps: the maximum number of integration steps.

    Returns:
        `Trajectory`; NaN once `max_steps` are used up or θ overflows.

    Source: A. Kværnø, BIT 44 (2004) 489, method 5(4), as implemented in diffrax.

    >>> path = integrate_flow(lambda q: (q**4).sum() / 4, jnp.array([1.0]), times=jnp.array([0.0, 4.0]))
    >>> print(path.params[:, 0].round(3))  # 1/√(1 + 2t)
    [1.    0.333]
    """
    theta = as_params(params)
    times = jnp.asarray(times, theta.dtype)
    if times.ndim != 1 or times.size < 1:
        raise ValueError(f"times has shape (times,) and at least one entry; got shape {times.shape}")
    if not isinstance(times, Tracer) and not ((times[0] >= 0) & (times[1:] >= times[:-1]).all()):
        raise ValueError(f"times are 0 or later and ascending; got {times}")
    check_steps(max_steps - 1)
    tol = float(jnp.finfo(theta.dtype).eps) ** (2 / 3) if tol is None else tol
    return _integrated(cost, theta, data, times, tol, max_steps)


def _integrate(
    cost: Callable[..., Array], theta: Array, data: tuple, times: Array, tol: float | Array, max_steps: int
) -> Trajectory:
    cost = scalar(cost)

    def velocity(_: Any, theta: Array, data: tuple) -> Array:
        return -jax.grad(cost)(theta, *data)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(velocity),
        diffrax.Kvaerno5(),
        t0=jnp.zeros_like(times[0]),
        t1=times[-1],
        dt0=None,
        y0=theta,
        args=data,
        saveat=diffrax.SaveAt(ts=times),
        stepsize_controller=diffrax.PIDController(rtol=tol, atol=tol),
        max_steps=max_steps,
        throw=False,
    )
    path = jnp.asarray(solution.ys)
    path = jnp.where(jnp.isfinite(path), path, jnp.nan)
    value, momentum = jax.vmap(lambda theta: jax.value_and_grad(cost)(theta, *data))(path)
    return Trajectory(times, path, -momentum, momentum, value)


_integrated = jax.jit(_integrate, static_argnums=(0, 5))
