"""Arguments that all functions of data frames share: responses, columns of x, and weights."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxreg.faces.frame.formulas import Model, model_of
from jaxreg.faces.frame.table import Table, names_of


def model_of_arguments(
    table: Table, y: Any, x: Any, formula: str | None, intercept: bool
) -> tuple[Model, np.dtype]:
    """Responses and columns of x, and the dtype of the results."""
    if formula is not None:
        used = [name for name, columns in (("y", y), ("x", x)) if columns is not None]
        return model_of(table, formula, used), np.dtype(np.float64)
    y_names, x_names = names_of(y, "y"), names_of(x, "x")
    if not y_names or not x_names:
        raise ValueError('name the columns y= and x=, or pass formula="y ~ x"')
    if "intercept" in x_names:
        raise ValueError("the column 'intercept' of x has the name of a param: rename it")
    columns = table.numbers(y_names, "y"), table.numbers(x_names, "x")
    return Model(y_names, columns[0], x_names, columns[1], intercept), table.dtype([*y_names, *x_names])


def weights_of(table: Table, weights: str | None) -> np.ndarray | None:
    """The weight of each row, 0 where it is missing; None without weights."""
    if weights is None:
        return None
    (values,) = table.numbers([weights], "weights")
    return np.where(np.isnan(values), 0, values)
