"""x and y of a fit along a dimension, which are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Variable:
    """A variable of a file.

    Attributes:
        decoded: lazily, with units of its own and NaN for fill values.
        stored: as it is in the file, if that says which values are valid.
        missing: further values that stand for a gap.
    """

    decoded: xr.DataArray
    stored: xr.DataArray | None = None
    missing: tuple[float, ...] = ()

    def cut(self, index: Mapping[Any, slice]) -> Variable:
        """A part of it, along dimensions that it has."""
        stored = None if self.stored is None else self.stored.isel(index, missing_dims="ignore")
        return Variable(self.decoded.isel(index, missing_dims="ignore"), stored, self.missing)

    def load(self) -> xr.DataArray:
        """Its values, NaN for those that are missing or outside of the valid range."""
        values = self.decoded.load()
        if self.stored is not None:
            values = _mask_invalid(values, self.stored.load())
        if self.missing and values.dtype.kind in "iuf":
            codes = np.asarray(self.missing).astype(values.dtype if values.dtype.kind == "f" else np.float64)
            values = values.where(~np.isin(values, codes))
        return values


@dataclass(frozen=True)
class Variables:
    """What is fitted.

    Attributes:
        y: responses, each fitted on its own.
        x: of the same dimension, and maybe others.
        dim: the dimension of the observations.
        weights: inverse variances, or None.
    """

    y: list[Variable]
    x: list[Variable]
    dim: str
    weights: Variable | None = None


def missing_numbers(texts: tuple[str, ...]) -> tuple[float, ...]:
    """Those of the values of --missing that are numbers."""

    def numbers() -> Any:
        for text in texts:
            try:
                yield float(text)
            except ValueError:
                continue

    return tuple(numbers())


def _mask_invalid(decoded: xr.DataArray, stored: xr.DataArray) -> xr.DataArray:
    """NaN where a value lies outside `valid_range`, `valid_min` or `valid_max`, which xarray ignores.

    These attributes are in packed units if they have the type of the packed values, and in unpacked units
    otherwise (NetCDF Users Guide, appendix A).
    """
    low, high = stored.attrs.get("valid_range", (None, None))
    low, high = stored.attrs.get("valid_min", low), stored.attrs.get("valid_max", high)
    values = stored.values
    if stored.attrs.get("_Unsigned") == "true":
        values = values.view(f"u{values.dtype.itemsize}")
        low, high = (
            a if a is None else np.asarray(a).view(f"u{np.asarray(a).itemsize}") for a in (low, high)
        )

    def violates(limit: Any, compare: Callable[..., Any]) -> Any:
        if limit is None:
            return False
        is_unpacked = np.asarray(limit).dtype.kind == "f" and values.dtype.kind != "f"
        return compare(decoded.values if is_unpacked else values, limit)

    invalid = np.logical_or(violates(low, np.less), violates(high, np.greater))
    return decoded.where(~invalid) if invalid.any() else decoded
