"""Mistakes in a Kafka source's table are told with file, line and key, before anything is connected to."""

import re
from pathlib import Path

import pytest

from lhd.errors import ConfigurationError
from lhd.sources.registry import Registry
from tests.e2e.process import Daemon
from tests.kafka.schemas import descriptors

HEAD = """\
[[event]]
name = "record"
correlated = {}

[sources.orders]
kind = "kafka"
"""
ROUTES = """
[[sources.orders.routes]]
event = "record"
key = "'k'"
"""
GOOD = ('brokers = ["127.0.0.1:9092"]', 'topics = ["orders"]')
FAR = ('brokers = ["kafka.example.com:9092"]', 'topics = ["orders"]')
LOGIN = 'username = "lhd", password = { file = "secret" }'


def loaded(folder: Path, *keys: str) -> None:
    (folder / "secret").write_text("very secret\n")
    (folder / "garbage").write_bytes(b"\xff\x00garbage")
    (folder / "audit.desc").write_bytes(descriptors().SerializeToString())
    path = folder / "lhd.toml"
    lines = "\n".join(keys).replace('"secret"', f'"{folder}/secret"').replace("FOLDER", str(folder))
    path.write_text(HEAD + lines + "\n" + ROUTES)
    Registry.load().load_configuration(path)


PLAIN, BEARER = (
    f'sasl = {{ mechanism = "PLAIN", {LOGIN} }}',
    'sasl = { mechanism = "OAUTHBEARER", token = { file = "secret" } }',
)
RIGHT = {
    "as little as there can be": GOOD,
    "a pattern": (GOOD[0], 'pattern = "orders-.*"'),
    "a timestamp": (*GOOD, "start = { timestamp = 2026-01-31T00:00:00Z }"),
    "PLAIN in the clear on loopback": (*GOOD, PLAIN),
    "PLAIN in the clear where that is asked for": (*FAR, PLAIN, "insecure = true"),
    "PLAIN over TLS": (*FAR, PLAIN, "tls = {}"),
    "SCRAM in the clear": (*FAR, PLAIN.replace("PLAIN", "SCRAM-SHA-512")),
    "a token of a command": (*FAR, "tls = {}", 'sasl = { mechanism = "OAUTHBEARER", token_command = ["/bin/true"] }'),
    "a budget of a day": (*GOOD, 'poison = { budget = "0.5% / 1h", allowance = 0 }'),
    "Protobuf": (*GOOD, 'format = "protobuf"', 'schema_file = "FOLDER/audit.desc"', 'message = "audit.Entry"'),
}


@pytest.mark.parametrize("keys", RIGHT.values(), ids=RIGHT)
def test_what_the_documentation_allows_is_taken(tmp_path: Path, keys: tuple[str, ...]) -> None:
    loaded(tmp_path, *keys)


WRONG = {
    "both topics and pattern": ((*GOOD, 'pattern = "a.*"'), ": .*topics.*pattern"),
    "neither topics nor pattern": (GOOD[:1], ": .*topics.*pattern"),
    "no topic": ((GOOD[0], "topics = []"), ": .*topics.*pattern"),
    "a topic twice": ((GOOD[0], 'topics = ["a", "a"]'), ": a topic is named twice"),
    "no broker": (("brokers = []", GOOD[1]), r"\.brokers"),
    "a broker without a port": (('brokers = ["127.0.0.1"]', GOOD[1]), r"\.brokers"),
    "a pattern that is no regular expression": ((GOOD[0], 'pattern = "orders-("'), r"\.pattern"),
    "an unknown start": ((*GOOD, 'start = "newest"'), r"\.start"),
    "an unknown mode": ((*GOOD, 'mode = "alone"'), r"\.mode"),
    "an unknown format": ((*GOOD, 'format = "jsonn"'), r"\.format"),
    "an unknown tombstone": ((*GOOD, 'tombstone = "keep"'), r"\.tombstone"),
    "an unknown on_gap": ((*GOOD, 'on_gap = "skip"'), r"\.on_gap"),
    "a budget without a time": ((*GOOD, 'poison = { budget = "1%" }'), r"\.poison.budget"),
    "a budget that is no share": ((*GOOD, 'poison = { budget = "7 / 10m" }'), r"\.poison.budget"),
    "a budget of more than all": ((*GOOD, 'poison = { budget = "101% / 10m" }'), r"\.poison.budget"),
    "an allowance below zero": ((*GOOD, "poison = { allowance = -1 }"), r"\.poison.allowance"),
    "no records in a transaction": ((*GOOD, "batch_records_max = 0"), r"\.batch_records_max"),
    "no pending bytes": ((*GOOD, "max_pending_bytes = 0"), r"\.max_pending_bytes"),
    "Avro without registry or file": ((*GOOD, 'format = "avro"'), ": .*registry.*schema_file"),
    "Avro with both": (
        (*GOOD, 'format = "avro"', 'registry = { url = "http://127.0.0.1:1" }', 'schema_file = "FOLDER/secret"'),
        ": .*registry.*schema_file",
    ),
    "Avro with a file that is no schema": (
        (*GOOD, 'format = "avro"', 'schema_file = "FOLDER/garbage"'),
        r"\.schema_file",
    ),
    "Protobuf without a file": ((*GOOD, 'format = "protobuf"', 'message = "a.B"'), ": .*schema_file"),
    "Protobuf without a message": ((*GOOD, 'format = "protobuf"', 'schema_file = "FOLDER/audit.desc"'), ": .*message"),
    "Protobuf of an unknown message": (
        (*GOOD, 'format = "protobuf"', 'schema_file = "FOLDER/audit.desc"', 'message = "audit.Entri"'),
        r"\.message",
    ),
    "Protobuf of a file that is not there": (
        (*GOOD, 'format = "protobuf"', 'schema_file = "FOLDER/none"', 'message = "audit.Entry"'),
        r"\.schema_file",
    ),
    "an authority that cannot be read": ((*FAR, 'tls = { ca = "FOLDER/none.pem" }'), r"\.tls.ca"),
    "an authority that is none": ((*FAR, 'tls = { ca = "FOLDER/garbage" }'), r"\.tls.ca"),
    "a certificate without its key": ((*FAR, 'tls = { cert = "FOLDER/secret" }'), r"\.tls.key|\.tls.cert|\.tls"),
    "PLAIN in the clear": ((*FAR, PLAIN), ": .*in the clear"),
    "a token in the clear": ((*FAR, BEARER), ": .*in the clear"),
    "an unknown mechanism": ((*FAR, PLAIN.replace("PLAIN", "GSSAPI")), r"\.sasl.mechanism"),
    "SCRAM without a password": (
        (*FAR, 'sasl = { mechanism = "SCRAM-SHA-512", username = "u" }'),
        r"\.sasl.password|\.sasl",
    ),
    "SCRAM without a user": (
        (*FAR, 'sasl = { mechanism = "SCRAM-SHA-512", password = { file = "secret" } }'),
        r"\.sasl.username|\.sasl",
    ),
    "a bearer without a token": ((*FAR, "tls = {}", 'sasl = { mechanism = "OAUTHBEARER" }'), r"\.sasl.token|\.sasl"),
    "a password that is not there": (
        (*FAR, 'sasl = { mechanism = "SCRAM-SHA-512", username = "u", password = { file = "FOLDER/none" } }'),
        r"\.sasl.password",
    ),
    "a key with a slip": ((*GOOD, "batch_record_max = 5"), r"\.batch_record_max"),
}


@pytest.mark.parametrize(("keys", "told"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_with_file_line_and_key_and_no_secret(
    tmp_path: Path, keys: tuple[str, ...], told: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        loaded(tmp_path, *keys)
    place = rf"{re.escape(str(tmp_path / 'lhd.toml'))}:\d+: sources\.orders"
    what = told if told.startswith(":") else rf"({told})(\[\d+\])?: "
    assert [one for one in refused.value.findings if not re.match(place + what, one)] == []
    assert "very secret" not in str(refused.value)


def test_check_tells_all_of_them_at_once(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    both = HEAD.replace("orders", "a") + 'brokers = ["x"]\ntopics = ["t"]\n'
    daemon.config.write_text(both + '[sources.b]\nkind = "kafka"\nbrokers = ["h:1"]\npattern = "("\n')
    result = daemon.lhd("check")
    assert result.returncode in (1, 78)
    said = result.stdout + result.stderr
    assert f"{daemon.config}:7: sources.a.brokers" in said
    assert f"{daemon.config}:12: sources.b.pattern" in said
