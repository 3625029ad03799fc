"""The work of a source: look, claim, read, commit, move; after a crash the same again with what is claimed already.

Looking is the truth about what there is, the store about what was brought, and the work folder about what is under way.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync

from lhd.plugin import Event, Overloaded, Poisoned, Receipt, SourceContext, Transient
from lhd_filedrop.alarm import LOCAL, Alarm, file_system
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents
from lhd_filedrop.events import failed_event, record_event, text
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import Folder, Found, Taken
from lhd_filedrop.readiness import Readiness
from lhd_filedrop.reading import BATCH_BYTES, Facts, FileReader, Read, Unfinished, Unreadable
from lhd_filedrop.records import Place

_UNFINISHED_S = 0.5
"""Time between two looks at files that are claimed and still written."""
_REST = 4
"""After a look as many times as long as it took is rested, so that a huge folder costs a fifth of a processor."""
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """A file that is through: moved to ``done``, or, with a report, to ``failed``."""

    file: Taken
    report: bytes | None = None


@dataclass
class Taking:
    """One run of a source."""

    context: SourceContext
    config: FileDropConfig
    folder: Folder
    contents: Contents
    _unfinished: list[Taken] = field(default_factory=list)
    _to_move: list[Outcome] = field(default_factory=list)
    _to_forget: dict[str, None] = field(default_factory=dict)
    _through: int = 0
    """How many files have come to their end."""
    _look_s: float = 0.0

    def __post_init__(self) -> None:
        self._reader = FileReader(self.config, self.folder, self.contents)
        self._readiness = Readiness(self.config, self.folder)

    async def run(self) -> None:
        """Take files until cancelled. Raises Transient, and OSError where the folder cannot be used."""
        kind = await run_sync(file_system, self.config.path)
        if kind not in LOCAL:
            self.context.log.info("the folder is polled", file_system=kind or "unknown", every_s=self.config.scan_s)
        self._alarm = Alarm(enabled=kind in LOCAL)
        try:
            self._unfinished += await run_sync(self.folder.claimed)
            await self._forget_strangers()
            while True:
                await run_sync(partial(self._alarm.watch, self.config.path, recursive=self.config.recursive))
                through = self._through
                await self._round()
                if self._through == through:
                    await self._rest(self._alarm)
        finally:
            self._alarm.close()

    def resume(self, file: Taken) -> None:
        """Take a file that has come back to where it was claimed."""
        self._unfinished.append(file)
        self._alarm.ring()

    async def _rest(self, alarm: Alarm) -> None:
        await anyio.sleep(self._look_s * _REST)
        waits = [self.config.scan_s, self._readiness.next_s(anyio.current_time())]
        if self._unfinished:
            waits.append(_UNFINISHED_S)
        await alarm.wait(min(wait_s for wait_s in waits if wait_s is not None))

    async def _round(self) -> None:
        """Move what is to be moved, read what is claimed, then what is found."""
        await self._move()
        if self._to_move:
            return
        unfinished, self._unfinished = self._unfinished, []
        await self._read(unfinished)
        began_s = anyio.current_time()
        found = await self._find()
        self._look_s = anyio.current_time() - began_s
        for start in range(0, len(found), self.config.batch_records_max):
            chunk = found[start : start + self.config.batch_records_max]
            if self.config.after == "keep":
                taken = [Taken("", one.path) for one in chunk]
            else:
                paths = [one.path for one in chunk]
                taken = await run_sync(self.folder.claim, paths, self.context.clock_ms())
            await self._read(taken)
            if self._to_move:
                return
        await self._forget()
        self._report()

    def _report(self) -> None:
        if self._unfinished:
            self.context.report(f"{len(self._unfinished)} claimed files are still open for writing")
        else:
            self.context.report("")

    async def _find(self) -> list[Found]:
        if self.config.after == "keep":
            found = await self._find_new()
        else:
            found = await run_sync(lambda: self.folder.first(self.folder.files()))
        return await run_sync(self._readiness.ready, found, anyio.current_time())

    async def _find_new(self) -> list[Found]:
        """The first of the files that the store does not know in their present state."""
        files = self.folder.files()
        new: list[Found] = []
        while chunk := await run_sync(lambda: list(islice(files, _CHUNK))):
            parts = {Taken("", one.path).part: one for one in chunk}
            known = await self.context.positions(list(parts))
            new += [one for part, one in parts.items() if not _is_known(one, known.get(part))]
            new = self.folder.first(new)
        return new

    async def _read(self, files: Sequence[Taken]) -> None:
        if self.config.unit == "record":
            for file in files:
                await self._read_records(file)
        else:
            await self._read_whole(files)
        await self._move()

    async def _read_whole(self, files: Sequence[Taken]) -> None:
        waiting = list(files)
        while waiting:
            reads = await run_sync(self._some, waiting)
            single = [read for read in reads if isinstance(read, _Broken) or len(read.records) == 1]
            await self._store_files(single)
            for read in reads:
                if isinstance(read, Read) and len(read.records) != 1:
                    await self._store_whole(read)

    def _some(self, waiting: list[Taken]) -> "list[Read | _Broken]":
        """Read files from the front of the list until there is enough for one transaction."""
        reads: list[Read | _Broken] = []
        size = 0
        while waiting and len(reads) < self.config.batch_records_max and size < BATCH_BYTES:
            file = waiting.pop(0)
            try:
                read: Read | _Broken = self._reader.whole(file)
            except FileNotFoundError:
                continue
            except Unfinished:
                self._put_off(file)
                continue
            except Unreadable as error:
                read = _Broken(file, error.facts, error.failed, error.data)
            except Failed as failed:
                read = _Broken(file, self._reader.glance(file), failed, None)
            reads.append(read)
            size += len(read.data or b"")
        return reads

    def _put_off(self, file: Taken) -> None:
        if file.claim:
            self._unfinished.append(file)

    async def _store_files(self, reads: "Sequence[Read | _Broken]") -> None:
        """Store files that are one event each."""
        if not reads:
            return
        events: list[Event] = []
        positions: dict[str, Any] = {}
        for read in reads:
            events.append(read.event(self.config) if isinstance(read, _Broken) else self._event(read))
            positions |= self._kept(read.file, read.facts)
        receipts = await self._commit(events, positions)
        for read, receipt in zip(reads, receipts, strict=True):
            failed = read.failed if isinstance(read, _Broken) else Failed(receipt.reason)
            self._to_move.append(self._outcome(read.file, receipt, failed))

    def _event(self, read: Read) -> Event:
        return record_event(read.file, read.facts, read.records[0], self.config)

    async def _store_whole(self, read: Read) -> None:
        """Store all records of a file, or none, and then the file as a dead letter."""
        events = [record_event(read.file, read.facts, record, self.config) for record in read.records]
        try:
            await self._commit(events, self._kept(read.file, read.facts), whole=True)
        except Poisoned as poisoned:
            line = read.records[poisoned.number].place.line
            failed = Failed(poisoned.reason, line)
            await self._store_files([_Broken(read.file, read.facts, failed, read.data)])
        else:
            self._to_move.append(Outcome(read.file))

    async def _read_records(self, file: Taken) -> None:
        """Store the records of a file one batch after the other, from where the store says."""
        stored = await self.context.position(file.part) or {}
        facts = _stored_facts(stored) if file.claim else None
        try:
            if facts is None:
                facts = await run_sync(self._reader.facts, file)
            if facts.state != stored.get("state"):
                stored = {}
            if not stored.get("ended"):
                await self._store_records(file, facts, Place(*stored.get("place", ())))
        except FileNotFoundError:
            self._to_forget[file.part] = None
        except Unfinished:
            self._put_off(file)
        except Failed as failed:
            facts = facts or await run_sync(self._reader.glance, file)
            await self._store_files([_Broken(file, facts, failed, None)])
        else:
            self._to_move.append(Outcome(file))
        if file.claim:
            self._to_forget[file.part] = None

    async def _store_records(self, file: Taken, facts: Facts, place: Place) -> None:
        records = await run_sync(self._reader.records, file, facts, place)
        try:
            while True:
                batch = await run_sync(records.batch, self.config.batch_records_max)
                if batch:
                    place = batch[-1].next
                events = [record_event(file, facts, record, self.config) for record in batch]
                await self._commit(events, {file.part: _position(facts, place, ended=not batch)})
                if not batch:
                    return
        finally:
            records.close()

    def _kept(self, file: Taken, facts: Facts | None) -> dict[str, Any]:
        """The position that tells a file that is left in its place from one that is new."""
        if file.claim or facts is None:
            return {}
        return {file.part: _position(facts, Place(), ended=True)}

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
        """Move what is through; what cannot be moved stays, and nothing more is taken until it can."""
        outcomes = [one for one in self._to_move if one.file.claim]
        self._through += len(self._to_move)
        self._to_move = []
        try:
            done = [one.file for one in outcomes if one.report is None]
            if done:
                await run_sync(self.folder.finish, done)
            for one in outcomes:
                if one.report is not None:
                    await run_sync(self.folder.fail, one.file, one.report)
        except OSError as error:
            self._to_move = outcomes
            self.context.report(f"{len(outcomes)} files that are stored cannot be moved: {told(error)}")

    async def _forget_strangers(self) -> None:
        """Forget the positions of files that are neither claimed nor in the folder any more."""
        claimed = {file.part for file in self._unfinished}
        after = ""
        while parts := await self.context.positions(after=after, limit=_CHUNK):
            after = max(parts)
            gone = await run_sync(lambda: [part for part in parts if part not in claimed and not self._is_there(part)])
            self._to_forget |= dict.fromkeys(gone)
        await self._forget()

    def _is_there(self, part: str) -> bool:
        file = Taken.of_part(part)
        return not file.claim and os.path.lexists(os.path.join(os.fsencode(self.config.path), file.path))

    async def _forget(self) -> None:
        if self._to_forget:
            await self._commit([], dict(self._to_forget))
            self._to_forget.clear()


@dataclass(frozen=True, slots=True)
class _Broken:
    """A file that fails, with what is known of it."""

    file: Taken
    facts: Facts | None
    failed: Failed
    data: bytes | None

    def event(self, config: FileDropConfig) -> Event:
        return failed_event(self.file, self.facts, str(self.failed), self.data, config)


def told(error: OSError) -> str:
    """An error of the file system for people."""
    name = error.filename if error.filename2 is None else error.filename2
    shown = "" if name is None else f"{text(os.fsencode(name))}: "
    return f"{shown}{error.strerror or error}"


def _position(facts: Facts, place: Place, *, ended: bool) -> dict[str, Any]:
    return {
        "state": facts.state,
        "sha256": facts.sha256,
        "mtime_ms": facts.mtime_ms,
        "place": [place.offset, place.index, place.line],
        "ended": ended,
    }


def _stored_facts(stored: dict[str, Any]) -> Facts | None:
    if not stored:
        return None
    return Facts(stored["state"][1], stored["mtime_ms"], stored["sha256"], stored["state"])


def _is_known(found: Found, position: Any) -> bool:
    return position is not None and position["ended"] and position["state"] == [found.inode, found.size, found.mtime_ns]


def folder_error(error: OSError, config: FileDropConfig) -> Transient:
    """What is the matter with the folder, to be looked at again before long."""
    return Transient(f"the folder {config.path} cannot be used: {told(error)}", config.scan_s)
