"""Pictures hold what they claim: the cells, the hatching, the curves, the predicted descents."""

import inspect

import jax.numpy as jnp
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import optax
import pandas as pd
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
from jaxreg.faces.cli import along, options, pictures
from jaxreg.faces.cli.variables import Variable, Variables

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
        variables = Variables([Variable(y)], [Variable(x)], str(x.dims[0]))
        (fitted,) = along.fit_along(variables, options.Model(), None, False).values()
        pictures.draw(fitted, tmp_path / "map.png")
        ax, bar = plt.gcf().axes
        return ax, bar, fitted.params.values[1]

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
        ("time", "days since 2000-01-01", "K", "slope of t (K/decade)", "t, 2000-01-01 to 2000-01-20"),
        ("time", "years since 2000-01-01", "K", "slope of t (K/decade)", None),
        ("depth", "m", "K", "slope of t (K/m)", "t, depth (m) 0 to 19"),
        ("depth", "m", "", "slope of t", "t, depth (m) 0 to 19"),
        ("index", "", "K", "slope of t", "t, index 0 to 19"),
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
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["flow", "steps"]
    with pytest.raises(ValueError, match="say between which limits to draw: limits="):
        plot.cost_surface(mean_squared_error, x, y)


def descended(line, start, rate, steps=60, optimizer=optax.sgd):
    return descend(mean_squared_error, start, *line, optimizer=optimizer(rate), steps=steps, history=True)


def test_a_diverging_descent_does_not_set_the_limits_of_cost_surface(line):
    start = np.array([3.0, -1.0])
    largest = float(exact_flow(moments(*line)).learning_rates.largest)
    near, far = (descended(line, start, factor * largest).history.params for factor in (0.5, 1.2))
    assert np.abs(far).max() > 1e5
    for steps, labels in (([near, far], ["α = 0.5", "α = 1.2 (partly outside)"]), ([far], None)):
        ax = plot.cost_surface(
            mean_squared_error, *line, steps=steps, labels=labels and ["α = 0.5", "α = 1.2"]
        )
        assert np.abs([ax.get_xlim(), ax.get_ylim()]).max() < 15
        texts = [text.get_text() for text in ax.get_legend().get_texts()]
        assert texts == (labels or ["steps (partly outside)"])


@pytest.mark.parametrize("start", [(3.0, -1.0), (0.9, 5.0), (-4.0, 2.1)])
def test_the_minimum_is_inside_of_cost_surface(line, start):
    """Even if the path stops before, at least a fifth of a side from the edge."""
    steps = descended(line, np.array(start), 0.05, steps=20).history.params
    ax = plot.cost_surface(mean_squared_error, *line, steps=[steps])
    for (low, high), best in zip((ax.get_xlim(), ax.get_ylim()), fit(*line).params, strict=True):
        assert low + 0.2 * (high - low) < best < high - 0.2 * (high - low)


def test_cost_surface_without_a_minimum_is_drawn_around_the_path():
    path = np.stack([np.linspace(0, 1, 9), np.zeros(9)], axis=1)
    ax = plot.cost_surface(lambda q: -q[0] + q[1] ** 2, steps=[path])
    np.testing.assert_allclose(ax.get_xlim(), (-0.15, 1.15))


@pytest.mark.parametrize(("origin", "width"), [(-19.3, 1e-3), (0.0, 1e-7), (3e6, 2e6)])
def test_the_ticks_of_cost_surface_are_plain_numbers(origin, width):
    limits = ((origin - width, origin + width),) * 2
    ax = plot.cost_surface(lambda q: jnp.sum((q - origin) ** 2), limits=limits)
    ax.figure.canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        assert axis.get_offset_text().get_text() == ""
        for value, tick in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True):
            text = tick.get_text().replace("−", "-")
            assert float(text) == pytest.approx(value, rel=1e-9, abs=1e-6 * width)


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


def predicted(line, start, rate, steps):
    """S − S* after steps of θ ← θ − α∇S, by powers of 1 − αH with NumPy alone."""
    valid = ~np.isnan(line[1])
    design, y = np.vander(line[0][valid], 2, increasing=True), line[1][valid]
    H = 2 * design.T @ design / len(y)
    away = start - np.linalg.lstsq(design, y)[0]
    errors = [np.linalg.matrix_power(np.eye(2) - rate * H, k) @ away for k in range(steps + 1)]
    return np.array([error @ H @ error / 2 for error in errors])


def test_descent_draws_what_was_measured_and_what_the_moments_predict(line):
    flow = exact_flow(moments(*line))
    start = np.array([3.0, -1.0])
    rates = (0.05, 0.3, 1.02 * float(flow.learning_rates.largest))
    descents = {rate: descended(line, start, rate) for rate in rates}
    ax = plot.descent(descents, flow)
    for (rate, way), solid, dashed in zip(descents.items(), ax.lines[::2], ax.lines[1::2], strict=True):
        excess = np.asarray(way.history.cost) - flow.cost
        drawn, theory = np.asarray(solid.get_ydata()), np.asarray(dashed.get_ydata())
        valid = np.isfinite(drawn)
        assert valid[:20].all()
        np.testing.assert_array_equal(drawn[valid], excess[valid])
        expected = predicted(line, start, rate, 60)
        valid = np.isfinite(theory)
        assert valid[expected > 1e-12].all()
        np.testing.assert_allclose(theory[valid], expected[valid], rtol=1e-6, atol=1e-15)
        assert solid.get_label() == f"α = {rate:.3g}"
    with pytest.raises(ValueError, match="draws histories"):
        plot.descent({0.1: descend(mean_squared_error, np.zeros(2), *line, steps=3)}, flow)


def test_the_prediction_of_descent_reads_no_step(line):
    """A descent by Adam leaves it where it is."""
    start = np.array([3.0, -1.0])
    adam = descended(line, start, 0.1, optimizer=optax.adam)
    solid, dashed = plot.descent({0.1: adam}, exact_flow(moments(*line))).lines
    np.testing.assert_allclose(dashed.get_ydata(), predicted(line, start, 0.1, 60), rtol=1e-6)
    assert np.abs(np.log(solid.get_ydata() / dashed.get_ydata())).max() > 1


def test_the_arrow_of_amplitude_is_the_amplitude():
    def cost(q):
        return (q[0] - 0.3) ** 2 + 1

    result = stationary_phase(cost, np.zeros(1), hbar=0.05)
    ax = plot.amplitude(cost, hbar=0.05, limits=(-2.5, 3.0), stationary=result)
    arrow = ax.texts[0]
    (x1, y1), (x0, y0) = arrow.xy, arrow.xyann
    assert complex(x1 - x0, y1 - y0) == pytest.approx(complex(result.amplitude), rel=1e-3)
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


def double_well(q):
    return jnp.sum((q**2 - 1) ** 2)


def test_amplitude_names_the_points_in_a_legend_beside_the_curve():
    result = stationary_phase(double_well, np.zeros(1), hbar=0.05)
    ax = plot.amplitude(double_well, hbar=0.05, limits=(-2.0, 2.0), stationary=result)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["θ* = −1, S = 0", "θ* = 1, S = 0", "θ* = 0, S = 1"]
    ax.figure.canvas.draw()
    box = ax.get_legend().get_window_extent()
    curve = ax.transData.transform(ax.lines[0].get_xydata())
    assert not any(box.contains(*point) for point in curve)
    assert len({line.get_color() for line in ax.lines}) == 4


def test_amplitude_marks_only_points_between_the_limits():
    result = stationary_phase(double_well, np.zeros(1), hbar=0.05)
    ax = plot.amplitude(double_well, hbar=0.05, limits=(0.5, 2.0), stationary=result)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["θ* = 1, S = 0"]
    assert plot.amplitude(double_well, hbar=0.05, limits=(0.2, 0.8), stationary=result).get_legend() is None


def three(theta, x=0.0):
    a, b, c = theta
    return a**2 + b**2 + c**2 + x


ONE = fit(np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 5.0]))
X = np.arange(5.0)
FLOW = exact_flow(moments(X, X**2))
DESCENT = descend(mean_squared_error, np.zeros(2), X, X**2, steps=3)
DESCENTS = {0.1: descend(double_well, np.zeros(3), steps=3, history=True)}
TIMES = np.arange(3.0)
WRONG = {
    "fit of an array": (plot.fit, (X, X, X), {}, "fit draws a Fit, such as jaxreg.fit.x, y.; got ndarray"),
    "residuals of an array": (plot.residuals, (X, X, X), {}, "residuals draws a Fit.*got ndarray"),
    "lines of an array": (plot.lines, (X, X, X), {}, "lines draws a Fit.*got ndarray"),
    "map of an array": (plot.trend_map, (X,), {}, "trend_map draws a Fit.*got ndarray"),
    "fit of words": (plot.fit, (ONE, X.astype(str), X), {}, "x holds <U32; pass numbers"),
    "lines of words": (plot.lines, (ONE, X, X.astype(str)), {}, "y holds <U32; pass numbers"),
    "fit without x": (plot.fit, (ONE, X * np.nan, X), {}, "x has no finite value to draw against"),
    "lines of other data": (
        plot.lines,
        (ONE, X, np.zeros((5, 3))),
        {},
        r"got data sets \(\), x \(5,\) and y \(5, 3\)",
    ),
    "lines with few names": (plot.lines, (ONE, X, X), {"names": []}, "names has 0 names for 1 panels"),
    "no panel": (plot.lines, (ONE, X, X), {"most": 0}, "no panel to draw: 1 data sets, most=0"),
    "pvalues of a fit": (plot.pvalues, (ONE,), {}, r"such as fit.pvalues\[1\]; got Fit"),
    "portrait of a descent": (
        plot.phase_portrait,
        (DESCENT,),
        {},
        r"trajectories, which have a velocity, .* flow.iteration\(start, learning_rate, steps\); got Descent",
    ),
    "portrait of many": (
        plot.phase_portrait,
        (exact_flow(moments(X, np.ones((5, 4)))).trajectory(np.zeros(2), TIMES),),
        {},
        r"one data set, params \(times, p\); got \(3, 2, 4\)",
    ),
    "portrait of no such param": (
        plot.phase_portrait,
        (FLOW.trajectory(np.zeros(2), TIMES),),
        {"param": 2},
        "param is one of 2, counted from 0; got 2",
    ),
    "portrait with few labels": (
        plot.phase_portrait,
        (FLOW.trajectory(np.zeros(2), TIMES),),
        {"labels": []},
        "a label each or none; got 1 and 0 labels",
    ),
    "descents in a list": (
        plot.descent,
        ([DESCENT], FLOW),
        {},
        r"draws \{learning_rate: descend.*; got list",
    ),
    "descents of numbers": (
        plot.descent,
        ({0.1: 3.0}, FLOW),
        {},
        r"draws \{learning_rate: descend.*; got float",
    ),
    "descents by name": (plot.descent, ({"sgd": DESCENT}, FLOW), {}, r"; got the learning rates \['sgd'\]"),
    "no descents": (plot.descent, ({}, FLOW), {}, r"; got the learning rates \[\]"),
    "descents beside moments": (
        plot.descent,
        ({0.1: DESCENT}, moments(X, X)),
        {},
        "a Flow, such as .*; got Moments",
    ),
    "descents of other params": (plot.descent, (DESCENTS, FLOW), {}, r"shape \(steps, 2\).*got \(4, 3\)"),
    "surface of a number": (
        plot.cost_surface,
        (3.0,),
        {"steps": [np.ones((3, 2))]},
        "a function S.*; got float",
    ),
    "surface of three": (
        plot.cost_surface,
        (three,),
        {"steps": [np.ones((3, 2))]},
        r"of 2 params, shape \(2,\); this one raised ValueError: not enough values .* holds the others fixed",
    ),
    "surface of a vector": (
        plot.cost_surface,
        (lambda q: q**2,),
        {"steps": [np.ones((3, 2))]},
        r"which returns a number; got an array of shape \(2,\)",
    ),
    "surface with a flow": (
        plot.cost_surface,
        (double_well,),
        {"flows": FLOW},
        "flows are trajectories.*; got Flow",
    ),
    "surface with a descent": (
        plot.cost_surface,
        (double_well,),
        {"steps": [DESCENT]},
        "history.params.; got Descent",
    ),
    "surface with one path": (
        plot.cost_surface,
        (double_well,),
        {"steps": np.ones((3, 2))},
        r"a list of paths of shape \(times, 2\); got one of shape \(2,\)",
    ),
    "surface with few labels": (
        plot.cost_surface,
        (double_well,),
        {"steps": [np.ones((3, 2))], "labels": []},
        "one for each of 0 flows and 1 steps; got 0",
    ),
    "surface with flat limits": (
        plot.cost_surface,
        (double_well,),
        {"limits": (0, 1)},
        r"of both params; got \(0, 1\)",
    ),
    "amplitude of two": (
        plot.amplitude,
        (mean_squared_error, X, X),
        {"hbar": 1.0, "limits": (0, 1)},
        r"(?s)of one param, shape \(1,\); this one raised .*If it has more params, pass a function",
    ),
    "amplitude of points of two": (
        plot.amplitude,
        (double_well,),
        {"hbar": 1.0, "limits": (0, 1), "stationary": stationary_phase(double_well, np.ones(2), hbar=1.0)},
        "one param; stationary.points have 2",
    ),
    "amplitude of one limit": (
        plot.amplitude,
        (double_well,),
        {"hbar": 1.0, "limits": 3.0},
        "the first and the last θ, rising; got 3.0",
    ),
    "amplitude of many ħ": (
        plot.amplitude,
        (double_well,),
        {"hbar": np.ones(2), "limits": (0, 1)},
        "hbar is one number other than 0; got",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_named(name):
    """Past the check of annotations, which runs in tests alone."""
    function, arguments, keywords, message = WRONG[name]
    with pytest.raises((TypeError, ValueError), match=message):
        inspect.unwrap(function)(*arguments, **keywords)
    assert not plt.get_fignums()  # refused before a figure is made


def contrast(color, background):
    """Of the luminances of two colors, WCAG 2.1: from 1 to 21."""

    def luminance(color):
        c = np.array(mpl.colors.to_rgb(color))
        return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(color), luminance(background)))
    return (high + 0.05) / (low + 0.05)


def drawings(line):
    x, y = line
    start, flow = np.array([3.0, -1.0]), exact_flow(moments(x, y))
    descents = {rate: descended(line, start, rate) for rate in (0.05, 0.3, 0.6)}
    paths = [flow.oscillation(start, TIMES, friction) for friction in (0.1, 0.5, 2.0)]
    yield plot.fit(fit(x, y), x, y)
    yield from plot.residuals(fit(x, y), x, y)
    yield from plot.lines(fit(x, np.stack([y, y * np.nan], axis=1)), x, np.stack([y, y * np.nan], axis=1))
    yield plot.pvalues(np.linspace(0, 1, 50))
    yield plot.phase_portrait(*paths, labels=["a", "b", "c"])
    yield plot.descent(descents, flow)
    yield plot.amplitude(double_well, hbar=0.05, limits=(-2.0, 2.0))


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_lines_and_texts_are_visible_on_light_and_dark(line, style):
    with plt.style.context(style):
        for ax in drawings(line):
            background = ax.get_facecolor()
            for text in ax.texts:
                frame = text.get_bbox_patch()
                assert frame is None or mpl.colors.to_rgb(frame.get_facecolor()) == background[:3]
                assert contrast(text.get_color(), background) > 7
            for drawn in ax.lines:
                assert contrast(drawn.get_color(), background) > 2.5


def test_lines_are_told_apart_without_colors(line):
    *_, portrait, descents, _ = drawings(line)
    assert len({curve.get_linestyle() for curve in portrait.lines[1::2]}) == 3
    assert len({curve.get_marker() for curve in descents.lines[::2]}) == 3
    steps = [descended(line, np.array([3.0, -1.0]), rate, steps=9).history.params for rate in (0.1, 0.3)]
    surface = plot.cost_surface(mean_squared_error, *line, steps=steps)
    assert len({curve.get_marker() for curve in surface.lines}) == 2


def test_legends_stand_above_what_they_would_cover(line):
    x, y = line
    steps = descended(line, np.array([3.0, -1.0]), 0.3, steps=9).history.params
    for ax in (plot.fit(fit(x, y), x, y), plot.cost_surface(mean_squared_error, x, y, steps=[steps])):
        ax.figure.canvas.draw()
        legend, inside = ax.get_legend().get_window_extent(), ax.get_window_extent()
        assert legend.y0 >= inside.y1
        assert legend.y1 <= ax.figure.bbox.y1 + 1


def test_no_tick_label_of_amplitude_is_cut_off():
    ax = plot.amplitude(lambda q: (q[0] - 0.3) ** 2, hbar=0.05, limits=(-2.5, 3.0))
    ax.figure.canvas.draw()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert max(box.x1 for box in boxes if box.width) <= ax.figure.bbox.x1


def test_axes_are_named_by_the_data(line):
    x, y = line
    time = xr.DataArray(x, dims="t", name="t", attrs={"long_name": "time", "units": "days since 2000-01-01"})
    flux = xr.DataArray(y, dims="t", name="flux", attrs={"units": "W m-2"})
    ax = plot.fit(fit(x, y), time, flux)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("time", "flux (W m⁻²)")
    ax = plot.fit(fit(x, y), pd.Series(x, name="age"), pd.Series(y, name="height"), y_label="height (cm)")
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("age", "height (cm)")
    first, *_ = plot.residuals(fit(x, y), x, flux)
    assert (first.get_xlabel(), first.get_ylabel()) == ("fitted flux (W m⁻²)", "residual of flux (W m⁻²)")
    table = pd.DataFrame({"left": y, "right": -y})
    axs = plot.lines(fit(x, table), time, table)
    assert [ax.get_title() for ax in axs] == ["left", "right"]
    assert axs[0].figure.get_supxlabel() == "time"


def test_trend_map_takes_coordinates_from_the_fit_or_from_arrays():
    sst = datasets.pacific_sst().sst
    by_name = fit(sst.year.values, sst)
    ax = plot.trend_map(by_name)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("lon", "lat")
    centers = ax.collections[0].get_coordinates()
    assert centers[..., 0].min() < float(sst.lon.min()) < float(sst.lon.max()) < centers[..., 0].max()
    ax = plot.trend_map(by_name, row=sst.lat, column=sst.lon, row_label="φ")
    assert ax.get_ylabel() == "φ"
    assert ax.get_xlabel().endswith("(°E)")


def test_trend_map_says_which_mask_and_coordinates_it_needs(trends):
    with pytest.raises(ValueError, match=r"booleans of shape \(18, 30\).*got float32"):
        plot.trend_map(trends, significant=trends.pvalues[1])
    with pytest.raises(ValueError, match=r"row is \(18,\), the coordinates of the rows; got \(30,\)"):
        plot.trend_map(trends, row=np.arange(30))
    with pytest.raises(ValueError, match="draws the second param"):
        plot.trend_map(fit(X, np.ones((5, 2, 2)), ansatz=Polynomial(0)))
