"""Launches and bytes of the programs for a GPU, where the compiler for it is installed (extra `devices`)."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

CAN_COMPILE = any(distribution.name == "jax-cuda12-plugin" for distribution in distributions())
PROMISED = ["line, own x", "line, shared x, gaps", "line, weights (n, m)", "own design, p = 4", "HAC, 5 lags"]


@pytest.mark.slow
@pytest.mark.either_mode
@pytest.mark.skipif(not CAN_COMPILE, reason='needs python -m pip install ".[devices]"')
@pytest.mark.parametrize("path", PROMISED)
def test_a_fit_takes_the_promised_launches_and_bytes(path):
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "bench.devices", "H200", path]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["path"] == path
    assert found["is_met"], found
