"""The work of a source: look, claim, read, commit, move; after a crash the same again with what is claimed already.

Looking is the truth about what there is, the store about what was brought, and the work folder about what is under way.
"""

import errno
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import anyio
import orjson
from anyio.to_thread import run_sync

from lhd.plugin import Event, Overloaded, Poisoned, Receipt, SourceContext
from lhd_filedrop.alarm import LOCAL, Alarm, file_system
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents
from lhd_filedrop.events import empty_event, record_event, text
from lhd_filedrop.exits import Exits
from lhd_filedrop.failed import Failed
from lhd_filedrop.folder import NAMES_MAX, Folder, Found, Look, Taken
from lhd_filedrop.outcomes import Broken, Outcome, is_known, position_of, stored_facts, told
from lhd_filedrop.readiness import Readiness
from lhd_filedrop.reading import BATCH_BYTES, Facts, FileReader, Read, Unfinished, Unreadable
from lhd_filedrop.records import Place

_UNFINISHED_S = 0.5
"""Time between two looks at files that are claimed and still written."""
_REST = 4
"""A look is followed by as many times as long as it took of something else, so that it costs a fifth of a processor."""
_QUIET_REST = 19
"""The same where nothing was found and the kernel would tell of changes: a twentieth."""
_CHUNK = 2_000
_STUCK_MAX = 100
_FOLDERS_FAULT = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EIO)


@dataclass
class Taking:
    """One run of a source."""

    context: SourceContext
    config: FileDropConfig
    folder: Folder
    contents: Contents
    _reader: FileReader = field(init=False)
    _outcomes: list[Outcome] = field(default_factory=list)
    """To be moved, after the next commit."""
    _stuck: dict[Taken, tuple[Outcome, OSError]] = field(default_factory=dict)
    """Could not be moved."""
    _known: dict[str, Any] = field(default_factory=dict)
    """Of files that are left in their place and have changed: their positions."""
    _to_forget: dict[str, None] = field(default_factory=dict)
    _unfinished: int = 0
    _through: int = 0
    """How many files have come to their end."""
    _look_s: float = 0.0
    _is_behind: bool = False
    """Whether there is more than one look finds."""
    _passed_over: int = 0
    _refused: dict[bytes, OSError] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._alarm = Alarm(enabled=False)
        self._readiness = Readiness(self.config)
        self._exits = Exits(self.config, self.folder)

    async def run(self) -> None:
        """Take files until cancelled. Raises Transient, and OSError where the folder cannot be used."""
        kind = await run_sync(file_system, self.config.path)
        if kind not in LOCAL:
            self.context.log.info("the folder is polled", file_system=kind or "unknown", every_s=self.config.scan_s)
        self._reader = FileReader(self.config, self.folder, self.contents, probes=kind in LOCAL)
        self._alarm = Alarm(enabled=kind in LOCAL)
        try:
            await self._forget_strangers()
            while True:
                began_s, through = anyio.current_time(), self._through
                await self._round()
                took_s = anyio.current_time() - began_s
                if self._through == through or not self._is_behind:
                    await anyio.sleep(max(0, self._look_s * _REST - took_s))
                if self._through == through:
                    await self._rest()
        finally:
            self._alarm.close()

    async def bring_back(self, file: Taken) -> bool:
        """Take a failed file once more, as it is now; False where it is not in ``failed`` any more. Raises OSError."""
        is_back = await run_sync(self._exits.bring_back, file)
        self._alarm.ring()
        return is_back

    async def _rest(self) -> None:
        waits = [self.config.scan_s, self._readiness.next_s(anyio.current_time())]
        if self._alarm.listens and not self._stuck:
            waits[0] = max(self.config.scan_s, self._look_s * (_QUIET_REST - _REST))
        if self._unfinished:
            waits.append(_UNFINISHED_S)
        await self._alarm.wait(min(wait_s for wait_s in waits if wait_s is not None))

    async def _round(self) -> None:
        """Move what is to be moved, read what is claimed, then what is found."""
        await run_sync(self.folder.require)
        await self._move([outcome for outcome, _ in self._stuck.values()])
        self._unfinished = 0
        if not self._is_blocked:
            claimed = await run_sync(self.folder.claimed)
            await self._read([file for file in claimed if file not in self._stuck])
        if not self._is_blocked:
            await self._take_found()
        await self._forget()
        self._report()

    @property
    def _is_blocked(self) -> bool:
        """Whether nothing more is taken until what is stored can be moved."""
        faults = {error.errno for _, error in self._stuck.values()}
        return len(self._stuck) > _STUCK_MAX or not faults.isdisjoint(_FOLDERS_FAULT)

    async def _take_found(self) -> None:
        began_s = anyio.current_time()
        found = await self._find()
        self._look_s = anyio.current_time() - began_s
        self._is_behind = len(found) == NAMES_MAX
        refused: dict[bytes, OSError] = {}
        for start in range(0, len(found), self.config.batch_records_max):
            paths = [one.path for one in found[start : start + self.config.batch_records_max]]
            if self.config.after == "keep":
                taken = [Taken("", path) for path in paths]
            else:
                taken = await run_sync(self.folder.claim, paths, self.context.clock_ms())
                refused |= self.folder.refused
            await self._read(taken)
            if self._is_blocked:
                break
        self._refused = refused

    def _report(self) -> None:
        parts = []
        if self._stuck:
            _, error = next(iter(self._stuck.values()))
            parts.append(f"{len(self._stuck)} files that are stored cannot be moved: {told(error)}")
        if self._refused:
            parts.append(f"{len(self._refused)} files cannot be claimed: {told(next(iter(self._refused.values())))}")
        if self._unfinished:
            parts.append(f"{self._unfinished} claimed files are still open for writing")
        if self._passed_over:
            parts.append(f"{self._passed_over} folders inside cannot be listed")
        self.context.report("; ".join(parts))

    # What is there

    async def _find(self) -> list[Found]:
        look = Look()
        if self.config.after == "keep":
            found = await self._find_new(self.folder.files(look))
        else:
            found = await run_sync(lambda: self.folder.first(self.folder.files(look)))
        self._passed_over = look.passed_over
        await run_sync(self._alarm.watch, self.config.path, look.folders)
        return self._readiness.ready(found, anyio.current_time())

    async def _find_new(self, files: Iterator[Found]) -> list[Found]:
        """The first of the files that the store does not know in their present state."""
        new: list[Found] = []
        self._known = {}
        while chunk := await run_sync(lambda: list(islice(files, _CHUNK))):
            parts = {Taken("", one.path).part: one for one in chunk}
            known = await self.context.positions(list(parts))
            new += [one for part, one in parts.items() if not is_known(one, known.get(part))]
            if len(new) > 2 * NAMES_MAX:
                new = await run_sync(self.folder.first, new)
        new = await run_sync(self.folder.first, new)
        wanted = [Taken("", one.path).part for one in new]
        for start in range(0, len(wanted), _CHUNK):
            self._known |= await self.context.positions(wanted[start : start + _CHUNK])
        return new

    # Files of which all or nothing is taken

    async def _read(self, files: Sequence[Taken]) -> None:
        if self.config.unit == "record":
            for file in files:
                await self._read_records(file)
                await self._move_outcomes()
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
            await self._move_outcomes()

    def _is_unchanged(self, file: Taken, facts: Facts) -> bool:
        """Whether a file that is left in its place has the contents that it had when it was read."""
        known = self._known.get(file.part)
        return not file.claim and known is not None and known["ended"] and known["sha256"] == facts.sha256

    def _some(self, waiting: list[Taken]) -> "list[Read | Broken]":
        """Read files from the front of the list until there is enough for one transaction."""
        reads: list[Read | Broken] = []
        size = 0
        while waiting and len(reads) < self.config.batch_records_max and size < BATCH_BYTES:
            file = waiting.pop(0)
            try:
                read: Read | Broken = self._reader.whole(file)
            except FileNotFoundError:
                continue
            except Unfinished:
                self._unfinished += bool(file.claim)
                continue
            except Unreadable as error:
                read = Broken(file, error.facts, error.failed, error.data)
            except Failed as failed:
                read = Broken(file, self._reader.glance(file), failed, None)
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
                facts = await run_sync(self._reader.facts, file)
            if self._is_unchanged(file, facts):
                await self._commit([], self._kept(file, facts))
            elif facts.state != stored.get("state"):
                await self._store_records(file, facts, Place())
            elif not stored["ended"]:
                await self._store_records(file, facts, Place(*stored["place"]))
        except FileNotFoundError:
            self._to_forget[file.part] = None
        except Unfinished:
            self._unfinished += bool(file.claim)
            # It is another file now than the one whose place is stored.
            self._to_forget[file.part] = None
        except Failed as failed:
            facts = facts or await run_sync(self._reader.glance, file)
            await self._store_files([Broken(file, facts, failed, None)])
            if file.claim:
                self._to_forget[file.part] = None
        else:
            self._outcomes.append(Outcome(file))
            if file.claim:
                self._to_forget[file.part] = None

    async def _store_records(self, file: Taken, facts: Facts, place: Place) -> None:
        records = await run_sync(self._reader.records, file, facts, place)
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

    async def _move_outcomes(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        await self._move(outcomes)

    async def _move(self, outcomes: Sequence[Outcome]) -> None:
        """Move what is stored; what cannot be moved stays, is not read again, and is moved when it can be."""
        if not outcomes:
            return
        stuck = await run_sync(self._moved, [one for one in outcomes if one.file.claim])
        for outcome in outcomes:
            if outcome.file in stuck:
                self._stuck[outcome.file] = outcome, stuck[outcome.file]
            else:
                self._stuck.pop(outcome.file, None)
                self._through += 1

    def _moved(self, outcomes: Sequence[Outcome]) -> dict[Taken, OSError]:
        stuck = self._exits.finish([one.file for one in outcomes if one.report is None])
        for one in outcomes:
            if one.report is not None:
                try:
                    self._exits.fail(one.file, one.report)
                except FileNotFoundError:
                    continue
                except OSError as error:
                    stuck[one.file] = error
        return stuck

    async def _forget_strangers(self) -> None:
        """Forget the positions of files that are neither claimed nor in the folder any more.

        Not where the folder is empty: what it holds may only not be mounted yet.
        """
        claimed = {file.part for file in await run_sync(self.folder.claimed)}
        is_empty = await run_sync(lambda: next(self.folder.files(Look()), None) is None)
        after = ""
        while parts := await self.context.positions(after=after, limit=_CHUNK):
            after = max(parts)
            gone = await run_sync(lambda: [part for part in parts if part not in claimed and not self._is_there(part)])
            self._to_forget |= dict.fromkeys(part for part in gone if not (is_empty and part.startswith("/")))
            await self._forget()

    def _is_there(self, part: str) -> bool:
        file = Taken.of_part(part)
        return not file.claim and self.folder.is_there(file.path)

    async def _forget(self) -> None:
        if self._to_forget:
            await self._commit([], dict(self._to_forget))
            self._to_forget.clear()
