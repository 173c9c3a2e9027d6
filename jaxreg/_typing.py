"""The words for array shapes: jaxtyping's where it is installed (the tests), unchecked elsewhere."""

from typing import TYPE_CHECKING, TypeVar

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

T = TypeVar("T")


def not_none(a: T | None) -> T:
    """What an option of the data has put there, for a checker of types that cannot know it."""
    assert a is not None
    return a


__all__ = ["Array", "Bool", "Complex", "Float", "Int", "not_none"]
