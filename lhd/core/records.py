"""The records of the engine, the lanes they live in and the overlay that each command works on.

Knows nothing of SQL: what is not in memory is asked for by raising :class:`NotLoaded`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar, cast

from google.protobuf.message import Message

from lhd.core.settings import Settings

T = TypeVar("T")
Key = tuple[Any, ...]


class LaneId(NamedTuple):
    """One lane: the records that are loaded, changed and forgotten together."""

    name: str
    key: Key


@dataclass(eq=False)
class Kind(Generic[T]):
    """One kind of record. Its key is a tuple that begins with the tenant.

    ``depth`` is how many parts of the key name the lane. Of a kind with ``is_open`` only the open records are loaded
    with their lane and kept (waiting NodeRuns, unclaimed events), and the rest is loaded by key. A ``write_only`` kind
    is never read by the core and not kept in memory.
    """

    name: str
    lane: str
    depth: int
    is_open: Callable[[T], bool] | None = None
    write_only: bool = False

    def lane_of(self, key: Key) -> LaneId:
        """The lane of the record with this key."""
        return LaneId(self.lane, key[: self.depth])


class CommandTime(NamedTuple):
    """The two times of a command, in ms since the epoch.

    They are one for requests. For a timer ``command_ms`` is the time that the timer was set to, and ``wall_ms``,
    from which new waits count, may be much later: after a stop of the daemon, say.
    """

    command_ms: int
    wall_ms: int


class NotLoaded(Exception):
    """The command needs records that are not in memory; load them and run the command again."""

    def __init__(self, lanes: list[LaneId], points: list[tuple[Kind[Any], Key]]) -> None:
        super().__init__(f"lanes {lanes}, points {[(kind.name, key) for kind, key in points]}")
        self.lanes = lanes
        self.points = points


class Base(Protocol):
    """What an overlay rests on: the memory of the engine, or another overlay."""

    def lookup(self, kind: Kind[T], key: Key) -> T | None:
        """The record, None where there is none; raises NotLoaded where that is not known."""
        ...

    def scan(self, kind: Kind[T], lane_key: Key) -> dict[Key, T]:
        """The loaded records of one kind in one lane, in the order of their arrival."""
        ...

    def is_loaded(self, lane: LaneId) -> bool:
        """Whether the lane is in memory."""
        ...


@dataclass(slots=True)
class Lane:
    """The memory of one lane."""

    loaded: bool = False
    cleared: bool = False
    records: dict[Kind[Any], dict[Key, Any]] = field(default_factory=dict)


class Memory:
    """The decided state of every lane in memory, together with what the next commit has to write.

    Lanes of the ``passing`` names are hardly ever looked at twice, so they are forgotten after each commit.
    """

    def __init__(self, passing: frozenset[str] = frozenset()) -> None:
        self._lanes: dict[LaneId, Lane] = {}
        self._passing = passing
        self._passed: list[LaneId] = []
        self._begun: list[LaneId] = []
        self._points: list[tuple[Kind[Any], Key]] = []
        self.pending: dict[Kind[Any], dict[Key, Any]] = {}
        self.cleared: dict[LaneId, None] = {}
        self._committing = self.cleared, self.pending

    def __len__(self) -> int:
        return len(self._lanes)

    def is_loaded(self, lane: LaneId) -> bool:
        """Whether the lane is in memory."""
        found = self._lanes.get(lane)
        return found is not None and found.loaded

    def lookup(self, kind: Kind[T], key: Key) -> T | None:
        """See :class:`Base`."""
        lane = self._lanes.get(lane_id := kind.lane_of(key))
        if lane is None or not lane.loaded:
            raise NotLoaded([lane_id], [])
        of_kind = lane.records.get(kind)
        if of_kind is not None and key in of_kind:
            return cast("T | None", of_kind[key])
        if kind.is_open is None or lane.cleared:
            return None
        raise NotLoaded([], [(kind, key)])

    def scan(self, kind: Kind[T], lane_key: Key) -> dict[Key, T]:
        """See :class:`Base`."""
        lane = self._lanes.get(lane_id := LaneId(kind.lane, lane_key))
        if lane is None or not lane.loaded:
            raise NotLoaded([lane_id], [])
        return {key: value for key, value in lane.records.get(kind, {}).items() if value is not None}

    def fill(self, lane_id: LaneId, rows: list[tuple[Kind[Any], Key, Any]]) -> None:
        """Take a lane as it was read from the store; what was decided since then stands."""
        lane = self._lanes.setdefault(lane_id, Lane())
        if lane_id.name in self._passing:
            self._passed.append(lane_id)
        decided, lane.records = lane.records, {}
        for kind, key, value in rows:
            lane.records.setdefault(kind, {})[key] = value
        for kind, of_kind in decided.items():
            lane.records.setdefault(kind, {}).update(of_kind)
        lane.loaded = True

    def fill_point(self, kind: Kind[Any], key: Key, value: Any) -> None:
        """Take one record as it was read from the store, or None where it has none."""
        self._lanes[kind.lane_of(key)].records.setdefault(kind, {}).setdefault(key, value)
        self._points.append((kind, key))

    def apply(self, tx: "Transaction") -> None:
        """Take over what a command decided."""
        for lane_id in tx.begun:
            self._lanes[lane_id] = Lane(loaded=True, cleared=True)
            self._begun.append(lane_id)
        for lane_id in tx.cleared:
            self._lanes[lane_id] = Lane(loaded=True, cleared=True)
            self.cleared[lane_id] = None
            for kind, rows in self.pending.items():
                if kind.lane == lane_id.name:
                    for key in [key for key in rows if key[: kind.depth] == lane_id.key]:
                        del rows[key]
        for kind, of_kind in tx.writes.items():
            self.pending.setdefault(kind, {}).update(of_kind)
            if kind.write_only:
                continue
            for key, value in of_kind.items():
                lane_id = kind.lane_of(key)
                lane = self._lanes[lane_id] = self._lanes.pop(lane_id, Lane())
                if lane_id.name in self._passing:
                    self._passed.append(lane_id)
                lane.records.setdefault(kind, {})[key] = value

    def take_pending(self) -> tuple[dict[LaneId, None], dict[Kind[Any], dict[Key, Any]]]:
        """The lanes to clear and then the records to write, for one commit."""
        self._committing = self.cleared, self.pending
        self.cleared, self.pending = {}, {}
        return self._committing

    def committed(self, keep: int) -> None:
        """What was taken last is durable.

        Closed and deleted records are forgotten, and so are the lanes beyond ``keep`` that were changed longest ago.
        """
        assert not self.pending
        assert not self.cleared
        cleared, writes = self._committing
        for lane_id in [*cleared, *self._begun]:
            self._lanes[lane_id].cleared = False
        self._begun.clear()
        for kind, rows in writes.items():
            for key, value in () if kind.write_only else rows.items():
                if value is None or (kind.is_open is not None and not kind.is_open(value)):
                    self._lanes[kind.lane_of(key)].records[kind].pop(key, None)
        for lane_id in self._passed:
            self._lanes.pop(lane_id, None)
        self._passed.clear()
        for kind, key in self._points:
            lane = self._lanes.get(kind.lane_of(key))
            of_kind = {} if lane is None else lane.records.get(kind, {})
            found = of_kind.get(key)
            if found is None or kind.is_open is None or not kind.is_open(found):
                of_kind.pop(key, None)
        self._points.clear()
        for lane_id in list(islice(self._lanes, max(0, len(self._lanes) - keep))):
            del self._lanes[lane_id]


class Transaction:
    """The overlay of one command: what it reads, and its own changes until they are taken over or dropped.

    Records that :meth:`get` and :meth:`all` return are shared and must not be changed; :meth:`edit` gives a copy.
    """

    def __init__(self, base: Base, time: CommandTime, new_id: Callable[[], str], settings: Settings) -> None:
        self._base = base
        self.time = time
        self.new_id = new_id
        self.settings = settings
        self.follow_ups: list[Any] = []
        self.samples: list[Any] = []
        """What the command counts, of :mod:`lhd.core.measures`."""
        self.passes = 0
        """How often the command has gone over a WfRun's threads, and how many ThreadRuns it has started."""
        self.writes: dict[Kind[Any], dict[Key, Any]] = {}
        self.cleared: dict[LaneId, None] = {}
        self.begun: dict[LaneId, None] = {}
        self._empty: set[LaneId] = set()

    def lookup(self, kind: Kind[T], key: Key) -> T | None:
        """See :class:`Base`."""
        of_kind = self.writes.get(kind)
        if of_kind is not None and key in of_kind:
            return cast("T | None", of_kind[key])
        if self._empty and kind.lane_of(key) in self._empty:
            return None
        return self._base.lookup(kind, key)

    get = lookup

    @property
    def now_ms(self) -> int:
        """The command's time, which everything that it creates is stamped with."""
        return self.time.command_ms

    def scan(self, kind: Kind[T], lane_key: Key) -> dict[Key, T]:
        """See :class:`Base`."""
        found = {} if LaneId(kind.lane, lane_key) in self._empty else self._base.scan(kind, lane_key)
        for key, value in self.writes.get(kind, {}).items():
            if key[: kind.depth] == lane_key:
                if value is None:
                    found.pop(key, None)
                else:
                    found[key] = value
        return found

    def all(self, kind: Kind[T], *lane_key: Any) -> list[T]:
        """The loaded records of one kind in one lane, in the order of their arrival."""
        return list(self.scan(kind, lane_key).values())

    def is_loaded(self, lane: LaneId) -> bool:
        """Whether the lane is in memory."""
        return self._base.is_loaded(lane)

    def need(self, lanes: list[LaneId]) -> None:
        """Ask for several lanes at once, so that a command over many lanes is run again only once."""
        missing = [lane for lane in lanes if not self.is_loaded(lane) and lane not in self._empty]
        if missing:
            raise NotLoaded(missing, [])

    def need_points(self, kind: Kind[Any], keys: list[Key]) -> None:
        """As :meth:`need`, for records that are not loaded with their lane."""
        missing = []
        for key in keys:
            try:
                self.lookup(kind, key)
            except NotLoaded:
                missing.append((kind, key))
        if missing:
            raise NotLoaded([], missing)

    def edit(self, kind: Kind[T], key: Key) -> T:
        """A copy of an existing message that this command may change; the change is kept with the command."""
        of_kind = self.writes.setdefault(kind, {})
        if (own := of_kind.get(key)) is not None:
            return cast("T", own)
        shared = self.lookup(kind, key)
        assert isinstance(shared, Message), f"no {kind.name} {key} to edit"
        copy = type(shared)()
        copy.CopyFrom(shared)
        of_kind[key] = copy
        return cast("T", copy)

    def put(self, kind: Kind[T], key: Key, value: T) -> T:
        """Create or replace a record."""
        self.writes.setdefault(kind, {})[key] = value
        return value

    def delete(self, kind: Kind[Any], key: Key) -> None:
        """Remove a record; removing what does not exist changes nothing."""
        self.writes.setdefault(kind, {})[key] = None

    def send(self, request: Any) -> None:
        """Have a request of the same tenant decided after this command, in the same commit: the way to another lane."""
        self.follow_ups.append(request)

    def clear(self, lane_id: LaneId) -> None:
        """Remove every record of a lane."""
        for kind, of_kind in self.writes.items():
            if kind.lane == lane_id.name:
                for key in [key for key in of_kind if key[: kind.depth] == lane_id.key]:
                    del of_kind[key]
        self.cleared[lane_id] = None
        self._empty.add(lane_id)

    def begin_lane(self, lane_id: LaneId) -> None:
        """Begin a lane of which the store cannot hold anything, since its name has just been drawn."""
        self.begun[lane_id] = None
        self._empty.add(lane_id)

    @contextmanager
    def savepoint(self) -> Iterator["Transaction"]:
        """A nested overlay: taken over when the block ends, dropped when it raises."""
        nested = Transaction(self, self.time, self.new_id, self.settings)
        yield nested
        self.follow_ups += nested.follow_ups
        self.samples += nested.samples
        for lane_id in nested.cleared:
            self.clear(lane_id)
        for lane_id in nested.begun:
            self.begin_lane(lane_id)
        for kind, of_kind in nested.writes.items():
            self.writes.setdefault(kind, {}).update(of_kind)
