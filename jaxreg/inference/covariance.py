"""What the options of `fit` ask of the covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.core import Tracer

from jaxreg.engine.sandwich import Robust

COV_TYPES = ("nonrobust", "HC0", "HC1", "HC2", "HC3", "cluster", "HAC")


def robust_from(cov_type: Any, groups: Any, maxlags: Any, n: int) -> Robust | None:
    """What the options of `fit` ask for; None for a nonrobust covariance."""
    if cov_type not in COV_TYPES:
        raise ValueError(f"cov_type is one of {COV_TYPES}, got {cov_type!r}")
    if (groups is not None) != (cov_type == "cluster"):
        raise ValueError('groups and cov_type="cluster" go together: pass both or neither')
    if maxlags is not None and cov_type != "HAC":
        raise ValueError(f'maxlags is for cov_type="HAC", got cov_type={cov_type!r}')
    if cov_type == "nonrobust":
        return None
    if cov_type != "cluster":
        whole = isinstance(maxlags, int | np.integer) and not isinstance(maxlags, bool) and maxlags >= 0
        if maxlags is not None and not whole:
            raise ValueError(f"maxlags is a whole number, at least 0, or None; got {maxlags!r}")
        return Robust(None, None, cov_type, None if maxlags is None else int(maxlags))
    if isinstance(groups, Tracer):
        raise TypeError("groups need values and there are none under jit or vmap; close over them instead")
    codes = _codes(groups, n)
    order = np.argsort(codes, kind="stable").astype(np.int32)
    begins = np.append(True, np.diff(codes[order]) != 0)
    return Robust(order, begins, cov_type, None)


def _codes(groups: Any, n: int) -> np.ndarray:
    """A number for each label."""
    labels = np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups has shape {labels.shape}: pass a label for every observation, ({n},)")
    missing = np.ma.getmaskarray(groups) if isinstance(groups, np.ma.MaskedArray) else _is_missing(labels)
    if missing.any():
        first = int(np.flatnonzero(missing)[0])
        raise ValueError(
            f"groups has {missing.sum()} missing labels, the first at observation {first}: give those "
            "observations a label, or y a NaN and any label"
        )
    try:
        return np.unique(labels, return_inverse=True)[1]
    except TypeError:  # of kinds that cannot be sorted together
        numbers: dict[Any, int] = {}
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels])


def _is_missing(labels: np.ndarray) -> np.ndarray:
    """Which labels are None, NaN, NaT or pandas' NA: those that do not equal themselves, and None."""
    if labels.dtype != object:
        return labels != labels

    def missing(label: Any) -> bool:
        try:
            return label is None or bool(label != label)
        except TypeError:  # the truth of pandas' NA is not known
            return True

    return np.array([missing(label) for label in labels])
