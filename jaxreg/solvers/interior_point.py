"""`InteriorPoint`, the solver of quantile regressions."""

from __future__ import annotations

from jaxreg.numerics.pytrees import pytree, static
from jaxreg.solvers.steps import StepsOverData


@pytree
class InteriorPoint(StepsOverData):
    """The interior point method of Portnoy and Koenker, the solver of `Quantile`.

    A quantile regression and the linear program that is dual to it are solved together, by some ten of
    Mehrotra's steps; their difference bounds the error of S. A data set that takes more steps gets the status
    `not_converged`.

    Args:
        steps: the largest number of steps.

    Raises:
        ValueError: if `steps` is not an integer of 0 or more.

    Source: S. Portnoy and R. Koenker, Statistical Science 12 (1997) 279.

    >>> import numpy as np
    >>> from jaxreg import Quantile, fit
    >>> x, y = np.arange(5.0), np.array([1.0, 3.0, 4.0, 7.0, 20.0])
    >>> print(fit(x, y, cost=Quantile(0.5), solver=InteriorPoint()).params.round(3))
    [1. 2.]
    """

    steps: int = static(default=100)
