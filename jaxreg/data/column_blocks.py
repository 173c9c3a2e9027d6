"""Columns of an array, read block by block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ColumnBlocks:
    """Columns whose rows are observations.

    Attributes:
        array: (n, b), an array or what is read by slicing.
        name: of the argument.
        rows: which rows are read, (n,).
        nan_policy: "omit", "mean" or "raise".
        names: of the columns, or None.
    """

    array: Any
    name: str
    rows: np.ndarray
    nan_policy: str
    names: np.ndarray | None

    @property
    def count(self) -> int:
        """The number of columns."""
        return self.array.shape[1]

    @property
    def rounding(self) -> float:
        """The relative error of the values."""
        dtype = np.dtype(self.array.dtype)
        return float(np.finfo(dtype).eps) if dtype.kind == "f" else float(np.finfo(float).eps)

    def starts(self, length: int) -> range:
        """The first columns of blocks of this length."""
        return range(0, self.count, length)

    def read(self, first: int, length: int) -> np.ndarray:
        """Columns first … first + length − 1 in the rows, as floats, with NaN where they stay gaps."""
        block = np.asarray(self.array[:, first : first + length])
        block = block if self.rows.all() else block[self.rows]
        if block.dtype.kind != "f":
            return block.astype(np.float64)
        gaps = np.isnan(block)
        if self.nan_policy == "omit" or not gaps.any():
            return np.array(block) if isinstance(self.array, np.memmap) else block
        if self.nan_policy == "raise":
            column = first + int(np.argmax(gaps.any(axis=0)))
            raise ValueError(
                f'{self.name} has NaN in column {column} and nan_policy is "raise"; "omit" leaves out these '
                'rows, "mean" fills in the mean of the column'
            )
        count = (~gaps).sum(axis=0)
        total = np.where(gaps, 0, block).sum(axis=0, dtype=np.float64)
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return np.where(gaps, mean, block)


def columns_of(array: Any, name: str) -> Any:
    """The array, (n, columns), or an error that says what to pass instead."""
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(
            f"{name} has shape {array.shape}; pass (n, columns), not empty, with observations on axis 0"
        )
    return array


def column_blocks(
    array: Any, name: str, rows: np.ndarray, nan_policy: str, names: np.ndarray | None
) -> ColumnBlocks:
    """The columns of an array, (n, columns), with these rows, or an error that says what to pass instead."""
    n = len(rows)
    if array.shape[0] != n:
        advice = f"; pass {name}.T" if array.shape[1] == n else ""
        raise ValueError(
            f"{name} has shape {array.shape}, and x has {n} rows, one for each observation{advice}"
        )
    return ColumnBlocks(array, name, rows, nan_policy, names)
