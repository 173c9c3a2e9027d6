"""Ragged groups as arrays of few shapes: few programs are compiled, and new data mostly need none.

A group of n rows is a column of an array whose number of rows is n rounded up to a power of two. Padding is
NaN, which is a gap, and changes no result. So is a column of padding, up to a power of four of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxreg.engine.windows import padded_number

MIN_ROWS = 16
MIN_COLUMNS = 16
MAX_COLUMNS = 2**14
ELEMENTS = 2**22  # of an array at most, unless it has MIN_COLUMNS


@dataclass(frozen=True)
class Piece:
    """Some groups as the columns of arrays.

    Attributes:
        ids: the numbers of the groups, (groups,).
        rows: the number of rows of the arrays.
        width: the number of columns of the arrays.
        sources: positions of the values, (values,).
        targets: row and column of each value.
        clusters: the cluster of each row of the arrays, or None.
    """

    ids: np.ndarray
    rows: int
    width: int
    sources: np.ndarray
    targets: tuple[np.ndarray, np.ndarray]
    clusters: np.ndarray | None = None

    def array(self, values: np.ndarray) -> np.ndarray:
        """The values as an array (rows, columns) with NaN for padding."""
        padded = np.full((self.rows, self.width), np.nan, values.dtype)
        padded[self.targets] = values[self.sources]
        return padded


def pieces(starts: np.ndarray, counts: np.ndarray) -> Iterator[Piece]:
    """Pieces of groups with similar numbers of rows.

    Args:
        starts: where each group begins in the sorted rows, (groups,).
        counts: its number of rows, (groups,).
    """
    for rows, ids in _by_length(counts):
        column, row = _enumerate(counts[ids])
        sources = np.repeat(starts[ids], counts[ids]) + row
        yield Piece(ids, rows, _width(len(ids), rows), sources, (row, column))


def clustered_pieces(starts: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> Iterator[Piece]:
    """Pieces whose groups have their clusters in the same rows: the k-th largest cluster of each.

    As the k-th largest cluster of n rows has at most n / k, the arrays are at most 1 + log n times as long.

    Args:
        starts: where each group begins in the sorted rows, (groups,).
        counts: its number of rows, (groups,).
        labels: codes of the clusters of the sorted rows, (rows,).
    """
    for _, ids in _by_length(counts):
        column, row = _enumerate(counts[ids])
        position = np.repeat(starts[ids], counts[ids]) + row
        order = np.lexsort((labels[position], column))
        column, position = column[order], position[order]
        label = labels[position]
        begins = np.append(True, (np.diff(column) != 0) | (np.diff(label) != 0))[: len(label)]
        cluster_starts = np.append(np.flatnonzero(begins), len(label))
        sizes, group = np.diff(cluster_starts), column[begins]
        by_size = np.lexsort((-sizes, group))
        rank = np.empty(len(sizes), np.int64)  # 0 for the largest cluster of a group
        rank[by_size] = _enumerate(np.bincount(group, minlength=len(ids)))[1]
        longest = np.zeros(rank.max(initial=0) + 1, np.int64)
        np.maximum.at(longest, rank, sizes)
        cluster, within = _enumerate(sizes)
        rows = _power_of_two(int(longest.sum()), MIN_ROWS)
        target = np.append(0, np.cumsum(longest))[rank[cluster]] + within
        clusters = np.full(rows, len(longest))
        clusters[: longest.sum()] = np.repeat(np.arange(len(longest)), longest)
        yield Piece(ids, rows, _width(len(ids), rows), position, (target, column), clusters)


def _by_length(counts: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Numbers of rows, and the groups of an array with so many."""
    padded = np.maximum(MIN_ROWS, 1 << np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64))
    for rows in np.unique(padded):
        ids = np.flatnonzero(padded == rows)
        most = _most_columns(int(rows))
        for first in range(0, len(ids), most):
            yield int(rows), ids[first : first + most]


def _width(groups: int, rows: int) -> int:
    """A power of four of columns, or the most that an array has."""
    return max(groups, min(padded_number(groups, MIN_COLUMNS), _most_columns(rows)))


def _most_columns(rows: int) -> int:
    return min(MAX_COLUMNS, max(MIN_COLUMNS, ELEMENTS // rows))


def _power_of_two(count: int, least: int) -> int:
    return max(least, 1 << (count - 1).bit_length())


def _enumerate(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of items in runs of these lengths, the number of the run, and the number within the run."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
