"""The columns of the results: of each fit, and of all together, wide or tidy."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.faces.frame.table import Named
from jaxreg.inference import report
from jaxreg.inference.result import Fit
from jaxreg.status import Status

STATUS_NAMES = [status.name for status in Status]


def wide_columns(fit: Fit) -> dict[str, Any]:
    """The columns of `Fit.to_pandas`, (m,) each."""
    return report.variables(fit._fitted, fit.names)


def tidy_columns(fit: Fit, alpha: float) -> dict[str, Any]:
    """The columns of a frame with a row for each param, (p, m), or (m,) where it has the same value."""
    low, high = fit.conf_int(alpha)
    return {
        "estimate": fit.params,
        "std_error": fit.bse,
        "statistic": fit.tvalues,
        "p_value": fit.pvalues,
        "conf_low": low,
        "conf_high": high,
        "nobs": fit.nobs,
        "status": fit.status,
    }


class Columns:
    """Columns for `count` data sets, which are filled piece by piece."""

    def __init__(self, count: int):
        self.count = count
        self._values: dict[str, np.ndarray] = {}

    def set(self, ids: np.ndarray | slice, values: dict[str, Any], number: int) -> None:
        """Set this number of data sets to the first of these values; columns of padding come after them."""
        for name, a in values.items():
            array = np.asarray(a)
            if name not in self._values:
                self._values[name] = np.empty((*array.shape[:-1], self.count), array.dtype)
            self._values[name][..., ids] = array[..., :number]

    def wide(self) -> dict[str, Any]:
        """A row per data set."""
        return {**self._values, "status": Named(self._values["status"], STATUS_NAMES)}

    def tidy(self, names: tuple[str, ...]) -> dict[str, Any]:
        """A row per data set and param; those of a data set are together."""
        p = len(names)
        long = {name: a.T.ravel() if a.ndim > 1 else np.repeat(a, p) for name, a in self._values.items()}
        terms = Named(np.tile(np.arange(p), self.count), names)
        return {"term": terms, **long, "status": Named(long["status"], STATUS_NAMES)}
