"""What a table of one kind of record is: its statements, and how a record becomes a row and a row a record."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.message import Message

from lhd.core.records import Key, Kind


@dataclass(frozen=True)
class Table:
    """One kind's table. ``encode`` gives the values of ``columns``; ``decode`` reads those of ``loaded``."""

    kind: Kind[Any]
    key: tuple[str, ...]
    columns: tuple[str, ...]
    encode: Callable[[Key, Any], Sequence[Any]]
    loaded: tuple[str, ...]
    decode: Callable[[Key, Sequence[Any]], Any]
    arrival: str = "0"
    holds_messages: bool = False
    """Whether the columns come from a message alone, whose numbers and texts always fit a row."""

    @property
    def name(self) -> str:
        """Tables are called like their kinds."""
        return self.kind.name

    @property
    def lane_columns(self) -> tuple[str, ...]:
        """The columns that name the lane."""
        return self.key[: self.kind.depth]

    @property
    def upsert(self) -> str:
        """The statement that creates or replaces a row."""
        columns = self.key + self.columns
        marks = ", ".join("?" * len(columns))
        changes = ", ".join(f"{column} = excluded.{column}" for column in self.columns)
        conflict = f"DO UPDATE SET {changes}" if changes else "DO NOTHING"
        return (
            f"INSERT INTO {self.name} ({', '.join(columns)}) VALUES ({marks}) "
            f"ON CONFLICT ({', '.join(self.key)}) {conflict}"
        )

    def row(self, key: Key, value: Any) -> tuple[Any, ...]:
        """The parameters of :attr:`upsert`."""
        return (*self.key_row(key), *self.encode(key, value))

    def key_row(self, key: Key) -> tuple[Any, ...]:
        """The parameters of :attr:`delete`."""
        return key

    @property
    def delete(self) -> str:
        """The statement that removes a row."""
        return f"DELETE FROM {self.name} WHERE {self._equals(self.key)}"

    @property
    def delete_lane(self) -> str:
        """The statement that removes every row of a lane."""
        return f"DELETE FROM {self.name} WHERE {self._equals(self.lane_columns)}"

    @property
    def select(self) -> str:
        """The statement that reads one row by its key."""
        return f"SELECT {', '.join(self.loaded)} FROM {self.name} WHERE {self._equals(self.key)}"

    def _equals(self, columns: tuple[str, ...]) -> str:
        return " AND ".join(f"{column} = ?" for column in columns)


class TimerTable(Table):
    """Timers, whose target is JSON text in a row."""

    def key_row(self, key: Key) -> tuple[Any, ...]:
        """See :class:`Table`."""
        return (*key[:3], json.dumps(key[3]))


class OutcomeTable(Table):
    """Outcomes, which are no rows of their own but move a row of the ledger."""

    @property
    def upsert(self) -> str:
        """An outcome moves once, from waiting; the last parameters are those of a Moved."""
        return (
            "UPDATE ledger SET outcome = ?3, outcome_ms = ?4, run = coalesce(run, ?5), guid = coalesce(guid, ?6) "
            "WHERE tenant = ?1 AND delivery_id = ?2 AND outcome = 'waiting'"
        )

    @property
    def delete(self) -> str:
        """A move that is taken back before it was made: there is nothing to do."""
        return "DELETE FROM ledger WHERE 0 AND tenant = ?1 AND delivery_id = ?2 AND outcome = ?3"


def serialise(message: Message) -> bytes:
    """The message, always in the same bytes."""
    return message.SerializeToString(deterministic=True)


def body_table(kind: Kind[Any], message: type[Message], *key: str) -> Table:
    """A table that holds messages by their keys."""
    return Table(
        kind,
        key,
        ("body",),
        lambda _, value: (serialise(value),),
        ("body",),
        lambda _, row: message.FromString(row[0]),
        holds_messages=True,
    )


def sought_table(
    kind: Kind[Any], message: type[Message], key: tuple[str, ...], columns: dict[str, Callable[[Any], Any]]
) -> Table:
    """A table whose rows can be sought by ``columns``, each of which is computed from the message."""
    return replace(
        body_table(kind, message, *key),
        columns=(*columns, "body"),
        encode=lambda _, value: (*(compute(value) for compute in columns.values()), serialise(value)),
    )


def open_column(kind: Kind[Any]) -> dict[str, Callable[[Any], Any]]:
    """The column that tells which records are loaded with their lane."""
    assert kind.is_open is not None
    return {"open": kind.is_open}
