"""Search in English and Chinese.

Sphinx takes a run of letters for a word, and Chinese has no spaces: 线程束 would be found as a
whole only. So a run of Chinese is indexed as its characters and its pairs of characters, and
looked up as its pairs: 线程束 is on a page that has both 线程 and 程束. All else is as in Sphinx's
English search.
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

# CJK ideographs as a character class that Python and JavaScript (with the flag u) both read.
HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"

# searchtools.js takes this function for its own. Words are split as Sphinx splits them.
SPLIT_QUERY = f"""
function splitQuery(query) {{
  const words = query.match(/[{HAN}]+|(?:(?![{HAN}])[\\p{{Letter}}\\p{{Number}}_])+/gu) ?? [];
  return words.flatMap((word) => {{
    const characters = [...word];
    if (characters.length === 1 || !/^[{HAN}]/u.test(word)) return [word];
    return characters.slice(1).map((character, i) => characters[i] + character);
  }});
}}
"""


class EnglishAndChinese(SearchEnglish):
    """`split` gives what is indexed of a text; `SPLIT_QUERY` what is looked up for a query."""

    lang = "en-han"
    language_name = "English and Chinese"
    js_splitter_code = SPLIT_QUERY

    _runs = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")
    _chinese = re.compile(rf"[{HAN}]")

    def split(self, text: str) -> list[str]:
        words = []
        for word in self._runs.findall(text):
            if self._chinese.match(word):
                words += [*word, *map("".join, zip(word, word[1:], strict=False))]
            else:
                words.append(word)
        return words


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_search_language(EnglishAndChinese)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
