"""Tiles: their widths, and copies of columns however they lie in memory."""

import numpy as np
import pytest

from jaxreg import fit
from jaxreg.engine.tiles import few_widths

pytestmark = pytest.mark.either_mode


@pytest.mark.parametrize(("least", "most"), [(16, 2**14), (256, 2**15), (16, 100), (16, 16), (20, 7)])
def test_ranges_cover_all_columns_with_few_widths_and_little_padding(least, most):
    widths = set()
    for count in (1, least - 1, least, least + 1, 500, 5_000, 20_000, 70_001):
        ranges = list(few_widths(count, least, most))
        ends = [0, *(last for _, last, _ in ranges)]
        assert [first for first, _, _ in ranges] == ends[:-1]
        assert ends[-1] == count
        assert all(last - first <= width for first, last, width in ranges)
        assert all(width <= 2 * (last - first) for first, last, width in ranges if width > least)
        widths |= {width for _, _, width in ranges}
    assert len(widths) <= 8
    assert max(widths) <= max(least, most)


@pytest.mark.parametrize("m", [3_000, 5_000])
def test_columns_that_are_contiguous_give_the_same_bits(rng, m):
    x, y = rng.normal(size=(2, 24, m))
    y[rng.random(y.shape) < 0.1] = np.nan
    expected, found = fit(x, y), fit(np.asfortranarray(x), np.asfortranarray(y))
    np.testing.assert_array_equal(found.params, expected.params)
    np.testing.assert_array_equal(found.bse, expected.bse)
    alone = fit(x[:, 2_900:2_910], y[:, 2_900:2_910])
    np.testing.assert_array_equal(expected.params[:, 2_900:2_910], alone.params)
