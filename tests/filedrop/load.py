"""Writers of every kind that drop files while a daemon comes and goes, and the book of what they dropped."""

import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.filedrop.drops import lines_of

NAMES = ("caf\udce9", "sp  ace", "\N{GRINNING FACE}", "x" * 200, "%2e%2f", "a\\b", "--help")


def shown(path: str) -> str:
    """A path as routes see it."""
    return os.fsencode(path).decode(errors="backslashreplace")


@dataclass
class Book:
    """What was dropped: the contents of each file, those of files that replaced each other, and counts of records.

    ``still`` are files that are written piece by piece under their names, ``changing`` those of the source whose
    configuration changes, ``flipping`` the numbers that one file of it had, one after the other.
    """

    whole: dict[str, str] = field(default_factory=dict)
    over: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    still: dict[str, str] = field(default_factory=dict)
    changing: dict[str, int] = field(default_factory=dict)
    flipping: list[int] = field(default_factory=list)

    def total(self) -> int:
        """How many deliveries there are, at least."""
        counts = len(self.whole), len(self.over), len(self.still), *self.records.values(), *self.changing.values()
        return sum(counts)


class Load:
    """Several writers, which are never more than a window ahead of what is stored."""

    def __init__(self, folder: Path, files: int, records: int, window: int, seed: int, writers: int = 4) -> None:
        self.book = Book()
        self._whole, self._lines, self._still, self._changing = (
            folder / name for name in ("whole", "lines", "still", "changing")
        )
        self._window = window
        self._stored = 0
        self._moved = threading.Condition()
        self._error: BaseException | None = None
        self._stopped = False
        chance = random.Random(seed)
        shares = [range(number, files, writers) for number in range(writers)]
        self._threads = [
            threading.Thread(target=self._run, args=(self._write_files, share, random.Random(chance.random())))
            for share in shares
        ]
        few = range(files // 20)
        self._threads.append(threading.Thread(target=self._run, args=(self._write_lines, range(4), records // 4)))
        self._threads.append(threading.Thread(target=self._run, args=(self._write_slowly, few)))
        self._threads.append(threading.Thread(target=self._run, args=(self._write_changing, few)))

    @contextmanager
    def running(self) -> Iterator[None]:
        """Write while the block runs; at its end everything is written."""
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stopped = True
            self.stored(self._stored)
            for thread in self._threads:
                thread.join()

    def stored(self, count: int) -> None:
        """Tell how much is stored; raises what a writer raised."""
        with self._moved:
            self._stored = count
            self._moved.notify_all()
        if self._error is not None:
            raise self._error

    def ended(self) -> bool:
        """Whether everything is written."""
        return not any(thread.is_alive() for thread in self._threads)

    def _run(self, write: Callable[..., None], *arguments: object) -> None:
        try:
            write(*arguments)
        except BaseException as error:
            self._error = error
            raise

    def _wait(self) -> None:
        with self._moved:
            self._moved.wait_for(lambda: self._stopped or self.book.total() < self._stored + self._window)

    def _write_files(self, numbers: range, chance: random.Random) -> None:
        ways = [self._plain, self._torn, self._open, self._over, self._linked, self._odd, self._twice, self._inside]
        for number in numbers:
            self._wait()
            text = json.dumps({"number": number, "text": "x" * chance.randrange(chance.choice((100, 20_000)))})
            chance.choice(ways)(number, text)

    def _write_lines(self, files: range, records: int) -> None:
        for number in files:
            self._wait()
            name = f"{number}.ndjson"
            hidden = self._lines / f".{name}"
            hidden.write_text(lines_of({"number": index, "text": "x" * (index % 300)} for index in range(records)))
            self.book.records[name] = records
            hidden.rename(self._lines / name)

    def _write_slowly(self, numbers: range) -> None:
        """Several files at a time, piece by piece, each of which is opened, appended and closed."""
        for start in range(0, len(numbers), 10):
            self._wait()
            texts = {
                f"{number}.json": json.dumps({"number": number, "text": "x" * 2000})
                for number in numbers[start : start + 10]
            }
            self.book.still |= texts
            for at in range(0, 2200, 200):
                for name, text in texts.items():
                    with (self._still / name).open("a") as file:
                        file.write(text[at : at + 200])

    def _write_changing(self, numbers: range) -> None:
        for number in numbers:
            self._wait()
            lines = number % 7 + 1
            name = f"{number}.ndjson"
            self.book.changing[name] = lines
            self._drop(name, lines_of({"number": number, "line": line} for line in range(lines)), self._changing)
            self.book.flipping.append(number % 2)
            self._drop("flipping.ndjson", lines_of([{"number": number % 2, "line": 0}]), self._changing)

    def _drop(self, name: str, text: str, folder: Path | None = None) -> None:
        folder = folder or self._whole
        hidden = folder / f".{threading.get_ident()}"
        hidden.write_text(text)
        hidden.rename(folder / name)

    def _plain(self, number: int, text: str) -> None:
        name = f"plain-{number}.json"
        self.book.whole[name] = text
        self._drop(name, text)

    def _torn(self, number: int, text: str) -> None:
        """Parts, one after the other, under a temporary name."""
        name = f"torn-{number}.json"
        path = self._whole / f"{name}.part"
        for at in range(0, len(text), 2000):
            with path.open("a") as file:
                file.write(text[at : at + 2000])
        self.book.whole[name] = text
        path.rename(self._whole / name)

    def _open(self, number: int, text: str) -> None:
        """Parts, one after the other, under the name itself, by a writer that has the file open all the time."""
        name = f"open-{number}.json"
        self.book.whole[name] = text
        with (self._whole / name).open("w", buffering=1) as file:
            for at in range(0, len(text), 2000):
                file.write(text[at : at + 2000])
                file.flush()

    def _over(self, number: int, text: str) -> None:
        """Files of one name that replace each other, where they were not taken before."""
        name = f"over-{number % 10}-{threading.get_ident()}.json"
        self.book.over.setdefault(name, []).append(text)
        self._drop(name, text)

    def _linked(self, number: int, text: str) -> None:
        """One file under two names."""
        hidden = self._whole / f".linked-{number}"
        hidden.write_text(text)
        first, second = f"linked-{number}.json", f"linked-{number}-again.json"
        self.book.whole[first] = self.book.whole[second] = text
        os.link(hidden, self._whole / first)
        hidden.rename(self._whole / second)

    def _odd(self, number: int, text: str) -> None:
        name = f"{NAMES[number % len(NAMES)]}-{number}"
        self.book.whole[name] = text
        self._drop(name, text)

    def _twice(self, number: int, text: str) -> None:
        for name in (f"same-{number}-a.json", f"same-{number}-b.json"):
            self.book.whole[name] = text
            self._drop(name, text)

    def _inside(self, number: int, text: str) -> None:
        name = f"in/side {number % 5}/{number}.json"
        (self._whole / name).parent.mkdir(parents=True, exist_ok=True)
        self.book.whole[name] = text
        self._drop(name, text)
