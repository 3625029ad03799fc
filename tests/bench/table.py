"""Figures of several rounds, and the one table of them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Row:
    """One figure: of lhd, and of the bare server where there is one; in the same order of rounds."""

    name: str
    unit: str
    aim: str = ""
    lhd: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)


class Table:
    """Rows in the order in which they were first named."""

    def __init__(self) -> None:
        self._rows: dict[str, Row] = {}

    def row(self, name: str, unit: str, aim: str = "") -> Row:
        """The row of this name."""
        return self._rows.setdefault(name, Row(name, unit, aim))

    def text(self) -> str:
        """One line for each row: medians with ranges, and the median of the rounds' ratios."""
        lines = [("", "lhd", "bare", "lhd/bare", "unit", "aim")]
        lines += [
            (row.name, _spread(row.lhd), _spread(row.bare), _ratio(row), row.unit, row.aim)
            for row in self._rows.values()
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the values are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{_number(statistics.median(values))} ({_number(min(values))}..{_number(max(values))})"


def _ratio(row: Row) -> str:
    if not row.bare or not row.lhd:
        return ""
    return f"{statistics.median(mine / bare for mine, bare in zip(row.lhd, row.bare, strict=True)):.2f}"
