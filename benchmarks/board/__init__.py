"""Every method of the course on a good network, over budgets, seeds and data sets."""

from benchmarks.board.registry import correction, representation

__all__ = ["correction", "representation"]
