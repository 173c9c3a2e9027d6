"""Work in blocks that continues where it was interrupted: a record on disk of what is done, and a lock.

Beside the output `trend.zarr` the folder `trend.zarr.partial` keeps what is written so far, a description of
the work, and a line for each block with the checksum of its results. When all blocks are done, the results
become the output.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DESCRIPTION, BLOCKS, LOCK = "description.json", "blocks.jsonl", "lock"


@dataclass(frozen=True)
class Resumable:
    """Unfinished work, whose folder this process has locked.

    Attributes:
        output: what will be there at the end.
        folder: of the unfinished work.
    """

    output: Path
    folder: Path

    @property
    def results(self) -> Path:
        """What becomes the output."""
        return self.folder / self.output.name

    def done(self, checksum_of: Callable[[int], str | None]) -> set[int]:
        """The blocks whose results have the checksum that was recorded."""
        recorded = {}
        for line in (self.folder / BLOCKS).read_text().splitlines():
            try:
                block, checksum = json.loads(line)
            except ValueError:  # cut off when the run was killed
                continue
            recorded[block] = checksum
        return {block for block, checksum in recorded.items() if checksum_of(block) == checksum}

    def record(self, block: int, checksum: str) -> None:
        """Note that the results of a block are written."""
        with (self.folder / BLOCKS).open("a") as file:
            file.write(f"\n{json.dumps([block, checksum])}")
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        """Move the results to the output, in place of what is there."""
        if self.output.exists():
            os.replace(self.output, self.folder / "replaced")
        os.replace(self.results, self.output)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def resumable(output: Path, description: dict[str, Any], begin: Callable[[Path], Any]) -> Iterator[Resumable]:
    """Work on an output, begun now or by an earlier run with the same description.

    Args:
        output: a file or folder.
        description: of inputs and options, of strings and numbers.
        begin: a function of a path, which makes the empty results there.

    Raises:
        RuntimeError: if another process is at work on the output.
        ValueError: if an earlier run had another description; it says what differs.
    """
    folder = output.with_name(f"{output.name}.partial")
    folder.mkdir(exist_ok=True)
    with _locked(folder / LOCK, output):
        work, described = Resumable(output, folder), folder / DESCRIPTION
        if described.exists() and work.results.exists():
            _check_same(json.loads(described.read_text()), description, folder)
        else:
            described.unlink(missing_ok=True)
            shutil.rmtree(work.results, ignore_errors=True)
            begin(work.results)
            (folder / BLOCKS).write_text("")
            unnamed = folder / f"{DESCRIPTION}.new"
            unnamed.write_text(json.dumps(description, indent=1))
            os.replace(unnamed, described)
        yield work


def _check_same(before: dict[str, Any], now: dict[str, Any], folder: Path) -> None:
    changed = [
        f"{name} was {before.get(name)} and is {now.get(name)}"
        for name in (*before, *(now.keys() - before.keys()))
        if before.get(name) != now.get(name)
    ]
    if changed:
        raise ValueError(
            f"{folder} is of a run that was interrupted, and {'; '.join(changed)}: remove it to begin anew"
        )


@contextmanager
def _locked(path: Path, output: Path) -> Iterator[None]:
    """Hold a lock that ends with the process."""
    from filelock import FileLock, Timeout  # of the extra `stores`

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RuntimeError(f"another run is writing {output}: wait for it, or end it") from None
    try:
        yield
    finally:
        lock.release()
