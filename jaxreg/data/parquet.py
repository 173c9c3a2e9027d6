"""Tables that are written to a Parquet file piece by piece."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any

from jaxreg.data.output import UserError, check_output, write_whole


def checked_path(output: str | PathLike[str]) -> Path:
    """The path of a Parquet file, or an error if it cannot be written."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ModuleNotFoundError:
        raise ModuleNotFoundError('output needs pyarrow: python -m pip install "jaxreg[cli]"') from None
    path = Path(output)
    try:
        check_output(path, (".parquet",), source="")
    except UserError as error:
        raise ValueError(f"output: {error}") from None
    return path


def write_tables(path: Path, tables: Iterable[dict[str, Any]]) -> None:
    """Write tables of the same columns, at least one, below each other; no incomplete file is left."""
    import pyarrow
    import pyarrow.parquet

    def write(temporary: Path) -> None:
        pieces = map(pyarrow.table, tables)
        first = next(pieces)
        with pyarrow.parquet.ParquetWriter(temporary, first.schema) as writer:
            writer.write_table(first)
            for table in pieces:
                writer.write_table(table)

    write_whole(path, write)
