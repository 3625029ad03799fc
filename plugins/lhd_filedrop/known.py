"""What the store knows of the files that are being read: how far each is stored, and whether it still is what it was.

Commits nothing; says what is to be committed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from anyio.to_thread import run_sync

from lhd.plugin import SourceContext
from lhd_filedrop.folder import State, Taken
from lhd_filedrop.positions import Facts, Position
from lhd_filedrop.reading import FileReader, Unfinished

Changes = Mapping[str, Position | None]
"""New positions by part; None where one is to be forgotten."""


@dataclass
class Known:
    """The positions of the files of one source, as far as they are needed just now."""

    context: SourceContext
    reader: FileReader
    was_kept: bool = False
    """Whether files that are claimed may have been left in their place before, and be stored."""
    undecided: set[Taken] = field(default_factory=set)
    """Files of which it cannot be told yet whether they are stored."""
    _positions: dict[str, Position] = field(default_factory=dict)

    async def look_up(self, files: Sequence[Taken]) -> Changes:
        """Ask the store about files; returns what changes with those that were left in their place and are claimed."""
        self.undecided.clear()
        claimed = [file for file in files if file.claim]
        asked = [*files, *(file.in_place for file in claimed if self.was_kept)]
        stored = await self.context.positions([file.part for file in asked])
        self._positions = {part: Position.of(one) for part, one in stored.items()}
        kept = [file for file in claimed if file.part not in stored and file.in_place.part in stored]
        changes = await run_sync(self._adopted, kept) if kept else {}
        self._positions |= {part: position for part, position in changes.items() if position is not None}
        return changes

    def position(self, file: Taken) -> Position | None:
        """The position of a file, or None."""
        return self._positions.get(file.part)

    def put(self, file: Taken, position: Position) -> None:
        """Note the position of a file that was committed."""
        self._positions[file.part] = position

    def is_stored(self, file: Taken) -> bool:
        """Whether all of a claimed file is stored."""
        position = self.position(file)
        return bool(file.claim) and position is not None and position.ended

    def is_unchanged(self, file: Taken, facts: Facts) -> bool:
        """Whether a file that is left in its place has the contents that are stored."""
        position = self.position(file)
        return not file.claim and position is not None and position.ended and position.facts.sha256 == facts.sha256

    async def goes_on(self, file: Taken) -> bool:
        """Whether a file that would be read as a whole now was begun record by record, unless that is undecided."""
        position = self.position(file)
        if position is None or not position.is_partial:
            return False
        if file.claim:
            return True
        facts = await run_sync(self.reader.glance, file)
        is_same = facts is not None and facts.state == position.facts.state
        try:
            return is_same or await run_sync(self.reader.digest, file) == position.facts.sha256
        except Unfinished:
            self.undecided.add(file)
            return False

    def versioned(self, file: Taken, facts: Facts) -> Facts:
        """With what tells these contents from what a file that is left in its place had at other times."""
        if file.claim:
            return facts
        position = self.position(file)
        if position is not None and position.facts.sha256 == facts.sha256:
            return replace(facts, version=position.facts.version)
        return replace(facts, version=f"{self.context.epoch()}.{facts.state.inode}.{facts.state.ctime}")

    def failed(self, file: Taken, facts: Facts) -> Position:
        """That of a file that is left in its place and fails; of contents that are not new it tells what is stored."""
        position = self.position(file)
        if position is None or facts.sha256 not in ("", position.facts.sha256):
            position = Position(facts)
        return replace(position, failed=facts.state)

    def _adopted(self, files: Iterable[Taken]) -> Changes:
        """The positions of files that are the same as when they were left in their place become those of the claims.

        In its place nobody has the position any more, unless the file that it is of is there still.
        """
        changes: dict[str, Position | None] = {}
        for file in files:
            position = self._positions[file.in_place.part]
            try:
                state = self._state_if_same(file, position)
            except Unfinished:
                self.undecided.add(file)
                continue
            if state is not None:
                changes[file.part] = replace(position, facts=replace(position.facts, state=state), failed=None)
            left = self.reader.glance(file.in_place)
            if left is None or left.state.inode != position.facts.state.inode:
                changes[file.in_place.part] = None
        return changes

    def _state_if_same(self, file: Taken, position: Position) -> State | None:
        """The state of a claimed file, if it is the one of a position and has its contents. Raises Unfinished."""
        facts = self.reader.glance(file)
        if facts is None or facts.state.inode != position.facts.state.inode:
            return None
        is_same = facts.state.is_same_contents(position.facts.state)
        return facts.state if is_same or self.reader.digest(file) == position.facts.sha256 else None
