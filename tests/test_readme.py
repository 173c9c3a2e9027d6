"""The README's Python runs as it stands, and prints what it says."""

import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
RUNS = re.findall(r"```python\n(.*?)```", README, flags=re.S)


@pytest.mark.slow
def test_every_printed_line_is_what_the_readme_says(capsys):
    names = {}
    for run in RUNS:
        exec(run, names)
        said = [line.removeprefix("# ") for line in run.splitlines() if line.startswith("# ")]
        printed = capsys.readouterr().out.splitlines()
        assert len(printed) == len(said)
        assert [" ".join(line.split()) for line in printed] == [" ".join(line.split()) for line in said]
