"""What all pictures share: where they are drawn, and colors that the color-blind tell apart."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

# Source: M. Okabe, K. Ito, Color Universal Design (2008).
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00"
CYCLE = (BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW)
ON_DARK = (ORANGE, SKY, PURPLE, YELLOW)
DATA = "0.35"


def axes(given: Axes | None, size: tuple[float, float] = (6.0, 4.0)) -> Axes:
    """The axes given, or new ones."""
    return plt.subplots(figsize=size, layout="constrained")[1] if given is None else given
