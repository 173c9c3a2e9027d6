"""The same drawing as a web page of one file."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from jaxreg.data.output import write_whole
from jaxreg.faces.widget.notebook import SCRIPT
from jaxreg.faces.widget.state import state_of

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>body {{ font-family: sans-serif; max-width: 56rem; margin: 1rem auto; padding: 0 1rem; }}</style>
</head>
<body>
<h1>{title}</h1>
<div id="surface"></div>
<script type="module">
{script}
render({{ model: modelOf({state}), el: document.getElementById("surface") }});
</script>
</body>
</html>
"""


def write_page(
    path: str | Path,
    x: Any,
    y: Any,
    *,
    weights: Any = None,
    start: Any = None,
    learning_rate: float | None = None,
    friction: float | None = None,
    x_label: str | None = None,
    y_label: str | None = None,
    title: str = "The cost of a line, its flow and its descent",
) -> None:
    """Write the drawing of `cost_surface` as a web page: one file that loads nothing from elsewhere.

    Args:
        path: of the page; a failed write leaves no incomplete file.
        x: (n,).
        y: (n,); gaps are left out.
        weights: (n,), as in `fit`.
        start: the first θ, (intercept, slope).
        learning_rate: α at the beginning; a fifth of 1 / λmax of ∇²S if omitted.
        friction: γ at the beginning, with inertia; without if omitted.
        x_label: what x is, with units; from the attributes or the name of x if omitted.
        y_label: what y is, with units; from those of y if omitted.
        title: of the page.

    Raises:
        ValueError: if x and y are not one data set, or do not determine a line.
        FileNotFoundError: if there is no such folder.
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
    page = PAGE.format(
        title=html.escape(title),
        script=SCRIPT.read_text("utf-8"),
        state=json.dumps(state, allow_nan=False).replace("<", "\\u003c"),  # a label may hold </script>
    )
    write_whole(Path(path), lambda temporary: temporary.write_text(page, "utf-8"))
