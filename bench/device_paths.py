"""The paths that are compiled for accelerators, and the targets for them on an H200."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxreg import (
    HAC,
    ClosedForm,
    Fit,
    GaussNewton,
    GradientDescent,
    Huber,
    InteriorPoint,
    Linear,
    Logistic,
    Polynomial,
    Quantile,
    Reweighted,
    Ridge,
    fit,
    gaussian_peak,
)
from jaxreg.data.source import Columns
from jaxreg.engine import operation
from jaxreg.engine.cascade import estimate_only, solve_columns

N, M = 300, 10**6  # observations and data sets
STEPS = 1000
ADAM = optax.adam(0.05)


@dataclass(frozen=True)
class DevicePath:
    """A function of arrays on a device, and targets for its program.

    Attributes:
        function: compiled with the whole of its result.
        arguments: shapes and dtypes.
        launches: at most; None without a target, as for the others.
        moved: bytes read and written in units of the data, at most.
        share: of the bandwidth, at least.
    """

    function: Any
    arguments: tuple[jax.ShapeDtypeStruct, ...]
    launches: int | None = None
    moved: float | None = None
    share: float | None = None

    @property
    def target(self) -> str:
        """The targets in words."""
        bounds = (self.launches, self.moved, self.share)
        signs = ("≤ {} launches", "≤ {} × the data", "share ≥ {}")
        return ", ".join(s.format(b) for s, b in zip(signs, bounds, strict=True) if b is not None)

    def is_met(self, launches: int, moved: float, share: float) -> bool | None:
        """Whether the targets are met; None if there are none."""
        if not self.target:
            return None
        few = self.launches is None or launches <= self.launches
        return (
            few
            and (self.moved is None or moved <= self.moved)
            and (self.share is None or share >= self.share)
        )


def pseudo_huber(params: Any, x: Any, y: Any, weights: Any = None, *, ansatz: Any) -> Any:
    """A cost of the user, without weights."""
    return jnp.mean(jnp.sqrt(1 + (y - ansatz.predict(params, x)) ** 2))


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _fit(x: Any, y: Any, weights: Any = None, **options: Any) -> Fit:
    return fit(x, y, weights=weights, **options)


def _without_gaps(x: Any, y: Any) -> Any:
    """What an eager call runs for data sets on a shared design, after a look that finds one without gaps."""
    columns = Columns(x[..., None], y, None, None, None, None)
    return solve_columns(operation.on_shared_design, Linear(), estimate_only, None, ClosedForm(), columns)


def _slope(x: Any, y: Any) -> Any:
    return fit(x, y).params[1].sum()


def _descent(optimizer: Any) -> Any:
    return partial(_fit, solver=GradientDescent(optimizer, steps=STEPS))


X, Y, OWN = _array(N), _array(N, M), (_array(256, M), _array(256, M))


def _design(columns: int, n: int = N) -> jax.ShapeDtypeStruct:
    return _array(n, columns)


LINEAR = partial(_fit, ansatz=Linear())

PATHS = {
    "line, own x": DevicePath(_fit, OWN, 60, 1.6, 0.55),
    "line, shared x, gaps": DevicePath(_fit, (X, Y), 60, 2.1, 0.4),
    "line, shared x, gaps, n = 257": DevicePath(_fit, (_array(257), _array(257, M)), 60, 2.1, 0.4),
    "line, weights (n, m)": DevicePath(_fit, (X, Y, Y), 60, 1.8, 0.45),
    "line, weights (n,)": DevicePath(_fit, (X, Y, X)),
    "polynomial of degree 3, gaps": DevicePath(partial(_fit, ansatz=Polynomial(3)), (X, Y), 100, 4.2, 0.2),
    "polynomial of degree 4, gaps": DevicePath(partial(_fit, ansatz=Polynomial(4)), (X, Y)),
    "own design, p = 4": DevicePath(LINEAR, (_array(N, 3, M), Y), 100, 3.2, 0.25),
    "own design, p = 8": DevicePath(LINEAR, (_array(N, 7, M), Y)),
    "shared design, p = 4, gaps": DevicePath(LINEAR, (_design(3), Y), 100, 5, 0.18),
    "shared design, p = 6, gaps": DevicePath(LINEAR, (_design(5), Y), 100, 8.3, 0.1),
    "shared design, p = 6, no gaps": DevicePath(_without_gaps, (_design(5), Y)),
    "shared design, p = 32, no gaps": DevicePath(_without_gaps, (_design(31), Y), 12, 2.5, 0.4),
    "shared design, p = 32, gaps": DevicePath(LINEAR, (_design(31), Y), 40, 8),
    "HC1": DevicePath(partial(_fit, cov_type="HC1"), (X, Y), 150, 4, 0.2),
    "HC3": DevicePath(partial(_fit, cov_type="HC3"), (X, Y), 150, 4, 0.2),
    "HAC, 5 lags": DevicePath(partial(_fit, cov_type=HAC(5)), (X, Y), 300, 8, 0.1),
    "GradientDescent, sgd, 1,000 steps": DevicePath(_descent(optax.sgd), (X, Y), 80, 2.2, 0.4),
    "GradientDescent, adam, 1,000 steps": DevicePath(_descent(ADAM), (X, Y), 5000, 30),
    "cost of the user, 100 steps": DevicePath(
        partial(_fit, cost=pseudo_huber, solver=GradientDescent(steps=100)), (X, Y), 6000, 210
    ),
    "Huber, a turn, gaps": DevicePath(partial(_fit, cost=Huber(), solver=Reweighted(1)), (X, Y)),
    "logistic, shared p = 4, a turn": DevicePath(
        partial(LINEAR, cost=Logistic(), solver=Reweighted(1)), (_design(3), Y)
    ),
    "quantile, a step, gaps": DevicePath(partial(_fit, cost=Quantile(0.5), solver=InteriorPoint(1)), (X, Y)),
    "Gaussian peaks, n = 50, a turn": DevicePath(
        partial(_fit, ansatz=gaussian_peak, solver=GaussNewton(1)), (_array(50), _array(50, M))
    ),
    "ridge, shared p = 8": DevicePath(partial(LINEAR, cost=Ridge(1.0)), (_design(7), Y)),
    "gradient of a slope in x and y": DevicePath(jax.grad(_slope, argnums=(0, 1)), OWN, 80, 5),
}
