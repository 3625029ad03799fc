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
from lhd_filedrop.outcomes import Broken, Outcome, place_of, position_of, stored_facts
from lhd_filedrop.reading import BATCH_BYTES, Facts, FileReader, Read, Unfinished, Unreadable
from lhd_filedrop.records import Place

_NOTHING: Mapping[str, Any] = {}


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
    _known: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The positions of the files that are being read."""
    _outcomes: list[Outcome] = field(default_factory=list)
    """To be moved, after the next commit."""
    _placed: set[str] = field(default_factory=set)
    """The parts of claimed files that have positions."""
    _to_forget: dict[str, None] = field(default_factory=dict)

    async def read(self, files: Sequence[Taken]) -> None:
        """Read files, store them, and let them be moved; what is stored already is moved only."""
        self._known = await self._positions(files)
        whole: list[Taken] = []
        for file in files:
            if file.claim and self._stored(file).get("ended"):
                self._outcomes.append(Outcome(file))
            elif file.is_by_record(self.config):
                await self._read_records(file)
                await self._move()
            else:
                whole.append(file)
        await self._read_whole(whole)
        await self._move()

    async def _positions(self, files: Sequence[Taken]) -> dict[str, dict[str, Any]]:
        claimed = [file for file in files if file.claim]
        asked = [*files, *(file.in_place for file in claimed if self.was_kept)]
        known = await self.context.positions([file.part for file in asked])
        self._placed.update(part for file in claimed for part in (file.part, file.in_place.part) if part in known)
        if self.was_kept:
            kept = [file for file in claimed if file.part not in known and file.in_place.part in known]
            known |= await run_sync(self._as_kept, kept, known)
        return known

    def _as_kept(self, files: Iterable[Taken], known: dict[str, Any]) -> dict[str, Any]:
        """The positions that claimed files have from when they were left in their place, if nobody changed them."""
        positions = {}
        for file in files:
            facts, position = self.reader.glance(file), known[file.in_place.part]
            if facts is not None and facts.state.is_same_contents(State(*position["state"])):
                positions[file.part] = position | {"state": list(facts.state)}
        return positions

    def _stored(self, file: Taken) -> Mapping[str, Any]:
        """The position of a file; nothing where there is none."""
        return self._known.get(file.part, _NOTHING)

    def _versioned(self, file: Taken, facts: Facts) -> Facts:
        """With what tells these contents from what a file that is left in its place had at other times."""
        if file.claim:
            return facts
        stored = self._stored(file)
        if stored.get("sha256") == facts.sha256:
            return replace(facts, version=stored["version"])
        return replace(facts, version=f"{self.context.epoch()}.{facts.state.inode}.{facts.state.ctime}")

    def _is_unchanged(self, file: Taken, facts: Facts) -> bool:
        """Whether a file that is left in its place has the contents that it had when it was read."""
        stored = self._stored(file)
        return not file.claim and stored.get("ended", False) and stored["sha256"] == facts.sha256

    # Files of which all or nothing is taken

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

    def _some(self, waiting: list[Taken]) -> "list[Read | Broken]":
        """Read files from the front of the list until there is enough for one transaction."""
        reads: list[Read | Broken] = []
        size = 0
        while waiting and len(reads) < self.config.batch_records_max and size < BATCH_BYTES:
            file = waiting.pop(0)
            try:
                read = self._read_one(file)
            except FileNotFoundError:
                continue
            except Unfinished:
                self.unfinished.append(file)
                continue
            except Unreadable as error:
                read = Broken(file, self._versioned(file, error.facts), error.failed, error.data)
            except Failed as failed:
                facts = self.reader.glance(file)
                read = Broken(file, facts and self._versioned(file, facts), failed, None)
            reads.append(read)
            size += len(read.data or b"")
        return reads

    def _read_one(self, file: Taken) -> Read | Broken:
        if file.claim and (stored := self._stored(file)):
            count = place_of(stored).index
            raise Failed(f"its first {count} records are stored one by one already; drop the others as a new file")
        read = self.reader.whole(file)
        return replace(read, facts=self._versioned(file, read.facts))

    async def _store_files(self, reads: "Sequence[Read | Broken]", positions: Mapping[str, Any] = _NOTHING) -> None:
        """Store files that are one event each."""
        if not reads:
            return
        events: list[Event] = []
        positions = dict(positions)
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
            await self._commit_records(read.file, events, self._kept(read.file, read.facts), whole=True)
        except Poisoned as poisoned:
            failed = Failed(poisoned.reason, read.records[poisoned.number].place.line)
            await self._store_files([Broken(read.file, read.facts, failed, read.data)])
        else:
            self._outcomes.append(Outcome(read.file))

    # Files that are read record by record

    async def _read_records(self, file: Taken) -> None:
        """Store the records of a file one batch after the other, from where the store says."""
        try:
            facts, place = await run_sync(self._begin, file)
            if self._is_unchanged(file, facts):
                await self._commit([], self._kept(file, facts))
            else:
                await self._store_records(file, facts, place)
        except FileNotFoundError:
            return
        except Unfinished:
            self.unfinished.append(file)
        except Failed as failed:
            glanced = await run_sync(self.reader.glance, file)
            broken = Broken(file, glanced and self._versioned(file, glanced), failed, None)
            await self._store_files([broken], await run_sync(self._held_to, file))
        else:
            self._outcomes.append(Outcome(file))

    def _begin(self, file: Taken) -> tuple[Facts, Place]:
        """What a file is, and from where on it is to be read. Raises Failed, Unfinished, FileNotFoundError."""
        stored = self._stored(file)
        if not stored:
            return self._versioned(file, self.reader.facts(file)), Place()
        place, glanced = place_of(stored), self.reader.glance(file)
        if file.claim and glanced is not None and list(glanced.state) == stored["state"]:
            return stored_facts(stored), place
        facts = self._versioned(file, self.reader.facts(file))
        if not file.claim:
            return facts, place if list(facts.state) == stored["state"] else Place()
        if "stored_sha256" not in stored:
            return facts, Place()
        if self.reader.digest_to(file, place.offset) != stored["stored_sha256"]:
            stay = "they have to stay as they were; drop what is to be added as a new file"
            raise Failed(f"its first {place.index} records are stored already, and were changed: {stay}")
        return facts, place

    def _held_to(self, file: Taken) -> dict[str, Any]:
        """The position of a file that fails, with the digest of what is stored of it; it may come again, mended."""
        stored = self._stored(file)
        if not (file.claim and stored) or "stored_sha256" in stored:
            return {}
        try:
            return {file.part: {**stored, "stored_sha256": self.reader.digest_to(file, place_of(stored).offset)}}
        except (Failed, Unfinished, FileNotFoundError):
            return {}

    async def _store_records(self, file: Taken, facts: Facts, place: Place) -> None:
        records = await run_sync(self.reader.records, file, facts, place)
        try:
            while batch := await run_sync(records.batch, self.config.batch_records_max):
                place = batch[-1].next
                events = [record_event(file, facts, record, self.config) for record in batch]
                await self._store_place(file, events, position_of(facts, place, ended=False))
            empty = [] if place.index else [empty_event(file, facts, self.config)]
            await self._store_place(file, empty, position_of(facts, place, ended=True))
        finally:
            records.close()

    async def _store_place(self, file: Taken, events: Sequence[Event], position: dict[str, Any]) -> None:
        await self._commit_records(file, events, {file.part: position})
        self._known[file.part] = position
        if file.claim:
            self._placed.add(file.part)

    # Commits and what follows

    def _kept(self, file: Taken, facts: Facts | None) -> dict[str, Any]:
        """The position that tells a file that is left in its place from one that is new."""
        if file.claim or facts is None:
            return {}
        return {file.part: position_of(facts, Place(), ended=True)}

    async def _commit(
        self, events: Sequence[Event], positions: Mapping[str, Any], *, whole: bool = False
    ) -> list[Receipt]:
        while True:
            try:
                return await self.context.commit(events, positions=positions, whole=whole, bury=True)
            except Overloaded as error:
                await anyio.sleep(error.after_s)

    async def _commit_records(
        self, file: Taken, events: Sequence[Event], positions: Mapping[str, Any], *, whole: bool = False
    ) -> None:
        receipts = await self._commit(events, positions, whole=whole)
        for event, receipt in zip(events, receipts, strict=True):
            if receipt.verdict == "conflict":
                facts = {"line": event.record.get("line"), "delivery": receipt.event_id, "reason": receipt.reason}
                self.context.log.warning("a record was not stored", file=text(file.path), **facts)

    def _outcome(self, file: Taken, receipt: Receipt, failed: Failed) -> Outcome:
        if receipt.verdict not in ("dead", "conflict"):
            return Outcome(file)
        letter = receipt.event_id if receipt.verdict == "dead" else None
        report = {
            "file": text(file.path),
            "source": self.context.name,
            "reason": failed.reason,
            "line": failed.line,
            "column": failed.column,
            "dead_letter": letter,
            "claim": file.part,
        }
        facts = {"file": text(file.path), "reason": str(failed), "dead_letter": letter}
        self.context.log.warning("a file failed", **facts)
        return Outcome(file, orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")

    async def _move(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            await self.move(outcomes)

    # What is known of files that are claimed

    async def remember(self, files: Iterable[Taken]) -> None:
        """Note that files are stored that could not be moved, so that they are not read again, whenever that is."""
        positions = {file.part: {"ended": True} for file in files if file.part not in self._placed}
        if positions:
            await self._commit([], positions)
            self._placed |= positions.keys()

    def moved(self, outcome: Outcome) -> None:
        """A file is claimed no more; of one that failed and may be mended, how far it is stored is remembered."""
        file = outcome.file
        parts = self._placed & {file.part, file.in_place.part}
        self._placed -= parts
        if outcome.report is not None and file.is_by_record(self.config):
            parts.discard(file.part)
        self.forget(parts)

    def forget(self, parts: Iterable[str]) -> None:
        """Nobody needs these positions any more."""
        self._to_forget |= dict.fromkeys(parts)

    async def flush(self) -> None:
        """Have the store forget what is to be forgotten."""
        if self._to_forget:
            await self._commit([], dict(self._to_forget))
            self._to_forget.clear()
