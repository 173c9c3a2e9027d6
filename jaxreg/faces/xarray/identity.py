"""What a run of `fit_to_zarr` is of, as text: two runs with the same text have the same results."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

Region = dict[Any, slice]


def description_of(
    y: xr.DataArray, dim: str, x: Any, regions: list[Region], options: dict[str, Any]
) -> dict[str, str]:
    """What decides the results, as text."""
    ends = {"first": regions[0], "middle": regions[len(regions) // 2], "last": regions[-1]}
    data = {
        "name of y": y.name,
        "sizes of y": y.sizes,
        "dtype of y": y.dtype,
        "attributes of y": y.attrs,
        "source of y": _source(y),
        "number of blocks": len(regions),
        **{f"{which} block of y": y.isel(region) for which, region in ends.items()},
        **{f"coordinate {name}": a for name, a in y.coords.items()},
    }
    arguments = {"dim": dim, "x": x, **options, "version of jaxreg": version("jaxreg")}
    return {name: text_of(a) for name, a in data.items()} | {
        name: text_of(a, list(ends.values())) for name, a in arguments.items()
    }


def text_of(value: Any, regions: Sequence[Region] = ()) -> str:
    """Numbers and names as text, and of arrays what is in them; of a lazy one, what is in these regions."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {text_of(a, regions)}" for name, a in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(text_of(a, regions) for a in value)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        arrays = [a for a in jax.tree.leaves(value) if hasattr(a, "dtype")]  # such as groups of `Cluster`
        return " ".join([re.sub(" at 0x[0-9a-f]+", "", str(value)), *map(text_of, arrays)])
    if regions and isinstance(value, xr.DataArray) and value.chunks is not None:
        parts = [value.isel(region, missing_dims="ignore") for region in regions]
        return f"{value.sizes}, {text_of(parts)}"
    values = np.asarray(value)
    plain = values if values.dtype.kind in "biufmM" else values.astype(str)
    return f"{value.dtype} {value.shape} {zlib.crc32(plain.tobytes()):08x}"


def _source(y: xr.DataArray) -> str:
    """The file of y, its size and date, where y tells it."""
    path = Path(str(y.encoding.get("source")))
    if not path.is_file():
        return "unknown"
    file = path.stat()
    return f"{path.resolve()} ({file.st_size} bytes, changed at {file.st_mtime_ns} ns)"
