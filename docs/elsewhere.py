"""What a page has that leads out of the site, made to stay in it.

The pages are read in two places, in the repository and here.  In the site, a relative link to a
file that is no page would be copied as a download, which nobody wants of a test bed's directory;
and the theme's style would fetch its fonts from another host, which would learn who reads what.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import download_reference, pending_xref
from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]

_FROM_AFAR = re.compile(r"@import\s+url\([\"']?https?:[^)]*\);?\s*")


def plain_links(app: Sphinx, doctree: nodes.document) -> None:
    """Write links to files outside the site as their path, in the type of code."""
    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in [*doctree.findall(pending_xref), *doctree.findall(download_reference)]:
        target = link.get("reftarget", "").partition("#")[0]
        path = (here / target).resolve()
        inside = path.is_relative_to(ROOT) and not path.is_relative_to(ROOT / "docs")
        if target and inside and path.exists():
            link.replace_self(nodes.literal(text=str(path.relative_to(ROOT))))


def own_fonts(app: Sphinx, exception: Exception | None) -> None:
    """Take the fonts that the reader's machine has."""
    if exception is None and app.builder.format == "html":
        for path in Path(app.outdir).rglob("*.css"):
            text = path.read_text(encoding="utf-8")
            if kept := _FROM_AFAR.sub("", text):
                path.write_text(kept, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-read", plain_links)
    app.connect("build-finished", own_fonts)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
