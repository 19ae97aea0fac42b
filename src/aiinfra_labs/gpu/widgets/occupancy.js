// The occupancy explorer. All of it runs in the page: no kernel is asked.
// `occupancy` is the emulator's calculator, line for line; a test holds the two together.

const WARP = 32;
const REGISTER_UNIT = 256; // registers are given to a warp in this many
const MAX_REGISTERS = 255; // a thread can name
const PARTITIONS = 4; // of an SM, each with its part of the registers
const TRAITS = ["device", "threads", "registers", "shared", "title", "devices"];

// --- the calculator ------------------------------------------------------------------------------

const up = (n, unit) => Math.ceil(n / unit) * unit;

/** Blocks that each resource of `sm` allows, and what follows; `refused` where no launch can be. */
export function occupancy(sm, threads, registers, shared) {
  const warps = Math.ceil(threads / WARP);
  const perWarp = up(registers * WARP, REGISTER_UNIT);
  if (threads < 1 || threads > 1024) return { refused: "a block has 1 to 1,024 threads" };
  if (shared > sm.shared_memory_per_block) return { refused: "too much shared memory for a block" };
  // a launch is refused as if the warps of a block filled all partitions evenly
  if (registers < 1 || registers > MAX_REGISTERS || perWarp * up(warps, PARTITIONS) > sm.registers) {
    return { refused: `an SM has ${number(sm.registers)} registers, too few for one block` };
  }
  const reserved = up(shared + sm.shared_memory_reserved, sm.shared_memory_unit);
  const inPartition = Math.floor(Math.floor(sm.registers / PARTITIONS) / perWarp);
  const limits = {
    warps: Math.floor(sm.max_warps / warps),
    blocks: sm.max_blocks,
    registers: Math.floor((inPartition * PARTITIONS) / warps),
    "shared memory": reserved ? Math.floor(sm.shared_memory / reserved) : null,
  };
  const blocks = Math.min(...Object.values(limits).filter((n) => n !== null));
  return {
    refused: "",
    limits,
    blocks,
    warpsPerBlock: warps,
    warps: blocks * warps,
    fraction: (blocks * warps) / sm.max_warps,
    limitedBy: Object.keys(limits).filter((name) => limits[name] === blocks),
  };
}

const number = (n) => n.toLocaleString("en");
const percent = (x) => `${Math.round(1000 * x) / 10} %`;

/** The result in words: what a screen reader hears when a control is moved. */
export function sentence(sm, found) {
  if (found.refused) return `Cannot be launched: ${found.refused}.`;
  const blocks = `${found.blocks} block${found.blocks === 1 ? "" : "s"}`;
  return `${percent(found.fraction)}: ${blocks}, ${found.warps} of ${sm.max_warps} warps; limited by ${found.limitedBy.join(" and ")}`;
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

const kind = (limit) => `by-${limit.replace(" ", "-")}`;

/** The places for warps of an SM, filled block by block. */
function drawPlaces(sm, found, width) {
  const perRow = width < 560 ? 16 : 32;
  const cell = Math.min(30, (width - 2) / perRow);
  const rows = Math.ceil(sm.max_warps / perRow);
  const filled = found.refused ? 0 : found.warps;
  const described = `${filled} of ${sm.max_warps} places for warps are filled`;
  const picture = svg("svg", { width, height: rows * 24 + 2, role: "img", "aria-label": described });
  for (let place = 0; place < sm.max_warps; place++) {
    const x = (place % perRow) * cell + 1;
    const y = Math.floor(place / perRow) * 24 + 1;
    const block = filled > place ? Math.floor(place / found.warpsPerBlock) : -1;
    const look = block < 0 ? "place" : `place filled block-${block % 2}`;
    picture.append(svg("rect", { x, y, width: cell - 2, height: 20, rx: 2, class: look }));
    if (block >= 0 && cell >= 17) {
      picture.append(svg("text", { x: x + cell / 2 - 1, y: y + 14, class: "number" }, block));
    }
  }
  return picture;
}

/** Occupancy against one resource, the others as they are; colour: what is used up. */
function drawCurve(name, sm, values, at, width, block, unit) {
  const [left, top, high] = [46, 8, 78];
  const wide = width - left - 8;
  const [first, last] = [values[0], values[values.length - 1]];
  const step = values[1] - values[0];
  const x = (value) => left + ((value - first + step / 2) / (last - first + step)) * wide;
  const y = (share) => top + high * (1 - share);
  const picture = svg("svg", { width, height: high + 44, "aria-hidden": "true" });
  for (const share of [0, 0.5, 1]) {
    picture.append(svg("line", { x1: left, x2: left + wide, y1: y(share), y2: y(share), class: "grid" }));
    picture.append(svg("text", { x: left - 5, y: y(share) + 4, class: "end" }, `${100 * share} %`));
  }
  for (const value of values) {
    const found = occupancy(sm, ...block(value));
    const look = found.refused ? "refused" : kind(found.limitedBy[0]);
    const height = found.refused ? 0 : found.fraction;
    picture.append(svg("line", { x1: x(value - step / 2), x2: x(value + step / 2) + 0.5, y1: y(height), y2: y(height), class: `curve ${look}` }));
  }
  const here = occupancy(sm, ...block(at));
  picture.append(svg("circle", { cx: x(at), cy: y(here.refused ? 0 : here.fraction), r: 6, class: "here" }));
  picture.append(svg("text", { x: left, y: high + 24, class: "name" }, `${unit(first)}`));
  picture.append(svg("text", { x: left + wide, y: high + 24, class: "end" }, `${unit(last)}`));
  picture.append(svg("text", { x: left + wide / 2, y: high + 38, class: "middle" }, name));
  return picture;
}

function range(from, to, step) {
  const values = [];
  for (let value = from; value <= to; value += step) values.push(value);
  return values;
}

const kilobytes = (bytes) => `${number(Math.round(bytes / 102.4) / 10)}\u00a0KB`;

// --- the widget ----------------------------------------------------------------------------------

function slider(name, min, max, step) {
  return { name, input: html("input", { type: "range", min, max, step }), output: html("b") };
}

/** A label around its native input. The value is no <output>: a label would name that instead. */
function labelled(text, { input, output }) {
  const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
  return html("label", {}, caption, input);
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const options = Object.entries(state.devices).map(([value, sm]) => html("option", { value, textContent: sm.name }));
  const device = { name: "device", input: html("select", {}, ...options) };
  const threads = slider("threads", 32, 1024, 32);
  const registers = slider("registers", 1, MAX_REGISTERS, 1);
  const shared = slider("shared", 0, 1024, 256);
  const controls = [
    ["device", device],
    ["threads a block:", threads],
    ["registers a thread:", registers],
    ["shared a block:", shared],
  ];
  const form = html("div", { className: "controls" }, ...controls.map(([text, control]) => labelled(text, control)));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const detail = html("p", { className: "detail" });
  const places = html("div", { className: "places" });
  const curves = html("div", { className: "curves" });
  const key = html(
    "p",
    { className: "key" },
    ...["warps", "blocks", "registers", "shared memory"].map((limit) =>
      html("span", {}, html("span", { className: `swatch ${kind(limit)}` }), `limited by ${limit}`),
    ),
    html("span", {}, html("span", { className: "swatch refused" }), "cannot be launched"),
  );
  const root = html("div", { className: "aiinfra-widget occupancy" }, heading, form, result, detail, places, curves, key);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "occupancy explorer");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the sliders
  el.replaceChildren(root);

  function draw() {
    const sm = state.devices[state.device];
    shared.input.max = sm.shared_memory_per_block;
    state.shared = Math.min(state.shared, sm.shared_memory_per_block);
    const shown = { threads: state.threads, registers: state.registers, shared: kilobytes(state.shared) };
    for (const [, { name, input, output }] of controls) {
      if (input.value !== String(state[name])) input.value = state[name];
      if (output) output.textContent = shown[name];
    }
    heading.textContent = state.title;
    heading.hidden = !state.title;
    const found = occupancy(sm, state.threads, state.registers, state.shared);
    result.textContent = sentence(sm, found);
    detail.textContent = found.refused
      ? "No block of this size runs on this SM."
      : `Blocks that each allows: ${Object.entries(found.limits)
          .map(([name, n]) => `${name} ${n === null ? "any" : n}`)
          .join(", ")}. Number and shade: the block.`;
    const width = Math.max(260, Math.floor(places.clientWidth || 640));
    places.replaceChildren(drawPlaces(sm, found, width));
    const each = width < 560 ? width : Math.floor((width - 20) / 3);
    const [t, g, s] = [state.threads, state.registers, state.shared];
    const most = sm.shared_memory_per_block;
    curves.replaceChildren(
      drawCurve("threads a block", sm, range(32, 1024, 32), t, each, (n) => [n, g, s], number),
      drawCurve("registers a thread", sm, range(1, MAX_REGISTERS, 1), g, each, (n) => [t, n, s], number),
      drawCurve("shared memory a block", sm, range(0, most, 1024), s, each, (n) => [t, g, n], kilobytes),
    );
  }

  function take(name, value) {
    state[name] = value;
    draw();
  }

  for (const [, { name, input }] of controls) {
    input.addEventListener("input", () => {
      const value = name === "device" ? input.value : Number(input.value);
      take(name, value);
      model.set(name, value);
      if (name === "device") model.set("shared", state.shared); // the new SM may give a block less
      model.save_changes(); // to Python, when there is a kernel
    });
  }
  // here stands frame_following.js
}

export default { render };
