"""How Sphinx builds the site: ``make docs``.

No network is needed: no inventory of another project is fetched, no picture is drawn elsewhere, and
the pages load nothing from other hosts.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

from sphinx.application import Sphinx

import dask_hpc

sys.path.insert(0, str(Path(__file__).parent))

project = "dask-hpc"
author = "dask-hpc developers"
version = release = dask_hpc.__version__
copyright = f"{datetime.now(tz=UTC):%Y}, {author}"  # noqa: A001  (Sphinx's name)

extensions = ["sphinx.ext.autodoc", "numpydoc", "myst_parser", "elsewhere"]
source_suffix = {".md": "markdown"}
templates_path = ["_templates"]
exclude_patterns = ["_build", "README.md"]

myst_enable_extensions = ["deflist", "attrs_block"]
myst_heading_anchors = 3

# What is documented of classes is written in api.md: the engine's own methods are the engine's.
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autosummary_generate = False
nitpicky = True

#: Pages of other parts of this version.
COMING = ("install", "cli", "outliving", "jupyter", "seeing")

html_theme = "dask_sphinx_theme"
html_title = "dask-hpc"
html_static_path = ["_static"]
html_css_files = ["own.css"]
html_sidebars = {"**": ["sbt-sidebar-nav.html"]}  # the search is in the bar above
html_show_sourcelink = False
html_copy_source = False


def setup(app: Sphinx) -> None:
    """Leave out of the index what is written beside us and has not come yet."""

    def present(_app: Sphinx, page: str, source: list[str]) -> None:
        if page == "index":
            lines = source[0].splitlines()
            missing = {name for name in COMING if not Path(app.srcdir, f"{name}.md").exists()}
            source[0] = "\n".join(line for line in lines if line not in missing)

    app.connect("source-read", present)
