"""Pictures hold what they claim: the cells, the hatching, the curves, the predicted descents."""

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
import scipy.stats
import statsmodels.api as sm
import xarray as xr
from statsmodels.stats.multitest import multipletests

from jaxreg import (
    Polynomial,
    datasets,
    descend,
    exact_flow,
    false_discovery,
    fit,
    mean_squared_error,
    moments,
    plot,
    stationary_phase,
)
from jaxreg.faces import cli

mpl.use("Agg")


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def trends():
    sst = datasets.pacific_sst().sst
    return fit(sst.year.values, sst.values)


def test_trend_map_draws_slopes_and_hatches_what_is_not_significant(trends):
    """By p-values of scipy, adjusted by statsmodels."""
    _, given = plt.subplots()
    ax = plot.trend_map(trends, ax=given, label="slope (K/year)")
    assert ax is given
    mesh, hatched = ax.collections
    slope, error = np.asarray(trends.params)[1], np.asarray(trends.bse)[1]
    drawn = np.ma.filled(mesh.get_array().reshape(slope.shape), np.nan)
    np.testing.assert_array_equal(drawn, slope)
    fitted = np.isfinite(slope)
    p = 2 * scipy.stats.t.sf(np.abs(slope / error)[fitted].astype(float), 48)
    rejected = multipletests(p, 0.05, "fdr_bh")[0]
    assert hatched.get_hatch() == "////"
    assert len(hatched.get_paths()) == np.sum(~rejected)
    assert len(hatched.get_paths()) != np.sum(p > 0.05)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["not significant (false discovery rate 0.05)", "no fit"]


def test_trend_map_draws_cells_without_a_fit_in_another_color_than_a_slope_of_zero(trends):
    ax = plot.trend_map(trends)
    (mesh, _), slope = ax.collections, np.asarray(trends.params)[1]
    assert (np.ma.getmaskarray(mesh.get_array()).reshape(slope.shape) == np.isnan(slope)).all()
    assert mesh.cmap.get_bad()[-1] == 0  # transparent: the color of the axes is seen
    background, zero = mpl.colors.to_rgb(ax.get_facecolor()), mesh.to_rgba(np.zeros(1))[0, :3]
    assert np.abs(np.subtract(background, zero)).max() > 0.1
    assert mpl.colors.to_rgb(ax.get_legend().get_patches()[-1].get_facecolor()) == background


def test_trend_map_draws_slopes_per_decade(trends):
    ax = plot.trend_map(trends, per=10, label="slope (K/decade)", title="1963–2012")
    drawn = ax.collections[0].get_array().compressed()
    slope = np.asarray(trends.params)[1]
    np.testing.assert_allclose(drawn, 10 * slope[np.isfinite(slope)], rtol=1e-6)
    assert ax.get_title(loc="left") == "1963–2012"


def test_the_legend_of_trend_map_names_what_occurs(rng):
    t = np.arange(20.0)
    y = np.stack([t + 0.1 * rng.normal(size=20)] * 4, axis=1).reshape(20, 2, 2)
    assert plot.trend_map(fit(t, y)).get_legend() is None
    y[:, 0, 0] = np.nan
    texts = plot.trend_map(fit(t, y)).get_legend().get_texts()
    assert [text.get_text() for text in texts] == ["no fit"]


def test_lines_draws_at_most_twelve_data_sets(trends):
    sst = datasets.pacific_sst().sst
    row = trends[8]
    axes = plot.lines(row, sst.year.values, sst.values[:, 8])
    assert len(axes) == 12
    points, curve = axes[3].lines
    np.testing.assert_array_equal(points.get_ydata(), sst.values[:, 8, 3])
    ends = row[3].predict(np.array([1963.0, 2012.0]))
    assert curve.get_ydata()[[0, -1]] == pytest.approx(np.asarray(ends), rel=1e-6)


def test_lines_writes_the_status_of_a_data_set_without_a_fit(rng):
    x = np.arange(10.0)
    y = np.stack([x, np.full(10, np.nan), np.where(x < 1, x, np.nan), x], axis=1)
    y += 0.1 * rng.normal(size=y.shape)
    axes = plot.lines(fit(x, y), x, y)
    written = [[text.get_text() for text in ax.texts] for ax in axes]
    assert written == [[], ["no_observations"], ["too_few_observations"], []]
    assert axes[1].get_xlim() == axes[0].get_xlim()


def test_lines_says_how_many_data_sets_it_leaves_out(rng):
    x = np.arange(10.0)
    y = rng.normal(size=(10, 20))
    axes = plot.lines(fit(x, y), x, y, most=5)
    assert axes[0].figure.get_suptitle() == "the first 5 of 20 data sets"
    labeled = [ax.xaxis.get_tick_params()["labelbottom"] for ax in axes]
    assert labeled == [False, True, True, True, True]  # the lowest of each column
    assert plot.lines(fit(x, y[:, :5]), x, y[:, :5])[0].figure.get_suptitle() == ""


@pytest.fixture
def drawn_by_the_command(monkeypatch, tmp_path):
    """The map of `jaxreg fit --plot` and its color bar."""

    def draw(x, y):
        monkeypatch.setattr(plt, "close", lambda *_: None)
        found = fit(x.values, y.values)
        cli._draw(found, x, y, tmp_path / "map.png")
        ax, bar = plt.gcf().axes
        return ax, bar, np.asarray(found.params)[1]

    return draw


def test_the_map_of_the_command_is_per_decade_of_years(drawn_by_the_command):
    sst = datasets.pacific_sst().sst
    ax, bar, slope = drawn_by_the_command(sst.year, sst)
    drawn = ax.collections[0].get_array().compressed()
    np.testing.assert_allclose(drawn, 10 * slope[np.isfinite(slope)], rtol=1e-6)
    assert bar.get_ylabel() == "slope of sst (K/decade)"
    assert ax.get_title(loc="left") == "November to March mean sea surface temperature anomaly, 1963–2012"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("longitude (° E)", "latitude (° N)")


@pytest.mark.parametrize(
    ("name", "units", "y_units", "label", "title"),
    [
        ("time", "days since 2000-01-01", "K", "slope of t (K/day)", "t, 2000-01-01 to 2000-01-20"),
        ("time", "years since 2000-01-01", "K", "slope of t (K/decade)", None),
        ("depth", "m", "K", "slope of t (K/m)", "t, depth (m) 0 to 19"),
        ("depth", "m", "", "slope of t", "t, depth (m) 0 to 19"),
        ("index", "", "K", "slope of t (K)", "t, index 0 to 19"),
    ],
)
def test_the_map_of_the_command_names_units_and_range(
    drawn_by_the_command, rng, name, units, y_units, label, title
):
    x = xr.DataArray(np.arange(20.0), dims=[name], name=name, attrs={"units": units} if units else {})
    values = rng.normal(size=(20, 2, 3))
    y = xr.DataArray(values, dims=[name, "a", "b"], name="t", attrs={"units": y_units})
    y = y.assign_coords({name: x})
    ax, bar, _ = drawn_by_the_command(x, y)
    assert bar.get_ylabel() == label
    if title:
        assert ax.get_title(loc="left") == title


def test_trend_map_refuses_what_is_not_a_grid(trends):
    with pytest.raises(ValueError, match=r"draws data sets of shape \(rows, columns\), got \(30,\)"):
        plot.trend_map(trends[0])


def test_trend_map_hatches_what_is_said_not_to_be_significant(trends):
    significant = false_discovery(trends.pvalues[1]) < 0.05
    _, hatched = plot.trend_map(trends, significant=significant).collections
    fitted = np.isfinite(np.asarray(trends.params)[1])
    assert len(hatched.get_paths()) == np.sum(fitted & ~np.asarray(significant))


@pytest.fixture
def line(rng):
    x = rng.uniform(-1, 1, 40)
    y = 1 + 2 * x + rng.normal(size=40)
    y[3] = np.nan
    return x, y


def test_fit_draws_the_data_the_line_and_both_bands(line, statsmodels):
    x, y = line
    _, given = plt.subplots()
    ax = plot.fit(fit(x, y), x, y, ax=given, x_label="x (m)", y_label="y (K)")
    assert ax is given
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("x (m)", "y (K)")
    curve, points = ax.lines
    np.testing.assert_array_equal(points.get_ydata(), y)
    dense = curve.get_xdata()
    oracle = statsmodels(np.vander(x, 2, increasing=True), y)
    frame = oracle.get_prediction(np.vander(dense, 2, increasing=True)).summary_frame(alpha=0.05)
    np.testing.assert_allclose(curve.get_ydata(), frame["mean"], rtol=1e-9)
    for band, name in zip(ax.collections, ("obs_ci", "mean_ci"), strict=True):
        heights = band.get_paths()[0].vertices[:, 1]
        assert heights.min() == pytest.approx(frame[f"{name}_lower"].min(), rel=1e-9)
        assert heights.max() == pytest.approx(frame[f"{name}_upper"].max(), rel=1e-9)


def test_fit_writes_the_status_of_a_data_set_without_a_fit():
    x, y = np.arange(5.0), np.full(5, np.nan)
    ax = plot.fit(fit(x, y), x, y)
    assert [text.get_text() for text in ax.texts] == ["no_observations"]
    assert ax.get_xlim() == pytest.approx((-0.2, 4.2))


def test_residuals_draws_what_statsmodels_calls_influence(line, statsmodels, rng):
    x, y = line
    w = rng.uniform(0.5, 2, 40)
    axs = plot.residuals(fit(x, y, weights=w), x, y, weights=w)
    oracle = statsmodels(np.vander(x, 2, increasing=True), y, w)
    there = ~np.isnan(y)
    root, design = np.sqrt(w[there]), np.vander(x[there], 2, increasing=True)
    influence = sm.OLS(root * y[there], root[:, None] * design).fit().get_influence()
    (fitted, left), (leverage, standard) = (axs[k].lines[0].get_data() for k in (0, 3))
    np.testing.assert_allclose(fitted, oracle.fittedvalues, rtol=1e-9)
    np.testing.assert_allclose(left, oracle.resid, rtol=1e-7)
    np.testing.assert_allclose(leverage, influence.hat_matrix_diag, rtol=1e-7)
    np.testing.assert_allclose(standard, influence.resid_studentized_internal, rtol=1e-7)
    quantile, ordered = axs[1].lines[1].get_data()
    np.testing.assert_allclose(ordered, np.sort(standard), rtol=1e-12)
    np.testing.assert_allclose(quantile, scipy.stats.norm.ppf((np.arange(39) + 0.5) / 39), rtol=1e-5)


@pytest.mark.parametrize("draw", [plot.fit, plot.residuals])
def test_one_data_set_is_what_is_drawn(draw, trends):
    with pytest.raises(ValueError, match=r"one data set.*such as fits\[0\]"):
        draw(trends, np.arange(50.0), np.zeros((50, 18, 30)))


def test_cost_surface_draws_the_cost_and_the_ways(line):
    x, y = line
    start = np.array([3.0, -1.0])
    flow = exact_flow(moments(x, y)).trajectory(start, np.linspace(0, 5, 50))
    steps = descend(mean_squared_error, start, x, y, optimizer=optax.sgd(0.3), steps=9, history=True)
    ax = plot.cost_surface(mean_squared_error, x, y, flows=[flow], steps=[steps.history.params])
    drawn, dots = ax.lines
    np.testing.assert_array_equal(np.transpose(drawn.get_data()), flow.params)
    np.testing.assert_array_equal(np.transpose(dots.get_data()), steps.history.params)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    assert low < np.min(flow.params[:, 0]) < np.max(flow.params[:, 0]) < high
    assert bottom < -1 < top
    with pytest.raises(ValueError, match="say between which limits to draw: limits="):
        plot.cost_surface(mean_squared_error, x, y)


def test_phase_portrait_draws_a_param_against_its_velocity(line):
    flow = exact_flow(moments(*line))
    times = np.linspace(0, 5, 30)
    paths = [flow.trajectory(np.zeros(2), times), flow.oscillation(np.zeros(2), times, 0.1)]
    ax = plot.phase_portrait(*paths, param=1, name="β₁", labels=["flow", "inertia"])
    for path, curve in zip(paths, ax.lines[1::2], strict=True):
        np.testing.assert_array_equal(curve.get_xdata(), path.params[:, 1])
        np.testing.assert_array_equal(curve.get_ydata(), path.velocity[:, 1])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), -np.asarray(paths[0].momentum)[:, 1])
    with pytest.raises(ValueError, match="with a label each or none; got 0"):
        plot.phase_portrait()


def test_descent_draws_the_rates_of_theory_on_what_was_measured(line):
    """Late on the dashed line is the solid one."""
    x, y = line
    flow = exact_flow(moments(x, y))
    rates = (0.05, 0.3, 1.02 * float(flow.learning_rates.largest))
    ways = {
        rate: descend(
            mean_squared_error, np.zeros(2), x, y, optimizer=optax.sgd(rate), steps=60, history=True
        )
        for rate in rates
    }
    ax = plot.descent(ways, flow)
    for (rate, way), solid, dashed in zip(ways.items(), ax.lines[::2], ax.lines[1::2], strict=True):
        left = np.asarray(way.history.cost) - flow.cost
        steps, theory = dashed.get_data()
        np.testing.assert_allclose(theory[-1], left[steps[-1]], rtol=0.1)
        seen = np.isfinite(solid.get_ydata())
        np.testing.assert_array_equal(np.asarray(solid.get_ydata())[seen], left[seen])
        assert solid.get_label() == f"α = {rate:.3g}"
    with pytest.raises(ValueError, match="draws histories"):
        plot.descent({0.1: descend(mean_squared_error, np.zeros(2), x, y, steps=3)}, flow)


def test_the_arrow_of_amplitude_is_the_amplitude():
    def cost(q):
        return (q[0] - 0.3) ** 2 + 1

    found = stationary_phase(cost, np.zeros(1), hbar=0.05)
    ax = plot.amplitude(cost, hbar=0.05, limits=(-2.5, 3.0), found=found)
    arrow = ax.texts[0]
    (x1, y1), (x0, y0) = arrow.xy, arrow.xyann
    assert complex(x1 - x0, y1 - y0) == pytest.approx(complex(found.amplitude), rel=1e-3)
    (dot,) = ax.lines[1].get_xydata()
    spiral = ax.lines[0].get_xydata()
    middle = spiral[len(spiral) * 28 // 55]  # θ = 0.3 of −2.5 to 3
    np.testing.assert_allclose(dot, middle, atol=1e-3)


def test_pvalues_draws_their_density():
    p = np.append(np.linspace(0.0005, 0.9995, 1000), np.nan)
    ax = plot.pvalues(jnp.asarray(p), bins=10)
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([1] * 10)
    assert ax.get_title(loc="left") == "5.0% are below 0.05"
    with pytest.raises(ValueError, match="from 0 to 1, and not all NaN; got none"):
        plot.pvalues([np.nan])


def test_trend_map_says_which_mask_and_coordinates_it_needs(trends):
    with pytest.raises(ValueError, match=r"booleans of shape \(18, 30\).*got float32"):
        plot.trend_map(trends, significant=trends.pvalues[1])
    with pytest.raises(ValueError, match=r"row is \(18,\), the coordinates of the rows; got \(30,\)"):
        plot.trend_map(trends, row=np.arange(30))
    with pytest.raises(ValueError, match="draws the second param"):
        plot.trend_map(fit(X, np.ones((5, 2, 2)), ansatz=Polynomial(0)))
