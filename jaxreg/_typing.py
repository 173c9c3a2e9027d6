"""Array annotations: those of jaxtyping where it is installed, as in the tests; plain arrays elsewhere."""

from typing import TYPE_CHECKING, TypeVar

import jax
import numpy as np

if TYPE_CHECKING:
    from jax import Array
    from jaxtyping import Bool, Complex, Float, Int
else:
    Array = jax.Array | np.ndarray  # NumPy arrays are accepted wherever JAX arrays are
    try:
        from jaxtyping import Bool, Complex, Float, Int
    except ModuleNotFoundError:

        class Float:
            """`Float[Array, "n"]` is `Array`, with no check of the shape."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Complex = Int = Float

T = TypeVar("T")


def not_none(a: T | None) -> T:
    """Return a; for type checkers, where an option makes an optional value present."""
    assert a is not None
    return a


__all__ = ["Array", "Bool", "Complex", "Float", "Int", "not_none"]
