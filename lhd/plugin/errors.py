"""What a source may raise; anything else counts as a bug of the source."""

from collections.abc import Sequence


class Transient(Exception):
    """The outside is not available just now; the source is started again after ``after_s`` seconds."""

    def __init__(self, text: str, after_s: float = 1.0) -> None:
        super().__init__(text)
        self.after_s = after_s


class Overloaded(Exception):
    """The daemon takes nothing more just now; nothing was stored. Offer it again after ``after_s`` seconds."""

    def __init__(self, after_s: float = 1.0) -> None:
        super().__init__(f"overloaded; try again after {after_s:g} s")
        self.after_s = after_s


class Poisoned(Exception):
    """Events were to be stored as a whole, and the one of this number cannot be: none of them was stored."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(reason)
        self.number = number
        self.reason = reason


class ConfigError(Exception):
    """A key of the source's table cannot be used: which, why, and what to write instead."""

    def __init__(self, key: str, text: str, fix: str = "") -> None:
        super().__init__(f"{key}: {text}" + (f"; {fix}" if fix else ""))
        self.key = key
        self.text = text
        self.fix = fix


class ConfigErrors(Exception):
    """Several mistakes in one table."""

    def __init__(self, errors: Sequence[ConfigError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = list(errors)
