"""The numbers that the drawing in JavaScript starts from, of a line fit to one data set."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.data.labels import title_of
from jaxreg.fitting import moments
from jaxreg.mechanics.flow import exact_flow

MAX_POINTS = 500  # of the data that are drawn
MARGIN = 1.3
STEPS = 40


def state_of(
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    start: Any = None,
    learning_rate: float | None = None,
    friction: float | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
) -> dict[str, Any]:
    """The state of the drawing: the cost by its moments, the data, and the controls.

    Raises:
        ValueError: if x and y are not one data set, or do not determine a line.
    """
    labels = [x_label or title_of(x, "x"), y_label or title_of(y, "y"), "intercept β₀", "slope β₁"]
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape:
        raise ValueError(f"one data set is drawn, x (n,) and y (n,); got {x.shape} and {y.shape}")
    m = moments(x, y, weights)
    flow = exact_flow(m)
    best = np.asarray(flow.turning_point)
    if not np.isfinite(best).all():
        raise ValueError("x and y do not determine a line: two different x with finite y are needed")
    valid = np.isfinite(x) & np.isfinite(y) & (True if weights is None else np.asarray(weights) > 0)
    variance = np.var(y[valid]) or 1.0
    half = MARGIN * np.sqrt(variance * np.diag(np.linalg.inv(m.gram)))
    given = best + half * (-0.7, 0.65) if start is None else np.asarray(start, np.float64)
    if given.shape != (2,) or not np.isfinite(given).all():
        raise ValueError(f"start is (intercept, slope), two finite numbers; got {start!r}")
    drawn = np.flatnonzero(valid)[:: -(-int(valid.sum()) // MAX_POINTS)]
    line = {
        "turning_point": best.tolist(),
        "cost": float(flow.cost),
        "gram": np.asarray(m.gram).tolist(),
        "x": x[drawn].tolist(),
        "y": y[drawn].tolist(),
        "limits": np.stack([best - half, best + half], axis=1).tolist(),
        "labels": labels,
    }
    rates = np.asarray(flow.rates)
    return {
        "line": line,
        "theta": given.tolist(),
        "learning_rate": float(0.2 / rates[1] if learning_rate is None else learning_rate),
        "friction": float(np.sqrt(rates[0]) if friction is None else friction),
        "inertia": friction is not None,
        "steps": STEPS,
    }
