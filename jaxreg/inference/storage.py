"""Save, load and concatenate fits.

The file is an .npz archive of arrays with a JSON header. It is read without pickle, so that loading never
executes code from it.
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
        raise ValueError(f"a fit is saved as an .npz file, got {path}; pass {path.with_suffix('.npz')}")
    is_built_in = ANSAETZE.get(type(ansatz).__name__) is type(ansatz)
    header = {
        "format": FORMAT,
        "version": VERSION,
        "ansatz": {"name": type(ansatz).__name__, "options": _options(ansatz) if is_built_in else None},
        "names": ansatz.param_names(fitted.p - fitted.ansatz.has_intercept),
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
        np.savez(temporary, header=np.array(json.dumps(header, default=_plain)), allow_pickle=False, **arrays)

    write_whole(path, write)


def load(path: Path, given_ansatz: Ansatz | Features | None) -> tuple[Fitted, Ansatz | Features, Labels]:
    """Read a file written by `save`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = dict(file)
        header = json.loads(str(arrays["header"]))
        file_format, version = header["format"], header["version"]
    except (ValueError, KeyError, TypeError, BadZipFile, EOFError) as error:
        raise ValueError(f"{path} is not a file written by Fit.save") from error
    if file_format != FORMAT:
        raise ValueError(f"{path} is not a file written by Fit.save: its format is {file_format!r}")
    if version > VERSION:
        raise ValueError(
            f"{path} has version {version} of the format; this jaxreg reads up to {VERSION}: update jaxreg"
        )
    values: dict[str, Any] = {field.name: arrays.get(f"estimate.{field.name}") for field in fields(Estimate)}
    ansatz = _ansatz(path, header["ansatz"], given_ansatz)
    compiled = compiled_ansatz(ansatz)
    _check_params(ansatz, header["names"], len(values["params"]) - compiled.has_intercept)
    fitted = Fitted(
        Estimate(**values),
        compiled,
        header["cov_type"],
        header["use_t"],
        header["constant"],
    )
    coords = {name: (tuple(dims), arrays[f"coord.{name}"]) for name, dims in header["coords"].items()}
    return fitted, ansatz, Labels(_tuple(header["dims"]), coords, _tuple(header["columns"]))


def concatenate(fits: list[Fitted], axes: int, axis: int) -> Fitted:
    """Concatenate fits along one of their batch axes."""
    if not axes:
        raise ValueError(
            "concatenate takes fits of batches; these are fits of a single data set: stack them with "
            "jax.tree.map"
        )
    if not -axes <= axis < axes:
        raise ValueError(f"axis {axis} is not one of the {axes} axes of the data sets")
    structures = {jax.tree.structure(fitted) for fitted in fits}
    if len(structures) > 1:
        raise ValueError(
            "concatenate takes fits of one ansatz and covariance, all with weights or all without"
        )
    dtypes = {fitted.dtype for fitted in fits}
    if len(dtypes) > 1:
        raise ValueError(f"concatenate takes fits of one dtype, got {', '.join(sorted(map(str, dtypes)))}")

    axis_from_end = axis if axis < 0 else axis - axes  # batch axes come last in every array

    def concatenated(*leaves: Any) -> Any:
        xp: Any = np if all(isinstance(leaf, np.ndarray) for leaf in leaves) else jnp
        return xp.concatenate(leaves, axis=axis_from_end)

    return in_own_precision(partial(jax.tree.map, concatenated))(*fits)


def _options(ansatz: Any) -> dict[str, Any]:
    return asdict(ansatz) if is_dataclass(ansatz) and not isinstance(ansatz, type) else {}


def _ansatz(path: Path, stored: dict[str, Any], given: Ansatz | Features | None) -> Ansatz | Features:
    """The ansatz of the header, or the given one if its code is not part of jaxreg."""
    name, options = stored["name"], stored["options"]
    if options is None or name not in ANSAETZE:
        if given is None:
            raise ValueError(
                f"{path} does not contain the code of its ansatz: pass load(path, ansatz={name}(…)), the one "
                "that was fitted"
            )
        if isinstance(given, type):
            raise TypeError(f"ansatz is an object such as {given.__name__}(…), not the class")
        return given
    ansatz_type: Any = ANSAETZE[name]
    return ansatz_type(**{key: tuple(a) if isinstance(a, list) else a for key, a in options.items()})


def _check_params(ansatz: Ansatz | Features, names: list[str], x_columns: int) -> None:
    """Raise where the ansatz that was passed has other params than the fit."""
    expected = ansatz.param_names(x_columns)
    if list(expected) != names:
        raise ValueError(
            f"the file holds a fit with the params {', '.join(names)}; those of {ansatz} are "
            f"{', '.join(expected)}"
        )


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, for JSON."""
    return value.item()


def _storable(values: np.ndarray) -> np.ndarray:
    """Coordinates as an array that is stored without pickle: objects become strings."""
    values = np.asarray(values)
    return values.astype(str) if values.dtype == object else values


def _tuple(values: list | None) -> tuple | None:
    return None if values is None else tuple(values)
