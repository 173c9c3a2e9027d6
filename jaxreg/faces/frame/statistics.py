"""The columns of the results of a fit, wide or tidy."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.engine.windows import padded_number
from jaxreg.inference import report
from jaxreg.inference.result import Fit
from jaxreg.status import Status

AT_ONCE = 2**16  # data sets whose statistics are computed at once
STATUS_NAMES = np.array([status.name for status in Status])


def wide(fit: Fit, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of `Fit.to_pandas` for these data sets, with status as its name."""
    return _with_names(_in_parts(fit, ids, lambda part: report.variables(part._fitted, part.names)))


def tidy(fit: Fit, ids: np.ndarray, alpha: float) -> dict[str, np.ndarray]:
    """A row per data set and term; those of a data set are together."""

    def columns(part: Fit) -> dict[str, Any]:
        low, high = part.conf_int(alpha)
        return {
            "estimate": part.params,
            "std_error": part.bse,
            "statistic": part.tvalues,
            "p_value": part.pvalues,
            "conf_low": low,
            "conf_high": high,
            "nobs": part.nobs,
            "status": part.status,
        }

    table = _with_names(_in_parts(fit, ids, columns))
    p = len(fit.names)
    long = {name: a.T.ravel() if a.ndim > 1 else np.repeat(a, p) for name, a in table.items()}
    return {"term": np.tile(np.array(fit.names), len(ids)), **long}


def _in_parts(fit: Fit, ids: np.ndarray, columns: Any) -> dict[str, np.ndarray]:
    """`columns` of these data sets, computed for few numbers of them at once."""
    parts = []
    for first in range(0, len(ids), AT_ONCE):
        part = ids[first : first + AT_ONCE]
        padding = np.repeat(part[-1:], padded_number(len(part)) - len(part))
        values = columns(fit[np.append(part, padding)])
        parts.append({name: np.asarray(a)[..., : len(part)] for name, a in values.items()})
    return {name: np.concatenate([part[name] for part in parts], axis=-1) for name in parts[0]}


def _with_names(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**table, "status": STATUS_NAMES[table["status"]]}
