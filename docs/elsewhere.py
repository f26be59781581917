"""Links of a page that lead out of the site: to files of the repository, which GitHub shows.

The pages are read in two places, in the repository and here.  A relative link to a file that is no
page would be copied into the site as a download, which nobody wants of a test bed's directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parents[1]


def plain_links(app: Sphinx, doctree: nodes.document) -> None:
    """Write links to files outside the site as their path, in the type of code."""
    from sphinx.addnodes import download_reference, pending_xref

    here = Path(app.env.doc2path(app.env.docname)).parent
    for link in [*doctree.findall(pending_xref), *doctree.findall(download_reference)]:
        target = link.get("reftarget", "").partition("#")[0]
        path = (here / target).resolve() if target else here
        if target and path.exists() and path.is_relative_to(ROOT) and ROOT / "docs" not in path.parents:
            link.replace_self(nodes.literal(text=str(path.relative_to(ROOT))))


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("doctree-read", plain_links)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
