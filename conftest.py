def pytest_collection_modifyitems(items):
    """Mark the notebook cells that nbval collects, so that `-m "not notebooks"` leaves them out."""
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("notebooks")
