"""Reads files, commits what is in them together with where they are, and says what became of each."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync

from lhd.plugin import Event, Overloaded, Poisoned, Receipt, SourceContext
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.events import empty_event, record_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Taken
from lhd_filedrop.outcomes import Broken, Outcome, position_of, stored_facts
from lhd_filedrop.reading import BATCH_BYTES, Facts, FileReader, Read, Unfinished, Unreadable
from lhd_filedrop.records import Place


@dataclass
class Storing:
    """Stores the files of one source; after each commit ``move`` is told what is through."""

    context: SourceContext
    config: FileDropConfig
    reader: FileReader
    move: Callable[[Sequence[Outcome]], Awaitable[None]]
    known: dict[str, Any] = field(default_factory=dict)
    """Of files that are left in their place and have changed: their positions."""
    to_forget: dict[str, None] = field(default_factory=dict)
    unfinished: int = 0
    """How many claimed files were found to be open for writing."""
    _outcomes: list[Outcome] = field(default_factory=list)
    """To be moved, after the next commit."""

    # Files of which all or nothing is taken

    async def read(self, files: Sequence[Taken]) -> None:
        """Read files, store them, and let them be moved."""
        if self.config.unit == "record":
            for file in files:
                await self._read_records(file)
                await self._move()
        else:
            await self._read_whole(files)

    async def _read_whole(self, files: Sequence[Taken]) -> None:
        waiting = list(files)
        while waiting:
            reads = await run_sync(self._some, waiting)
            single: list[Read | Broken] = []
            unchanged: dict[str, Any] = {}
            for read in reads:
                if isinstance(read, Read) and self._is_unchanged(read.file, read.facts):
                    unchanged |= self._kept(read.file, read.facts)
                elif isinstance(read, Read) and len(read.records) > 1:
                    await self._store_whole(read)
                else:
                    single.append(read)
            await self._store_files(single)
            if unchanged:
                await self._commit([], unchanged)
            await self._move()

    def _is_unchanged(self, file: Taken, facts: Facts) -> bool:
        """Whether a file that is left in its place has the contents that it had when it was read."""
        known = self.known.get(file.part)
        return not file.claim and known is not None and known["ended"] and known["sha256"] == facts.sha256

    def _some(self, waiting: list[Taken]) -> "list[Read | Broken]":
        """Read files from the front of the list until there is enough for one transaction."""
        reads: list[Read | Broken] = []
        size = 0
        while waiting and len(reads) < self.config.batch_records_max and size < BATCH_BYTES:
            file = waiting.pop(0)
            try:
                read: Read | Broken = self.reader.whole(file)
            except FileNotFoundError:
                continue
            except Unfinished:
                self.unfinished += bool(file.claim)
                continue
            except Unreadable as error:
                read = Broken(file, error.facts, error.failed, error.data)
            except Failed as failed:
                read = Broken(file, self.reader.glance(file), failed, None)
            reads.append(read)
            size += len(read.data or b"")
        return reads

    async def _store_files(self, reads: "Sequence[Read | Broken]") -> None:
        """Store files that are one event each."""
        if not reads:
            return
        events: list[Event] = []
        positions: dict[str, Any] = {}
        for read in reads:
            events.append(read.event(self.config) if isinstance(read, Broken) else self._event(read))
            positions |= self._kept(read.file, read.facts)
        receipts = await self._commit(events, positions)
        for read, receipt in zip(reads, receipts, strict=True):
            failed = read.failed if isinstance(read, Broken) else Failed(receipt.reason)
            self._outcomes.append(self._outcome(read.file, receipt, failed))

    def _event(self, read: Read) -> Event:
        if not read.records:
            return empty_event(read.file, read.facts, self.config)
        return record_event(read.file, read.facts, read.records[0], self.config)

    async def _store_whole(self, read: Read) -> None:
        """Store all records of a file, or none, and then the file as a dead letter."""
        events = [record_event(read.file, read.facts, record, self.config) for record in read.records]
        try:
            await self._commit(events, self._kept(read.file, read.facts), whole=True)
        except Poisoned as poisoned:
            failed = Failed(poisoned.reason, read.records[poisoned.number].place.line)
            await self._store_files([Broken(read.file, read.facts, failed, read.data)])
        else:
            self._outcomes.append(Outcome(read.file))

    # Files that are read record by record

    async def _read_records(self, file: Taken) -> None:
        """Store the records of a file one batch after the other, from where the store says."""
        stored = await self.context.position(file.part) or {}
        facts = stored_facts(stored) if file.claim else None
        try:
            if facts is None:
                facts = await run_sync(self.reader.facts, file)
            if self._is_unchanged(file, facts):
                await self._commit([], self._kept(file, facts))
            elif facts.state != stored.get("state"):
                await self._store_records(file, facts, Place())
            elif not stored["ended"]:
                await self._store_records(file, facts, Place(*stored["place"]))
        except FileNotFoundError:
            self.to_forget[file.part] = None
        except Unfinished:
            self.unfinished += bool(file.claim)
            # It is another file now than the one whose place is stored.
            self.to_forget[file.part] = None
        except Failed as failed:
            facts = facts or await run_sync(self.reader.glance, file)
            await self._store_files([Broken(file, facts, failed, None)])
            if file.claim:
                self.to_forget[file.part] = None
        else:
            self._outcomes.append(Outcome(file))
            if file.claim:
                self.to_forget[file.part] = None

    async def _store_records(self, file: Taken, facts: Facts, place: Place) -> None:
        records = await run_sync(self.reader.records, file, facts, place)
        try:
            while batch := await run_sync(records.batch, self.config.batch_records_max):
                place = batch[-1].next
                events = [record_event(file, facts, record, self.config) for record in batch]
                await self._commit(events, {file.part: position_of(facts, place, ended=False)})
            empty = [] if place.index else [empty_event(file, facts, self.config)]
            await self._commit(empty, {file.part: position_of(facts, place, ended=True)})
        finally:
            records.close()

    # Commits and what follows

    def _kept(self, file: Taken, facts: Facts | None) -> dict[str, Any]:
        """The position that tells a file that is left in its place from one that is new."""
        if file.claim or facts is None:
            return {}
        return {file.part: position_of(facts, Place(), ended=True)}

    async def _commit(
        self, events: Sequence[Event], positions: dict[str, Any], *, whole: bool = False
    ) -> list[Receipt]:
        while True:
            try:
                return await self.context.commit(events, positions=positions, whole=whole, bury=True)
            except Overloaded as error:
                await anyio.sleep(error.after_s)

    def _outcome(self, file: Taken, receipt: Receipt, failed: Failed) -> Outcome:
        if receipt.verdict != "dead":
            return Outcome(file)
        report = {
            "file": text(file.path),
            "source": self.context.name,
            "reason": failed.reason,
            "line": failed.line,
            "column": failed.column,
            "dead_letter": receipt.event_id,
            "claim": file.part,
        }
        facts = {"file": text(file.path), "reason": str(failed), "dead_letter": receipt.event_id}
        self.context.log.warning("a file failed", **facts)
        return Outcome(file, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")

    async def _move(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        await self.move(outcomes)

    async def forget(self) -> None:
        """Forget positions that nobody needs any more."""
        if self.to_forget:
            await self._commit([], dict(self.to_forget))
            self.to_forget.clear()
