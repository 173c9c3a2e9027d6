"""The number of rows of the data that are processed at once, which depends on the platform."""

from __future__ import annotations

from typing import NamedTuple

from jaxreg._typing import Array


class Unrolled(NamedTuple):
    """Rows that the body of a loop adds up before it adds them to running sums, for z of 1, 2, … entries.

    The last number of each is for longer z.

    Attributes:
        unweighted: without weights.
        shared_weights: with weights that all data sets share.
        own_weights: with weights of each data set.
    """

    unweighted: tuple[int, ...]
    shared_weights: tuple[int, ...]
    own_weights: tuple[int, ...]

    def for_z(self, q: int, weights: Array | None) -> int:
        """The number of rows for z of q entries."""
        if weights is None:
            counts = self.unweighted
        else:
            counts = self.shared_weights if weights.shape[-1] == 1 else self.own_weights
        return counts[min(q, len(counts)) - 1]


class Rows(NamedTuple):
    """How the rows of the data are processed on a platform.

    Attributes:
        unrolled: rows at once of a loop.
        multiplied: rows of a matrix product.
        on_cpu: whether the rows are those of a CPU, where XLA makes a kernel of each sum, which reads from
            cache. Elsewhere it makes one of all sums if the data are masked before their conversion to
            float64; and floats are not split into bits, which is impossible on a TPU and no faster than
            logarithms on a GPU.
        listed: the largest number of entries of a vector that is a list.
        reduced: whether sums are reductions, see `reduction`.
        padded: whether rows of 0 pad the last product, which gives it the same last bits in any tile.
    """

    unrolled: Unrolled
    multiplied: int
    on_cpu: bool
    listed: int = 3
    reduced: bool = False
    padded: bool = False


# CPU: 2 or 8 unrolled rows take 1.2 × as long; float64 copies of 128 rows stay in cache, and are many enough
# that adding their product to the sums costs little. GPU: the more rows, the less often the running sums are
# read and written, until XLA makes many kernels of a body (compiled for an H200: of 30 rows of a line in
# float64, of 24 with shared weights and 32 with own ones) or compilation takes ten seconds (z of 4 entries).
# The bound of the rounding assumes at most 32 unrolled and 256 multiplied rows, see `max_roundings`.
_UNROLLED = Unrolled(
    unweighted=(28, 28, 24, 24, 12), shared_weights=(20, 20, 16, 16, 12), own_weights=(28, 28, 20, 20, 12)
)
ROWS = {
    "cpu": Rows(Unrolled((4,), (4,), (4,)), multiplied=128, on_cpu=True),
    "cuda": Rows(_UNROLLED, multiplied=256, on_cpu=False, listed=6, reduced=True),
    "default": Rows(_UNROLLED, multiplied=256, on_cpu=False),
}


def padded_length(n: int) -> int:
    """n rounded up to a power of two or three quarters of one: few lengths compile few programs."""
    length = max(8, 1 << (n - 1).bit_length())
    return length * 3 // 4 if n <= length * 3 // 4 and length > 8 else length
