"""Student's t and Fisher's F as JAX functions: tails that do not underflow, and quantiles that invert them.

`jax.scipy.stats.t` has only densities, and `betainc` in float32 keeps five digits and underflows at p =
1e-39. Here everything is computed in float64, in logarithms, and rounded to the dtype of the arguments.
"""

from jaxreg.inference.distributions import f, t

__all__ = ["f", "t"]
