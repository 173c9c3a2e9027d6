"""CPU seconds of compiling, each program in fresh processes, beside a closed form by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import told_by
from bench.programs import PROGRAMS, Spent

PROCESSES = 3  # of which the fastest counts: other work on the machine only adds


@dataclass(frozen=True)
class Compiled:
    """One line of the table of programs.

    Attributes:
        case: what was compiled.
        cpu_s: least CPU seconds of all threads, to trace, lower, compile and, where it is called, run.
        target: what is asked for, in words; empty for what was written by hand.
        over_by_hand: in units of the closed form by hand of the same x and dtype.
        operations: lowered, None for what is not one program.
        programs: how many the backend compiled.
        shapes: of data that compiled anything, where there are many.
        is_met: whether the target is met, None without one.
    """

    case: str
    cpu_s: float
    target: str
    over_by_hand: float
    operations: int | None
    programs: int
    shapes: int | None
    is_met: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def compilation(scale: float, on_cpu: bool) -> list[Compiled]:
    """A line within jit ≤ 0.6 CPU s or 3 × by hand; and what else a first call waits for."""
    rounds = [{name: _told(name) for name in PROGRAMS} for _ in range(PROCESSES)]
    least = {name: min((told[name] for told in rounds), key=_seconds) for name in PROGRAMS}
    return [_row(name, least) for name in PROGRAMS]


def _told(name: str) -> Spent:
    return json.loads(told_by("bench.programs", name))


def _seconds(took: Spent) -> float:
    return took["cpu_s"]


def _row(name: str, took: dict[str, Spent]) -> Compiled:
    program, own = PROGRAMS[name], took[name]
    over_by_hand = own["cpu_s"] / took[program.reference]["cpu_s"]
    is_met = program.is_met_by(own, over_by_hand) if program.target else None
    return Compiled(name, target=program.target, over_by_hand=over_by_hand, is_met=is_met, **own)
