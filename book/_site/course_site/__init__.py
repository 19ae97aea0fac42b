"""What the course adds to Jupyter Book: pages for its code, and a search that knows Chinese."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("course_site.code_pages")
    app.setup_extension("course_site.search")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
