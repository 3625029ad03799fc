"""Kafka sources of a real daemon: their tables in its configuration, and what became of records."""

import json
import urllib.request
from dataclasses import dataclass
from typing import Any

from littlehorse.model import CorrelatedEventId, ExternalEventDefId, VariableValue

from lhd.cli.admin_client import ask
from tests.cli.live import query
from tests.e2e.process import Daemon, eventually

EVENT = """
[[event]]
name = "record"
correlated = {}
"""
PLACE = "meta.topic + ' ' + string(meta.partition) + ' ' + string(meta.offset)"
"""The correlation key of a record by which tests find what was stored of it."""
ALL = """{'body': body, 'key': key, 'headers': headers, 'meta': meta}"""


def route(content: str = "body", when: str = "true") -> str:
    """A route that stores an event for a record, to be found by the record's place."""
    return f'event = "record"\nkey = "{PLACE}"\nwhen = "{when}"\ncontent = "{content}"'


def source(name: str, address: str, *keys: str, routes: tuple[str, ...] = (route(),)) -> str:
    """The table of a source; ``keys`` and ``routes`` are lines of TOML."""
    head = f'\n[sources.{name}]\nkind = "kafka"\nbrokers = ["{address}"]\n' + "\n".join(keys) + "\n"
    return head + "".join(f"\n[[sources.{name}.routes]]\n{one}\n" for one in routes)


@dataclass(frozen=True)
class Outcome:
    """What became of a record."""

    verdict: str
    reason: str
    delivery_id: str


def outcome(daemon: Daemon, name: str, topic: str, offset: int, partition: int = 0, epoch: int = 0) -> Outcome:
    """What became of a record, as soon as something did."""
    place = f"{topic} {epoch} {partition} {offset}"
    (row,) = eventually(
        f"{place} in {name}",
        lambda: (
            query(
                daemon,
                f"SELECT verdict, reason, delivery_id FROM ledger WHERE source = '{name}' AND sender_id = '{place}'",
            )
            or None
        ),
    )
    return Outcome(*row)


def accepted(daemon: Daemon, name: str, topic: str, offset: int, partition: int = 0) -> Any:
    """The content of the event of a record."""
    found = outcome(daemon, name, topic, offset, partition)
    assert found.verdict == "accepted", found
    return content(daemon, f"{topic} {partition} {offset}")


def content(daemon: Daemon, key: str) -> Any:
    """The content of the event that waits under a key."""
    event = CorrelatedEventId(key=key, external_event_def_id=ExternalEventDefId(name="record"))
    return plain(daemon.stub().GetCorrelatedEvent(event).content)


def plain(value: VariableValue) -> Any:
    """The value in it."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    found: Any = getattr(value, kind)
    return json.loads(found) if kind in ("json_obj", "json_arr") else found


def dead(daemon: Daemon, name: str, topic: str, offset: int, partition: int = 0, epoch: int = 0) -> str:
    """Why a record is a dead letter; it is one that the daemon lists."""
    found = outcome(daemon, name, topic, offset, partition, epoch)
    assert found.verdict == "dead", found
    assert found.delivery_id in {letter["delivery_id"] for letter in letters(daemon, name)}
    return found.reason


def letters(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    """The dead letters of a source."""
    return list(ask(daemon.folder / "data", "/dead", source=name)["letters"])


def places(daemon: Daemon, name: str) -> list[str]:
    """The places of all records of which anything became, in their order."""
    rows = query(daemon, f"SELECT sender_id FROM ledger WHERE source = '{name}'")
    return sorted((place for (place,) in rows), key=lambda place: [part.rjust(9) for part in place.split(" ")])


def status(daemon: Daemon, name: str) -> dict[str, Any]:
    """What ``lhd status`` tells of a source."""
    (found,) = [one for one in ask(daemon.folder / "data", "/status")["sources"] if one["name"] == name]
    return dict(found)


def fault(daemon: Daemon, name: str, *facts: str) -> str:
    """Why a source is faulted, once it is, and for these facts."""

    def look() -> str | None:
        found = status(daemon, name)
        reason = str(found["reason"])
        return reason if found["state"] == "faulted" and all(fact in reason for fact in facts) else None

    return eventually(f"the fault {facts} of {name}, which is {status(daemon, name)}", look)


def runs(daemon: Daemon, name: str) -> None:
    """Wait until a source runs."""
    eventually(f"{name} to run", lambda: status(daemon, name)["state"] == "running" or None)


def metric(daemon: Daemon, name: str, **labels: str) -> float:
    """The value of a sample on the admin port; 0 where there is none."""
    wanted = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "}"
    with urllib.request.urlopen(f"http://127.0.0.1:{daemon.admin_port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(wanted + " ")), 0.0)


def deliveries(daemon: Daemon, name: str, verdict: str) -> float:
    """How many deliveries of a source had this verdict since the daemon started."""
    return metric(daemon, "lhd_source_deliveries_total", source=name, verdict=verdict)


def begun(daemon: Daemon, name: str, *topics: str) -> None:
    """Wait until the store has a position of the first partition of each topic."""
    wanted = {f"{topic}/0" for topic in topics}
    statement = f"SELECT part FROM cursor WHERE source = '{name}'"
    eventually(f"positions of {topics}", lambda: wanted <= {part for (part,) in query(daemon, statement)} or None)
