"""The widget of a notebook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anywidget
import traitlets

from jaxreg.faces.widget.state import state_of

SCRIPT = Path(__file__).with_name("cost_surface.js")


class _CostSurface(anywidget.AnyWidget):
    """The widget of `cost_surface`."""

    _esm = SCRIPT
    line = traitlets.Dict().tag(sync=True)
    theta = traitlets.List(traitlets.Float(), minlen=2, maxlen=2).tag(sync=True)
    learning_rate = traitlets.Float().tag(sync=True)
    steps = traitlets.Int().tag(sync=True)
    inertia = traitlets.Bool().tag(sync=True)
    friction = traitlets.Float().tag(sync=True)


def cost_surface(
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    start: Any = None,
    learning_rate: float | None = None,
    friction: float | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
) -> anywidget.AnyWidget:
    """The cost S(θ) = ⟨(y − β₀ − β₁x)²⟩ of a line as a widget: drag θ, and see descent and flow from there.

    Descent is θ ← θ − α∇S and the flow θ̇ = −∇S; with inertia v ← μv − α∇S, θ ← θ + v and θ̈ = −γθ̇ − ∇S.
    The surface is easier to read, and the descent faster, if x is centered.

    Args:
        x: (n,).
        y: (n,); gaps are left out.
        weights: (n,), as in `fit`.
        start: the first θ, (intercept, slope).
        learning_rate: α at the beginning; a fifth of 1 / λmax of ∇²S if omitted.
        friction: γ at the beginning, with inertia; without if omitted.
        x_label: what x is, with units; from the attributes or the name of x if omitted.
        y_label: what y is, with units; from those of y if omitted.

    Returns:
        The widget, which a notebook shows. Its attributes can be read, set and observed: `theta` is the start
        [intercept, slope], `learning_rate` α, `steps`, `inertia` (a bool) and `friction` γ.

    Raises:
        ValueError: if x and y are not one data set, or do not determine a line.

    >>> import numpy as np
    >>> widget = cost_surface(np.arange(3.0), np.array([1.0, 3.0, 5.0]), start=(0, 0))
    >>> widget.theta
    [0.0, 0.0]
    """
    state = state_of(
        x,
        y,
        weights=weights,
        start=start,
        learning_rate=learning_rate,
        friction=friction,
        x_label=x_label,
        y_label=y_label,
    )
    return _CostSurface(**state)
