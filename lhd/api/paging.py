"""Pages: limits, opaque bookmarks and the one query that both lists and searches are made of (api.md 9.1)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from google.protobuf.timestamp_pb2 import Timestamp

from lhd.core.ids import milliseconds
from lhd.core.kinds import storable_ms
from lhd.core.values import INT_MAX, INT_MIN
from lhd.errors import invalid_argument
from lhd.store import Reader

DEFAULT_LIMIT = 100
LIMIT_MAX = 10_000
_GREATEST = "\U0010ffff"


class PageRequest(Protocol):
    """The paging fields of every list and search request."""

    bookmark: bytes
    limit: int

    def HasField(self, name: Any, /) -> bool:  # noqa: N802 - protobuf's name
        """Whether a field is set."""
        ...


@dataclass(slots=True)
class Query:
    """Rows of one table in the order of ``order``, columns that tell any two rows apart."""

    table: str
    columns: Sequence[str]
    order: Sequence[str]
    conditions: list[str] = field(default_factory=list)
    parameters: list[Any] = field(default_factory=list)

    def where(self, condition: str, *parameters: Any) -> None:
        """Let only rows through that meet this condition, too."""
        self.conditions.append(condition)
        self.parameters.extend(parameters)


async def page(reader: Reader, query: Query, request: PageRequest) -> tuple[list[tuple[Any, ...]], bytes | None]:
    """The rows of one page, and the bookmark of the next one if there is one.

    Pages go on after the last row that was seen, so what is written meanwhile moves no row across a page border.
    Raises Rejection for a negative limit or a bookmark that is none.
    """
    limit = _limit(request)
    places = ", ".join(query.order)
    if request.HasField("bookmark"):
        last = _last_seen(request.bookmark, len(query.order))
        query.where(f"({places}) > ({', '.join('?' * len(last))})", *last)
    condition = " AND ".join(query.conditions) or "1"
    selected = ", ".join([*query.order, *query.columns])
    statement = f"SELECT {selected} FROM {query.table} WHERE {condition} ORDER BY {places} LIMIT ?"
    rows = await reader.fetch(statement, [*query.parameters, limit + 1])
    bookmark = orjson.dumps(rows[limit - 1][: len(query.order)]) if len(rows) > limit else None
    return [row[len(query.order) :] for row in rows[:limit]], bookmark


def _limit(request: PageRequest) -> int:
    if request.limit < 0:
        raise invalid_argument(f"limit {request.limit} is negative")
    return min(request.limit or DEFAULT_LIMIT, LIMIT_MAX)


def _last_seen(bookmark: bytes, length: int) -> list[Any]:
    try:
        last = orjson.loads(bookmark)
    except orjson.JSONDecodeError as error:
        raise invalid_argument("the bookmark is not one that this search gave") from error
    if not isinstance(last, list) or len(last) != length or not all(map(_is_place, last)):
        raise invalid_argument("the bookmark is not one that this search gave")
    return last


def _is_place(part: Any) -> bool:
    return isinstance(part, str) or (type(part) is int and INT_MIN <= part <= INT_MAX)


def prefix_range(query: Query, column: str, prefix: str) -> None:
    """Let only rows through whose column begins with ``prefix``, in a way that an index can serve."""
    if prefix:
        query.where(f"{column} >= ? AND {column} < ?", prefix, prefix + _GREATEST)


def between(query: Query, column: str, earliest: Timestamp, latest: Timestamp) -> None:
    """Let only rows through whose time is within these, which are part of it; one that is zero sets no bound."""
    for comparison, stamp in ((">=", earliest), ("<=", latest)):
        if milliseconds(stamp):
            query.where(f"{column} {comparison} ?", storable_ms(milliseconds(stamp)))
