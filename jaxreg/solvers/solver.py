"""The interface of a solver of `fit`."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine.sums import Origin
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.status import Status


@runtime_checkable
class Solver(Protocol):
    """The interface of a solver: a frozen pytree that maps the turning point of S to the params of a fit.

    The engine solves p = ∇S = 0 for the mean squared error and then calls `on_moments`, for all data sets of
    a block at once and within a compiled program. A solver that stops early, shrinks or descends returns
    another point of the same parabola S (a cost other than the mean squared error takes `GradientDescent`),
    see `jaxreg.solvers.gradient_descent.displaced`. Numeric options are leaves of the pytree, each one number
    or one per data set; all others are static and hashable.

    Attributes:
        ends_at_turning_point: whether `on_moments` returns the turning point itself.
        precision: "auto", "fast" or "certified", see `ClosedForm`.
    """

    @property
    def ends_at_turning_point(self) -> bool:
        """Whether the result is the turning point itself."""
        ...

    @property
    def precision(self) -> str:
        """Which data sets are computed in double-double."""
        ...

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Array | Status]:
        """The point of the fit for each data set, and its status.

        Args:
            ansatz: the compiled ansatz.
            origin: subtracted from integer x and y.
            point: the turning point, in float64.
            dtype: of the data.
        """
        ...
