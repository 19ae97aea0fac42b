// The token cutter. All of it runs in the page: no kernel is asked.
// `words`, `byteCharacters` and `encode` are bpe.py's; a test holds the two together.

const BYTES = 256;
const TRAITS = ["merges", "vocabulary", "size", "text", "title"];
const MOST = 2000; // characters: every token is an element of the page
const SPACES = { " ": "·", "\n": "↵", "\t": "→", "\r": "␍" };

// GPT-2's pattern. \s of JavaScript is another set than Unicode's White_Space.
const WORDS =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

// --- cutting -------------------------------------------------------------------------------------

/** A printable character for each byte, as GPT-2's vocabulary writes them. */
export function byteCharacters() {
  const printable = (b) => (b >= 0x21 && b < 0x7f) || (b >= 0xa1 && b < 0xad) || b >= 0xae;
  let next = 0x100;
  return [...Array(BYTES).keys()].map((b) => String.fromCharCode(printable(b) ? b : next++));
}

const CHARACTERS = byteCharacters();
const BYTE_OF = new Map(CHARACTERS.map((character, b) => [character, b]));

export const words = (text) => text.match(WORDS) ?? [];

/** Ranks of the first `count` merges, and the id of each token. */
export function known(merges, count) {
  const ranks = new Map();
  const ids = new Map([...CHARACTERS].sort().map((character, id) => [character, id]));
  merges.slice(0, count).forEach((merge, rank) => {
    const token = merge.replace(" ", "");
    ranks.set(merge, rank);
    if (!ids.has(token)) ids.set(token, ids.size);
  });
  return { ranks, ids };
}

/** The tokens of one word: the merge that was learned first, of several the leftmost, again and again. */
function cut(word, ranks) {
  const tokens = [...new TextEncoder().encode(word)].map((b) => CHARACTERS[b]);
  while (tokens.length > 1) {
    let best = Infinity;
    let at = -1;
    for (let i = 0; i + 1 < tokens.length; i++) {
      const rank = ranks.get(`${tokens[i]} ${tokens[i + 1]}`) ?? Infinity;
      if (rank < best) [best, at] = [rank, i];
    }
    if (at < 0) break;
    tokens.splice(at, 2, tokens[at] + tokens[at + 1]);
  }
  return tokens;
}

/** [token, id] of each token of a text. */
export function encode(text, { ranks, ids }) {
  return words(text).flatMap((word) => cut(word, ranks).map((token) => [token, ids.get(token)]));
}

/** What a reader sees of a token: its text, or its bytes where it is no whole character. */
export function shown(token) {
  const bytes = Uint8Array.from([...token].map((character) => BYTE_OF.get(character)));
  try {
    const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    return { text: [...text].map((c) => SPACES[c] ?? c).join(""), whole: true };
  } catch {
    const text = [...bytes].map((b) => b.toString(16).padStart(2, "0").toUpperCase()).join(" ");
    return { text, whole: false };
  }
}

const plural = (n, word) => `${n.toLocaleString("en")} ${word}${n === 1 ? "" : "s"}`;

/** The result in words: what a screen reader hears when a control is moved. */
export function sentence(text, tokens, size) {
  const characters = [...text].length;
  if (!characters) return `A vocabulary of ${size.toLocaleString("en")}: type a text.`;
  const each = (tokens / characters).toFixed(2);
  return (
    `${plural(tokens, "token")} for ${plural(characters, "character")}, ${each} each, ` +
    `with a vocabulary of ${size.toLocaleString("en")}`
  );
}

/** The sizes that the slider stops at: 256, and from there in steps of a fourth. */
export function sizes(merges) {
  const most = BYTES + merges;
  const stops = [BYTES];
  for (let more = 4; BYTES + more < most; more = Math.ceil(more * 1.25)) stops.push(BYTES + more);
  return most > BYTES ? [...stops, most] : stops;
}

// --- the widget ----------------------------------------------------------------------------------

function html(name, { dataset, ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  Object.assign(element.dataset, dataset);
  element.append(...children);
  return element;
}

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((trait) => [trait, model.get(trait)]));
  const heading = html("p", { className: "title" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  const tokens = html("div", { className: "tokens" });
  const ids = html("p", { className: "ids" });
  const area = html("textarea", { rows: 3, maxLength: MOST, spellcheck: false });
  const slider = html("input", { type: "range", min: 0, step: 1 });
  const vocabularies = html(
    "select",
    {},
    ...Object.keys(state.merges).map((name) => html("option", { value: name }, name)),
  );
  const sizeName = html("b");
  const label = (caption, control, ...more) =>
    html("label", {}, html("span", { className: "caption" }, caption, ...more), control);
  const choose = label("learned from", vocabularies);
  choose.hidden = Object.keys(state.merges).length < 2;
  const root = html(
    "div",
    { className: "aiinfra-widget token-cutter" },
    heading,
    label("text", area),
    html("div", { className: "controls" }, label("tokens in the vocabulary: ", slider, sizeName), choose),
    result,
    tokens,
    ids,
  );
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "Token cutter");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the keys
  el.replaceChildren(root);

  const learned = () => state.merges[state.vocabulary];

  function set(changes) {
    Object.assign(state, changes);
    for (const [trait, value] of Object.entries(changes)) model.set(trait, value);
    model.save_changes(); // to Python, when there is a kernel
    draw();
  }

  function draw() {
    heading.textContent = state.title;
    heading.hidden = !state.title;
    if (area.value !== state.text) area.value = state.text;
    vocabularies.value = state.vocabulary;
    const stops = sizes(learned().length);
    const size = Math.min(state.size, BYTES + learned().length);
    slider.max = stops.length - 1;
    const past = stops.findIndex((stop) => stop >= size);
    slider.value = past;
    slider.setAttribute("aria-valuetext", `${size.toLocaleString("en")} tokens`);
    sizeName.textContent = size.toLocaleString("en");
    const found = encode(state.text.slice(0, MOST), known(learned(), size - BYTES));
    tokens.replaceChildren(
      ...found.map(([token, id]) => {
        const { text, whole } = shown(token);
        const code = html("code", { className: whole ? "" : "bytes", title: `id ${id}` }, text);
        return code;
      }),
    );
    result.textContent = sentence(state.text, found.length, size);
    ids.textContent = found.length ? `ids: ${found.map(([, id]) => id).join(" ")}` : "";
  }

  area.addEventListener("input", () => set({ text: area.value }));
  slider.addEventListener("input", () => set({ size: sizes(learned().length)[slider.value] }));
  vocabularies.addEventListener("change", () => {
    const most = BYTES + state.merges[vocabularies.value].length;
    set({ vocabulary: vocabularies.value, size: Math.min(state.size, most) });
  });

  const changes = TRAITS.map((trait) => [
    `change:${trait}`,
    () => {
      state[trait] = model.get(trait);
      if (learned()) draw(); // not between two of several changes
    },
  ]);
  for (const [event, listener] of changes) model.on(event, listener);
  draw();
  return () => {
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
