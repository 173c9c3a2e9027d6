"""The pages of the site: each snippet runs and prints what the page says, and what pages name exists."""

import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

import jaxreg
from jaxreg import frame, physics, plot, sklearn, xarray

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
PAGES = {path.relative_to(NOTEBOOKS).as_posix(): path.read_text() for path in NOTEBOOKS.rglob("*.md")}
QUICK = {"equations/01.md", "equations/06.md"}  # compile little


def with_fences(language):
    """The pages that have such fences; slow ones are marked."""
    pages = sorted(name for name, text in PAGES.items() if f"```{language}\n" in text)
    return [pytest.param(p, marks=[] if p in QUICK else pytest.mark.slow) for p in pages]


def fences(page, language):
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], flags=re.S)


@pytest.mark.either_mode
@pytest.mark.parametrize("page", with_fences("python"))
def test_python_prints_what_the_page_says(page, capsys, recwarn):
    names = {}
    for run in fences(page, "python"):
        exec(run, names)
        said = [line.removeprefix("# ") for line in run.splitlines() if line.startswith("# ")]
        printed = capsys.readouterr().out.splitlines()
        assert [" ".join(line.split()) for line in printed] == [" ".join(line.split()) for line in said]
    assert not recwarn.list


@pytest.mark.either_mode
@pytest.mark.parametrize("page", with_fences("console"))
def test_commands_print_what_the_page_says(page, tmp_path):
    """`$ command`, and its output, in which `...` stands for any text."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    for fence in fences(page, "console"):
        for command, said in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", fence, flags=re.M):
            streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            done = subprocess.run(command, shell=True, cwd=tmp_path, env=environment, **streams)
            printed, pattern = (" ".join(text.split()) for text in (done.stdout, said))
            assert done.returncode == 0, printed
            assert fnmatch(printed, pattern.replace("[", "[[]").replace("...", "*")), command


def test_every_equation_has_its_tests():
    named = [re.findall(r"`(tests/\S+\.py)::(\w+)`", PAGES[f"equations/{k:02}.md"]) for k in range(1, 17)]
    assert all(named)
    for path, name in {pair for page in named for pair in page}:
        assert f"def {name}(" in (ROOT / path).read_text(), (path, name)


def test_every_public_name_is_in_the_reference():
    text = "\n".join(text for page, text in PAGES.items() if page.startswith("api/"))
    listed = set(re.findall(r"^\.\. (?:auto|py:)\w+:: (\w+)$", text, flags=re.M))
    modules = set(re.findall(r"^\.\. automodule:: jaxreg\.(\w+)\n   :members:", text, flags=re.M))
    assert set(jaxreg.__all__) - modules <= listed
    assert set(sklearn.__all__) <= listed
    assert {face.__name__.removeprefix("jaxreg.") for face in (frame, physics, plot, xarray)} <= modules
