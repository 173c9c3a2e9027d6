"""Formulas, read by formulaic for all groups together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxreg.faces.frame.table import Table

INTERCEPT = "Intercept"


@dataclass(frozen=True)
class Model:
    """The responses and the columns of x of all rows, NaN where a variable is missing.

    Attributes:
        y_names: of the responses.
        y: the responses, (rows,) each.
        x_names: of the columns of x, without the intercept.
        x: the columns of x, (rows,) each.
        intercept: whether there is one.
    """

    y_names: list[str]
    y: list[np.ndarray]
    x_names: list[str]
    x: list[np.ndarray]
    intercept: bool


def model_of(table: Table, formula: str, used: Sequence[str]) -> Model:
    """Evaluate a formula such as "y ~ x + C(z)".

    Args:
        table: with its variables.
        formula: as formulaic reads it.
        used: names of other arguments, for which a clear error is raised.
    """
    try:
        import pandas as pd
        from formulaic import Formula
        from formulaic.errors import FormulaicError
    except ModuleNotFoundError:
        raise ModuleNotFoundError('formula= needs formulaic: python -m pip install "jaxreg[frame]"') from None
    if used:
        raise ValueError(f"formula names the columns of y and x; omit {' and '.join(used)}")
    try:
        parsed: Any = Formula(formula)  # pyright: ignore
    except FormulaicError as error:
        raise ValueError(f"formula {formula!r} cannot be read: {error}") from None
    if not hasattr(parsed, "lhs"):
        raise ValueError(f"formula {formula!r} has no response: write y ~ {formula}")
    variables = [v for v in map(str, parsed.required_variables) if v in table.frame.columns]
    data = pd.DataFrame({name: _values(table, name) for name in variables}, index=range(len(table)))
    try:
        matrices: Any = parsed.get_model_matrix(data, na_action="ignore")
    except FormulaicError as error:
        raise ValueError(
            f"formula {formula!r} cannot be evaluated: {error}; the columns of the frame are "
            f"{', '.join(map(repr, table.frame.columns))}"
        ) from None
    missing = table.missing(variables)

    def columns(matrix: Any) -> dict[str, np.ndarray]:
        values = {str(name): np.array(matrix[name], np.float64) for name in matrix.columns}
        return {name: np.where(missing, np.nan, a) for name, a in values.items()}

    y, x = columns(matrices.lhs), columns(matrices.rhs)
    intercept = x.pop(INTERCEPT, None) is not None
    return Model(list(y), list(y.values()), list(x), list(x.values()), intercept)


def _values(table: Table, name: str) -> Any:
    """A column for formulaic: floats with NaN where it has numbers."""
    series = table.frame[name]
    if series.dtype.is_numeric():
        return table.numbers([name], "formula")[0]
    return series.to_numpy()
