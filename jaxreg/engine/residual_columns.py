"""Columns without what the intercept and the covariates explain, of each its own valid rows."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxreg._typing import Array, Bool, Float, Int
from jaxreg.engine.correlations import Group
from jaxreg.status import Status

MIN_COLUMNS = 64  # of a group, whose number of columns is padded to a power of two: few shapes compile
MAX_BASES = 2**24  # numbers of the bases of a group
MAX_GRAM = 2**25  # numbers of the Gram matrices of all pairs of columns of two groups


class Residuals(NamedTuple):
    """Residuals of columns, in units of their largest value.

    Attributes:
        values: (n, b), 0 in gaps.
        scale: the units, (b,).
        varies: whether the residuals are more than rounding errors, (b,).
    """

    values: Float[Array, "n b"]
    scale: Float[Array, "b"]
    varies: Bool[Array, "b"]


def basis_of(covariates: Float[Array, "n c"]) -> Float[Array, "n q"]:
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


def patterns_of(valid: Bool[Array, "n b"]) -> tuple[Bool[Array, "n P"], Int[Array, "b"]]:
    """The different columns of `valid`, and which of them each column is."""
    bits = np.ascontiguousarray(np.packbits(valid, axis=0).T)
    _, first, pattern = np.unique(
        bits.view(f"V{bits.shape[1]}")[:, 0], return_index=True, return_inverse=True
    )
    return valid[:, first], pattern


def bases_of(
    masks: Bool[Array, "n P"], basis: Float[Array, "n q"]
) -> tuple[Float[Array, "P n q"], Int[Array, "P"]]:
    """For each mask an orthonormal basis of the span of the basis in its rows, 0 elsewhere, and its rank.

    B ← B V λ^{-1/2} with Bᵀ B = V λ Vᵀ; a second time, since rounding errors of the first grow with 1/λ.
    """
    if masks.shape[1] == 1 and masks.all():
        return basis[None], np.array([basis.shape[1]])
    bases = masks.T[:, :, None] * basis
    rounding = len(basis) * np.finfo(float).eps
    for _ in range(2):
        eigenvalues, vectors = np.linalg.eigh(np.swapaxes(bases, 1, 2) @ bases)
        kept = eigenvalues > rounding
        root = np.where(kept, np.sqrt(np.where(kept, eigenvalues, 1)), np.inf)
        bases = bases @ (vectors / root[:, None, :])
    return bases, kept.sum(axis=1)


def residuals_of(
    values: Float[Array, "n b"],
    valid: Bool[Array, "n b"],
    pattern: Int[Array, "b"],
    bases: Float[Array, "P n q"],
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
    filled = np.where(valid, values, 0).astype(np.float64)
    scale = np.abs(filled).max(axis=0, initial=0)
    scale = np.where(scale > 0, scale, 1)
    filled /= scale
    size = np.linalg.norm(filled, axis=0)
    mean = filled.sum(axis=0) / np.maximum(valid.sum(axis=0), 1)
    filled -= np.where(valid, mean, 0)
    for p, basis in enumerate(bases):
        columns = slice(None) if len(bases) == 1 else pattern == p
        for _ in range(2):
            filled[:, columns] -= basis @ (basis.T @ filled[:, columns])
    tolerance = max(8 * np.finfo(float).eps, rounding / 2)
    return Residuals(filled, scale, np.linalg.norm(filled, axis=0) > tolerance * size)


def groups_of(
    raw: Float[Array, "n b"], basis: Float[Array, "n q"], rounding: float, first: int = 0
) -> tuple[list[tuple[Int[Array, "u"], Group]], Int[Array, "b"]]:
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
        values=_float32(padded(residuals / np.linalg.norm(residuals, axis=0), columns)),
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
