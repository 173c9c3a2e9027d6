"""Labels of the data sets: dimensions and coordinates that came with y, and names that came with x."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Labels:
    """Names of axes, data sets and columns; equal where all of them are.

    Attributes:
        dims: a name for every axis of the data sets, or None.
        coords: name → (names of axes, labels), as xarray takes coordinates.
        columns: the names of the columns of x, or None.
    """

    dims: tuple[str, ...] | None = None
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Labels) or self._key() != other._key():
            return False
        pairs = zip(self.coords.values(), other.coords.values(), strict=True)
        return all(np.array_equal(a[1], b[1]) for a, b in pairs)

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        shapes = tuple((name, dims, np.shape(labels)) for name, (dims, labels) in self.coords.items())
        return self.dims, shapes, self.columns

    def at(self, index: tuple[Any, ...], shape: tuple[int, ...]) -> Labels:
        """Labels of an indexed fit: kept where every entry of the index is an integer or a slice."""
        if self.dims is None or not all(isinstance(i, int | np.integer | slice) for i in index):
            return replace(self, dims=None, coords={})
        index = (*index, *(slice(None),) * (len(shape) - len(index)))
        by_dim = dict(zip(self.dims, index, strict=True))
        kept = tuple(dim for dim, i in by_dim.items() if isinstance(i, slice))
        coords = {}
        for name, (dims, labels) in self.coords.items():
            rest = tuple(dim for dim in dims if dim in kept)
            coords[name] = (rest, np.asarray(np.asarray(labels)[tuple(by_dim[dim] for dim in dims)]))
        return replace(self, dims=kept, coords=coords)


def labels_of(x: Any, y: Any, x_is_vector: bool) -> Labels:
    """The labels of xarray's DataArrays and of the DataFrames of pandas and polars; none of other arrays."""
    dims, coords = _of_data_sets(y)
    return Labels(dims, coords, _column_names(x) if x_is_vector else None)


def check_dims(x: Any, y: Any, weights: Any) -> None:
    """Raise where a DataArray has its observations on another axis than axis 0 of y."""
    dims, x_dims = _dims(y), _dims(x)
    if dims is None:
        return
    if x_dims is not None and len(x_dims) == 1 and x_dims[0] in dims and x_dims[0] != dims[0]:
        raise ValueError(
            f"x runs along {x_dims[0]!r}, which is axis {dims.index(x_dims[0])} of y {dims}; axis 0 of y is "
            f"the observation: pass y.transpose({x_dims[0]!r}, ...)"
        )
    for name, array in (("x", x), ("weights", weights)):
        others = _dims(array)
        if others is not None and others != dims and sorted(others) == sorted(dims):
            raise ValueError(f"{name} has dimensions {others} and y {dims}: pass {name}.transpose(*y.dims)")


def _dims(a: Any) -> tuple[str, ...] | None:
    """The dimensions of xarray's DataArray; None of other arrays."""
    return tuple(map(str, a.dims)) if hasattr(a, "dims") and hasattr(a, "coords") else None


def _of_data_sets(y: Any) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    dims = _dims(y)
    if dims is not None:
        coords = {str(name): (tuple(map(str, c.dims)), c.values) for name, c in y.coords.items()}
        return dims[1:], {name: coord for name, coord in coords.items() if set(coord[0]) <= set(dims[1:])}
    names = _column_names(y)
    return (None, {}) if names is None else (("data_set",), {"data_set": (("data_set",), np.array(names))})


def _column_names(table: Any) -> tuple[str, ...] | None:
    """The columns of a data frame, as text."""
    if not hasattr(table, "columns") or len(getattr(table, "shape", ())) != 2:
        return None
    return tuple(map(str, table.columns))
