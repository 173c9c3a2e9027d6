"""`associate`: every column of y on every column of x, one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
from jax.core import Tracer

from jaxreg.data.arrays import as_array
from jaxreg.data.column_blocks import column_blocks, columns_of
from jaxreg.data.labels import names_of_columns
from jaxreg.data.parquet import checked_path, write_tables
from jaxreg.engine.residual_columns import basis_of
from jaxreg.inference.association import Association, table_of
from jaxreg.inference.pairs import NONE, Pairs
from jaxreg.inference.scan import Scan
from jaxreg.numerics.precision import promoting

NAN_POLICIES = ("omit", "mean", "raise")
MAX_PAIRS = 10**7  # that keep="all" returns in memory: 800 MB


@promoting
def associate(
    x: Any,
    y: Any,
    covariates: Any = None,
    *,
    keep: str | float = "best",
    nan_policy: str = "omit",
    output: str | PathLike[str] | None = None,
    progress: bool = False,
) -> Association:
    """Regress every column of y on every column of x: y_j = α_ij + slope_ij x_i + γ_ijᵀ covariates + ε.

    The scan of eQTL and GWAS: k · m regressions with common covariates. By the theorem of Frisch, Waugh and
    Lovell x and y are projected once onto the complement of (1, covariates), x̃ and ỹ. Then r = x̃ᵀỹ / |x̃||ỹ|
    of all pairs are matrix products, slope = r |ỹ| / |x̃|, and t = r √(df / (1 − r²)) with df = n − c − 2. The
    products are in float32, on JAX's default device, with bounds of their rounding errors; what may be kept
    is computed again in float64 from the columns, and these numbers decide and are returned.

    Args:
        x: (n, k), such as genotypes, or (n,) for a single column. Arrays, DataFrames and DataArrays of
            numbers; memory maps and datasets of files are read block by block.
        y: (n, m), such as expression levels, or (n,).
        covariates: (n, c) or (n,), beside the intercept that every regression has. Rows in which one of them
            is NaN are left out of all regressions. Columns that depend on others do not count in df.
        keep: "best": for each y the x of the smallest p-value, the first of several with the same. A number:
            all pairs with a p-value up to it, such as `5e-8`. "all": all pairs, by y and then by x, so that
            `pvalues.reshape(m, k)` is a matrix; NaN where there is no result.
        nan_policy: "omit": each pair is fitted to the rows in which both are valid. "mean": NaN are replaced
            by the mean of their column, which is fast, and customary for genotypes. "raise": raise a
            ValueError.
        output: a Parquet file for the kept pairs, which then are not returned: for more than memory holds.
            Its columns are those of `Association.to_pandas`; its rows are in the order of the blocks that
            were read.
        progress: whether to show a progress bar over the blocks (needs tqdm).

    Returns:
        `Association`: arrays with an entry per kept pair. Columns without valid values, with an infinite
        value, or constant up to the covariates have no results, and a status that says so; see
        `Association.describe`.

    Raises:
        ValueError, TypeError: if shapes, dtypes or options do not fit together, covariates are infinite, or
            no degrees of freedom are left.
        OSError: if `output` cannot be written.

    Time: pairs with gaps in one column take c + 3 products in place of one (little more than one if columns
    have the same gaps), those with gaps in both (c + 2)² in float64.

    Source: R. Frisch and F. V. Waugh, Econometrica 1 (1933) 387; A. A. Shabalin, Bioinformatics 28 (2012)
    1353.

    >>> rng = np.random.default_rng(0)
    >>> genotypes = rng.integers(0, 3, size=(200, 50))
    >>> age = rng.normal(size=200)
    >>> expression = rng.normal(size=(200, 4)) + age[:, None]
    >>> expression[:, 2] += 0.8 * genotypes[:, 17]
    >>> hits = associate(genotypes, expression, age, keep=1e-6)
    >>> print(hits.x_index, hits.y_index, hits.slope.round(2), hits.bse.round(2), hits.df_resid)
    [17] [2] [0.83] [0.09] [197]
    >>> best = associate(genotypes, expression, age)
    >>> print(best.x_index, best.pvalues.round(3))
    [11 28 17 27] [0.004 0.006 0.    0.02 ]
    """
    _check_options(keep, nan_policy)
    path = None if output is None else checked_path(output)
    names = [names_of_columns(a) for a in (x, y)]
    x, y = as_array(x, "x"), as_array(y, "y")
    if isinstance(x, Tracer) or isinstance(y, Tracer):
        raise TypeError("associate needs concrete values; there are none under jit or vmap")
    x, y = columns_of(x, "x"), columns_of(y, "y")
    rows, basis = _design(covariates, x.shape[0], nan_policy)
    x_blocks = column_blocks(x, "x", rows, nan_policy, names[0])
    y_blocks = column_blocks(y, "y", rows, nan_policy, names[1])
    count = x_blocks.count * y_blocks.count
    if keep == "all" and path is None and count > MAX_PAIRS:
        raise ValueError(
            f'keep="all" would return {count:,} pairs; pass output="pairs.parquet" to write them to a file, '
            "or a bound of the p-value, such as keep=1e-5"
        )
    scan = Scan(x_blocks, y_blocks, basis, keep)
    pairs = scan.pairs(progress)
    if path is None:
        kept = Pairs.concatenated(list(pairs))
        kept = kept.at(np.lexsort((kept.x_index, kept.y_index)))
        number = len(kept.slope)
    else:
        number = 0

        def tables() -> Iterator[dict[str, Any]]:
            nonlocal number
            for part in pairs:
                number += len(part.slope)
                yield table_of(part, *names)

        write_tables(path, tables())
        kept = NONE
    return Association(*kept, number, scan.x_status, scan.y_status, names[0], names[1], int((~rows).sum()))


def _check_options(keep: Any, nan_policy: Any) -> None:
    is_number = isinstance(keep, int | float | np.number) and not isinstance(keep, bool)
    if not (keep in ("best", "all") if isinstance(keep, str) else is_number and 0 < keep <= 1):
        raise ValueError(f'keep is "best", "all" or a bound of the p-value, such as 5e-8; got {keep!r}')
    if nan_policy not in NAN_POLICIES:
        raise ValueError(f"nan_policy is one of {NAN_POLICIES}, got {nan_policy!r}")


def _design(covariates: Any, n: int, nan_policy: str) -> tuple[np.ndarray, np.ndarray]:
    """The rows in which all covariates are valid, and a basis of (1, covariates) in them."""
    values = np.zeros((n, 0)) if covariates is None else np.asarray(as_array(covariates, "covariates"), float)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2 or values.shape[0] != n:
        raise ValueError(
            f"covariates have shape {values.shape}; pass (n, c) with the rows of x, of which there are {n}"
        )
    if np.isinf(values).any():
        column = int(np.argmax(np.isinf(values).any(axis=0)))
        raise ValueError(
            f"covariates have an infinite value in column {column}; pass NaN to leave out the row"
        )
    rows = np.asarray(~np.isnan(values).any(axis=1))
    if nan_policy == "raise" and not rows.all():
        raise ValueError('covariates have NaN and nan_policy is "raise"; "omit" leaves out these rows')
    basis = basis_of(values[rows]) if rows.any() else np.zeros((0, 1))
    if len(basis) - basis.shape[1] < 2:
        raise ValueError(
            f"{len(basis)} rows with valid covariates and {basis.shape[1]} columns of (1, covariates) leave "
            "no degrees of freedom for a slope"
        )
    return rows, basis
