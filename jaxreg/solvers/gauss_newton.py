"""`GaussNewton`, the solver of curves: damped Gauss–Newton steps."""

from __future__ import annotations

from jaxreg.numerics.pytrees import pytree, static
from jaxreg.solvers.steps import StepsOverData


@pytree
class GaussNewton(StepsOverData):
    """The Gauss–Newton method with Levenberg–Marquardt damping, the solver of `Curve`.

    Each step is one pass over the data, in which S, its slope and the sums of JᵀWJ are made, J = ∂f/∂θ. A
    step that does not lower S is tried again, shorter. A data set is finished when an undamped step changes f
    by a small part of its standard error; the others go on without it.

    A data set that takes more steps gets the status `not_converged`; one that ends or starts where the params
    are not determined, as on a plateau, `undetermined`; one whose minimum is beyond a bound `at_bound`.

    Args:
        steps: the largest number of steps.

    Raises:
        ValueError: if `steps` is not an integer of 0 or more.

    Source: D. W. Marquardt, J. SIAM 11 (1963) 431; damping of H. B. Nielsen (1999).

    >>> import numpy as np
    >>> from jaxreg import exponential_decay, fit
    >>> x = np.array([0.0, 1.0, 2.0, 3.0, 4.0])
    >>> y = np.array([5.02, 3.85, 3.08, 2.69, 2.40])
    >>> print(fit(x, y, ansatz=exponential_decay, solver=GaussNewton(steps=50)).params.round(2))
    [1.99 3.03 0.5 ]
    """

    steps: int = static(default=400)
