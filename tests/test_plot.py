"""Pictures hold what they claim: the cells, the hatching, the curves."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxreg import datasets, fit, plot

mpl.use("Agg")


@pytest.fixture(scope="module")
def trends():
    sst = datasets.pacific_sst().sst
    return fit(sst.year.values, sst.values)


def test_trend_map_draws_slopes_and_hatches_what_is_not_significant(trends):
    _, given = plt.subplots()
    ax = plot.trend_map(trends, ax=given, label="slope (K/year)")
    assert ax is given
    mesh, hatched = ax.collections
    slope, error = np.asarray(trends.params)[1], np.asarray(trends.bse)[1]
    drawn = np.ma.filled(mesh.get_array().reshape(slope.shape), np.nan)
    np.testing.assert_array_equal(drawn, slope)
    assert hatched.get_hatch() == "////"
    assert len(hatched.get_paths()) == np.sum(np.abs(slope) < 2 * error)
    plt.close("all")


def test_lines_draws_at_most_twelve_data_sets(trends):
    sst = datasets.pacific_sst().sst
    row = trends[8]
    axes = plot.lines(row, sst.year.values, sst.values[:, 8])
    assert len(axes) == 12
    points, curve = axes[3].lines
    np.testing.assert_array_equal(points.get_ydata(), sst.values[:, 8, 3])
    ends = row[3].predict(np.array([1963.0, 2012.0]))
    assert curve.get_ydata()[[0, -1]] == pytest.approx(np.asarray(ends), rel=1e-6)
    plt.close("all")


def test_trend_map_refuses_what_is_not_a_grid(trends):
    with pytest.raises(ValueError, match=r"draws data sets of shape \(rows, columns\), got \(30,\)"):
        plot.trend_map(trends[0])
