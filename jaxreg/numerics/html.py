"""Small HTML tables with sparklines for notebooks: no script, no style sheet, the colors of the page."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

MAX_ROWS = 12
MAX_CHARACTERS = 40  # of a name
QUANTILES = (0.05, 0.5, 0.95)
SPREAD = ("5%", "median", "95%", "distribution")
BINS = 24
MAX_POINTS = 60  # of a curve
WIDTH, HEIGHT = 96, 18


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def are_numbers(*leaves: Any) -> bool:
    """Whether all are arrays of real numbers or booleans whose values are here, not traced or deleted."""
    return all(map(_is_numbers, leaves))


def _is_numbers(leaf: Any) -> bool:
    if isinstance(leaf, Tracer) or not isinstance(leaf, jax.Array | np.ndarray | np.generic):
        return False
    if isinstance(leaf, jax.Array) and (leaf.is_deleted() or not leaf.is_fully_addressable):
        return False
    kinds = (jnp.floating, jnp.integer, jnp.bool_)
    return any(jnp.issubdtype(leaf.dtype, kind) for kind in kinds)


def table(
    title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], notes: Sequence[str] = ()
) -> str:
    """A table whose first column is names; of many rows the first ones. Text is escaped, `Markup` is not.

    >>> table("a < b", ["", "value"], [["x", "1"]])
    '<div><p><b>a &lt; b</b></p><table><thead><tr><th></th><th>value</th></tr></thead>...</table></div>'
    """
    rows = list(rows)
    left_out = len(rows) - MAX_ROWS
    notes = [*([f"… and {left_out:,} more rows"] if left_out > 0 else []), *notes]
    head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
    body = "".join(_row(row) for row in rows[:MAX_ROWS])
    below = "".join(f"<p><small>{_escaped(note)}</small></p>" for note in notes)
    return (
        f"<div><p><b>{html.escape(title)}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}</div>"
    )


def quantities(title: str, rows: Mapping[str, np.ndarray], notes: Sequence[str] = ()) -> str:
    """A table of numbers, or of the quantiles and the histogram of each if one has more than one number."""
    if all(values.size == 1 for values in rows.values()):
        return table(title, ("", "value"), ([name, number(a.item())] for name, a in rows.items()), notes)
    return table(title, ("", *SPREAD), ([name, *spread(values)] for name, values in rows.items()), notes)


def spread(values: np.ndarray) -> list[str]:
    """Quantiles and a histogram of the finite values; of a single value itself alone."""
    if values.size == 1:
        return ["", number(values.item()), "", ""]
    finite = _finite(values)
    if not finite.size:
        return ["", "–", "", ""]
    return [*(number(q) for q in np.quantile(finite, QUANTILES)), histogram(finite)]


def number(value: float | int) -> str:
    """Four significant digits with a true minus sign; integers in full."""
    text = str(int(value)) if isinstance(value, int) else f"{value:.4g}".replace("nan", "NaN")
    return text.replace("-", "−")


def histogram(values: np.ndarray) -> Markup:
    """A histogram from the 1% to the 99% quantile; what is outside is counted in the outermost bins."""
    low, high = np.quantile(values, (0.01, 0.99))
    unit = max(abs(low), abs(high)) or 1.0  # a difference of the largest numbers would overflow
    width = high / unit - low / unit
    place = (np.clip(values, low, high) / unit - low / unit) / width if width > 0 else np.full(1, 0.5)
    counts, _ = np.histogram(place, BINS, (0, 1 + 1e-9))
    tops = HEIGHT - np.ceil(HEIGHT * counts / max(1, counts.max())).astype(int)
    step = WIDTH // BINS
    bars = "".join(f"V{top}h{step}" for top in tops)
    label = f"histogram from {number(low)} to {number(high)}"
    return _svg(label, f'<path fill="currentColor" fill-opacity=".6" d="M0 {HEIGHT}{bars}V{HEIGHT}z"/>')


def curve(values: np.ndarray, label: str) -> Markup:
    """A curve through at most 60 of the values, on a logarithmic scale if all are positive."""
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size < 2:
        return Markup("")
    steps = np.unique(finite[np.linspace(0, finite.size - 1, MAX_POINTS).astype(int)])
    heights = np.asarray(values[steps], np.float64)
    is_positive = heights.min() > 0
    heights = np.log(heights) if is_positive else heights / (np.abs(heights).max() or 1.0)
    low, high = heights.min(), heights.max()
    x = 1 + (WIDTH - 2) * steps / max(1, len(values) - 1)
    y = 1 + (HEIGHT - 2) * (high - heights) / (high - low or 1.0)
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    drawn = f'<polyline fill="none" stroke="currentColor" stroke-width="1.5" points="{points}"/>'
    return _svg(label + (", logarithmic" if is_positive else ""), drawn)


def _svg(label: str, content: str) -> Markup:
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    return Markup(f'<svg {size} role="img" aria-label="{html.escape(label)}">{content}</svg>')


def _row(cells: Sequence[str]) -> str:
    name, *values = cells
    shown = name if len(name) <= MAX_CHARACTERS else f"{name[: MAX_CHARACTERS - 1]}…"
    right = "".join(f'<td style="text-align:right;padding:0 .5em">{_escaped(a)}</td>' for a in values)
    return f'<tr><th style="text-align:left">{html.escape(shown)}</th>{right}</tr>'


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(text)


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64).ravel()
    return values[np.isfinite(values)]
