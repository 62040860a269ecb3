"""As a learner sees it: JupyterLab in a real browser, and a lesson run from its menu.

Screenshots are left in build/screenshots.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
import pytest
from helpers import BROWSER, BROWSER_FLAGS
from nbformat.v4 import new_code_cell, new_notebook

import solutions

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS, SCREENSHOTS = ROOT / "notebooks", ROOT / "build" / "screenshots"
# JupyterLab itself asks for it at its start and reports that there are no language servers.
EXPECTED = "/lsp/status"
TOKEN = "a-token-for-this-test"
# Only visible cells are in the page otherwise, and a test would have to scroll as a reader does.
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}

pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.timeout(900),
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here; Debian has it as `chromium`"),
    # The browser's process ends after the test, not with it.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Seen:
    """What a learner saw while a notebook ran, and at its end."""

    cells: int = 0
    executed: int = 0
    red: list[str] = field(default_factory=list)  # errors, and what was written to stderr
    figures: list[str] = field(default_factory=list)  # their alternative texts
    broken_figures: int = 0
    progress: set[str] = field(default_factory=set)
    console: list[str] = field(default_factory=list)
    elsewhere: set[str] = field(default_factory=set)  # other hosts that the page asked


@contextmanager
def jupyterlab(folder: Path, private: Path):
    """JupyterLab on `folder`, started as from a terminal; yields its address."""
    for name, text in SETTINGS.items():
        path = private / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        "JUPYTERLAB_SETTINGS_DIR": private / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": private / "workspaces",
        "JUPYTER_CONFIG_DIR": private / "config",
        "JUPYTER_RUNTIME_DIR": private / "runtime",
        "IPYTHONDIR": private / "ipython",
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--port={port}",
               f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]  # fmt: skip
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        command.append("--allow-root")
    with (private / "server.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log,
                                  env=os.environ | {k: str(v) for k, v in own.items()})  # fmt: skip
        try:
            wait_for_server(server, port, private / "server.log")
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(30)


def wait_for_server(server: subprocess.Popen, port: int, log: Path) -> None:
    for _ in range(240):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()}"
        time.sleep(0.25)
    raise AssertionError(f"JupyterLab did not answer within a minute:\n{log.read_text()}")


def run_all(name: str, address: str, minutes: float) -> Seen:
    """Open a notebook, choose "Run All Cells" from the menu, and watch until nothing runs."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    seen = Seen()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=BROWSER_FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", lambda message: note_error(message, seen))
        page.on("pageerror", lambda error: seen.console.append(str(error)))
        page.on("request", lambda request: note_host(request.url, address, seen))
        page.goto(f"{address}/lab/tree/{name}?token={TOKEN}")
        cells = page.locator(".jp-Notebook .jp-CodeCell")
        cells.first.wait_for(timeout=60_000)
        page.get_by_text("| Idle").wait_for(timeout=60_000)
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        watch(page, seen, minutes)
        look(page, seen)
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        photograph(page, SCREENSHOTS / Path(name).stem)
        browser.close()
    return seen


def note_error(message, seen: Seen) -> None:
    if message.type == "error" and EXPECTED not in message.location["url"]:
        seen.console.append(f"{message.text} {message.location['url']}")


def note_host(url: str, address: str, seen: Seen) -> None:
    parts = urlsplit(url)
    if parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(address).netloc:
        seen.elsewhere.add(parts.netloc)


def watch(page, seen: Seen, minutes: float) -> None:
    """Wait for the last cell, and note the progress lines on the way."""
    end = time.monotonic() + 60 * minutes
    started = False
    while time.monotonic() < end:
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        running = sum("*" in prompt for prompt in prompts)
        started = started or running > 0 or any(re.search(r"\d", p) for p in prompts)
        if started and not running:
            return
        texts = page.locator(".jp-OutputArea-output").all_inner_texts()
        seen.progress.update(m for t in texts for m in re.findall(r"epoch \d+ of \d+", t))
        page.wait_for_timeout(300)
    raise AssertionError(f"cells were still running after {minutes} minutes")


def look(page, seen: Seen) -> None:
    """What stands on the page at the end."""
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    seen.cells, seen.executed = len(prompts), sum(bool(re.search(r"\d", p)) for p in prompts)
    red = '.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]'
    seen.red = page.locator(red).all_inner_texts()
    images = page.locator(".jp-OutputArea-output img")
    seen.figures = [image.get_attribute("alt") or "" for image in images.all()]
    seen.broken_figures = images.evaluate_all("all => all.filter(i => !i.naturalWidth).length")


def photograph(page, stem: Path) -> None:
    """The top of the notebook, and each figure."""
    page.screenshot(path=f"{stem}.png")
    for i, image in enumerate(page.locator(".jp-OutputArea-output img").all()):
        image.scroll_into_view_if_needed()
        page.screenshot(path=f"{stem}_{i}.png")


def faults(seen: Seen) -> dict[str, object]:
    """Whatever would have stopped or puzzled a learner; empty when all is well."""
    found = {
        "cells that did not run": seen.cells - seen.executed,
        "red outputs": seen.red,
        "figures that were not drawn": seen.broken_figures,
        "figures without alternative text": seen.figures.count(""),
        "console": seen.console,
        "other hosts": seen.elsewhere,
    }
    return {name: value for name, value in found.items() if value}


@pytest.mark.notebooks(minutes=5)
def test_lesson_01_runs_as_a_learner_runs_it(tmp_path):
    """With its exercises solved: `make test` then executes it nowhere else."""
    lesson = solved_lesson(tmp_path / "course")
    with jupyterlab(lesson.parent, tmp_path) as address:
        seen = run_all(lesson.name, address, minutes=14)
    found = faults(seen)
    # JupyterLab does not read out the text that lies beside a PNG; the site does (test_site.py).
    found.pop("figures without alternative text", None)
    assert not found, found
    assert len(seen.figures) >= figures_in(NOTEBOOKS / lesson.name) > 0
    assert len(seen.progress) > 3


def test_a_lesson_with_a_broken_cell_is_noticed(tmp_path):
    lesson = solved_lesson(tmp_path / "course")
    notebook = nbformat.read(lesson, 4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code:  # nothing is left of the committed run
        cell.outputs, cell.execution_count = [], None
    code[2].source += "\nraise RuntimeError('broken on purpose')"
    lesson = lesson.rename(lesson.with_name("broken_lesson.ipynb"))
    nbformat.write(notebook, lesson)
    with jupyterlab(lesson.parent, tmp_path) as address:
        found = faults(run_all(lesson.name, address, minutes=5))
    assert found["cells that did not run"] == len(code) - 3
    assert "broken on purpose" in found["red outputs"][-1]


def solved_lesson(folder: Path) -> Path:
    """Lesson 01 with its exercises solved, in a folder with all that the lessons need."""
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    lesson = next(folder.glob("01_*.ipynb"))
    nbformat.write(solutions.tested(nbformat.read(lesson, as_version=4)), lesson)
    return lesson


def figures_in(path: Path) -> int:
    cells = nbformat.read(path, 4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


BROKEN = """
1 + 1
# a cell
import sys; print("careful", file=sys.stderr)
# a cell
import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()
# a cell
from IPython.display import HTML; HTML('<img src="nowhere.png" alt="a missing file">')
# a cell
HTML('<img src="http://127.0.0.2:9/far.png" alt="another host">')
# a cell
1 / 0
# a cell
2 + 2
"""


def test_what_is_broken_is_noticed(tmp_path):
    folder = tmp_path / "course"
    folder.mkdir()
    cells = [new_code_cell(source.strip()) for source in BROKEN.split("# a cell")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(new_notebook(cells=cells, metadata=kernel), folder / "broken.ipynb")
    with jupyterlab(folder, tmp_path) as address:
        found = faults(run_all("broken.ipynb", address, minutes=2))
    assert found["cells that did not run"] == 1
    assert "careful" in found["red outputs"][0] and "1 / 0" in found["red outputs"][1]
    assert found["figures that were not drawn"] == 2
    assert found["figures without alternative text"] == 1
    assert found["other hosts"] == {"127.0.0.2:9"}
    assert any("nowhere.png" in message for message in found["console"])
