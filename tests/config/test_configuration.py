"""The configuration file: every mistake is found at once and told with file, line, key, cause and nearest name."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lhd.config import Configuration
from lhd.errors import ConfigurationError
from lhd.sources.registry import Registry
from lhd.toml_document import key_lines

SOURCE = """\
[sources.trusted]
kind = "webhook"
path = "/hooks/trusted"
verify = { scheme = "none" }
"""
ROUTE = """
[[sources.trusted.routes]]
event = "happened"
key = "body.key"
"""


def load(folder: Path, toml: str) -> Configuration:
    path = folder / "lhd.toml"
    path.write_text(toml, encoding="utf-8")
    return Registry.load().load_configuration(path)[0]


def findings(folder: Path, toml: str) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        load(folder, toml)
    return refused.value.findings


def finding(folder: Path, toml: str) -> str:
    (one,) = findings(folder, toml)
    return one


def line_of(toml: str, text: str) -> int:
    (number,) = [number for number, line in enumerate(toml.splitlines(), start=1) if text in line]
    return number


# What is right


def test_without_a_file_every_key_has_its_default_and_there_are_no_sources() -> None:
    configuration, sources = Registry.load().load_configuration(None)
    assert configuration == Configuration()
    assert sources == []
    assert configuration.daemon.data_dir == "./lhd-data"
    assert configuration.grpc.listen == "127.0.0.1:2023"
    assert configuration.http.listen == "127.0.0.1:8077"
    assert configuration.http.admin_listen == "127.0.0.1:8078"
    assert configuration.daemon.shutdown_grace_s == 20
    assert configuration.daemon.dedupe_days == 14


def test_an_empty_file_is_as_none(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Configuration()


def test_seconds_and_days_may_be_whole_or_broken(tmp_path: Path) -> None:
    daemon = load(tmp_path, "[daemon]\nshutdown_grace_s = 0.5\ndedupe_days = 2\n").daemon
    assert (daemon.shutdown_grace_s, daemon.dedupe_days) == (0.5, 2)


def test_a_correlated_event_is_deleted_after_the_first_correlation_unless_set(tmp_path: Path) -> None:
    events = load(tmp_path, '[[event]]\nname = "a"\ncorrelated = {}\n[[event]]\nname = "b"\n').event
    assert events[0].request().correlated_event_config.delete_after_first_correlation
    assert not events[1].request().HasField("correlated_event_config")


# Unknown keys

UNKNOWN = [
    pytest.param("[demon]\n", "demon", "daemon", id="top level"),
    pytest.param('[daemon]\ndata_dirr = "x"\n', "daemon.data_dirr", "data_dir", id="table"),
    pytest.param("[grpc]\n\ninsecur = true\n", "grpc.insecur", "insecure", id="after an empty line"),
    pytest.param(
        '[[event]]\nname = "a"\n\n[[event]]\nname = "b"\ntipe = "STR"\n', "event[1].tipe", "type", id="second event"
    ),
    pytest.param(
        '[[event]]\nname = "a"\ncorrelated = { tttl_s = 1 }\n', "event[0].correlated.tttl_s", "ttl_s", id="inline table"
    ),
    pytest.param(
        SOURCE + "body_byte_max = 1\n", "sources.trusted.body_byte_max", "body_bytes_max", id="source's table"
    ),
    pytest.param(
        SOURCE.replace('"none"', '"none", id_heeder = "x"'),
        "sources.trusted.verify.id_heeder",
        "id_header",
        id="nested verify",
    ),
    pytest.param(
        SOURCE.replace("verify = { ", "[sources.trusted.verify]\n").replace(" }", "\nid_heeder = 'x'"),
        "sources.trusted.verify.id_heeder",
        "id_header",
        id="verify as a table",
    ),
    pytest.param(
        SOURCE + ROUTE + ROUTE + 'conten = "body"\n', "sources.trusted.routes[1].conten", "content", id="second route"
    ),
]


@pytest.mark.parametrize(("toml", "key", "nearest"), UNKNOWN)
def test_an_unknown_key_is_told_with_file_line_key_and_the_nearest_valid_one(
    tmp_path: Path, toml: str, key: str, nearest: str
) -> None:
    line = line_of(toml, re.split(r"\W+", key)[-1])
    told = finding(tmp_path, toml)
    assert told.startswith(f"{tmp_path / 'lhd.toml'}:{line}: ")
    assert f" {key}: " in told
    assert f"'{nearest}'" in told


def test_an_unknown_key_that_is_near_to_none_is_told_with_all_valid_ones(tmp_path: Path) -> None:
    told = finding(tmp_path, "[log]\nzzzzzzzz = 1\n")
    assert "level" in told
    assert "format" in told


def test_an_unknown_key_of_a_secret_is_found_on_its_line(tmp_path: Path) -> None:
    toml = SOURCE.replace(
        '{ scheme = "none" }', '{ scheme = "github", secrets = [\n  { env = "A" },\n  { enw = "B" },\n] }'
    )
    told = findings(tmp_path, toml)
    assert any("'env'" in one and "secrets[1].enw" in one for one in told)


def test_an_unknown_scheme_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    told = finding(tmp_path, SOURCE.replace('"none"', '"gitub"'))
    assert "'github'" in told
    assert told.startswith(f"{tmp_path / 'lhd.toml'}:4: ")


def test_an_unknown_kind_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    told = finding(tmp_path, SOURCE.replace('"webhook"', '"webhok"'))
    assert told.startswith(f"{tmp_path / 'lhd.toml'}:2: sources.trusted.kind: ")
    assert "'webhook'" in told


def test_a_source_without_a_kind_is_told_with_all_kinds(tmp_path: Path) -> None:
    told = finding(tmp_path, '[sources.trusted]\npath = "/x"\n')
    assert "sources.trusted.kind" in told
    assert "webhook" in told


@pytest.mark.parametrize(
    ("toml", "key"),
    [
        (SOURCE.replace('path = "/hooks/trusted"\n', ""), "sources.trusted.path"),
        (SOURCE.replace('verify = { scheme = "none" }\n', ""), "sources.trusted.verify"),
        (SOURCE + ROUTE.replace('event = "happened"\n', ""), "sources.trusted.routes[0]"),
        ('[[event]]\ntype = "STR"\n', "event[0].name"),
    ],
)
def test_a_missing_key_is_named(tmp_path: Path, toml: str, key: str) -> None:
    assert f" {key}: " in finding(tmp_path, toml)


# Wrong values

WRONG = [
    ('[daemon]\nshutdown_grace_s = "20"\n', "daemon.shutdown_grace_s"),
    ("[daemon]\nshutdown_grace_s = -1\n", "daemon.shutdown_grace_s"),
    ("[daemon]\ndata_dir = 5\n", "daemon.data_dir"),
    ("[daemon]\ndedupe_days = 0\n", "daemon.dedupe_days"),
    ("[daemon]\ndedupe_days = nan\n", "daemon.dedupe_days"),
    ("[daemon]\ndedupe_days = inf\n", "daemon.dedupe_days"),
    ("[daemon]\ndedupe_days = 1e300\n", "daemon.dedupe_days"),
    ("[daemon]\nledger_days = inf\n", "daemon.ledger_days"),
    ("[daemon]\nledger_days = 1e300\n", "daemon.ledger_days"),
    ("[daemon]\nshutdown_grace_s = nan\n", "daemon.shutdown_grace_s"),
    ("[limits]\ninbox_commands_max = 4096.0\n", "limits.inbox_commands_max"),
    ("[limits]\ninbox_commands_max = true\n", "limits.inbox_commands_max"),
    ("[limits]\ninbox_commands_max = 0\n", "limits.inbox_commands_max"),
    ('[grpc]\ninsecure = "yes"\n', "grpc.insecure"),
    ("[grpc]\nlisten = 2023\n", "grpc.listen"),
    ('[grpc]\nlisten = "2023"\n', "grpc.listen"),
    ('[grpc]\nlisten = ":2023"\n', "grpc.listen"),
    ('[grpc]\nlisten = "127.0.0.1:65536"\n', "grpc.listen"),
    ('[grpc]\nadvertise = "host"\n', "grpc.advertise"),
    ('[log]\nlevel = "INFO"\n', "log.level"),
    ('[[event]]\nname = "not a name"\n', "event[0].name"),
    ('[[event]]\nname = "a"\ntype = "STRING"\n', "event[0].type"),
    ('[[event]]\nname = "a"\ncorrelated = { ttl_s = 0 }\n', "event[0].correlated.ttl_s"),
    ('[[event]]\nname = "a"\ncorrelated = { ttl_s = 99999999999999999999 }\n', "event[0].correlated.ttl_s"),
    ('[[event]]\nname = "a"\ncorrelated = true\n', "event[0].correlated"),
    ("daemon = 5\n", "daemon"),
    ('event = "a"\n', "event"),
    ("sources = 5\n", "sources"),
    ("[sources]\ntrusted = 5\n", "sources.trusted"),
    (SOURCE.replace('"/hooks/trusted"', '"hooks"'), "sources.trusted.path"),
    (SOURCE + 'tenant = "1st"\n', "sources.trusted.tenant"),
    (SOURCE + "body_timeout_s = nan\n", "sources.trusted.body_timeout_s"),
    (SOURCE + ROUTE.replace('"body.key"', "5"), "sources.trusted.routes[0].key"),
    (SOURCE + ROUTE.replace('"body.key"', '"body."'), "sources.trusted.routes[0].key"),
    (SOURCE + ROUTE + "thread = -1\n", "sources.trusted.routes[0].thread"),
]


@pytest.mark.parametrize(("toml", "key"), WRONG)
def test_a_wrong_value_is_told_with_its_line_and_key(tmp_path: Path, toml: str, key: str) -> None:
    told = findings(tmp_path, toml)
    line = line_of(toml, toml.splitlines()[-1]) if not toml.startswith(SOURCE[:20]) else None
    assert any(f" {key}: " in one for one in told), told
    assert all(one.startswith(f"{tmp_path / 'lhd.toml'}:{line or ''}") for one in told), told


@pytest.mark.parametrize(
    "targets",
    [
        "",
        'key = "body.k"\nwf_run = "body.r"\n',
        'key = "body.k"\nthread = 0\n',
        'wf_run = "body.r"\non_same_key = "queue"\n',
    ],
)
def test_a_route_has_exactly_one_target(tmp_path: Path, targets: str) -> None:
    toml = SOURCE + '[[sources.trusted.routes]]\nevent = "happened"\n' + targets
    told = finding(tmp_path, toml)
    assert told.startswith(f"{tmp_path / 'lhd.toml'}:5: sources.trusted.routes[0]: ")


def test_an_event_defined_twice_is_refused_by_name_on_the_line_of_the_second(tmp_path: Path) -> None:
    told = finding(tmp_path, '[[event]]\nname = "a"\n[[event]]\nname = "b"\n[[event]]\nname = "a"\n')
    assert "'a'" in told
    assert re.match(r".*lhd\.toml:[56]: ", told)


def test_two_sources_with_one_path_are_refused(tmp_path: Path) -> None:
    told = findings(tmp_path, SOURCE + SOURCE.replace("sources.trusted", "sources.other"))
    assert any("path" in one and "/hooks/trusted" in one for one in told)


# What is no TOML


@pytest.mark.parametrize(
    ("toml", "line"),
    [
        ("[daemon]\ndata_dir = \n", 2),
        ("[daemon\n", 1),
        ('a = "open\n', 1),
        ("[a]\n[b]\n[a]\n", 3),
        ("a = 1\na = 2\n", 2),
    ],
)
def test_a_syntax_error_is_told_with_file_and_line(tmp_path: Path, toml: str, line: int) -> None:
    told = finding(tmp_path, toml)
    assert told.startswith(f"{tmp_path / 'lhd.toml'}")
    assert re.search(rf"\b(line {line}\b|toml:{line}:)", told)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigurationError, match=re.escape(str(path))):
            Registry.load().load_configuration(path)


def test_a_file_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "lhd.toml"
    path.write_bytes(b"# \xff\n")
    with pytest.raises(ConfigurationError, match=r"lhd\.toml.*UTF-8"):
        Registry.load().load_configuration(path)


# Beyond loopback

BEYOND = ["0.0.0.0:2023", "[::]:2023", "192.0.2.1:2023", "lhd.example.com:2023", "127.0.0.1.example.com:2023"]
LISTENERS = [("grpc", "listen"), ("http", "admin_listen")]


@pytest.mark.parametrize(("table", "key"), LISTENERS)
@pytest.mark.parametrize("address", BEYOND)
def test_a_listener_beyond_loopback_is_refused_with_its_line_and_the_way_out(
    tmp_path: Path, table: str, key: str, address: str
) -> None:
    told = finding(tmp_path, f'[log]\nlevel = "info"\n\n[{table}]\n{key} = "{address}"\n')
    assert f"{table}.{key}" in told
    assert "insecure = true" in told
    assert told.startswith(f"{tmp_path / 'lhd.toml'}:5: ")


@pytest.mark.parametrize(("table", "key"), LISTENERS)
@pytest.mark.parametrize("address", BEYOND)
def test_a_listener_beyond_loopback_is_allowed_where_insecure_is_true(
    tmp_path: Path, table: str, key: str, address: str
) -> None:
    load(tmp_path, f'[{table}]\n{key} = "{address}"\ninsecure = true\n')


@pytest.mark.parametrize(("table", "key"), LISTENERS)
@pytest.mark.parametrize("address", ["127.0.0.1:0", "127.1.2.3:1", "localhost:2023", "[::1]:2023"])
def test_loopback_is_allowed(tmp_path: Path, table: str, key: str, address: str) -> None:
    load(tmp_path, f'[{table}]\n{key} = "{address}"\n')


def test_insecure_of_one_table_does_not_stand_for_the_other(tmp_path: Path) -> None:
    toml = '[grpc]\ninsecure = true\n[http]\nadmin_listen = "0.0.0.0:1"\n'
    assert "http.admin_listen" in finding(tmp_path, toml)


# Several mistakes


def told_lines(folder: Path, toml: str) -> set[int]:
    return {int(one.removeprefix(f"{folder / 'lhd.toml'}:").partition(":")[0]) for one in findings(folder, toml)}


def test_mistakes_in_several_tables_are_told_at_once(tmp_path: Path) -> None:
    toml = (
        '[daemon]\ndata_dirr = "x"\nshutdown_grace_s = "x"\n[limits]\ninbox_commands_max = 0\n[[event]]\nname = "?"\n'
    )
    assert told_lines(tmp_path, toml) == {2, 3, 5, 7}


def test_mistakes_in_several_sources_are_told_at_once(tmp_path: Path) -> None:
    second = SOURCE.replace("trusted", "second").replace("path", "paht")
    assert {1, 5} & told_lines(tmp_path, SOURCE.replace("kind", "kint") + second) == {1, 5}


def test_mistakes_of_the_daemon_and_of_a_source_are_told_at_once(tmp_path: Path) -> None:
    assert told_lines(tmp_path, SOURCE.replace("/hooks", "hooks") + "[log]\nlevel = 5\n") == {3, 6}


def test_mistakes_in_several_expressions_are_told_at_once(tmp_path: Path) -> None:
    route = ROUTE.replace("body.key", "payload.key") + 'when = "body."\n'
    assert told_lines(tmp_path, SOURCE + route + ROUTE + 'content = "1 +"\n') == {8, 9, 14}


def test_every_secret_that_cannot_be_read_is_told_at_once(tmp_path: Path) -> None:
    toml = SOURCE.replace(
        '{ scheme = "none" }',
        '{ scheme = "github", secrets = [{ env = "UNSET_ONE" }, { file = "/no/such/file" }] }',
    )
    told = "\n".join(findings(tmp_path, toml))
    assert "UNSET_ONE" in told
    assert "/no/such/file" in told


def test_both_listeners_beyond_loopback_are_told_at_once(tmp_path: Path) -> None:
    told = "\n".join(findings(tmp_path, '[grpc]\nlisten = "0.0.0.0:1"\n[http]\nadmin_listen = "0.0.0.0:2"\n'))
    assert "grpc.listen" in told
    assert "http.admin_listen" in told


def test_a_wrong_value_elsewhere_does_not_hide_a_listener_beyond_loopback(tmp_path: Path) -> None:
    told = "\n".join(findings(tmp_path, '[grpc]\nlisten = "0.0.0.0:1"\n[log]\nlevel = 5\n'))
    assert "insecure = true" in told
    assert "log.level" in told


# Lines

bare = st.text(alphabet="abc_-7", min_size=1, max_size=4)
keys = bare | st.sampled_from(['"a.b"', "'a b'", '"x = 1"', "'#'", '"[t]"'])
comments = st.sampled_from(["", "", "  # a = 1", " # [t]", " # 'open", " # \u2028x = 1", ' # """'])
basic = st.sampled_from(
    ['"plain"', '"a = 1"', '"[t]"', '"# no comment"', '"q \\" = 1"', "'[a'", "'\"\"'", '"\\\\"', '"\x85"']
)
lookalikes = st.lists(
    st.sampled_from(
        ["a = 1", "[t]", "[[t]]", "# no comment", "]", "}", "'''", 'x = "', "  b = [", "", '\\"""', '""', "\u2028c = 1"]
    ),
    max_size=4,
)
multi_line_basic = lookalikes.map(lambda lines: '"""' + "\n".join(["", *lines, '"""']))
multi_line_literal = lookalikes.map(
    lambda lines: "'''" + "\n".join(["", *(line for line in lines if "'''" not in line), "'''"])
)
scalars = st.sampled_from(
    ["1", "true", "-1.5e3", "1979-05-27T07:32:00Z", "[]", "{}", "[[1], [2]]", "{ a = 1, b = [2] }"]
)
one_line = scalars | basic
multi_line_arrays = st.lists(
    st.tuples(one_line | multi_line_basic, st.sampled_from([",", ", # ]", ", # a = 1", ",\n# [t]"])), max_size=3
).map(lambda items: "[\n" + "\n".join(f"  {item}{comma}" for item, comma in items) + "\n]")
values = one_line | multi_line_basic | multi_line_literal | multi_line_arrays
members = st.lists(st.tuples(keys, values, comments), max_size=4, unique_by=lambda member: plain(member[0]))
tables = st.lists(st.tuples(st.sampled_from(["[t]", "[[t]]", "[t.u]", "[[t.u]]"]), keys, comments, members), max_size=4)


def plain(key: str) -> str:
    return key.strip("\"'")


@settings(max_examples=200, deadline=None)
@given(top=members, rest=tables, newline=st.sampled_from(["\n", "\r\n"]))
def test_every_key_is_reported_on_the_line_that_holds_it(top: Any, rest: Any, newline: str) -> None:
    lines: list[str] = []
    expected: dict[tuple[str | int, ...], int] = {}

    def write(text: str) -> int:
        lines.extend(text.split("\n"))
        return len(lines) - text.count("\n")

    for key, one, comment in top:
        expected[(plain(key),)] = write(f"{key} = {one}{comment}")
    for number, (shape, key, comment, inner) in enumerate(rest):
        # Each table has a name of its own, so that the document is valid whatever was drawn.
        is_array = shape.startswith("[[")
        name = f"table{number}"
        parts = (name, plain(key)) if ".u" in shape else (name,)
        header = f"{name}.{key}" if ".u" in shape else name
        for index in range(2 if is_array else 1):
            location = (*parts, index) if is_array else parts
            expected[location] = write(f"[[{header}]]{comment}" if is_array else f"[{header}]{comment}")
            for member, one, remark in inner:
                expected[(*location, plain(member))] = write(f"{member} = {one}{remark}")
    text = newline.join(lines) + newline
    tomllib.loads(text)
    assert key_lines(text) == expected
