"""The work of a source: look, claim, read, commit, move; after a crash the same again with what is claimed already.

Looking is the truth about what there is, the store about what was brought, and the work folder about what is under way.
"""

import secrets
from collections.abc import Iterator, Sequence
from itertools import islice

import anyio
from anyio.to_thread import run_sync

from lhd.plugin import SourceContext
from lhd_filedrop.alarm import LOCAL, Alarm
from lhd_filedrop.claims import Claims
from lhd_filedrop.config import FileDropConfig
from lhd_filedrop.contents import Contents
from lhd_filedrop.exits import Exits
from lhd_filedrop.folder import FAULTS, NAMES_MAX, Folder, Found, Look, Taken
from lhd_filedrop.outcomes import Outcome, told
from lhd_filedrop.positions import is_known
from lhd_filedrop.readiness import Readiness
from lhd_filedrop.reading import FileReader
from lhd_filedrop.storing import Storing

_PAUSE_S = 0.02
"""Between two rounds that find nothing, however often the folder rings."""
_UNFINISHED_S = 0.5
"""Time between two looks at files that are claimed and still written."""
_REST = 4
"""A look is followed by as many times as long as it took of something else, so that it costs a fifth of a processor."""
_QUIET_REST = 19
"""The same where nothing was found and the kernel would tell of changes: a twentieth."""
_CHUNK = 2_000
_STUCK_MAX = 100
_UNFINISHED_MAX = 1_000


class Taking:
    """One run of a source."""

    def __init__(
        self, context: SourceContext, config: FileDropConfig, folder: Folder, contents: Contents, kind: str
    ) -> None:
        """``kind`` is the type of the folder's file system."""
        self.context = context
        self.config = config
        self.folder = folder
        if kind not in LOCAL:
            context.log.info("the folder is polled", file_system=kind or "unknown", every_s=config.scan_s)
        self._alarm = Alarm(enabled=kind in LOCAL)
        self._readiness = Readiness(config)
        self._claims = Claims(config, folder)
        self._exits = Exits(config, folder, self._claims)
        reader = FileReader(config, folder, contents, self._readiness, probes=kind in LOCAL)
        self._storing = Storing(context, config, reader, self._move)
        self._stuck: dict[Taken, tuple[Outcome, OSError]] = {}
        """Could not be moved."""
        self._through = 0
        """How many files have come to their end."""
        self._look_s = self._claimed_s = 0.0
        """How long the latest look took, and the latest reading of what was claimed before it."""
        self._is_behind = False
        """Whether there is more than one look finds."""
        self._passed_over = 0
        self._stranded: list[str] = []

    async def prepare(self) -> None:
        """See to what a crash, another configuration, or another folder in this one's place has left behind."""
        claimed = await run_sync(self._claims.claimed)
        await run_sync(self._claims.sync)
        await run_sync(self._exits.withdraw, claimed)
        await self._look_through_positions(claimed, is_same=await self._is_same_folder())

    async def run(self) -> None:
        """Take files until cancelled. Raises Transient, and OSError where the folder cannot be used."""
        while True:
            began_s, through = anyio.current_time(), self._through
            await self._round()
            took_s = anyio.current_time() - began_s
            is_quiet = self._through == through
            if is_quiet or not self._is_behind:
                else_s = took_s - self._look_s
                await anyio.sleep(max(_PAUSE_S if is_quiet else 0, self._look_s * _REST - else_s))
            if is_quiet:
                await self._rest()

    def close(self) -> None:
        """Listen to the folder no more."""
        self._alarm.close()

    async def bring_back(self, file: Taken) -> bool:
        """Take a failed file once more, as it is now; False where it is not there any more. Raises OSError."""
        if file.claim:
            is_back = await run_sync(self._exits.bring_back, file)
        else:
            is_back = await run_sync(self.folder.is_there, file.path) and await self._storing.retry(file)
        self._alarm.ring()
        return is_back

    async def is_claimed(self, file: Taken) -> bool:
        """Whether a file is read, or is to be moved, just now."""
        return await run_sync(self._exits.is_claimed, file)

    async def _rest(self) -> None:
        waits = [self.config.scan_s, self._readiness.next_s(anyio.current_time())]
        if self._alarm.listens and not self._stuck:
            waits[0] = max(self.config.scan_s, self._look_s * (_QUIET_REST - _REST))
        if any(file.claim for file in self._storing.unfinished):
            waits.append(max(_UNFINISHED_S, self._claimed_s * _REST))
        least_s = min(wait_s for wait_s in waits if wait_s is not None)
        if self._claims.refused:
            # What is moved back and forth rings, too.
            await anyio.sleep(least_s)
        else:
            await self._alarm.wait(least_s)

    async def _round(self) -> None:
        """Move what is to be moved, read what is claimed, then what is found."""
        await run_sync(self.folder.require)
        await self._move([outcome for outcome, _ in self._stuck.values()])
        self._storing.unfinished = []
        self._claims.refused = {}
        self._stranded = await run_sync(self._claims.stranded)
        if not self._is_blocked:
            began_s = anyio.current_time()
            claimed = await run_sync(self._claims.claimed)
            await self._storing.read([file for file in claimed if file not in self._stuck])
            self._claimed_s = anyio.current_time() - began_s
        if not self._is_blocked:
            await self._take_found()
        await self._storing.flush()
        self._report()

    @property
    def _is_blocked(self) -> bool:
        """Whether nothing more is taken until what is stored can be moved, or what is claimed is finished."""
        faults = {error.errno for _, error in self._stuck.values()}
        is_stuck = len(self._stuck) > _STUCK_MAX or not faults.isdisjoint(FAULTS)
        return is_stuck or len(self._storing.unfinished) > _UNFINISHED_MAX

    async def _take_found(self) -> None:
        began_s = anyio.current_time()
        found = await self._find()
        self._look_s = anyio.current_time() - began_s
        for start in range(0, len(found), self.config.batch_records_max):
            some = found[start : start + self.config.batch_records_max]
            if self.config.after == "keep":
                taken = [Taken("", one.path) for one in some]
            else:
                taken = await run_sync(self._claims.claim, some, self.context.clock_ms())
                self._readiness.claimed(some, taken)
            await self._storing.read(taken)
            if self._is_blocked:
                break

    def _report(self) -> None:
        parts = []
        if self._stuck:
            _, error = next(iter(self._stuck.values()))
            parts.append(f"{len(self._stuck)} files that are stored cannot be moved: {told(error)}")
        if refused := self._claims.refused:
            parts.append(f"{len(refused)} files cannot be claimed: {told(next(iter(refused.values())))}")
        if self._storing.unfinished:
            parts.append(f"{len(self._storing.unfinished)} files are still written")
        if self._passed_over:
            parts.append(f"{self._passed_over} folders inside cannot be used, or are too deep")
        parts += [f"the source '{one}', which does not run, has claimed files, see .work" for one in self._stranded]
        self.context.report("; ".join(parts))

    # What is there

    async def _find(self) -> list[Found]:
        look = Look(self._alarm.listener(self.config.path))
        if self.config.after == "keep":
            found = await self._find_new(self.folder.files(look))
        else:
            found = await run_sync(lambda: self.folder.first(self.folder.files(look)))
        self._passed_over = look.passed_over
        self._is_behind = len(found) == NAMES_MAX
        return await run_sync(self._readiness.ready, found, anyio.current_time())

    async def _find_new(self, files: Iterator[Found]) -> list[Found]:
        """The first of the files that the store does not know in their present state."""
        new: list[Found] = []
        while chunk := await run_sync(lambda: list(islice(files, _CHUNK))):
            parts = {Taken("", one.path).part: one for one in chunk}
            known = await self.context.positions(list(parts))
            new += [one for part, one in parts.items() if not is_known(one.state, known.get(part))]
            if len(new) > 2 * NAMES_MAX:
                new = await run_sync(self.folder.first, new)
        return await run_sync(self.folder.first, new)

    # What follows a commit

    async def _move(self, outcomes: Sequence[Outcome]) -> None:
        """Move what is stored; what cannot be moved stays, is not read again, and is moved when it can be."""
        if not outcomes:
            return
        claimed = [one for one in outcomes if one.file.claim]
        stuck = await run_sync(self._moved, claimed)
        for outcome in claimed:
            if outcome.file in stuck:
                self._stuck[outcome.file] = outcome, stuck[outcome.file]
            else:
                self._stuck.pop(outcome.file, None)
                self._storing.moved(outcome)
        self._through += len(outcomes) - len(stuck)
        self._readiness.forget(one.file for one in claimed)

    def _moved(self, outcomes: Sequence[Outcome]) -> dict[Taken, OSError]:
        stuck = self._exits.finish([one.file for one in outcomes if one.report is None])
        for one in outcomes:
            if one.report is not None:
                try:
                    self._exits.fail(one.file, one.report)
                except OSError as error:
                    if self._exits.is_claimed(one.file):
                        stuck[one.file] = error
        return stuck

    # What is known before the first look

    async def _is_same_folder(self) -> bool:
        """Whether this is the folder that the store knows of, and not a place where it is to be mounted, say."""
        mark = await run_sync(self.folder.mark)
        if self.context.cursor is None:
            if not mark:
                mark = secrets.token_hex(16)
                await run_sync(self.folder.give_mark, mark)
            await self.context.commit([], cursor=mark)
        if mark == self.context.cursor:
            return True
        remedy = f"if it is to stay, say: lhd source reset {self.context.name}"
        self.context.log.warning("the folder is another one than before; what is known of files stays", remedy=remedy)
        return False

    async def _look_through_positions(self, claimed: Sequence[Taken], *, is_same: bool) -> None:
        """Forget the positions of files that are nowhere any more; learn whether some are of files that were kept."""
        needed = {part for file in claimed for part in (file.part, file.in_place.part)}
        after = ""
        while parts := await self.context.positions(after=after, limit=_CHUNK):
            after = max(parts)
            gone = await run_sync(lambda: {part for part in parts if part not in needed and not self._is_there(part)})
            if not is_same:
                gone = set()
            if any(not Taken.of_part(part).claim for part in parts.keys() - gone):
                self._storing.known.was_kept = True
            self._storing.forget(gone)
            await self._storing.flush()

    def _is_there(self, part: str) -> bool:
        """Whether a file is in its place, or, if it was claimed, in ``failed`` and may be mended."""
        file = Taken.of_part(part)
        return self._exits.has_failed(file) if file.claim else self.folder.is_there(file.path)
