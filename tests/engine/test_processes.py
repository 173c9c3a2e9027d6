"""Data sets, or observations, that belong to several processes of `jax.distributed`, on this machine."""

import os
import socket
import subprocess
import sys

import pytest

SCRIPT = """
import sys

import jax

processes, rank, address = 2, int(sys.argv[1]), sys.argv[2]
jax.distributed.initialize(address, processes, rank)

import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P
from scipy.stats import linregress
from jaxreg import fit

rng = np.random.default_rng(0)
x, y = np.arange(30, dtype="f4"), rng.normal(size=(30, 8)).astype("f4")
y[3, ::3] = np.nan
own = slice(4 * rank, 4 * rank + 4)
mesh = jax.make_mesh((processes,), ("data_sets",))
shared = jax.make_array_from_process_local_data(NamedSharding(mesh, P(None, "data_sets")), y[:, own])
lines = fit(x, shared)
assert lines.params.sharding.spec == P(None, "data_sets")
assert repr(lines) == "<Fit of Line() to data sets (8,) of 2 processes>"
(part,) = (np.asarray(shard.data) for shard in lines.params.addressable_shards)
np.testing.assert_array_equal(part, fit(x, y[:, own]).params)
for j in range(4):
    valid = np.isfinite(y[:, 4 * rank + j])
    want = linregress(x[valid].astype(float), y[valid, 4 * rank + j].astype(float))
    np.testing.assert_allclose(part[1, j], want.slope, rtol=1e-4)

rows = slice(15 * rank, 15 * rank + 15)
halves = jax.make_array_from_process_local_data(NamedSharding(mesh, P("data_sets")), y[rows])
everywhere = fit(x, halves)
np.testing.assert_allclose(np.asarray(everywhere.params.addressable_data(0)), fit(x, y).params, rtol=1e-5)
np.testing.assert_allclose(np.asarray(everywhere.bse.addressable_data(0)), fit(x, y).bse, rtol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.either_mode
def test_two_processes():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(rank), address],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
