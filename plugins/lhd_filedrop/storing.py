"""Reads files, commits what is in them together with where they are, and says what became of each."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync

from lhd.plugin import Event, Overloaded, Poisoned, Receipt, SourceContext
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.events import empty_event, record_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Taken
from lhd_filedrop.known import Known
from lhd_filedrop.outcomes import Broken, Outcome
from lhd_filedrop.positions import Facts, Position
from lhd_filedrop.reading import BATCH_BYTES, FileReader, Read, Unfinished, Unreadable


@dataclass
class Storing:
    """Stores the files of one source; after each commit ``move`` is told what is through."""

    context: SourceContext
    config: FileDropConfig
    reader: FileReader
    move: Callable[[Sequence[Outcome]], Awaitable[None]]
    known: Known = field(init=False)
    unfinished: list[Taken] = field(default_factory=list)
    """Files that were found to be written still."""
    _outcomes: list[Outcome] = field(default_factory=list)
    """To be moved, after the next commit."""
    _to_forget: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.known = Known(self.context, self.reader)

    async def read(self, files: Sequence[Taken]) -> None:
        """Read files, store them, and let them be moved; what is stored already is moved only."""
        changes = await self.known.look_up(files)
        if changes:
            await self._commit([], {part: position and position.stored() for part, position in changes.items()})
        whole: list[Taken] = []
        for file in files:
            by_record = file.is_by_record(self.config) or await self.known.goes_on(file)
            if file in self.known.undecided:
                self.unfinished.append(file)
            elif self.known.is_stored(file):
                self._outcomes.append(Outcome(file))
            elif by_record:
                await self._read_records(file)
            else:
                whole.append(file)
        await self._read_whole(whole)
        await self._move()

    async def retry(self, file: Taken) -> bool:
        """Let a file that is left in its place, and has failed, be read again; False where it has not failed."""
        stored = await self.context.position(file.part)
        if stored is None or stored["failed"] is None:
            return False
        await self._commit([], {file.part: stored | {"failed": None}})
        return True

    # Files of which all or nothing is taken

    async def _read_whole(self, files: Sequence[Taken]) -> None:
        waiting = list(files)
        while waiting:
            reads = await run_sync(self._some, waiting)
            single: list[Read | Broken] = []
            unchanged: dict[str, Any] = {}
            for read in reads:
                if isinstance(read, Read) and self.known.is_unchanged(read.file, read.facts):
                    unchanged |= _ended(read)
                elif isinstance(read, Read) and len(read.records) > 1:
                    await self._store_whole(read)
                else:
                    single.append(read)
            await self._store_files(single)
            if unchanged:
                await self._commit([], unchanged)
            await self._move()

    def _some(self, waiting: list[Taken]) -> "list[Read | Broken]":
        """Read files from the front of the list until there is enough for one transaction."""
        reads: list[Read | Broken] = []
        size = 0
        while waiting and len(reads) < self.config.batch_records_max and size < BATCH_BYTES:
            file = waiting.pop(0)
            try:
                whole = self.reader.whole(file)
                read: Read | Broken = replace(whole, facts=self.known.versioned(file, whole.facts))
            except FileNotFoundError:
                continue
            except Unfinished:
                self.unfinished.append(file)
                continue
            except Unreadable as error:
                read = Broken(file, self.known.versioned(file, error.facts), error.failed, error.data)
            except Failed as failed:
                read = self._unread(file, failed)
            reads.append(read)
            size += len(read.data or b"")
        return reads

    def _unread(self, file: Taken, failed: Failed) -> Broken:
        facts = self.reader.glance(file)
        return Broken(file, facts and self.known.versioned(file, facts), failed, None)

    async def _store_files(self, reads: "Sequence[Read | Broken]") -> None:
        """Store files that are one event each; of those that are dead or a conflict, that they have failed."""
        if not reads:
            return
        receipts = await self._commit([self._event(read) for read in reads], {})
        failed: dict[str, Any] = {}
        conflicts: list[Broken] = []
        for read, receipt in zip(reads, receipts, strict=True):
            if receipt.verdict == "conflict" and isinstance(read, Read):
                conflicts.append(Broken(read.file, read.facts, Failed(receipt.reason), read.data))
            elif receipt.verdict != "dead":
                self._outcomes.append(Outcome(read.file))
            else:
                reason = read.failed if isinstance(read, Broken) else Failed(receipt.reason)
                self._outcomes.append(Outcome(read.file, self._report(read.file, receipt, reason)))
                if not read.file.claim and read.facts is not None:
                    failed[read.file.part] = self.known.failed(read.file, read.facts).stored()
        if failed:
            await self._commit([], failed)
        await self._store_files(conflicts)

    def _event(self, read: Read | Broken) -> Event:
        if isinstance(read, Broken):
            return read.event(self.config)
        if read.records:
            event = record_event(read.file, read.facts, read.records[0], self.config, unit="file")
        else:
            event = empty_event(read.file, read.facts, self.config)
        return replace(event, positions=_ended(read))

    async def _store_whole(self, read: Read) -> None:
        """Store all records of a file, or none, and then the file as a dead letter."""
        events = [record_event(read.file, read.facts, record, self.config, unit="file") for record in read.records]
        try:
            await self._commit(events, _ended(read), whole=True)
        except Poisoned as poisoned:
            failed = Failed(poisoned.reason, read.records[poisoned.number].place.line)
            await self._store_files([Broken(read.file, read.facts, failed, read.data)])
        else:
            self._outcomes.append(Outcome(read.file))

    # Files that are read record by record

    async def _read_records(self, file: Taken) -> None:
        """Store the records of a file one batch after the other, from where the store says, and let it be moved."""
        facts = None
        try:
            facts, position = await run_sync(self._begin, file)
            if self.known.is_unchanged(file, facts):
                await self._store_place(file, [], Position(facts, ended=True))
            else:
                await self._store_records(file, facts, position)
        except FileNotFoundError:
            return
        except Unfinished:
            self.unfinished.append(file)
        except Failed as failed:
            broken = Broken(file, facts, failed, None) if facts else await run_sync(self._unread, file, failed)
            await self._store_files([broken])
        else:
            self._outcomes.append(Outcome(file))
        await self._move()

    def _begin(self, file: Taken) -> tuple[Facts, Position | None]:
        """What a file is, and how far it is stored. Raises Failed, Unfinished, FileNotFoundError."""
        position = self.known.position(file)
        if position is None:
            return self.known.versioned(file, self.reader.facts(file)), None
        glanced = self.reader.glance(file)
        if file.claim and glanced is not None and glanced.state == position.facts.state:
            facts = position.facts
        else:
            facts = self.known.versioned(file, self.reader.facts(file))
        is_new = not file.claim and facts.sha256 != position.facts.sha256
        if is_new or not position.is_partial:
            return facts, None
        if position.form != self.reader.form(file):
            stored = f"its first {position.place.index} records are stored already, and were read as another format is"
            raise Failed(f"{stored}; set that back, or drop the others as a new file")
        return facts, position

    async def _store_records(self, file: Taken, facts: Facts, position: Position | None) -> None:
        position = replace(position or Position(facts, form=self.reader.form(file)), facts=facts, failed=None)
        records = await run_sync(self.reader.records, file, facts, position if position.is_partial else None)
        try:
            while batch := await run_sync(records.batch, self.config.batch_records_max):
                position = replace(position, place=batch[-1].next, digest=records.digest)
                events = [record_event(file, facts, record, self.config, unit="record") for record in batch]
                await self._store_place(file, events, position)
            empty = [] if position.place.index else [empty_event(file, facts, self.config)]
            await self._store_place(file, empty, replace(position, ended=True))
        finally:
            records.close()

    async def _store_place(self, file: Taken, events: Sequence[Event], position: Position) -> None:
        receipts = await self._commit(events, {file.part: position.stored()})
        self.known.put(file, position)
        for event, receipt in zip(events, receipts, strict=True):
            if receipt.verdict == "conflict":
                fields = {"line": event.record["line"], "delivery": receipt.event_id, "reason": receipt.reason}
                self.context.log.warning("a record was not stored", file=text(file.path), **fields)

    # Commits and what follows

    async def _commit(
        self, events: Sequence[Event], positions: dict[str, Any], *, whole: bool = False
    ) -> list[Receipt]:
        forgotten = dict.fromkeys(self._to_forget)
        while True:
            try:
                receipts = await self.context.commit(events, positions=forgotten | positions, whole=whole, bury=True)
            except Overloaded as error:
                await anyio.sleep(error.after_s)
            else:
                self._to_forget -= forgotten.keys()
                return receipts

    def _report(self, file: Taken, receipt: Receipt, failed: Failed) -> bytes:
        report = {
            "file": text(file.path),
            "source": self.context.name,
            "reason": failed.reason,
            "line": failed.line,
            "column": failed.column,
            "dead_letter": receipt.event_id,
            "claim": file.part,
        }
        fields = {"file": text(file.path), "reason": str(failed), "dead_letter": receipt.event_id}
        self.context.log.warning("a file failed", **fields)
        return orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"

    async def _move(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            await self.move(outcomes)

    def moved(self, outcome: Outcome) -> None:
        """A claimed file was moved. Where one that failed is stored in part is remembered: it may be mended."""
        if outcome.report is None:
            self.forget({outcome.file.part})

    def forget(self, parts: Iterable[str]) -> None:
        """Nobody needs these positions any more; they go with the next commit."""
        self._to_forget.update(parts)

    async def flush(self) -> None:
        """Have the store forget what is to be forgotten."""
        if self._to_forget:
            await self._commit([], {})


def _ended(read: Read) -> dict[str, Any]:
    """The position of a file that is stored as a whole, by part."""
    return {read.file.part: Position(read.facts, ended=True).stored()}
