"""The pairs of columns of x and y that are worth keeping, a tile at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Float, not_none
from jaxreg.data.column_blocks import ColumnBlocks
from jaxreg.engine import correlations
from jaxreg.engine.blocks import with_progress_bar
from jaxreg.engine.residual_columns import groups_of
from jaxreg.inference.pairs import NONE, Block, Pairs, log_pvalues, pairs_of

TILE_COLUMNS = {"cpu": 2048}  # of x and of y in one product
TILE_COLUMNS_OF_DEVICE = 8192
TILE_NUMBERS = 2**25  # of the columns of a tile
BLOCK_NUMBERS = 2**26  # of the columns of y in memory
BISECTIONS = 30  # of an interval of r
SAME = 1e-9  # log p-values of one y that are equal up to rounding, as of x that are copies of each other

Groups = list[tuple[np.ndarray, correlations.Group]]


class Tile(NamedTuple):
    """The pairs of a tile of x and a block of y that may be kept.

    Attributes:
        x: the columns of x; None for the best pairs, which are chosen later and read again.
        y: the columns of y.
        i: columns of x.
        j: columns of y.
        limit: an upper bound of the score of the best pair of the tile, for the y of each pair.
        score: a lower bound of the score of the best pair of this and former tiles, for each y.
    """

    x: Block | None
    y: Block
    i: np.ndarray
    j: np.ndarray
    limit: np.ndarray
    score: np.ndarray


class Scan:
    """All pairs of columns, a tile of x and a block of y at a time.

    Args:
        x: columns of x.
        y: columns of y.
        basis: orthonormal, of the span of (1, covariates).
        keep: as in `associate`.
    """

    x: ColumnBlocks
    y: ColumnBlocks
    basis: np.ndarray
    keep: str | float
    x_status: np.ndarray  # of the columns that were read
    y_status: np.ndarray
    tile: int  # columns of x, and of y in one product
    block: int  # columns of y in memory
    least: np.ndarray | None  # the |r| of the bound for each number of degrees of freedom

    def __init__(self, x: ColumnBlocks, y: ColumnBlocks, basis: Float[np.ndarray, "n q"], keep: str | float):
        self.x, self.y, self.basis, self.keep = x, y, basis, keep
        self.x_status = np.zeros(x.count, int)
        self.y_status = np.zeros(y.count, int)
        n = len(basis)
        platform = next(iter(jnp.zeros(()).devices())).platform
        most = min(TILE_COLUMNS.get(platform, TILE_COLUMNS_OF_DEVICE), max(1, TILE_NUMBERS // n))
        self.tile = 1 << (most.bit_length() - 1)
        self.block = max(self.tile, BLOCK_NUMBERS // n // self.tile * self.tile)
        self.least = _least_correlations(keep, n) if not isinstance(keep, str) else None

    def pairs(self, progress: bool) -> Iterator[Pairs]:
        """The kept pairs, in parts, of which there is at least one."""
        blocks = len(self.x.starts(self.tile)) * len(self.y.starts(self.block))
        tiles = with_progress_bar(self._tiles(), blocks, progress)
        return self._best(tiles) if self.keep == "best" else self._all(tiles)

    def _tiles(self) -> Iterator[Tile]:
        for first in self.y.starts(self.block):
            y = Block(self.y.read(first, self.block), first, self.y.rounding)
            y_groups = self._y_groups(y)
            scores = [jnp.zeros(group.values.shape[1], jnp.float32) for _, group in y_groups]
            for start in self.x.starts(self.tile):
                x = self._x_block(start)
                x_groups, status = groups_of(x.values, self.basis, x.rounding, start)
                self.x_status[start : start + len(status)] = status
                candidates = self._candidates(x, y, x_groups, y_groups, scores)
                yield Tile(None if self.keep == "best" else x, y, *candidates)

    def _x_block(self, start: int) -> Block:
        return Block(self.x.read(start, self.tile), start, self.x.rounding)

    def _y_groups(self, y: Block) -> Groups:
        groups = []
        for start in range(0, y.values.shape[1], self.tile):
            tile = y.values[:, start : start + self.tile]
            of_tile, status = groups_of(tile, self.basis, y.rounding, y.first + start)
            self.y_status[y.first + start : y.first + start + len(status)] = status
            groups += of_tile
        return groups

    def _candidates(
        self, x: Block, y: Block, x_groups: Groups, y_groups: Groups, scores: list[Any]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The fields of `Tile` from i on; the scores are those of the best pairs so far."""
        least = np.zeros(y.values.shape[1], np.float32)
        if self.keep == "all":
            i, j = np.meshgrid(*(b.first + np.arange(b.values.shape[1]) for b in (x, y)))
            return i.ravel(), j.ravel(), np.zeros(i.size), least
        found, limits = [np.zeros((2, 0), int)], [np.zeros(0, np.float32)]
        for i, x_group in x_groups:
            for k, (j, y_group) in enumerate(y_groups):
                if self.keep == "best":
                    scores[k], limit, taken = correlations.best(x_group, y_group, scores[k])
                    least[j - y.first] = np.asarray(scores[k])[: len(j)]
                else:
                    taken = correlations.above(x_group, y_group, self.least)
                    limit = np.zeros(taken.shape[1], np.float32)
                row, column = np.divmod(np.flatnonzero(np.asarray(taken)), taken.shape[1])
                inside = (row < len(i)) & (column < len(j))
                row, column = row[inside], column[inside]
                found.append(np.stack([i[row], j[column]]))
                limits.append(np.asarray(limit)[column])
        i, j = np.concatenate(found, axis=1)
        return i, j, np.concatenate(limits), least

    def _all(self, tiles: Iterator[Tile]) -> Iterator[Pairs]:
        """All candidates, or those that are below the bound."""
        for x, y, i, j, *_ in tiles:
            pairs = pairs_of(not_none(x), y, self.basis, i, j)
            pairs = pairs.at(np.lexsort((pairs.x_index, pairs.y_index)))
            yield pairs if self.keep == "all" else pairs.at(pairs.pvalues <= self.keep)

    def _best(self, tiles: Iterator[Tile]) -> Iterator[Pairs]:
        """The best of each y, among the candidates that are left after all of x."""
        starts = self.x.starts(self.tile)
        for _, of_block in itertools.groupby(tiles, lambda tile: tile.y.first):
            *_, last = parts = list(of_block)
            best = NONE
            for start, (_, y, i, j, limit, _) in zip(starts, parts, strict=True):
                left = limit >= last.score[j - y.first]
                if left.any():
                    pairs = pairs_of(self._x_block(start), y, self.basis, i[left], j[left])
                    best = _best_of_each_y(Pairs.concatenated([best, pairs]))
            yield best


def _best_of_each_y(pairs: Pairs) -> Pairs:
    """The smallest p-value of each y, the first x of several with the same."""
    pairs = pairs.at(~np.isnan(pairs.pvalues))
    pairs = pairs.at(np.lexsort((pairs.x_index, pairs.y_index)))
    if not len(pairs.slope):
        return pairs
    _, first, which = np.unique(pairs.y_index, return_index=True, return_inverse=True)
    smallest = np.minimum.reduceat(pairs.log10_pvalues, first)
    near = np.flatnonzero(pairs.log10_pvalues <= (smallest * (1 - SAME))[which])
    _, first = np.unique(pairs.y_index[near], return_index=True)
    return pairs.at(near[first])


def _least_correlations(pvalue: float, n: int) -> np.ndarray:
    """The |r| of this p-value for 0 to n degrees of freedom by bisection, up to float32; infinite for 0."""
    df = np.arange(1, n + 1)
    low, high = np.zeros(n), np.ones(n)
    for _ in range(BISECTIONS):
        r = (low + high) / 2
        t = r * np.sqrt(df / ((1 - r) * (1 + r)))
        is_larger = log_pvalues(t, df) > np.log(pvalue)
        low, high = np.where(is_larger, r, low), np.where(is_larger, high, r)
    return np.concatenate([[np.inf], low * (1 - 1e-6)]).astype(np.float32)
