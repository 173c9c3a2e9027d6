"""The tour says what the data say, and its pictures are written."""

import matplotlib as mpl
import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import statsmodels.api as sm
from typer.testing import CliRunner

from jaxreg import datasets
from jaxreg.faces import tour
from jaxreg.faces.cli import main
from jaxreg.faces.cli.app import app

mpl.use("Agg")


def run(*arguments):
    outcome = CliRunner().invoke(app, ["tour", *map(str, arguments)], env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


@pytest.mark.slow
def test_the_seven_steps_hold_the_numbers_of_others(tmp_path):
    text = run("--plots", tmp_path / "new" / "folder")
    assert [line[0] for line in text.splitlines() if line[0] != " "] == list("1234567")
    y = datasets.pacific_sst().sst[:, 12, 4].values.astype("f8")
    x = np.linspace(-1, 1, 50)
    known = sm.OLS(y, sm.add_constant(x)).fit()
    b0, b1 = known.params
    assert f"β₁ = cov(x, y) / var(x) = {b1:.5f} K, β₀ = ⟨y⟩ − β₁⟨x⟩ = {b0:.5f} K" in text
    assert f"{b1:.3f} ± {known.bse[1]:.3f} K, P = {known.pvalues[1]:.3f}" in text
    assert f"± {known.bse[0]:.3f} and ± {known.bse[1]:.3f} K: the standard errors" in text
    e = y - 1 + 0.8 * x
    p = -2 * np.array([e.mean(), (x * e).mean()])
    assert text.count(f"({p[0]:.4f}, {p[1]:.4f}) K") == 2
    assert f"S = {np.mean(e**2):.4f} K² at the start" in text
    curvature = 2 * np.mean(x**2)
    assert f"eigenvalues {curvature:.3f} and 2.000" in text
    size = 2 * np.pi * 0.02 / np.sqrt(2 * curvature)
    assert f"S = {known.ssr / 50:.4f} K²; for ħ = 0.02 K² |𝒜| = {size:.4f} K², exactly" in text
    assert f"any α below 1.000 converges, {2 / (2 + curvature):.3f} fastest" in text
    pictures = sorted((tmp_path / "new" / "folder").iterdir())
    assert [picture.name[0] for picture in pictures] == list("1234567")
    for picture in pictures:
        pixels = matplotlib.image.imread(picture)
        assert pixels.shape[0] > 300
        assert pixels.std() > 0.05  # something is drawn


def test_each_step_is_printed_before_the_next_is_computed(monkeypatch):
    def fail(cell):
        raise ValueError("not now")

    monkeypatch.setattr(tour, "_contradictions", fail)
    outcome = CliRunner().invoke(app, ["tour"])
    assert str(outcome.exception) == "not now"
    assert outcome.output.startswith("1. The ansatz")
    assert len(outcome.output.splitlines()) == 3


@pytest.fixture
def cell():
    yield tour._Cell()
    plt.close("all")


def test_the_picture_of_contradictions_counts_the_lines_outside(cell):
    tour._contradictions(cell).draw()
    ax = plt.gca()
    slope = np.diff(cell.y) / np.diff(cell.x)
    intercept = cell.y[1:] - slope * cell.x[1:]
    drawn = np.array(ax.lines[0].get_data())
    np.testing.assert_allclose(drawn, [intercept, slope], rtol=1e-9, atol=1e-9)
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    inside = (left < intercept) & (intercept < right) & (low < slope) & (slope < high)
    assert high < 25 < slope.max()
    assert 30 < inside.sum() < 45
    assert f"; {np.sum(~inside)} of 49 lie outside" in ax.get_title(loc="left")


def test_the_picture_of_momenta_shows_them_and_the_flow(cell):
    tour._momenta(cell).draw()
    ax = plt.gca()
    arrows = ax.collections[0]
    b0, b1 = arrows.X, arrows.Y
    e = cell.y - b0[:, None] - b1[:, None] * cell.x
    np.testing.assert_allclose(arrows.U, 2 * e.mean(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(arrows.V, 2 * (cell.x * e).mean(axis=1), rtol=1e-9, atol=1e-12)
    best = np.polynomial.Polynomial.fit(cell.x, cell.y, 1, domain=[-1, 1]).coef
    starts = []
    for curve in ax.lines[:-1:2]:
        starts.append(curve.get_xydata()[0])
        np.testing.assert_allclose(curve.get_xydata()[-1], best, atol=2e-3)
    assert any(np.allclose(start, tour.START) for start in starts)
    assert "friction" not in ax.get_title(loc="left")


def test_a_file_is_no_folder(tmp_path, monkeypatch, capsys):
    file = tmp_path / "plots"
    file.write_text("")
    monkeypatch.setattr("sys.argv", ["jaxreg", "tour", "--plots", str(file)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert f"--plots takes a folder, and {file} is a file" in capsys.readouterr().err
