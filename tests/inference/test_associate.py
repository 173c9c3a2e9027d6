"""Every y on every x: the numbers are those of statsmodels for each pair by itself."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import statsmodels.api as sm

from jaxreg import associate
from jaxreg.inference import scan
from jaxreg.status import Status

N, K, M = 60, 7, 5


def reference(x, y, covariates):
    """Slope, bse, t, p, nobs and df of statsmodels for one pair."""
    design = np.column_stack([np.ones(len(x)), x, covariates])
    there = np.isfinite(design).all(axis=1) & np.isfinite(y)
    fitted = sm.OLS(y[there], design[there]).fit()
    return (
        fitted.params[1], fitted.bse[1], fitted.tvalues[1], fitted.pvalues[1], fitted.nobs, fitted.df_resid
    )  # fmt: skip


def check(hits, x, y, covariates, rtol=1e-9):
    for h in range(len(hits.slope)):
        expected = reference(x[:, hits.x_index[h]], y[:, hits.y_index[h]], covariates)
        got = [a[h] for a in (hits.slope, hits.bse, hits.tvalues, hits.pvalues, hits.nobs, hits.df_resid)]
        np.testing.assert_allclose(got, expected, rtol=rtol)


@pytest.fixture
def data(rng):
    covariates = rng.normal(size=(N, 2)) + 5
    x = rng.normal(size=(N, K)) + covariates[:, :1] + 100
    y = rng.normal(size=(N, M)) - covariates[:, 1:] + 0.4 * x[:, :M]
    return x, y, covariates


def with_gaps(rng, a, columns):
    a = a.copy()
    for j in columns:
        a[rng.random(len(a)) < 0.2, j] = np.nan
    return a


@pytest.mark.parametrize("gaps", ["none", "y", "x", "both"])
def test_all_pairs_equal_statsmodels(rng, data, gaps):
    x, y, covariates = data
    x = with_gaps(rng, x, [1, 3, 4]) if gaps in ("x", "both") else x
    y = with_gaps(rng, y, [0, 2]) if gaps in ("y", "both") else y
    hits = associate(x, y, covariates, keep="all")
    assert hits.x_index.tolist() == list(range(K)) * M
    assert hits.y_index.tolist() == np.repeat(range(M), K).tolist()
    check(hits, x, y, covariates)


@pytest.mark.parametrize("gaps", ["none", "y", "x", "both"])
def test_kept_pairs_are_those_below_the_bound_and_the_best(rng, data, gaps):
    """Tiles of two columns, so that the best x of all tiles is sought."""
    x, y, covariates = data
    x = with_gaps(rng, x, [1, 3, 4]) if gaps in ("x", "both") else x
    y = with_gaps(rng, y, [0, 2, 4]) if gaps in ("y", "both") else y
    p = np.array([[reference(x[:, i], y[:, j], covariates)[3] for i in range(K)] for j in range(M)])
    for bound in (1e-3, np.sort(p.ravel())[9]):
        hits = associate(x, y, covariates, keep=float(bound) * (1 + 1e-9))
        expected = np.argwhere(p <= bound * (1 + 1e-9))
        np.testing.assert_array_equal(np.stack([hits.y_index, hits.x_index], axis=1), expected)
    for columns in (2, 2048):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scan, "TILE_COLUMNS", {"cpu": columns})
            patch.setattr(scan, "BLOCK_NUMBERS", columns * N)
            best = associate(x, y, covariates)
        np.testing.assert_array_equal(best.y_index, np.arange(M))
        np.testing.assert_array_equal(best.x_index, p.argmin(axis=1))
        check(best, x, y, covariates)


def test_tiny_p_values_of_float32_keep_their_digits(rng):
    x = rng.normal(size=(500, 40)).astype("f4")
    y = (x[:, [3, 20, 31]] * [1, 3, 1000] + rng.normal(size=(500, 3))).astype("f4")
    hits = associate(x, y, keep=1e-10)
    assert hits.x_index.tolist() == [3, 20, 31]
    for h, (i, j) in enumerate(zip(hits.x_index, hits.y_index, strict=True)):
        t = reference(x[:, i].astype(float), y[:, j].astype(float), np.zeros((500, 0)))[2]
        np.testing.assert_allclose(hits.tvalues[h], t, rtol=1e-8)
        log10 = float(
            mpmath.log10(mpmath.betainc(249, 0.5, 0, 498 / (498 + mpmath.mpf(t) ** 2), regularized=True))
        )
        np.testing.assert_allclose(hits.log10_pvalues[h], log10, rtol=1e-8)
    assert hits.pvalues[0] < 1e-30


def test_the_first_of_equal_columns_is_the_best(rng):
    x = rng.normal(size=(50, 90))
    x[:, 80] = x[:, 11] = -2 * x[:, 45]
    best = associate(x, x[:, [45]] + rng.normal(size=(50, 1)))
    assert best.x_index.tolist() == [11]


def test_different_numbers_of_rows_are_compared_by_their_p_values(rng):
    """A larger |r| of few rows is not better than a smaller one of many."""
    signal = rng.normal(size=(200, 1))
    x = signal + rng.normal(size=(200, 30)) * 0.7
    for i in range(1, 30):
        x[5 + 6 * i :, i] = np.nan
    y = signal + rng.normal(size=(200, 4)) * 0.7
    y[::7, 1] = np.nan
    p = np.array([[reference(x[:, i], y[:, j], np.zeros((200, 0)))[3] for i in range(30)] for j in range(4)])
    best = associate(x, y)
    np.testing.assert_array_equal(best.x_index, p.argmin(axis=1))


def test_gaps_are_filled_with_the_mean(rng, data):
    x, y, covariates = data
    gapped = with_gaps(rng, x, [0, 2])
    filled = np.where(np.isnan(gapped), np.nanmean(gapped, axis=0), gapped)
    check(associate(gapped, y, covariates, keep="all", nan_policy="mean"), filled, y, covariates)


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
def test_covariates_may_have_gaps_and_depend_on_each_other(data):
    x, y, covariates = data
    covariates = np.column_stack([covariates, covariates @ [1, 2], np.ones(N)])
    covariates[[3, 7], [0, 1]] = np.nan
    hits = associate(x, y, covariates, keep="all")
    check(hits, x, y, covariates, rtol=1e-8)
    assert hits.dropped_rows == 2
    assert hits.df_resid[0] == N - 2 - 4


@pytest.mark.filterwarnings("ignore:The design matrix is rank-deficient")
def test_a_covariate_that_is_constant_in_the_valid_rows_of_a_pair(rng, data):
    x, y, _ = data
    batch = (np.arange(N) < 20).astype(float)
    y[:20, 1] = np.nan
    x[:20, 2] = np.nan
    x[21, 2] = np.nan
    y[22, 1] = np.nan
    check(associate(x, y, batch, keep="all"), x, y, batch)
    bound = np.median([reference(x[:, i], y[:, 1], batch)[3] for i in range(K)])
    kept = associate(x, y[:, [1]], batch, keep=float(bound) * (1 + 1e-9))
    assert kept.kept == 4


def test_unusable_columns_are_told_and_harm_nobody(data):
    x, y, covariates = data
    x[:, 1], x[5, 2], x[:, 3], x[:, 4] = 3.0, np.inf, np.nan, covariates @ [1, -1] + 2
    y[:, 0], y[2:, 3] = 7.0, np.nan
    hits = associate(x, y, covariates, keep="all")
    names = [Status(code).name for code in hits.x_status]
    assert names == ["ok", "rank_deficient", "invalid_data", "no_observations", "rank_deficient", "ok", "ok"]
    names = [Status(code).name for code in hits.y_status]
    assert names == ["rank_deficient", "ok", "ok", "too_few_observations", "ok"]
    usable = np.isin(hits.x_index, [0, 5, 6]) & np.isin(hits.y_index, [1, 2, 4])
    np.testing.assert_array_equal(np.isfinite(hits.pvalues), usable)
    assert associate(x, y, covariates, keep=1.0).kept == hits.ntests == 9
    assert associate(x, y, covariates).y_index.tolist() == [1, 2, 4]
    assert "2 rank_deficient" in hits.describe()


def test_names_of_data_frames_and_a_parquet_file(tmp_path, data):
    x, y, covariates = data
    x, y = pd.DataFrame(x, columns=list("abcdefg")), pd.DataFrame(y).add_prefix("gene")
    hits = associate(x, y, covariates, keep=0.5)
    table = hits.to_pandas()
    assert table.x[0] == "abcdefg"[hits.x_index[0]]
    assert table.y[0] == f"gene{hits.y_index[0]}"
    path = tmp_path / "hits.parquet"
    written = associate(x, y, covariates, keep=0.5, output=path)
    assert written.kept == len(table)
    assert written.slope.size == 0
    pd.testing.assert_frame_equal(pq.read_table(path).to_pandas(), table)
    associate(x, y, covariates, keep=1e-300, output=path)
    assert pq.read_table(path).num_rows == 0
    assert [file.name for file in tmp_path.iterdir()] == ["hits.parquet"]


def test_no_file_is_left_where_the_scan_fails(tmp_path, data):
    x, y, _ = data
    x[0, 0] = np.nan
    with pytest.raises(ValueError, match="x has NaN in column 0"):
        associate(x, y, nan_policy="raise", output=tmp_path / "hits.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", [np.int8, bool, "f4", "memmap", jnp.asarray])
def test_kinds_of_x(rng, tmp_path, kind):
    x = rng.integers(0, 2, size=(50, 6))
    y = rng.normal(size=50)
    if kind == "memmap":
        given = np.memmap(tmp_path / "x", "f8", "w+", shape=x.shape)
        given[:] = x
    else:
        given = kind(x) if callable(kind) and not isinstance(kind, type) else x.astype(kind)
    check(associate(given, y, keep="all"), x, y[:, None], np.zeros((50, 0)))


class File:
    """A dataset of a file, which notes how many columns are read at once."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim, self.widths = (
            values,
            values.shape,
            values.dtype,
            2,
            [],
        )

    def __getitem__(self, index):
        self.widths.append(self.values[index].shape[1])
        return self.values[index]


@pytest.mark.parametrize("keep", ["best", 0.1])
def test_files_are_read_block_by_block(monkeypatch, capsys, data, keep):
    x, y, covariates = data
    monkeypatch.setattr(scan, "TILE_COLUMNS", {"cpu": 2})
    monkeypatch.setattr(scan, "BLOCK_NUMBERS", 4 * N)
    files = File(x), File(y)
    check(associate(*files, covariates, keep=keep, progress=True), x, y, covariates)
    assert max(files[0].widths) == 2
    assert files[1].widths == [4, 1]
    assert "8/8" in capsys.readouterr().err


def test_extreme_units(rng):
    x, y = rng.normal(size=(50, 3)) * 1e200, rng.normal(size=(50, 2)) * 1e-200
    expected = associate(x / 1e200, y / 1e-200, keep="all")
    hits = associate(x, y, keep="all")
    np.testing.assert_allclose(hits.tvalues, expected.tvalues, rtol=1e-9)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.zeros((5, 60))}, ValueError, r"pass y.T"),
        ({"x": np.zeros((60, 3, 2))}, ValueError, r"x has shape \(60, 3, 2\); pass \(n, columns\)"),
        ({"x": 1.0}, ValueError, r"x has shape \(\); pass \(n, columns\)"),
        ({"covariates": np.zeros((4, 2))}, ValueError, r"covariates have shape \(4, 2\)"),
        ({"covariates": np.full(N, np.inf)}, ValueError, "infinite value in column 0"),
        ({"covariates": np.full(N, np.nan)}, ValueError, "0 rows with valid covariates"),
        ({"keep": "top"}, ValueError, 'keep is "best", "all" or a bound'),
        ({"keep": 0.0}, ValueError, "bound of the p-value"),
        ({"nan_policy": "propagate"}, ValueError, "nan_policy is one of"),
        ({"output": "hits.csv"}, ValueError, "output: hits.csv does not end in"),
        ({"x": np.array([["a"]] * N)}, TypeError, "x holds"),
        ({"x": np.zeros((N, 4000)), "y": np.zeros((N, 4000)), "keep": "all"}, ValueError, "16,000,000 pairs"),
    ],
)
def test_mistakes_are_named(data, change, error, message):
    x, y, covariates = data
    with pytest.raises(error, match=message):
        associate(**{"x": x, "y": y, "covariates": covariates, **change})


def test_values_are_needed(data):
    x, y, _ = data
    with pytest.raises(TypeError, match="under jit or vmap"):
        jax.jit(lambda x, y: associate(x, y).slope)(x, y)
