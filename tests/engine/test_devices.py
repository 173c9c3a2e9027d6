"""Data sets of arrays on the host, or observations, that are divided among several devices."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxreg import fit

SCRIPT = """
import jax, numpy as np
from scipy.stats import linregress
from jaxreg import (
    HAC, Bisquare, Linear, Logistic, Ridge, fit
)

assert len(jax.devices()) == 8
rng = np.random.default_rng(0)
x, X = np.arange(40, dtype="f4"), rng.normal(size=(40, 12)).astype("f4")


def responses(m):
    y = rng.normal(size=(40, m)).astype("f4")
    y[3, ::5] = np.nan
    y[:, -1] = 5e6 + x  # rounds so much that it is summed a second time, in double-double
    return y


def is_the_same(x, y, devices=jax.devices(), block_size="auto", rtol=0, **options):
    one, many = fit(x, y, **options), fit(x, y, devices=devices, block_size=block_size, **options)
    for a, b in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol)
    return many
"""

LINES = """
y = responses(21)
lines = is_the_same(x, y)
valid = np.isfinite(y[:, 0])
want = linregress(x[valid].astype(float), y[valid, 0].astype(float))
np.testing.assert_allclose(np.asarray(lines.params)[1, 0], want.slope, rtol=1e-5)
mesh = jax.make_mesh((4, 2), ("a", "b"))
for devices in (mesh, jax.devices()):
    assert len(is_the_same(x, y, devices, block_size=16).params.devices()) == 8
"""

OTHERS = """
few = responses(3)
assert len(is_the_same(x, few).params.devices()) == 3
is_the_same(x, few[:, :1])
is_the_same(x, jax.device_put(few, jax.devices()[5]), jax.devices()[:2])
y = responses(21)
y[:, 3] = np.inf
is_the_same(x, y, cov_type="HC1")
is_the_same(x, y, cov_type=HAC(2))
is_the_same(rng.normal(size=y.shape).astype("f4"), y, weights=np.abs(np.nan_to_num(y, nan=1, posinf=1)))
is_the_same(X, y, ansatz=Linear())
is_the_same(x, y, cost=Bisquare(), rtol=1e-5)  # arrays on the host are iterated in tiles
is_the_same(X[:, :2], (y > 0).astype("f4"), ansatz=Linear(), cost=Logistic(), rtol=1e-4)
is_the_same(X, y, ansatz=Linear(), cost=Ridge.choose([0.1, 1.0]))
"""

ROWS = """
from itertools import product
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import pytest
import statsmodels.api as sm

y = responses(6)
y[:, 1], y[2:, 2] = np.inf, np.nan
w = rng.uniform(1, 2, 40).astype("f4")
for kind in (AxisType.Auto, AxisType.Explicit):
    mesh = jax.make_mesh((4, 2), ("rows", "data_sets"), axis_types=(kind, kind))
    for rows, options in product(
        [("rows", "data_sets"), ("rows",), (("rows", "data_sets"),)], [{}, {"weights": w}, {"sigma": w}]
    ):
        at = jax.device_put(y, NamedSharding(mesh, P(*rows)))
        lines = fit(x, at, **options)
        assert len(lines.params.devices()) == 8
        np.testing.assert_array_equal(lines.status, fit(x, y, **options).status)
        weights = np.ones(40)
        if options:
            weights = w.astype(float) if "weights" in options else 1 / w.astype(float) ** 2
        for j in (0, 3, 4):
            valid = np.isfinite(y[:, j])
            want = sm.WLS(y[valid, j].astype(float), sm.add_constant(x[valid]), weights[valid]).fit()
            np.testing.assert_allclose(np.asarray(lines.params)[:, j], want.params, rtol=1e-5)
            np.testing.assert_allclose(np.asarray(lines.bse)[:, j], want.bse, rtol=1e-5)
            np.testing.assert_allclose(np.asarray(lines.rsquared)[j], want.rsquared, rtol=1e-4)
    columns = fit(X, at, ansatz=Linear())
    np.testing.assert_allclose(columns.params, fit(X, y, ansatz=Linear()).params, rtol=1e-5)
    with pytest.raises(ValueError, match="divide the data sets instead"):
        fit(x, at, cov_type="HC1")
"""


@pytest.mark.either_mode
@pytest.mark.parametrize(
    "checks",
    [LINES, pytest.param(OTHERS, marks=pytest.mark.slow), pytest.param(ROWS, marks=pytest.mark.slow)],
    ids=["lines", "other fits", "observations"],
)
def test_on_eight_devices(checks):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT + checks], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("devices", "message"),
    [("cpu", "got 'cpu'"), ([0], "got 0 in it"), (2 * jax.devices()[:1], "each once"), ([], "each once")],
)
def test_wrong_devices(devices, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit([0, 1, 2], [1, 3, 5], devices=devices)


def test_devices_within_jit():
    with pytest.raises(ValueError, match="shard the arrays instead"):
        jax.jit(lambda y: fit(np.arange(3.0), y, devices=jax.devices()).params)(np.ones(3))
