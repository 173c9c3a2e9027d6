"""The README's Python runs as it stands, and prints what it says."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
RUNS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


def test_every_printed_line_is_what_the_readme_says(capsys):
    names = {}
    for run in RUNS:
        exec(run, names)
        said = [line.removeprefix("# ") for line in run.splitlines() if line.startswith("# ")]
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(said)
        for there, here in zip(printed, said, strict=True):
            assert _words(there) == _words(here)
            assert _numbers(there) == pytest.approx(_numbers(here), rel=1e-3, abs=1e-6)


NUMBER = r"-?\d+\.?\d*(?:e-?\d+)?"


def _words(line):
    return re.sub(r"\s", "", re.sub(NUMBER, "#", line))


def _numbers(line):
    return [float(number) for number in re.findall(NUMBER, line)]
