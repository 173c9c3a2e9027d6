"""The words for array shapes: jaxtyping's where it is installed (the tests), unchecked elsewhere."""

from typing import TYPE_CHECKING

import jax
import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Complex, Float, Int
else:
    Array = jax.Array | np.ndarray  # NumPy arrays may come in wherever JAX arrays do
    try:
        from jaxtyping import Bool, Complex, Float, Int
    except ModuleNotFoundError:

        class Float:
            """`Float[Array, "n"]` reads as `Array` when no one is there to check the shape."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Complex = Int = Float

__all__ = ["Array", "Bool", "Complex", "Float", "Int"]
