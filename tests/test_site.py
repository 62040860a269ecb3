"""The built site, read as files and opened in a browser from the file system, without a network.

The site is built once and each page visited once; the tests then look at what was noted. A guard
returns what is wrong, one sentence a fault, and is first shown to fail on a page that is broken.
"""

import json
import os
import re
import statistics
import subprocess
import sys
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup
from filelock import FileLock
from helpers import BROWSER, BROWSER_FLAGS

# `--dist loadscope` keeps them in one process: the others do not wait for the site.
pytestmark = [pytest.mark.notebooks(minutes=4), pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Milliseconds from the request of a page until all that it loads is there.
READY = "performance.getEntriesByType('navigation')[0].duration"
# It would read the style sheets again, which a page from the file system may not.
AXE = {"resultTypes": ["violations"], "preload": False}
# A page of each kind: dark colours come from the theme, and axe takes seconds for a page.
IN_DARK = {
    "bad.html",
    "docs/index.html",
    "docs/api/modules/imbalkit.losses.html",
    "notebooks/03_weighted_cross_entropy.html",
    "notebooks/recipes.html",
}
SCREENS = {  # name: page, width, colour scheme, what to scroll to
    "start": ("docs/index.html", 1300, "light", "article"),
    "lesson": ("notebooks/03_weighted_cross_entropy.html", 1300, "light", "article"),
    "figure": ("notebooks/03_weighted_cross_entropy.html", 1300, "light", ".cell_output img"),
    "recipes": ("notebooks/recipes.html", 1300, "light", "#focal-loss"),
    "api": ("docs/api/modules/imbalkit.losses.html", 1300, "light", "article"),
    "dark": ("notebooks/01_diagnosing_single_class_collapse.html", 1300, "dark", "#one-call"),
    "phone": ("notebooks/05_sampling.html", 390, "light", ".cell_output table"),
}


# --- the site, built and visited once for all processes of a test run


def once(tmp_path_factory, name, make):
    """A folder that `make` fills, shared by the processes of pytest-xdist."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    with FileLock(root / f"{name}.lock"):
        if not (root / name).exists():
            make(root / f"{name}-unfinished")
            (root / f"{name}-unfinished").rename(root / name)
    return root / name


def build(folder):
    # The same words as in the Makefile.
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fresh-env", "--fail-on-warning"]
    command += ["--keep-going", "--conf-dir", "docs", "--doctree-dir", f"{folder}-doctrees"]
    result = subprocess.run([*command, ".", folder], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    return once(tmp_path_factory, "site", build)


@pytest.fixture(scope="session")
def visits(site, tmp_path_factory):
    def visit_all(folder):
        folder.mkdir()
        # The first page only forwards, and has a test of its own.
        notes = visit(site, [page for page in pages(site) if page != "index.html"])
        (folder / "visits.json").write_text(json.dumps(notes), encoding="utf-8")

    return json.loads((once(tmp_path_factory, "visits", visit_all) / "visits.json").read_text())


def pages(folder):
    found = [path.relative_to(folder) for path in folder.rglob("*.html")]
    return sorted(str(path) for path in found if path.parts[0] != "_static")


@cache
def soup(folder, page):
    return BeautifulSoup((folder / page).read_text(encoding="utf-8"), "html.parser")


# --- in the browser


class Browser:
    """Debian's Chromium without a network; it notes errors and requests that leave the disk."""

    def __enter__(self):
        if not BROWSER:
            pytest.skip("no browser: install Debian's package chromium")
        playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
        self.playwright = playwright.sync_playwright().start()
        self.chromium = self.playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_FLAGS)
        return self

    def __exit__(self, *error):
        self.chromium.close()
        self.playwright.stop()

    def open(self, scheme="light", width=1300):
        size = {"width": width, "height": 900}
        context = self.chromium.new_context(color_scheme=scheme, viewport=size, offline=True)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.errors, page.requests = [], []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        page.on("console", lambda m: page.errors.append(m.text) if m.type == "error" else None)
        page.on("request", lambda request: page.requests.append(request.url))
        page.on("requestfailed", lambda request: page.errors.append(f"not loaded: {request.url}"))
        return page


def visit(folder, names):
    """What a browser says of each page: {page: {what: [...]}}."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe").Axe()
    with Browser() as browser:
        return {
            name: look(browser, axe, (folder / name).as_uri(), dark=name in IN_DARK)
            for name in names
        }


def look(browser, axe, address, dark):
    """Errors, requests, formulas, and what axe finds serious, also in dark colours if wanted."""
    page = browser.open()
    page.goto(address)
    if page.locator(".math").count():
        page.wait_for_function("window.MathJax?.startup?.promise?.then(() => true)")
    # Half way from light to dark a colour is neither.
    page.add_style_tag(content="* { transition: none !important }")
    notes = {"errors": list(page.errors), "requests": list(page.requests), "violations": []}
    for scheme in ("light", "dark") if dark else ("light",):
        page.emulate_media(color_scheme=scheme)
        found = axe.run(page, options=AXE).response["violations"]
        notes["violations"] += [
            f"{scheme}: {fault['id']}: {fault['nodes'][0]['html'][:200]}"
            for fault in found
            if fault["impact"] in ("serious", "critical")
        ]
    notes["seconds"] = page.evaluate(READY) / 1000
    notes["formulas"] = page.locator("mjx-container").count()
    notes["formula errors"] = page.locator("mjx-merror, [data-mjx-error]").count()
    page.context.close()
    return notes


def megabytes(files):
    return sum(path.stat().st_size for path in files) / 1e6


def remote(requests):
    return [url for url in requests if urlsplit(url).scheme not in ("file", "data", "blob")]


# --- guards on the files


def broken_links(folder, page):
    """Links to a file that does not exist, or to a place that a page does not have."""
    faults = []
    for link in soup(folder, page).select("[href], [src]"):
        address = urlsplit(link.get("href") or link.get("src"))
        if address.scheme or address.netloc:
            continue
        target = page
        if address.path:
            target = os.path.normpath(Path(page).parent / unquote(address.path))
        if not (folder / target).is_file():
            faults.append(f"{page}: no file for {address.geturl()}")
        elif address.fragment and unquote(address.fragment) not in names_in(folder, target):
            faults.append(f"{page}: no such place: {address.geturl()}")
    return faults


@cache
def names_in(folder, page):
    return {tag["id"] for tag in soup(folder, page).select("[id]")}


def images_without_text(folder, page):
    images = soup(folder, page).find_all("img")
    return [f"{page}: {img.get('src')}" for img in images if not img.get("alt", "").strip()]


def skipped_headings(folder, page):
    """Headings more than one level below the one before."""
    headings = soup(folder, page).select("main h1, main h2, main h3, main h4, main h5, main h6")
    levels = [0] + [int(heading.name[1]) for heading in headings]
    return [
        f"{page}: {heading.get_text()!r} after a heading of level {before}"
        for before, heading in zip(levels, headings, strict=False)
        if int(heading.name[1]) > before + 1
    ]


def tables_without_header(folder, page):
    tables = soup(folder, page).find_all("table")
    return [f"{page}: {table.get_text()[:80]!r}" for table in tables if not table.find("th")]


LOADS = "script[src], img[src], iframe[src], source[src], video[src], audio[src], embed[src]"
LOADING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "preconnect", "dns-prefetch"}


def loads_from_other_hosts(folder, page):
    """What a page asks of another host when it is opened: scripts, styles, images, fonts."""
    tree = soup(folder, page)
    addresses = [tag["src"] for tag in tree.select(LOADS)]
    links = [link for link in tree.select("link[href]") if LOADING_LINKS & set(link["rel"])]
    addresses += [link["href"] for link in links]
    addresses += [url for style in tree.find_all("style") for url in style_loads(style.get_text())]
    addresses += [url for tag in tree.select("[style]") for url in style_loads(tag["style"])]
    return [f"{page}: {url}" for url in addresses if re.match(r"(https?:)?//", url)]


def style_loads(css):
    return re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s;]+)""", css)


# --- the guards see what they are for

BAD_PAGE = """<!doctype html><html lang="en"><head><title>bad</title>
<link rel="stylesheet" href="https://example.org/style.css"></head><body><main><h1>Bad</h1>
<h3>Skipped</h3><img src="figure.png"><a href="nowhere.html">no page</a><a href="#none">no place</a>
<table><tr><td>no header</td></tr></table><p style="color: #999; background: #aaa">faint</p>
<div style="background: url(https://example.org/b.png)"></div>
<script>console.error("a fault"); fetch("https://example.org/data.json").catch(() => 0)</script>
</main></body></html>"""


@pytest.fixture
def bad(tmp_path):
    (tmp_path / "bad.html").write_text(BAD_PAGE, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("guard", "faults"),
    [
        (broken_links, 3),  # the page, the place, the figure
        (images_without_text, 1),
        (skipped_headings, 1),
        (tables_without_header, 1),
        (loads_from_other_hosts, 2),
    ],
)
def test_guard_sees_a_bad_page(bad, guard, faults):
    assert len(guard(bad, "bad.html")) == faults


def test_browser_sees_a_bad_page(bad):
    notes = visit(bad, ["bad.html"])["bad.html"]
    assert {"light: image-alt", "light: color-contrast", "dark: image-alt"} <= {
        violation.rpartition(":")[0].split(": <")[0] for violation in notes["violations"]
    }
    assert "a fault" in notes["errors"]
    assert "https://example.org/data.json" in remote(notes["requests"])
    assert any("style.css" in error for error in notes["errors"])


# --- the site


@pytest.mark.parametrize(
    "guard",
    [
        broken_links,
        images_without_text,
        skipped_headings,
        tables_without_header,
        loads_from_other_hosts,
    ],
)
def test_pages_pass(site, guard):
    assert [fault for page in pages(site) for fault in guard(site, page)] == []


def test_styles_load_nothing_from_other_hosts(site):
    sheets = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.css")}
    assert sheets
    loads = [(path.name, url) for path, css in sheets.items() for url in style_loads(css)]
    assert [load for load in loads if re.match(r"(https?:)?//", load[1])] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_lesson_has_its_page(site, path):
    notebook = nbformat.read(path, as_version=4)
    page = soup(site, f"notebooks/{path.stem}.html")
    title = notebook.cells[0].source.splitlines()[0].removeprefix("# ")
    assert page.html["lang"] == "en"
    assert page.h1.find(string=True) == title
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(page.select(".cell_input")) == len(code)
    texts = [image["alt"] for image in page.select(".cell_output img")]
    for cell in code:
        for output in cell.outputs:
            figure = output.get("metadata", {}).get("image/png")
            assert figure is None or figure["alt"] in texts
            assert output.get("name") != "stdout" or output.text.strip() in page.get_text()


def test_recipes_can_be_copied(site):
    with Browser() as browser:
        page = browser.open()
        page.goto((site / "notebooks/recipes.html").as_uri())
        buttons = page.locator(".tag_recipe .cell_input button.copybtn")
        assert buttons.count() == page.locator(".tag_recipe").count() > 25
        assert page.locator(".cell_output button.copybtn").count() == 0


def test_no_error_and_no_request_in_the_browser(visits):
    assert {page: note["errors"] for page, note in visits.items() if note["errors"]} == {}
    asked = {page: remote(note["requests"]) for page, note in visits.items()}
    assert {page: urls for page, urls in asked.items() if urls} == {}


def test_axe_finds_nothing_serious(visits):
    assert [f"{page}: {v}" for page, note in visits.items() for v in note["violations"]] == []


def test_formulas_are_drawn(site, visits):
    for page, note in visits.items():
        assert note["formulas"] == len(soup(site, page).select(".math")), page
        assert note["formula errors"] == 0, page
    assert visits["notebooks/03_weighted_cross_entropy.html"]["formulas"] > 20


def test_search_finds_a_lesson(site):
    with Browser() as browser:
        page = browser.open()
        page.goto(f"{(site / 'search.html').as_uri()}?q=focal")
        results = page.locator("#search-results li a")
        results.first.wait_for()
        assert any("04_focal_loss.html" in link for link in results.evaluate_all(HREFS))
        assert page.errors == []


HREFS = "links => links.map(link => link.href)"


def test_start_page_is_the_first(site):
    with Browser() as browser:
        page = browser.open()
        page.goto((site / "index.html").as_uri())
        page.wait_for_url("**/docs/index.html")
        assert page.errors == []


def test_each_entry_of_the_reference_names_a_lesson(site):
    """All but those in the modules of which the start of the reference says so."""
    start = (ROOT / "docs/api/index.md").read_text(encoding="utf-8").split("##")[0]
    beneath = set(re.findall(r"`(imbalkit\.[\w.]+)`", start.split("beneath")[1]))
    entries, without = 0, []
    for path in sorted((site / "docs/api").rglob("*.html")):
        for entry in soup(site, str(path.relative_to(site))).select("dl.function, dl.class"):
            entries += 1
            if not entry.select('a[href*="/notebooks/"]'):
                without.append(entry.dt["id"])
    assert entries > 100
    assert {name.rpartition(".")[0] for name in without} == beneath


def test_reference_has_every_module(site):
    documented = {path.stem for path in (site / "docs/api").rglob("*.html")} | {"imbalkit.doctor"}
    package = ROOT / "imbalkit"
    files = [*package.glob("*.py"), *(package / "course").glob("*.py")]
    modules = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in files
        if not path.stem.startswith("__")
    }
    folders = {f"imbalkit.{path.parent.name}" for path in package.glob("*/__init__.py")}
    assert modules | folders - {"imbalkit.course"} <= documented


# The first author and the year: of "Cao et al. 2019, *Learning ...*", or of all authors' names.
PAPER = re.compile(r"([A-Z][\w-]*)(?:(?:, | and )[\w -]+?| et al\.)* (\d{4}), \*")


def test_papers_of_the_lessons_are_among_the_references(site):
    page = soup(site, "docs/references.html")
    papers = set()
    for path in NOTEBOOKS:
        text = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
        papers |= {(author, year, path.stem[:2]) for author, year in PAPER.findall(text)}
        for number in re.findall(r"arXiv[: ](\d{4}\.\d{4,5})", text):
            assert number in page.get_text(), path.name
    listed = set()
    for row in page.select("tbody tr"):
        authors, *_, used_in = (cell.get_text() for cell in row.find_all("td"))
        first, year = re.split("[ ,]", authors)[0], authors[-4:]
        listed |= {(first, year, lesson) for lesson in re.findall(r"\b\d\d\b", used_in)}
    assert papers == listed and len(papers) > 40


def test_times_and_versions_are_those_of_the_project(site):
    page = soup(site, "docs/measured.html").get_text(" ")
    timings = json.loads((ROOT / "notebooks/timings.json").read_text(encoding="utf-8"))
    for kind in ("bfloat16", "float32"):
        minutes = [kinds[kind]["seconds"] / 60 for kinds in timings.values() if kind in kinds]
        if len(minutes) == len(timings):
            assert f"{sum(minutes):.1f}" in page
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert re.search(r"^torch==(.*)$", pins, flags=re.MULTILINE).group(1) in page


def test_size_and_load_are_as_stated(site, visits):
    """docs/measured.md: "The whole site takes 30 MB", and what the pages of it load."""
    page = soup(site, "docs/measured.html").get_text(" ")
    whole, heaviest, formulas, middle = map(float, re.findall(r"([\d.]+) MB", page))
    files = [path for path in site.rglob("*") if path.is_file()]
    assert megabytes(files) == pytest.approx(whole, rel=0.1)
    loaded = {name: megabytes(on_disk(notes["requests"])) for name, notes in visits.items()}
    assert max(loaded.values()) == pytest.approx(heaviest, rel=0.1)
    assert statistics.median(loaded.values()) == pytest.approx(middle, rel=0.1)
    assert megabytes([site / "_static/tex-svg.js"]) == pytest.approx(formulas, rel=0.1)
    # A clock that is shared with other tests; the page states what an idle machine took.
    assert statistics.median(notes["seconds"] for notes in visits.values()) < 10


def on_disk(requests):
    addresses = {urlsplit(url) for url in requests}
    return {Path(unquote(url.path)) for url in addresses if url.scheme == "file"}


def test_screenshots_for_a_person_to_look_at(site):
    folder = ROOT / "build/screens"
    folder.mkdir(parents=True, exist_ok=True)
    with Browser() as browser:
        for name, (address, width, scheme, place) in SCREENS.items():
            page = browser.open(scheme, width)
            page.goto((site / address).as_uri())
            page.locator(place).first.scroll_into_view_if_needed()
            page.screenshot(path=folder / f"{name}.png")
            page.context.close()
    assert {path.stem for path in folder.glob("*.png")} >= set(SCREENS)
