"""Routes: which one takes a signal, and the request and the identity that come of it."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from littlehorse.model import PutCorrelatedEventRequest, PutExternalEventRequest, VariableValue, WfRunId

from lhd.core.commands.deliveries import Delivery, Unmapped
from lhd.core.kinds import Verdict
from lhd.intake.routes import Routes, identity
from lhd.plugin import ConfigErrors, Event, Route

META = {"source": "github", "kind": "webhook", "received_at": 1_700_000_000_000}


def route(**keys: Any) -> Route:
    target = {} if "wf_run" in keys or "key" in keys else {"key": "'k'"}
    return Route(**{"event": "happened", **target, **keys})


def mapped(event: Event, *routes: Route, source: str = "github") -> Delivery:
    return Routes(source, routes).map(event, META)


def correlated(event: Event, *routes: Route) -> PutCorrelatedEventRequest:
    request = mapped(event, *routes).mapped
    assert isinstance(request, PutCorrelatedEventRequest)
    return request


def targeted(event: Event, *routes: Route) -> PutExternalEventRequest:
    request = mapped(event, *routes).mapped
    assert isinstance(request, PutExternalEventRequest)
    return request


def dead(event: Event, *routes: Route) -> str:
    unmapped = mapped(event, *routes).mapped
    assert isinstance(unmapped, Unmapped)
    assert unmapped.verdict == Verdict.DEAD
    return unmapped.reason


def filtered(event: Event, *routes: Route) -> bool:
    unmapped = mapped(event, *routes).mapped
    return isinstance(unmapped, Unmapped) and unmapped.verdict == Verdict.FILTERED


# Which route


def test_the_first_route_that_matches_wins() -> None:
    routes = route(when="body.n > 5"), route(when="body.n > 1", event="second"), route(event="third")
    request = correlated(Event({"n": 3}), *routes)
    assert request.external_event_def_id.name == "second"


def test_a_signal_that_no_route_takes_is_filtered() -> None:
    assert filtered(Event({"n": 3}), route(when="body.n > 5"))


def test_without_routes_every_signal_is_filtered() -> None:
    assert filtered(Event({"n": 3}))


def test_a_route_without_when_takes_every_signal() -> None:
    assert correlated(Event(None), route()).key == "k"


@pytest.mark.parametrize(
    "when", ["body.missing == 1", "body.n + 'x' == 'y'", "headers['x-none'] == 'a'", "body.n", "'true'"]
)
def test_an_error_in_when_or_anything_but_true_does_not_match(when: str) -> None:
    assert filtered(Event({"n": 1}), route(when=when))


def test_after_an_error_in_when_the_next_route_is_asked() -> None:
    assert (
        correlated(Event({}), route(when="body.missing == 1"), route(event="second")).external_event_def_id.name
        == "second"
    )


def test_a_route_that_takes_a_signal_and_cannot_map_it_does_not_pass_it_on() -> None:
    assert "'missing'" in dead(Event({}), route(key="body.missing"), route(event="second"))


def test_a_route_is_called_by_its_name_or_its_number() -> None:
    assert mapped(Event({}), route(name="branch")).route == "branch"
    assert mapped(Event({}), route(when="false"), route()).route == "1"


def test_every_expression_that_cannot_be_used_is_named_with_its_place() -> None:
    with pytest.raises(ConfigErrors) as refused:
        Routes("github", (route(key="body."), route(), route(when="payload.x", content="1 +")))
    assert {error.key for error in refused.value.errors} == {"routes[0].key", "routes[2].when", "routes[2].content"}


# What is mapped


def test_a_route_with_key_puts_a_correlated_event() -> None:
    request = correlated(
        Event({"repo": "r", "ref": "main"}), route(key="body.repo + ':' + body.ref", content="body.ref")
    )
    assert (request.external_event_def_id.name, request.key) == ("happened", "r:main")
    assert request.content == VariableValue(str="main")


def test_a_key_may_hold_any_characters() -> None:
    assert correlated(Event({"k": "a/b~c\U0001f40e"}), route(key="body.k")).key == "a/b~c\U0001f40e"


def test_a_route_with_wf_run_puts_an_external_event() -> None:
    request = targeted(Event({"run": "r-1"}), route(wf_run="body.run"))
    assert request.external_event_def_id.name == "happened"
    assert request.wf_run_id == WfRunId(id="r-1")
    assert not request.HasField("thread_run_number")


def test_parents_of_a_wf_run_are_joined_as_in_the_printed_id() -> None:
    request = targeted(Event({"run": "root_middle_leaf"}), route(wf_run="body.run"))
    parent = WfRunId(id="middle", parent_wf_run_id=WfRunId(id="root"))
    assert request.wf_run_id == WfRunId(id="leaf", parent_wf_run_id=parent)


@pytest.mark.parametrize("thread", [0, 3])
def test_a_thread_is_the_thread_run_number(thread: int) -> None:
    request = targeted(Event({"run": "r"}), route(wf_run="body.run", thread=thread))
    assert request.HasField("thread_run_number")
    assert request.thread_run_number == thread


def test_a_thread_number_beyond_32_bits_is_refused_at_load() -> None:
    with pytest.raises(ValueError, match="thread"):
        route(wf_run="body.run", thread=2**31)


def test_the_content_is_the_body_unless_the_route_says_otherwise() -> None:
    assert correlated(Event({"a": 1}), route()).content == VariableValue(json_obj='{"a":1}')


def test_every_namespace_reaches_the_expressions() -> None:
    event = Event(
        "b", headers={"h": "1"}, key="2", query={"q": "3"}, file={"stem": "4"}, record={"r": "5"}, meta={"m": "6"}
    )
    content = "body + headers.h + key + query.q + file.stem + record.r + meta.m + meta.source + meta.kind"
    assert correlated(event, route(content=content)).content.str == "b123456githubwebhook"


def test_what_the_daemon_says_in_meta_cannot_be_said_by_a_source() -> None:
    assert correlated(Event(None, meta={"source": "forged"}), route(content="meta.source")).content.str == "github"


def test_a_query_parameter_called_like_a_header_does_not_change_the_header() -> None:
    event = Event({}, headers={"x-github-event": "ping"}, query={"x-github-event": "create"}, meta={"headers": "x"})
    assert filtered(event, route(when="headers['x-github-event'] == 'create'"))
    assert not filtered(event, route(when="query['x-github-event'] == 'create'"))


def test_a_body_called_like_a_namespace_does_not_change_the_namespace() -> None:
    event = Event({"headers": {"x-github-event": "create"}}, headers={"x-github-event": "ping"})
    assert filtered(event, route(when="headers['x-github-event'] == 'create'"))


# What is dead


@pytest.mark.parametrize("value", ["1", "1.5", "true", "null", "{}", "['a']", "b'a'"])
def test_a_key_that_is_not_text_is_dead(value: str) -> None:
    assert "key" in dead(Event({}), route(key=value))


@pytest.mark.parametrize("value", ["1", "null", "{}"])
def test_a_wf_run_that_is_not_text_is_dead(value: str) -> None:
    assert "wf_run" in dead(Event({}), route(wf_run=value))


@pytest.mark.parametrize(
    "run", ["", " ", "_", "a_", "_a", "a__b", "-a", "a-", "a b", "a/b", "a.b", "é", "a\n", "\udcff"]
)
def test_a_wf_run_that_is_malformed_is_dead(run: str) -> None:
    assert "wf_run" in dead(Event({"run": run}, raw=b""), route(wf_run="body.run", content="null"))


@pytest.mark.parametrize("value", ["1.5", "true", "null", "{}", "['a']"])
def test_an_id_that_is_neither_text_nor_a_whole_number_is_dead(value: str) -> None:
    assert "id" in dead(Event({}), route(id=value))


@pytest.mark.parametrize("expression", ["key", "content", "id", "wf_run"])
def test_a_missing_field_is_dead_and_the_reason_names_expression_and_field(expression: str) -> None:
    reason = dead(Event({}), route(**{expression: "body.absent"}))
    assert expression in reason
    assert "'absent'" in reason


@pytest.mark.parametrize("expression", ["key", "content", "id", "wf_run"])
def test_text_that_is_not_unicode_is_dead(expression: str) -> None:
    event = Event({}, headers={"x": "\udcff"}, raw=b"")
    assert dead(event, route(**{expression: "headers.x"}))


def test_a_reason_holds_nothing_of_the_payload() -> None:
    event = Event({"s": "hunter2"})
    for keys in ({"key": "int(body.s)"}, {"wf_run": "body.s + ' x'"}, {"content": "body[body.s]"}, {"id": "[body.s]"}):
        assert "hunter2" not in dead(event, route(**keys))


# Values


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("'text'", VariableValue(str="text")),
        ("''", VariableValue(str="")),
        ("17", VariableValue(int=17)),
        ("-9223372036854775808", VariableValue(int=-(2**63))),
        ("1.0", VariableValue(double=1.0)),
        ("true", VariableValue(bool=True)),
        ("{'b': [1, 2.0, null], 'a': 'x'}", VariableValue(json_obj='{"a":"x","b":[1,2.0,null]}')),
        ("{}", VariableValue(json_obj="{}")),
        ("[1, 'a', false]", VariableValue(json_arr='[1,"a",false]')),
        ("b'\\xff'", VariableValue(bytes=b"\xff")),
        (
            "timestamp('2024-02-29T12:00:00.5Z')",
            VariableValue(utc_timestamp=Timestamp(seconds=1709208000, nanos=500_000_000)),
        ),
        ("null", VariableValue()),
        ("body.absent_is_null", VariableValue()),
        ("body.f", VariableValue(double=2.0)),
        ("body.t", VariableValue(bool=True)),
    ],
)
def test_a_cel_value_becomes_the_value_of_its_type(content: str, expected: VariableValue) -> None:
    assert correlated(Event({"absent_is_null": None, "f": 2.0, "t": True}), route(content=content)).content == expected


def test_bytes_of_the_body_are_bytes() -> None:
    assert correlated(Event(b"\x00\xff"), route()).content == VariableValue(bytes=b"\x00\xff")


@pytest.mark.parametrize("content", ["body.big", "duration('1h')", "{1: 'a'}", "[b'a']", "[duration('1s')]"])
def test_a_value_that_no_type_holds_is_dead(content: str) -> None:
    assert "content" in dead(Event({"big": 2**64 - 1}), route(content=content))


# Identity


def test_the_parts_of_an_identity_do_not_run_together() -> None:
    assert identity("ab", "c") != identity("a", "bc")
    assert identity("abc") != identity("ab", "c")
    assert identity("a", "") != identity("a")


def test_the_parts_of_an_identity_are_typed() -> None:
    assert identity(1) != identity("1")


parts = st.lists(st.text(max_size=4) | st.integers(0, 99), max_size=3).map(tuple)


@given(one=parts, other=parts)
def test_two_identities_are_equal_only_for_equal_parts(
    one: tuple[str | int, ...], other: tuple[str | int, ...]
) -> None:
    assert (identity(*one) == identity(*other)) == (one == other)


def same(one: Delivery, other: Delivery) -> bool:
    return one.identity == other.identity


def test_the_sources_id_is_the_identity_whatever_the_body() -> None:
    first, second = (mapped(Event({"n": n}, id="d-1"), route()) for n in (1, 2))
    assert same(first, second)
    assert first.digest != second.digest


def test_the_parts_of_a_sources_id_do_not_run_together() -> None:
    assert not same(mapped(Event({}, id=("ab", "c")), route()), mapped(Event({}, id=("a", "bc")), route()))
    assert not same(mapped(Event({}, id=1), route()), mapped(Event({}, id="1"), route()))


def test_the_same_id_of_another_source_is_another_identity() -> None:
    event = Event({}, id="d-1")
    assert not same(mapped(event, route(), source="a"), mapped(event, route(), source="b"))


def test_without_an_id_the_digest_of_the_raw_bytes_is_the_identity() -> None:
    first, again, other = (Event({}, raw=raw) for raw in (b"{}", b"{}", b"{ }"))
    assert same(mapped(first, route()), mapped(again, route()))
    assert not same(mapped(first, route()), mapped(other, route()))


def test_without_an_id_the_same_body_on_another_route_is_another_identity() -> None:
    routes = route(name="a", when="headers.to == 'a'"), route(name="b")
    one, other = (mapped(Event({}, headers={"to": to}), *routes) for to in ("a", "b"))
    assert not same(one, other)


@pytest.mark.parametrize("own", ["d-1", None])
def test_the_id_of_the_route_overrides_the_sources(own: str | None) -> None:
    first, again, other = (
        mapped(Event({"id": number, "n": n}, id=own and f"{own}{n}"), route(id="body.id"))
        for number, n in (("7", 1), ("7", 2), ("8", 3))
    )
    assert same(first, again)
    assert not same(first, other)


def test_an_id_of_the_route_is_typed() -> None:
    number, text = (mapped(Event({"id": value}), route(id="body.id")) for value in (7, "7"))
    assert not same(number, text)


def test_a_dead_signal_keeps_its_identity() -> None:
    event = Event({}, id="d-1")
    assert same(mapped(event, route(key="body.absent")), mapped(event, route()))
