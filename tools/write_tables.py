"""Draw the tables and the figures of the documents from what was measured.

python tools/write_tables.py            bring them up to date
python tools/write_tables.py --check    exit with 1 if one is out of date

The lessons' minutes come from notebooks/timings.json, the leaderboard from
notebooks/leaderboard.json, the fast recipes from notebooks/fast.json, the curve of LDAM-DRW's own
recipe from benchmarks/results/ldam_drw.json, the growth of time and memory from
benchmarks/results/scale.json, the cost of the doctor from benchmarks/results/examined.json, what it
said of public threads from benchmarks/results/threads.json.
"""

import argparse
import hashlib
import json
import re
import sys
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
from PIL import Image

from imbalkit import plots
from imbalkit.course.comparisons import fast_recipes, leaderboard, mean_and_spread
from imbalkit.files import atomic_path
from timings import read_timings

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "teaching.md"
BENCHMARK = ROOT / "benchmarks" / "README.md"
SCALE = ROOT / "benchmarks" / "results" / "scale.json"
EXAMINED = ROOT / "benchmarks" / "results" / "examined.json"
SPEED = ROOT / "benchmarks" / "results" / "cpu.json"
OTHERS, THREADS = ROOT / "docs" / "other_peoples_code.md", EXAMINED.with_name("threads.json")
BOARD, FAST = NOTEBOOKS / "leaderboard.json", NOTEBOOKS / "fast.json"
PAPER = ROOT / "benchmarks" / "results" / "ldam_drw.json"
READING = re.compile(r"^\*\*Time\*\* about (\d+) minutes", re.MULTILINE)
EXERCISE = re.compile(r"^\*\*\d\. [^*]*\((\d+) minutes\)", re.MULTILINE)
# Kinds of processors whose minutes the tables show, most laptops' kind first.
KINDS = ("float32", "bfloat16")
NOT_MEASURED = "–"
MEMORY = ("training MB", "above MB")
LARGE = 50e6  # parameters; of fewer, a copy is small beside the images
EXPLANATION = (
    "A processor that cannot compute in bfloat16 itself, as in most laptops, trains in float32; "
    "`make check` names the kind of yours beside `torch`. A dash is not yet measured, and the "
    "slowest cell is that of the slower kind. Measured on: {where}."
)
# What is said of public threads, misses first: they tell a reader most.
VERDICTS = {"wrong": "Wrong", "half": "Half right", "right": "Right"}
# The columns of the leaderboard that fit a page.
COLUMNS = [
    "balanced accuracy", "recall, 3 most frequent", "recall, 3 rarest", "many", "medium",
    "macro f1", "calibration error", "minutes", "published",
]  # fmt: skip


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def in_minutes(entry: dict | None) -> str:
    return f"{entry['seconds'] / 60:.1f}" if entry else NOT_MEASURED


def all_minutes(timings: dict, names: list[str], kind: str) -> str:
    """The minutes of all notebooks. Those of some of them alone would mislead."""
    if any(kind not in timings.get(name, {}) for name in names):
        return NOT_MEASURED
    return in_minutes({"seconds": sum(timings[name][kind]["seconds"] for name in names)})


def lessons_table() -> str:
    """The lessons with their measured minutes on each kind of processor, and what a kind is."""
    timings, rows, devices = read_timings(NOTEBOOKS / "timings.json"), [], set()
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    for path in paths:
        first_line = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        kinds = timings.get(path.name, {})
        entries = [kinds[kind] for kind in KINDS if kind in kinds]
        devices |= {f"{entry['device']} (profile {entry['profile']})" for entry in entries}
        slowest = max((entry["slowest_cell_seconds"] for entry in entries), default=None)
        rows.append([
            f"[{first_line.lstrip('# ')}](notebooks/{path.name})",
            *(in_minutes(kinds.get(kind)) for kind in KINDS),
            NOT_MEASURED if slowest is None else f"{slowest:.0f} s",
        ])  # fmt: skip
    names = [path.name for path in paths]
    rows.append(["all", *(all_minutes(timings, names, kind) for kind in KINDS), ""])
    heads = ["lesson", *(f"minutes, {kind} processor" for kind in KINDS), "slowest cell"]
    where = "; ".join(sorted(devices)) or "nothing yet"
    explanation = textwrap.fill(EXPLANATION.format(where=where), 100)
    return f"{markdown_table(heads, rows)}\n\n{explanation}"


def teaching_table() -> str:
    """The lessons' minutes for a teacher: measured to run, and as the lessons state them."""
    timings, rows = read_timings(NOTEBOOKS / "timings.json"), []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        title = text.splitlines()[0].lstrip("# ")
        to_run = [in_minutes(timings.get(path.name, {}).get(kind)) for kind in KINDS]
        to_read = READING.search(text)
        exercises = [int(minutes) for minutes in EXERCISE.findall(text)]
        row = [f"[{title}](../notebooks/{path.name})", *to_run, to_read[1] if to_read else "-"]
        row.append(f"{sum(exercises)} ({len(exercises)} exercises)" if exercises else "none")
        rows.append(row)
    to_run = [f"to run, {kind} processor (measured)" for kind in KINDS]
    heads = ["lesson", *to_run, "to read and try (estimate)", "exercises (estimate)"]
    return markdown_table(heads, rows)


def leaderboard_table() -> str:
    """The methods at ratio 100, best first: mean and deviation over the seeds."""
    sources = json.loads(BOARD.read_text(encoding="utf-8"))["published"]
    table = mean_and_spread(leaderboard(BOARD))[COLUMNS]
    for method in sources.keys() & set(table.index):
        table.loc[method, "published"] += f" ({sources[method]['source']})"
    rows = [[method, *figures] for method, *figures in table.itertuples()]
    return markdown_table(["method", *table.columns], rows)


def fast_table() -> str:
    """The fast recipes: means over the seeds, and how their time compares with LDAM-DRW's."""
    rows = []
    for name, runs in fast_recipes(FAST).groupby("recipe", sort=False):
        means = runs.mean(numeric_only=True)
        score = f"{means['balanced accuracy']:.1f} ± {runs['balanced accuracy'].std():.1f}"
        rival = "minutes of LDAM-DRW"
        ways = [means[way] / means["minutes"] for way in (f"{rival}, float32", rival)]
        rows.append([name, score, f"{means['minutes']:.1f}", *(f"1/{times:.0f}" for times in ways)])
    heads = ["recipe", "balanced accuracy", "minutes", "of LDAM-DRW's time", "the same in bfloat16"]
    return markdown_table(heads, rows)


def scale_table() -> str:
    """Time and memory at each size, the exponent of the time, and the bounds."""
    record, rows = json.loads(SCALE.read_text(encoding="utf-8")), []
    for name, sizes in record["jobs"].items():
        rows.append([
            name,
            *(f"{size['seconds']:.2f} s, {size['peak MB']:,.0f} MB" for size in sizes),
            " and ".join(f"{exponent:.2f}" for exponent in record["exponents"][name]),
            f"{record['bytes an item'][name]:,}",
        ])  # fmt: skip
    heads = [f"{size['items']:,}" for size in sizes]
    return markdown_table(["n", *heads, "exponents", "bound, bytes an item"], rows)


def imports_table() -> str:
    """Seconds of the imports, and their ratio to `import torch`: median, smallest and largest."""
    record = json.loads(SPEED.read_text(encoding="utf-8"))
    imports, rows = record["imports"], []
    for name, seconds in imports["seconds"].items():
        ratio = imports["ratio"].get(name)
        times = "1" if ratio is None else spread_text(ratio, 3)
        rows.append([f"`{name}`", spread_text(seconds, 3), times])
    version = record["versions"]["torch"]
    where = f"Measured on {record['date']} with torch {version}: {record['system']}."
    table = markdown_table(["import", "seconds", "times `import torch`"], rows)
    return f"{table}\n\n{textwrap.fill(where, 100)}"


def spread_text(figures: dict, digits: int) -> str:
    """The median, with the smallest and the largest in brackets."""
    median, least, most = (f"{figures[key]:.{digits}f}" for key in ("median", "min", "max"))
    return f"{median} ({least} to {most})"


def examined_table() -> str:
    """What `diagnose` takes of time and memory, by model and optimizer, and how it was measured."""
    record, rows = json.loads(EXAMINED.read_text(encoding="utf-8")), []
    for row in record["rows"]:
        megabytes = [NOT_MEASURED if row[k] is None else f"{row[k]:,.0f}" for k in MEMORY]
        copies = f"{row['copies']:.1f}" if row["copies"] and row["parameters"] > LARGE else ""
        millions = f"{row['parameters'] / 1e6:.1f}"
        who = [row["model"], millions, row["optimizer"], str(row["batch"])]
        rows.append([*who, f"{row['seconds']:.1f}", *megabytes, copies])
    heads = ["model", "parameters, millions", "optimizer", "batch", "seconds"]
    heads += ["training, MB", "above it, MB", "in copies of the parameters"]
    where = (
        f"Measured once each on {record['date']} with torch {record['torch']}: "
        f"{record['machine']}, beside {record['beside']}."
    )
    return f"{markdown_table(heads, rows)}\n\n{textwrap.fill(where, 100)}"


def verdicts_text() -> str:
    """How many public threads `diagnose` understood, and where and when it read them."""
    record = json.loads(THREADS.read_text(encoding="utf-8"))
    number = {verdict: record["verdicts"][verdict] for verdict in VERDICTS}
    seconds = sorted(thread["diagnosis_seconds"] for thread in record["threads"])
    silent = sum(thread["findings"] == ["healthy"] for thread in record["threads"])
    text = (
        f"Of {sum(number.values())} threads it was **right in {number['right']}, half right in "
        f"{number['half']} and wrong in {number['wrong']}**. In {silent} of the wrong ones it "
        "found nothing and called the training healthy. A diagnosis took "
        f"{seconds[len(seconds) // 2]:.0f} seconds in the middle and {seconds[-1]:.0f} at most. "
        f"Read on {record['date']} with torch {record['torch']} and the doctor of commit "
        f"{record['commit']}, on {record['device']}, beside other work."
    )
    return textwrap.fill(text, 100)


def threads_text() -> str:
    """All threads in a table, then each with its symptom, its cause, and what was said of it."""
    record = json.loads(THREADS.read_text(encoding="utf-8"))
    groups = {v: [t for t in record["threads"] if t["verdict"] == v] for v in VERDICTS}
    rows = [
        [f"[{t['title']}]({t['url']})", f"`{t['findings'][0]}`", VERDICTS[verdict].lower()]
        for verdict, threads in groups.items()
        for t in threads
    ]
    parts = ["## All threads", markdown_table(["thread", "first finding", "verdict"], rows)]
    for verdict, threads in groups.items():
        parts += [f"## {VERDICTS[verdict]}"] * bool(threads)
        parts += [thread_text(thread) for thread in threads]
    parts.append("## Chosen and not read")
    parts += [
        textwrap.fill(f"- {name}: {why}.", 100, subsequent_indent="  ")
        for name, why in record["without_harm"].items()
    ]
    return "\n\n".join(parts)


def thread_text(thread: dict) -> str:
    first, *others = [f"`{finding}`" for finding in thread["findings"]]
    said = f"{first}, then {', '.join(others)}" if others else f"{first} and nothing else"
    name = " or ".join(f"`{cause}`" for cause in thread["accepted"])
    recall, lowest, mended, lowest_mended = (
        f"{100 * thread[key]:.0f} %"
        for key in ("recall", "lowest", "recall_mended", "lowest_mended")
    )
    points = {
        "Symptom": thread["symptom"],
        "Cause": thread["cause"],
        "Right would be": f"{name}." if name else "a cause that `diagnose` has no name for.",
        "It said": f"{said}.",
        "Mean recall": f"{recall}, lowest class {lowest}; mended {mended}, lowest class "
        f"{lowest_mended}.",
    }
    lines = [
        textwrap.fill(
            f"- *{point}*: {text}",
            100,
            subsequent_indent="  ",
            break_on_hyphens=False,
            break_long_words=False,
        )
        for point, text in points.items()
    ]
    return "\n".join(
        [f"### {thread['title']}", "", f"[{thread['thread']}]({thread['url']})", "", *lines]
    )


def draw_leaderboard(path: Path):
    return plots.leaderboard(leaderboard(path), baseline="cross-entropy").figure


def draw_paper(path: Path):
    """Accuracy after each epoch of `benchmarks.paper`, beside the figure that the paper reports."""
    run = json.loads(path.read_text(encoding="utf-8"))
    early, late = run["accuracy_of_1000_test_images"], run["accuracy_of_all_test_images"]
    nothing = float("nan")
    ax = plots.curves(
        {
            "training images": [100 * x for x in run["train_accuracy"]],
            "1,000 test images": [100 * x for x in early] + [nothing] * len(late),
            "all 10,000 test images": [nothing] * len(early) + [100 * x for x in late],
        },
        xlabel="epoch",
        ylabel="accuracy (%)",
    )
    published = 100 * run["published_accuracy"]
    ax.axhline(published, color="black", linewidth=1, linestyle=":", zorder=1)
    ax.text(60, published + 1, f"as published, {published:.1f} %")
    return ax.figure


# Each figure with the file it is drawn from.
FIGURES = {
    ROOT / "docs" / "leaderboard.png": (BOARD, draw_leaderboard),
    ROOT / "docs" / "ldam_drw.png": (PAPER, draw_paper),
}


def write_figure(path: Path, source: Path, draw) -> None:
    """The figure, which holds the checksum of the file it was drawn from."""
    figure = draw(source)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Source": checksum(source)})
    plt.close(figure)


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def is_current(figure: Path, source: Path) -> bool:
    if not figure.exists():
        return False
    with Image.open(figure, formats=["PNG"]) as image:
        return image.text.get("Source") == checksum(source)


def with_table(text: str, name: str, table: str) -> str:
    """The text of a document with `table` between the two comments that have its name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{table}\n{end}{after}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    out_of_date = []
    for figure, (source, draw) in FIGURES.items():
        if is_current(figure, source):
            continue
        out_of_date.append(figure.name)
        if not check:
            write_figure(figure, source, draw)
    for document, name, table in (
        (README, "lessons", lessons_table()),
        (README, "leaderboard", leaderboard_table()),
        (README, "fast", fast_table()),
        (GUIDE, "teaching", teaching_table()),
        (BENCHMARK, "imports", imports_table()),
        (BENCHMARK, "scale", scale_table()),
        (BENCHMARK, "examined", examined_table()),
        (OTHERS, "verdicts", verdicts_text()),
        (OTHERS, "threads", threads_text()),
    ):
        old = document.read_text(encoding="utf-8")
        new = with_table(old, name, table)
        if new == old:
            continue
        out_of_date.append(f"the table {name} of {document.name}")
        if not check:
            with atomic_path(document) as temporary:
                temporary.write_text(new, encoding="utf-8", newline="\n")
    for what in out_of_date:
        print(f"{what}: {'out of date, run tools/write_tables.py' if check else 'written'}")
    return int(check and bool(out_of_date))


if __name__ == "__main__":
    sys.exit(main())
