"""Timing of several methods in turns, and the errors of their params."""

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
MAX_REPEATED = 1.0  # seconds: a call that takes longer when warm is timed once
PAUSE = 0.1  # seconds between methods: threads of OpenBLAS and OpenMP spin for a while after a call


@dataclass(frozen=True)
class Runner:
    """A method to be timed.

    Attributes:
        method: its name.
        run: the call; a Python loop takes only the first data sets.
        fits: how many data sets the call fits.
        params: extracts params (p, m) from the result of the call, for at least the data sets of the
            reference.
    """

    method: str
    run: Callable[[], Any]
    fits: int
    params: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class Row:
    """A row of the table of times.

    Attributes:
        case: the name of the case.
        method: the name of the method.
        us_per_fit: median microseconds per data set, warm, until the result is ready.
        over_limit: the time in units of one read of the same arrays.
        over_ours: the time in units of jaxreg's.
        error: largest relative error of the params against float64, None where there are none.
        compile_s: seconds that the first call took in addition to a warm one.
    """

    case: str
    method: str
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
    """The ratio of two measurements of one run, and its target.

    Attributes:
        case: the name of the case.
        method: the name of the method.
        ours: its time or memory.
        reference_method: the name of the method it is compared with.
        reference: the time or memory of that.
        target: the largest ratio that meets the target.
        unit: of both.
    """

    case: str
    method: str
    ours: float
    reference_method: str
    reference: float
    target: float
    unit: str = "µs"

    @property
    def ratio(self) -> float:
        """ours / reference."""
        return self.ours / self.reference

    @property
    def is_met(self) -> bool:
        """Whether the target is met."""
        return self.ratio <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"ratio": self.ratio, "is_met": self.is_met}


def at_most(rows: list[Row], *targets: tuple[str, str, float]) -> list[Row | Ratio]:
    """The rows of a case and its targets (method, reference method, ratio), where both were timed."""
    times = {row.method: row.us_per_fit for row in rows}
    ratios = [
        Ratio(rows[0].case, method, times[method], reference, times[reference], target)
        for method, reference, target in targets
        if method in times and reference in times
    ]
    return [*rows, *ratios]


def last_line_of(module: str, *args: str) -> str:
    """The last line that a module prints when it runs in a process of its own."""
    return lines_of(module, *args)[-1]


def lines_of(module: str, *args: str) -> list[str]:
    """The lines that a module prints when it runs in a process of its own."""
    command = [sys.executable, "-m", module, *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def compare(case: str, runners: list[Runner], reference: np.ndarray | None = None) -> list[Row]:
    """Time all methods in turns, so that other load on the machine affects each of them.

    The times of "limit" and "jaxreg" are the units of the others.
    """
    first, results, times = {}, {}, {}
    for r in runners:
        first[r.method], results[r.method] = _timed(r.run)
        times[r.method] = [_timed(r.run)[0]]
    repeated = [r for r in runners if times[r.method][0] < MAX_REPEATED]
    for r in repeated:
        times[r.method].clear()
    for _ in range(ROUNDS):
        for r in repeated:
            times[r.method].append(_timed_after_pause(r.run))
    seconds = {method: statistics.median(t) for method, t in times.items()}
    per_fit = {r.method: seconds[r.method] / r.fits * 1e6 for r in runners}
    return [
        Row(
            case,
            r.method,
            per_fit[r.method],
            per_fit[r.method] / per_fit["limit"] if "limit" in per_fit else None,
            per_fit[r.method] / per_fit["jaxreg"],
            None if r.params is None or reference is None else _error(r.params(results[r.method]), reference),
            max(0.0, first[r.method] - seconds[r.method]),
        )
        for r in runners
    ]


def _timed_after_pause(run: Callable[[], Any]) -> float:
    """The time of a second call, after the threads of the previous method have stopped spinning."""
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
