"""Output files: checked before any work is done, and written completely or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

_unfinished: set[Path] = set()  # temporary files and folders that are being written


class UserError(Exception):
    """An error that the user of the command line can correct; the message is one sentence."""


def check_output(path: Path, suffixes: Collection[str], source: str) -> None:
    """Raise, before any work is done, if the file cannot be written or would replace the input.

    Args:
        path: the file to be written, or the folder of a Zarr store.
        suffixes: the file name extensions of its format.
        source: the input file.
    """
    if path.suffix.lower() not in suffixes:
        formats = ", ".join(suffixes)
        raise UserError(f"{path} does not end in the extension of a format that can be written: {formats}")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path.name}: there is no folder {path.parent}")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"{path} is the input file; pass another name for the output")
    is_store = any((path / name).exists() for name in ("zarr.json", ".zgroup"))
    if path.is_dir() and not (path.suffix.lower() == ".zarr" and is_store):
        raise UserError(f"{path} is a folder; pass the name of a file")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"cannot write {path.name}: the folder {path.parent} is read-only")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a temporary file beside the path and rename it, so that no incomplete file is left behind.

    Args:
        path: the file, or the folder of a Zarr store.
        write: a function of the temporary path, which makes a file or a folder there.

    Raises:
        OSError: if the file cannot be written; it names the path, not the temporary one.
    """
    try:
        folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=".tmp"))
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    _unfinished.add(folder)
    temporary = folder / path.name
    try:
        write(temporary)
        if path.is_dir() and not path.is_symlink():
            os.replace(path, folder / "replaced")
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # RuntimeError: of the netCDF library
        reason = getattr(error, "strerror", None) or str(error).replace(str(temporary), path.name)
        raise OSError(f"cannot write {path}: {reason}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _unfinished.discard(folder)


def remove_unfinished() -> None:
    """Remove what is being written, when the program ends in the midst of it."""
    for folder in list(_unfinished):
        shutil.rmtree(folder, ignore_errors=True)
