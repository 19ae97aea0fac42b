// The roofline explorer. All of it runs in the page: no kernel is asked.
// `rows` is roofs.py's; a test holds the two together.

const ITEMSIZE = { fp64: 8, fp32: 4, fp8_tensor: 1 }; // bytes of an element; the others have 2
const SIDES = [256, 4096];
const CONTEXTS = [0, 512, 2048, 8192];
const TRAITS = ["tables", "device", "precision", "exponent", "doublings", "context", "title"];

// --- the model -----------------------------------------------------------------------------------

export const itemsize = (precision) => ITEMSIZE[precision] ?? 2;

export function roof({ tables, device, precision }) {
  const { bandwidth, peaks } = tables.devices[device];
  const peak = peaks[precision];
  return { peak, bandwidth, ridge: peak / bandwidth };
}

/** Operations for each byte of one decode step: the weights once, each sequence's cache for itself. */
export function decodeIntensity({ weights, kv_elements, attention }, batch, context, size) {
  const flops = 2 * weights * batch + attention * context * batch;
  const bytes = weights * size + batch * context * kv_elements * size;
  return flops / bytes;
}

/** The kernel of the slider, then the fixed ones. */
export function rows(state) {
  const { peak, bandwidth, ridge } = roof(state);
  const size = itemsize(state.precision);
  const batch = 2 ** state.doublings;
  const listed = [
    ["your kernel", 10 ** state.exponent],
    ["vector add", 1 / (3 * size)],
    ...SIDES.map((n) => [`matmul ${n.toLocaleString("en")}`, (2 * n ** 3) / (3 * n * n * size)]),
    [`decode, batch ${batch}`, decodeIntensity(state.tables.model, batch, state.context, size)],
  ];
  return listed.map(([name, intensity]) => ({
    name,
    intensity,
    attainable: Math.min(peak, intensity * bandwidth),
    bound: intensity < ridge ? "memory" : "compute",
  }));
}

/** Three digits and a letter: 2.01e14 is "201 T". */
export function inWords(rate) {
  for (const [size, letter] of [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"]]) {
    if (rate >= size * 0.9995) return `${figure(rate / size)} ${letter}`;
  }
  return figure(rate);
}

/** Three digits, without an exponent and without zeros behind the point. */
export function figure(value) {
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumFractionDigits: 6 });
}

/** The result in words: what a screen reader hears when a control is moved. */
export function sentence(row, peak) {
  const share = figure((100 * row.attainable) / peak);
  return (
    `${row.name}: ${figure(row.intensity)} operations/byte, at most ${inWords(row.attainable)}FLOP/s, ` +
    `${share} % of the peak; bound by ${row.bound}`
  );
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

const X = [-2, 4]; // powers of ten of operations/byte
const LETTERS = ["A", "B", "C", "D", "E"]; // one for each row, in the drawing and in the table

function draw(state, listed, width, described) {
  const { peak, bandwidth, ridge } = roof(state);
  const top = Math.ceil(Math.log10(peak) + 0.3);
  const bottom = Math.floor(Math.log10(bandwidth) + X[0]);
  const [left, right, above, height] = [52, 24, 12, width < 480 ? 260 : 320];
  const x = (value) => left + ((Math.log10(value) - X[0]) / (X[1] - X[0])) * (width - left - right);
  const y = (rate) => above + ((top - Math.log10(rate)) / (top - bottom)) * (height - above - 44);
  const picture = svg("svg", { width, height, role: "img", "aria-label": described });
  for (let power = X[0]; power <= X[1]; power++) {
    const at = x(10 ** power);
    picture.append(svg("line", { x1: at, x2: at, y1: above, y2: y(10 ** bottom), class: "grid" }));
    picture.append(svg("text", { x: at, y: height - 26, class: "tick middle" }, figure(10 ** power)));
  }
  for (let power = bottom; power <= top; power++) {
    const at = y(10 ** power);
    picture.append(svg("line", { x1: left, x2: width - right, y1: at, y2: at, class: "grid" }));
    picture.append(svg("text", { x: left - 6, y: at + 4, class: "tick end" }, inWords(10 ** power)));
  }
  picture.append(svg("text", { x: (left + width) / 2, y: height - 6, class: "tick middle" }, "operations for each byte"));
  const end = 10 ** X[1];
  const bend = Math.min(Math.max(ridge, 10 ** X[0]), end);
  const corners = [[10 ** X[0], (10 ** X[0]) * bandwidth], [bend, Math.min(peak, bend * bandwidth)], [end, Math.min(peak, end * bandwidth)]];
  const path = corners.map(([i, rate]) => `${x(i).toFixed(1)},${y(rate).toFixed(1)}`).join(" ");
  picture.append(svg("line", { x1: x(bend), x2: x(bend), y1: y(peak), y2: y(10 ** bottom), class: "ridge" }));
  picture.append(svg("polyline", { points: path, class: "roof" }));
  [...listed.entries()].reverse().forEach(([k, row]) => {
    const [px, py] = [x(Math.min(Math.max(row.intensity, 10 ** X[0]), end)), y(row.attainable)];
    const kind = `mark ${row.bound}${k === 0 ? " mine" : ""}`;
    const mark = svg("circle", { cx: px, cy: py, r: 10, class: kind });
    mark.append(svg("title", {}, sentence(row, peak)));
    picture.append(mark, svg("text", { x: px, y: py + 4.2, class: "letter" }, LETTERS[k]));
  });
  return picture;
}

function list(listed, peak) {
  const head = ["", "kernel", "ops/byte", "bound by", "at most", "of peak"];
  const cells = (row, k) => [
    LETTERS[k],
    row.name,
    figure(row.intensity),
    row.bound,
    `${inWords(row.attainable)}FLOP/s`,
    `${figure((100 * row.attainable) / peak)} %`,
  ];
  const line = (kind, texts) => html("tr", {}, ...texts.map((text) => html(kind, { textContent: text })));
  return html(
    "table",
    {},
    html("thead", {}, line("th", head)),
    html("tbody", {}, ...listed.map((row, k) => line("td", cells(row, k)))),
  );
}

// --- the widget ----------------------------------------------------------------------------------

function slider(name, min, max, step) {
  return { name, input: html("input", { type: "range", min, max, step }), output: html("b"), number: true };
}

function select(name, options, number = false) {
  const input = html("select");
  const fill = (pairs) => {
    const wanted = pairs.map(([value]) => String(value)).join();
    if (input.dataset.options === wanted) return;
    input.dataset.options = wanted;
    input.replaceChildren(...pairs.map(([value, text]) => html("option", { value, textContent: text })));
  };
  fill(options);
  return { name, input, fill, number };
}

function labelled(text, { input, output }) {
  const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
  return html("label", {}, caption, input);
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const { devices, precisions } = state.tables;
  const device = select("device", Object.entries(devices).map(([key, { name }]) => [key, name]));
  const precision = select("precision", []);
  const exponent = slider("exponent", X[0], X[1], 0.05);
  const doublings = slider("doublings", 0, 8, 1);
  const context = select("context", CONTEXTS.map((n) => [n, n ? n.toLocaleString("en") : "none"]), true);
  const controls = [
    ["A: your kernel, ops/byte:", exponent],
    ["E: batch of the decode step:", doublings],
    ["device", device],
    ["precision", precision],
    ["E: tokens of context", context],
  ];
  const form = html("div", { className: "controls" }, ...controls.map(([text, control]) => labelled(text, control)));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const detail = html("p", { className: "detail" });
  const drawing = html("div", { className: "drawing" });
  const listing = html("div", { className: "listing", tabIndex: 0 });
  listing.setAttribute("role", "group");
  listing.setAttribute("aria-label", "the kernels under the roof");
  const note = html("p", { className: "detail" });
  const root = html("div", { className: "aiinfra-widget roofline" }, heading, form, result, detail, drawing, listing, note);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "roofline explorer");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the sliders
  el.replaceChildren(root);

  /** A device has not every precision: keep the one that is set, else take its 16-bit one, or the first. */
  function settle() {
    const known = Object.keys(devices[state.device].peaks);
    if (!known.includes(state.precision)) {
      state.precision = ["fp16_tensor", "bf16_matrix", "fp32"].find((p) => known.includes(p)) ?? known[0];
    }
    precision.fill(known.map((key) => [key, precisions[key]]));
  }

  function show() {
    settle();
    const listed = rows(state);
    const { peak, bandwidth, ridge } = roof(state);
    for (const [, { name, input }] of controls) {
      if (input.value !== String(state[name])) input.value = state[name];
    }
    exponent.output.textContent = figure(10 ** state.exponent);
    exponent.input.setAttribute("aria-valuetext", `${figure(10 ** state.exponent)} operations/byte`);
    doublings.output.textContent = 2 ** state.doublings;
    doublings.input.setAttribute("aria-valuetext", `${2 ** state.doublings} sequences`);
    heading.textContent = state.title;
    heading.hidden = !state.title;
    result.textContent = sentence(listed[0], peak);
    detail.textContent = `${devices[state.device].name}: ${inWords(peak)}FLOP/s, ${inWords(bandwidth)}B/s; ridge at ${figure(ridge)} operations/byte`;
    note.textContent = `E: ${state.tables.model.name}, one token for each sequence, ${itemsize(state.precision)} bytes an element; whether it fits into the memory is not asked.`;
    const width = Math.max(260, Math.floor(drawing.clientWidth || root.clientWidth || 640));
    const described = [detail.textContent, ...listed.map((row, k) => `${LETTERS[k]}, ${sentence(row, peak)}`)].join(". ");
    drawing.replaceChildren(draw(state, listed, width, described));
    listing.replaceChildren(list(listed, peak));
  }

  function take(name, value) {
    state[name] = value;
    show();
  }

  for (const [, { name, input, number }] of controls) {
    input.addEventListener("input", () => {
      const value = number ? Number(input.value) : input.value;
      take(name, value);
      model.set(name, value);
      if (name === "device") model.set("precision", state.precision);
      model.save_changes(); // to Python, when there is a kernel
    });
  }
  const changes = TRAITS.map((name) => [`change:${name}`, () => take(name, model.get(name))]);
  for (const [event, listener] of changes) model.on(event, listener);

  let width = 0;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth !== width) show();
    width = root.clientWidth;
  });
  observer.observe(root);
  show();
  return () => {
    observer.disconnect();
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
