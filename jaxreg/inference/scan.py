"""The pairs of columns of x and y that are worth keeping, a tile at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Float
from jaxreg.data.column_blocks import ColumnBlocks
from jaxreg.engine import correlations
from jaxreg.engine.blocks import with_progress_bar
from jaxreg.engine.residual_columns import groups_of
from jaxreg.inference.pairs import Block, Pairs, log_pvalues, pairs_of

TILE_COLUMNS = {"cpu": 2048}  # of x and of y in one product
TILE_COLUMNS_OF_DEVICE = 8192
TILE_NUMBERS = 2**25  # of the columns of a tile
BLOCK_NUMBERS = 2**26  # of the columns of y in memory
BISECTIONS = 30  # of an interval of r
SAME = 1e-9  # log p-values of one y that are equal up to rounding, as of x that are copies of each other

Groups = list[tuple[np.ndarray, correlations.Group]]


class Scan:
    """All pairs of columns, a tile of x and of y at a time.

    Args:
        x: columns of x.
        y: columns of y.
        basis: orthonormal, of the span of (1, covariates).
        keep: as in `associate`.
    """

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

    def none(self) -> Pairs:
        """No pairs."""
        empty = Block(np.zeros((len(self.basis), 0)), 0, 0.0)
        index = np.zeros(0, int)
        return pairs_of(empty, empty, self.basis, index, index)

    def pairs(self, progress: bool) -> Iterator[Pairs]:
        """The kept pairs, in parts."""
        blocks = len(self.x.starts(self.tile)) * len(self.y.starts(self.block))
        tiles = with_progress_bar(self._tiles(), blocks, progress)
        return self._best(tiles) if self.keep == "best" else tiles

    def _tiles(self) -> Iterator[Pairs]:
        for first in self.y.starts(self.block):
            y = Block(self.y.read(first, self.block), first, self.y.rounding)
            y_groups = self._y_groups(y)
            scores = [jnp.zeros(group.values.shape[1], jnp.float32) for _, group in y_groups]
            for start in self.x.starts(self.tile):
                x = Block(self.x.read(start, self.tile), start, self.x.rounding)
                x_groups, status = groups_of(x.values, self.basis, x.rounding, start)
                self.x_status[start : start + len(status)] = status
                i, j = self._candidates(x, y, x_groups, y_groups, scores)
                yield self._kept(pairs_of(x, y, self.basis, i, j))

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
    ) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the pairs that may be kept; the scores are those of the best pairs so far."""
        if self.keep == "all":
            i, j = np.meshgrid(*(b.first + np.arange(b.values.shape[1]) for b in (x, y)))
            return i.ravel(), j.ravel()
        found = [np.zeros((2, 0), int)]
        for i, x_group in x_groups:
            for k, (j, y_group) in enumerate(y_groups):
                if self.keep == "best":
                    scores[k], taken = correlations.best(x_group, y_group, scores[k])
                else:
                    number, taken = correlations.above(x_group, y_group, self.least)
                    if not number:
                        continue
                row, column = np.divmod(np.flatnonzero(np.asarray(taken)), taken.shape[1])
                inside = (row < len(i)) & (column < len(j))
                found.append(np.stack([i[row[inside]], j[column[inside]]]))
        i, j = np.concatenate(found, axis=1)
        return i, j

    def _kept(self, pairs: Pairs) -> Pairs:
        if self.keep == "all":
            return pairs
        pairs = pairs.at(np.lexsort((pairs.x_index, pairs.y_index)))
        return pairs.at(pairs.pvalues <= (1 if self.keep == "best" else self.keep))

    def _best(self, tiles: Iterator[Pairs]) -> Iterator[Pairs]:
        """For each y the best of all tiles; those of a block of y follow each other."""
        per_block = len(self.x.starts(self.tile))
        for _ in self.y.starts(self.block):
            best = self.none()
            for _ in range(per_block):
                best = _best_of_each_y(Pairs.concatenated([best, next(tiles)]))
            yield best


def _best_of_each_y(pairs: Pairs) -> Pairs:
    """The smallest p-value of each y, the first x of several with the same."""
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
