"""The functions of the drawing agree with the library, and its page works in a browser."""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import optax
import pytest

from jaxreg import descend, exact_flow, fit, mean_squared_error, moments, momentum, widget
from jaxreg.faces.widget import state
from jaxreg.faces.widget.notebook import SCRIPT
from jaxreg.faces.widget.state import state_of

NODE, BROWSER = shutil.which("node"), shutil.which("chromium")
OFFLINE = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
)
START = [3.0, -1.0]


@pytest.fixture
def line(rng):
    x = rng.uniform(-1, 2, 30)
    y = 1 + 2 * x + rng.normal(size=30)
    y[3] = np.nan
    return x, y


def mean_square(theta, x, y):
    return np.nanmean((y - theta[0] - theta[1] * x) ** 2)


def evaluate(line, expression):
    """A JavaScript expression of `line` in node."""
    program = f"{SCRIPT.read_text('utf-8')}\nconst line = {json.dumps(line)};\n"
    program += f"console.log(JSON.stringify({expression}));"
    done = subprocess.run(
        [NODE, "--input-type=module", "-"], input=program, capture_output=True, text=True, encoding="utf-8"
    )
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_cost_gradient_and_rates_in_javascript_are_those_of_the_library(line):
    drawn = state_of(*line)["line"]
    S, gradient, modes = evaluate(drawn, f"[cost(line, {START}), gradient(line, {START}), modes(line)]")
    theta, flow = np.array(START), exact_flow(moments(*line))
    assert pytest.approx(mean_square(START, *line), rel=1e-10) == S
    np.testing.assert_allclose(gradient, momentum(mean_squared_error, theta, *line), rtol=1e-10)
    np.testing.assert_allclose(modes["rates"], flow.rates, rtol=1e-10)
    for rate, direction in zip(flow.rates, modes["directions"], strict=True):
        np.testing.assert_allclose(flow.hessian @ np.array(direction), rate * np.array(direction), rtol=1e-9)


@pytest.mark.skipif(NODE is None, reason="needs node")
@pytest.mark.parametrize("retention", [0.0, 0.8])
def test_the_descent_in_javascript_is_that_of_optax(line, retention):
    path = evaluate(state_of(*line)["line"], f"descent(line, {START}, 0.1, 30, {retention})")
    optimizer = optax.sgd(0.1, momentum=retention or None)
    start = np.array(START)
    expected = descend(mean_squared_error, start, *line, optimizer=optimizer, steps=30, history=True)
    np.testing.assert_allclose(path, expected.history.params, rtol=1e-9)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_the_flows_in_javascript_are_those_of_the_library(line):
    flow = exact_flow(moments(*line))
    times, start = np.array([0.0, 1e-9, 0.1, 1.0, 5.0, 20.0]), np.array(START)
    frictions = [0.0, 0.4, float(flow.critical_friction[0]), float(flow.critical_friction[1]), 9.0]
    all_times = f"{times.tolist()}.map((t) => "
    oscillations = ", ".join(f"{all_times}oscillation(line, {START}, t, {gamma}))" for gamma in frictions)
    plain, *damped = evaluate(
        state_of(*line)["line"], f"[{all_times}flow(line, {START}, t)), {oscillations}]"
    )
    np.testing.assert_allclose(plain, flow.trajectory(start, times).params, rtol=1e-9)
    for gamma, path in zip(frictions, damped, strict=True):
        np.testing.assert_allclose(path, flow.oscillation(start, times, gamma).params, rtol=1e-7)


@pytest.mark.skipif(NODE is None, reason="needs node")
def test_friction_becomes_momentum(line):
    """μ = 1 − γ√α, and steps of √α in time."""
    controls = state_of(*line, start=START, learning_rate=0.04, friction=1.5)
    drawn = controls.pop("line")
    found = evaluate(drawn, f"paths(line, {json.dumps(controls)})")
    assert found["retention"] == pytest.approx(0.7)
    times = 0.2 * np.arange(41)
    expected = exact_flow(moments(*line)).oscillation(np.array(START), times, 1.5)
    np.testing.assert_allclose(found["atSteps"], expected.params, rtol=1e-7)
    np.testing.assert_allclose(found["dense"][-1], expected.params[-1], rtol=1e-7)


def test_the_widget_starts_from_the_fit_and_keeps_what_is_set(line):
    surface = widget.cost_surface(*line, start=(0, 1), x_label="t (s)", y_label="T (K)", friction=0.2)
    x, y = line
    np.testing.assert_allclose(surface.line["turning_point"], fit(x, y).params, rtol=1e-12)
    assert surface.line["labels"][:2] == ["t (s)", "T (K)"]
    assert len(surface.line["y"]) == 29
    assert (surface.theta, surface.inertia, surface.friction) == ([0.0, 1.0], True, 0.2)
    surface.theta = [2.0, 3.0]
    assert surface.get_state(["theta"]) == {"theta": [2.0, 3.0]}
    surface.close()


def test_of_many_data_points_some_are_drawn(line, monkeypatch):
    monkeypatch.setattr(state, "MAX_POINTS", 10)
    assert len(state.state_of(*line)["line"]["x"]) == 10


def test_the_start_and_the_minimum_are_inside_of_the_surface(line):
    x, y = line
    drawn = state_of(x, 1e6 + y, weights=np.where(x > 0, 2.0, 0.0))
    limits = np.array(drawn["line"]["limits"])
    for point in (drawn["theta"], drawn["line"]["turning_point"]):
        assert (limits[:, 0] < point).all()
        assert (point < limits[:, 1]).all()
    assert len(drawn["line"]["x"]) == np.sum((x > 0) & ~np.isnan(y))


WRONG = {
    "two data sets": ((np.arange(3.0), np.ones((3, 2))), {}, r"one data set is drawn.*\(3, 2\)"),
    "constant x": ((np.ones(3), np.ones(3)), {}, "do not determine a line"),
    "one param": ((np.arange(3.0), np.ones(3)), {"start": [1.0]}, r"start is \(intercept, slope\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_drawn_is_refused_before_a_file_is_written(name, tmp_path):
    data, keywords, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        widget.cost_surface(*data, **keywords)
    with pytest.raises(ValueError, match=message):
        widget.write_page(tmp_path / "page.html", *data, **keywords)
    assert not list(tmp_path.iterdir())


def test_the_page_is_one_file(line, tmp_path):
    widget.write_page(tmp_path / "page.html", *line, title="<S>", x_label="</script><script>alert(1)")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("</script>") == 1
    assert "<title>&lt;S&gt;</title>" in page
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    with pytest.raises(FileNotFoundError):
        widget.write_page(tmp_path / "none" / "page.html", *line)


TRIAL = """
<script type="module">
const said = [], surface = document.querySelector("#surface svg"), box = surface.getBoundingClientRect();
window.addEventListener("error", (event) => said.push(event.message));
const pointer = (target, type, x, y) => target.dispatchEvent(new PointerEvent(type, {
  bubbles: true, clientX: box.left + x, clientY: box.top + y }));
const reading = () => said.push(document.querySelector("#surface p").textContent);
reading();
pointer(surface, "pointerdown", 300, 200); reading();
pointer(window, "pointermove", 150, 100); reading();
pointer(window, "pointerup", 150, 100);
pointer(window, "pointermove", 200, 300); reading();
document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true }));
reading();
const inertia = document.querySelector("input[type=checkbox]");
inertia.checked = true;
inertia.dispatchEvent(new Event("input")); reading();
document.body.innerHTML = "<pre></pre>";
document.querySelector("pre").textContent = JSON.stringify(said);
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium")
def test_the_page_follows_pointer_keys_and_controls_in_a_browser(line, tmp_path):
    page = tmp_path / "page.html"
    widget.write_page(page, *line, start=START)
    page.write_text(page.read_text("utf-8").replace("</body>", TRIAL + "</body>"), "utf-8")
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    command = [BROWSER, *OFFLINE.split(), profile, "--window-size=1000,800", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", timeout=120)
    said = json.loads(html.unescape(re.search(r"<pre>(.*)</pre>", done.stdout)[1]))
    points = [re.match(r"θ = \((.*?), (.*?)\)", text.replace("−", "-")).groups() for text in said]
    first, pressed, dragged, released, moved, inert = [tuple(map(float, point)) for point in points]
    assert first == tuple(START)
    assert first != pressed
    assert dragged[0] < pressed[0]  # to the left and upwards
    assert dragged[1] > pressed[1]
    assert released == dragged
    assert (moved[0] > dragged[0], moved[1]) == (True, dragged[1])
    assert inert == moved
    assert ["flow θ̇ = −∇S" in text for text in said] == [True] * 5 + [False]
    S = float(re.search(r"S = ([\d.]+)\.", said[4])[1])
    assert pytest.approx(mean_square(moved, *line), rel=2e-3) == S
