import json
from pathlib import Path

TIMINGS = Path(__file__).parent / "notebooks" / "timings.json"


def pytest_collection_modifyitems(items):
    """Mark the notebook cells that nbval collects, so that `-m "not notebooks"` leaves them out.

    The notebook that takes longest comes first: none then goes on alone when all others are done.
    """
    timings = json.loads(TIMINGS.read_text(encoding="utf-8"))
    items.sort(key=lambda item: -timings.get(item.path.name, {"seconds": 0})["seconds"])
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("notebooks")
