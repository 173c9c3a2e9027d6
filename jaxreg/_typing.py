"""The words for array shapes: jaxtyping's where it is installed (the tests), nothing checked elsewhere."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float, Int, Num
else:
    try:
        from jaxtyping import Array, Bool, Float, Int, Num
    except ModuleNotFoundError:
        from jax import Array

        class Num:
            """`Num[Array, "n"]` reads as `Array` when no one is there to check the shape."""

            def __class_getitem__(cls, item):
                return item[0]

        Bool = Float = Int = Num

__all__ = ["Array", "Bool", "Float", "Int", "Num"]
