"""Files that are written whole or not at all, and what a user can do about those that cannot."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any


class UserError(Exception):
    """What a user can do something about, in one sentence."""


def check_output(path: Path, suffixes: Collection[str], source: str) -> None:
    """Raise, before any work, where nothing can be written or where it would replace what is read.

    Args:
        path: the file to be written.
        suffixes: those of its format.
        source: the file that is read.
    """
    if path.suffix.lower() not in suffixes:
        formats = ", ".join(suffixes)
        raise UserError(f"the name of {path} does not say a format that can be written there: {formats}")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} to write {path.name} into")
    if path.is_dir():
        raise UserError(f"{path} is a folder; name a file")
    if path.exists() and Path(source).exists() and path.samefile(source):
        raise UserError(f"{path} is the file that is read; name another one to write to")


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write beside the path and move into place, so that the file is whole or not there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=path.suffix)
    os.close(handle)
    try:
        write(Path(temporary))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp's files are for their owner alone
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
