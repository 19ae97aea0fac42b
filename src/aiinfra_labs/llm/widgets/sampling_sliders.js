// The sampling sliders. All of it runs in the page: no kernel is asked.
// `probabilities` is sampling.py, filter by filter; a test holds the two together.

const TRAITS = ["prompts", "prompt", "temperature", "top_k", "top_p", "min_p", "title"];

// --- the filters: logits are sorted, the largest first -------------------------------------------

function softmax(logits) {
  const powers = logits.map((x) => (x === -Infinity ? 0 : Math.exp(x - logits[0])));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((x) => x / sum);
}

/** What each token may be drawn with, the likeliest first. top_k 0: all. */
export function probabilities(logits, { temperature, top_k, top_p, min_p }) {
  const out = -Infinity;
  let left =
    temperature === 0
      ? logits.map((_, i) => (i === 0 ? 0 : out))
      : logits.map((x) => (x - logits[0]) / temperature);
  if (top_k > 0) {
    const last = left[Math.min(top_k, left.length) - 1];
    left = left.map((x) => (x < last ? out : x));
  }
  if (top_p < 1) {
    const shares = softmax(left);
    // the least likely first; of equals the first, so that the last of them are kept
    const order = left.map((_, i) => i).sort((a, b) => left[a] - left[b] || a - b);
    order.pop(); // the likeliest always stays
    const kept = left.slice();
    let below = 0; // this token and all below it
    for (const i of order) {
      below += shares[i];
      if (below <= 1 - top_p) kept[i] = out;
    }
    left = kept;
  }
  if (min_p > 0) {
    const shares = softmax(left);
    left = left.map((x, i) => (shares[i] < min_p * shares[0] ? out : x));
  }
  return softmax(left);
}

/** Bits: 0 for one token, log2 V for V equally likely ones. */
export function entropy(shares) {
  return shares.reduce((sum, p) => (p > 0 ? sum - p * Math.log2(p) : sum), 0);
}

const percent = (p) => (p === 0 ? "0 %" : p < 0.0005 ? "< 0.1 %" : `${(100 * p).toFixed(1)} %`);
const count = (n) => `${n.toLocaleString("en")} token${n === 1 ? "" : "s"}`;

/** The result in words: what a screen reader hears when a control is moved. */
export function sentence(shares, words) {
  const kept = shares.filter((p) => p > 0).length;
  return `${count(kept)} can be drawn; entropy ${entropy(shares).toFixed(2)} bits; likeliest ${words[0]}: ${percent(shares[0])}`;
}

// --- drawing -------------------------------------------------------------------------------------

function html(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

/** A row a token: its text, its bar, a mark where the model's own probability ends. */
function drawBars(words, shares, own) {
  const most = Math.max(shares[0], own[0]);
  return words.map((word, i) => {
    const bar = html("span", { className: "bar" });
    bar.style.width = `${(100 * shares[i]) / most}%`;
    const mark = html("span", { className: "own" });
    mark.style.left = `${(100 * own[i]) / most}%`;
    const track = html("span", { className: "track" }, bar, mark);
    track.setAttribute("aria-hidden", "true");
    const row = html("li", {}, html("code", {}, word), track, html("span", { className: "share" }, percent(shares[i])));
    row.classList.toggle("out", shares[i] === 0);
    return row;
  });
}

// --- the widget ----------------------------------------------------------------------------------

function slider(name, text, max, step) {
  return { name, text, input: html("input", { type: "range", min: 0, max, step }), output: html("b") };
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const prompts = html("select", {}, ...Object.keys(state.prompts).map((text) => html("option", { value: text, textContent: text })));
  const controls = [
    { name: "prompt", text: "prompt", input: prompts },
    slider("temperature", "temperature:", 2, 0.05),
    slider("top_k", "top-k:", 50, 1),
    slider("top_p", "top-p:", 1, 0.01),
    slider("min_p", "min-p:", 0.5, 0.01),
  ];
  const labels = controls.map(({ text, input, output }) => {
    const caption = html("span", { className: "caption" }, text, ...(output ? [" ", output] : []));
    return html("label", {}, caption, input);
  });
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const bars = html("ol", { className: "bars" });
  const rest = html("p", { className: "rest" });
  const key = html("p", { className: "key" }, "Bar: what is drawn from. Mark: the model's own probability, at temperature 1.");
  const form = html("div", { className: "controls" }, ...labels);
  const root = html("div", { className: "aiinfra-widget sampling-sliders" }, heading, form, result, bars, rest, key);
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "sampling sliders");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys from the sliders
  el.replaceChildren(root);

  function draw() {
    const { logits, words } = state.prompts[state.prompt];
    const shares = probabilities(logits, state);
    const own = softmax(logits);
    const shown = {
      temperature: state.temperature.toFixed(2),
      top_k: state.top_k || "all",
      top_p: state.top_p.toFixed(2),
      min_p: state.min_p.toFixed(2),
    };
    for (const { name, input, output } of controls) {
      if (input.value !== String(state[name])) input.value = state[name];
      if (output) output.textContent = shown[name];
    }
    heading.textContent = state.title;
    heading.hidden = !state.title;
    result.textContent = sentence(shares, words);
    bars.replaceChildren(...drawBars(words, shares, own));
    const others = shares.slice(words.length);
    rest.textContent = `${count(others.length)} more, together ${percent(others.reduce((a, b) => a + b, 0))}`;
    rest.hidden = !others.length;
  }

  function take(name, value) {
    state[name] = value;
    draw();
  }

  for (const { name, input } of controls) {
    input.addEventListener("input", () => {
      const value = name === "prompt" ? input.value : Number(input.value);
      take(name, value);
      model.set(name, value);
      model.save_changes(); // to Python, when there is a kernel
    });
  }
  const changes = TRAITS.map((name) => [`change:${name}`, () => take(name, model.get(name))]);
  for (const [event, listener] of changes) model.on(event, listener);
  draw();
  return () => {
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
