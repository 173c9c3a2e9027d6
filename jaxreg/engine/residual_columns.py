"""Columns without what the intercept and the covariates explain, of each its own valid rows."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.engine.correlations import Group
from jaxreg.status import Status

MIN_COLUMNS = 64  # of a group, whose number of columns is padded to a power of two: few shapes compile
CACHED = 2**16  # numbers of columns that are projected at once, which stay in the cache
MAX_BASES = 2**24  # numbers of the bases of a group
MAX_GRAM = 2**25  # numbers of the Gram matrices of all pairs of columns of two groups


class Residuals(NamedTuple):
    """Residuals of columns, in units of their largest value.

    Attributes:
        values: (n, b), 0 in gaps.
        scale: the units, (b,).
        varies: whether the residuals are more than rounding errors, (b,).
    """

    values: Float[np.ndarray, "n b"]
    scale: Float[np.ndarray, "b"]
    varies: Bool[np.ndarray, "b"]

    def at(self, columns: Int[np.ndarray, "i"]) -> Residuals:
        """Some of the columns."""
        return Residuals(self.values[:, columns], self.scale[columns], self.varies[columns])


def basis_of(covariates: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n q"]:
    """An orthonormal basis of the span of (1, covariates); dependent columns add nothing to it."""
    n = len(covariates)
    constant = np.full((n, 1), 1 / np.sqrt(n))
    size = np.abs(covariates).max(axis=0, initial=0)
    scaled = covariates / np.where(size > 0, size, 1)
    centered = scaled - scaled.mean(axis=0)
    norm = np.linalg.norm(centered, axis=0)
    rounding = n * np.finfo(float).eps
    varies = norm > rounding * np.sqrt(n)
    u, s, _ = np.linalg.svd(centered[:, varies] / norm[varies], full_matrices=False)
    basis = u[:, s > rounding * s.max(initial=0)]
    return np.linalg.qr(np.concatenate([constant, basis - basis.mean(axis=0)], axis=1))[0]


def patterns_of(valid: Bool[np.ndarray, "n b"]) -> tuple[Bool[np.ndarray, "n P"], Int[np.ndarray, "b"]]:
    """The different columns of `valid`, and which of them each column is."""
    bits = np.ascontiguousarray(np.packbits(valid, axis=0).T)
    _, first, pattern = np.unique(
        bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True
    )
    return valid[:, first], pattern


def bases_of(
    masks: Bool[np.ndarray, "n P"], basis: Float[np.ndarray, "n q"]
) -> tuple[Float[np.ndarray, "P n q"], Int[np.ndarray, "P"]]:
    """For each mask an orthonormal basis of the span of the basis in its rows, 0 elsewhere, and its rank.

    B ← B V λ^{-1/2} with Bᵀ B = V λ Vᵀ; a second time, since rounding errors of the first grow with 1/λ.
    """
    if masks.shape[1] == 1 and masks.all():
        return basis[None], np.array([basis.shape[1]])
    bases, rank = _orthonormal(masks.T[:, :, None] * basis)
    return _orthonormal(bases)[0], rank


def _orthonormal(bases: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """B V λ^{-1/2}, with 0 in place of the columns that depend on others, and the number of the others."""
    eigenvalues, vectors = np.linalg.eigh(np.swapaxes(bases, 1, 2) @ bases)
    kept = eigenvalues > bases.shape[1] * np.finfo(float).eps
    root = np.where(kept, np.sqrt(np.where(kept, eigenvalues, 1)), np.inf)
    return bases @ (vectors / root[:, None, :]), kept.sum(axis=1)


def residuals_of(
    values: Float[np.ndarray, "n b"],
    valid: Bool[np.ndarray, "n b"],
    pattern: Int[np.ndarray, "b"],
    bases: Float[np.ndarray, "P n q"],
    rounding: float,
) -> Residuals:
    """The residuals x − B (Bᵀ x) of columns, projected twice for the rounding errors of the first time.

    Args:
        values: the columns.
        valid: which of their rows are valid.
        pattern: which of the bases is that of each column.
        bases: of `bases_of`.
        rounding: the relative error of the values.
    """
    n, b = values.shape
    width = max(1, CACHED // n)
    pieces = [slice(k, k + width) for k in range(0, max(b, 1), width)]
    parts = [_residuals(values[:, k], valid[:, k], pattern[k], bases) for k in pieces]
    residuals, scale, share = (np.concatenate(arrays, axis=-1) for arrays in zip(*parts, strict=True))
    return Residuals(residuals, scale, share > max(8 * np.finfo(float).eps, rounding / 2))


def _residuals(
    values: np.ndarray, valid: np.ndarray, pattern: np.ndarray, bases: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Residuals, their units, and their norm relative to that of the columns."""
    filled = values.astype(np.float64)
    if not valid.all():
        filled[~valid] = 0
    scale = np.maximum(filled.max(axis=0, initial=0), -filled.min(axis=0, initial=0))
    scale = np.where(scale > 0, scale, 1)
    filled /= scale
    size = _norm(filled)
    if len(bases) == 1:
        _project(filled, bases[0])
    else:
        for p in np.unique(pattern):
            columns = pattern == p
            filled[:, columns] = _project(filled[:, columns], bases[p])
    return filled, scale, _norm(filled) / np.where(size > 0, size, 1)


def _project(columns: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Subtract B (Bᵀ x), in place, twice."""
    for _ in range(2):
        columns -= basis @ (basis.T @ columns)
    return columns


def _norm(columns: np.ndarray) -> np.ndarray:
    return np.sqrt(np.einsum("ij,ij->j", columns, columns))


def groups_of(
    raw: Float[np.ndarray, "n b"], basis: Float[np.ndarray, "n q"], rounding: float, first: int = 0
) -> tuple[list[tuple[Int[np.ndarray, "u"], Group]], Int[np.ndarray, "b"]]:
    """The usable columns of a block as groups: those without gaps, then those with gaps, with their indices.

    Args:
        raw: the block, with NaN in gaps.
        basis: of the intercept and the covariates, in all rows.
        rounding: the relative error of the values.
        first: the index of its first column.

    Returns:
        Pairs of indices and groups, and a `Status` for every column.
    """
    infinite = np.isinf(raw).any(axis=0)
    valid = ~np.isnan(raw) & ~infinite
    nobs = valid.sum(axis=0)
    status = np.full(raw.shape[1], Status.ok.value)
    status[nobs == 0] = Status.no_observations
    status[infinite] = Status.invalid_data
    n, q = basis.shape
    is_complete = nobs == n
    with_gaps = np.flatnonzero(~is_complete & (nobs > 0))
    most = max(1, min(int(np.sqrt(MAX_GRAM) / (q + 2)), MAX_BASES // (n * q)))
    parts = [np.flatnonzero(is_complete), *(with_gaps[i : i + most] for i in range(0, len(with_gaps), most))]
    groups = []
    for columns in parts:
        if len(columns) == 0:
            continue
        masks, pattern = patterns_of(valid[:, columns])
        bases, rank = bases_of(masks, basis)
        df = masks.sum(axis=0) - rank - 1
        residuals = residuals_of(raw[:, columns], valid[:, columns], pattern, bases, rounding)
        status[columns[~residuals.varies]] = Status.rank_deficient
        status[columns[df[pattern] < 1]] = Status.too_few_observations
        usable = status[columns] == Status.ok
        if usable.any():
            group = _group(residuals.values[:, usable], pattern[usable], masks, bases, df, basis)
            groups.append((first + columns[usable], group))
    return groups, status


def _group(
    residuals: np.ndarray,
    pattern: np.ndarray,
    masks: np.ndarray,
    bases: np.ndarray,
    df: np.ndarray,
    basis: np.ndarray,
) -> Group:
    """The group of columns of norm 1, padded with zeros."""
    columns = _padded(residuals.shape[1], MIN_COLUMNS)
    patterns = _padded(masks.shape[1], 1)

    def padded(a: np.ndarray, length: int) -> np.ndarray:
        return np.pad(a, [(0, 0)] * (a.ndim - 1) + [(0, length - a.shape[-1])])

    return Group(
        values=_float32(padded(residuals / _norm(residuals), columns)),
        pattern=jnp.asarray(padded(pattern, columns), jnp.int32),
        masks=_float32(padded(masks, patterns)),
        bases=_float32(padded(np.moveaxis(bases, 0, -1), patterns)),
        df=jnp.asarray(padded(df, patterns), jnp.int32),
        basis=_float32(basis),
        has_gaps=not masks.all(),
    )


def _padded(length: int, least: int) -> int:
    return max(least, 1 << (length - 1).bit_length())


def _float32(a: np.ndarray) -> Array:
    return jnp.asarray(np.asarray(a, np.float32))
