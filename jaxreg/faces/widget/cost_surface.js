// The cost surface of a line fit, with gradient descent and the flow from a point θ that is dragged.
//
// line: {turning_point: θ*, cost: S*, gram: A} of the moments, the data {x, y} that are drawn, `limits` of both
// params and `labels` [x, y, β₀, β₁]. All coordinates are those of the data.

const FLOW = "#0072B2", DESCENT = "#D55E00"; // that color-blind readers can distinguish, on light and dark

// S(θ) = S* + (θ − θ*)ᵀ A (θ − θ*)
export function cost(line, theta) {
  const [[a, b], [, c]] = line.gram, [u, v] = away(line, theta);
  return line.cost + a * u * u + 2 * b * u * v + c * v * v;
}

// ∇S = 2A (θ − θ*)
export function gradient(line, theta) {
  const [[a, b], [, c]] = line.gram, [u, v] = away(line, theta);
  return [2 * (a * u + b * v), 2 * (b * u + c * v)];
}

// Eigenvalues λ of H = 2A, ascending, and their unit eigenvectors.
export function modes(line) {
  const [[a, b], [, c]] = line.gram;
  const largest = a + c + Math.hypot(a - c, 2 * b);
  const angle = Math.atan2(2 * b, a - c) / 2; // of the direction of the largest
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return { rates: [(4 * (a * c - b * b)) / largest, largest], directions: [[-sin, cos], [cos, sin]] };
}

// v ← μv − α∇S, θ ← θ + v: every θ from the start on; μ = 0 is plain gradient descent.
export function descent(line, start, rate, steps, retention = 0) {
  const path = [start];
  let velocity = [0, 0];
  for (let k = 0; k < steps; k++) {
    const slope = gradient(line, path[k]);
    velocity = velocity.map((v, i) => retention * v - rate * slope[i]);
    path.push(path[k].map((p, i) => p + velocity[i]));
  }
  return path;
}

// θ̇ = −∇S: each error along an eigenvector decays as e^{−λt}.
export function flow(line, start, t) {
  return alongModes(line, start, (rate) => Math.exp(-rate * t));
}

// θ̈ = −γθ̇ − ∇S from rest: a damped oscillation along each eigenvector.
export function oscillation(line, start, t, friction) {
  return alongModes(line, start, (rate) => {
    const square = (friction * friction) / 4 - rate, w = Math.sqrt(Math.abs(square)), half = friction / 2;
    if (w * t < 1e-6) return Math.exp(-half * t) * (1 + half * t);
    if (square < 0) return Math.exp(-half * t) * (Math.cos(w * t) + (half / w) * Math.sin(w * t));
    return ((1 + half / w) * Math.exp((w - half) * t) + (1 - half / w) * Math.exp(-(w + half) * t)) / 2;
  });
}

function away(line, theta) {
  return theta.map((value, i) => value - line.turning_point[i]);
}

function alongModes(line, start, factor) {
  const { rates, directions } = modes(line), error = away(line, start), theta = [...line.turning_point];
  directions.forEach(([p, q], k) => {
    const part = (p * error[0] + q * error[1]) * factor(rates[k]);
    theta[0] += part * p;
    theta[1] += part * q;
  });
  return theta;
}

// What is drawn for a state of the controls: the descent, and the flow at many times and at those of the steps.
export function paths(line, { theta, learning_rate, inertia, friction, steps }) {
  const unit = inertia ? Math.sqrt(learning_rate) : learning_rate; // of time, that a step takes
  const retention = inertia ? Math.max(0, 1 - friction * unit) : 0;
  const at = (t) => (inertia ? oscillation(line, theta, t, friction) : flow(line, theta, t));
  const dense = Array.from({ length: 801 }, (_, i) => at(unit * steps * (i / 800) ** 2));
  const dots = descent(line, theta, learning_rate, steps, retention);
  return { retention, dots, dense, atSteps: dots.map((_, k) => at(unit * k)) };
}

// The interface of an anywidget model, for pages without Python.
export function modelOf(values) {
  const listeners = new Set();
  return {
    get: (name) => values[name],
    set: (name, value) => { values[name] = value; },
    save_changes: () => listeners.forEach((listener) => listener()),
    on: (_, listener) => listeners.add(listener),
    off: (_, listener) => listeners.delete(listener),
  };
}

const CONTROLS = ["learning_rate", "inertia", "friction", "steps"];

export function render({ model, el }) {
  const line = model.get("line"), { rates } = modes(line), [xLabel, yLabel, ...names] = line.labels;
  const surface = panel({ width: 440, height: 380, limits: line.limits, labels: names });
  const data = panel({ width: 340, height: 190, limits: [range(line.x), range(line.y)], labels: [xLabel, yLabel] });
  const excess = panel({ width: 340, height: 190, labels: ["step k", "S − S*"], isLog: true });
  const handle = svg("circle", { r: 8, fill: DESCENT, stroke: "currentColor", "stroke-width": 2, tabindex: 0 });
  handle.setAttribute("role", "slider");
  handle.style.cursor = "grab";
  surface.root.append(handle);
  surface.root.style.touchAction = "none";

  const change = (name, value) => {
    model.set(name, value);
    model.save_changes();
  };
  const fastest = 2 / rates[1];
  const inputs = {
    learning_rate: slider("learning rate α", 0.005 * fastest, 1.2 * fastest),
    steps: slider("steps", 1, 200, 1),
    inertia: input("inertia", { type: "checkbox" }),
    friction: slider("friction γ", 0, 2.4 * Math.sqrt(rates[1])),
  };
  for (const [name, { field }] of Object.entries(inputs)) {
    const value = () => (name === "inertia" ? field.checked : Number(field.value));
    field.addEventListener("input", () => change(name, value()));
  }
  const reading = html("p", { style: "margin:.4em 0;min-height:3em" });
  const controls = html("div", { style: ROW }, ...Object.values(inputs).map(({ label }) => label));
  const right = html("div", { style: "display:grid;min-width:0" }, data.root, excess.root);
  el.replaceChildren(html("div", { style: ROW }, surface.root, right), controls, reading);

  const move = (event) => {
    const box = surface.root.getBoundingClientRect(), { width, height } = surface;
    const px = ((event.clientX - box.left) / box.width) * width;
    change("theta", surface.inside(surface.from(px, ((event.clientY - box.top) / box.height) * height)));
  };
  surface.root.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    handle.focus();
    move(event);
    const stop = () => window.removeEventListener("pointermove", move);
    window.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) window.addEventListener(end, stop, { once: true });
  });
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const moved = model.get("theta").map((p, i) => p + (step[i] * (line.limits[i][1] - line.limits[i][0])) / 50);
    change("theta", surface.inside(moved));
  });

  const draw = () => {
    const state = Object.fromEntries(["theta", ...CONTROLS].map((name) => [name, model.get(name)]));
    for (const name of CONTROLS) {
      const { field, output } = inputs[name];
      if (name === "inertia") field.checked = state.inertia;
      else [field.value, output.textContent] = [state[name], text(state[name])];
    }
    inputs.friction.field.disabled = !state.inertia;
    const { retention, dots, dense, atSteps } = paths(line, state), seen = dots.filter(surface.isNear);
    const reached = dots[dots.length - 1], start = state.theta;
    surface.draw(
      ...contours(line).map((points) => surface.curve(points, "currentColor", { opacity: 0.35, fill: "currentColor" })),
      surface.curve(dense, FLOW, { "stroke-width": 2.5 }),
      surface.curve(seen, DESCENT),
      ...seen.map((point) => surface.dot(point, DESCENT, 2.5)),
    );
    const [cx, cy] = surface.to(start);
    for (const [name, value] of [["cx", cx], ["cy", cy]]) handle.setAttribute(name, value);
    handle.setAttribute("aria-label", "θ, moved by dragging or with the arrow keys");
    handle.setAttribute("aria-valuetext", `${names[0]} = ${text(start[0])}, ${names[1]} = ${text(start[1])}`);
    const ends = range(line.x), lineOf = ([p, q]) => ends.map((x) => [x, p + q * x]);
    data.draw(
      ...line.x.map((x, i) => data.dot([x, line.y[i]], "currentColor", 2, 0.5)),
      data.curve(lineOf(start), "currentColor", { "stroke-dasharray": "4 4" }),
      data.curve(lineOf(line.turning_point), FLOW, { "stroke-width": 2.5 }),
      ...(reached.every(Number.isFinite) ? [data.curve(lineOf(reached), DESCENT)] : []),
    );
    const byStep = (path) => path.map((theta, k) => [k, Math.log10(cost(line, theta) - line.cost)]);
    const [measured, exact] = [byStep(dots), byStep(atSteps)];
    const first = measured[0][1], isShown = ([, y]) => Number.isFinite(y) && y > first - 12 && y < first + 3;
    const heights = [...measured, ...exact].filter(isShown).map(([, y]) => y);
    excess.setLimits([[0, state.steps], heights.length ? range(heights) : [-1, 1]]);
    excess.draw(
      excess.curve(exact.filter(isShown), FLOW, { "stroke-width": 2.5 }),
      ...measured.filter(isShown).map((point) => excess.dot(point, DESCENT, 2.5)),
    );
    reading.replaceChildren(
      `θ = (${start.map(text).join(", ")}), S = ${text(cost(line, start))}. `,
      html("span", { style: `color:${DESCENT}` }, "●"),
      ` descent: S = ${text(cost(line, reached))} after ${state.steps} steps` +
        (state.inertia ? `, v ← μv − α∇S with μ = ${text(retention)}. ` : ", θ ← θ − α∇S. "),
      html("span", { style: `color:${FLOW}` }, "●"),
      ` flow ${state.inertia ? "θ̈ = −γθ̇ − ∇S" : "θ̇ = −∇S"}, and the turning point S* = ${text(line.cost)}. `,
      `Plain descent converges for α below ${text(fastest)}; friction is critical at ` +
        `γ = ${text(2 * Math.sqrt(rates[0]))}.`,
    );
  };
  const watched = ["theta", ...CONTROLS].map((name) => `change:${name}`);
  watched.forEach((name) => model.on(name, draw));
  draw();
  return () => watched.forEach((name) => model.off(name, draw));
}

export default { render };

// Ellipses of equal cost, denser at the bottom.
function contours(line) {
  const { rates, directions: [p, q] } = modes(line), [low, high] = line.limits.map((limits) => limits[0]);
  const [, top] = line.limits.map((limits) => limits[1]);
  const corner = Math.max(cost(line, [low, high]), cost(line, [low, top])) - line.cost;
  return Array.from({ length: 12 }, (_, k) => {
    const level = corner * ((12 - k) / 12) ** 2, [a, b] = rates.map((rate) => Math.sqrt((2 * level) / rate));
    return Array.from({ length: 97 }, (_, i) => {
      const u = a * Math.cos((i * Math.PI) / 48), v = b * Math.sin((i * Math.PI) / 48);
      return line.turning_point.map((center, j) => center + u * p[j] + v * q[j]);
    });
  });
}

// Axes with ticks; `to` and `from` are between coordinates and pixels.
function panel({ width, height, limits, labels, isLog = false }) {
  const [left, right, top, bottom] = [64, width - 12, 10, height - 44];
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "font-size": 13 });
  const clip = svg("svg", { x: left, y: top, width: right - left, height: bottom - top });
  const [axes, content] = [svg("g", { fill: "currentColor" }), svg("g", { transform: `translate(${-left} ${-top})` })];
  root.style.maxWidth = "100%";
  root.style.height = "auto";
  clip.append(content);
  root.append(axes, clip);
  const to = ([x, y]) => [
    left + ((x - limits[0][0]) / (limits[0][1] - limits[0][0])) * (right - left),
    bottom - ((y - limits[1][0]) / (limits[1][1] - limits[1][0])) * (bottom - top),
  ];
  const from = (px, py) => [
    limits[0][0] + ((px - left) / (right - left)) * (limits[0][1] - limits[0][0]),
    limits[1][0] + ((bottom - py) / (bottom - top)) * (limits[1][1] - limits[1][0]),
  ];
  const drawAxes = () => {
    const label = (content, attributes) => svg("text", attributes, content);
    const frame = { x: left, y: top, width: right - left, height: bottom - top, fill: "none", stroke: "currentColor" };
    const middle = (top + bottom) / 2;
    axes.replaceChildren(
      svg("rect", { ...frame, "stroke-opacity": 0.5 }),
      ...ticks(limits[0]).map((x) => label(text(x), { x: to([x, 0])[0], y: bottom + 16, "text-anchor": "middle" })),
      ...ticks(limits[1], isLog).map((y) =>
        label(isLog ? `1e${text(y)}` : text(y), { x: left - 5, y: to([0, y])[1] + 4, "text-anchor": "end" })),
      label(labels[0], { x: (left + right) / 2, y: bottom + 36, "text-anchor": "middle" }),
      label(labels[1], { transform: `translate(14 ${middle}) rotate(-90)`, "text-anchor": "middle" }),
    );
  };
  if (limits) drawAxes();
  return {
    root, width, height, to, from,
    setLimits: (given) => { limits = given; drawAxes(); },
    inside: (point) => point.map((p, i) => Math.min(Math.max(p, limits[i][0]), limits[i][1])),
    isNear: (point) => to(point).every((pixel) => Math.abs(pixel) < 20 * width),
    draw: (...elements) => content.replaceChildren(...elements),
    curve: (points, stroke, { fill, ...attributes } = {}) => svg("polyline", {
      points: points.map((point) => to(point).map((pixel) => pixel.toFixed(1)).join()).join(" "),
      stroke, fill: fill ?? "none", "fill-opacity": 0.08, ...attributes,
    }),
    dot: (point, fill, r, opacity = 1) => {
      const [cx, cy] = to(point);
      return svg("circle", { cx, cy, r, fill, opacity });
    },
  };
}

const ROW = "display:flex;flex-wrap:wrap;gap:.5em 1.5em;align-items:flex-start";

function svg(name, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function html(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function input(name, attributes) {
  const field = html("input", attributes), output = html("output", {});
  return { field, output, label: html("label", {}, `${name} `, field, " ", output) };
}

function slider(name, min, max, step = "any") {
  return input(name, { type: "range", min, max, step });
}

// Limits with a margin.
function range(values) {
  const [low, high] = [Math.min(...values), Math.max(...values)], margin = 0.06 * (high - low) || 1;
  return [low - margin, high + margin];
}

// Up to seven round numbers between the limits; whole ones for exponents.
function ticks([low, high], isWhole = false) {
  const rough = (high - low) / 6, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough && (!isWhole || s >= 1)) ?? 1;
  const count = Math.floor(high / step) - Math.ceil(low / step) + 1;
  return Array.from({ length: count }, (_, i) => (Math.ceil(low / step) + i) * step);
}

// Three or four digits with a true minus sign.
function text(value) {
  return String(Number(Number(value).toPrecision(4))).replaceAll("-", "−");
}
