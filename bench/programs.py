"""What it takes to compile, and what is asked for: `python -m bench.programs NAME` measures one of them."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bench.peers import by_hand
from jaxreg import Fit, GradientDescent, Linear, Polynomial, fit

N, M = 300, 1000  # observations and data sets
LENGTHS = range(50, 70)  # of series that follow each other
BY_HAND = "by hand: a line, shared x"
OWN_BY_HAND = "by hand: a line, own x"
WIDE_BY_HAND = "by hand: a line, float64"
COMPILED: list[str] = []  # an event for each program that a backend compiled

Spent = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """Something that has to be compiled.

    Attributes:
        measure: compiles it; what that took and what came of it.
        seconds: the CPU seconds that are asked for, or
        times: that many times those by hand.
        operations: as many may be lowered.
        shapes: of data, so many may compile.
        reference: the closed form by hand that it is compared with.
    """

    measure: Callable[[], Spent]
    seconds: float | None = None
    times: float | None = None
    operations: int | None = None
    shapes: int | None = None
    reference: str = BY_HAND

    @property
    def target(self) -> str:
        """What is asked for, in words."""
        or_by_hand = f" or {self.times} × by hand" if self.times else ""
        parts = (
            self.seconds and f"≤ {self.seconds} s{or_by_hand}",
            self.operations and f"≤ {self.operations} operations",
            self.shapes and f"≤ {self.shapes} shapes compile",
        )
        return ", ".join(filter(None, parts))

    def is_met_by(self, took: Spent, over_by_hand: float) -> bool:
        """Whether that is what it took."""
        quick = self.seconds is None or took["cpu_s"] <= self.seconds or over_by_hand <= (self.times or 0)
        small = self.operations is None or took["operations"] <= self.operations
        shared = self.shapes is None or took["shapes"] <= self.shapes
        return quick and small and shared


def line(dtype: str = "f4", m: int = M) -> tuple[np.ndarray, np.ndarray]:
    """A shared x and noise with gaps."""
    y = np.random.default_rng(0).standard_normal((N, m)).astype(dtype)
    y[::10, ::3] = np.nan
    return np.linspace(-1, 2, N, dtype=dtype), y


def own_line() -> tuple[np.ndarray, np.ndarray]:
    """The same with an own x."""
    x, y = line()
    return x[:, None] + 0 * np.nan_to_num(y), y


def design(p: int) -> tuple[np.ndarray, np.ndarray]:
    """A shared design of p − 1 columns, which an intercept joins."""
    return np.random.default_rng(1).standard_normal((N, p - 1)).astype("f4"), line()[1]


def params_and_bse(x: Any, y: Any) -> Any:
    """What most want to know of a line."""
    found = fit(x, y)
    return found.params, found.bse


def slopes(x: Any, y: Any) -> Any:
    """A number to be differentiated."""
    return fit(x, y).params[1].sum()


def clipped(params: Any, x: Any, y: Any, weights: Any = None, *, ansatz: Any) -> Any:
    """A user's cost of five lines."""
    seen = ~jnp.isnan(y)
    residual = jnp.where(seen, y - ansatz.predict(params, x), 0)
    size = jnp.abs(residual)
    loss = jnp.where(size < 1, size**2, 2 * size - 1)
    return jnp.sum(loss) / jnp.sum(seen)


def spent(run: Callable[[], Any]) -> tuple[Spent, Any]:
    """CPU seconds of all threads and the programs compiled, and the result."""
    before, start = len(COMPILED), _cpu_seconds()
    result = run()
    seconds, programs = _cpu_seconds() - start, len(COMPILED) - before
    return {"cpu_s": seconds, "programs": programs, "operations": None, "shapes": None}, result


def compiled(function: Callable, *args: Any) -> Spent:
    """`jax.jit(function)`, lowered and compiled for these arguments."""

    def lower_and_compile() -> Any:
        lowered = jax.jit(function).lower(*args)
        lowered.compile()
        return lowered

    with jax.enable_x64(args[-1].dtype == np.float64):
        took, lowered = spent(lower_and_compile)
        return took | {"operations": lowered.as_text().count("stablehlo.")}


def first_fit(x: Any, y: Any, **options: Any) -> Spent:
    """The first call of `fit`."""
    return spent(lambda: jax.block_until_ready(fit(x, y, **options)))[0]


def fit_after(m: int) -> Spent:
    """A fit of 3/2 as many data sets behind one of m."""
    first_fit(*line(m=m))
    return first_fit(*line(m=m * 3 // 2))


def series() -> Spent:
    """Series of many lengths one after the other."""
    x, y = line()
    y = np.nan_to_num(y[:, 0])
    each = [first_fit(x[:n], y[:n]) for n in LENGTHS]
    total = {key: sum(took[key] for took in each) for key in ("cpu_s", "programs")}
    return each[0] | total | {"shapes": sum(took["programs"] > 0 for took in each)}


def result_after(find: Callable[[Fit, Any, Any], Any]) -> Spent:
    """One more result of data that were fitted."""
    x, y = line()
    found = jax.block_until_ready(fit(x, y))
    return spent(lambda: jax.block_until_ready(find(found, x, y)))[0]


PROGRAMS: dict[str, Program] = {
    BY_HAND: Program(lambda: compiled(by_hand, *line())),
    OWN_BY_HAND: Program(lambda: compiled(by_hand, *own_line()), reference=OWN_BY_HAND),
    WIDE_BY_HAND: Program(lambda: compiled(by_hand, *line("f8")), reference=WIDE_BY_HAND),
    "jit: params and bse, shared x": Program(lambda: compiled(params_and_bse, *line()), 0.6, 3, 900),
    "jit: params and bse, own x": Program(
        lambda: compiled(params_and_bse, *own_line()), 0.6, 3, 900, reference=OWN_BY_HAND
    ),
    "jit: the whole Fit": Program(lambda: compiled(fit, *line()), 1.2),
    "jit: gradient of the slopes in y": Program(lambda: compiled(jax.grad(slopes, argnums=1), *line()), 1.5),
    "first fit, float32": Program(lambda: first_fit(*line()), 0.8),
    "first fit, float64": Program(lambda: first_fit(*line("f8")), 1.2, reference=WIDE_BY_HAND),
    "1,500 data sets after 1,000": Program(lambda: fit_after(M), 0.8),
    "20 series of 50 to 69 points": Program(series, shapes=2),
    "first fit, Linear, p = 8": Program(lambda: first_fit(*design(8), ansatz=Linear()), 1.5),
    "first fit, Linear, p = 20": Program(lambda: first_fit(*design(20), ansatz=Linear()), 1.5),
    "first fit, Polynomial(5)": Program(lambda: first_fit(*line(), ansatz=Polynomial(5)), 1.5),
    "first fit, GradientDescent()": Program(lambda: first_fit(*line(), solver=GradientDescent()), 1.5),
    "first fit, a user's cost": Program(
        lambda: first_fit(*line(), cost=clipped, solver=GradientDescent()), 1.5
    ),
    "pvalues after a fit": Program(lambda: result_after(lambda found, x, y: found.pvalues), 0.5),
    "conf_int after a fit": Program(lambda: result_after(lambda found, x, y: found.conf_int()), 0.5),
    "rsquared after a fit": Program(lambda: result_after(lambda found, x, y: found.rsquared), 0.5),
    "HC3 bse after a fit": Program(
        lambda: result_after(lambda found, x, y: fit(x, y, cov_type="HC3").bse), 0.5
    ),
    "first fit, certified, float64": Program(
        lambda: first_fit(*line("f8"), precision="certified"), 2.5, reference=WIDE_BY_HAND
    ),
}


def main(name: str) -> None:
    """Print what one program took as JSON."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    jax.monitoring.register_event_duration_secs_listener(_note)
    jax.jit(jnp.negative)(np.float32(1)).block_until_ready()  # JAX and its compiler start
    print(json.dumps(PROGRAMS[name].measure()))


def _note(event: str, duration: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(event)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(sys.argv[1])
