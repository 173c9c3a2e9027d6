"""Formulas, read by formulaic for all groups together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import narwhals as nw
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
    variables = [name for name in table.frame.columns if _is_named(name, formula)]
    missing = table.missing(variables)
    data = pd.DataFrame({name: _values(table, name) for name in variables}, index=range(len(table)))
    try:  # rows with a gap are left out: transforms such as center(x) are those of the others
        matrices: Any = parsed.get_model_matrix(data[~missing], na_action="ignore")
    except FormulaicError as error:
        raise ValueError(
            f"formula {formula!r} cannot be evaluated: {error}; the columns of the frame are "
            f"{', '.join(map(repr, table.frame.columns))}"
        ) from None

    def columns(matrix: Any) -> dict[str, np.ndarray]:
        values = {str(name): np.full(len(table), np.nan) for name in matrix.columns}
        for name in matrix.columns:
            values[str(name)][~missing] = np.asarray(matrix[name], np.float64)
        return values

    y, x = columns(matrices.lhs), columns(matrices.rhs)
    intercept = x.pop(INTERCEPT, None) is not None
    if not x and not intercept:
        raise ValueError(f"formula {formula!r} has no column of x")
    return Model(list(y), list(y.values()), list(x), list(x.values()), intercept)


def _is_named(column: str, formula: str) -> bool:
    """Whether a formula has the name of a column; formulaic does not list arguments of transforms."""
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", formula) is not None


def _values(table: Table, name: str) -> Any:
    """A column for formulaic: numbers with NaN where one is missing, categories in their order."""
    import pandas as pd

    series = table.frame[name]
    if series.dtype.is_numeric():
        has_gaps = not series.dtype.is_integer() or bool(series.is_null().any())
        return table.numbers([name], "formula")[0] if has_gaps else series.to_numpy()
    native = series.to_native()
    if isinstance(native, pd.Series) and isinstance(native.dtype, pd.CategoricalDtype):
        return pd.Categorical(native)
    if isinstance(series.dtype, nw.Enum):
        return pd.Categorical(series.to_list(), categories=list(series.dtype.categories))
    return series.to_numpy()
