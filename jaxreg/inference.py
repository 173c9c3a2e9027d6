"""What the fit knows about its params: standard errors."""

from __future__ import annotations

import jax.numpy as jnp

from jaxreg._typing import Array, Float
from jaxreg.closed_form import TurningPoint


def standard_errors(
    point: TurningPoint, cost: Array, df_resid: Array, y_scale: Array
) -> Float[Array, "p *batch"]:
    """√diag(σ̂² (XᵀWX)⁻¹) with σ̂² = Σ w ε² / (nobs − p), for errors of one variance / w.

    Args:
        point: the turning point, for √diag(⟨φ φᵀ⟩⁻¹).
        cost: Σ w ε² / Σ w at the params, in units of u².
        df_resid: nobs − p.
        y_scale: the unit of u.

    Returns:
        Standard errors in the units of the params; NaN where df_resid is 0 or less.
    """
    variance = cost / jnp.maximum(df_resid, 1)
    nothing = variance == 0  # whose square root has no derivative
    deviation = jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, variance)))
    bse = point.unit_errors * y_scale * deviation
    return jnp.where(df_resid > 0, bse, jnp.nan)
