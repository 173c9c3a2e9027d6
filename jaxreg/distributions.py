"""Student's t and Fisher's F as JAX functions, with tails that do not underflow and their quantiles."""

from jaxreg.inference.distributions import f, t

__all__ = ["f", "t"]
