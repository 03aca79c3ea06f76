"""Configuration of the documentation site. ``nox -s docs`` builds it in ``docs/_build/html``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS / "_extensions")]  # this copy of PIXAL, not an installed one

from pixal.version import __version__  # noqa: E402

os.environ.pop("MPLBACKEND", None)  # notebooks show their figures
os.environ.setdefault("PIXAL_TRACKING", "off")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

project = "PIXAL"
author = "The PIXAL developers"
copyright = "The PIXAL developers"
version = release = __version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "benchmark_figures",  # these five are in _extensions/
    "command_line",
    "mathml",
    "repository_pages",
    "settings_tables",
]
exclude_patterns = ["_build", "gallery/*", "gallery_pages/*.ipynb", "**sg_execution_times*"]

# Markdown as GitHub shows it: anchors of headings, $...$, ```math and <img>.
myst_enable_extensions = ["dollarmath", "amsmath", "html_image"]
myst_heading_anchors = 4
myst_fence_as_directive = ["math"]

# The notebooks of examples/ have no stored output. ``-D nb_execution_mode=off`` shows them without.
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_output_stderr = "remove"  # progress bars

sphinx_gallery_conf = {
    "examples_dirs": "gallery",
    "gallery_dirs": "gallery_pages",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
    "min_reported_time": 5,
}

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
python_use_unqualified_type_names = True

html_theme = "pydata_sphinx_theme"
html_title = f"PIXAL {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "PIXAL"},
    "show_toc_level": 2,
    "navigation_with_keys": True,
    "header_links_before_dropdown": 8,
    "secondary_sidebar_items": ["page-toc"],
    "article_header_start": ["breadcrumbs"],
    "footer_start": ["copyright"],
    "footer_end": ["theme-version"],
}
html_sidebars = {"index": [], "start": [], "benchmarks": []}  # pages without pages beneath them
html_math_renderer = "mathml"


def setup(_: Sphinx) -> None:
    """Copy the notebooks of ``examples/`` to where Sphinx finds them."""
    notebooks = DOCS / "notebooks"
    notebooks.mkdir(exist_ok=True)
    for path in sorted((ROOT / "examples").glob("*.ipynb")):
        text, copy = path.read_text(encoding="utf-8").replace("(../docs/", "(../"), notebooks / path.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")
