"""Work in blocks that continues where it was interrupted: a record on disk of what is done, and locks.

Beside the output `trend.zarr` the folder `trend.zarr.partial` keeps what is written so far, a description of
the work, and a line for each block with the checksum of its results. When all blocks are done, the results
become the output. Several processes, on machines that share the disk, may each do a share of the blocks.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DESCRIPTION, LOCK, BLOCKS = "description.json", "lock", "blocks"
MAX_WAIT = 600  # seconds, for another process to begin or finish


@dataclass(frozen=True)
class Resumable:
    """Unfinished work, of which this process has locked a share.

    Attributes:
        output: what will be there at the end.
        folder: of the unfinished work.
        share: (k, n), the blocks k, k + n, k + 2n, …
    """

    output: Path
    folder: Path
    share: tuple[int, int]

    @property
    def results(self) -> Path:
        """What becomes the output."""
        return self.folder / self.output.name

    def done(self, checksum_of: Callable[[int], str | None]) -> set[int]:
        """The blocks whose results have the checksum that was recorded."""
        return {block for block, checksum in self.recorded().items() if checksum_of(block) == checksum}

    def recorded(self) -> dict[int, str]:
        """The checksum of each block that some process has written."""
        recorded = {}
        for file in self.folder.glob(f"{BLOCKS}-*.jsonl"):
            for line in file.read_text().splitlines():
                try:
                    block, checksum = json.loads(line)
                except ValueError:  # cut off when the run was killed
                    continue
                recorded[block] = checksum
        return recorded

    def record(self, block: int, checksum: str) -> None:
        """Note that the results of a block are written."""
        with (self.folder / f"{BLOCKS}-{_name(self.share)}.jsonl").open("a") as file:
            file.write(f"\n{json.dumps([block, checksum])}")
            file.flush()
            os.fsync(file.fileno())

    def finish(self, number: int, complete: Callable[[Path], Any]) -> bool:
        """Move the results to the output, in place of what is there, if all blocks are done.

        Args:
            number: of all blocks.
            complete: a function of the path of the results, which is called before.

        Returns:
            Whether the output is there.
        """
        with _waiting(self.folder):
            if not self.results.exists():  # another process has moved them
                return True
            if len(self.recorded()) < number:
                return False
            complete(self.results)
            if self.output.exists():
                os.replace(self.output, self.folder / "replaced")
            os.replace(self.results, self.output)
        shutil.rmtree(self.folder, ignore_errors=True)
        return True


@contextmanager
def resumable(
    output: Path, description: dict[str, Any], begin: Callable[[Path], Any], share: tuple[int, int]
) -> Iterator[Resumable]:
    """Work on an output, begun now or by an earlier run with the same description.

    Args:
        output: a file or folder.
        description: of inputs and options, of strings and numbers.
        begin: a function of a path, which makes the empty results there.
        share: of this process, (k, n) of n shares.

    Raises:
        RuntimeError: if another process is at work on the same share.
        ValueError: if an earlier run had another description; it says what differs.
    """
    folder = output.with_name(f"{output.name}.partial")
    folder.mkdir(exist_ok=True)
    with _locked(folder / f"{LOCK}-{_name(share)}", output):
        work, described = Resumable(output, folder, share), folder / DESCRIPTION
        with _waiting(folder):
            is_begun = described.exists() and work.results.exists()
            if is_begun and (share[1] > 1 or work.recorded()):
                _check_same(json.loads(described.read_text()), description, folder)
            else:
                described.unlink(missing_ok=True)
                _remove(work.results, *folder.glob(f"{BLOCKS}-*.jsonl"))
                begin(work.results)
                unnamed = folder / f"{DESCRIPTION}.new"
                unnamed.write_text(json.dumps(description, indent=1))
                os.replace(unnamed, described)
        yield work


def _name(share: tuple[int, int]) -> str:
    return f"{share[0]}-of-{share[1]}"


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


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


def _waiting(folder: Path) -> AbstractContextManager[Any]:
    """Hold the lock of the whole folder, after other processes."""
    from filelock import FileLock

    return FileLock(folder / LOCK, timeout=MAX_WAIT)
