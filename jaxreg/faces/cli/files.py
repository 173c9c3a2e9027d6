"""Files and standard input: tables as data frames, arrays as datasets."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import xarray as xr

from jaxreg.data.output import UserError
from jaxreg.faces.cli import arrays, tables
from jaxreg.faces.cli.formats import NAMES, format_of
from jaxreg.faces.cli.options import Names, Reading
from jaxreg.faces.cli.text import read_text
from jaxreg.faces.cli.variables import Variables

STDIN = "-"


@dataclass(frozen=True)
class Opened:
    """A file.

    Attributes:
        file: its name.
        kind: its format, in words.
        data: a table, or arrays with names.
        stored: the arrays as they are stored, for netCDF files and Zarr stores.
        groups: of the file, if none was asked for.
    """

    file: str
    kind: str
    data: pd.DataFrame | xr.Dataset
    stored: xr.Dataset | None = None
    groups: tuple[str, ...] = ()

    def variables(self, names: Names, reading: Reading) -> Variables:
        """x and y of a fit along a dimension, or along the rows of a table."""
        if isinstance(self.data, pd.DataFrame):
            return tables.variables_of(self.data, names, reading, self.file)
        if self.groups and not arrays.responses(self.data):
            raise UserError(
                f"{self.file} has its variables in groups: pass --group {' or '.join(self.groups)}"
            )
        return arrays.variables_of(self.data, self.stored, names, reading, self.file)

    def table(self, option: str) -> pd.DataFrame:
        """The table; a UserError if an option for tables came with arrays."""
        if not isinstance(self.data, pd.DataFrame):
            raise UserError(f"--{option} is for tables, of CSV or Parquet, and {self.file} holds arrays")
        return self.data


def open_file(file: str, reading: Reading) -> Opened:
    """Open an example, a file, a folder of Zarr, or the standard input, "-"."""
    if file.startswith("example:"):
        return Opened(file, "an example of the package", arrays.example(file))
    if file == STDIN:
        return _read_table(sys.stdin.buffer.read(), "the standard input", reading)
    path = Path(file)
    kind = format_of(path)
    if kind in arrays.ENGINES:
        decoded = arrays.open_labeled(path, kind, reading)
        stored = arrays.open_labeled(path, kind, reading, decode_cf=False)
        groups = () if reading.group is not None else tuple(arrays.groups_of(path, kind))
        return Opened(file, NAMES[kind], decoded, stored, groups)
    if reading.group is not None:
        raise UserError(f"--group is for netCDF files and Zarr stores, and {file} is {NAMES[kind]}")
    if kind in ("npz", "npy"):
        return Opened(file, NAMES[kind], arrays.open_unlabeled(path, kind))
    return _read_table(path.read_bytes(), file, reading)


def _read_table(data: bytes, file: str, reading: Reading) -> Opened:
    if data.startswith(b"PAR1"):
        try:
            table = pd.read_parquet(io.BytesIO(data))
            table = table.reset_index(drop=table.index.names == [None])
            return Opened(file, NAMES["parquet"], table)
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read as a Parquet file ({error})") from error
    if data.startswith((b"CDF", b"\x89HDF", b"PK\x03\x04", b"\x93NUMPY")):
        raise UserError(f"{file} holds arrays: pass the name of a file; only tables are read from a pipe")
    table, dialect = read_text(data, file, reading)
    return Opened(file, f"a table of text: {dialect}", table)
