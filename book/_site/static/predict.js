/* A box for each prediction: the reader types a guess, and then sees what was measured beside it.
 *
 * `predict(...)` and `reveal(...)` leave `.aiinfra-predict` and `.aiinfra-reveal` on the page, with
 * the prediction's id; the figure is the one that the notebook measured. Until the reader has
 * guessed or skipped, the cell that measures is hidden, and so are the cells right behind it: their
 * tables and figures show the answer, too. The guess is kept in the browser alone, by page and id;
 * where it may keep nothing, it lasts as long as the page. */
{
  const kept = new Map();
  const key = (id) => `aiinfra:guess:${location.pathname}:${id}`;

  const load = (id) => {
    try {
      return JSON.parse(localStorage.getItem(key(id))) ?? kept.get(id) ?? null;
    } catch {
      return kept.get(id) ?? null;
    }
  };

  const keep = (id, guess) => {
    kept.set(id, guess);
    try {
      if (guess === null) localStorage.removeItem(key(id));
      else localStorage.setItem(key(id), JSON.stringify(guess));
    } catch {
      // no storage, or none left: it is kept on this page
    }
  };

  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
    made.append(...children);
    return made;
  };

  // A cell and the cells behind it, up to the next words or the next prediction.
  const withThoseBehind = (cell) => {
    const cells = [cell];
    for (let next = cell.nextElementSibling; next?.matches("div.cell"); next = next.nextElementSibling) {
      if (next.querySelector(".aiinfra-predict, .aiinfra-reveal")) break;
      cells.push(next);
    }
    return cells;
  };

  const box = (asked, number) => {
    const id = asked.dataset.predict;
    const reveal = document.querySelector(`.aiinfra-reveal[data-predict="${CSS.escape(id)}"]`);
    if (!reveal) return;
    const measuring = withThoseBehind(reveal.closest("div.cell") ?? reveal);
    const predicted = reveal.querySelector("td"); // the first: what was predicted

    const name = `aiinfra-guess-${number}`;
    const input = element("input", { id: name, type: "text", autocomplete: "off" });
    if (reveal.dataset.kind === "number") input.inputMode = "decimal";
    const skip = element("button", { type: "button" }, "Skip");
    const hint = element("p", { class: "hint", id: `${name}-hint`, role: "alert" });
    const label = element("label", { for: name }, element("b", {}, "Predict."), " ");
    label.append(asked.dataset.question || "What will be measured?");
    const compare = element("button", { type: "submit" }, "Compare");
    const row = element("div", { class: "line" }, input, compare, skip);
    const form = element("form", { class: "aiinfra-guess" }, label, row, hint);

    const said = element("p", { tabindex: "-1", class: "said" });
    const again = element("button", { type: "button" }, "Guess again");
    const question = element("p", {}, asked.dataset.question || "");
    const answer = element("div", { class: "aiinfra-guess answer" }, question, said, again);
    asked.replaceChildren(form, answer);

    const show = () => {
      const guess = load(id);
      form.hidden = guess !== null;
      answer.hidden = guess === null;
      for (const cell of measuring) cell.hidden = guess === null;
      const mine = guess?.said ?? "";
      const measured = element("b", {}, reveal.dataset.measured);
      const before = mine ? `You said ${mine}; measured: ` : "You skipped; measured: ";
      said.replaceChildren(...(guess === null ? [] : [before, measured, "."]));
      if (predicted) predicted.textContent = mine || "skipped";
    };

    const end = (guess) => {
      keep(id, guess);
      show();
      said.focus();
    };

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const text = input.value.trim().slice(0, 80);
      hint.textContent = text ? "" : "Type a guess, or skip.";
      input.setAttribute("aria-invalid", String(!text));
      input.setAttribute("aria-describedby", hint.id);
      if (text) end({ said: text });
      else input.focus();
    });
    skip.addEventListener("click", () => end({ skipped: true }));
    again.addEventListener("click", () => {
      keep(id, null);
      show();
      input.value = "";
      input.focus();
    });
    show();
  };

  const start = () => document.querySelectorAll(".aiinfra-predict[data-predict]").forEach(box);
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
}
