"""The course as a static site: `make site` builds it from the committed outputs into build/site.

The source folder is the root of the repository, so that a link between two files is the same in the
repository, in JupyterLab and on the site. Nothing is executed, and no page loads anything from
another host.
"""

import json
import re
import sys
import tomllib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from docutils import nodes
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sphinx.ext.autosummary import autosummary_table

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from write_tables import lessons_table  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LESSONS = {path.name[:2]: path for path in sorted(ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))}
# This package only carries MathJax, so that formulas need no network. One of its files is enough.
MATHJAX = Path(*find_spec("sphinx-mathjax-offline").submodule_search_locations) / "static/mathjax"

project = PROJECT["name"]
version = release = PROJECT["version"]
author = "The imbalkit authors"
copyright = author
language = "en"

root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "benchmarks/README.md",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
]
# Not even looked into.
exclude_patterns = ["docs/_*", "build", ".*", "**/.ipynb_checkpoints", "*.egg-info"]

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
templates_path = [str(ROOT / "docs/_templates")]

nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}  # the notebooks hold no widgets; the default names another host
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_mock_imports = ["transformers", "lightning", "pytorch_lightning"]  # for integrations
autodoc_typehints = "none"  # the docstrings say more: shapes, dtypes, units
napoleon_numpy_docstring = False
default_role = "py:obj"

mathjax_path = "tex-svg.js"  # it draws the letters itself; other outputs of MathJax load fonts
mathjax4_config = {"options": {"enableMenu": False}}  # the menu could load from another host

html_theme = "sphinx_book_theme"
html_title = "imbalkit"
html_static_path = ["_static", str(MATHJAX / mathjax_path)]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_extra_path = ["_extra"]
html_show_sphinx = False
html_use_index = html_domain_indices = False
# A page that is opened from the file system cannot read another one to show an excerpt of it.
html_show_search_summary = False
html_context = {"default_mode": "auto"}  # dark where the reader's system is
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search stands in the side bar already
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "extra_footer": "Code: MIT licence. Prose and figures: CC BY 4.0.",
}
# Output is for reading, code is for pasting.
copybutton_selector = "div:not(.output) > div.highlight > pre"


# --- notebooks


def prepare_notebook(text: str) -> str:
    """A notebook as myst-nb wants it.

    Each figure's alt text, which `plots.show` keeps with the output, moves to where myst-nb looks
    for it. Anchors get the small letters of the site.
    """
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            alt = output.get("metadata", {}).get("image/png", {}).get("alt")
            if alt:
                cell["metadata"]["mystnb"] = {"image": {"alt": alt}}
        if cell["cell_type"] == "markdown":
            cell["source"] = with_small_anchors("".join(cell["source"]))
    return json.dumps(notebook)


def with_small_anchors(text: str) -> str:
    """JupyterLab's anchor of a heading keeps its capitals, the site's does not."""
    return re.sub(r"\]\([\w.]*#[^)]+\)", lambda link: link.group().lower(), text)


# --- versions and times


def versions_table() -> str:
    """The packages that imbalkit asks for, with their ranges and the tested releases."""
    pins = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in constraints()}
    groups = {"everybody": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    rows = ["| package | for | range | tested |", "| --- | --- | --- | --- |"]
    for group, lines in groups.items():
        names = {Requirement(line).name: line for line in lines}
        rows += [
            f"| {name} | {group} | {line.removeprefix(name)} | {pins[canonicalize_name(name)]} |"
            for name, line in names.items()
            if name != PROJECT["name"]
        ]
    return "\n".join(rows)


def constraints() -> list[str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def fill_tables(text: str) -> str:
    lessons = lessons_table().replace("](notebooks/", "](../notebooks/")
    return text.replace("<!-- times -->", lessons).replace("<!-- versions -->", versions_table())


def prepare_source(app, docname, source):
    if docname.startswith("notebooks/"):
        source[0] = prepare_notebook(source[0])
    elif docname == "docs/measured":
        source[0] = fill_tables(source[0])


# --- docstrings


def prepare_docstring(app, what, name, obj, options, lines):
    """Link the lesson that a docstring names; napoleon then reads its sections."""
    text = "\n".join(lines)
    if what in ("function", "class") and not re.search(r"\blessons? \d\d", text):
        text = before_sections(text, lesson_of(obj))
    lines[:] = with_lesson_links(text).splitlines()


def before_sections(text: str, sentence: str) -> str:
    """The docstring with a sentence more, above "Args:" and what follows it."""
    sections = r"^(?=(?:Args|Attributes|Returns|Raises|Example):$)"
    head, *rest = re.split(sections, text, maxsplit=1, flags=re.MULTILINE)
    return f"{head}\n\n{sentence}\n\n{''.join(rest)}"


def with_lesson_links(text: str) -> str:
    """Links in "lesson 05", and at each number of "lessons 03 to 10", to the lessons' pages."""

    def link(words: re.Match) -> str:
        path = LESSONS.get(words.group()[-2:])
        return f":doc:`{words.group()} </notebooks/{path.stem}>`" if path else words.group()

    numbers = r"\b[Ll]essons \d\d(?:(?:, | and | to )\d\d)+"
    text = re.sub(numbers, lambda phrase: re.sub(r"\d\d", link, phrase.group()), text)
    return re.sub(r"\b[Ll]esson \d\d\b", link, text)


def lesson_of(obj) -> str:
    """A sentence that names the lesson of an object whose docstring names none.

    It is the one that its module names, or the first whose code has its name or its module.
    """
    module, package = obj.__module__, obj.__module__.rpartition(".")[0]
    if not module.startswith("imbalkit."):  # autodoc asks for what a module imports, too
        return ""
    for documented in (sys.modules[module], sys.modules[package]):
        sentence = r"Derived\s+in\s+lessons? \d\d[^.]*\.|Lesson \d\d uses it\."
        named = re.search(sentence, documented.__doc__ or "")
        if named:
            return named.group()
    word = module.removeprefix("imbalkit.")
    for pattern in (
        rf"\b{obj.__name__}\b",
        rf"\bimbalkit\.{word}\b|\bimbalkit import .*\b{word}\b",
    ):
        for number in LESSONS:
            if re.search(pattern, code_of(number)):
                return f"First used in lesson {number}."
    return ""


@cache
def code_of(number: str) -> str:
    """All code of a lesson."""
    cells = json.loads(LESSONS[number].read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


def head_tables(app, doctree):
    """autosummary's tables have no header cells."""
    for table in doctree.findall(autosummary_table):
        titles = [
            nodes.entry("", nodes.paragraph(text=title)) for title in ("module", "what it is")
        ]
        body = next(table.findall(nodes.tbody))
        body.parent.insert(body.parent.index(body), nodes.thead("", nodes.row("", *titles)))


def setup(app):
    app.connect("source-read", prepare_source)
    app.connect("doctree-read", head_tables)
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", prepare_docstring, priority=400)
