"""The status of each data set: an integer code, and its meaning in words."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np


class Status(IntEnum):
    """Outcome of a fit, one per data set; `Status(code).advice` says what it means and what to try.

    Set by `engine.estimate` and by the solvers.

    >>> Status(4).name
    'rank_deficient'
    """

    ok = 0
    exact_fit = 1
    too_few_observations = 2
    no_observations = 3
    rank_deficient = 4
    invalid_data = 5
    not_converged = 6
    diverged = 7
    out_of_range = 8
    cost_increased = 9
    no_minimum = 10
    undetermined = 11
    at_bound = 12

    @property
    def has_params(self) -> bool:
        """Whether a data set with this status has params."""
        return self in (
            Status.ok,
            Status.exact_fit,
            Status.not_converged,
            Status.cost_increased,
            Status.at_bound,
        )

    @property
    def advice(self) -> str:
        """One sentence: what happened, and what to do about it."""
        return _ADVICE[self]


MAX_NAMED = 10  # data sets listed per code in an error message

_ADVICE = {
    Status.ok: "fitted.",
    Status.exact_fit: "as many observations as parameters: the fit passes through every point and "
    "standard errors do not exist; more observations would give them.",
    Status.too_few_observations: "fewer valid observations than parameters; fill the gaps, or "
    "choose an ansatz with fewer parameters.",
    Status.no_observations: "not one valid observation (all NaN, or all weights 0); nothing to fit.",
    Status.rank_deficient: "x does not determine the parameters (constant x, or linearly dependent columns); "
    "drop the redundant columns.",
    Status.invalid_data: "an infinite x or y, a weight that is negative, infinite or NaN, or, with "
    'nan_policy="propagate", a NaN; mask these observations with NaN to leave them out.',
    Status.not_converged: "the search ran out of steps above its tolerance and its last params are returned; "
    "take more steps, a start nearer to the minimum, or for a descent a larger learning rate if the cost "
    "falls and a smaller one if it rises.",
    Status.diverged: "the search ended at infinity or NaN. For Newton() the cost needs two derivatives. For "
    "a descent take a smaller learning rate: in fit() any below 1/p converges for p params, in descend() any "
    "below jaxreg.learning_rates(...).largest.",
    Status.out_of_range: "a param or its standard error overflows or underflows the dtype; use other units "
    "of x or y, or float64.",
    Status.cost_increased: "the descent ended at a higher cost than it started from and its last params "
    "are returned; take a smaller learning rate.",
    Status.no_minimum: "the cost falls without end as params grow: classes are separated by a combination of "
    "columns, or all y of a group are equal; drop the column, penalize its slope with + Ridge(alpha), or "
    "join the group with another.",
    Status.undetermined: "the cost does not depend on a param, or on a combination of params, where the "
    "search ended or started (a plateau, or too many params); start nearer to the data, or use fewer params.",
    Status.at_bound: "the minimum is at a bound of a param, where standard errors do not exist; make this "
    "param a constant of the function, or widen its bounds.",
}


class FitError(ValueError):
    """Raised if data sets could not be fitted; the message says how many, which ones and why."""


def raise_for(status: Any) -> None:
    """Raise a `FitError` unless the status of every data set is `ok` or `exact_fit`."""
    status = np.asarray(status)
    failed = {code: n for code, n in counts(status).items() if code not in (Status.ok, Status.exact_fit)}
    if not failed:
        return
    lines = [f"{sum(failed.values())} of {status.size} data sets failed"]
    for code, n in failed.items():
        where = np.argwhere(status == code)[:MAX_NAMED]
        named = ", ".join(str(i[0] if len(i) == 1 else tuple(i.tolist())) for i in where if len(i))
        at = f" at {named}{', …' if n > MAX_NAMED else ''}" if named else ""
        lines.append(f"{n} {code.name}{at}: {code.advice}")
    raise FitError("\n".join(lines))


def describe(status: Any) -> str:
    """The number of data sets with each status, one line per code that occurs.

    >>> print(describe([0, 0, 3]))
    2 ok: fitted.
    1 no_observations: not one valid observation (all NaN, or all weights 0); nothing to fit.
    """
    return "\n".join(f"{count} {code.name}: {code.advice}" for code, count in counts(status).items())


def named_counts(status: Any) -> str:
    """The number of data sets with each status in one line; of a single data set the name alone.

    >>> print(named_counts([0, 0, 3]), "/", named_counts(4))
    2 ok, 1 no_observations / rank_deficient
    """
    names = {code.value: code.name for code in Status}
    codes, numbers = np.unique(np.asarray(status), return_counts=True)
    texts = [names.get(code, str(code)) for code in codes.tolist()]
    if np.ndim(status) == 0:
        return texts[0]
    return ", ".join(f"{number} {text}" for number, text in zip(numbers, texts, strict=True))


def counts(status: Any) -> dict[Status, int]:
    """The number of data sets with each code that occurs, `ok` first."""
    codes, numbers = np.unique(np.asarray(status), return_counts=True)
    return {Status(int(c)): int(n) for c, n in zip(codes, numbers, strict=True)}
