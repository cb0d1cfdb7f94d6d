"""The site of these pages: `python -m sphinx -W --keep-going -b html docs build/site`, with the extra `docs`.

A folder's README.md is its first page, and names the order of the others. Pages made from the code are written to
`docs/generated/` first (`generate.py`), so they are never older than the code.
"""

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))
import generate  # noqa: E402

import crystallm  # noqa: E402

project = "crystallm"
author = "the crystallm developers"
version = release = crystallm.__version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
exclude_patterns = ["images", "static"]
html_static_path = ["static"]
html_css_files = ["site.css"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # a test runs the notebooks, and compares nothing else
default_role = "code"  # single backticks in docstrings
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
napoleon_numpy_docstring = False

html_theme = "pydata_sphinx_theme"
html_title = "crystallm"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {"navigation_with_keys": False, "show_prev_next": True, "secondary_sidebar_items": ["page-toc"]}
pygments_style = "default"
html_sidebars = {"README": []}

SECTIONS = ["tutorials", "how-to", "reference", "explanation", "experiments", "decisions"]
NOTEBOOKS = [f"/generated/examples/{path.stem}" for path in generate.notebooks()]
FROM_CODE = [f"/generated/{name}" for name in ("commands", "configuration", "api")]
EXTRA = {"tutorials": ("Notebooks", NOTEBOOKS), "reference": ("Made from the code", FROM_CODE)}
"""Caption and pages that a section has beside those of its folder."""
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s#]+)(#[^)\s]*)?\)")


def pages_of(folder: Path, text: str) -> list[str]:
    """Pages of a folder: those that its README.md links, in this order, then the others."""
    linked = [name for name in re.findall(r"\]\(([\w-]+)\.md[)#]", text) if name != "README"]
    others = sorted(path.stem for path in folder.glob("*.md") if path.stem != "README")
    return list(dict.fromkeys([*linked, *others]))


def toctree(entries: list[str], caption: str = "") -> str:
    options = [":hidden:", ":maxdepth: 1", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["", "", "```{toctree}", *options, "", *entries, "```", ""])


def prepare_page(app: Any, name: str, source: list[str]) -> None:
    """Add the table of contents to a folder's first page; files outside of the site become downloads."""
    path = Path(app.env.doc2path(name))
    if path.suffix != ".md":
        return
    text = source[0]
    if name == "README":
        text += toctree([f"{section}/README" for section in SECTIONS])
    elif path.name == "README.md":
        caption, more = EXTRA.get(path.parent.name, ("", []))
        text += toctree(pages_of(path.parent, text)) + (toctree(more, caption) if more else "")

    def outside(found: re.Match[str]) -> str:
        target = (path.parent / found[2]).resolve()
        if target.is_relative_to(DOCS):
            return found[0]
        if target.suffix == ".ipynb":
            return f"[{found[1]}](/generated/examples/{target.stem}.ipynb)"
        if target.is_dir():
            return f"`{os.path.relpath(target, DOCS.parent)}`"
        return f"{{download}}`{found[1]} <{found[2]}>`"

    source[0] = LINK.sub(outside, text)


def mark_code(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give code in docstrings two backticks: within single ones napoleon takes a colon for the end of a type."""
    lines[:] = [re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line) for line in lines]


def write_pages(app: Any) -> None:
    generate.write(DOCS / "generated", DOCS.parent / "examples")


def write_index(app: Any, error: Exception | None) -> None:
    """Lead from index.html, which servers look for, to the first page."""
    if error is None and app.builder.name == "html":
        text = '<!doctype html><meta http-equiv="refresh" content="0; url=README.html">'
        Path(app.outdir, "index.html").write_text(text, encoding="utf-8")


def setup(app: Any) -> None:
    app.connect("builder-inited", write_pages)
    app.connect("source-read", prepare_page)
    app.connect("autodoc-process-docstring", mark_code, priority=400)  # before napoleon
    app.connect("build-finished", write_index)
