"""What the course adds to Jupyter Book: pages for its code, a search that knows Chinese, and pages
without what is not to be shown."""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    app.setup_extension("course_site.code_pages")
    app.setup_extension("course_site.pages")
    app.setup_extension("course_site.search")
    app.connect("html-page-context", without_thebe, priority=900)  # after all have added theirs
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def without_thebe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any
) -> None:
    """Leave out the scripts of sphinx-thebe, which Jupyter Book loads always.

    Thebe is off, since it comes from another host; and what sets it up stands twice on each page,
    which the browser reports as an error.
    """
    context["script_files"] = [
        script
        for script in context["script_files"]
        if "thebe" not in f"{script.filename} {script.attributes.get('body')}".lower()
    ]
