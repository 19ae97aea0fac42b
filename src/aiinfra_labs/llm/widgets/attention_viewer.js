// The attention viewer. All of it runs in the page, from the stored weights: no kernel is asked.
// `sentence` is attention_viewer.py's; a test holds the two together.

const TRAITS = ["tokens", "weights", "layer", "head", "token", "title"];
const SVG = "http://www.w3.org/2000/svg";
const ROW = 24; // pixels of a token's line
const SHOWN = 0.005; // a share below it gets no line

// --- what is drawn -------------------------------------------------------------------------------

/** What a token gives to each other, of the chosen layer and head. */
export function row({ weights, layer, head, token }) {
  return weights[layer][head][token];
}

/** Where the largest number stands: the first of equals, as NumPy's argmax. */
export function largest(numbers) {
  return numbers.reduce((best, number, i) => (number > numbers[best] ? i : best), 0);
}

/** A share with two decimals. A half is rounded up, by Python too, whose own rule is another. */
export function shown(share) {
  return (share + 1e-9).toFixed(2);
}

/** The row's largest weight in words. */
export function sentence(state) {
  const shares = row(state);
  const at = largest(shares);
  const [from, to] = [state.tokens[state.token], state.tokens[at]];
  return `layer ${state.layer}, head ${state.head}: ${from} → ${to} ${shown(shares[at])}`;
}

// --- elements ------------------------------------------------------------------------------------

function html(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function text(x, y, content, attributes = {}) {
  return svg("text", { x, y, "dominant-baseline": "central", ...attributes }, content);
}

/** About how wide a token is drawn: Chinese characters are squares. */
function measure(token) {
  return [...token].reduce((sum, c) => sum + (c.codePointAt(0) > 0x2e7f ? 14.5 : 8.5), 0);
}

// --- the widget ----------------------------------------------------------------------------------

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  let hovered = null; // a token that the pointer is over; the chosen one otherwise
  const heading = html("p", { className: "title" });
  const slider = html("input", { type: "range", min: 0, step: 1 });
  const sliderName = html("span", { className: "caption" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const lines = html("div", { className: "lines" });
  const map = html("div", { className: "map" });
  const panel = html("div", { className: "parts" }, lines, map);
  panel.setAttribute("role", "tabpanel");
  const tabs = { layer: html("div"), head: html("div") };
  for (const [name, list] of Object.entries(tabs)) {
    list.className = "tablist";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", name);
  }
  const detail = html("p", { className: "detail" });
  const root = html(
    "div",
    { className: "aiinfra-widget attention-viewer" },
    heading,
    html("div", { className: "tabs" }, tabs.layer, tabs.head),
    html("label", {}, sliderName, slider),
    result,
    panel,
    detail,
  );
  root.setAttribute("role", "group");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the arrow keys
  el.replaceChildren(root);

  const now = () => ({ ...state, token: hovered ?? state.token });

  function set(changes) {
    Object.assign(state, changes);
    for (const [trait, value] of Object.entries(changes)) model.set(trait, value);
    model.save_changes(); // to Python, when there is a kernel
    draw();
  }

  /** Tabs as the ARIA practices have them: one is in the tab order, the arrows move on. */
  function drawTabs(name, count) {
    const active = tabs[name].contains(document.activeElement);
    const buttons = [...Array(count).keys()].map((i) => {
      const button = html("button", { type: "button", textContent: i, tabIndex: i === state[name] ? 0 : -1 });
      button.setAttribute("role", "tab");
      button.setAttribute("aria-selected", i === state[name]);
      button.setAttribute("aria-label", `${name} ${i}`);
      button.addEventListener("click", () => set({ [name]: i }));
      button.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        const to = { Home: 0, End: count - 1 }[event.key] ?? (step && (i + step + count) % count);
        if (to === undefined) return;
        event.preventDefault();
        set({ [name]: to });
      });
      return button;
    });
    tabs[name].replaceChildren(html("span", { className: "caption" }, name), ...buttons);
    if (active) buttons[state[name]].focus();
  }

  /** One row as lines: from the token that looks, on the left, to all, on the right. */
  function drawLines(width) {
    const { tokens, token } = now();
    const shares = row(now());
    const widest = Math.max(...tokens.map(measure));
    const [left, right] = [widest + 8, width - widest - 52];
    const y = (i) => ROW * (i + 0.5);
    const parts = [];
    shares.forEach((share, i) => {
      if (share >= SHOWN) {
        const bend = (left + right) / 2;
        const d = `M${left} ${y(token)}C${bend} ${y(token)} ${bend} ${y(i)} ${right} ${y(i)}`;
        parts.push(svg("path", { d, class: "line", "stroke-width": 0.6 + 7 * share, "stroke-opacity": 0.25 + 0.75 * share }));
      }
    });
    tokens.forEach((each, i) => {
      const chosen = i === token ? "chosen" : "";
      parts.push(text(widest, y(i), each, { "text-anchor": "end", class: chosen }));
      parts.push(text(right + 8, y(i), each));
      parts.push(text(width - 2, y(i), shown(shares[i]), { "text-anchor": "end", class: "share" }));
      const hit = svg("rect", { x: 0, y: ROW * i, width: left + 8, height: ROW, class: "hit" });
      hit.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(i));
      hit.addEventListener("click", () => set({ token: i }));
      parts.push(hit);
    });
    lines.replaceChildren(picture(width, ROW * tokens.length, `${sentence(now())}; all: ${shares.map((s, i) => `${tokens[i]} ${shown(s)}`).join(", ")}`, parts));
  }

  /** The whole map: a row for each token that looks, the darker the more. */
  function drawMap(width) {
    const { tokens, weights, layer, head, token } = now();
    const widest = Math.max(...tokens.map(measure));
    const top = widest + 8;
    const size = Math.max(6, Math.min(24, Math.floor((width - widest - 12) / tokens.length)));
    const x = (i) => widest + 8 + size * i;
    const y = (i) => top + size * i;
    const parts = [];
    tokens.forEach((each, i) => {
      const chosen = i === token ? "chosen" : "";
      if (size >= 12 || i === token) parts.push(text(widest + 2, y(i) + size / 2, each, { "text-anchor": "end", class: chosen }));
      const middle = x(i) + size / 2;
      if (size >= 12) parts.push(text(middle, top - 4, each, { transform: `rotate(-90 ${middle} ${top - 4})` }));
      weights[layer][head][i].forEach((share, j) => {
        const cell = { x: x(j), y: y(i), width: size - 1, height: size - 1, class: "cell" };
        parts.push(svg("rect", { ...cell, "fill-opacity": (0.06 + 0.94 * share).toFixed(3) }));
      });
      const hit = svg("rect", { x: 0, y: y(i), width: x(tokens.length), height: size, class: "hit" });
      hit.addEventListener("pointerenter", (event) => event.pointerType === "mouse" && hover(i));
      hit.addEventListener("click", () => set({ token: i }));
      parts.push(hit);
    });
    const frame = { x: x(0) - 1.5, y: y(token) - 1.5, width: size * tokens.length + 2, height: size + 2, class: "frame" };
    parts.push(svg("rect", { ...frame, "pointer-events": "none" }));
    const label = `map of layer ${layer}, head ${head}: rows look at columns`;
    map.replaceChildren(picture(x(tokens.length) + 4, y(tokens.length) + 4, label, parts));
  }

  function picture(width, height, label, parts) {
    return svg("svg", { role: "img", "aria-label": label, width, height, viewBox: `0 0 ${width} ${height}` }, ...parts);
  }

  function hover(token) {
    if (token === hovered) return;
    hovered = token;
    drawRow();
  }

  function drawRow() {
    result.textContent = sentence(now());
    slider.setAttribute("aria-valuetext", state.tokens[state.token]);
    sliderName.textContent = `who looks: ${now().tokens[now().token]}`;
    const width = (part) => Math.max(220, Math.floor(part.clientWidth || 300));
    drawLines(Math.min(380, width(lines)));
    drawMap(width(map));
  }

  function draw() {
    heading.textContent = state.title;
    heading.hidden = !state.title;
    root.setAttribute("aria-label", state.title || "attention viewer");
    drawTabs("layer", state.weights.length);
    drawTabs("head", state.weights[0].length);
    slider.max = state.tokens.length - 1;
    slider.value = state.token;
    slider.setAttribute("aria-label", "the token that looks");
    drawRow();
    detail.textContent = "A line's width is its share of the row, which sums to 1. Point at a token, or move the slider.";
  }

  slider.addEventListener("input", () => {
    hovered = null;
    set({ token: Number(slider.value) });
  });
  panel.addEventListener("pointerleave", () => hover(null));

  const changes = TRAITS.map((trait) => [
    `change:${trait}`,
    () => {
      state[trait] = model.get(trait);
      const map = state.weights[state.layer]?.[state.head];
      if (map && map.length === state.tokens.length && state.token < map.length) draw(); // not between two of several changes
    },
  ]);
  for (const [event, listener] of changes) model.on(event, listener);

  let width = 0;
  const observer = new ResizeObserver(() => {
    if (root.clientWidth !== width) drawRow();
    width = root.clientWidth;
  });
  observer.observe(root);
  draw();
  return () => {
    observer.disconnect();
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
