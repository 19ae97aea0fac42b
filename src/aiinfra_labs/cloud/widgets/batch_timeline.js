// The batch timeline. All of it runs in the page: no kernel is asked.
// `figures` and `totals` are batch_timeline.py's; a test holds the two together.

const TRAITS = ["runs", "requests", "policy", "step", "title"];

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

/** A step in words: what a screen reader hears when the slider is moved. */
export function sentence(run, step) {
  const f = figures(run, step);
  const parts = [`step ${step + 1}: ${many(f.tokens, "token")} of ${run.budget}`];
  if (f.prefill) parts.push(`${f.prefill} prefilled`);
  if (f.decode) parts.push(`${f.decode} decoded`);
  if (f.again) parts.push(`${f.again} computed again`);
  if (f.preempted) parts.push(`${f.preempted} preempted`);
  if (f.waiting) parts.push(`${f.waiting} waiting`);
  if (f.idle) parts.push(`${many(f.idle, "slot")} idle`);
  return parts.join(", ");
}

/** The run in words. */
export function whole(run) {
  const t = totals(run);
  const again = t.again ? `, ${t.again} of them again after ${many(t.preempted, "preemption")}` : "";
  const share = (100 * t.slots_in_use).toFixed(0);
  return `${t.steps} steps, ${t.tokens} tokens computed${again}; while somebody waits, ${share} % of the slots are in use`;
}

// --- drawing -------------------------------------------------------------------------------------

// here stands frame_elements.js

const ROW = 22;

/** One mark of the picture; each kind has a shape of its own, besides its colour. */
function mark(kind, x, y, width) {
  const wide = Math.max(width - 1, 1.5);
  const group = svg("g", { class: kind });
  if (kind === "decode") {
    group.append(svg("rect", { x, y: y + 6, width: wide, height: 8 }));
  } else if (kind === "prefill" || kind === "again") {
    group.append(svg("rect", { x, y: y + 1, width: wide, height: 18 }));
    if (kind === "again") group.append(svg("path", { d: `M${x} ${y + 19}L${x + wide} ${y + 1}` }));
  } else if (kind === "preempted") {
    const [a, b, c, d] = [x, x + Math.max(wide, 5), y + 6, y + 14];
    group.append(svg("path", { d: `M${a} ${c}L${b} ${d}M${a} ${d}L${b} ${c}` }));
  } else {
    group.append(svg("circle", { cx: x + wide / 2, cy: y + 10, r: 1.3 }));
  }
  return group;
}

function drawRun(run, requests, step, width, columns, described) {
  const left = 34;
  const column = (width - left - 4) / columns;
  const height = requests.length * ROW + 20;
  const picture = svg("svg", { width, height, role: "img", "aria-label": described });
  const rowOf = new Map(requests.map(([name], row) => [name, row]));
  const at = (place) => left + place * column;
  picture.append(
    svg("rect", { x: at(step) - 1, y: 0, width: column + 1, height: requests.length * ROW, class: "now" }),
  );
  requests.forEach(([name, prompt, made], row) => {
    const label = svg("text", { x: left - 6, y: row * ROW + 14, class: "name" }, name);
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
  const base = requests.length * ROW + 13;
  const every = columns > 60 ? 20 : 10;
  for (let place = 0; place < columns; place += every) {
    picture.append(svg("text", { x: at(place), y: base }, place + 1));
  }
  return picture;
}

function swatch(kind, text) {
  const picture = svg("svg", { width: 16, height: 20, class: "swatch", "aria-hidden": "true" });
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
  const columns = Math.max(...Object.values(state.runs).map((run) => run.steps.length));

  const choice = html(
    "select",
    {},
    ...Object.keys(state.runs).map((name) => html("option", { value: name, textContent: name })),
  );
  const slider = html("input", { type: "range", min: 0, step: 1 });
  const shown = html("b");
  const form = html("div", { className: "controls" }, labelled("policy", choice), labelled("step:", slider, shown));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const run = html("p", { className: "whole" });
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
  const rows = html("ul", { className: "rows" });
  rows.setAttribute("aria-label", "what each request gets in this step");
  const root = html("div", { className: "aiinfra-widget batch-timeline" }, heading, form, run, drawn, key, result, rows);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "batch timeline");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the slider
  el.replaceChildren(root);

  const current = () => state.runs[state.policy] ?? Object.values(state.runs)[0];
  const place = () => Math.min(state.step, current().steps.length - 1);

  function drawRows(step) {
    const served = new Map(step.served.map((row) => [row[0], row]));
    return state.requests.map(([name]) => {
      let said = "not here";
      if (served.has(name)) {
        const [, kind, tokens, again, gave] = served.get(name);
        const what = { prefill: "of its prompt", decode: "decoded", again: `, ${again} of them again` }[kind];
        said = `${many(tokens, "token")} ${what}`.replace(" ,", ",") + (gave ? "; gives a new one" : "");
      } else if (step.preempted.includes(name)) said = "is preempted: its blocks are taken";
      else if (step.waiting.includes(name)) said = "waits";
      return html("li", {}, html("b", {}, name), " ", said);
    });
  }

  function draw() {
    const chosen = current();
    const now = place();
    if (choice.value !== state.policy) choice.value = state.policy;
    slider.max = chosen.steps.length - 1;
    if (slider.value !== String(now)) slider.value = now;
    shown.textContent = `${now + 1} of ${chosen.steps.length}`;
    heading.textContent = state.title;
    heading.hidden = !state.title;
    run.textContent = whole(chosen);
    result.textContent = sentence(chosen, now);
    const width = Math.max(240, Math.floor(drawn.clientWidth || root.clientWidth || 640));
    drawn.replaceChildren(drawRun(chosen, state.requests, now, width, columns, `${state.policy}: ${whole(chosen)}`));
    rows.replaceChildren(...drawRows(chosen.steps[now]));
  }

  // here stands frame_telling.js
  choice.addEventListener("input", () => tell("policy", choice.value));
  // here stands frame_following.js
}

export default { render };
