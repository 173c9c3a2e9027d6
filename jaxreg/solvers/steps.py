"""What solvers share that take steps over the data: their number, and no use of the moments."""

from __future__ import annotations

import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine.sums import Origin
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.solvers.descent import check_steps
from jaxreg.status import Status


class StepsOverData:
    """A solver whose steps read the data; `steps` is the largest number of them."""

    ends_at_turning_point = True
    precision = "fast"

    steps: int

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Array | Status]:
        """The turning point itself: least squares takes one step."""
        return point, Status.ok
