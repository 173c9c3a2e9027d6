"""Data frames of three kinds, group by group and window by window, against statsmodels."""

import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from statsmodels.regression.rolling import RollingOLS, RollingWLS

import jaxreg
from jaxreg import Linear, frame
from jaxreg.engine import windows
from jaxreg.faces.frame import padding
from jaxreg.faces.frame.table import Table

pytestmark = pytest.mark.either_mode

KINDS = {
    "pandas": lambda df: df,
    "polars": lambda df: pl.DataFrame({name: _with_none(df[name]) for name in df}),
    "pyarrow": lambda df: pa.table({name: _with_none(df[name]) for name in df}),
}
STATISTICS = {"": "params", "_bse": "bse", "_tvalue": "tvalues", "_pvalue": "pvalues"}


def _with_none(column):
    return [None if a is None or a != a else a for a in column.tolist()]


def _pandas(result):
    return pd.DataFrame({name: np.asarray(result[name]) for name in _names(result)})


def _names(result):
    return result.column_names if isinstance(result, pa.Table) else list(result.columns)


@pytest.fixture
def panel(rng):
    """Four groups of 3 to 16 rows out of order, with gaps."""
    n = 44
    df = pd.DataFrame(
        {
            "site": rng.permutation(np.repeat(["d", "a", "c", "b"], [16, 14, 11, 3])),
            "x": rng.normal(size=n),
            "z": rng.choice(["low", "mid", "top"], n),
            "firm": rng.integers(0, 5, n),
            "w": rng.uniform(0.5, 2, n),
        }
    )
    df["y"] = 1 + 2 * df.x + (df.z == "top") + rng.normal(size=n)
    df.loc[[5, 6, 20], "y"] = np.nan
    df.loc[[7, 30], "x"] = np.nan
    return df


def _assert_equal(result, model, names, rtol=1e-8):
    """A row of a wide table holds the statistics of a model of statsmodels."""
    for name, term in names.items():
        for suffix, statistic in STATISTICS.items():
            np.testing.assert_allclose(result[name + suffix], getattr(model, statistic)[term], rtol=rtol)
    np.testing.assert_allclose(result["rsquared"], model.rsquared, rtol=rtol)
    assert result["nobs"] == model.nobs


@pytest.mark.parametrize("kind", KINDS)
def test_groups_are_those_of_statsmodels(panel, kind):
    df = KINDS[kind](panel)
    result = frame.fit(df, y="y", x="x", by="site", cov_type="HC1", weights="w")
    assert isinstance(result, type(df))
    table = _pandas(result)
    assert list(table.site) == ["a", "b", "c", "d"]
    for _, row in table.iterrows():
        own = panel[panel.site == row.site]
        model = smf.wls("y ~ x", own, weights=own.w).fit(cov_type="HC1")
        _assert_equal(row, model, {"intercept": "Intercept", "x": "x"})
        assert row.status == "ok"


@pytest.mark.parametrize("kind", KINDS)
def test_a_formula_is_evaluated_for_all_groups_together(panel, kind):
    table = _pandas(frame.fit(KINDS[kind](panel), formula="y ~ x + C(z)", by="site"))
    for _, row in table[table.site != "b"].iterrows():
        model = smf.ols("y ~ x + C(z)", panel[panel.site == row.site]).fit()
        names = {"intercept": "Intercept", "x": "x", "C(z)[T.mid]": "C(z)[T.mid]"}
        _assert_equal(row, model, names)


def test_a_null_of_a_category_is_a_gap(panel):
    panel["z"] = panel.z.astype(object)
    panel.loc[panel.index[::7], "z"] = None
    result = frame.fit(panel, formula="np.exp(y) ~ x + C(z)", tidy=True)
    model = smf.ols("np.exp(y) ~ x + C(z)", panel.dropna()).fit()
    np.testing.assert_allclose(result.estimate, model.params[["Intercept", *result.term[1:]]], rtol=1e-8)
    assert (result.nobs == model.nobs).all()


def test_a_category_that_a_group_lacks_is_rank_deficient(panel):
    panel.loc[(panel.site == "a") & (panel.z == "top"), "z"] = "low"
    table = frame.fit(panel, formula="y ~ x + C(z)", by="site").set_index("site")
    assert table.status["a"] == "rank_deficient"
    assert table.status["d"] == "ok"


@pytest.mark.slow
def test_formulas_without_columns_and_without_an_intercept(panel):
    mean = frame.fit(panel, formula="y ~ 1")
    np.testing.assert_allclose(mean.c0, panel.y.mean(), rtol=1e-12)
    through_0 = frame.fit(panel, formula="y ~ x - 1")
    np.testing.assert_allclose(through_0.x, smf.ols("y ~ x - 1", panel).fit().params["x"], rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_clusters_of_every_group_are_its_own(panel, kind):
    result = _pandas(frame.fit(KINDS[kind](panel), y="y", x="x", by="site", groups="firm"))
    for _, row in result[result.site != "b"].iterrows():
        own = panel[panel.site == row.site].dropna()
        model = smf.ols("y ~ x", own).fit(cov_type="cluster", cov_kwds={"groups": own.firm})
        _assert_equal(row, model, {"intercept": "Intercept", "x": "x"})


@pytest.mark.slow
def test_uneven_clusters_take_few_rows(rng):
    """One cluster of 1,000 rows, and 1,000 clusters of one row."""
    labels = np.concatenate([np.zeros(1000, int), np.arange(1000)])
    starts, counts = np.array([0, 1000]), np.array([1000, 1000])
    (piece,) = padding.clustered_pieces(starts, counts, labels)
    assert piece.rows == 2048
    df = pd.DataFrame({"g": np.repeat([0, 1], 1000), "firm": labels, "x": rng.normal(size=2000)})
    df["y"] = df.x + rng.normal(size=2000)
    result = frame.fit(df, y="y", x="x", by="g", groups="firm")
    assert np.isnan(result.x_bse[0])  # a single cluster
    model = smf.ols("y ~ x", df[1000:]).fit(cov_type="cluster", cov_kwds={"groups": df.firm[1000:]})
    np.testing.assert_allclose(result.x_bse[1], model.bse["x"], rtol=1e-10)


@pytest.mark.slow
def test_hac_takes_the_rows_in_their_order(panel):
    table = frame.fit(panel, y="y", x="x", by="site", cov_type=jaxreg.HAC(maxlags=2)).set_index("site")
    own = panel[panel.site == "d"].dropna()
    model = smf.ols("y ~ x", own).fit(cov_type="HAC", cov_kwds={"maxlags": 2})
    np.testing.assert_allclose(table.x_bse["d"], model.bse["x"], rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_tidy_has_a_row_for_every_term(panel, kind):
    panel["y2"] = -3 * panel.y
    result = _pandas(frame.fit(KINDS[kind](panel), y=["y", "y2"], x="x", by="site", tidy=True, alpha=0.1))
    columns = "site y term estimate std_error statistic p_value conf_low conf_high nobs status"
    assert list(result) == columns.split()
    assert list(result.site) == [site for site in "abcd" for _ in range(4)]
    assert list(result.y[:4]) == ["y", "y", "y2", "y2"]
    model = smf.ols("y2 ~ x", panel[panel.site == "c"]).fit()
    own = result[(result.site == "c") & (result.y == "y2")]
    assert list(own.term) == ["intercept", "x"]
    limits = model.conf_int(0.1).to_numpy()
    np.testing.assert_allclose(own.conf_low, limits[:, 0], rtol=1e-8)
    np.testing.assert_allclose(own.conf_high, limits[:, 1], rtol=1e-8)
    np.testing.assert_allclose(own.std_error, model.bse, rtol=1e-8)
    np.testing.assert_allclose(own.p_value, model.pvalues, rtol=1e-6)


@pytest.mark.slow
def test_a_large_group_beside_many_small_ones(rng):
    sizes = np.append([3000], rng.integers(1, 6, 500))
    df = pd.DataFrame({"g": np.repeat(np.arange(501), sizes), "x": rng.normal(size=sizes.sum())})
    df["y"] = df.x + rng.normal(size=len(df))
    result = frame.fit(df.sample(frac=1, random_state=0), y="y", x="x", by="g")
    assert list(result.g) == list(range(501))
    assert (result.nobs == sizes).all()
    expected = np.select([sizes == 1, sizes == 2], ["too_few_observations", "exact_fit"], "ok")
    assert list(result.status) == list(expected)
    for g in (0, *np.flatnonzero(sizes > 2)[1:20]):
        _assert_equal(result.iloc[g], smf.ols("y ~ x", df[df.g == g]).fit(), {"x": "x"}, rtol=1e-7)


@pytest.mark.parametrize(("kind", "kept"), [("pandas", 2), ("polars", 3), ("pyarrow", 3)])
def test_null_keys_are_treated_as_by_the_group_by_of_the_frame(kind, kept):
    df = pd.DataFrame({"g": ["b", None, "a", "b", None, "a"], "h": 1, "x": [0.0, 1, 2, 3, 4, 6]})
    df["y"] = df.x
    result = _pandas(frame.fit(KINDS[kind](df), y="y", x="x", by=["h", "g"]))
    assert list(result.g[:2]) == ["a", "b"]
    assert len(result) == kept


def test_keys_of_any_kind_are_sorted_as_by_polars(rng):
    n = 60
    kinds = [
        rng.integers(-128, 128, n).astype("i1"),
        rng.integers(0, 2**63 - 1, n) * rng.choice([-1, 1], n),
        rng.integers(2**63, 2**64 - 1, n, dtype="u8"),
        rng.integers(10**6, 10**6 + 3, n),
        rng.normal(size=n).round(),
        rng.choice(list("abcd"), n),
        rng.choice([None, "a", "b"], n).tolist(),
        rng.choice([True, False], n),
        np.datetime64("2020-01-01") + rng.integers(0, 9, n),
    ]
    for _ in range(40):
        by = [f"key {i}" for i in range(rng.integers(1, 4))]
        df = pl.DataFrame({name: pl.Series(kinds[rng.integers(len(kinds))]) for name in by})
        df = df.sort(by[0]) if rng.random() < 0.2 else df
        groups = Table.of(df).groups(by)
        rows = np.asarray(groups.sort(np.arange(n)))
        expected = df.with_row_index("row").group_by(by, maintain_order=True).agg("row")
        expected = expected.sort(by, nulls_last=True)["row"].to_list()
        assert [list(group) for group in np.split(rows, groups.starts[1:-1])] == expected


@pytest.mark.parametrize("order", [["low", "mid", "top"], ["top", "low", "mid", "unused"]])
@pytest.mark.parametrize("kind", ["unordered", "ordered", "integers", "enum"])
def test_keys_of_categories_are_in_their_order(panel, kind, order):
    labels = {
        name: i if kind == "integers" else name for i, name in enumerate(["low", "mid", "top", "unused"])
    }
    categories = [labels[name] for name in order]
    z = pd.Categorical([labels[name] for name in panel.z], categories, ordered=kind == "ordered")
    df = panel.assign(z=z)
    if kind == "enum":
        df = pl.DataFrame(panel.drop(columns="z").to_dict("list")).with_columns(
            pl.Series("z", panel.z.tolist(), pl.Enum(order))
        )
    table = _pandas(frame.fit(df, y="y", x="x", by="z"))
    assert list(table.z) == [c for c in categories if c != labels["unused"]]
    nobs = panel.dropna(subset=["x", "y"]).groupby("z").size()
    assert list(table.nobs) == [nobs[name] for name in order if name != "unused"]


@pytest.mark.slow
def test_null_weights_are_gaps_and_negative_ones_are_not(panel):
    panel.loc[panel.index[:10], "w"] = np.nan
    model = smf.wls("y ~ x", panel, weights=panel.w, missing="drop").fit()
    _assert_equal(frame.fit(panel, y="y", x="x", weights="w").iloc[0], model, {"x": "x"})
    panel.loc[panel.index[25], "w"] = -1
    assert frame.fit(panel, y="y", x="x", weights="w").status[0] == "invalid_data"


@pytest.mark.slow
def test_float32_columns_give_float32_results(panel):
    panel[["x", "y"]] = panel[["x", "y"]].astype(np.float32)
    assert frame.fit(panel, y="y", x="x").x.dtype == np.float32
    assert frame.fit(panel, y="y", x=["x", "w"]).x.dtype == np.float64
    assert frame.rolling(panel, y="y", x="x", window=9).x.dtype == np.float32


@pytest.mark.slow
def test_other_costs(panel):
    panel["count"] = np.round(np.exp(0.3 * panel.x.fillna(0) + 1))
    result = frame.fit(panel, y="count", x="x", cost=jaxreg.Poisson())
    model = smf.poisson("count ~ x", panel).fit(disp=0)
    np.testing.assert_allclose(result.x, model.params["x"], rtol=1e-6)


@pytest.mark.parametrize("min_nobs", [None, 4])
@pytest.mark.parametrize(
    ("x", "weighted"),
    [(["x1"], False), *(pytest.param(["x1", "x2"], w, marks=pytest.mark.slow) for w in (False, True))],
)
def test_rolling_is_that_of_statsmodels(rng, min_nobs, x, weighted):
    n = 250
    df = pd.DataFrame(rng.normal(size=(n, 2)), columns=["x1", "x2"], index=np.arange(n) + 50)
    df["w"] = rng.uniform(0.5, 2, n)
    df["y"] = 1 + df.x1 + rng.normal(size=n)
    df.loc[150:154, "y"] = np.nan
    df.loc[200, "x2"] = np.nan
    result = frame.rolling(df, y="y", x=x, window=20, min_nobs=min_nobs, weights="w" if weighted else None)
    design = sm.add_constant(df[x])
    options = {"window": 20, "min_nobs": min_nobs, "expanding": min_nobs is not None, "missing": "drop"}
    rolling = (
        RollingWLS(df.y, design, weights=df.w, **options) if weighted else RollingOLS(df.y, design, **options)
    )
    model = rolling.fit(use_t=True)
    assert (result.index == df.index).all()
    for k, name in enumerate(["intercept", *x]):
        for suffix, statistic in STATISTICS.items():
            expected = np.asarray(getattr(model, statistic))[:, k]
            np.testing.assert_allclose(result[name + suffix], expected, rtol=1e-6)
    np.testing.assert_allclose(result.rsquared, model.rsquared, rtol=1e-6)
    fitted = result.status == "ok"
    assert (fitted == np.isfinite(result.x1)).all()
    assert set(result.status[~fitted]) == {"too_few_observations"}
    assert (result.nobs[fitted] == np.asarray(model.nobs)[fitted]).all()


def _slopes(x, y, width):
    """Slope and standard error of every window, each centered at its own rows."""
    x, y = (np.lib.stride_tricks.sliding_window_view(a, width) for a in (x, y))
    x, y = x - x[:, :1], y - y[:, :1]
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    slope = (x * y).sum(axis=1) / (x * x).sum(axis=1)
    residual = y - slope[:, None] * x
    return slope, np.sqrt((residual**2).sum(axis=1) / (width - 2) / (x * x).sum(axis=1))


def _assert_no_drift(rng, n):
    x = 1e8 + np.cumsum(rng.normal(size=n))
    df = pd.DataFrame({"x": x, "y": 1e9 + 3 * x + rng.normal(size=n)})
    df.loc[n // 2, "y"] = 1e15  # what is subtracted from a running sum stays in its rounding
    result = frame.rolling(df, y="y", x="x", window=40)
    slope, error = _slopes(x, df.y.to_numpy(), 40)
    np.testing.assert_allclose(result.x[39:], slope, rtol=1e-8)
    np.testing.assert_allclose(result.x_bse[39:], error, rtol=1e-8)


def test_rolling_does_not_drift(rng):
    _assert_no_drift(rng, 250)


@pytest.mark.slow
def test_a_million_windows_do_not_drift(rng):
    _assert_no_drift(rng, 1_000_000)


@pytest.mark.parametrize("kind", KINDS)
def test_expanding_fits_all_rows_so_far(panel, kind):
    result = _pandas(frame.expanding(KINDS[kind](panel), y="y", x="x", by="site", min_nobs=3))
    assert list(result.site) == list(panel.site)
    for i in (3, 20, 33, 43):
        own = panel[: i + 1]
        own = own[own.site == panel.site[i]].dropna()
        if len(own) < 3:
            assert result.status[i] in ("too_few_observations", "no_observations")
        else:
            model = smf.ols("y ~ x", own).fit()
            _assert_equal(result.iloc[i], model, {"intercept": "Intercept", "x": "x"}, rtol=1e-6)


def test_windows_of_groups_hold_rows_of_one_group(panel):
    result = frame.rolling(panel, y="y", x="x", by="site", window=10)
    for site, own in panel.groupby("site"):
        alone = frame.rolling(own, y="y", x="x", window=10)
        np.testing.assert_allclose(result.x[result.site == site], alone.x, rtol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_windows_in_time(rng, kind):
    n = 250
    hours = pd.to_timedelta(np.sort(rng.integers(0, 1200, n)), "h")
    df = pd.DataFrame({"day": pd.Timestamp("2020-03-01") + hours, "g": rng.choice(["a", "b"], n)})
    df["x"], df["y"] = rng.normal(size=(2, n))
    df = df.sample(frac=1, random_state=1).reset_index(drop=True)
    result = _pandas(frame.rolling(KINDS[kind](df), y="y", x="x", by="g", window="5d", on="day", min_nobs=3))
    assert list(result)[:2] == ["g", "day"]
    fitted = 0
    for i in range(0, n, 9):
        day, g = df.day[i], df.g[i]
        own = df[(df.g == g) & (df.day <= day) & (df.day > day - pd.Timedelta(days=5))]
        assert result.nobs[i] == len(own)
        if len(own) >= 3:
            fitted += 1
            _assert_equal(result.iloc[i], smf.ols("y ~ x", own).fit(), {"x": "x"}, rtol=1e-6)
    assert fitted > 15


def test_rows_are_sorted_by_numbers_and_by_dates_of_any_century(panel):
    rows = panel.dropna()
    by_weight = frame.rolling(rows, y="y", x="x", on="w", window=10)
    in_order = frame.rolling(rows.sort_values("w"), y="y", x="x", window=10)
    pd.testing.assert_frame_equal(by_weight.drop(columns="w").loc[in_order.index], in_order)
    days = pl.date_range(
        pl.date(1500, 1, 1), pl.date(1500, 1, 1) + pl.duration(days=len(rows) - 1), eager=True
    )
    table = pl.DataFrame({"day": days, "x": rows.x.to_numpy(), "y": rows.y.to_numpy()})
    in_time = frame.rolling(table, y="y", x="x", on="day", window="10d", min_nobs=10)
    np.testing.assert_array_equal(in_time["x"], frame.rolling(table, y="y", x="x", window=10)["x"])


def test_infinite_values_spoil_their_own_windows_only(rng):
    df = pd.DataFrame({"x": rng.normal(size=100), "y": rng.normal(size=100)})
    clean = frame.rolling(df, y="y", x="x", window=10)
    df.loc[50, "y"] = np.inf
    result = frame.rolling(df, y="y", x="x", window=10)
    assert list(np.flatnonzero(result.status == "invalid_data")) == list(range(50, 60))
    others = np.setdiff1d(np.arange(9, 100), np.arange(50, 60))
    np.testing.assert_allclose(result.x[others], clean.x[others], rtol=1e-10)


@pytest.mark.slow
def test_a_negative_weight_spoils_its_own_windows_only(rng):
    df = pd.DataFrame({"x": rng.normal(size=60), "y": rng.normal(size=60), "w": 1.0})
    df.loc[30, "w"] = -1
    result = frame.rolling(df, y="y", x="x", window=10, weights="w")
    assert list(np.flatnonzero(result.status == "invalid_data")) == list(range(30, 40))


@pytest.mark.parametrize("kind", KINDS)
def test_dates_and_times_with_a_zone_are_times(rng, kind):
    days = pd.date_range("2024-01-01", periods=40, tz="Europe/Paris")
    df = pd.DataFrame({"day": days, "x": rng.normal(size=40), "y": rng.normal(size=40)})
    by_rows = frame.rolling(df, y="y", x="x", window=7, min_nobs=2).x
    zoned = _pandas(frame.rolling(KINDS[kind](df), y="y", x="x", window="168h", on="day")).x
    np.testing.assert_allclose(zoned, by_rows, rtol=1e-10)
    if kind != "pandas":  # which has no dates
        dates = KINDS[kind](df.assign(day=days.date))
        np.testing.assert_allclose(
            _pandas(frame.rolling(dates, y="y", x="x", window="1w", on="day")).x, by_rows
        )


def test_windows_that_are_not_accurate_are_fitted_again():
    x = np.arange(40.0)
    df = pd.DataFrame({"x": x, "y": 1e6 + x / 3})
    result = frame.rolling(df, y="y", x="x", window=8)
    assert (result.status[7:] == "ok").all()
    assert (result.digits[7:] >= 9).all()
    np.testing.assert_allclose(result.x[7:], 1 / 3, rtol=1e-9)


def test_windows_share_few_running_sums():
    """Those of one length need running sums over twice the rows, whatever the length."""
    starts, stops = np.arange(10_000 - 99), np.arange(100, 10_001)
    cuts = list(windows._cuts(starts, stops))
    assert sum(len(cut.ids) for cut in cuts) == len(starts)
    assert sum(len(cut.at) * (cut.left.max() + cut.right.max()) for cut in cuts) < 35_000


def test_new_data_of_similar_size_compile_nothing(rng, compiled):
    def fitted(groups):
        sizes = rng.integers(3, 17, groups)
        df = pd.DataFrame({"g": np.repeat(np.arange(groups), sizes), "a": rng.normal(size=sizes.sum())})
        df["b"] = df.a + rng.normal(size=len(df))
        frame.fit(df, y="b", x="a", by="g")
        frame.rolling(df, y="b", x="a", by="g", window=7)

    fitted(11)
    compiled.clear()
    fitted(15)
    assert not compiled


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y": "gpd", "x": "x"}, "y names 'gpd', and the columns of the frame are 'site', 'x', 'z'"),
        ({"y": "y", "x": "z"}, "column 'z' is String: convert it, or pass formula= with C"),
        ({"y": "y", "x": "x", "by": ["site", "x"]}, "'x' is in by and in x"),
        ({"y": "y", "x": "y"}, "'y' is in y and in x"),
        ({"y": "y", "x": ["x", "x"]}, "x names a column twice: x, x"),
        ({"y": "y"}, "name the columns y= and x=, or pass formula"),
        ({"formula": "y ~ x", "y": "y"}, "formula names the columns of y and x; omit y"),
        ({"formula": "x"}, "formula 'x' has no response: write y ~ x"),
        ({"formula": "y ~ nowhere"}, "cannot be evaluated"),
        ({"y": "y", "x": "x", "groups": "firm", "cov_type": "HC1"}, "groups= is a covariance of its own"),
        ({"y": "y", "x": "x", "cov_type": jaxreg.Cluster([0, 1])}, "pass the column of clusters, groups="),
        ({"y": "y", "x": "x", "groups": "x"}, "groups has 2 missing labels in column 'x'"),
    ],
)
def test_mistakes_are_named(panel, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        frame.fit(panel, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window": 0}, "window is a positive number of rows or a duration such as"),
        ({"window": "90 years"}, "window is a positive number of rows or a duration such as"),
        ({"window": "90d"}, "window='90d' is a duration: name the column of times, on="),
        ({"window": "90d", "on": "z"}, "on needs dates, times or numbers, and column 'z' is String"),
        ({"window": "90d", "on": "w"}, "a window of time needs dates or times in on="),
        ({"window": "99999999w", "on": "w"}, "window='99999999w' is longer than 53375 days"),
        ({"window": 5, "on": "x"}, "on has 2 missing values in column 'x'"),
        ({"window": 5, "min_nobs": 0}, "min_nobs is a positive number"),
    ],
)
def test_mistakes_of_windows_are_named(panel, arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        frame.rolling(panel, y="y", x="x", **arguments)


def test_keys_that_are_python_objects_are_refused(panel):
    df = pl.DataFrame(panel[["x", "y"]]).with_columns(pl.Series("key", [object()] * len(panel), pl.Object))
    with pytest.raises(TypeError, match="column 'key' has Python objects: convert them to text or numbers"):
        frame.fit(df, y="y", x="x", by="key")
    with pytest.raises(TypeError, match="column 'key' has Python objects"):
        frame.fit(panel.assign(key=[1, "a"] * (len(panel) // 2)), y="y", x="x", by="key")


def test_other_objects_than_frames_are_refused(panel):
    with pytest.raises(TypeError, match="df is a data frame of pandas, polars or pyarrow; got ndarray"):
        frame.fit(np.zeros((3, 2)), y="y", x="x")
    with pytest.raises(TypeError, match=r"the frame is lazy: pass df.collect\(\)"):
        frame.fit(KINDS["polars"](panel).lazy(), y="y", x="x")


def test_a_frame_without_groups_is_refused(panel):
    with pytest.raises(ValueError, match="df has no rows with a value in site"):
        frame.fit(panel[:0], y="y", x="x", by="site")
    with pytest.raises(ValueError, match="df has no rows"):
        frame.rolling(panel[:0], y="y", x="x", window=3)


def test_without_narwhals_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "narwhals", None)
    monkeypatch.delitem(sys.modules, "jaxreg.frame")
    with pytest.raises(ModuleNotFoundError, match=r'pip install "jaxreg\[frame\]"'):
        __import__("jaxreg.frame")


@pytest.fixture
def trial(rng):
    x = rng.normal(size=60)
    z = np.where(rng.random(60) < 0.5, "placebo", "drug")
    y = 5 + 2 * x + 3 * (z == "drug") + rng.normal(size=60)
    x[4] = np.nan
    return pd.DataFrame({"x": x, "y": y, "z": pd.Categorical(z, categories=["placebo", "drug"])})


@pytest.mark.parametrize("formula", ["y ~ x + z", "y ~ center(x)", "y ~ 0 + C(z)"])
def test_formulas_of_ordered_categories_transforms_and_dummies(trial, formula):
    found = frame.fit(trial, formula=formula, tidy=True).set_index("term")
    whole = frame.fit(trial, formula=formula)
    peer = smf.ols(formula, trial.dropna() if "x" in formula else trial).fit()
    names = dict(zip(found.index, peer.params.index, strict=True))
    if formula == "y ~ x + z":
        assert "z[T.drug]" in found.index
        of_polars = pl.from_pandas(trial).with_columns(
            pl.col("z").cast(pl.String).cast(pl.Enum(["placebo", "drug"]))
        )
        assert "z[T.drug]" in frame.fit(of_polars, formula=formula, tidy=True)["term"].to_list()
        np.testing.assert_allclose(found.estimate["z[T.drug]"], peer.params["z[T.drug]"], rtol=1e-9)
    assert len(names) == len(peer.params)
    np.testing.assert_allclose(np.sort(found.estimate), np.sort(peer.params), rtol=1e-9)
    np.testing.assert_allclose(whole.rsquared, peer.rsquared, rtol=1e-9)
    np.testing.assert_allclose(whole.fvalue, peer.fvalue, rtol=1e-8)


def test_a_constant_column_of_windows(trial):
    data = trial.dropna().assign(c=1.0)
    found = frame.rolling(data, y="y", x=["c", "x"], window=20, intercept=False)
    peer = RollingOLS(data.y, data[["c", "x"]], 20).fit(use_t=True)
    np.testing.assert_allclose(found.rsquared[19:], peer.rsquared[19:], rtol=1e-9)


def test_names_and_weights_that_would_be_lost(trial):
    data = trial.assign(a=trial.x, b=2 * trial.x, w=1e-50)
    with pytest.raises(ValueError, match="a param is called 'y'"):
        frame.fit(data, y=["a", "b"], x="y")
    single = data[["x", "y"]].astype("f4").assign(w=1e-50)
    with pytest.raises(ValueError, match="weights"):
        frame.fit(single, y="y", x="x", weights="w")
    weighted = frame.fit(data.assign(w=abs(data.x) + 1), y="y", x=["x", "w"], weights="w")
    assert weighted["status"][0] == "ok"
    with pytest.raises(ValueError, match="has no column of x"):
        frame.fit(data, formula="y ~ 0")


def test_the_center_of_a_window_is_of_its_own_rows(rng):
    """Also where the rows at its cut are gaps, and those after it are of another group, of large numbers."""
    x, y = rng.normal(size=40), rng.normal(size=40)
    x[8:10] = np.nan
    x[10:] += 1e12
    starts, stops = np.array([4, 5, 20]), np.array([9, 10, 28])  # cut at rows 8 and 24
    _, accurate = windows.estimates_of_windows(Linear(), ([x], y, None), starts, stops, np.dtype("f8"))
    assert accurate[:2].all()
