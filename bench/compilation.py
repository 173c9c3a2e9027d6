"""CPU seconds of compilation, each program in fresh processes, relative to a closed form by hand."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from bench.measure import last_line_of
from bench.programs import PROGRAMS, Usage

PROCESSES = 3  # the fastest counts, as other load on the machine only adds time


@dataclass(frozen=True)
class Compiled:
    """A row of the table of programs.

    Attributes:
        case: what was compiled.
        cpu_s: smallest CPU seconds, summed over threads, of tracing, lowering, compiling and any execution.
        target: the target in words; empty for the closed forms by hand.
        over_by_hand: cpu_s in units of the closed form by hand for the same x and dtype.
        operations: number of operations after lowering; None if there are several programs.
        programs: number of programs that the backend compiled.
        shapes: number of data shapes that triggered a compilation; None if there is one shape.
        is_met: whether the target is met; None if there is no target.
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
    """A line in jit ≤ 0.6 CPU s or 3 × by hand; the first calls of other fits and results."""
    rounds = [{name: _usage_of(name) for name in PROGRAMS} for _ in range(PROCESSES)]
    fastest = {name: min((usages[name] for usages in rounds), key=_seconds) for name in PROGRAMS}
    return [_row(name, fastest) for name in PROGRAMS]


def _usage_of(name: str) -> Usage:
    return json.loads(last_line_of("bench.programs", name))


def _seconds(usage: Usage) -> float:
    return usage["cpu_s"]


def _row(name: str, usages: dict[str, Usage]) -> Compiled:
    program, usage = PROGRAMS[name], usages[name]
    over_by_hand = usage["cpu_s"] / usages[program.reference]["cpu_s"]
    is_met = program.is_met_by(usage, over_by_hand) if program.target else None
    return Compiled(name, target=program.target, over_by_hand=over_by_hand, is_met=is_met, **usage)
