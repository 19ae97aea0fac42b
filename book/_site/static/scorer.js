/* How the search ranks what it finds: a page on the subject that was asked for comes first.
 *
 * Sphinx puts this object into its searchtools.js. It counts where a word stands, and knows nothing
 * of the page: the word "attention" in the title of any file of code is worth what it is worth in
 * the title of the unit. So `score` adds how much of the question is a page's own title. Several
 * pages of a unit have its title before a colon: asked for that, the one with the shortest name
 * comes first, which is the unit's first.
 *
 * `var`, for searchtools.js declares the name once more. */
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  // [page, title, anchor of a section, description, Sphinx's score, file]
  score: ([page, title, anchor, , score]) => {
    const words = (text) =>
      text
        .replace(/<[^>]*>/g, " ")
        .toLowerCase()
        .replace(/^\s*\d+(\.\d+)*\s/, "") // a unit's number
        .match(/[\p{Letter}\p{Number}]+/gu) ?? [];
    const asked = new Set(words(new URLSearchParams(location.search).get("q") ?? ""));
    const alike = (text) => {
      const subject = new Set(words(text));
      const common = [...asked].filter((word) => subject.has(word)).length;
      return common / Math.max(asked.size, subject.size, 1);
    };
    const share = Math.max(alike(title), alike(title.split(":")[0]));
    if (!page.startsWith("book/")) return score;
    return score + 10 + (anchor ? 20 * share : 200 * share - page.length);
  },
};
