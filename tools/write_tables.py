"""Draw the tables and the figure of the documents from what was measured.

python tools/write_tables.py            bring them up to date
python tools/write_tables.py --check    exit with 1 if one is out of date

The lessons' minutes come from notebooks/timings.json, the leaderboard from
notebooks/leaderboard.json, the fast recipes from notebooks/fast.json.
"""

import argparse
import hashlib
import json
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
from PIL import Image

from imbalkit import plots
from imbalkit.files import atomic_path
from imbalkit.results import fast_recipes, leaderboard, mean_and_spread

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
README, GUIDE = ROOT / "README.md", ROOT / "docs" / "teaching.md"
BOARD, FIGURE = NOTEBOOKS / "leaderboard.json", ROOT / "docs" / "leaderboard.png"
FAST = NOTEBOOKS / "fast.json"
READING = re.compile(r"^\*\*Time\*\* about (\d+) minutes", re.MULTILINE)
EXERCISE = re.compile(r"^\*\*\d\. [^*]*\((\d+) minutes\)", re.MULTILINE)
# The columns of the leaderboard that fit a page.
COLUMNS = [
    "balanced accuracy", "recall, 3 most frequent", "recall, 3 rarest", "many", "medium",
    "macro f1", "calibration error", "minutes", "published",
]  # fmt: skip


def read_timings() -> dict[str, dict]:
    path = NOTEBOOKS / "timings.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def markdown_table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def lessons_table() -> str:
    """The lessons with their measured minutes."""
    timings, rows, measured = read_timings(), [], []
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        first_line = nbformat.read(path, as_version=4).cells[0].source.splitlines()[0]
        row = [f"[{first_line.lstrip('# ')}](notebooks/{path.name})", "not measured", "", ""]
        if path.name in timings:
            t = timings[path.name]
            measured.append(t["seconds"] / 60)
            slowest, where = f"{t['slowest_cell_seconds']:.0f} s", f"{t['profile']}: {t['device']}"
            row[1:] = [f"{measured[-1]:.1f}", slowest, where]
        rows.append(row)
    if measured:
        rows.append(["all", f"{sum(measured):.1f}", "", ""])
    return markdown_table(["lesson", "minutes", "slowest cell", "measured on"], rows)


def teaching_table() -> str:
    """The lessons' minutes for a teacher: measured to run, and as the lessons state them."""
    timings, rows = read_timings(), []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
        title = text.splitlines()[0].lstrip("# ")
        to_run = f"{timings[path.name]['seconds'] / 60:.1f}" if path.name in timings else "-"
        to_read = READING.search(text)
        exercises = [int(minutes) for minutes in EXERCISE.findall(text)]
        row = [f"[{title}](../notebooks/{path.name})", to_run, to_read[1] if to_read else "-"]
        row.append(f"{sum(exercises)} ({len(exercises)} exercises)" if exercises else "none")
        rows.append(row)
    heads = ["lesson", "to run (measured)", "to read and try (estimate)", "exercises (estimate)"]
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
        ways = [means[way] / means["minutes"] for way in ("LDAM-DRW, float32", "LDAM-DRW")]
        rows.append([name, score, f"{means['minutes']:.1f}", *(f"1/{times:.0f}" for times in ways)])
    heads = ["recipe", "balanced accuracy", "minutes", "of LDAM-DRW's time", "the same in bfloat16"]
    return markdown_table(heads, rows)


def draw_leaderboard() -> None:
    """The figure of the leaderboard, which holds the checksum of the file it was drawn from."""
    ax = plots.leaderboard(leaderboard(BOARD), baseline="cross-entropy")
    with atomic_path(FIGURE) as temporary:
        ax.figure.savefig(temporary, format="png", dpi=110, metadata={"Source": checksum(BOARD)})
    plt.close(ax.figure)


def checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def figure_is_current() -> bool:
    if not FIGURE.exists():
        return False
    with Image.open(FIGURE) as image:
        return image.text.get("Source") == checksum(BOARD)


def with_table(text: str, name: str, table: str) -> str:
    """The text of a document with `table` between the two comments that have its name."""
    start, end = f"<!-- {name}:start -->", f"<!-- {name}:end -->"
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n{table}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args().check
    out_of_date = []
    if not figure_is_current():
        out_of_date.append(FIGURE.name)
        if not check:
            draw_leaderboard()
    for document, name, table in (
        (README, "lessons", lessons_table()),
        (README, "leaderboard", leaderboard_table()),
        (README, "fast", fast_table()),
        (GUIDE, "teaching", teaching_table()),
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
