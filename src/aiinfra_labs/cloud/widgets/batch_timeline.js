// The batch timeline. All of it runs in the page: no kernel is asked.
// `figures` and `totals` are batch_timeline.py's; a test holds the two together.

const TRAITS = ["runs", "order", "requests", "step", "title"];

// --- counting ------------------------------------------------------------------------------------

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

export function figures(run, step) {
  const { served, waiting, preempted } = run.steps[step];
  const count = (kind) => served.filter((row) => row[1] === kind).length;
  return {
    tokens: sum(served.map((row) => row[2])),
    prefill: count("prefill"),
    decode: count("decode"),
    again: count("again"),
    idle: run.slots - served.length,
    waiting: waiting.length,
    preempted: preempted.length,
  };
}

export function totals(run) {
  const served = run.steps.flatMap((step) => step.served);
  const full = run.steps.filter((step) => step.waiting.length).map((step) => step.served.length);
  return {
    steps: run.steps.length,
    tokens: sum(served.map((row) => row[2])),
    again: sum(served.map((row) => row[3])),
    preempted: sum(run.steps.map((step) => step.preempted.length)),
    slots_in_use: full.length ? sum(full) / (run.slots * full.length) : 0,
  };
}

const many = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

/** A step of every run in words: what a screen reader hears when the slider is moved. */
export function sentence(runs, step) {
  const said = runs.map(([name, run]) => {
    if (step >= run.steps.length) return `${name} has ended`;
    const f = figures(run, step);
    const parts = [many(f.tokens, "token")];
    if (f.preempted) parts.push(`${f.preempted} preempted`);
    if (f.waiting) parts.push(`${f.waiting} waiting`);
    if (f.idle) parts.push(`${many(f.idle, "slot")} idle`);
    return `${name} ${parts.join(", ")}`;
  });
  return `step ${step + 1}: ${said.join("; ")}`;
}

/** The run in words. */
export function whole(run) {
  const t = totals(run);
  const again = t.again ? ` (${t.again} again after ${many(t.preempted, "preemption")})` : "";
  const share = (100 * t.slots_in_use).toFixed(0);
  return `${t.steps} steps, ${t.tokens} tokens${again}; ${share} % of slots in use while a request waits`;
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

const ROW = 14; // pixels of a request; each run has a row for each

/** One mark of the picture; each kind has a shape of its own, besides its colour. */
function mark(kind, x, y, width) {
  const wide = Math.max(width - 1, 1.5);
  const group = svg("g", { class: kind });
  if (kind === "decode") {
    group.append(svg("rect", { x, y: y + 4, width: wide, height: 5 }));
  } else if (kind === "prefill" || kind === "again") {
    group.append(svg("rect", { x, y: y + 1, width: wide, height: 11 }));
    if (kind === "again") group.append(svg("path", { d: `M${x} ${y + 12}L${x + wide} ${y + 1}` }));
  } else if (kind === "preempted") {
    const [a, b, c, d] = [x, x + Math.max(wide, 5), y + 3, y + 10];
    group.append(svg("path", { d: `M${a} ${c}L${b} ${d}M${a} ${d}L${b} ${c}` }));
  } else {
    group.append(svg("circle", { cx: x + wide / 2, cy: y + 6.5, r: 1.2 }));
  }
  return group;
}

function drawRun(run, requests, step, width, columns, described) {
  const left = 18;
  const column = (width - left - 4) / columns;
  const height = requests.length * ROW + 16;
  const picture = svg("svg", { width, height, role: "img", "aria-label": described });
  const rowOf = new Map(requests.map(([name], row) => [name, row]));
  const at = (place) => left + place * column;
  if (step < run.steps.length) {
    picture.append(
      svg("rect", { x: at(step) - 1, y: 0, width: column + 1, height: requests.length * ROW, class: "now" }),
    );
  }
  requests.forEach(([name, prompt, made], row) => {
    const label = svg("text", { x: left - 6, y: row * ROW + 11, class: "name" }, name);
    label.append(svg("title", {}, `request ${name}: a prompt of ${prompt} tokens, ${made} new ones`));
    picture.append(label);
  });
  run.steps.forEach((each, place) => {
    for (const [name, kind, tokens] of each.served) {
      const one = mark(kind, at(place), rowOf.get(name) * ROW, column);
      one.append(svg("title", {}, `step ${place + 1}: request ${name}, ${many(tokens, "token")}`));
      picture.append(one);
    }
    for (const name of each.waiting) picture.append(mark("waiting", at(place), rowOf.get(name) * ROW, column));
    for (const name of each.preempted) picture.append(mark("preempted", at(place), rowOf.get(name) * ROW, column));
  });
  const base = requests.length * ROW + 11;
  for (let place = 0; place < run.steps.length; place += 10) {
    picture.append(svg("text", { x: at(place), y: base }, place + 1));
  }
  return picture;
}

function swatch(kind, text) {
  const picture = svg("svg", { width: 16, height: 14, class: "swatch", "aria-hidden": "true" });
  picture.append(mark(kind, 1, 0, 14));
  return html("span", {}, picture, text);
}

// --- the widget ----------------------------------------------------------------------------------

function labelled(text, input, output) {
  const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
  return html("label", {}, caption, input);
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  // A notebook stores an object's keys in the order of the alphabet: the order is a list of its own.
  const runs = () => state.order.map((name) => [name, state.runs[name]]);
  const columns = Math.max(...runs().map(([, run]) => run.steps.length));

  const slider = html("input", { type: "range", min: 0, max: columns - 1, step: 1 });
  const shown = html("b");
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const drawn = html("div", { className: "drawn" });
  const key = html(
    "p",
    { className: "key" },
    swatch("prefill", "prompt"),
    swatch("decode", "one new token"),
    swatch("waiting", "waits"),
    swatch("preempted", "preempted"),
    swatch("again", "computed again"),
  );
  const rows = html("table", { className: "rows" });
  rows.setAttribute("aria-label", "what each request gets in this step");
  const root = html(
    "div",
    { className: "aiinfra-widget batch-timeline" },
    heading,
    key,
    drawn,
    labelled("step:", slider, shown),
    result,
    rows,
  );
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "batch timeline");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the slider
  el.replaceChildren(root);

  const place = () => Math.min(state.step, columns - 1);

  /** What a request gets in a step of one run, in few words. */
  function gets(name, step) {
    if (!step) return "";
    const found = step.served.find((row) => row[0] === name);
    if (found) {
      const [, kind, tokens, again] = found;
      return { prefill: `${tokens} of prompt`, decode: `${tokens} new`, again: `${again} again` }[kind];
    }
    if (step.preempted.includes(name)) return "preempted";
    return step.waiting.includes(name) ? "waits" : "";
  }

  function drawRows() {
    const head = html("tr", {}, html("th", { textContent: "request" }), ...runs().map(([name]) => html("th", { textContent: name })));
    const body = state.requests.map(([name]) =>
      html(
        "tr",
        {},
        html("th", { textContent: name }),
        ...runs().map(([, run]) => html("td", { textContent: gets(name, run.steps[place()]) })),
      ),
    );
    rows.replaceChildren(html("thead", {}, head), html("tbody", {}, ...body));
  }

  function draw() {
    const now = place();
    if (slider.value !== String(now)) slider.value = now;
    shown.textContent = `${now + 1} of ${columns}`;
    heading.textContent = state.title;
    heading.hidden = !state.title;
    result.textContent = sentence(runs(), now);
    const width = Math.max(240, Math.floor(drawn.clientWidth || root.clientWidth || 640));
    drawn.replaceChildren(
      ...runs().flatMap(([name, run]) => [
        html("p", { className: "whole" }, html("b", {}, name), `: ${whole(run)}`),
        drawRun(run, state.requests, now, width, columns, `${name}: ${whole(run)}`),
      ]),
    );
    drawRows();
  }

  // here stands frame_telling.js
  // here stands frame_following.js
}

export default { render };
