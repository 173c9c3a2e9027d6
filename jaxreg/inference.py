"""What the fit knows about its params: standard errors."""

from __future__ import annotations

import jax.numpy as jnp

from jaxreg import pair
from jaxreg._typing import Array, Float
from jaxreg.closed_form import TurningPoint, params_of_coefs
from jaxreg.frame import power_of_two
from jaxreg.moments import Moments


def standard_errors(
    point: TurningPoint, cost: Array, df_resid: Array, moments: Moments
) -> Float[Array, "p *batch"]:
    """√diag(σ̂² (XᵀWX)⁻¹) with σ̂² = Σ w ε² / (nobs − p), for errors of one variance / w.

    Args:
        point: the turning point, for ⟨ψ ψᵀ⟩⁻¹.
        cost: Σ w ε² / Σ w at the params, in units of u².
        df_resid: nobs − p.
        moments: of the same data.

    Returns:
        Standard errors in the units of the params; NaN where df_resid is 0 or less.
    """
    M = params_of_coefs(moments)
    size = power_of_two(jnp.max(jnp.abs(M.hi), axis=1))  # taken out, so that no square overflows
    M = M.scaled(1 / size[:, None])
    diagonal = pair.total(pair.transpose(pair.matmul(M, point.inverse) * M)).value
    variance = diagonal * cost / jnp.maximum(df_resid, 1)
    nothing = variance == 0  # whose square root has no derivative
    bse = size * moments.frame.y_scale * jnp.where(nothing, 0, jnp.sqrt(jnp.where(nothing, 1, variance)))
    return jnp.where(df_resid > 0, bse, jnp.nan)
