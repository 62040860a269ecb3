"""The best one-to-one assignment of rows to columns, without a library for it."""

from collections.abc import Mapping

import numpy as np


def best_assignment(gains: np.ndarray) -> np.ndarray:
    """The column of each row, each column once, with the largest sum of gains.

    The Hungarian method in its form of shortest augmenting paths (Jonker and Volgenant 1987, "A
    shortest augmenting path algorithm for dense and sparse linear assignment problems"): rows are
    added one by one, and the prices of rows and columns say which exchange costs least.

    Args:
        gains: numbers (n, n), finite.

    Returns:
        int64 (n,), the column of each row.

    Example:
        >>> best_assignment(np.array([[5, 9, 1], [10, 3, 2], [8, 7, 4]]))
        array([1, 0, 2])
    """
    costs = -np.asarray(gains, dtype=np.float64)
    n = len(costs)
    row_of, column_of = np.full(n, -1), np.full(n, -1)
    # First what costs nothing: the cheapest row of each column, and then the other way round.
    column_price = costs.min(0)
    row_price = (costs - column_price).min(1)
    for row, column in zip(*np.nonzero(costs - column_price == row_price[:, None]), strict=True):
        if column_of[row] < 0 and row_of[column] < 0:
            column_of[row], row_of[column] = column, row
    for start in np.nonzero(column_of < 0)[0]:
        distance, reached_from = np.full(n, np.inf), np.full(n, -1)
        done = np.zeros(n, dtype=bool)  # columns whose shortest distance is final
        row, so_far = start, 0.0
        while True:
            through = so_far + costs[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter], reached_from[shorter] = through[shorter], row
            open_distance = np.where(done, np.inf, distance)
            column = int(open_distance.argmin())
            so_far = open_distance[column]
            done[column] = True
            if row_of[column] < 0:
                break
            row = row_of[column]
        row_price[start] += so_far
        # The last column stays at its price: its distance is `so_far`.
        column_price[done] += distance[done] - so_far
        taken = done & (row_of >= 0)
        row_price[row_of[taken]] += so_far - distance[taken]
        while True:  # back along the path, each row takes the column it was reached by
            row = reached_from[column]
            row_of[column] = row
            column_of[row], column = column, column_of[row]
            if row == start:
                break
    return column_of


def named_numbering(numbering: Mapping[int, int]) -> str:
    """A numbering in words: what each label becomes.

    Example:
        >>> named_numbering({0: 1, 1: 2, 2: 3})
        'label + 1'
        >>> named_numbering({0: 0, 1: 1, 2: 3, 3: 4})
        'label + 1 from 2 on'
        >>> named_numbering({0: 2, 1: 0, 2: 1})
        '0 -> 2, 1 -> 0, 2 -> 1'
    """
    moved = {label: new - label for label, new in numbering.items() if new != label}
    first = min(moved, default=0)
    if len(set(moved.values())) == 1 and sorted(moved) == sorted(
        c for c in numbering if c >= first
    ):
        words = f"label {'+' if moved[first] > 0 else '-'} {abs(moved[first])}"
        return words if first == min(numbering) else f"{words} from {first} on"
    return ", ".join(f"{c} -> {numbering[c]}" for c in list(moved)[:6])
