"""Output files: checked before any work is done, and written completely or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any


class UserError(Exception):
    """An error that the user of the command line can correct; the message is one sentence."""


def check_output(path: Path, suffixes: Collection[str], source: str) -> None:
    """Raise, before any work is done, if the file cannot be written or would replace the input.

    Args:
        path: the file to be written.
        suffixes: the file name extensions of its format.
        source: the input file.
    """
    if path.suffix.lower() not in suffixes:
        formats = ", ".join(suffixes)
        raise UserError(f"{path} does not end in the extension of a format that can be written: {formats}")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path.name}: there is no folder {path.parent}")
    if path.is_dir():
        raise UserError(f"{path} is a folder; pass the name of a file")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"{path} is the input file; pass another name for the output")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a temporary file beside the path and rename it, so that no incomplete file is left behind."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(temporary))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # files of mkstemp are readable by their owner only
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
