"""Values with a schema: Avro of a registry or a file, Protobuf with and without a registry's framing."""

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.kafka.broker import Broker
from tests.kafka.reading import accepted, fault, runs
from tests.kafka.schemas import PASSWORD, USER, Registry, avro, descriptors, framed, message
from tests.kafka.shelf import Kind, Shelf, shelf_of
from tests.kafka.topics import Sent

ORDER = {
    "type": "record",
    "name": "Order",
    "namespace": "shop",
    "fields": [
        {"name": "number", "type": "long"},
        {"name": "note", "type": ["null", "string"]},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "ref", "type": {"type": "string", "logicalType": "uuid"}},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "hour", "type": {"type": "int", "logicalType": "time-millis"}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "state", "type": {"type": "enum", "name": "State", "symbols": ["OPEN", "PAID"]}},
        {"name": "lines", "type": {"type": "array", "items": {"type": "map", "values": "double"}}},
    ],
}
VALUE = {
    "number": 7,
    "note": "grüße",
    "price": Decimal("19.90"),
    "ref": UUID("5f0c9b0e-0000-4000-8000-000000000001"),
    "day": date(2024, 2, 29),
    "hour": time(13, 5),
    "at": datetime(2024, 2, 29, 12, 0, 0, 250_000, UTC),
    "state": "PAID",
    "lines": [{"weight": 1.5}],
}
SMALL = {"type": "record", "name": "Small", "fields": [{"name": "only", "type": "string"}]}
PLACE = {"type": "record", "name": "shop.Place", "fields": [{"name": "city", "type": "string"}]}
SALE = {
    "type": "record",
    "name": "shop.Sale",
    "fields": [{"name": "here", "type": "shop.Place"}, {"name": "there", "type": "shop.Place"}],
}
RETURN = {"type": "record", "name": "shop.Return", "fields": [{"name": "to", "type": "shop.Place"}]}
LOOP = {"type": "record", "name": "shop.Outer", "fields": [{"name": "inner", "type": ["null", "shop.Loop"]}]}
REGISTRY = 'registry = {{ url = "{url}", username = "{user}", password = {{ file = "{folder}/registry-password" }} }}'
ENTRY = message("audit.Entry", subject="s-1", amount=2.5, who={"name": "ann"}, tags=["a", "b"])
ENTRY_SEEN = {"subject": "s-1", "amount": 2.5, "who": {"name": "ann"}, "tags": ["a", "b"]}


def kinds(folder: Path, registry: Registry, later: Registry) -> dict[str, Kind]:
    def asks(one: Registry) -> str:
        return REGISTRY.format(url=one.url, user=USER, folder=folder)

    file, entry = f'schema_file = "{folder}/audit.desc"', 'message = "audit.Entry"'
    return {
        "avro": Kind(('format = "avro"', asks(registry))),
        "away": Kind(('format = "avro"', asks(later))),
        "avro-file": Kind(('format = "avro"', f'schema_file = "{folder}/order.avsc"')),
        "protobuf": Kind(('format = "protobuf"', file, entry)),
        "unframed": Kind(('format = "protobuf"', file, entry, "framed = false")),
    }


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    registry = Registry()
    registry.add(1, ORDER)
    registry.add(70_000, SMALL)
    registry.add(2, ["shop.Sale", "shop.Return"], ("shop.Sale", "sale/eu", 3), ("shop.Return", "return", 1))
    registry.add_version("sale/eu", 3, SALE, ("shop.Place", "place", 2))
    registry.add_version("return", 1, RETURN, ("shop.Place", "place", 2))
    registry.add_version("place", 2, PLACE)
    registry.add(3, ["shop.Sale"], ("shop.Sale", "nowhere", 1))
    registry.add(4, LOOP, ("shop.Loop", "loop", 1))
    registry.add_version("loop", 1, LOOP, ("shop.Loop", "loop", 1))
    with registry.up():
        yield registry


@pytest.fixture(scope="module")
def later() -> Registry:
    """A registry that does not answer yet."""
    return Registry()


@pytest.fixture(scope="module")
def shelf(
    broker: Broker, registry: Registry, later: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shelf]:
    folder = tmp_path_factory.mktemp("schemas")
    (folder / "registry-password").write_text(PASSWORD + "\n")
    (folder / "order.avsc").write_text(json.dumps(ORDER))
    (folder / "audit.desc").write_bytes(descriptors().SerializeToString())
    with shelf_of(broker, folder, kinds(folder, registry, later)) as shelf:
        yield shelf


# Avro


def assert_order(seen: Any) -> None:
    same = {name: VALUE[name] for name in ("number", "note", "state", "lines")}
    assert {name: seen[name] for name in same} == same
    assert [seen[name] for name in ("price", "ref", "day")] == ["19.90", str(VALUE["ref"]), "2024-02-29"]
    assert time.fromisoformat(seen["hour"]) == VALUE["hour"]
    assert datetime.fromisoformat(seen["at"]) == VALUE["at"]


def test_avro_is_read_by_the_schema_that_the_registry_has_under_the_values_id(shelf: Shelf) -> None:
    assert_order(shelf.accepted("avro", Sent(framed(1, avro(ORDER, VALUE)))))
    assert shelf.accepted("avro", Sent(framed(70_000, avro(SMALL, {"only": "x"})))) == {"only": "x"}


def test_a_schema_is_asked_for_once(shelf: Shelf, registry: Registry) -> None:
    for _ in range(3):
        assert shelf.verdict("avro", Sent(framed(1, avro(ORDER, VALUE)))) == "accepted"
    assert registry.asked.count("/schemas/ids/1") == 1


def test_a_schema_that_the_registry_does_not_know_makes_a_dead_letter_and_the_others_go_on(shelf: Shelf) -> None:
    good = Sent(framed(70_000, avro(SMALL, {"only": "after"})))
    assert "404040" in shelf.dead("avro", Sent(framed(404_040, avro(SMALL, {"only": "x"}))))
    assert shelf.accepted("avro", good) == {"only": "after"}


def test_schemas_to_which_one_refers_are_read_with_it(shelf: Shelf) -> None:
    whole = [
        {**SALE, "fields": [{"name": "here", "type": PLACE}, {"name": "there", "type": "shop.Place"}]},
        RETURN,
    ]
    sale = {"here": {"city": "Oslo"}, "there": {"city": "Rome"}}
    back = {"to": {"city": "Bern"}}
    assert shelf.accepted("avro", Sent(framed(2, avro(whole, ("shop.Sale", sale))))) == sale
    assert shelf.accepted("avro", Sent(framed(2, avro(whole, ("shop.Return", back))))) == back


@pytest.mark.parametrize(
    ("number", "told"), [(3, "knows no schema shop.Sale, to which schema 3 refers"), (4, "schema 4 of the registry")]
)
def test_a_schema_whose_references_cannot_be_had_makes_a_dead_letter(shelf: Shelf, number: int, told: str) -> None:
    assert told in shelf.dead("avro", Sent(framed(number, b"\x00\x00")))


BAD_AVRO = {
    "cut": framed(1, avro(ORDER, VALUE)[:-3]),
    "too long": framed(70_000, avro(SMALL, {"only": "nobody-may-see-this"}) + b"x"),
    "of another schema": framed(1, avro(SMALL, {"only": "nobody-may-see-this"})),
    "not framed": avro(SMALL, {"only": "nobody-may-see-this"}),
    "nothing but framing": framed(1, b""),
    "empty": b"",
}


@pytest.mark.parametrize("value", BAD_AVRO.values(), ids=BAD_AVRO)
def test_avro_that_is_not_of_its_schema_is_a_dead_letter(shelf: Shelf, value: bytes) -> None:
    assert "nobody-may-see-this" not in shelf.dead("avro", Sent(value))


def test_avro_can_be_unframed_with_a_schema_of_a_file(shelf: Shelf) -> None:
    assert_order(shelf.accepted("avro-file", Sent(avro(ORDER, VALUE))))
    assert shelf.dead("avro-file", Sent(avro(ORDER, VALUE)[:-3]))


def test_while_the_registry_is_away_the_source_is_faulted_and_then_goes_on(shelf: Shelf, later: Registry) -> None:
    offsets = shelf.put("away", *(Sent(framed(5, avro(SMALL, {"only": str(number)}))) for number in range(3)))
    assert "registry" in fault(shelf.daemon, "away")
    later.add(5, SMALL)
    with later.up():
        topic = shelf.topics["away"]
        seen = [accepted(shelf.daemon, "away", topic, offset) for offset in offsets]
        assert seen == [{"only": str(number)} for number in range(3)]
        runs(shelf.daemon, "away")


def test_the_password_of_the_registry_is_told_to_nobody(shelf: Shelf) -> None:
    assert PASSWORD not in shelf.daemon.log.read_text()


# Protobuf


def test_protobuf_without_framing_is_the_message_of_the_file(shelf: Shelf) -> None:
    seen = shelf.accepted("unframed", Sent(ENTRY.SerializeToString()))
    assert {name: seen[name] for name in ENTRY_SEEN} == ENTRY_SEEN


@pytest.mark.parametrize("indexes", [b"\x00", b"\x02\x02"], ids=["first", "second"])
def test_the_framing_of_protobuf_is_taken_away_with_the_indexes_of_its_message(shelf: Shelf, indexes: bytes) -> None:
    seen = shelf.accepted("protobuf", Sent(framed(9, indexes + ENTRY.SerializeToString())))
    assert {name: seen[name] for name in ENTRY_SEEN} == ENTRY_SEEN


BAD_PROTOBUF = {
    "cut": ("unframed", ENTRY.SerializeToString()[:-1]),
    "no Protobuf": ("unframed", b"nobody-may-see-this"),
    "not framed": ("protobuf", ENTRY.SerializeToString()),
    "framing cut": ("protobuf", b"\x00\x00\x00"),
    "without indexes": ("protobuf", framed(9, b"")),
    "indexes cut": ("protobuf", framed(9, b"\x06\x02")),
    "framed and cut": ("protobuf", framed(9, b"\x00" + ENTRY.SerializeToString()[:-1])),
}


@pytest.mark.parametrize(("name", "value"), BAD_PROTOBUF.values(), ids=BAD_PROTOBUF)
def test_protobuf_that_is_not_of_its_message_is_a_dead_letter(shelf: Shelf, name: str, value: bytes) -> None:
    assert "nobody-may-see-this" not in shelf.dead(name, Sent(value))


def test_a_field_that_the_file_does_not_know_keeps_no_record_back(shelf: Shelf) -> None:
    unknown = b"\xfa\x01\x03new"
    seen = shelf.accepted("unframed", Sent(ENTRY.SerializeToString() + unknown))
    assert seen["subject"] == "s-1"
