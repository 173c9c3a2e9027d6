"""The result of `associate`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxreg._typing import Float, Int
from jaxreg.inference.pairs import Pairs
from jaxreg.status import Status, named_counts

COLUMNS = ("slope", "bse", "tvalue", "pvalue", "log10_pvalue", "r", "nobs", "df_resid")


@dataclass(frozen=True, eq=False, repr=False)
class Association:
    """Regressions of columns of y on columns of x: an entry for each kept pair, by y and then by x.

    Attributes:
        x_index: the column of x, (pairs,).
        y_index: the column of y, (pairs,).
        slope: units of y / units of x, (pairs,).
        bse: standard error of the slope, (pairs,).
        tvalues: slope / bse, (pairs,).
        pvalues: P(|T| > |t|), (pairs,).
        log10_pvalues: its logarithm, finite where the p-value underflows to 0, (pairs,).
        r: partial correlation of x and y given the covariates, (pairs,).
        nobs: rows in which x, y and the covariates are valid, (pairs,).
        df_resid: nobs − rank of (1, covariates) − 1, (pairs,).
        kept: number of kept pairs; those that were written to a file are counted here, and arrays are empty.
        x_status: `Status` codes of the columns of x, (k,).
        y_status: `Status` codes of the columns of y, (m,).
        x_names: names of the columns of x, (k,), or None.
        y_names: names of the columns of y, (m,), or None.
        dropped_rows: number of rows that were left out since a covariate is NaN.
    """

    x_index: Int[np.ndarray, "pairs"]
    y_index: Int[np.ndarray, "pairs"]
    slope: Float[np.ndarray, "pairs"]
    bse: Float[np.ndarray, "pairs"]
    tvalues: Float[np.ndarray, "pairs"]
    pvalues: Float[np.ndarray, "pairs"]
    log10_pvalues: Float[np.ndarray, "pairs"]
    r: Float[np.ndarray, "pairs"]
    nobs: Int[np.ndarray, "pairs"]
    df_resid: Int[np.ndarray, "pairs"]
    kept: int
    x_status: Int[np.ndarray, "k"]
    y_status: Int[np.ndarray, "m"]
    x_names: np.ndarray | None
    y_names: np.ndarray | None
    dropped_rows: int

    @property
    def ntests(self) -> int:
        """The number of pairs of columns that can be tested, for adjustments such as Bonferroni's."""
        return int(np.sum(self.x_status == Status.ok)) * int(np.sum(self.y_status == Status.ok))

    def describe(self) -> str:
        """The numbers of kept pairs and of tests, and what became of the columns.

        `rank_deficient` columns are constant or a combination of covariates; `invalid_data` have infinite
        values.
        """
        lines = [f"{self.kept:,} pairs kept of {self.ntests:,} tests"]
        for name, status in (("x", self.x_status), ("y", self.y_status)):
            lines.append(f"columns of {name}: {named_counts(status)}")
        if self.dropped_rows:
            lines.append(f"rows left out for a gap in a covariate: {self.dropped_rows}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Association: {self.describe()}"

    def to_pandas(self) -> Any:
        """A pandas table with a row per pair; x and y are names of columns, or indices without names."""
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                'to_pandas needs pandas: python -m pip install "jaxreg[frame]"'
            ) from None
        pairs = Pairs(*(getattr(self, name) for name in Pairs._fields))
        return pd.DataFrame(table_of(pairs, self.x_names, self.y_names))


def table_of(pairs: Pairs, x_names: np.ndarray | None, y_names: np.ndarray | None) -> dict[str, Any]:
    """The columns of a table of pairs."""
    x, y = (
        index if names is None else names[index]
        for index, names in ((pairs.x_index, x_names), (pairs.y_index, y_names))
    )
    return {"x": x, "y": y, **dict(zip(COLUMNS, pairs[2:], strict=True))}
