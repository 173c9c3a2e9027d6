"""The README's Python and its commands run as they stand, and print what it says."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from jaxreg.faces.cli import main

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


def test_a_command_prints_what_the_readme_says(tmp_path, monkeypatch, capsys):
    """`cat FILE` shows the file that the next command reads."""
    monkeypatch.chdir(tmp_path)
    (session,) = re.findall(r"```console\n(.*?)```", README, flags=re.S)
    for command, said in re.findall(r"^\$ (.*)\n((?:[^$\n].*\n)*)", session, flags=re.M):
        program, *arguments = shlex.split(command)
        if program == "cat":
            (tmp_path / arguments[0]).write_text(said)
            continue
        monkeypatch.setattr(sys, "argv", [program, *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 0
        assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == said.splitlines()
