"""What `fit` asks of a solver."""

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
    """A frozen pytree that goes from the turning point of the mean squared error to the params of a fit.

    The engine has solved p = ∇S = 0 from the sums when it calls `on_moments`, for all data sets of a block at
    once and within a compiled program: a solver that stops early, shrinks or descends returns another point
    of the same parabola S, see `jaxreg.solvers.gradient_descent.moved`. Its numbers are leaves of the pytree
    (one number, or one per data set), everything else is static and hashable.

    Attributes:
        ends_at_turning_point: whether the result is the turning point itself, which has errors and digits.
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
        """The end point of each data set and its status.

        Args:
            ansatz: of the params.
            origin: subtracted from integer x and y.
            point: the turning point, in float64.
            dtype: of the data.
        """
        ...
