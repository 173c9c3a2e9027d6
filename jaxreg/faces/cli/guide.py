"""`jaxreg tour`: the steps of the tour in the terminal, and their pictures."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import matplotlib as mpl
from rich.console import Console

from jaxreg.data.output import UserError, write_whole
from jaxreg.faces.tour import Step, steps


def tour(plots: Path | None) -> None:
    """Print the steps, and draw them if a folder is given."""
    if plots is not None and plots.exists() and not plots.is_dir():
        raise UserError(f"--plots takes a folder, and {plots} is a file")
    if plots is not None:
        plots.mkdir(parents=True, exist_ok=True)
    console = Console(highlight=False)
    with console.status("compiling step 1") as progress:
        for number, step in enumerate(steps(), start=1):
            console.print(f"[bold]{number}. {step.title}[/bold]")
            for line in step.lines:
                console.print(f"   {line}", soft_wrap=True, markup=False)
            if plots is not None:
                progress.update(f"drawing {step.name}.png")
                write_whole(plots / f"{step.name}.png", partial(_draw, step))
            progress.update(f"compiling step {number + 1}")


def _draw(step: Step, path: Path) -> None:
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    step.draw()
    plt.savefig(path, dpi=120, format="png")
    plt.close("all")
