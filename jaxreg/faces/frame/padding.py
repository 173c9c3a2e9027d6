"""Ragged groups as arrays of few shapes: few programs are compiled, and new data mostly need none.

A group of n rows is a column of an array whose number of rows is n rounded up to a power of two. Padding is
NaN, which is a gap, and changes no result. So are columns of padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from jaxreg.engine.tiles import few_widths

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
        sources: positions of the values in the sorted rows, or a slice of them.
        targets: where they go in an array (columns, rows): flags, or column and row of each.
        clusters: the cluster of each row of the arrays, or None.
        are_even: whether all groups have the same number of values, in their order.
    """

    ids: np.ndarray
    rows: int
    width: int
    sources: np.ndarray | slice
    targets: np.ndarray | tuple[np.ndarray, np.ndarray]
    clusters: np.ndarray | None = None
    are_even: bool = False

    def array(self, values: np.ndarray) -> np.ndarray:
        """The values as an array (rows, columns) with NaN for padding."""
        return self.arrays([values])[:, 0]

    def arrays(self, columns: list[np.ndarray]) -> np.ndarray:
        """Columns of a frame as an array (rows, number of columns, columns) with NaN for padding.

        The rows of a group are together in memory, as in the sorted frame: the fit transposes a few columns
        at a time, while they are in cache.
        """
        padded = np.empty((len(columns), self.width, self.rows), columns[0].dtype)
        for target, values in zip(padded, columns, strict=True):
            self._fill(target, values[self.sources])
        return padded.transpose(2, 0, 1)

    def _fill(self, target: np.ndarray, values: np.ndarray) -> None:
        count, n = len(self.ids), len(values) // max(len(self.ids), 1)
        if self.are_even:  # twice as fast as flags
            target[:count, :n] = values.reshape(count, n)
            target[:count, n:] = np.nan
            target[count:] = np.nan
        else:
            target.fill(np.nan)
            target[self.targets] = values


def pieces(starts: np.ndarray, counts: np.ndarray) -> Iterator[Piece]:
    """Pieces of groups with similar numbers of rows.

    Args:
        starts: where each group begins in the sorted rows, (groups,).
        counts: its number of rows, (groups,).
    """
    for rows, width, ids in _by_length(counts):
        own = np.zeros(width, np.int64)
        own[: len(ids)] = counts[ids]
        targets = np.arange(rows) < own[:, None]
        if (starts[ids[1:]] == starts[ids[:-1]] + counts[ids[:-1]]).all():
            sources = slice(starts[ids[0]], starts[ids[-1]] + counts[ids[-1]])
        else:
            sources = np.repeat(starts[ids], counts[ids]) + _enumerate(counts[ids])[1]
        yield Piece(ids, rows, width, sources, targets, are_even=bool((own[: len(ids)] == own[0]).all()))


def clustered_pieces(starts: np.ndarray, counts: np.ndarray, labels: np.ndarray) -> Iterator[Piece]:
    """Pieces whose groups have their clusters in the same rows: the k-th largest cluster of each.

    As the k-th largest cluster of n rows has at most n / k, the arrays are at most 1 + log n times as long.

    Args:
        starts: where each group begins in the sorted rows, (groups,).
        counts: its number of rows, (groups,).
        labels: codes of the clusters of the sorted rows, (rows,).
    """
    for _, width, ids in _by_length(counts):
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
        yield Piece(ids, rows, width, position, (column, target), clusters)


def _by_length(counts: np.ndarray) -> Iterator[tuple[int, int, np.ndarray]]:
    """Numbers of rows and of columns, and the groups of an array of this shape."""
    padded = np.maximum(MIN_ROWS, 1 << np.ceil(np.log2(np.maximum(counts, 1))).astype(np.int64))
    for rows in np.unique(padded):
        ids = np.flatnonzero(padded == rows)
        most = min(MAX_COLUMNS, max(MIN_COLUMNS, ELEMENTS // int(rows)))
        for first, last, width in few_widths(len(ids), MIN_COLUMNS, most):
            yield int(rows), width, ids[first:last]


def _power_of_two(count: int, least: int) -> int:
    return max(least, 1 << (count - 1).bit_length())


def _enumerate(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of items in runs of these lengths, the number of the run, and the number within the run."""
    run = np.repeat(np.arange(len(counts)), counts)
    return run, np.arange(len(run)) - np.repeat(np.cumsum(counts) - counts, counts)
