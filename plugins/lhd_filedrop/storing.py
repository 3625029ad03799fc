"""Reads files, commits what is in them together with where they are, and says what became of each."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync

from lhd.plugin import Event, Overloaded, Poisoned, Receipt, SourceContext
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.events import empty_event, record_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import State, Taken
from lhd_filedrop.outcomes import Broken, Outcome
from lhd_filedrop.positions import Facts, Position
from lhd_filedrop.reading import BATCH_BYTES, FileReader, Read, Unfinished, Unreadable
from lhd_filedrop.records import Place


@dataclass
class Storing:
    """Stores the files of one source; after each commit ``move`` is told what is through."""

    context: SourceContext
    config: FileDropConfig
    reader: FileReader
    move: Callable[[Sequence[Outcome]], Awaitable[None]]
    was_kept: bool = False
    """Whether files that are claimed may have been left in their place before, and be stored."""
    unfinished: list[Taken] = field(default_factory=list)
    """Files that were found to be written still."""
    _known: dict[str, Position] = field(default_factory=dict)
    """Of the files that are being read, by part."""
    _outcomes: list[Outcome] = field(default_factory=list)
    """To be moved, after the next commit."""
    _placed: set[str] = field(default_factory=set)
    """The parts of claimed files that have positions, and those from when they were left in their place."""
    _to_forget: dict[str, None] = field(default_factory=dict)

    async def read(self, files: Sequence[Taken]) -> None:
        """Read files, store them, and let them be moved; what is stored already is moved only."""
        self._known = await self._positions(files)
        whole: list[Taken] = []
        for file in files:
            if file.claim and file.part in self._known and self._known[file.part].ended:
                self._outcomes.append(Outcome(file))
            elif file.is_by_record(self.config) or await self._goes_on(file):
                await self._read_records(file)
                await self._move()
            else:
                whole.append(file)
        await self._read_whole(whole)
        await self._move()

    # What is known

    async def _positions(self, files: Sequence[Taken]) -> dict[str, Position]:
        claimed = [file for file in files if file.claim]
        asked = [*files, *(file.in_place for file in claimed if self.was_kept)]
        stored = await self.context.positions([file.part for file in asked])
        known = {part: Position.of(one) for part, one in stored.items()}
        kept = [file for file in claimed if file.part not in known and file.in_place.part in known]
        adopted = await run_sync(self._adopted, kept, known) if kept else {}
        self._placed.update(file.part for file in claimed if file.part in known)
        self._placed.update(file.in_place.part for file in kept if file.part in adopted)
        return known | adopted

    def _adopted(self, files: Iterable[Taken], known: Mapping[str, Position]) -> dict[str, Position]:
        """The positions of claimed files from when they were left in their place, if they are what they were then."""
        adopted = {}
        for file in files:
            position = known[file.in_place.part]
            state = self._state_of_same(file, position)
            if state is not None:
                adopted[file.part] = replace(position, facts=replace(position.facts, state=state), failed=False)
        return adopted

    def _state_of_same(self, file: Taken, position: Position) -> State | None:
        """The state of a file that has the contents of this position; None where it has others, or nobody can tell."""
        facts, before = self.reader.glance(file), position.facts.state
        if facts is None:
            return None
        is_same = facts.state.is_same_contents(before) if file.claim else facts.state == before
        if position.failed or not is_same:
            try:
                facts = self.reader.facts(file)
            except (Failed, Unfinished, FileNotFoundError):
                return None
            is_same = facts.sha256 == position.facts.sha256
        return facts.state if is_same else None

    async def _goes_on(self, file: Taken) -> bool:
        """Whether a file that would be read as a whole now was begun record by record."""
        position = self._known.get(file.part)
        if position is None or not position.is_partial:
            return False
        return bool(file.claim) or await run_sync(self._state_of_same, file, position) is not None

    def _versioned(self, file: Taken, facts: Facts) -> Facts:
        """With what tells these contents from what a file that is left in its place had at other times."""
        if file.claim:
            return facts
        position = self._known.get(file.part)
        if position is not None and position.facts.sha256 == facts.sha256:
            return replace(facts, version=position.facts.version)
        return replace(facts, version=f"{self.context.epoch()}.{facts.state.inode}.{facts.state.ctime}")

    def _is_unchanged(self, file: Taken, facts: Facts) -> bool:
        """Whether a file that is left in its place has the contents that are stored."""
        position = self._known.get(file.part)
        return not file.claim and position is not None and position.ended and position.facts.sha256 == facts.sha256

    def _failed_position(self, file: Taken, facts: Facts) -> Position:
        """That of a file that is left in its place and fails; of contents that are not new it tells what is stored."""
        position = self._known.get(file.part)
        if position is None or facts.sha256 not in ("", position.facts.sha256):
            return Position(facts, failed=True)
        return replace(position, facts=replace(position.facts, state=facts.state), failed=True)

    # Files of which all or nothing is taken

    async def _read_whole(self, files: Sequence[Taken]) -> None:
        waiting = list(files)
        while waiting:
            reads = await run_sync(self._some, waiting)
            single: list[Read | Broken] = []
            unchanged: dict[str, Any] = {}
            for read in reads:
                if isinstance(read, Read) and self._is_unchanged(read.file, read.facts):
                    unchanged[read.file.part] = Position(read.facts, ended=True).stored()
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
                read: Read | Broken = replace(whole, facts=self._versioned(file, whole.facts))
            except FileNotFoundError:
                continue
            except Unfinished:
                self.unfinished.append(file)
                continue
            except Unreadable as error:
                read = Broken(file, self._versioned(file, error.facts), error.failed, error.data)
            except Failed as failed:
                read = self._unread(file, failed)
            reads.append(read)
            size += len(read.data or b"")
        return reads

    def _unread(self, file: Taken, failed: Failed) -> Broken:
        facts = self.reader.glance(file)
        return Broken(file, facts and self._versioned(file, facts), failed, None)

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
                    failed[read.file.part] = self._failed_position(read.file, read.facts).stored()
        if failed:
            await self._commit([], failed)
        await self._store_files(conflicts)

    def _event(self, read: Read | Broken) -> Event:
        if isinstance(read, Broken):
            return read.event(self.config)
        if read.records:
            event = record_event(read.file, read.facts, read.records[0], self.config)
        else:
            event = empty_event(read.file, read.facts, self.config)
        return replace(event, positions=self._whole_position(read))

    def _whole_position(self, read: Read) -> dict[str, Any]:
        if read.file.claim:
            self._placed.add(read.file.part)
        return {read.file.part: Position(read.facts, ended=True).stored()}

    async def _store_whole(self, read: Read) -> None:
        """Store all records of a file, or none, and then the file as a dead letter."""
        events = [record_event(read.file, read.facts, record, self.config) for record in read.records]
        try:
            await self._commit(events, self._whole_position(read), whole=True)
        except Poisoned as poisoned:
            failed = Failed(poisoned.reason, read.records[poisoned.number].place.line)
            await self._store_files([Broken(read.file, read.facts, failed, read.data)])
        else:
            self._outcomes.append(Outcome(read.file))

    # Files that are read record by record

    async def _read_records(self, file: Taken) -> None:
        """Store the records of a file one batch after the other, from where the store says."""
        facts = None
        try:
            facts, place = await run_sync(self._begin, file)
            if self._is_unchanged(file, facts):
                await self._store_place(file, [], Position(facts, place, ended=True))
            else:
                await self._store_records(file, facts, place)
        except FileNotFoundError:
            return
        except Unfinished:
            self.unfinished.append(file)
            await self._hold(file)
        except Failed as failed:
            await self._hold(file)
            broken = Broken(file, facts, failed, None) if facts else await run_sync(self._unread, file, failed)
            await self._store_files([broken])
        else:
            self._outcomes.append(Outcome(file))

    def _begin(self, file: Taken) -> tuple[Facts, Place]:
        """What a file is, and from where on it is to be read. Raises Failed, Unfinished, FileNotFoundError."""
        position = self._known.get(file.part)
        if position is None:
            return self._versioned(file, self.reader.facts(file)), Place()
        glanced = self.reader.glance(file)
        if file.claim and glanced is not None and glanced.state == position.facts.state:
            facts = position.facts
        else:
            facts = self._versioned(file, self.reader.facts(file))
        is_other = facts.sha256 != position.facts.sha256
        if not position.is_partial or (is_other and not file.claim):
            return facts, Place()
        held = f"its first {position.place.index} records are stored already"
        if position.form != self.reader.form(file):
            raise Failed(f"{held}, and were read as another format is; set it back, or drop the others as a new file")
        if is_other and position.digest != self.reader.digest_to(file, position.place.offset):
            raise Failed(f"{held}, and were changed: they have to stay; drop what is to be added as a new file")
        return facts, position.place

    async def _hold(self, file: Taken) -> None:
        """Keep the digest of what is stored of a claimed file that may come again, mended."""
        position = self._known.get(file.part)
        if file.claim and position is not None and position.is_partial and not position.digest:
            digest = await run_sync(self.reader.digest_to, file, position.place.offset)
            await self._store_place(file, [], replace(position, digest=digest))

    async def _store_records(self, file: Taken, facts: Facts, place: Place) -> None:
        form = self.reader.form(file)
        records = await run_sync(self.reader.records, file, facts, place)
        try:
            while batch := await run_sync(records.batch, self.config.batch_records_max):
                place = batch[-1].next
                events = [record_event(file, facts, record, self.config) for record in batch]
                await self._store_place(file, events, Position(facts, place, form=form))
            empty = [] if place.index else [empty_event(file, facts, self.config)]
            await self._store_place(file, empty, Position(facts, place, ended=True, form=form))
        finally:
            records.close()

    async def _store_place(self, file: Taken, events: Sequence[Event], position: Position) -> None:
        receipts = await self._commit(events, {file.part: position.stored()})
        self._known[file.part] = position
        if file.claim:
            self._placed.add(file.part)
        for event, receipt in zip(events, receipts, strict=True):
            if receipt.verdict == "conflict":
                facts = {"line": event.record["line"], "delivery": receipt.event_id, "reason": receipt.reason}
                self.context.log.warning("a record was not stored", file=text(file.path), **facts)

    # Commits and what follows

    async def _commit(
        self, events: Sequence[Event], positions: dict[str, Any], *, whole: bool = False
    ) -> list[Receipt]:
        forgotten = dict(self._to_forget)
        while True:
            try:
                receipts = await self.context.commit(events, positions=forgotten | positions, whole=whole, bury=True)
            except Overloaded as error:
                await anyio.sleep(error.after_s)
            else:
                self._to_forget = {part: None for part in self._to_forget if part not in forgotten}
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
        facts = {"file": text(file.path), "reason": str(failed), "dead_letter": receipt.event_id}
        self.context.log.warning("a file failed", **facts)
        return orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n"

    async def _move(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            await self.move(outcomes)

    def moved(self, outcome: Outcome) -> None:
        """A claimed file was moved. Where one that failed is stored in part is remembered: it may be mended."""
        file = outcome.file
        parts = self._placed & {file.part, file.in_place.part}
        self._placed -= parts
        if outcome.report is not None:
            parts.discard(file.part)
        self.forget(parts)

    def forget(self, parts: Iterable[str]) -> None:
        """Nobody needs these positions any more; they go with the next commit."""
        self._to_forget |= dict.fromkeys(parts)

    async def flush(self) -> None:
        """Have the store forget what is to be forgotten."""
        if self._to_forget:
            await self._commit([], {})
