"""`Reweighted`, the solver of costs that are means of a loss: iteratively reweighted least squares."""

from __future__ import annotations

from jaxreg.numerics.pytrees import pytree, static
from jaxreg.solvers.steps import StepsOverData


@pytree
class Reweighted(StepsOverData):
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

    steps: int = static(default=300)
