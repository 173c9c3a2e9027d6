"""What the fit knows about its params: standard errors."""

from __future__ import annotations

import jax.numpy as jnp

from jaxreg import pair
from jaxreg._typing import Array, Float
from jaxreg.closed_form import TurningPoint, params_of_coefs
from jaxreg.frame import power_of_two
from jaxreg.moments import Moments


def standard_errors(
    point: TurningPoint, mean_squared_error: Array, df_resid: Array, moments: Moments
) -> Float[Array, "p *batch"]:
    """√diag(σ̂² (XᵀWX)⁻¹) with σ̂² = Σ w ε² / (nobs − p), for errors of one variance / w.

    Args:
        point: the turning point, for ⟨ψ ψᵀ⟩⁻¹.
        mean_squared_error: Σ w ε² / Σ w at the params, in the units of the data.
        df_resid: nobs − p.
        moments: of the same data.

    Returns:
        Standard errors in the units of the params; NaN where df_resid is 0 or less.
    """
    M = params_of_coefs(moments)
    size = power_of_two(jnp.max(jnp.abs(M.hi), axis=1))  # taken out, so that no square overflows
    M = M.scaled(1 / size[:, None])
    M_inverse = pair.matmul(M, point.inverse)
    terms = [M_inverse[:, k] * M[:, k] for k in range(M.hi.shape[1])]
    diagonal = sum(terms[1:], terms[0]).value
    u_variance = mean_squared_error / moments.frame.y_scale**2 / jnp.maximum(df_resid, 1)
    variance = diagonal * u_variance
    some = variance > 0
    bse = size * moments.frame.y_scale * jnp.sqrt(jnp.where(some, variance, 1)) * some
    return jnp.where(df_resid > 0, bse, jnp.nan)
