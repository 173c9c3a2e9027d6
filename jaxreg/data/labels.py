"""Labels of the data sets: dimensions and coordinates of y, and names of the columns of x."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jax.core import Tracer

SYMBOLS = {
    **{"degrees_north": "°N", "degrees_east": "°E", "degree": "°", "degrees": "°"},
    **dict.fromkeys(("degC", "deg_C", "degree_Celsius", "degrees_Celsius", "celsius", "Celsius"), "°C"),
}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, eq=False)
class Labels:
    """Dimensions and coordinates of the data sets, and names of the columns of x.

    Attributes:
        dims: a name for every axis of the data sets, or None.
        coords: name → (dimensions, values), as xarray takes coordinates.
        columns: the names of the columns of x, or None.
    """

    dims: tuple[str, ...] | None = None
    coords: dict[str, tuple[tuple[str, ...], np.ndarray]] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Labels) or self._hashable() != other._hashable():
            return False
        pairs = zip(self.coords.values(), other.coords.values(), strict=True)
        return all(_same(a[1], b[1]) for a, b in pairs)

    def __hash__(self) -> int:
        return hash(self._hashable())

    def _hashable(self) -> tuple[Any, ...]:
        """All but the values of the coordinates."""
        shapes = tuple((name, dims, np.shape(values)) for name, (dims, values) in self.coords.items())
        return self.dims, shapes, self.columns

    def at(self, index: tuple[Any, ...], axes: int) -> Labels:
        """Labels of an indexed fit.

        Without dimensions unless the index is of integers and slices, or of slices and one array, (k,).
        """
        index = _of_every_axis(tuple(_as_index(i) for i in index), axes)
        arrays = [i for i in index if not isinstance(i, int | np.integer | slice)]
        is_array = len(arrays) == 1 and np.ndim(arrays[0]) == 1 and not isinstance(arrays[0], Tracer)
        keeps_axes = not arrays or (is_array and sum(isinstance(i, slice) for i in index) == len(index) - 1)
        if self.dims is None or not keeps_axes or any(isinstance(i, bool) for i in index):
            return replace(self, dims=None, coords={})
        index_of = dict(zip(self.dims, index, strict=True))
        remaining = tuple(dim for dim, i in index_of.items() if not isinstance(i, int | np.integer))
        coords = {}
        for name, (dims, values) in self.coords.items():
            own_dims = tuple(dim for dim in dims if dim in remaining)
            coords[name] = (own_dims, np.asarray(np.asarray(values)[tuple(index_of[dim] for dim in dims)]))
        return replace(self, dims=remaining, coords=coords)

    @classmethod
    def concatenated(cls, labels: list[Labels], axis: int) -> Labels:
        """Labels of concatenated fits: coordinates that all have, concatenated along the axis, or equal."""
        first = labels[0]
        if first.dims is None or any(other.dims != first.dims for other in labels):
            return cls(columns=first.columns)
        dim, coords = first.dims[axis], {}
        for name, (dims, values) in first.coords.items():
            if any(name not in other.coords or other.coords[name][0] != dims for other in labels):
                continue
            arrays = [other.coords[name][1] for other in labels]
            if dim in dims:
                coords[name] = (dims, np.concatenate(arrays, dims.index(dim)))
            elif all(np.array_equal(array, values) for array in arrays):
                coords[name] = (dims, values)
        return cls(first.dims, coords, first.columns)


def _as_index(i: Any) -> Any:
    """A list as an array of integers or booleans, also if it is empty."""
    return np.asarray(i, None if i else int) if isinstance(i, list) else i


def _of_every_axis(index: tuple[Any, ...], axes: int) -> tuple[Any, ...]:
    """The index with an entry for every axis, in place of an Ellipsis or at the end."""
    at = next((k for k, i in enumerate(index) if i is Ellipsis), len(index))
    given = index[:at] + index[at + 1 :]
    return (*index[:at], *(slice(None),) * (axes - len(given)), *index[at + 1 :])


def _same(a: Any, b: Any) -> bool:
    """Whether two arrays are equal, with NaN equal to NaN."""
    a, b = np.asarray(a), np.asarray(b)
    return bool(np.all((a == b) | ((a != a) & (b != b)))) if a.shape == b.shape else False


def labels_of(x: Any, y: Any, x_is_vector: bool) -> Labels:
    """The labels of xarray's DataArrays and of DataFrames of pandas and polars; empty for other arrays."""
    dims, coords = _dims_and_coords(y)
    columns = _column_names(x) if x_is_vector else None
    if columns is not None and (len(set(columns)) < len(columns) or "intercept" in columns):
        raise ValueError(f'columns of x need names of their own, not "intercept"; got {", ".join(columns)}')
    return Labels(dims, coords, columns)


def names_of_columns(table: Any) -> np.ndarray | None:
    """The names of the columns of a DataFrame, or the coordinate of axis 1 of a DataArray; else None."""
    dims, coords = _dims_and_coords(table)
    if dims is None or len(dims) != 1 or dims[0] not in coords:
        return None
    return np.asarray(coords[dims[0]][1])


def title_of(array: Any, default: str) -> str:
    """What an array is, with units, from the attributes of a DataArray or the name of a Series.

    >>> import xarray as xr
    >>> title_of(xr.DataArray([1.0], name="flux", attrs={"units": "W m-2"}), "y")
    'flux (W m⁻²)'
    """
    attributes = getattr(array, "attrs", {})
    name = attributes.get("long_name") or getattr(array, "name", None)
    if not isinstance(name, str) or not name:
        name = default
    units = str(attributes.get("units", ""))
    units = SYMBOLS.get(units) or re.sub(r"(?<=[A-Za-z])-?\d+", lambda m: m[0].translate(SUPERSCRIPTS), units)
    is_shown = units not in ("", "1") and " since " not in units
    return f"{name} ({units})" if is_shown else name


def check_columns(columns: tuple[str, ...] | None, x: Any) -> None:
    """Raise if the columns of a DataFrame x are not those of the fit, in their order."""
    names = _column_names(x)
    if columns is not None and names is not None and names != columns:
        is_other_order = set(columns) <= {name for name in x.columns if isinstance(name, str)}
        advice = f"x[{list(columns)}]" if is_other_order else "x with these names, or x.to_numpy()"
        raise ValueError(
            f"the columns of x are {', '.join(names)}, and the fit has {', '.join(columns)}: pass {advice}"
        )


def check_dims(x: Any, y: Any, weights: Any) -> None:
    """Raise if the dimensions of DataArrays contradict the order of the axes of y."""
    dims, x_dims = _dims(y), _dims(x)
    if dims is None:
        return
    if x_dims is not None and len(x_dims) == 1 and x_dims[0] in dims and x_dims[0] != dims[0]:
        raise ValueError(
            f"x runs along {x_dims[0]!r}, which is axis {dims.index(x_dims[0])} of y {dims}; axis 0 of y is "
            f"the observation: pass y.transpose({x_dims[0]!r}, ...)"
        )
    for name, array in (("x", x), ("weights", weights)):
        array_dims = _dims(array)
        if array_dims is not None and array_dims != dims and sorted(array_dims) == sorted(dims):
            raise ValueError(
                f"{name} has dimensions {array_dims} and y {dims}: pass {name}.transpose(*y.dims)"
            )


def _dims(a: Any) -> tuple[str, ...] | None:
    """The dimensions of xarray's DataArray; None for other arrays."""
    return tuple(map(str, a.dims)) if hasattr(a, "dims") and hasattr(a, "coords") else None


def _dims_and_coords(y: Any) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Dimensions and coordinates of the data sets; columns of a DataFrame are the dimension "data_set"."""
    dims = _dims(y)
    if dims is not None:
        coords = {
            str(name): (tuple(map(str, c.dims)), c.values)
            for name, c in y.coords.items()
            if not _is_multi_index(c)  # its levels are coordinates too
        }
        return dims[1:], {name: coord for name, coord in coords.items() if set(coord[0]) <= set(dims[1:])}
    names = _column_names(y)
    return (None, {}) if names is None else (("data_set",), {"data_set": (("data_set",), np.array(names))})


def _is_multi_index(coord: Any) -> bool:
    """Whether a coordinate of a DataArray is a pandas.MultiIndex, whose values are tuples."""
    return coord.dims == (coord.name,) and getattr(coord.to_index(), "nlevels", 1) > 1


def _column_names(table: Any) -> tuple[str, ...] | None:
    """The column names of a DataFrame as strings; None for other arrays."""
    if not hasattr(table, "columns") or len(getattr(table, "shape", ())) != 2:
        return None
    return tuple(map(str, table.columns))
