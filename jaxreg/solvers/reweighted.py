"""`Reweighted`, the solver of costs that are means of a loss: iteratively reweighted least squares."""

from __future__ import annotations

import numpy as np

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.engine.sums import Origin
from jaxreg.engine.turning_point import TurningPoint
from jaxreg.numerics.pytrees import pytree, static
from jaxreg.solvers.descent import check_steps
from jaxreg.status import Status


@pytree
class Reweighted:
    """Iteratively reweighted least squares, the solver of `Huber`, `Logistic` and other means of a loss.

    Each step is one pass over the data, in which weights are computed from the present params and the moments
    with these weights are summed. The weights are second derivatives (Newton's method), their expectations
    (Fisher scoring) or, for `Bisquare`, ψ(u)/u. It starts from least squares; from y itself for counts; and
    from params 0 for `Logistic`. A data set is finished when its step is small; the others go on without it.

    A data set that takes more steps gets the status `not_converged`; one whose cost falls without end, such
    as that of separated classes, `no_minimum`.

    Args:
        steps: the largest number of steps.

    Raises:
        ValueError: if `steps` is not an integer of 0 or more.

    Source: P. J. Green, J. Roy. Stat. Soc. B 46 (1984) 149.

    >>> import numpy as np
    >>> from jaxreg import Poisson, fit
    >>> x, y = np.arange(6.0), np.array([1, 1, 2, 4, 5, 11.0])
    >>> print(fit(x, y, cost=Poisson(), solver=Reweighted(steps=20)).params.round(3))
    [-0.325  0.532]
    """

    ends_at_turning_point = True
    precision = "fast"

    steps: int = static(default=300)

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def on_moments(
        self, ansatz: Ansatz, origin: Origin, point: TurningPoint, dtype: np.dtype
    ) -> tuple[TurningPoint, Array | Status]:
        """The turning point itself: least squares takes one step."""
        return point, Status.ok
