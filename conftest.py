import json
from pathlib import Path

import pytest

TIMINGS = Path(__file__).parent / "notebooks" / "timings.json"


def pytest_collection_modifyitems(items):
    """Let notebooks run beside the other slow tests, those that take longest first.

    No process then goes on alone when the others are done. The cells are left out by
    `-m "not notebooks"`; with `--dist loadscope` those of a notebook stay together. nbval limits
    their time, so pytest-timeout must not.
    """
    timings = json.loads(TIMINGS.read_text(encoding="utf-8"))
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker(pytest.mark.notebooks(minutes=minutes_of(timings, item.path.name)))
            item.add_marker(pytest.mark.timeout(0))
    items.sort(key=stated_minutes, reverse=True)


def minutes_of(timings, notebook):
    """The minutes of a notebook on the slowest kind of processor that was measured."""
    return max((e["seconds"] / 60 for e in timings.get(notebook, {}).values()), default=0)


def stated_minutes(item):
    marker = item.get_closest_marker("notebooks")
    return marker.kwargs.get("minutes", 0) if marker else 0
