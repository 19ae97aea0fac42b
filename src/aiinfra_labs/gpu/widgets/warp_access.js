// The warp access viewer. All of it runs in the page: no kernel is asked.
// `addresses` and `cost` are access.py's, line for line; a test holds the two together.

export const LANES = 32;
export const SECTOR = 32; // bytes
export const LINE = 128; // bytes

const SIZES = [1, 2, 4, 8, 16];
const PATTERNS = {
  linear: "in order",
  reversed: "reversed",
  broadcast: "all the same",
  permutation: "random order",
};
const TRAITS = ["itemsize", "stride", "offset", "pattern", "lanes", "seed", "steps", "labels", "step", "title"];

// --- counting ------------------------------------------------------------------------------------

function shuffled(lanes, seed) {
  const place = [...Array(LANES).keys()];
  let state = seed >>> 0;
  for (let i = lanes - 1; i > 0; i--) {
    state = (Math.imul(1664525, state) + 1013904223) >>> 0;
    const j = Math.floor((state * (i + 1)) / 2 ** 32); // below 2^37, so exact
    [place[i], place[j]] = [place[j], place[i]];
  }
  return place;
}

/** The byte address of each lane, -1 where it is inactive. */
export function addresses({ pattern, itemsize, stride, offset, lanes, seed }) {
  const order = pattern === "permutation" ? shuffled(lanes, seed) : null;
  return [...Array(LANES).keys()].map((lane) => {
    if (lane >= lanes) return -1;
    const place = { linear: lane, reversed: lanes - 1 - lane, broadcast: 0 }[pattern] ?? order[lane];
    return (offset + stride * place) * itemsize;
  });
}

/** The distinct pieces of `size` bytes that the active lanes touch, in ascending order. */
export function pieces(touched, itemsize, size) {
  const found = new Set();
  for (const first of touched) {
    if (first < 0) continue;
    const last = Math.floor((first + itemsize - 1) / size);
    for (let piece = Math.floor(first / size); piece <= last; piece++) found.add(piece);
  }
  return [...found].sort((a, b) => a - b);
}

export function cost(touched, itemsize) {
  const sectors = pieces(touched, itemsize, SECTOR).length;
  return {
    requests: touched.some((address) => address >= 0) ? 1 : 0,
    sectors,
    lines: pieces(touched, itemsize, LINE).length,
    useful: pieces(touched, itemsize, 1).length,
    moved: sectors * SECTOR,
  };
}

const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** The result in words: what a screen reader hears when a control is moved. */
export function sentence(figures) {
  if (!figures.requests) return "No lane is active: no request, no sector.";
  const share = Math.round((100 * figures.useful) / figures.moved);
  return `sectors: ${figures.sectors}, useful bytes ${figures.useful} of ${figures.moved} (${share} %)`;
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

/** Lanes by the bytes they touch: Map of address -> lanes. */
function byAddress(touched) {
  const groups = new Map();
  touched.forEach((address, lane) => {
    if (address >= 0) groups.set(address, [...(groups.get(address) ?? []), lane]);
  });
  return groups;
}

const colour = (lane) => `lane-${Math.floor(lane / 8)}`;

/** The warp's lanes in a row: what the colours in memory mean. */
function drawLanes(touched, width, left) {
  const perRow = width < 560 ? 16 : 32;
  const cell = (width - left) / perRow;
  const rows = LANES / perRow;
  const picture = svg("svg", { width, height: rows * 24 + 2, "aria-hidden": "true" });
  picture.append(svg("text", { x: 0, y: 17, class: "name" }, "lane"));
  touched.forEach((address, lane) => {
    const x = left + (lane % perRow) * cell;
    const y = Math.floor(lane / perRow) * 24 + 1;
    const kind = address < 0 ? "inactive" : colour(lane);
    picture.append(svg("rect", { x: x + 0.5, y, width: cell - 1, height: 21, rx: 2, class: `item ${kind}` }));
    picture.append(svg("text", { x: x + cell / 2, y: y + 15, class: address < 0 ? "number off" : "number" }, lane));
  });
  return picture;
}

/** Memory: one row for each run of bytes with a touched sector; sectors as frames, items within. */
function drawMemory(touched, itemsize, width, left, described) {
  const perRow = width < 560 ? 64 : 128; // bytes
  const scale = (width - left - 1) / perRow;
  const fetched = new Set(pieces(touched, itemsize, SECTOR));
  const rows = pieces(touched, itemsize, perRow);
  const [high, gap, top] = [26, 17, 20];
  const tops = new Map();
  let height = top;
  rows.forEach((row, i) => {
    if (i > 0 && row !== rows[i - 1] + 1) height += gap;
    tops.set(row, height);
    height += high + (((row + 1) * perRow) % LINE === 0 ? 7 : 1);
  });
  const picture = svg("svg", { width, height: Math.max(height, 24), role: "img", "aria-label": described });
  picture.append(svg("text", { x: 0, y: 12, class: "name" }, "byte"));
  if (!rows.length) return picture;
  for (let s = 0; s < perRow / SECTOR; s++) {
    picture.append(svg("text", { x: left + s * SECTOR * scale + 2, y: 12, class: "name" }, `+${s * SECTOR}`));
  }
  rows.forEach((row, i) => {
    const y = tops.get(row);
    if (i > 0 && row !== rows[i - 1] + 1) {
      const skipped = (row - rows[i - 1] - 1) * perRow;
      picture.append(svg("text", { x: left + 2, y: y - 4, class: "name" }, `⋮ ${plural(skipped, "byte")} not touched`));
    }
    picture.append(svg("text", { x: 0, y: y + 17, class: "name" }, row * perRow));
    for (let s = 0; s < perRow / SECTOR; s++) {
      const sector = (row * perRow) / SECTOR + s;
      const x = left + s * SECTOR * scale;
      const kind = fetched.has(sector) ? "sector fetched" : "sector";
      picture.append(svg("rect", { x: x + 1, y, width: SECTOR * scale - 2, height: high - 4, rx: 3, class: kind }));
    }
  });
  for (const [address, lanes] of byAddress(touched)) drawItem(picture, address, lanes);
  return picture;

  /** Whether the next 32 pixels are free for a number that its item is too narrow for. */
  function alone(from) {
    return !touched.some((address) => address >= from && address < from + 32 / scale);
  }

  function drawItem(into, address, lanes) {
    const text = lanes.length === 1 ? `${lanes[0]}` : `×${lanes.length}`;
    const spoken = lanes.length === 1 ? `lane ${text}` : `${lanes.length} lanes`;
    // An item that straddles two rows is drawn in both.
    for (let from = address; from < address + itemsize; ) {
      const row = Math.floor(from / perRow);
      const to = Math.min(address + itemsize, (row + 1) * perRow);
      const x = left + (from - row * perRow) * scale;
      const wide = (to - from) * scale;
      const y = tops.get(row) + 3;
      const item = svg("rect", { x: x + 0.5, y, width: Math.max(wide - 1, 1), height: high - 10, rx: 1.5, class: `item ${colour(lanes[0])}` });
      item.append(svg("title", {}, `${spoken}: bytes ${address} to ${address + itemsize - 1}`));
      into.append(item);
      if (wide >= 7 * text.length + 2) into.append(svg("text", { x: x + wide / 2, y: y + 12, class: "number" }, text));
      else if (lanes.length > 1 && alone(to)) into.append(svg("text", { x: x + wide + 3, y: y + 12, class: "name" }, text));
      from = to;
    }
  }
}

// --- the widget ----------------------------------------------------------------------------------

function slider(name, min, max) {
  return { name, input: html("input", { type: "range", min, max, step: 1 }), output: html("b") };
}

function select(name, options) {
  const input = html("select", {}, ...options.map(([value, text]) => html("option", { value, textContent: text })));
  return { name, input };
}

/** A label around its native input. The value is no <output>: a label would name that instead. */
function labelled(text, { input, output }) {
  const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
  return html("label", {}, caption, input);
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const recorded = state.steps.length > 0;
  const numbers = new Set(["itemsize", "stride", "offset", "lanes", "seed", "step"]);

  const seed = { name: "seed", input: html("input", { type: "number", min: 0, max: 2 ** 32 - 1, step: 1 }) };
  const controls = recorded
    ? [["step", slider("step", 0, state.steps.length - 1)]]
    : [
        ["element size", select("itemsize", SIZES.map((size) => [size, plural(size, "byte")]))],
        ["pattern", select("pattern", Object.entries(PATTERNS))],
        ["stride, elements:", slider("stride", 1, 33)],
        ["offset, elements:", slider("offset", 0, 31)],
        ["active lanes:", slider("lanes", 0, LANES)],
        ["seed of the random order", seed],
      ];
  const form = html("div", { className: "controls" }, ...controls.map(([text, control]) => labelled(text, control)));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const detail = html("p", { className: "detail" });
  const lanes = html("div", { className: "warp" });
  const memory = html("div", { className: "memory", tabIndex: 0 });
  memory.setAttribute("role", "group");
  memory.setAttribute("aria-label", "memory, by sectors of 32 bytes");
  const key = html(
    "p",
    { className: "key" },
    html("span", {}, html("span", { className: "swatch fetched" }), "sector fetched"),
    html("span", {}, html("span", { className: "swatch" }), "sector not fetched"),
    html("span", {}, "colour and number: the lane"),
  );
  const root = html("div", { className: "aiinfra-widget warp-access" }, heading, form, result, detail, lanes, memory, key);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "warp access viewer");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the sliders
  el.replaceChildren(root);

  const touched = () => (recorded ? state.steps[state.step] : addresses(state));

  function allSteps() {
    const all = state.steps.map((step) => cost(step, state.itemsize));
    const sum = (name) => all.reduce((total, figures) => total + figures[name], 0);
    const [requests, sectors] = [sum("requests"), sum("sectors")];
    const each = requests ? (sectors / requests).toFixed(1) : "0";
    return `all steps: ${plural(sectors, "sector")} in ${plural(requests, "request")}, ${each} a request`;
  }

  function describe(figures) {
    const words = `${plural(figures.requests, "request")}, ${plural(figures.lines, "cache line")} touched`;
    if (!recorded) return words;
    const label = state.labels[state.step];
    return `step ${state.step + 1} of ${state.steps.length}${label ? `: ${label}` : ""}; ${words}; ${allSteps()}`;
  }

  function draw() {
    const figures = cost(touched(), state.itemsize);
    for (const [, { name, input, output }] of controls) {
      if (input.value !== String(state[name])) input.value = state[name];
      if (output) output.textContent = name === "step" ? `${state.step + 1} of ${state.steps.length}` : state[name];
    }
    seed.input.closest("label")?.toggleAttribute("hidden", state.pattern !== "permutation");
    heading.textContent = state.title;
    heading.hidden = !state.title;
    result.textContent = sentence(figures);
    detail.textContent = describe(figures);
    const width = Math.max(260, Math.floor(memory.clientWidth || root.clientWidth || 640));
    const longest = String(Math.max(0, ...touched()) + state.itemsize).length;
    const left = Math.max(34, 8 * longest + 6);
    lanes.replaceChildren(drawLanes(touched(), width, left));
    memory.replaceChildren(drawMemory(touched(), state.itemsize, width, left, `${result.textContent}; ${detail.textContent}`));
  }

  function take(name, value) {
    state[name] = value;
    draw();
  }

  for (const [, { name, input }] of controls) {
    input.addEventListener("input", () => {
      const number = Number(input.value);
      if (numbers.has(name) && (input.value === "" || !input.checkValidity() || !Number.isInteger(number))) return;
      const value = numbers.has(name) ? number : input.value;
      take(name, value);
      model.set(name, value);
      model.save_changes(); // to Python, when there is a kernel
    });
  }
  // here stands frame_following.js
}

export default { render };
