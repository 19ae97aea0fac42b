/* Names for what a screen reader meets: folds and copy buttons.
 *
 * Every fold was "Toggle hidden content" and every copy button "Copy", so that nobody knew of what.
 * A fold is called by what it says and how many lines it holds; a button, by the lines it copies. */
{
  const lines = (block) => {
    const text = block?.innerText ?? block?.textContent ?? "";
    const count = text.trim() ? text.trim().split("\n").length : 0;
    return count === 1 ? "1 line" : `${count} lines`;
  };

  const first = (block) => {
    const text = (block?.textContent ?? "").trim().split("\n")[0].trim();
    return text.length > 60 ? `${text.slice(0, 57)}...` : text;
  };

  const name = () => {
    for (const summary of document.querySelectorAll("details > summary[aria-label]")) {
      const block = summary.parentElement.querySelector("pre");
      const said = summary.querySelector(".collapsed")?.textContent.trim() || "Show more";
      summary.setAttribute("aria-label", block ? `${said}: ${first(block)}` : said);
    }
    for (const button of document.querySelectorAll("button.copybtn:not([aria-label])")) {
      const block = document.querySelector(button.dataset.clipboardTarget);
      button.setAttribute("aria-label", `Copy ${lines(block)}: ${first(block)}`);
    }
    for (const button of document.querySelectorAll("button.copybtn svg")) {
      button.setAttribute("aria-hidden", "true"); // the button has its name
    }
  };

  window.addEventListener("load", () => {
    name();
    // The copy buttons come later, and their picture changes when one is pressed.
    new MutationObserver(name).observe(document.body, { childList: true, subtree: true });
  });
}
