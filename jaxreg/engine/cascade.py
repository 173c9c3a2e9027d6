"""What is to be found of data sets, and a list of methods to find it.

The methods have one contract, from columns to what is found of them and which of them are accurate: plain
sums first; what is not accurate is redone by the next, in double-double.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxreg.ansatz import Ansatz
from jaxreg.engine.estimate import Exact
from jaxreg.engine.sandwich import Robust
from jaxreg.engine.tiles import picked
from jaxreg.inputs import Columns


@dataclass(frozen=True)
class Task:
    """What is to be found.

    Attributes:
        ansatz: what is fitted.
        precision: "auto", "fast" or "certified".
        solver: what finds the point.
        robust: what standard errors are made of, None for one variance.
        what: what the methods are to find, a function (ansatz, operands, located, dtype) compiled with them.
        then: what is made of what they found, a function of (task, columns, found, first, last), or None.
    """

    ansatz: Ansatz
    precision: str
    solver: Any
    robust: Robust | None = None
    what: Callable[..., tuple[Any, Exact | None]] | None = None
    then: Callable[..., Any] | None = None


class Found(NamedTuple):
    """What a method finds, in NumPy arrays with the data sets on the last axis.

    Attributes:
        estimate: what was to be found of each data set.
        exact: coefs and covariance to more digits, where robust errors are made with them; else None.
        accurate: whether the rounding of an estimate is too small to be noticed.
    """

    estimate: Any
    exact: Exact | None
    accurate: np.ndarray


Method = Callable[[Task, Columns, int, int], Found]


def cascade(methods: list[Method], task: Task, columns: Columns, first: int, last: int) -> Found:
    """What the first method finds, with the data sets that are not accurate redone by the others."""
    found = methods[0](task, columns, first, last)
    ids = np.flatnonzero(~found.accurate) if methods[1:] else np.array([], int)
    if len(ids) == 0:
        return found
    if len(ids) == last - first:
        return cascade(methods[1:], task, columns, first, last)
    redone = cascade(methods[1:], task, picked(columns, first + ids), 0, max(len(ids), 2))

    def placed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a = a if a.flags.writeable else a.copy()
        a[..., ids] = b[..., : len(ids)]
        return a

    return jax.tree.map(placed, found, redone)
