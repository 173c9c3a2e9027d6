"""Axes, colors, number formats and checks of arguments that all pictures share."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from jaxreg.inference.result import Fit
from jaxreg.status import Status

# Colors that color-blind readers can distinguish.
# Source: M. Okabe, K. Ito, Color Universal Design (2008).
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
ON_DARK = (ORANGE, SKY, PURPLE, YELLOW)
MARKERS = ("o", "s", "^", "D", "v", "P")  # and styles, for readers without colors
STYLES = ("-", "--", "-.", ":")


def axes(given: Axes | None, size: tuple[float, float] = (5.0, 3.6)) -> Axes:
    """The axes given, or new ones; the text of new ones is readable at half their size."""
    return plt.subplots(figsize=size, layout="constrained")[1] if given is None else given


def ink(ax: Axes) -> Any:
    """The color of the labels of the axes, dark on light axes and light on dark ones."""
    return ax.xaxis.label.get_color()


def paper(ax: Axes) -> Any:
    """The color behind what is drawn into the axes."""
    own, figure = ax.get_facecolor(), ax.get_figure(root=True)
    return own if figure is None or to_rgba(own)[3] > 0.5 else figure.get_facecolor()


def color_on(ax: Axes, color: str) -> str:
    """The color, with the light and the dark blue exchanged on dark axes."""
    red, green, blue, _ = to_rgba(paper(ax))
    is_dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.4
    return {BLUE: SKY, SKY: BLUE}.get(color, color) if is_dark else color


def colors(ax: Axes, count: int, cycle: tuple[str, ...] = CYCLE) -> list[str]:
    """So many colors, repeating after the last."""
    return [color_on(ax, cycle[k % len(cycle)]) for k in range(count)]


def number(value: Any, digits: int = 3) -> str:
    """A number of so many digits with a true minus sign, as in the tick labels of matplotlib."""
    return f"{float(value):.{digits}g}".replace("-", "−")


def need(kind: type, value: Any, expected: str) -> None:
    """Raise a TypeError that says what was expected and what came."""
    if not isinstance(value, kind):
        raise TypeError(f"{expected}; got {type(value).__name__}")


def need_fit(value: Any, function: str) -> None:
    """Raise a TypeError unless the value is a `Fit`."""
    need(Fit, value, f"{function} draws a Fit, such as jaxreg.fit(x, y)")


def numbers(values: Any, name: str) -> np.ndarray:
    """The values as an array of floats or integers; a TypeError if they hold anything else."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} holds {array.dtype}; pass numbers")
    return array


def write_status(ax: Axes, status: Any) -> None:
    """Name the status of a data set that is not `ok` in its axes: the reason why no curve is drawn."""
    code = Status(int(status))
    if code is not Status.ok:
        box = {"boxstyle": "square,pad=0.2", "fc": paper(ax), "ec": "none", "alpha": 0.8}
        ax.text(0.5, 0.95, code.name, transform=ax.transAxes, ha="center", va="top", bbox=box)
