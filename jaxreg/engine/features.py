"""From the basis of an estimate to the features of its params: f = Σ c_k ψ_k(t(x)) = Σ θ_j φ_j(x)."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax.numpy as jnp

from jaxreg._typing import Array
from jaxreg.ansatz import Ansatz
from jaxreg.numerics.precision import power_of_two
from jaxreg.numerics.vectors import Symmetric, dot, largest

Row: TypeAlias = "dict[int, Any]"  # the nonzero entries of a vector


def feature_rows(ansatz: Ansatz, center: list[Array], scale: list[Array]) -> list[Row]:
    """For each param j the nonzero M_kj, where ψ_k(t(x)) = Σ_j M_kj φ_j(x) and hence θ_j = Σ_k M_kj c_k."""
    M: list[Row] = ansatz.in_features(center, scale)
    if ansatz.has_intercept:
        one = jnp.ones_like(center[0]) if center else jnp.ones(())
        M = [{0: one}, *M]
    return [{k: row[j] for k, row in enumerate(M) if j in row} for j in range(len(M))]


def params_of(rows: list[Row], coefs: Any) -> list[Array]:
    """θ_j = Σ_k M_kj c_k, p arrays."""
    return [dot([coefs[k] for k in row], list(row.values())) for row in rows]


def variance(row: Row, V: Symmetric) -> tuple[Array, Array]:
    """(unit, v) with aᵀ V a = unit² v: the square may overflow although its root does not."""
    unit = power_of_two(largest([jnp.abs(a) for a in row.values()]))
    row_scaled = {k: a * (1 / unit) for k, a in row.items()}
    return unit, bilinear(row_scaled, V, row_scaled)


def deviation(row: Row, V: Symmetric) -> Array:
    """√(aᵀ V a)."""
    unit, square = variance(row, V)
    return unit * jnp.sqrt(jnp.maximum(square, 0))


def bilinear(a: Row, V: Symmetric, b: Row) -> Array:
    """aᵀ V b."""
    return dot([dot([V[k, i] for i in b], list(b.values())) for k in a], list(a.values()))
