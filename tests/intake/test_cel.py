"""Expressions: what may be written, what comes of them, and that the library agrees."""

from contextlib import suppress
from typing import Any

import cel as library
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lhd.intake import cel
from lhd.intake.cel import ExpressionError

NAMES = ("body", "headers", "key", "query", "file", "record", "meta")


def names(body: Any = None, **others: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"headers": {}, "key": None, "query": {}, "file": {}, "record": {}, "meta": {}}
    return {"body": body, **nothing, **others}


def value(text: str, body: Any = None, **others: Any) -> Any:
    return cel.compile(text).evaluate(names(body, **others))


def error_of(text: str, body: Any = None, **others: Any) -> str:
    with pytest.raises(ExpressionError) as error:
        value(text, body, **others)
    return str(error.value)


def refusal(text: str) -> str:
    with pytest.raises(ExpressionError) as error:
        cel.compile(text)
    return str(error.value)


# Values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("body.repository.full_name", "octocat/hello-world"),
        ("body['repository'].full_name", "octocat/hello-world"),
        ('body.repository["full_name"]', "octocat/hello-world"),
        ("body.repository", {"full_name": "octocat/hello-world"}),
        ("headers['x-github-event']", "create"),
        ("query.run", "r-1"),
        ("meta.source", "github"),
        ("key", "k"),
        (" body . n ", 3),
        ("(body.n)", 3),
        ("body.n + 1", 4),
        ("body.repository.full_name + ':' + body.ref", "octocat/hello-world:main"),
        ("{'branch': body.ref, 'n': body.n}", {"branch": "main", "n": 3}),
        ("[body.ref, headers['x-github-event']]", ["main", "create"]),
        ("body.list[1]", 2),
        ("body.list.exists(x, x == 2)", True),
        ("body.ref.startsWith('ma') && size(body.list) == 3", True),
        ("body.missing == 1 || body.n == 3", True),
        ("'text'", "text"),
        ("null", None),
    ],
)
def test_an_expression_has_the_value_that_cel_gives_it(text: str, expected: Any) -> None:
    body = {"repository": {"full_name": "octocat/hello-world"}, "ref": "main", "n": 3, "list": [1, 2, 3]}
    others = {"headers": {"x-github-event": "create"}, "query": {"run": "r-1"}, "meta": {"source": "github"}}
    assert value(text, body, key="k", **others) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_a_signal_can_be_used(name: str) -> None:
    assert value(name, **{name: {"a": 1}}) == {"a": 1}


@pytest.mark.parametrize(
    ("body", "expected"),
    [({"a": {"b": 1}}, True), ({"a": {"b": None}}, True), ({"a": {}}, False), ({"a": {"c": 1}}, False)],
)
def test_has_tells_whether_a_field_is_there(body: Any, expected: bool) -> None:
    assert value("has(body.a.b)", body) is expected


def test_has_makes_a_field_optional() -> None:
    assert value("has(body.a) ? body.a : 'none'", {}) == "none"
    assert value("has(body.a) ? body.a : 'none'", {"a": "some"}) == "some"


@pytest.mark.parametrize("text", ["body.ref", "body.a.ref", "body['ref']", "body.ref + 'x'", "[body.ref]"])
def test_a_missing_field_is_an_error_that_names_it(text: str) -> None:
    assert "'ref'" in error_of(text, {"a": {}})


def test_a_missing_header_is_an_error_that_names_it() -> None:
    assert "'x-key'" in error_of("headers['x-key']")


@pytest.mark.parametrize("body", [None, 5, "text", [1], b"bytes"])
def test_a_field_of_something_that_has_none_is_an_error(body: Any) -> None:
    assert error_of("body.ref", body)
    assert error_of("body.ref + 'x'", body)


@pytest.mark.parametrize("text", ["'body.ref'", "r'body.ref'", "'''body.ref'''", "'it\\'s body.ref'"])
def test_text_that_looks_like_a_path_is_text(text: str) -> None:
    assert value(f"{text} + body.s", {"s": ""}).endswith("body.ref")


@pytest.mark.parametrize(
    "text", ["body.s // body.ref", "// body.ref\nbody.s", "body. // x\n s", "'//' == body.s ? 'a' : body.s"]
)
def test_a_comment_that_looks_like_a_path_is_a_comment(text: str) -> None:
    assert value(text, {"s": "value"}) == "value"


def test_a_raw_string_ends_at_its_quote_whatever_stands_before_it() -> None:
    assert value("""r"\\" + body.s + r"\\" """, {"s": "x"}) == "\\x\\"


@pytest.mark.parametrize("name", NAMES)
def test_the_variable_of_a_macro_may_be_called_like_a_name_of_the_signal(name: str) -> None:
    assert value(f"body.list.filter({name}, {name} > 1)", {"list": [1, 2, 3]}) == [2, 3]


def test_a_field_may_be_called_like_a_name_of_the_signal_or_a_macro() -> None:
    assert value("body.headers + body.map", {"headers": "a", "map": "b"}) == "ab"


def test_the_members_of_a_map_are_always_in_the_same_order() -> None:
    made = value("{'c': 1, 'a': {'z': 1, 'b': 2}, 'b': body.x}", {"x": 3})
    assert [list(made), list(made["a"])] == [["a", "b", "c"], ["b", "z"]]


def test_an_evaluation_changes_nothing_of_the_signal() -> None:
    body = {"a": {"b": {"c": 1}, "d": [1]}, "e": None}
    value("[body.a.b.c, body.a.d.map(x, x), has(body.e)]", body)
    assert body == {"a": {"b": {"c": 1}, "d": [1]}, "e": None}


# What is refused at load


@pytest.mark.parametrize("text", ["payload.ref", "bodi.ref", "x", "body.a == y", "has(payload.a)", "env.HOME"])
def test_an_unknown_name_is_refused_and_all_names_are_listed(text: str) -> None:
    told = refusal(text)
    assert all(name in told for name in NAMES)


def test_the_refusal_of_an_unknown_name_names_it() -> None:
    assert "'payload'" in refusal("body.a == payload.b")


def test_the_variable_of_a_macro_is_unknown_outside_of_it() -> None:
    assert "'x'" in refusal("body.list.exists(x, x == 1) && x == 2")


@pytest.mark.parametrize("text", ["", " ", "body.", "body..a", "body.a +", "'open", "body a", ")", "// only a comment"])
def test_what_is_not_an_expression_is_refused(text: str) -> None:
    assert refusal(text)


def test_a_refusal_says_the_line_and_the_column() -> None:
    assert refusal("body.a ==\n== 2").startswith("line 2, column 1")


def test_an_expression_has_at_most_2000_characters() -> None:
    longest = "body.a" + " " * 1994
    assert value(longest, {"a": 1}) == 1
    assert "2000" in refusal(longest + " ").replace(",", "")


@pytest.mark.parametrize(
    "text",
    [
        "body.a.exists(x, body.b.exists(y, x == y))",
        "body.a.map(x, x.map(y, y))",
        "body.a.all(x, [1].exists_one(y, y == x))",
        "body.a.filter(x, size(x.filter(y, y > 1)) > 0)",
        "body.a.map(x, x > 1, x.map(y, y))",
        "body.a . map (x, x . map (y, y))",
        "body.a.map(x, x)\n.map(y, [y].map(z, z))",
    ],
)
def test_a_macro_inside_a_macro_is_refused(text: str) -> None:
    assert "macro" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        "body.a.map(x, x).filter(y, y > 1)",
        "body.a.exists(x, x > 1) || body.a.all(y, y > 0)",
        "'.map(x, .map(' + body.s",
    ],
)
def test_macros_beside_each_other_are_allowed(text: str) -> None:
    value(text, {"a": [1, 2], "s": ""})


# How much a macro walks


@pytest.mark.parametrize(
    "text", ["body.a.exists(x, x == -1)", "body.a . exists (x, x == -1)", "!body.a.all(x, x >= 0)"]
)
def test_a_macro_walks_at_most_10000_elements(text: str) -> None:
    assert value(text, {"a": list(range(10_000))}) is False
    assert "10000" in error_of(text, {"a": list(range(10_001))}).replace(",", "")


def test_a_macro_walks_at_most_10000_members_of_a_map() -> None:
    assert error_of("body.a.exists(x, x == '')", {"a": {str(number): 1 for number in range(10_001)}})


def test_lists_that_are_too_long_only_together_are_too_long_for_a_macro() -> None:
    assert error_of("(body.a + body.a).exists(x, x == -1)", {"a": list(range(6_000))})


def test_without_a_macro_a_list_may_be_longer() -> None:
    assert value("size(body.a)", {"a": list(range(20_000))}) == 20_000


# What an error says

SECRETS = st.text(alphabet="QXZ0123456789", min_size=6, max_size=20)


@pytest.mark.parametrize(
    "text",
    [
        "body.s + 1",
        "int(body.s)",
        "double(body.s)",
        "timestamp(body.s)",
        "duration(body.s)",
        "body.m[body.s]",
        "body[body.s]",
        "headers[body.s]",
        "body.s.missing",
        "body.l[5] + body.s",
        "body.m.missing == body.s",
        "body.s.matches(body.s + '(')",
        "body.l.map(x, x + 1)",
        "-body.s",
        "body.s ? 1 : 2",
        "{body.s: 1}[body.s + 'x']",
        "body.s == body.missing",
        "bytes(body.s) + body.s",
    ],
)
@settings(max_examples=20)
@given(secret=SECRETS)
def test_no_error_holds_a_value_of_the_signal(text: str, secret: str) -> None:
    body = {"s": secret, "l": [secret], "m": {secret + "k": secret}, secret: {}}
    told = ""
    try:
        value(text, body, headers={"h": secret})
    except ExpressionError as error:
        told = f"{error} {error!r} {error.__cause__!r}"
    assert secret not in told


# The library as oracle

ORACLE = [
    "body",
    "key",
    "headers",
    "body.a",
    "body.a.b",
    "body['a']",
    "body['a'].b",
    "body.a['b'].c",
    'body["a"]',
    "body['a b']",
    "headers['x-a']",
    "(body.a)",
    "body.a == body.b",
    "body.a + body.b",
    "body.a.b + body.a.c",
    "body.a != null",
    "body.a == null && body.b == null",
    "has(body.a)",
    "has(body.a.b)",
    "has(body.a.b.c)",
    "has(body.a) && has(body.a.b) && body.a.b == 1",
    "has(body.a) ? body.a : body.b",
    "body.a > 1 || body.b == 'x'",
    "body.missing || true",
    "!has(body.a)",
    "body.a[0]",
    "body.a[0].b",
    "body.a[body.b]",
    "body[headers['x-a']]",
    "body[body.a]",
    "size(body)",
    "size(body.a) + size(body.b)",
    "body.a.size()",
    "body.a.startsWith('x')",
    "body.a.contains(body.b)",
    "'a' in body",
    "body.b in body.a",
    "body.a.exists(x, x == body.b)",
    "body.a.all(x, x != null)",
    "body.a.exists_one(x, x == 1)",
    "body.a.map(x, [x, body.b])",
    "body.a.filter(body, body == 1)",
    "body.map(k, k).size()",
    "body.a.map(key, key == key)",
    "{'a': body.a, 'b': body.b}",
    "{'x': {'y': body.a}, 'z': [body.b]}",
    "[body.a, body, headers]",
    "type(body.a) == type(body.b)",
    "string(body.a)",
    "int(body.a)",
    "double(body.a)",
    "'body.a' + body.a",
    "body.a // body.b\n",
    "body.a.b == body.a",
    "[body.a][0]",
    "{'k': body.a}.k",
    "{'k': body.a}['k'] == body.a",
    "true ? body.a : body.b.c.d",
    "body.a == headers",
    "body.a * 2",
    "body.a / body.b",
    "body.a % 2 == 0",
    "-body.a",
    "dyn(body.a) == body.b",
    "body.a.b.c.a.b.c",
]

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=3)
)
member_names = st.sampled_from(["a", "b", "c", "a b", "x", "map", "body"])
bodies = st.recursive(
    scalars | st.sampled_from([0, 1, "x", "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(member_names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(member_names, bodies, max_size=4)


def typed(one: Any) -> Any:
    """The value with its type at every depth: 1, 1.0 and true differ.

    Order does not count, not even in lists: the library walks over the members of a map in a new order each time.
    """
    if isinstance(one, dict):
        return "map", tuple(sorted(((key, typed(inner)) for key, inner in one.items()), key=repr))
    if isinstance(one, list):
        return "list", tuple(sorted((typed(inner) for inner in one), key=repr))
    return type(one).__name__, one if isinstance(one, int | str | bytes | None) else repr(one)


def result(evaluate: Any) -> Any:
    try:
        return typed(evaluate())
    except (ExpressionError, KeyError, ValueError, TypeError, IndexError, RuntimeError, OverflowError):
        return "error"


@pytest.mark.parametrize("text", ORACLE)
@settings(max_examples=25, deadline=None)
@given(body=objects | bodies, header=st.sampled_from(["a", "b", ""]))
@example(body={"a": {"b": {"c": 1}}, "b": 1}, header="a")
@example(body={"a": [1, 2], "b": 1}, header="b")
@example(body={"a": "x", "b": "x"}, header="b")
@example(body={"a": None, "b": None}, header="b")
@example(body={}, header="")
def test_the_value_is_the_one_that_the_library_gives_for_the_whole_signal(text: str, body: Any, header: str) -> None:
    signal = names(body, headers={"x-a": header} if header else {}, key="k", meta={"source": "s"})
    expression, program = cel.compile(text), library.compile(text)
    assert result(lambda: expression.evaluate(signal)) == result(lambda: program.execute(signal))


@settings(max_examples=100)
@given(text=st.text(max_size=30))
def test_no_text_makes_the_compiler_raise_anything_but_its_error(text: str) -> None:
    with suppress(ExpressionError):
        cel.compile(text)
