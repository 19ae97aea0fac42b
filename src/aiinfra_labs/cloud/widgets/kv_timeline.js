// The paged KV timeline. All of it runs in the page: no kernel is asked.
// `figures` is kv_timeline.py's; a test holds the two together.

const TRAITS = ["frames", "num_blocks", "block_size", "step", "follow", "title"];
const TONES = 8;

// --- counting ------------------------------------------------------------------------------------

/** Map of block -> {filled, owners}: what the tables of a frame say of it. */
export function contents(frame, size) {
  const found = new Map();
  for (const [name, tokens, table] of frame.rows) {
    table.forEach((block, place) => {
      const mine = Math.min(Math.max(tokens - place * size, 0), size);
      const entry = found.get(block) ?? { filled: 0, owners: [] };
      entry.filled = Math.max(entry.filled, mine);
      entry.owners.push(name);
      found.set(block, entry);
    });
  }
  return found;
}

export function figures(frame, blocks, size) {
  const entries = [...contents(frame, size).values()];
  const used = entries.length;
  const named = entries.reduce((sum, { owners }) => sum + owners.length, 0);
  return {
    used,
    shared: entries.filter(({ owners }) => owners.length > 1).length,
    cached: frame.cached.length,
    free: blocks - used - frame.cached.length,
    saved: named - used,
    empty: size * used - entries.reduce((sum, { filled }) => sum + filled, 0),
  };
}

/** The result in words: what a screen reader hears when the slider is moved. */
export function sentence(counts, size) {
  const slots = size * counts.used;
  const share = slots ? ((100 * counts.empty) / slots).toFixed(0) : "0";
  const saved = counts.saved ? `, which saves ${counts.saved}` : "";
  return `${counts.used} used, ${counts.shared} shared${saved}; ${counts.cached} cached, ${counts.free} free; ${share} % of used slots empty`;
}

/** All names of a run, in the order in which they come. */
export function namesOf(frames) {
  const names = new Set();
  for (const frame of frames) {
    for (const [name] of frame.rows) names.add(name);
    for (const name of frame.waiting) names.add(name);
  }
  return [...names];
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

/** The pool: a box a block, filled as far as it holds tokens, by its first owner's colour. */
function drawPool(frame, blocks, size, width, tone, follow, described) {
  const perRow = Math.max(4, Math.min(blocks, Math.floor(width / 52)));
  const cell = Math.floor(width / perRow);
  const [high, pitch] = [30, 48];
  const rows = Math.ceil(blocks / perRow);
  const picture = svg("svg", { width, height: rows * pitch + 2, role: "img", "aria-label": described });
  const held = contents(frame, size);
  const cached = new Set(frame.cached);
  for (let block = 0; block < blocks; block++) {
    const x = (block % perRow) * cell + 3;
    const y = Math.floor(block / perRow) * pitch + 14;
    const wide = cell - 6;
    const entry = held.get(block);
    const group = svg("g");
    group.append(svg("text", { x, y: y - 3 }, block));
    if (entry) {
      const part = (wide * entry.filled) / size;
      group.append(svg("rect", { x, y, width: part, height: high, class: tone(entry.owners[0]) }));
    }
    const kinds = ["block"];
    if (!entry) kinds.push(cached.has(block) ? "cached" : "free");
    else if (entry.owners.includes(follow)) kinds.push("followed");
    else if (entry.owners.length > 1) kinds.push("shared");
    group.append(svg("rect", { x, y, width: wide, height: high, rx: 2, class: kinds.join(" ") }));
    if (entry) {
      const text = entry.owners.length > 1 ? `×${entry.owners.length}` : entry.owners[0];
      const on = entry.filled / size > 0.6 ? "owner on" : "owner";
      const at = on === "owner" ? x + wide - 6 : x + wide / 2;
      const label = svg("text", { x: at, y: y + 20, class: on }, text);
      if (on === "owner") label.setAttribute("style", "text-anchor: end");
      group.append(label);
      const who = entry.owners.join(", ");
      group.append(svg("title", {}, `block ${block}: ${who}; ${entry.filled} of ${size} slots`));
    } else {
      group.append(svg("title", {}, `block ${block}: ${cached.has(block) ? "cached" : "free"}`));
    }
    picture.append(group);
  }
  return picture;
}

function swatch(kind, text) {
  const picture = svg("svg", { width: 26, height: 16, class: "swatch", "aria-hidden": "true" });
  if (kind === "used" || kind === "shared") {
    picture.append(svg("rect", { x: 2, y: 2, width: kind === "used" ? 14 : 22, height: 12, class: "tone-0" }));
  }
  picture.append(svg("rect", { x: 2, y: 2, width: 22, height: 12, rx: 2, class: `block ${kind}` }));
  return html("span", {}, picture, text);
}

// --- the widget ----------------------------------------------------------------------------------

function labelled(text, input, output) {
  const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
  return html("label", {}, caption, input);
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const names = namesOf(state.frames);
  const tone = (name) => `tone-${Math.max(names.indexOf(name), 0) % TONES}`;

  const slider = html("input", { type: "range", min: 0, max: state.frames.length - 1, step: 1 });
  const shown = html("b");
  const choice = html(
    "select",
    {},
    html("option", { value: "", textContent: "nobody" }),
    ...names.map((name) => html("option", { value: name, textContent: name })),
  );
  const form = html("div", { className: "controls" }, labelled("step:", slider, shown), labelled("follow", choice));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const events = html("ul", { className: "events" });
  events.setAttribute("aria-label", "what happened in this step");
  const pool = html("div", { className: "pool" });
  const key = html(
    "p",
    { className: "key" },
    swatch("used", "used, as far as it is filled"),
    swatch("shared", "shared"),
    swatch("cached", "free, content cached"),
    swatch("free", "free"),
  );
  const rows = html("ul", { className: "rows" });
  rows.setAttribute("aria-label", "sequences and their block tables");
  const root = html("div", { className: "aiinfra-widget kv-timeline" }, heading, form, result, events, pool, key, rows);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "paged KV timeline");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the slider
  el.replaceChildren(root);

  function drawRows(frame) {
    const running = frame.rows.map(([name, tokens, table]) =>
      html(
        "li",
        {},
        html("span", { className: `chip ${tone(name)}` }, name),
        `${tokens} tokens in `,
        html("span", { className: "soft" }, "blocks "),
        table.join(" "),
      ),
    );
    if (!frame.waiting.length) return running;
    return [...running, html("li", {}, html("span", { className: "soft" }, "waiting: "), frame.waiting.join(", "))];
  }

  function draw() {
    const frame = state.frames[state.step];
    const counts = figures(frame, state.num_blocks, state.block_size);
    if (slider.value !== String(state.step)) slider.value = state.step;
    if (choice.value !== state.follow) choice.value = state.follow;
    shown.textContent = `${state.step + 1} of ${state.frames.length}`;
    heading.textContent = state.title;
    heading.hidden = !state.title;
    result.textContent = sentence(counts, state.block_size);
    const said = frame.events.length ? frame.events : ["no request comes or goes"];
    events.replaceChildren(...said.map((text) => html("li", {}, text)));
    const width = Math.max(240, Math.floor(pool.clientWidth || root.clientWidth || 640));
    pool.replaceChildren(
      drawPool(frame, state.num_blocks, state.block_size, width, tone, state.follow, result.textContent),
    );
    rows.replaceChildren(...drawRows(frame));
  }

  // here stands frame_telling.js
  choice.addEventListener("input", () => tell("follow", choice.value));
  // here stands frame_following.js
}

export default { render };
