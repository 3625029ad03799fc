"""Dead letters as operators see them: listed, shown, found again by the id of their delivery."""

import base64
import json
from dataclasses import dataclass
from typing import Any

from lhd.core import kinds
from lhd.core.kinds import DeadLetter
from lhd.intake.explain import iso
from lhd.store import Reader

_LISTED_MAX = 1_000
_COLUMNS = ("delivery_id", "source", "reason", "first_ms", "last_ms", "count", "size")


async def listed(reader: Reader, tenant: str, source: str | None) -> list[dict[str, Any]]:
    """The latest dead letters, of one source or of all, without their bodies."""
    rows = await reader.fetch(
        "SELECT delivery_id, source, reason, first_ms, last_ms, count, length(body) FROM dead_letter "
        "WHERE tenant = ?1 AND (?2 IS NULL OR source = ?2) ORDER BY last_ms DESC LIMIT ?3",
        (tenant, source, _LISTED_MAX),
    )
    return [_dated(dict(zip(_COLUMNS, row, strict=True))) for row in rows]


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A dead letter with whose it is, its identity, and what its sender calls it."""

    source: str
    identity: str
    sender_id: str | None
    letter: DeadLetter


async def find(reader: Reader, tenant: str, delivery_id: str) -> FoundLetter | None:
    """The dead letter of a delivery; None where it is none."""
    rows = await reader.fetch(
        "SELECT dead_letter.source, dead_letter.identity, sender_id FROM dead_letter LEFT JOIN ledger "
        "USING (tenant, delivery_id) WHERE tenant = ? AND delivery_id = ?",
        (tenant, delivery_id),
    )
    if not rows:
        return None
    source, identity, sender_id = rows[0]
    letter = await reader.get(kinds.DEAD_LETTER, (tenant, source, identity))
    return None if letter is None else FoundLetter(source, identity, sender_id, letter)


def shown(source: str, letter: DeadLetter) -> dict[str, Any]:
    """A letter with its body: as text where it is text, else in base64."""
    story = {
        "delivery_id": letter.delivery_id,
        "source": source,
        "reason": letter.reason,
        "first_ms": letter.first_ms,
        "last_ms": letter.last_ms,
        "count": letter.count,
        "size": len(letter.body),
        "is_cut": letter.is_cut,
        "attributes": json.loads(letter.attributes),
    }
    try:
        story["body"] = letter.body.decode()
    except UnicodeDecodeError:
        story["body_base64"] = base64.b64encode(letter.body).decode()
    return _dated(story)


def _dated(story: dict[str, Any]) -> dict[str, Any]:
    for name in ("first", "last"):
        story[f"{name}_at"] = iso(story.pop(f"{name}_ms"))
    return story
