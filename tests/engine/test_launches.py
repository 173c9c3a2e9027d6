"""Launches and bytes of the programs for a GPU, where the compiler for it is installed (extra `devices`)."""

import json
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

from bench import device_paths

VERSIONS = {(distribution.name, distribution.version) for distribution in distributions()}
NEEDED = {("jax", "0.10.2"), ("jax-cuda12-plugin", "0.10.2"), ("nvidia-cuda-nvcc-cu12", "12.9.86")}
NOT_MET = {"shared design, p = 32, no gaps", "shared design, p = 32, gaps"}  # see bench/README.md
PATHS = [name for name, path in device_paths.PATHS.items() if path.target and name not in NOT_MET]


@pytest.mark.slow
@pytest.mark.either_mode
@pytest.mark.skipif(not NEEDED <= VERSIONS, reason='needs python -m pip install ".[devices]"')
@pytest.mark.parametrize("path", PATHS)
def test_launches_and_bytes_meet_their_targets(path):
    root = Path(__file__).parent.parent.parent
    command = [sys.executable, "-m", "bench.devices", "H200", path]
    output = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout
    found = json.loads(output.splitlines()[-1])
    assert found["path"] == path
    assert found["is_met"], found
