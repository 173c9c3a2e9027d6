"""How long things take, side by side, and how far their answers are off."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import numpy as np

ROUNDS = 7
PATIENCE = 1.0  # seconds: what takes longer when warm is measured once
PAUSE = 0.1  # seconds between two turns: threads of OpenBLAS and OpenMP spin on after their work


@dataclass(frozen=True)
class Runner:
    """Something to be timed.

    Attributes:
        who: its name.
        run: the call; for a peer that loops, over a few data sets.
        fits: how many data sets the call fits.
        params: (p, at least the data sets of the reference) from what the call returns.
    """

    who: str
    run: Callable[[], Any]
    fits: int
    params: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        case: the name of the case.
        who: who was timed.
        us_per_fit: median microseconds per data set, warm, until the result is ready.
        over_limit: in units of one read of the same arrays.
        over_ours: in units of jaxreg's time.
        error: largest relative error of the params against float64, None where there are none.
        compile_s: seconds that the first call took longer.
    """

    case: str
    who: str
    us_per_fit: float
    over_limit: float | None
    over_ours: float | None
    error: float | None
    compile_s: float

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Ratio:
    """What is asked for of one number in units of another, both of one run.

    Attributes:
        case: the name of the case.
        who: whose number it is.
        ours: the number.
        of: what it is compared with.
        reference: the number of that.
        target: the ratio is to be this or less.
        unit: of both numbers.
    """

    case: str
    who: str
    ours: float
    of: str
    reference: float
    target: float
    unit: str = "µs"

    @property
    def ratio(self) -> float:
        """In units of the reference."""
        return self.ours / self.reference

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio, "is_met": self.is_met}


def at_most(rows: list[Row], *targets: tuple[str, str, float]) -> list[Row | Ratio]:
    """The rows of a case, and what is asked for: (who, of whom, ratio), where both were timed."""
    times = {row.who: row.us_per_fit for row in rows}
    ratios = [
        Ratio(rows[0].case, who, times[who], of, times[of], target)
        for who, of, target in targets
        if who in times and of in times
    ]
    return [*rows, *ratios]


def told_by(module: str, *args: str) -> str:
    """The last line that a module prints in a process of its own."""
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]


def compare(case: str, runners: list[Runner], reference: np.ndarray | None = None) -> list[Row]:
    """Time all in turns, so that a busy moment of the machine meets each; "limit" and "jaxreg" are units."""
    first, results, times = {}, {}, {}
    for r in runners:
        first[r.who], results[r.who] = _timed(r.run)
        times[r.who] = [_timed(r.run)[0]]
    patient = [r for r in runners if times[r.who][0] < PATIENCE]
    for r in patient:
        times[r.who].clear()
    for _ in range(ROUNDS):
        for r in patient:
            times[r.who].append(_rested(r.run))
    seconds = {who: statistics.median(t) for who, t in times.items()}
    per_fit = {r.who: seconds[r.who] / r.fits * 1e6 for r in runners}
    return [
        Row(
            case,
            r.who,
            per_fit[r.who],
            per_fit[r.who] / per_fit["limit"] if "limit" in per_fit else None,
            per_fit[r.who] / per_fit["jaxreg"],
            None if r.params is None or reference is None else _error(r.params(results[r.who]), reference),
            max(0.0, first[r.who] - seconds[r.who]),
        )
        for r in runners
    ]


def _rested(run: Callable[[], Any]) -> float:
    """The time of a second call in a row, when the threads of who came before have come to rest."""
    time.sleep(PAUSE)
    jax.block_until_ready(run())
    return _timed(run)[0]


def _timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(run())
    return time.perf_counter() - start, result


def _error(params: Any, reference: np.ndarray) -> float:
    params = np.asarray(params, np.float64)
    k = min(params.shape[-1], reference.shape[-1])
    scale = np.abs(reference[:, :k]).max(axis=1, keepdims=True)
    return float(np.max(np.abs(params[:, :k] - reference[:, :k]) / scale))
