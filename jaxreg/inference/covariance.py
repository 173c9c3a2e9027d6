"""What the options of `fit` ask of the covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.core import Tracer

from jaxreg.engine.sandwich import Robust


@runtime_checkable
class Covariance(Protocol):
    """What `fit` asks of `cov_type` if that is an object."""

    @property
    def name(self) -> str:
        """For `Fit.cov_type` and tables."""
        ...

    def prepared(self, n: int) -> Robust:
        """Checked against n observations, as compiled programs take it."""
        ...


@dataclass(frozen=True)
class HC0:
    """White's covariance: a variance of its own for each observation, M = Σ (w ε)² ψψᵀ."""

    name = "HC0"

    def prepared(self, n: int) -> Robust:
        """Checked, as compiled programs take it."""
        return Robust(None, None, self.name, None)


@dataclass(frozen=True)
class HC1(HC0):
    """HC0 times nobs / df_resid."""

    name = "HC1"


@dataclass(frozen=True)
class HC2(HC0):
    """HC0 with (w ε)² / (1 − h) of leverages h, unbiased where the variance is one."""

    name = "HC2"


@dataclass(frozen=True)
class HC3(HC0):
    """HC0 with (w ε)² / (1 − h)², close to the jackknife."""

    name = "HC3"


@dataclass(frozen=True, eq=False)
class Cluster:
    """Any correlation within groups."""

    groups: Any

    name = "cluster"

    def prepared(self, n: int) -> Robust:
        """Checked, as compiled programs take it."""
        if isinstance(self.groups, Tracer):
            raise TypeError(
                "groups need values and there are none under jit or vmap; close over them instead"
            )
        codes = _codes(self.groups, n)
        order = np.argsort(codes, kind="stable").astype(np.int32)
        begins = np.append(True, np.diff(codes[order]) != 0)
        return Robust(order, begins, self.name, None)


@dataclass(frozen=True)
class HAC:
    """Correlation between observations that follow each other."""

    maxlags: int | None = None

    name = "HAC"

    def __post_init__(self):
        whole = isinstance(self.maxlags, int | np.integer) and not isinstance(self.maxlags, bool)
        if self.maxlags is not None and not (whole and self.maxlags >= 0):
            raise ValueError(f"maxlags is a whole number, at least 0, or None; got {self.maxlags!r}")

    def prepared(self, n: int) -> Robust:
        """Checked, as compiled programs take it."""
        return Robust(None, None, self.name, None if self.maxlags is None else int(self.maxlags))


BY_NAME = {covariance.name: covariance for covariance in (HC0, HC1, HC2, HC3)}


def covariance_of(cov_type: Any, n: int) -> Robust | None:
    """The covariance that `cov_type` asks for, None for a nonrobust one."""
    if isinstance(cov_type, str) and cov_type == "nonrobust":
        return None
    if isinstance(cov_type, str) and cov_type in BY_NAME:
        return BY_NAME[cov_type]().prepared(n)
    if isinstance(cov_type, str) and cov_type in ("cluster", "HAC"):
        now = "Cluster(groups)" if cov_type == "cluster" else "HAC(maxlags=None)"
        raise ValueError(f'cov_type="{cov_type}" has numbers of its own: pass cov_type={now}')
    if isinstance(cov_type, str | type) or not hasattr(cov_type, "prepared"):
        names = ", ".join(repr(name) for name in ("nonrobust", *BY_NAME))
        raise ValueError(f"cov_type is one of {names}, or Cluster(groups) or HAC(maxlags); got {cov_type!r}")
    return cov_type.prepared(n)


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
