"""What routes see of a record: value, key, headers and place; and what cannot be read is a dead letter."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from cloudevents.core.bindings.kafka import KafkaMessage, to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

from tests.kafka.broker import Broker
from tests.kafka.reading import ALL, accepted, deliveries, outcome, places, route
from tests.kafka.shelf import Kind, Shelf, shelf_of
from tests.kafka.topics import Sent, as_json

SECRET = b"nobody-may-see-this"
KINDS = {
    "default": Kind(route=route("body.value", "!has(body.kind) || body.kind != 'other'")),
    "json": Kind(('format = "json"',)),
    "text": Kind(('format = "text"',)),
    "bytes": Kind(('format = "bytes"',)),
    "registry": Kind(('format = "json-registry"',)),
    "cloudevents": Kind(('format = "cloudevents"',)),
    "nulls": Kind(('tombstone = "null"',), route("{'is_null': body == null, 'key': key}")),
    "deadly": Kind(('tombstone = "dead"',)),
    "keys": Kind(route=route("key")),
    "everything": Kind(route=route(ALL)),
}


@pytest.fixture(scope="module")
def shelf(broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    with shelf_of(broker, tmp_path_factory.mktemp("formats"), KINDS) as shelf:
        yield shelf


# Values


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "grüße"]}, [1, 2], "text", 17, True], ids=repr)
def test_json_is_what_it_says(shelf: Shelf, value: Any) -> None:
    assert shelf.accepted("json", as_json(value)) == value


def test_text_is_utf_8(shelf: Shelf) -> None:
    assert shelf.accepted("text", Sent("grüße\n{".encode())) == "grüße\n{"


def test_an_empty_value_is_an_empty_text_and_no_tombstone(shelf: Shelf) -> None:
    assert shelf.accepted("text", Sent(b"")) == ""


def test_bytes_are_the_bytes_themselves(shelf: Shelf) -> None:
    assert shelf.accepted("bytes", Sent(b"\xff\x00{}")) == b"\xff\x00{}"


def test_json_after_the_framing_of_a_registry_is_read_without_asking_it(shelf: Shelf) -> None:
    assert shelf.accepted("registry", Sent(b"\x00\x00\x00\x04\xd2" + b'{"a": 1}')) == {"a": 1}


BAD = {
    "json, cut": ("json", b'{"secret": "' + SECRET + b'"'),
    "json, not UTF-8": ("json", b'"\xff ' + SECRET + b'"'),
    "json, empty": ("json", b""),
    "json, not a number": ("json", b'{"' + SECRET + b'": NaN}'),
    "text, not UTF-8": ("text", SECRET + b"\xff"),
    "registry, other magic": ("registry", b"\x01\x00\x00\x00\x01" + b'"' + SECRET + b'"'),
    "registry, no framing": ("registry", b'"' + SECRET + b'"'),
    "registry, too short": ("registry", b"\x00\x00\x00"),
    "registry, not JSON": ("registry", b"\x00\x00\x00\x00\x01" + SECRET),
    "cloudevents, not JSON": ("cloudevents", SECRET),
    "cloudevents, without an id": (
        "cloudevents",
        json.dumps({"specversion": "1.0", "type": "t", "source": SECRET.decode()}).encode(),
    ),
}


@pytest.mark.parametrize(("name", "value"), BAD.values(), ids=BAD)
def test_a_value_that_cannot_be_read_is_a_dead_letter_whose_reason_holds_nothing_of_it(
    shelf: Shelf, name: str, value: bytes
) -> None:
    headers = [("content-type", b"application/cloudevents+json")] if name == "cloudevents" else []
    reason = shelf.dead(name, Sent(value, headers=headers))
    assert reason
    assert SECRET.decode() not in reason
    assert SECRET.decode() not in shelf.daemon.log.read_text()


def test_what_cannot_be_mapped_or_is_filtered_leaves_the_others_alone(shelf: Shelf) -> None:
    values = ({"value": "before"}, {"valeu": 1}, {"kind": "other"}, {"value": "after"})
    offsets = shelf.put("default", as_json(values[0]), Sent(b"{"), *map(as_json, values[1:]))
    topic = shelf.topics["default"]
    found = [outcome(shelf.daemon, "default", topic, offset) for offset in offsets]
    assert [one.verdict for one in found] == ["accepted", "dead", "dead", "filtered", "accepted"]
    assert "there is no 'value'" in found[2].reason
    assert [accepted(shelf.daemon, "default", topic, offsets[place]) for place in (0, 4)] == ["before", "after"]


# Tombstones


def test_a_tombstone_is_filtered_unless_something_else_is_said(shelf: Shelf) -> None:
    before = deliveries(shelf.daemon, "json", "filtered")
    assert shelf.verdict("json", Sent(None, key=b"k")) == "filtered"
    assert deliveries(shelf.daemon, "json", "filtered") == before + 1


def test_a_tombstone_can_be_a_null_body(shelf: Shelf) -> None:
    assert shelf.accepted("nulls", Sent(None, key=b"k")) == {"is_null": True, "key": "k"}
    assert shelf.accepted("nulls", Sent(b"1", key=b"k")) == {"is_null": False, "key": "k"}


def test_a_tombstone_can_be_a_dead_letter(shelf: Shelf) -> None:
    assert "tombstone" in shelf.dead("deadly", Sent(None, key=b"k"))
    assert shelf.verdict("deadly", as_json(1)) == "accepted"


# Keys, headers, place


@pytest.mark.parametrize("key", [b"order-7", "grüße".encode(), b""], ids=repr)
def test_a_key_of_utf_8_is_text(shelf: Shelf, key: bytes) -> None:
    assert shelf.accepted("keys", as_json({}, key=key)) == key.decode()


def test_another_key_is_bytes(shelf: Shelf) -> None:
    assert shelf.accepted("keys", as_json({}, key=b"\x00\xff")) == b"\x00\xff"


def test_where_there_is_no_key_it_is_null(shelf: Shelf) -> None:
    assert shelf.accepted("keys", as_json({}, key=None)) is None


def test_headers_are_known_in_lower_case_and_values_of_one_name_are_joined(shelf: Shelf) -> None:
    headers = [("X-Kind", b"one"), ("x-kind", "zwölf".encode()), ("Empty", b""), ("Nothing", None)]
    seen = shelf.accepted("everything", as_json({}, headers=headers))["headers"]
    assert seen == {"x-kind": "one, zwölf", "empty": "", "nothing": None}


def test_a_header_that_is_not_utf_8_keeps_no_record_back(shelf: Shelf) -> None:
    seen = shelf.accepted("everything", as_json({"a": 1}, headers=[("raw", b"\xff\xfe"), ("good", b"yes")]))
    assert seen["body"] == {"a": 1}
    assert seen["headers"]["good"] == "yes"


def test_meta_tells_where_the_record_stands_and_its_time(shelf: Shelf) -> None:
    first, second = shelf.put("everything", as_json(1), as_json(2, timestamp_ms=1_700_000_000_123))
    topic = shelf.topics["everything"]
    meta = accepted(shelf.daemon, "everything", topic, second)["meta"]
    wanted = {"topic": topic, "partition": 0, "offset": second, "timestamp": 1_700_000_000_123}
    assert {name: meta[name] for name in wanted} == wanted
    assert second == first + 1


def test_each_record_is_known_by_its_topic_epoch_partition_and_offset(shelf: Shelf) -> None:
    (offset,) = shelf.put("json", as_json("explained"))
    found = outcome(shelf.daemon, "json", shelf.topics["json"], offset)
    result = shelf.daemon.lhd("explain", f"{shelf.topics['json']} 0 0 {offset}", "--json")
    assert [one["delivery_id"] for one in json.loads(result.stdout)["deliveries"]] == [found.delivery_id]
    assert len(set(places(shelf.daemon, "json"))) == len(places(shelf.daemon, "json"))


# CloudEvents

EVENT = CloudEvent(
    {"type": "order.paid", "source": "/shop", "id": "e-1", "subject": "7", "datacontenttype": "application/json"},
    {"order": 7, "by": "grüße"},
)
ATTRIBUTES = {
    "specversion": "1.0",
    "type": "order.paid",
    "source": "/shop",
    "id": "e-1",
    "subject": "7",
    "datacontenttype": "application/json",
}


def sent(message: KafkaMessage, **more: Any) -> Sent:
    return Sent(message.value, headers=list(message.headers.items()), **more)


@pytest.mark.parametrize("write", [to_structured_event, to_binary_event])
def test_a_cloudevent_is_its_attributes_with_its_data_in_both_modes(shelf: Shelf, write: Any) -> None:
    seen = shelf.accepted("cloudevents", sent(write(EVENT)))
    assert {name: seen.get(name) for name in ATTRIBUTES} == ATTRIBUTES
    assert seen["data"] == {"order": 7, "by": "grüße"}


def test_equal_cloudevents_are_two_events_since_a_record_is_known_by_its_place(shelf: Shelf) -> None:
    assert [shelf.verdict("cloudevents", sent(to_binary_event(EVENT))) for _ in range(2)] == ["accepted", "accepted"]


@pytest.mark.parametrize("missing", ["ce_id", "ce_source", "ce_type"])
def test_a_binary_cloudevent_without_what_each_has_is_a_dead_letter(shelf: Shelf, missing: str) -> None:
    message = to_binary_event(EVENT)
    headers = [(name, value) for name, value in message.headers.items() if name != missing]
    assert missing.removeprefix("ce_") in shelf.dead("cloudevents", Sent(message.value, headers=headers))


def test_the_data_of_a_binary_cloudevent_that_is_not_json_is_text(shelf: Shelf) -> None:
    attributes = {"type": "t", "source": "/s", "id": "e-2", "datacontenttype": "text/plain"}
    assert shelf.accepted("cloudevents", sent(to_binary_event(CloudEvent(attributes, "plain"))))["data"] == "plain"
