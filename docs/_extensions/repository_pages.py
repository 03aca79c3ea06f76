"""Pages whose text is elsewhere in the repository, links out of ``docs/``, and figures that only the site has.

On GitHub, ``project/changelog.md`` is one line with a link to ``CHANGELOG.md``. On the site it is the changelog.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
PAGES = {
    "project/changelog": "CHANGELOG.md",
    "project/contributing": "CONTRIBUTING.md",
    "project/conduct": "CODE_OF_CONDUCT.md",
    "project/security": "SECURITY.md",
}
_SITE_PAGES = {file: f"docs/{page}.md" for page, file in PAGES.items()} | {
    "README.md": "docs/index.md",
    "docs/gallery/README.rst": "docs/gallery_pages/index.rst",
}
_LINK = re.compile(r"(\]\()(?!https?:|mailto:|#)([^)\s#]+)")
_CODE = re.compile(r"^(```.*?^```$)|(`[^`\n]*`)", re.DOTALL | re.MULTILINE)
_FIGURE = re.compile(r"^<!-- figure (\S+): (.+) -->$", re.MULTILINE)


def setup(app: Sphinx) -> dict[str, bool]:
    """Change pages when Sphinx reads them."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _read(app: Sphinx, docname: str, source: list[str]) -> None:
    if not str(app.env.doc2path(docname)).endswith(".md"):
        return
    page, text = PurePosixPath(f"docs/{docname}.md"), source[0]
    origin = page
    if docname in PAGES:
        origin = PurePosixPath(PAGES[docname])
        text = (ROOT / origin).read_text(encoding="utf-8")
        app.env.note_dependency(str(ROOT / origin))
    text = _FIGURE.sub(lambda match: f"![{match[2]}]({_relative('docs/' + match[1], page)})", text)
    source[0] = _outside_code(text, lambda part: _LINK.sub(lambda link: link[1] + _target(link[2], origin, page), part))


def _target(link: str, origin: PurePosixPath, page: PurePosixPath) -> str:
    """The link of a page of the repository as the site needs it."""
    file = os.path.normpath(origin.parent / link).replace(os.sep, "/")
    if file.startswith("examples/") and file.endswith(".ipynb"):
        file = file.replace("examples", "docs/notebooks", 1)
    return _relative(_SITE_PAGES.get(file, file), page)


def _relative(file: str, page: PurePosixPath) -> str:
    return os.path.relpath(file, page.parent).replace(os.sep, "/")


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    parts, start = [], 0
    for code in _CODE.finditer(text):
        parts += [change(text[start : code.start()]), code[0]]
        start = code.end()
    return "".join([*parts, change(text[start:])])
