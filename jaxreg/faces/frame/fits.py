"""`fit`: a regression per group of the rows of a data frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jaxreg.ansatz import Linear, Polynomial
from jaxreg.cost import Cost, mean_squared_error
from jaxreg.data.source import constant_of
from jaxreg.engine.sandwich import Covariance
from jaxreg.faces.frame.formulas import Model
from jaxreg.faces.frame.inputs import model_of_arguments, weights_of
from jaxreg.faces.frame.padding import Piece, clustered_pieces, pieces
from jaxreg.faces.frame.statistics import Columns, tidy_columns, wide_columns
from jaxreg.faces.frame.table import Groups, Named, Table, check_apart, names_of
from jaxreg.fitting import fit as fit_arrays
from jaxreg.inference.covariance import Cluster
from jaxreg.inference.result import Fit


def fit(
    df: Any,
    y: str | Sequence[str] | None = None,
    x: str | Sequence[str] | None = None,
    by: str | Sequence[str] | None = None,
    *,
    formula: str | None = None,
    intercept: bool = True,
    weights: str | None = None,
    groups: str | None = None,
    cost: Cost = mean_squared_error,
    cov_type: str | Covariance = "nonrobust",
    use_t: bool | None = None,
    tidy: bool = False,
    alpha: float = 0.05,
) -> Any:
    """Fit y = θ₀ + θ₁ x₁ + … + θ_k x_k to every group of the rows of a data frame.

    Groups may have any number of rows: the rows of a group become a data set of `jaxreg.fit`, padded with
    gaps, which change no result.

    Args:
        df: a data frame of pandas, polars, pyarrow, or of another kind that narwhals reads. Results are
            float32 if all columns of y and x are, and float64 otherwise.
        y: the column of the response, or a list of several, each fitted on its own.
        x: the column of x, or a list of columns.
        by: the columns whose values make a group; one group of all rows if omitted.
        formula: in place of y and x, for formulaic, such as "y ~ x + C(z)". It is evaluated once for all
            rows: the categories of z, and functions such as `center` or `poly`, are those of the whole frame.
            A category that a group lacks is a column of zeros, and the group `rank_deficient`.
        intercept: whether to include θ₀; a formula says so itself.
        weights: the column of inverse variances.
        groups: the column of clusters, within which errors correlate. Each group is fitted with its own.
        cost: as for `jaxreg.fit`, for example `jaxreg.Poisson()`.
        cov_type: "nonrobust", "HC0" to "HC3", or `HAC(maxlags)` with the rows in the order of time.
        use_t: whether params are tested with Student's t, as for `jaxreg.fit`.
        tidy: whether to return a row for each param instead of columns for each.
        alpha: 1 − the confidence of conf_low and conf_high, with `tidy`.

    Returns:
        A frame of the same kind, with the columns `by` and a row for each group, sorted by them. If y is a
        list, the column `y` names the response, and the rows of a group are together. Columns are those of
        `Fit.to_pandas`: each param, its _bse, _tvalue and _pvalue, then nobs, rsquared and so on, with
        status as the name of a `Status`. With `tidy` they are term, estimate, std_error, statistic,
        p_value, conf_low, conf_high, nobs and status.

        Null and NaN in y, x or weights are gaps of that row alone. A group that cannot be fitted has NaN, a
        status that says why, and does not affect the others. Rows with a null in a column of `by` are a
        group of their own, as in polars, and left out of a frame of pandas, as its groupby does.

    Raises:
        ValueError, TypeError: if a column does not exist, is not of numbers, or is in two arguments.

    >>> import pandas as pd
    >>> df = pd.DataFrame({"site": list("aaaabbb"), "year": [0, 1, 2, 3, 0, 1, 2]})
    >>> df["gdp"] = [1.0, 3.0, 5.0, 6.0, 0.0, None, 2.0]
    >>> print(fit(df, y="gdp", x="year", by="site")[["site", "year", "year_bse", "nobs", "status"]].round(3))
      site  year  year_bse  nobs     status
    0    a   1.7     0.173     4         ok
    1    b   1.0       NaN     2  exact_fit
    >>> print(fit(df, y="gdp", x="year", tidy=True)[["term", "estimate", "std_error", "p_value"]].round(3))
            term  estimate  std_error  p_value
    0  intercept     0.591      0.789    0.496
    1       year     1.682      0.456    0.021
    """
    table, by_names = Table.of(df), names_of(by, "by")
    model, dtype = model_of_arguments(table, y, x, formula, intercept)
    weight = weights_of(table, weights)
    _check_clusters(cov_type, groups)
    rows = table.groups(by_names)
    if not len(rows):
        raise ValueError(f"df has no rows with a value in {', '.join(by_names)}")
    labels = None if groups is None else _labels(table, groups)
    several = not isinstance(y, str) if formula is None else len(model.y) > 1
    check_apart(by=by_names, y=model.y_names, x=model.x_names)
    check_apart(by=by_names, weights=names_of(weights, "weights"))
    columns, names = Columns(len(rows) * len(model.y)), ()
    options = {"cost": cost, "use_t": use_t, "cov_type": cov_type}
    for ids, fitted in _fits(rows, labels, model, weight, dtype, options):
        columns.set(ids, tidy_columns(fitted, alpha) if tidy else wide_columns(fitted), len(ids))
        names = fitted.names
    result = columns.tidy(names) if tidy else columns.wide()
    return _frame(table, rows, by_names, model.y_names if several else None, result)


def _check_clusters(cov_type: Any, groups: str | None) -> None:
    """Raise unless clusters are given as a column."""
    if isinstance(cov_type, Cluster):
        raise ValueError('pass the column of clusters, groups="column", in place of cov_type=Cluster(…)')
    if groups is None:
        return
    if not isinstance(groups, str):
        raise TypeError(
            f"groups is the name of one column, got {groups!r}; two-way clusters are not supported"
        )
    if cov_type not in ("nonrobust", "cluster"):
        raise ValueError("groups= is a covariance of its own: omit cov_type")


def _labels(table: Table, groups: str) -> np.ndarray:
    """The code of the cluster of each row."""
    labels = table.codes(groups, "groups")
    if (labels < 0).any():
        raise ValueError(
            f"groups has {(labels < 0).sum()} missing labels in column {groups!r}: give these rows a label, "
            "or leave them out"
        )
    return labels


def _pieces(rows: Groups, labels: np.ndarray | None) -> Iterator[Piece]:
    if labels is None:
        return pieces(rows.starts[:-1], rows.counts)
    return clustered_pieces(rows.starts[:-1], rows.counts, rows.sort(labels))


def _fits(
    rows: Groups,
    labels: np.ndarray | None,
    model: Model,
    weights: np.ndarray | None,
    dtype: np.dtype,
    options: dict[str, Any],
) -> Iterator[tuple[np.ndarray, Fit]]:
    """Fits of groups, and their numbers, of which a group has one for each response.

    Columns of padding have no observations; they are the last ones and have no number.
    """
    y, x = ([np.asarray(rows.sort(a), dtype) for a in columns] for columns in (model.y, model.x))
    sorted_weights = None if weights is None else rows.sort(weights)
    ansatz = Linear(intercept=model.intercept, names=tuple(model.x_names)) if x else Polynomial(0)
    # A column that is constant in all rows is constant in each group.
    constant = None if model.intercept or not x else constant_of(np.stack(model.x, axis=1))
    for piece in _pieces(rows, labels):
        design = piece.arrays(x) if x else np.zeros(piece.rows)
        w = None if sorted_weights is None else piece.array(sorted_weights)
        own = options if piece.clusters is None else {**options, "cov_type": Cluster(piece.clusters)}
        for i, response in enumerate(y):
            fitted = fit_arrays(design, piece.array(response), weights=w, ansatz=ansatz, **own)
            if constant is not None:
                fitted = Fit(replace(fitted._fitted, constant=constant), fitted.ansatz)
            yield piece.ids * len(y) + i, fitted


def _frame(
    table: Table, rows: Groups, by: list[str], responses: list[str] | None, columns: dict[str, Any]
) -> Any:
    """The frame of the results: by, the name of the response if there may be several, and the columns."""
    count = len(columns["nobs"]) // len(rows)  # rows of the result for a group
    if responses is not None:
        if "y" in columns:
            raise ValueError("a param is called 'y', as the column of responses: rename this column of x")
        codes = np.tile(np.repeat(np.arange(len(responses)), count // len(responses)), len(rows))
        columns = {"y": Named(codes, responses), **columns}
    first = rows.rows(rows.starts[:-1]) if by else np.zeros(0, np.int64)
    return table.result(np.repeat(first, count), by, columns)
