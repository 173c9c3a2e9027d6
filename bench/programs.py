"""Programs to compile, and their targets; `python -m bench.programs NAME` measures one."""

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
from jaxreg import ClosedForm, Fit, GradientDescent, Linear, Polynomial, fit

N, M = 300, 1000  # observations and data sets
LENGTHS = range(50, 70)  # of series fitted one after the other
BY_HAND = "by hand: a line, shared x"
OWN_BY_HAND = "by hand: a line, own x"
WIDE_BY_HAND = "by hand: a line, float64"
COMPILED: list[str] = []  # one event per program compiled by the backend

Usage = dict[str, Any]


@dataclass(frozen=True)
class Program:
    """A measurement of compilation, and its targets.

    Attributes:
        measure: compiles and returns the resources used.
        seconds: target for the CPU seconds; met also if
        times: the CPU seconds are at most this multiple of those of the reference.
        operations: target for the number of operations after lowering.
        shapes: target for the number of data shapes that trigger a compilation.
        reference: the name of the closed form by hand it is compared with.
    """

    measure: Callable[[], Usage]
    seconds: float | None = None
    times: float | None = None
    operations: int | None = None
    shapes: int | None = None
    reference: str = BY_HAND

    @property
    def target(self) -> str:
        """The target in words."""
        or_by_hand = f" or {self.times} × by hand" if self.times else ""
        parts = (
            self.seconds and f"≤ {self.seconds} s{or_by_hand}",
            self.operations and f"≤ {self.operations} operations",
            self.shapes and f"≤ {self.shapes} shapes compile",
        )
        return ", ".join(filter(None, parts))

    def is_met_by(self, usage: Usage, over_by_hand: float) -> bool:
        """Whether the resources used meet the targets."""
        time_met = self.seconds is None or usage["cpu_s"] <= self.seconds or over_by_hand <= (self.times or 0)
        operations_met = self.operations is None or usage["operations"] <= self.operations
        shapes_met = self.shapes is None or usage["shapes"] <= self.shapes
        return time_met and operations_met and shapes_met


def line(dtype: str = "f4", m: int = M) -> tuple[np.ndarray, np.ndarray]:
    """A shared x, and noise with gaps as y."""
    y = np.random.default_rng(0).standard_normal((N, m)).astype(dtype)
    y[::10, ::3] = np.nan
    return np.linspace(-1, 2, N, dtype=dtype), y


def own_line() -> tuple[np.ndarray, np.ndarray]:
    """The same data, with an own x for every data set."""
    x, y = line()
    return x[:, None] + 0 * np.nan_to_num(y), y


def design(p: int) -> tuple[np.ndarray, np.ndarray]:
    """A shared design of p − 1 columns without the intercept, and y."""
    return np.random.default_rng(1).standard_normal((N, p - 1)).astype("f4"), line()[1]


def params_and_bse(x: Any, y: Any) -> Any:
    """Params and standard errors of lines."""
    line_fit = fit(x, y)
    return line_fit.params, line_fit.bse


def sum_of_slopes(x: Any, y: Any) -> Any:
    """The sum of the slopes, to be differentiated."""
    return fit(x, y).params[1].sum()


def huber(params: Any, x: Any, y: Any, weights: Any = None, *, ansatz: Any) -> Any:
    """Huber's cost, as a user would write it."""
    valid = ~jnp.isnan(y)
    residual = jnp.where(valid, y - ansatz.predict(params, x), 0)
    size = jnp.abs(residual)
    loss = jnp.where(size < 1, size**2, 2 * size - 1)
    return jnp.sum(loss) / jnp.sum(valid)


def usage_of(run: Callable[[], Any]) -> tuple[Usage, Any]:
    """CPU seconds over all threads and number of programs compiled, and the result of run()."""
    before, start = len(COMPILED), _cpu_seconds()
    result = run()
    seconds, programs = _cpu_seconds() - start, len(COMPILED) - before
    return {"cpu_s": seconds, "programs": programs, "operations": None, "shapes": None}, result


def compiled(function: Callable, *args: Any) -> Usage:
    """Lower and compile `jax.jit(function)` for these arguments."""

    def lower_and_compile() -> Any:
        lowered = jax.jit(function).lower(*args)
        lowered.compile()
        return lowered

    with jax.enable_x64(args[-1].dtype == np.float64):
        usage, lowered = usage_of(lower_and_compile)
        return usage | {"operations": lowered.as_text().count("stablehlo.")}


def first_fit(x: Any, y: Any, **options: Any) -> Usage:
    """A first call of `fit`."""
    return usage_of(lambda: jax.block_until_ready(fit(x, y, **options)))[0]


def fit_after(m: int) -> Usage:
    """A fit of 1.5 m data sets after one of m."""
    first_fit(*line(m=m))
    return first_fit(*line(m=m * 3 // 2))


def series() -> Usage:
    """Fits of series of different lengths, one after the other."""
    x, y = line()
    y = np.nan_to_num(y[:, 0])
    usages = [first_fit(x[:n], y[:n]) for n in LENGTHS]
    total = {key: sum(usage[key] for usage in usages) for key in ("cpu_s", "programs")}
    return usages[0] | total | {"shapes": sum(usage["programs"] > 0 for usage in usages)}


def result_after(compute: Callable[[Fit, Any, Any], Any]) -> Usage:
    """A further result of data that are already fitted."""
    x, y = line()
    line_fit = jax.block_until_ready(fit(x, y))
    return usage_of(lambda: jax.block_until_ready(compute(line_fit, x, y)))[0]


PROGRAMS: dict[str, Program] = {
    BY_HAND: Program(lambda: compiled(by_hand, *line())),
    OWN_BY_HAND: Program(lambda: compiled(by_hand, *own_line()), reference=OWN_BY_HAND),
    WIDE_BY_HAND: Program(lambda: compiled(by_hand, *line("f8")), reference=WIDE_BY_HAND),
    "jit: params and bse, shared x": Program(lambda: compiled(params_and_bse, *line()), 0.6, 3, 900),
    "jit: params and bse, own x": Program(
        lambda: compiled(params_and_bse, *own_line()), 0.6, 3, 900, reference=OWN_BY_HAND
    ),
    "jit: the whole Fit": Program(lambda: compiled(fit, *line()), 1.2),
    "jit: gradient of the slopes in y": Program(
        lambda: compiled(jax.grad(sum_of_slopes, argnums=1), *line()), 1.5
    ),
    "first fit, float32": Program(lambda: first_fit(*line()), 0.8),
    "first fit, float64": Program(lambda: first_fit(*line("f8")), 1.2, reference=WIDE_BY_HAND),
    "1,500 data sets after 1,000": Program(lambda: fit_after(M), 0.8),
    "20 series of 50 to 69 points": Program(series, shapes=2),
    "first fit, Linear, p = 8": Program(lambda: first_fit(*design(8), ansatz=Linear()), 1.5),
    "first fit, Linear, p = 20": Program(lambda: first_fit(*design(20), ansatz=Linear()), 1.5),
    "first fit, Polynomial(5)": Program(lambda: first_fit(*line(), ansatz=Polynomial(5)), 1.5),
    "first fit, GradientDescent()": Program(lambda: first_fit(*line(), solver=GradientDescent()), 1.5),
    "first fit, a user's cost": Program(
        lambda: first_fit(*line(), cost=huber, solver=GradientDescent()), 1.5
    ),
    "pvalues after a fit": Program(lambda: result_after(lambda line_fit, x, y: line_fit.pvalues), 0.5),
    "conf_int after a fit": Program(lambda: result_after(lambda line_fit, x, y: line_fit.conf_int()), 0.5),
    "rsquared after a fit": Program(lambda: result_after(lambda line_fit, x, y: line_fit.rsquared), 0.5),
    "HC3 bse after a fit": Program(
        lambda: result_after(lambda line_fit, x, y: fit(x, y, cov_type="HC3").bse), 0.5
    ),
    "first fit, certified, float64": Program(
        lambda: first_fit(*line("f8"), solver=ClosedForm(precision="certified")), 2.5, reference=WIDE_BY_HAND
    ),
}


def main(name: str) -> None:
    """Print the resources used by one program as JSON."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)
    jax.monitoring.register_event_duration_secs_listener(_on_event)
    jax.jit(jnp.negative)(np.float32(1)).block_until_ready()  # starts JAX and its compiler
    print(json.dumps(PROGRAMS[name].measure()))


def _on_event(event: str, duration: float, **_: Any) -> None:
    if event == "/jax/core/compile/backend_compile_duration":
        COMPILED.append(event)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(sys.argv[1])
