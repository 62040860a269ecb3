"""Guards on the committed notebooks, which are read here and not executed.

A guard takes a notebook and returns what is wrong with it, one sentence a fault. Each guard is
first shown to fail on a small notebook broken in memory.
"""

import ast
import copy
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
    output_from_msg,
)

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
TAGS = {
    "claims", "recipe", "from-scratch", "exercise", "solution", "nbval-check-output",
    "raises-exception", "setup",
}  # fmt: skip
ABSOLUTE_PATH = re.compile(r"(?<![\w.~/-])/(?:home|root|Users|tmp|work|mnt|var|opt)/|\b[A-Za-z]:\\")
OLD_NAMES = {"ToImageTensor", "ImageTensor", "ToImagePIL", "ConvertImageDtype", "ConvertDtype"}


# --- helpers


def code_cells(notebook):
    """The code cells and the numbers that JupyterLab shows beside them."""
    return list(enumerate((c for c in notebook.cells if c.cell_type == "code"), start=1))


def outputs(notebook):
    return [(n, output) for n, cell in code_cells(notebook) for output in cell.outputs]


def tags(cell):
    return cell.metadata.get("tags", [])


def markdown(notebook):
    """All prose, without code blocks and formulas."""
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    text = re.sub(r"```.*?```", " ", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", " ", text, flags=re.DOTALL)
    return re.sub(r"\$[^$\n]+\$|https?://\S+|<[^>]+>", " ", text)


def output_text(output):
    """Everything in an output that a reader sees as text."""
    data = [v for kind, v in output.get("data", {}).items() if not kind.startswith("image/")]
    return "\n".join(map(str, [output.get("text", ""), *data, *output.get("traceback", [])]))


def syntax_nodes(notebook):
    for n, cell in code_cells(notebook):
        try:
            tree = ast.parse(cell.source)
        except SyntaxError:
            continue  # plain_python reports it
        yield from ((n, node) for node in ast.walk(tree))


# --- guards on every notebook


def valid_format(notebook):
    if notebook.nbformat_minor < 5 or not all("id" in cell for cell in notebook.cells):
        return ["cells without an id: save it once in JupyterLab"]
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error.message}"]
    return []


def executed_in_order(notebook):
    counts = [cell.execution_count for _, cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        return [f"execution counts are {counts}: execute it from top to bottom"]
    return []


def no_errors(notebook):
    return [
        f"cell {n} ends in {output.ename}"
        for n, cell in code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "error" and "raises-exception" not in tags(cell)
    ]


def no_stderr(notebook):
    return [
        f"cell {n} writes to stderr: {output.text[:80]}"
        for n, output in outputs(notebook)
        if output.output_type == "stream" and output.name == "stderr"
    ]


def no_widgets(notebook):
    faults = ["widget state in the metadata"] if "widgets" in notebook.metadata else []
    return faults + [
        f"cell {n} shows a widget: {kind}"
        for n, output in outputs(notebook)
        for kind in output.get("data", {})
        if "widget" in kind
    ]


def no_absolute_paths(notebook):
    texts = [(f"cell {i + 1} of all", cell.source) for i, cell in enumerate(notebook.cells)]
    texts += [(f"the output of cell {n}", output_text(output)) for n, output in outputs(notebook)]
    found = [(where, ABSOLUTE_PATH.search(text)) for where, text in texts]
    return [f"{where} has an absolute path: {m.group()}" for where, m in found if m]


def figures_have_alt_text(notebook):
    faults = []
    for n, output in outputs(notebook):
        for kind in output.get("data", {}):
            if kind.startswith("image/") and kind != "image/png":
                faults.append(f"cell {n} has a figure as {kind}: show it with plots.show")
            alt = output.get("metadata", {}).get(kind, {}).get("alt", "")
            if kind == "image/png" and not alt.strip():
                faults.append(f"cell {n} has a figure without alt text: show it with plots.show")
    for i, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type == "markdown" and re.search(r"!\[\s*\]", cell.source):
            faults.append(f"cell {i} of all has an image without alt text")
    return faults


def small_file(notebook):
    size = len(nbformat.writes(notebook).encode())
    return [f"{size:,} bytes: keep it under 1 MB"] if size >= 1_000_000 else []


def short_cells(notebook):
    faults, lengths = [], []
    for n, cell in code_cells(notebook):
        length, most = len(cell.source.splitlines()), 40 if "recipe" in tags(cell) else 30
        if length > most:
            faults.append(f"cell {n} has {length} lines, more than {most}")
        if not {"recipe", "exercise"} & set(tags(cell)):
            lengths.append(length)
    if len(lengths) > 40:
        faults.append(f"{len(lengths)} code cells without the exercises, more than 40")
    if lengths and np.percentile(lengths, 90) > 20:
        faults.append("more than a tenth of the code cells have over 20 lines")
    return faults


def one_title_first(notebook):
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        return ["the first cell does not start with a title (# ...)"]
    titles = re.findall(r"^# .*", markdown(notebook), flags=re.MULTILINE)
    return [f"{len(titles)} titles: {titles}; use ## below the first"] if len(titles) > 1 else []


def known_tags(notebook):
    faults = [
        f"cell {i} of all has the tag '{tag}', which is none of {sorted(TAGS)}"
        for i, cell in enumerate(notebook.cells, start=1)
        for tag in tags(cell)
        if tag not in TAGS
    ]
    # Comments like "# NBVAL_SKIP" do what tags do, and are harder to see.
    return faults + [
        f"cell {n} steers nbval by a comment: use a tag"
        for n, cell in code_cells(notebook)
        if re.search(r"#\s*(NBVAL_|PYTEST_VALIDATE)", cell.source)
    ]


def plain_python(notebook):
    faults = []
    for n, cell in code_cells(notebook):
        if not cell.source.strip():
            faults.append(f"cell {n} is empty")
        if cell.source.rstrip().endswith(";"):
            faults.append(f"cell {n} ends in a semicolon: assign to _ or use plots.show")
        try:
            ast.parse(cell.source)
        except SyntaxError as error:
            faults.append(f"cell {n} is not plain Python (no magics, please): {error}")
    return faults


def todays_names(notebook):
    faults = []
    for n, node in syntax_nodes(notebook):
        name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", "")))
        if name in OLD_NAMES:
            faults.append(f"cell {n} uses {name}, which torchvision renamed")
    return faults


def no_workers(notebook):
    return [
        f"cell {n} asks for DataLoader workers, which hang in notebooks on Windows and macOS"
        for n, node in syntax_nodes(notebook)
        if isinstance(node, ast.keyword) and node.arg == "num_workers"
        if getattr(node.value, "value", None) != 0
    ]


def clean_metadata(notebook):
    faults = []
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        faults.append("the kernel is not python3")
    extra = set(notebook.metadata) - {"kernelspec", "language_info", "widgets"}
    if extra:
        faults.append(f"metadata that belongs to one machine: {sorted(extra)}")
    return faults + [
        f"cell {i} of all carries the times of one run"
        for i, cell in enumerate(notebook.cells, start=1)
        if "execution" in cell.metadata
    ]


# --- guards on the numbered lessons, and on those after 00


def names_its_run(notebook):
    text = "\n".join(output_text(output) for _, output in outputs(notebook))
    wanted = {
        "the data source (CIFAR-10)": r"data: .*CIFAR-10",
        "the profile": r"profile: \w",
        "the device": r"device: \w",
        "torch's version": r"torch \d",
        "imbalkit's version": r"imbalkit \d",
    }
    return [f"no output names {x}" for x, pattern in wanted.items() if not re.search(pattern, text)]


def right_length(notebook):
    words = len(re.findall(r"[^\W\d_][\w'-]*", markdown(notebook)))
    return [] if 1500 <= words <= 2500 else [f"{words} words of prose, not 1,500 to 2,500"]


def exercises_and_recap(notebook):
    headings = "\n".join(re.findall(r"^##+ .*", markdown(notebook), flags=re.MULTILINE))
    return [
        f"no heading '{wanted}'"
        for wanted in ("Exercises", "Recap")
        if not re.search(rf"\b{wanted}\b", headings, flags=re.IGNORECASE)
    ]


def asserts_its_claims(notebook):
    claims = [cell for _, cell in code_cells(notebook) if "claims" in tags(cell)]
    if not claims:
        return ["no cell has the tag 'claims'"]
    return [] if all("assert" in cell.source for cell in claims) else ["a claims cell asserts none"]


ALL = [
    valid_format, executed_in_order, no_errors, no_stderr, no_widgets, no_absolute_paths,
    figures_have_alt_text, small_file, short_cells, one_title_first, known_tags, plain_python,
    todays_names, no_workers, clean_metadata,
]  # fmt: skip
LESSONS = [names_its_run]
LATER_LESSONS = [right_length, exercises_and_recap, asserts_its_claims]


def guards_for(name):
    guards = list(ALL)
    if re.match(r"\d\d_", name):
        guards += LESSONS
    if re.match(r"\d\d_", name) and not name.startswith("00_"):
        guards += LATER_LESSONS
    return guards


# --- the committed notebooks

CASES = [(path, guard) for path in NOTEBOOKS for guard in guards_for(path.name)]


@pytest.mark.parametrize(
    ("path", "guard"), CASES, ids=[f"{p.stem}-{guard.__name__}" for p, guard in CASES]
)
def test_committed_notebook(path, guard):
    notebook = nbformat.reads(path.read_text(encoding="utf-8"), as_version=nbformat.NO_CONVERT)
    faults = guard(notebook)
    assert not faults, "\n".join([path.name, *faults])


# --- the guards themselves


def good_lesson():
    """The smallest notebook to which no guard objects."""
    banner = (
        "imbalkit 0.1.0, torch 2.14.1, torchvision 0.29.1\ndevice: CPU, 2 threads; profile: cpu\n"
        "data: CIFAR-10 train, long-tailed"
    )
    alt = {"image/png": {"alt": "Images per class, on a log scale."}}
    figure = new_output("display_data", data={"image/png": "aGk="}, metadata=alt)
    return new_notebook(
        metadata={
            "kernelspec": {"name": "python3", "display_name": "Python 3 (ipykernel)"},
            "language_info": {"name": "python"},
        },
        cells=[
            new_markdown_cell("# Rare classes\n\n" + "word " * 1600),
            new_code_cell("set_up()", execution_count=1, outputs=[stream("stdout", banner)]),
            new_code_cell("draw()", execution_count=2, outputs=[figure]),
            new_code_cell("assert True", execution_count=3, metadata={"tags": ["claims"]}),
            new_markdown_cell("## Exercises\n\n## Recap"),
        ],
    )


def stream(name, text):
    return new_output("stream", name=name, text=text)


def error():
    content = {"ename": "ValueError", "evalue": "no", "traceback": ["ValueError: no"]}
    return output_from_msg({"header": {"msg_type": "error"}, "content": content})


def source(text):
    return lambda nb: nb.cells[1].update(source=text)


def output(new):
    return lambda nb: nb.cells[1].outputs.append(new)


def add_cells(n, text="x = 1"):
    def add(nb):
        nb.cells += [new_code_cell(text, execution_count=4 + i) for i in range(n)]

    return add


RECIPE = {"tags": ["recipe"]}
WIDGET = "application/vnd.jupyter.widget-view+json"
HOME = "/" + "home/ada/data"  # in two parts, for the test that looks for such paths in all files

BROKEN = [
    (valid_format, lambda nb: nb.cells[0].pop("id")),
    (valid_format, lambda nb: nb.cells[1].pop("outputs")),
    (executed_in_order, lambda nb: nb.cells[2].update(execution_count=7)),
    (executed_in_order, lambda nb: nb.cells[3].update(execution_count=None)),
    (no_errors, output(error())),
    (no_stderr, output(stream("stderr", "UserWarning: deprecated"))),
    (no_widgets, lambda nb: nb.metadata.update(widgets={})),
    (no_widgets, output(new_output("display_data", {WIDGET: {}}))),
    (no_absolute_paths, source(f"open('{HOME}')")),
    (no_absolute_paths, source(r"open('C:\\data')")),
    (no_absolute_paths, lambda nb: nb.cells[0].update(source=f"# Rare\n\nSee `{HOME}`")),
    (no_absolute_paths, output(stream("stdout", f"saved in {HOME}"))),
    (no_absolute_paths, output(new_output("execute_result", {"text/plain": f"'{HOME}'"}))),
    (figures_have_alt_text, lambda nb: nb.cells[2].outputs[0].update(metadata={})),
    (figures_have_alt_text, output(new_output("display_data", {"image/svg+xml": "<svg/>"}))),
    (figures_have_alt_text, lambda nb: nb.cells[4].update(source="![](figure.png)")),
    (small_file, output(stream("stdout", "x" * 1_000_000))),
    (short_cells, add_cells(38)),
    (short_cells, source("\n".join(["x = 1"] * 31))),
    (short_cells, add_cells(2, "\n".join(["x = 1"] * 22))),
    (short_cells, lambda nb: nb.cells[1].update(source="x = 1\n" * 41, metadata=RECIPE)),
    (one_title_first, lambda nb: nb.cells.pop(0)),
    (one_title_first, lambda nb: nb.cells[0].update(source="## Rare classes")),
    (one_title_first, lambda nb: nb.cells[4].update(source="# Another")),
    (known_tags, lambda nb: nb.cells[3].metadata.tags.append("nbval-skip")),
    (known_tags, source("# NBVAL_SKIP\nx = 1")),
    (plain_python, source("")),
    (plain_python, source("plt.plot(x);")),
    (plain_python, source("%matplotlib inline")),
    (todays_names, source("v2.ToImageTensor()")),
    (todays_names, source("from torchvision.transforms.v2 import ConvertImageDtype")),
    (no_workers, source("DataLoader(data, num_workers=2)")),
    (no_workers, source("DataLoader(data, num_workers=cpu_count())")),
    (clean_metadata, lambda nb: nb.metadata.kernelspec.update(name="venv")),
    (clean_metadata, lambda nb: nb.metadata.update(toc={})),
    (clean_metadata, lambda nb: nb.cells[1].metadata.update(execution={"shell.execute_reply": ""})),
    (names_its_run, lambda nb: nb.cells[1].update(outputs=[])),
    (names_its_run, lambda nb: nb.cells[1].update(outputs=[stream("stdout", "data: digits")])),
    (right_length, lambda nb: nb.cells[0].update(source="# Rare classes\n\nToo short.")),
    (right_length, lambda nb: nb.cells[0].update(source="# Rare\n\n" + "word " * 2600)),
    (right_length, lambda nb: nb.cells[0].update(source=f"# Rare\n```\n{'word ' * 1600}\n```")),
    (exercises_and_recap, lambda nb: nb.cells[4].update(source="## Recap")),
    (asserts_its_claims, lambda nb: nb.cells[3].metadata.tags.clear()),
    (asserts_its_claims, lambda nb: nb.cells[3].update(source="print('ok')")),
]


@pytest.mark.parametrize(
    ("guard", "break_it"), BROKEN, ids=[f"{g.__name__}-{i}" for i, (g, _) in enumerate(BROKEN)]
)
def test_guard_sees_the_fault(guard, break_it):
    notebook = copy.deepcopy(good_lesson())
    assert not guard(notebook)
    break_it(notebook)
    assert guard(notebook)


def test_no_guard_objects_to_a_good_lesson():
    faults = [fault for guard in guards_for("01_x.ipynb") for fault in guard(good_lesson())]
    assert faults == []


def test_every_guard_is_shown_to_fail():
    assert {guard for guard, _ in BROKEN} == set(ALL + LESSONS + LATER_LESSONS)


def test_an_expected_error_is_allowed():
    notebook = good_lesson()
    notebook.cells[1].outputs.append(error())
    notebook.cells[1].metadata["tags"] = ["raises-exception"]
    assert not no_errors(notebook)


def test_recipes_may_be_longer_and_exercises_come_on_top():
    notebook = good_lesson()
    notebook.cells[1].update(source="x = 1\n" * 40, metadata=RECIPE)
    exercise = {"metadata": {"tags": ["exercise"]}}
    notebook.cells += [new_code_cell("x = 1", **exercise) for _ in range(40)]
    assert not short_cells(notebook)


def test_web_addresses_and_formulas_are_no_paths():
    notebook = good_lesson()
    notebook.cells[0].source += "\nhttps://example.org/home/x, counts/tmp/y, $a/var/b$, x: \\alpha"
    assert not no_absolute_paths(notebook)


def test_only_numbered_lessons_must_name_their_run():
    assert names_its_run in guards_for("00_start_here.ipynb")
    assert right_length not in guards_for("00_start_here.ipynb")
    assert names_its_run not in guards_for("recipes.ipynb")
