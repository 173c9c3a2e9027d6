"""Fits that outlive a process: saved and loaded, pickled, and concatenated from blocks."""

import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from jaxreg import Cluster, Features, Fit, Linear, Polynomial, fit, load

pytestmark = pytest.mark.either_mode  # dtypes come from the data
X = np.arange(8.0)
Y = np.random.default_rng(5).normal(size=(8, 2, 3)) + X[:, None, None]
Y[2, 1, 1] = np.nan
WEIGHTS = np.linspace(1, 2, 8)
GRID = xr.DataArray(
    Y,
    dims=("time", "lat", "lon"),
    coords={
        "lat": [10.0, 20.0],
        "lon": [1, 2, 3],
        "name": (("lat", "lon"), np.array(list("abcdef")).reshape(2, 3)),
    },
)


def waves(x):
    return jnp.sin(x), jnp.cos(x)


WAVES = Features(waves, names=("sin", "cos"))
COLUMNS = np.stack([X, X**2 / 8], axis=1)

FITS = {
    "line": lambda: fit(X, Y),
    "float32": lambda: fit(X.astype("f4"), Y.astype("f4")),
    "one data set": lambda: fit(X, Y[:, 0, 0]),
    "polynomial": lambda: fit(X, Y, ansatz=Polynomial(2)),
    "named columns": lambda: fit(COLUMNS, Y, ansatz=Linear(names=("trend", "curvature"))),
    "no intercept": lambda: fit(COLUMNS + 1, Y, ansatz=Linear(intercept=False)),
    "weights": lambda: fit(X, Y, weights=WEIGHTS),
    "HC3": lambda: fit(X, Y, cov_type="HC3", use_t=True),
    "cluster": lambda: fit(X, Y, cov_type=Cluster(np.arange(8) // 2)),
    "integers": lambda: fit(2**60 + np.arange(8), Y),
    "coordinates": lambda: fit(X, GRID),
}


def assert_equal(a, b):
    """Every array of two fits has the same dtype and bits, and everything else is equal."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)
    assert (a.names, a.ansatz, a.labels, a.cov_type, a.use_t) == (
        b.names,
        b.ansatz,
        b.labels,
        b.cov_type,
        b.use_t,
    )


@pytest.mark.parametrize("name", FITS)
def test_a_loaded_or_unpickled_fit_equals_the_saved_one(tmp_path, name):
    saved = FITS[name]()
    saved.save(tmp_path / "fit.npz")
    assert_equal(load(tmp_path / "fit.npz"), saved)
    assert_equal(pickle.loads(pickle.dumps(saved)), saved)


def test_a_loaded_fit_answers_as_the_saved_one(tmp_path):
    saved = fit(X, GRID)
    saved.save(tmp_path / "fit.npz")
    loaded = load(tmp_path / "fit.npz")
    np.testing.assert_array_equal(loaded.pvalues, saved.pvalues)
    np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
    xr.testing.assert_identical(loaded.to_xarray(), saved.to_xarray())


def test_features_need_their_code_to_be_loaded(tmp_path):
    saved = fit(X, Y, ansatz=WAVES)
    saved.save(tmp_path / "fit.npz")
    with pytest.raises(ValueError, match=r"pass load\(path, ansatz=Features\(…\)\)"):
        load(tmp_path / "fit.npz")
    loaded = load(tmp_path / "fit.npz", ansatz=WAVES)
    assert_equal(loaded, saved)
    np.testing.assert_array_equal(loaded.predict(X), saved.predict(X))
    assert_equal(pickle.loads(pickle.dumps(saved)), saved)


class Malicious:
    """Unpickling it leaves a trace."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_a_file_of_another_kind_is_refused_and_not_executed(tmp_path):
    path, executed = tmp_path / "file.npz", str(tmp_path / "executed")

    def refused(match="is not a file written by Fit.save"):
        with pytest.raises(ValueError, match=match):
            load(path)

    path.write_text("not a fit")
    refused()
    path.write_bytes(pickle.dumps(Malicious(executed)))
    refused()
    np.savez(path, header=np.array([Malicious(executed)], object))
    refused()
    np.savez(path, x=X)
    refused()
    np.savez(path, header=np.array(json.dumps({"format": "jaxreg.Fit", "version": 1})))
    refused("not a file written by Fit.save: 'estimate.params' is missing")
    np.savez(path, header=np.array(json.dumps({"format": "jaxreg.Fit", "version": "one"})))
    refused()
    np.savez(path, header=np.array("[]"))
    refused()
    with path.open("wb") as file:
        np.save(file, X)
    refused()
    fit(X, Y).save(path)
    arrays = dict(np.load(path, allow_pickle=False))
    header = json.loads(str(arrays["header"]))
    np.savez(path, **arrays | {"header": np.array(json.dumps(header | {"version": header["version"] + 1}))})
    refused("has version 2 of the format; this jaxreg reads up to 1")
    np.savez(path, **arrays | {"header": np.array(json.dumps(header | {"format": "other"}))})
    refused("its format is 'other'")
    assert not (tmp_path / "executed").exists()
    with pytest.raises(ValueError, match=r"saved as an .npz file, got .*fit.csv; pass .*fit.npz"):
        fit(X, Y).save(tmp_path / "fit.csv")


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenated_fits_equal_the_fit_of_all_data_sets(axis):
    blocks = [fit(X, np.take(Y, i, axis=axis % 2 + 1)) for i in ([0], [1] if axis == 0 else [1, 2])]
    assert_equal(Fit.concatenate(blocks, axis=axis), fit(X, Y))


def test_integers_with_and_without_an_origin_are_concatenated():
    small = np.arange(8)[:, None] ** 2 + np.arange(2)
    x, large = np.arange(8), small + 2**60
    fits = [fit(x, small), fit(x + 2**60, large)]
    both = Fit.concatenate(fits)
    for found, expected in zip((both[:2], both[2:]), fits, strict=True):
        np.testing.assert_array_equal(found.params, expected.params)
    np.testing.assert_array_equal(both[:2].predict(x), fits[0].predict(x))
    np.testing.assert_array_equal(both[2:].predict(x + 2**60), fits[1].predict(x + 2**60))


def test_fits_that_do_not_fit_together_are_not_concatenated():
    lines = fit(X, Y)
    with pytest.raises(TypeError, match="list of fits that is not empty"):
        Fit.concatenate([])
    for other, message in (
        (fit(X, Y, ansatz=Polynomial(2)), "one ansatz"),
        (fit(X, Y, cov_type="HC3"), "one ansatz and covariance"),
        (fit(X, Y, weights=WEIGHTS), "all with weights or all without"),
        (fit(X.astype("f4"), Y.astype("f4")), "one dtype, got float32, float64"),
    ):
        with pytest.raises(ValueError, match=message):
            Fit.concatenate([lines, other])
    with pytest.raises(ValueError, match="axis 2 is not one of the 2 axes"):
        Fit.concatenate([lines, lines], axis=2)
    with pytest.raises(ValueError, match="fits of a single data set"):
        Fit.concatenate([lines[0, 0], lines[0, 1]])
