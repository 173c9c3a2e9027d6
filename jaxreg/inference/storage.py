"""Fits that are kept: saved to a file and loaded, and joined along their data sets.

The file is an .npz of arrays with a JSON header, read without pickle: nothing in it is executed.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.ansatz import Ansatz, Features, Line, Linear, Polynomial, compiled_ansatz
from jaxreg.data.labels import Labels
from jaxreg.data.output import write_whole
from jaxreg.engine.estimate import Estimate
from jaxreg.inference.fitted import Fitted
from jaxreg.numerics.precision import in_own_precision

FORMAT, VERSION = "jaxreg.Fit", 1
ANSAETZE = {ansatz.__name__: ansatz for ansatz in (Line, Polynomial, Linear)}


def save(path: Path, fitted: Fitted, ansatz: Ansatz | Features, labels: Labels) -> None:
    """Write a fit as an .npz file."""
    if path.suffix != ".npz":
        raise ValueError(f"the file of a fit is an .npz file, got {path}; pass {path.with_suffix('.npz')}")
    own = ANSAETZE.get(type(ansatz).__name__) is type(ansatz)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "ansatz": {"name": type(ansatz).__name__, "options": _options(ansatz) if own else None},
        "cov_type": fitted.cov_type,
        "use_t": fitted.use_t,
        "constant": fitted.constant,
        "dims": labels.dims,
        "coords": {name: dims for name, (dims, _) in labels.coords.items()},
        "columns": labels.columns,
    }
    arrays = {
        f"estimate.{field.name}": np.asarray(value)
        for field in fields(Estimate)
        if (value := getattr(fitted.estimate, field.name)) is not None
    }
    arrays |= {f"coord.{name}": _storable(values) for name, (_, values) in labels.coords.items()}

    def write(temporary: Path) -> None:
        np.savez(temporary, header=np.array(json.dumps(header)), allow_pickle=False, **arrays)

    write_whole(path, write)


def load(path: Path, given: Ansatz | Features | None) -> tuple[Fitted, Ansatz | Features, Labels]:
    """Read what `save` wrote."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays["header"]))
    except (ValueError, KeyError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a file that Fit.save has written ({error})") from error
    if header.get("format") != FORMAT or header.get("version", 0) > VERSION:
        raise ValueError(
            f"{path} is {header.get('format')} version {header.get('version')}; this jaxreg reads "
            f"{FORMAT} up to version {VERSION}"
        )
    values = {field.name: _array(arrays, f"estimate.{field.name}") for field in fields(Estimate)}
    ansatz = _ansatz(header["ansatz"], given)
    fitted = Fitted(
        Estimate(**values),
        compiled_ansatz(ansatz),
        header["cov_type"],
        header["use_t"],
        header["constant"],
    )
    coords = {name: (tuple(dims), arrays[f"coord.{name}"]) for name, dims in header["coords"].items()}
    return fitted, ansatz, Labels(_tuple(header["dims"]), coords, _tuple(header["columns"]))


def concatenate(fits: list[Fitted], axes: int, axis: int) -> Fitted:
    """Join fits along one axis of their data sets."""
    if not axes:
        raise ValueError(
            "concatenate joins fits of many data sets; these are of a single one: use jax.tree.map"
        )
    if not -axes <= axis < axes:
        raise ValueError(f"axis {axis} is not one of the {axes} axes of the data sets")
    structures = {jax.tree.structure(fitted) for fitted in fits}
    if len(structures) > 1:
        raise ValueError("concatenate joins fits of one ansatz and covariance, all with weights or none")
    dtypes = {fitted.dtype for fitted in fits}
    if len(dtypes) > 1:
        raise ValueError(f"concatenate joins fits of one dtype, got {', '.join(sorted(map(str, dtypes)))}")

    behind = axis if axis < 0 else axis - axes  # params have an axis of their own in front

    def joined(*leaves: Any) -> Any:
        xp: Any = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
        return xp.concatenate(leaves, axis=behind)

    return in_own_precision(partial(jax.tree.map, joined))(*fits)


def _options(ansatz: Any) -> dict[str, Any]:
    return asdict(ansatz) if is_dataclass(ansatz) and not isinstance(ansatz, type) else {}


def _ansatz(stored: dict[str, Any], given: Ansatz | Features | None) -> Ansatz | Features:
    name, options = stored["name"], stored["options"]
    if options is None or name not in ANSAETZE:
        if given is None:
            raise ValueError(
                f"the ansatz of this fit is not one of jaxreg's: pass load(path, ansatz={name}(…))"
            )
        return given
    make: Any = ANSAETZE[name]
    return make(**{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()})


def _array(arrays: dict[str, np.ndarray], name: str) -> Any:
    return arrays.get(name)


def _storable(values: np.ndarray) -> np.ndarray:
    """Labels of any kind as numbers, times or text."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype == object else values


def _tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)
