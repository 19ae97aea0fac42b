// The MIG board. All of it runs in the page: no kernel is asked.
// `legalStarts`, `placesLeft` and `keepsMostOpen` are mig.py's; a test holds the two together.

const TRAITS = ["tables", "gpu", "profile", "instances", "title"];

// --- the rules -----------------------------------------------------------------------------------

const named = (gpu, name) => gpu.profiles.find((profile) => profile.name === name);
const slices = (profile, start) => [...Array(profile.memory).keys()].map((i) => start + i);

/** The memory slices that instances ([profile name, start]) have in use. */
export function taken(gpu, instances) {
  return new Set(instances.flatMap(([name, start]) => slices(named(gpu, name), start)));
}

/** Where an instance of the profile may begin. */
export function legalStarts(profile, used) {
  return profile.starts.filter((start) => slices(profile, start).every((slice) => !used.has(slice)));
}

/** How many (profile, start) pairs are still legal. */
export function placesLeft(gpu, used) {
  return gpu.profiles.reduce((sum, profile) => sum + legalStarts(profile, used).length, 0);
}

/** The legal start that leaves most places, the lowest of equals; null when none is legal. */
export function keepsMostOpen(gpu, profile, used) {
  let [best, most] = [null, -1];
  for (const start of legalStarts(profile, used)) {
    const left = placesLeft(gpu, new Set([...used, ...slices(profile, start)]));
    if (left > most) [best, most] = [start, left];
  }
  return best;
}

const list = (numbers) => numbers.join(", ");

/** What is the case, in words: what a screen reader hears when something changes. */
export function sentence(gpu, profile, instances) {
  const used = taken(gpu, instances);
  const legal = legalStarts(profile, used);
  const free = [...Array(gpu.memory_slices).keys()].filter((slice) => !used.has(slice));
  if (legal.length) return `${profile.name} may begin at ${list(legal)}`;
  const needs = `it takes ${profile.memory}`;
  if (free.length < profile.memory) return `no room for ${profile.name}: ${free.length} slices free, ${needs}`;
  return (
    `no place for ${profile.name}: ${free.length} slices free (${list(free)}), ${needs}, ` +
    `but it may begin only at ${list(profile.starts)}`
  );
}

// --- the widget ----------------------------------------------------------------------------------

function html(name, properties = {}, ...children) {
  const { dataset, style, ...plain } = properties;
  const element = Object.assign(document.createElement(name), plain);
  Object.assign(element.dataset, dataset ?? {});
  Object.assign(element.style, style ?? {});
  element.append(...children);
  return element;
}

/** A profile's name that may break after its dot, where a slice is narrow. */
function broken(name) {
  const [compute, memory] = name.split(/(?<=\.)/);
  return [compute, html("wbr"), memory];
}

const across = (start, size) => ({ gridColumn: `${start + 1} / span ${size}` });

function render({ model, el }) {
  const state = Object.fromEntries(TRAITS.map((name) => [name, model.get(name)]));
  const boards = html(
    "select",
    {},
    ...Object.entries(state.tables).map(([id, gpu]) => html("option", { value: id, textContent: gpu.name })),
  );
  const heading = html("p", { className: "title" });
  const profiles = html("div", { className: "profiles" });
  profiles.setAttribute("role", "radiogroup");
  profiles.setAttribute("aria-label", "profile to place");
  const board = html("div", { className: "board" });
  const result = html("p", { className: "result" });
  result.setAttribute("role", "status");
  result.setAttribute("aria-live", "polite");
  const detail = html("p", { className: "detail" });
  const driver = html("button", { type: "button", textContent: "place it where most stays open", dataset: { key: "driver" } });
  const clear = html("button", { type: "button", textContent: "destroy all", dataset: { key: "clear" } });
  const name = `mig-profile-${Math.random().toString(36).slice(2)}`; // radios of one widget belong together
  const root = html(
    "div",
    { className: "aiinfra-widget mig-board" },
    heading,
    html("label", { className: "boards" }, html("span", { className: "caption" }, "GPU"), boards),
    profiles,
    result,
    board,
    html("p", { className: "orders" }, driver, " ", clear),
    detail,
  );
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", state.title || "MIG board");
  root.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the keys
  el.replaceChildren(root);

  const gpu = () => state.tables[state.gpu];
  const profile = () => named(gpu(), state.profile) ?? gpu().profiles[0];

  function set(changes) {
    Object.assign(state, changes);
    for (const [trait, value] of Object.entries(changes)) model.set(trait, value);
    model.save_changes(); // to Python, when there is a kernel
    draw();
  }

  const place = (start) => set({ instances: [...state.instances, [profile().name, start]] });
  const destroy = (index) => set({ instances: state.instances.filter((_, i) => i !== index) });

  function drawProfiles() {
    const used = taken(gpu(), state.instances);
    profiles.replaceChildren(
      ...gpu().profiles.map((each) => {
        const input = html("input", {
          type: "radio",
          name,
          value: each.name,
          checked: each.name === profile().name,
          dataset: { key: `profile ${each.name}` },
        });
        input.addEventListener("change", () => set({ profile: each.name }));
        const places = legalStarts(each, used).length;
        const left = html("small", {}, places === 1 ? "1 place" : `${places} places`);
        return html("label", { className: places ? "" : "full" }, input, html("span", {}, each.name), left);
      }),
    );
  }

  function drawBoard() {
    const count = gpu().memory_slices;
    board.style.gridTemplateColumns = `repeat(${count}, minmax(0, 1fr))`;
    const used = taken(gpu(), state.instances);
    const legal = new Set(legalStarts(profile(), used));
    const cells = [];
    for (let slice = 0; slice < count; slice++) {
      cells.push(html("span", { className: "number", style: { ...across(slice, 1), gridRow: 1 } }, slice));
      if (!used.has(slice)) cells.push(html("span", { className: "free", style: { ...across(slice, 1), gridRow: 2 } }));
    }
    state.instances.forEach(([of, start], index) => {
      const { memory, compute } = named(gpu(), of);
      const end = start + memory - 1;
      const button = html(
        "button",
        {
          type: "button",
          className: `instance compute-${compute}`,
          style: { ...across(start, memory), gridRow: 2 },
          dataset: { key: `instance ${start}` },
        },
        ...broken(of),
      );
      button.setAttribute("aria-label", `destroy ${of} on slices ${start} to ${end}`);
      button.addEventListener("click", () => destroy(index));
      cells.push(button);
    });
    for (const start of profile().starts) {
      const open = legal.has(start);
      const button = html("button", {
        type: "button",
        className: open ? "place" : "place blocked",
        disabled: !open,
        textContent: open ? "+" : "×",
        style: { ...across(start, profile().memory), gridRow: 3 },
        dataset: { key: `place ${start}` },
      });
      button.setAttribute("aria-label", `place ${profile().name} at ${start}${open ? "" : ", blocked"}`);
      button.addEventListener("click", () => place(start));
      cells.push(button);
    }
    board.replaceChildren(...cells);
  }

  function draw() {
    const active = root.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
    heading.textContent = state.title;
    heading.hidden = !state.title;
    boards.value = state.gpu;
    drawProfiles();
    drawBoard();
    const used = taken(gpu(), state.instances);
    const compute = state.instances.reduce((sum, [of]) => sum + named(gpu(), of).compute, 0);
    result.textContent = sentence(gpu(), profile(), state.instances);
    result.classList.toggle("failed", !legalStarts(profile(), used).length);
    detail.textContent =
      `memory slices ${used.size} of ${gpu().memory_slices}, compute slices ${compute} of ` +
      `${gpu().compute_slices} in use; ${placesLeft(gpu(), used)} places left. ` +
      "Upper row: the instances, click to destroy one. Lower row: where the profile may begin.";
    driver.disabled = !legalStarts(profile(), used).length;
    clear.disabled = !state.instances.length;
    if (active) {
      const again = [...root.querySelectorAll("[data-key]")].find((e) => e.dataset.key === active && !e.disabled);
      (again ?? root.querySelector("input:checked")).focus();
    }
  }

  boards.addEventListener("change", () => {
    const first = state.tables[boards.value].profiles[0].name;
    set({ gpu: boards.value, profile: first, instances: [] });
  });
  driver.addEventListener("click", () => place(keepsMostOpen(gpu(), profile(), taken(gpu(), state.instances))));
  clear.addEventListener("click", () => set({ instances: [] }));

  const changes = TRAITS.map((trait) => [
    `change:${trait}`,
    () => {
      state[trait] = model.get(trait);
      if (state.instances.every(([of]) => named(gpu(), of))) draw(); // not between two of several changes
    },
  ]);
  for (const [event, listener] of changes) model.on(event, listener);
  draw();
  return () => {
    for (const [event, listener] of changes) model.off(event, listener);
  };
}

export default { render };
