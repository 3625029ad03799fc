"""How a file says that it cannot be read."""


class Failed(Exception):
    """A file cannot be read: why, and at which line and column, counted from 1. Nothing of its contents is in it."""

    def __init__(self, reason: str, line: int | None = None, column: int | None = None) -> None:
        at = "" if line is None else f": line {line}" + ("" if column is None else f", column {column}")
        super().__init__(reason + at)
        self.reason = reason
        self.line = line
        self.column = column
