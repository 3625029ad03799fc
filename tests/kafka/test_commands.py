"""``lhd send``, ``lhd try`` and ``lhd dead retry`` with sources of Kafka."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from littlehorse.model import PutExternalEventDefRequest
from littlehorse.workflow import Workflow

from tests.cli.live import live, query, row_counts, run_wf
from tests.e2e.process import Daemon, eventually
from tests.intake.behind import by_run
from tests.kafka.broker import PASSWORD, USER, Broker
from tests.kafka.reading import EVENT, accepted, content, dead, deliveries, outcome, source
from tests.kafka.schemas import framed
from tests.kafka.topics import Sent, as_json, create, new_name, offsets_of, produce

ORDERS = """name = "paid"
when = "body.status == 'paid'"
event = "record"
key = "body.order"
content = "{'order': body.order, 'key': key, 'kind': headers['kind']}"
"""
TO_A_RUN = """event = "approved"
wf_run = "headers['run']"
content = "key + ' ' + body.by + ' ' + string(meta.offset)"
on_unmatched = "dead"
"""
LATER = """event = "defined-later"
wf_run = "'somebody'"
"""
TESTS = """
[[tests]]
source = "orders"
headers = { kind = "k" }
body = { status = "paid", order = "o-1" }
expect = { route = "paid", key = "o-1" }
"""


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    return {kind: new_name(kind) for kind in ("orders", "second", "secure", "retried", "later", "framed")}


@pytest.fixture(scope="module")
def daemon(broker: Broker, names: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("commands")
    create(broker, *names.values())
    (folder / "ca.pem").write_bytes(broker.authority.certificate)
    (folder / "password").write_text(PASSWORD)
    login = f'mechanism = "SCRAM-SHA-256", username = "{USER}", password = {{ file = "{folder}/password" }}'
    secured = (f'tls = {{ ca = "{folder}/ca.pem" }}', f"sasl = {{ {login} }}")

    def reads(*kinds: str) -> str:
        return "topics = [" + ", ".join(f'"{names[kind]}"' for kind in kinds) + "]"

    toml = EVENT
    toml += source("orders", broker.address, reads("orders", "second"), routes=(ORDERS,))
    toml += source("secure", broker.secure_address, reads("secure"), *secured)
    toml += source("retried", broker.address, reads("retried"), routes=(TO_A_RUN,))
    toml += source("later", broker.address, reads("later"), routes=(LATER,))
    toml += source("framed", broker.address, reads("framed"), 'format = "json-registry"', routes=(TO_A_RUN,))
    with live(folder, toml) as daemon:
        daemon.stub().PutWfSpec(Workflow("by-run", by_run).compile())
        yield daemon


def file_of(folder: Path, body: Any) -> str:
    path = folder / "record"
    path.write_bytes(body if isinstance(body, bytes) else json.dumps(body).encode())
    return str(path)


def good(daemon: Daemon, *arguments: str) -> str:
    result = daemon.lhd(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


# send


def test_what_is_sent_is_a_record_of_the_first_topic_and_is_read(
    daemon: Daemon, broker: Broker, names: dict[str, str], tmp_path: Path
) -> None:
    body = {"status": "paid", "order": "sent"}
    before = len(offsets_of(broker, names["orders"]))
    good(daemon, "send", "orders", "--file", file_of(tmp_path, body), "--header", "Kind: of-a-header")
    assert outcome(daemon, "orders", names["orders"], before).verdict == "accepted"
    assert content(daemon, "sent") == {"order": "sent", "key": None, "kind": "of-a-header"}
    assert offsets_of(broker, names["second"]) == []


def test_sending_goes_through_the_security_of_the_source(daemon: Daemon, names: dict[str, str], tmp_path: Path) -> None:
    good(daemon, "send", "secure", "--file", file_of(tmp_path, "in secret"))
    assert accepted(daemon, "secure", names["secure"], 0) == "in secret"


def test_without_brokers_sending_fails_and_tells_why(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    table = source("nowhere", f"127.0.0.1:{daemon.grpc_port}", 'topics = ["t"]', "request_timeout_s = 2")
    daemon.config.write_text(daemon.config.read_text() + EVENT + table)
    result = daemon.lhd("send", "nowhere", "--file", file_of(tmp_path, {}))
    assert result.returncode in (1, 69)
    assert "Traceback" not in result.stderr
    assert "127.0.0.1" in result.stderr


# try


def test_a_file_is_tried_without_changing_anything(
    daemon: Daemon, broker: Broker, names: dict[str, str], tmp_path: Path
) -> None:
    counts, records = row_counts(daemon), offsets_of(broker, names["orders"])
    path = file_of(tmp_path, {"status": "paid", "order": "tried"})
    said = json.loads(good(daemon, "try", "orders", "--file", path, "--header", "Kind: k", "--json"))
    (one,) = said if isinstance(said, list) else [said]
    assert (one["verdict"], one["route"], one["event"]) == ("accepted", "paid", "record")
    assert (one["key"], one["content"]["order"]) == ("tried", "tried")
    assert (row_counts(daemon), offsets_of(broker, names["orders"])) == (counts, records)


@pytest.mark.parametrize(
    ("body", "told"), [({"status": "open"}, "filtered"), ({"status": "paid"}, "dead"), (b"{", "it is not JSON")]
)
def test_a_file_that_would_be_filtered_or_dead_is_told_as_such(
    daemon: Daemon, tmp_path: Path, body: Any, told: str
) -> None:
    result = daemon.lhd("try", "orders", "--file", file_of(tmp_path, body))
    assert told in result.stdout + result.stderr
    assert "Traceback" not in result.stderr


def test_the_last_records_are_tried_with_an_edited_file(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    record = as_json({"status": "paid", "order": "kept"}, key=b"the-key", headers=[("Kind", b"k")])
    (offset,) = produce(broker, names["orders"], [record])
    assert outcome(daemon, "orders", names["orders"], offset).verdict == "accepted"
    before = daemon.config.read_text()
    daemon.config.write_text(before.replace("{'order': body.order,", "{'edited': body.order,"))
    try:
        (said,) = json.loads(good(daemon, "try", "orders", "--last", "1", "--json"))
    finally:
        daemon.config.write_text(before)
    assert said["content"] == {"edited": "kept", "key": "the-key", "kind": "k"}
    assert said["key"] == "kept"


def test_configured_tests_of_a_source_are_run_by_check(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    table = EVENT + source("orders", "127.0.0.1:9092", 'topics = ["orders"]', routes=(ORDERS,))
    daemon.config.write_text(daemon.config.read_text() + table + TESTS)
    good(daemon, "check")
    daemon.config.write_text(daemon.config.read_text().replace('"paid", order', '"open", order'))
    assert daemon.lhd("check").returncode != 0


# dead retry


def letter(daemon: Daemon, name: str, topic: str, offset: int) -> str:
    dead(daemon, name, topic, offset)
    return outcome(daemon, name, topic, offset).delivery_id


def verdict(daemon: Daemon, delivery_id: str) -> str:
    ((found,),) = query(daemon, f"SELECT verdict FROM ledger WHERE delivery_id = '{delivery_id}'")
    return str(found)


@pytest.mark.parametrize(("name", "prefix"), [("retried", b""), ("framed", framed(7, b""))])
def test_a_retry_maps_value_key_headers_and_place_again_and_keeps_the_identity(
    daemon: Daemon, broker: Broker, names: dict[str, str], name: str, prefix: bytes
) -> None:
    run = f"run-of-{name}"
    value = prefix + json.dumps({"by": "ann"}).encode()
    (offset,) = produce(broker, names[name], [Sent(value, key=b"k-1", headers=[("Run", run.encode())])])
    one = letter(daemon, name, names[name], offset)
    assert daemon.lhd("dead", "retry", one).returncode == 1
    run_wf(daemon, "by-run", run)
    good(daemon, "dead", "retry", one)
    assert verdict(daemon, one) == "accepted"
    ((body,),) = query(daemon, f"SELECT body FROM external_event WHERE run = '{run}'")
    assert f"k-1 ann {offset}".encode() in body


def test_after_a_retry_the_record_is_known_by_its_place_and_a_duplicate(
    daemon: Daemon, broker: Broker, names: dict[str, str]
) -> None:
    (offset,) = produce(broker, names["later"], [as_json({"a": 1})])
    one = letter(daemon, "later", names["later"], offset)
    daemon.stub().PutExternalEventDef(PutExternalEventDefRequest(name="defined-later"))
    good(daemon, "dead", "retry", one)
    good(daemon, "source", "reset", "later")
    eventually("the duplicate", lambda: deliveries(daemon, "later", "duplicate") == 1 or None)
    assert verdict(daemon, one) == "accepted"
    assert one in good(daemon, "explain", f"{names['later']} 0 0 {offset}")


def test_a_value_that_cannot_be_read_is_refused_again(daemon: Daemon, broker: Broker, names: dict[str, str]) -> None:
    (offset,) = produce(broker, names["retried"], [Sent(b"{")])
    one = letter(daemon, "retried", names["retried"], offset)
    result = daemon.lhd("dead", "retry", one)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert letter(daemon, "retried", names["retried"], offset) == one
