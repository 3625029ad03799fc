"""Values, expressions and mutations of primitives: execution.md section 8."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    Array,
    Comparator,
    InlineStructDef,
    LHPath,
    RunWfRequest,
    Struct,
    StructDefId,
    TypeDefinition,
    VariableAssignment,
    VariableMutation,
    VariableMutationType,
    VariableType,
    VariableValue,
    WfRunId,
)
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import WorkflowThread

from lhd.core import casting, expressions, fitting, format_strings, mutations, values
from lhd.core.values import EvaluationError
from lhd.errors import Code
from tests.core.shapes import COMPLETED, ERROR, failure, put, put_edited, python, refused
from tests.core.world import World

INT, DOUBLE, STR, BOOL, BYTES = (
    VariableType.INT,
    VariableType.DOUBLE,
    VariableType.STR,
    VariableType.BOOL,
    VariableType.BYTES,
)
JSON_OBJ, JSON_ARR, TIMESTAMP, WF_RUN_ID = (
    VariableType.JSON_OBJ,
    VariableType.JSON_ARR,
    VariableType.TIMESTAMP,
    VariableType.WF_RUN_ID,
)
M = VariableMutationType
MUTATION_TYPES = (
    M.ASSIGN,
    M.ADD,
    M.EXTEND,
    M.SUBTRACT,
    M.MULTIPLY,
    M.DIVIDE,
    M.REMOVE_IF_PRESENT,
    M.REMOVE_INDEX,
    M.REMOVE_KEY,
    M.AND,
    M.OR,
    M.POW,
)
C = Comparator
NULL = VariableValue()
CHILD = WfRunId(id="child", parent_wf_run_id=WfRunId(id="parent"))
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)

SAMPLES: dict[VariableType, Any] = {
    INT: 5,
    DOUBLE: 5.5,
    STR: "text",
    BOOL: True,
    BYTES: b"raw",
    WF_RUN_ID: WfRunId(id="x"),
    TIMESTAMP: NOON,
    JSON_OBJ: {"a": 1},
    JSON_ARR: [1, "two"],
}
PAIRS = [(given, target) for given in SAMPLES for target in SAMPLES]


def pair_id(pair: tuple[VariableType, VariableType]) -> str:
    return f"{VariableType.Name(pair[0])} to {VariableType.Name(pair[1])}"


def of(value: Any) -> VariableValue:
    return to_variable_value(value)


def same(actual: VariableValue, expected: Any) -> bool:
    """Whether a value has the kind and content of a Python value; JSON is compared parsed, with key order."""
    wanted = of(expected)
    kind = wanted.WhichOneof("value")
    if actual.WhichOneof("value") != kind:
        return False
    if kind in ("json_obj", "json_arr"):
        text: str = getattr(actual, kind)
        return repr(json.loads(text)) == repr(expected)
    return actual == wanted


class NoNames:
    """A scope for assignments that name nothing."""

    def struct_def(self, struct_def_id: StructDefId) -> InlineStructDef:
        raise AssertionError(struct_def_id)

    def variable(self, name: str) -> VariableValue:
        raise AssertionError(name)

    def output(self, node_name: str) -> VariableValue:
        raise AssertionError(node_name)


def evaluate(assignment: VariableAssignment) -> VariableValue:
    return expressions.evaluate(assignment, NoNames())


def literal(value: Any) -> VariableAssignment:
    return VariableAssignment(literal_value=of(value))


def typed(primitive: VariableType) -> TypeDefinition:
    return TypeDefinition(primitive_type=primitive)


def fits(value: VariableValue, expected: VariableType) -> bool:
    try:
        return fitting.accept(value, typed(expected), NoNames()) == value
    except EvaluationError:
        return False


class TestFits:
    """execution.md 8.2."""

    TEXT_LIKE = frozenset({STR, INT, DOUBLE, BOOL, BYTES, WF_RUN_ID})

    @pytest.mark.parametrize("pair", PAIRS, ids=pair_id)
    def test_table(self, pair: tuple[VariableType, VariableType]) -> None:
        given, expected = pair
        wanted = given == expected or pair == (INT, DOUBLE) or (expected == STR and given in self.TEXT_LIKE)
        assert fits(of(SAMPLES[given]), expected) == wanted

    @pytest.mark.parametrize("expected", SAMPLES, ids=VariableType.Name)
    def test_null_fits_everything(self, expected: VariableType) -> None:
        assert fits(NULL, expected)


class TestStartValues:
    """execution.md 8.3."""

    @pytest.fixture
    def world(self) -> World:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("needed").required()
            wf.declare_double("ratio")
            wf.declare_str("name", "nobody")

        world = World()
        put(world, body)
        return world

    def test_missing_required_variable(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT, "needed"):
            world.run("wf", name="me")

    def test_explicit_null_satisfies_required(self, world: World) -> None:
        world.run("wf", needed=None)
        assert world.variable("needed") == NULL

    def test_unknown_variable(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT, "stranger"):
            world.run("wf", needed=1, stranger=1)

    @pytest.mark.parametrize("value", ["1", 1.0, True, {"a": 1}, [1]])
    def test_value_that_does_not_fit(self, world: World, value: Any) -> None:
        with refused(Code.INVALID_ARGUMENT, "needed"):
            world.run("wf", needed=value)

    def test_fitting_value_is_stored_unchanged(self, world: World) -> None:
        world.run("wf", needed=1, ratio=3, name=7)
        assert world.variable("ratio") == of(3)
        assert world.variable("name") == of(7)

    def test_default_where_nothing_is_given(self, world: World) -> None:
        world.run("wf", needed=1)
        assert python(world, "name") == "nobody"
        assert world.variable("ratio") == NULL

    def test_explicit_null_takes_the_default_too(self, world: World) -> None:
        world.run("wf", needed=1, name=None)
        assert python(world, "name") == "nobody"

    def test_given_value_beats_the_default(self, world: World) -> None:
        world.run("wf", needed=1, name="me")
        assert python(world, "name") == "me"

    def test_refused_start_stores_nothing(self, world: World) -> None:
        with refused(Code.INVALID_ARGUMENT):
            world.run("wf")
        world.run("wf", needed=1)


class TestText:
    """execution.md 8.5, text form."""

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (0, "0"),
            (-12345678901234, "-12345678901234"),
            (2**63 - 1, "9223372036854775807"),
            (1.0, "1.0"),
            (0.0, "0.0"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (123456.789, "123456.789"),
            (9999999.0, "9999999.0"),
            (9999999.5, "9999999.5"),
            (1e7, "1.0E7"),
            (-1e7, "-1.0E7"),
            (12345678.9, "1.23456789E7"),
            (1.5e300, "1.5E300"),
            (1e100, "1.0E100"),
            (0.001, "0.001"),
            (0.00123, "0.00123"),
            (0.0001, "1.0E-4"),
            (0.00099, "9.9E-4"),
            (1.25e-10, "1.25E-10"),
            (True, "true"),
            (False, "false"),
            ("as is", "as is"),
            ("", ""),
            (WfRunId(id="x"), "x"),
            (CHILD, "parent_child"),
            ("ä€".encode(), "ä€"),
        ],
    )
    def test_text_form(self, value: Any, text: str) -> None:
        assert values.text_of(of(value)) == text

    def test_timestamp_is_an_iso_instant(self) -> None:
        text = values.text_of(of(NOON))
        assert text.startswith("2024-05-01T12:00")
        assert text.endswith("Z")

    def test_json_is_json_text(self) -> None:
        assert json.loads(values.text_of(of({"a": [1, None]}))) == {"a": [1, None]}


class TestCast:
    """execution.md 8.5, target_type."""

    @pytest.mark.parametrize(
        ("value", "target", "expected"),
        [
            (3, DOUBLE, 3.0),
            (2.9, INT, 2),
            (-2.9, INT, -2),
            (5, STR, "5"),
            (5.0, STR, "5.0"),
            (True, STR, "true"),
            (b"raw", STR, "raw"),
            (CHILD, STR, "parent_child"),
            ("12", INT, 12),
            ("-12", INT, -12),
            ("9223372036854775807", INT, 2**63 - 1),
            ("1.5", DOUBLE, 1.5),
            ("-1e3", DOUBLE, -1000.0),
            ("7", DOUBLE, 7.0),
            ("true", BOOL, True),
            ("FALSE", BOOL, False),
            (" True ", BOOL, True),
            ("ä", BYTES, "ä".encode()),
            ("x", WF_RUN_ID, WfRunId(id="x")),
            ("parent_child", WF_RUN_ID, CHILD),
        ],
    )
    def test_cast(self, value: Any, target: VariableType, expected: Any) -> None:
        assert same(casting.cast(of(value), target), expected)

    @pytest.mark.parametrize(
        ("value", "target"),
        [
            ("1.5", INT),
            (" 1", INT),
            ("1 ", INT),
            ("", INT),
            ("one", INT),
            ("0x10", INT),
            ("1_000", INT),
            ("9223372036854775808", INT),
            ("", DOUBLE),
            ("one", DOUBLE),
            ("1_0.5", DOUBLE),
            ("inf", DOUBLE),
            ("yes", BOOL),
            ("1", BOOL),
            ("", BOOL),
            (1, BOOL),
            (True, INT),
            (1.5, BOOL),
            (b"1", INT),
            (NOON, STR),
            (NOON, INT),
            ("2024-05-01T12:00:00Z", TIMESTAMP),
            (5, WF_RUN_ID),
            (5, BYTES),
        ],
    )
    def test_no_cast(self, value: Any, target: VariableType) -> None:
        with pytest.raises(EvaluationError):
            casting.cast(of(value), target)

    @pytest.mark.parametrize("kind", SAMPLES, ids=VariableType.Name)
    def test_same_type_is_unchanged(self, kind: VariableType) -> None:
        assert casting.cast(of(SAMPLES[kind]), kind) == of(SAMPLES[kind])

    @pytest.mark.parametrize("target", SAMPLES, ids=VariableType.Name)
    def test_null_passes_unchanged(self, target: VariableType) -> None:
        assert casting.cast(NULL, target) == NULL

    def test_cast_comes_after_the_path(self) -> None:
        assignment = literal({"n": 2.9})
        assignment.json_path = "$.n"
        assignment.target_type.CopyFrom(TypeDefinition(primitive_type=INT))
        assert same(evaluate(assignment), 2)

    def test_failing_cast_in_a_run_is_var_sub_error(self) -> None:
        def body(wf: WorkflowThread) -> None:
            wf.declare_int("number").assign(wf.declare_str("text").cast_to_int())

        world = World()
        put(world, body)
        assert world.run("wf", "good", text="12").status == COMPLETED
        assert python(world, "number", "good") == 12
        assert world.run("wf", "bad", text="dozen").status == ERROR
        assert failure(world, 0, "bad").failure_name == "VAR_SUB_ERROR"


COERCIONS = frozenset(
    {(INT, kind) for kind in (INT, DOUBLE, STR, BYTES, WF_RUN_ID)}
    | {(DOUBLE, kind) for kind in (INT, DOUBLE, STR, BYTES, WF_RUN_ID)}
    | {(STR, kind) for kind in (INT, DOUBLE, BOOL, STR, BYTES, WF_RUN_ID)}
    | {(BOOL, kind) for kind in (BOOL, STR, BYTES)}
    | {(BYTES, kind) for kind in (STR, BYTES)}
    | {(WF_RUN_ID, kind) for kind in (STR, BYTES, WF_RUN_ID)}
    | {(TIMESTAMP, kind) for kind in (INT, STR, BYTES, TIMESTAMP)}
    | {(JSON_OBJ, kind) for kind in (STR, JSON_OBJ)}
    | {(JSON_ARR, kind) for kind in (STR, JSON_ARR)}
)


class TestCoercion:
    """execution.md 8.8, coercion of ASSIGN."""

    @pytest.mark.parametrize(
        ("value", "target", "expected"),
        [
            (5, INT, 5),
            (5.9, INT, 5),
            (-5.9, INT, -5),
            ("5", INT, 5),
            (datetime(1970, 1, 1, 0, 0, 1, 500_000, tzinfo=UTC), INT, 1000),
            (5.5, DOUBLE, 5.5),
            (5, DOUBLE, 5.0),
            ("5.5", DOUBLE, 5.5),
            (True, BOOL, True),
            ("true", BOOL, True),
            ("false", BOOL, False),
            ("s", STR, "s"),
            (5, STR, "5"),
            (1e7, STR, "1.0E7"),
            (False, STR, "false"),
            (b"raw", STR, "raw"),
            (CHILD, STR, "parent_child"),
            (b"raw", BYTES, b"raw"),
            ("ä", BYTES, "ä".encode()),
            (5, BYTES, b"5"),
            (1.0, BYTES, b"1.0"),
            (True, BYTES, b"true"),
            (CHILD, WF_RUN_ID, CHILD),
            ("x", WF_RUN_ID, WfRunId(id="x")),
            (5, WF_RUN_ID, WfRunId(id="5")),
            (NOON, TIMESTAMP, NOON),
            ({"a": None}, JSON_OBJ, {"a": None}),
            ([1, 2.0], JSON_ARR, [1, 2.0]),
        ],
    )
    def test_coercion(self, value: Any, target: VariableType, expected: Any) -> None:
        assert same(mutations.mutate(M.ASSIGN, NULL, of(value), typed(target)), expected)

    def test_double_becomes_the_text_of_an_id(self) -> None:
        result = mutations.mutate(M.ASSIGN, NULL, of(1.5), typed(WF_RUN_ID))
        assert result.wf_run_id.id == "1.5"

    def test_json_becomes_its_text(self) -> None:
        result = mutations.mutate(M.ASSIGN, NULL, of([1, {"a": None}]), typed(STR))
        assert json.loads(result.str) == [1, {"a": None}]

    def test_timestamp_becomes_an_instant(self) -> None:
        assert mutations.mutate(M.ASSIGN, NULL, of(NOON), typed(STR)).str.startswith("2024-05-01T12:00")

    @pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair not in COERCIONS], ids=pair_id)
    def test_anything_else_is_an_error(self, pair: tuple[VariableType, VariableType]) -> None:
        given, target = pair
        with pytest.raises(EvaluationError):
            mutations.mutate(M.ASSIGN, NULL, of(SAMPLES[given]), typed(target))

    @pytest.mark.parametrize(("text", "target"), [("five", INT), ("five", DOUBLE), ("yes", BOOL)])
    def test_text_that_is_not_the_type(self, text: str, target: VariableType) -> None:
        with pytest.raises(EvaluationError):
            mutations.mutate(M.ASSIGN, NULL, of(text), typed(target))

    @pytest.mark.parametrize("target", SAMPLES, ids=VariableType.Name)
    def test_null_becomes_null(self, target: VariableType) -> None:
        assert mutations.mutate(M.ASSIGN, of(SAMPLES[target]), NULL, typed(target)) == NULL


MUTATIONS: list[tuple[VariableMutationType, VariableType, Any, Any, Any]] = [
    # operation, declared type, left, right, result
    (M.ADD, INT, 1, 2, 3),
    (M.ADD, INT, 1, 2.9, 3),
    (M.ADD, INT, 1, -2.9, -1),
    (M.ADD, INT, 1, "2", 3),
    (M.ADD, DOUBLE, 1.5, 2, 3.5),
    (M.ADD, DOUBLE, 1.5, 2.5, 4.0),
    (M.ADD, DOUBLE, 1.5, "2.5", 4.0),
    (M.ADD, DOUBLE, 1, 2, 3.0),
    (M.ADD, DOUBLE, 1, 2.5, 3.5),
    (M.ADD, STR, "a", "b", "ab"),
    (M.ADD, STR, "a", 1, "a1"),
    (M.ADD, STR, "a", 1.0, "a1.0"),
    (M.ADD, STR, "a", True, "atrue"),
    (M.ADD, STR, "a", CHILD, "aparent_child"),
    (M.ADD, JSON_ARR, [1], 2, [1, 2]),
    (M.ADD, JSON_ARR, [1], "two", [1, "two"]),
    (M.ADD, JSON_ARR, [1], 2.0, [1, 2.0]),
    (M.ADD, JSON_ARR, [1], True, [1, True]),
    (M.ADD, JSON_ARR, [1], [2, 3], [1, [2, 3]]),
    (M.ADD, JSON_ARR, [None], {"b": None, "a": 1}, [None, {"b": None, "a": 1}]),
    (M.SUBTRACT, INT, 10, 3, 7),
    (M.SUBTRACT, INT, 10, 2.5, 7),
    (M.SUBTRACT, INT, 2, 4.5, -2),
    (M.SUBTRACT, DOUBLE, 10.0, 3, 7.0),
    (M.SUBTRACT, DOUBLE, 10, 3, 7.0),
    (M.SUBTRACT, DOUBLE, 10, 2.5, 7.5),
    (M.MULTIPLY, INT, 3, 4, 12),
    (M.MULTIPLY, INT, 3, 1.5, 4),
    (M.MULTIPLY, INT, -3, 1.5, -4),
    (M.MULTIPLY, DOUBLE, 1.5, 3, 4.5),
    (M.MULTIPLY, DOUBLE, 3, 3, 9.0),
    (M.DIVIDE, INT, 7, 2, 3),
    (M.DIVIDE, INT, -7, 2, -3),
    (M.DIVIDE, INT, 7, -2, -3),
    (M.DIVIDE, INT, -7, -2, 3),
    (M.DIVIDE, INT, 9007199254740993, 1, 9007199254740993),
    (M.DIVIDE, INT, 7, 2.0, 3),
    (M.DIVIDE, INT, 7, 0.5, 14),
    (M.DIVIDE, DOUBLE, 7.0, 2, 3.5),
    (M.DIVIDE, DOUBLE, 7, 2, 3.5),
    (M.POW, INT, 2, 10, 1024),
    (M.POW, INT, -2, 3, -8),
    (M.POW, INT, 2, 62, 2**62),
    (M.POW, INT, 2, 0, 1),
    (M.POW, INT, 2, -1, 0),
    (M.POW, INT, 1, -5, 1),
    (M.POW, DOUBLE, 2.0, 3, 8.0),
    (M.POW, DOUBLE, 4.0, 0.5, 2.0),
    (M.POW, DOUBLE, 2.0, -1, 0.5),
    (M.EXTEND, STR, "a", "b", "ab"),
    (M.EXTEND, STR, "a", 1, "a1"),
    (M.EXTEND, BYTES, b"a", b"b", b"ab"),
    (M.EXTEND, JSON_ARR, [1], [2, [3]], [1, 2, [3]]),
    (M.EXTEND, JSON_ARR, [], [], []),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [1, 2, 1], 1, [2]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [1, 1.0], 1, [1.0]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [1, 1.0], 1.0, [1]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [True, 1, "1"], 1, [True, "1"]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, ["a", "b"], "a", ["b"]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [{"a": 1}, 2], {"a": 1}, [2]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [1], 5, [1]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [[1], [True]], [True], [[1]]),
    (M.REMOVE_IF_PRESENT, JSON_ARR, [{"a": 0}, {"a": False}], {"a": False}, [{"a": 0}]),
    (M.REMOVE_INDEX, JSON_ARR, ["a", "b", "c"], 1, ["a", "c"]),
    (M.REMOVE_INDEX, JSON_ARR, ["a"], 0, []),
    (M.REMOVE_KEY, JSON_OBJ, {"b": 1, "a": 2, "c": None}, "a", {"b": 1, "c": None}),
    (M.REMOVE_KEY, JSON_OBJ, {"a": 1}, "absent", {"a": 1}),
    (M.AND, BOOL, True, True, True),
    (M.AND, BOOL, True, False, False),
    (M.AND, BOOL, True, "true", True),
    (M.OR, BOOL, False, True, True),
    (M.OR, BOOL, False, False, False),
    (M.OR, BOOL, False, "true", True),
]

NO_MUTATIONS: list[tuple[VariableMutationType, VariableType, Any, Any]] = [
    (M.ADD, INT, 1, "one"),
    (M.ADD, INT, 1, True),
    (M.ADD, INT, 1, None),
    (M.ADD, INT, None, 1),
    (M.ADD, INT, 1, [1]),
    (M.ADD, DOUBLE, 1.0, {"a": 1}),
    (M.ADD, BOOL, True, True),
    (M.ADD, JSON_OBJ, {"a": 1}, 1),
    (M.ADD, BYTES, b"a", b"b"),
    (M.ADD, STR, None, "a"),
    (M.SUBTRACT, INT, 1, "1"),
    (M.SUBTRACT, STR, "abc", "c"),
    (M.SUBTRACT, INT, 1, None),
    (M.SUBTRACT, INT, None, 1),
    (M.MULTIPLY, INT, 2, "2"),
    (M.MULTIPLY, STR, "a", 2),
    (M.MULTIPLY, JSON_ARR, [1], 2),
    (M.MULTIPLY, DOUBLE, 2.0, None),
    (M.DIVIDE, INT, 1, 0),
    (M.DIVIDE, INT, 1, 0.0),
    (M.DIVIDE, DOUBLE, 1.0, 0),
    (M.DIVIDE, DOUBLE, 1.0, 0.0),
    (M.DIVIDE, INT, 1, "1"),
    (M.POW, INT, 2, 63),
    (M.POW, INT, 10, 10**9),
    (M.POW, INT, 0, -1),
    (M.POW, DOUBLE, 10.0, 400),
    (M.POW, DOUBLE, 0.0, -1.0),
    (M.POW, DOUBLE, -8.0, 0.5),
    (M.POW, STR, "2", 2),
    (M.EXTEND, JSON_ARR, [1], 2),
    (M.EXTEND, JSON_OBJ, {"a": 1}, {"b": 1}),
    (M.EXTEND, INT, 1, 1),
    (M.EXTEND, JSON_ARR, None, [1]),
    (M.REMOVE_IF_PRESENT, INT, 1, 1),
    (M.REMOVE_IF_PRESENT, JSON_ARR, None, 1),
    (M.REMOVE_INDEX, JSON_ARR, [1], 1),
    (M.REMOVE_INDEX, JSON_ARR, [1], -1),
    (M.REMOVE_INDEX, JSON_ARR, [], 0),
    (M.REMOVE_INDEX, JSON_ARR, [1], "0"),
    (M.REMOVE_INDEX, JSON_OBJ, {"0": 1}, 0),
    (M.REMOVE_KEY, JSON_ARR, ["a"], "a"),
    (M.REMOVE_KEY, JSON_OBJ, None, "a"),
    (M.AND, BOOL, True, 1),
    (M.AND, BOOL, True, "yes"),
    (M.AND, BOOL, True, None),
    (M.OR, BOOL, None, True),
    (M.OR, INT, 1, True),
]


def row_id(row: tuple[Any, ...]) -> str:
    operation, declared, *rest = row
    return f"{VariableType.Name(declared)} {M.Name(operation)} {' '.join(map(repr, rest))}"[:60]


class TestMutations:
    """execution.md 8.8."""

    @pytest.mark.parametrize("row", MUTATIONS, ids=row_id)
    def test_result(self, row: tuple[VariableMutationType, VariableType, Any, Any, Any]) -> None:
        operation, declared, left, right, expected = row
        assert same(mutations.mutate(operation, of(left), of(right), typed(declared)), expected)

    @pytest.mark.parametrize("row", NO_MUTATIONS, ids=row_id)
    def test_no_result(self, row: tuple[VariableMutationType, VariableType, Any, Any]) -> None:
        operation, declared, left, right = row
        with pytest.raises(EvaluationError):
            mutations.mutate(operation, of(left), of(right), typed(declared))

    def test_json_is_appended_to_a_str_as_text(self) -> None:
        result = mutations.mutate(M.ADD, of("a"), of([1, {"b": None}]), typed(STR))
        assert result.str.startswith("a")
        assert json.loads(result.str[1:]) == [1, {"b": None}]

    def test_numbers_and_nulls_in_json_survive_a_mutation(self) -> None:
        array = VariableValue(json_arr='[{"z": null, "a": 1}, 1.0, 1, 1e2, "x"]')
        result = mutations.mutate(M.ADD, array, of(0), typed(JSON_ARR))
        assert repr(json.loads(result.json_arr)) == "[{'z': None, 'a': 1}, 1.0, 1, 100.0, 'x', 0]"

    def test_unparsable_json_is_an_error(self) -> None:
        with pytest.raises(EvaluationError):
            mutations.mutate(M.ADD, VariableValue(json_arr="[1,"), of(0), typed(JSON_ARR))


class TestMutationOfAPlace:
    """execution.md 8.8, lhs_json_path."""

    @pytest.mark.parametrize(
        ("operation", "before", "path", "right", "after"),
        [
            (M.ASSIGN, {"a": 1}, "$.a", 2, {"a": 2}),
            (M.ASSIGN, {"a": 1}, "$.a", 2.9, {"a": 2}),
            (M.ASSIGN, {"a": 1.5}, "$.a", 2, {"a": 2.0}),
            (M.ASSIGN, {"a": "x"}, "$.a", 2, {"a": "2"}),
            (M.ASSIGN, {"a": 1, "b": 2}, "$.a", None, {"a": None, "b": 2}),
            (M.ASSIGN, {"a": {"b": 1}}, "$.a.b", 5, {"a": {"b": 5}}),
            (M.ASSIGN, {"z": None, "a": 1}, "$.new", "v", {"z": None, "a": 1, "new": "v"}),
            (M.ASSIGN, {"a": None}, "$.a", [1], {"a": [1]}),
            (M.ADD, {}, "$.count", 5, {"count": 5}),
            (M.ADD, {"count": None}, "$.count", 5, {"count": 5}),
            (M.ADD, {"count": 2}, "$.count", 5, {"count": 7}),
            (M.ADD, {"count": 2}, "$.count", 5.9, {"count": 7}),
            (M.MULTIPLY, {"count": 2.5}, "$.count", 2, {"count": 5.0}),
            (M.MULTIPLY, {}, "$.count", "anything", {"count": "anything"}),
            (M.ADD, {"list": [1]}, "$.list", 2, {"list": [1, 2]}),
            (M.ADD, {"a": [{"n": 1}, {"n": 2}]}, "$.a[1].n", 1, {"a": [{"n": 1}, {"n": 3}]}),
            (M.ASSIGN, [1, 2], "$[0]", 9, [9, 2]),
            (M.REMOVE_KEY, {"a": {"b": 1, "c": 2}}, "$.a", "b", {"a": {"c": 2}}),
        ],
    )
    def test_place(self, operation: VariableMutationType, before: Any, path: str, right: Any, after: Any) -> None:
        assert same(mutations.mutate_at(operation, of(before), path, of(right)), after)

    @pytest.mark.parametrize(
        ("operation", "before", "path", "right"),
        [
            (M.ASSIGN, None, "$.a", 1),
            (M.ASSIGN, "text", "$.a", 1),
            (M.ASSIGN, 5, "$.a", 1),
            (M.ASSIGN, {}, "$.a.b", 1),
            (M.ASSIGN, {"a": None}, "$.a.b", 1),
            (M.ASSIGN, {"a": 5}, "$.a.b", 1),
            (M.ASSIGN, {"a": 1}, "$.a", "no number"),
            (M.ADD, {"a": True}, "$.a", 1),
            (M.DIVIDE, {"a": 1}, "$.a", 0),
        ],
    )
    def test_no_place(self, operation: VariableMutationType, before: Any, path: str, right: Any) -> None:
        with pytest.raises(EvaluationError):
            mutations.mutate_at(operation, of(before), path, of(right))


def expression(left: Any, operation: VariableMutationType, right: Any) -> VariableAssignment:
    return VariableAssignment(
        expression=VariableAssignment.Expression(lhs=literal(left), mutation_type=operation, rhs=literal(right))
    )


class TestExpressions:
    """execution.md 8.8: in an expression the type is the kind of the left value, but INT op DOUBLE is DOUBLE."""

    @pytest.mark.parametrize(
        ("left", "operation", "right", "expected"),
        [
            (1, M.ADD, 2, 3),
            (1, M.ADD, 2.5, 3.5),
            (1.5, M.ADD, 1, 2.5),
            (1, M.ADD, "2", 3),
            ("a", M.ADD, 1, "a1"),
            (10, M.SUBTRACT, 2.5, 7.5),
            (3, M.MULTIPLY, 1.5, 4.5),
            (7, M.DIVIDE, 2, 3),
            (7, M.DIVIDE, 2.0, 3.5),
            (2, M.POW, 3, 8),
            (4, M.POW, 0.5, 2.0),
            (True, M.AND, "false", False),
            ("true", M.OR, False, True),
            ([1], M.EXTEND, [2], [1, 2]),
            ({"a": 1}, M.REMOVE_KEY, "a", {}),
        ],
    )
    def test_result(self, left: Any, operation: VariableMutationType, right: Any, expected: Any) -> None:
        assert same(evaluate(expression(left, operation, right)), expected)

    @pytest.mark.parametrize(
        ("left", "operation", "right"),
        [(None, M.ADD, 1), (1, M.ADD, None), (1, M.DIVIDE, 0), (None, M.AND, True), (True, M.AND, None), (1, M.OR, 1)],
    )
    def test_no_result(self, left: Any, operation: VariableMutationType, right: Any) -> None:
        with pytest.raises(EvaluationError):
            evaluate(expression(left, operation, right))

    def test_both_sides_of_a_logical_expression_are_evaluated(self) -> None:
        broken = VariableAssignment.Expression(lhs=literal(False), mutation_type=M.AND, rhs=expression(1, M.DIVIDE, 0))
        with pytest.raises(EvaluationError):
            evaluate(VariableAssignment(expression=broken))

    def test_expressions_nest(self) -> None:
        outer = VariableAssignment.Expression(
            lhs=expression(1, M.ADD, 2), comparator=C.GREATER_THAN, rhs=expression(2, M.MULTIPLY, 1)
        )
        assert same(evaluate(VariableAssignment(expression=outer)), True)

    @pytest.mark.parametrize(("value", "size"), [("", 0), ("abc", 3), ("ä", 1), ("😀", 2), ([], 0), ([1, [2, 3]], 2)])
    def test_size(self, value: Any, size: int) -> None:
        assignment = VariableAssignment(size_of=VariableAssignment.SizeOf(operand=literal(value)))
        assert same(evaluate(assignment), size)

    @pytest.mark.parametrize("value", [None, 5, 1.5, True, {"a": 1}, b"raw", CHILD])
    def test_no_size(self, value: Any) -> None:
        with pytest.raises(EvaluationError):
            evaluate(VariableAssignment(size_of=VariableAssignment.SizeOf(operand=literal(value))))

    def test_assignment_without_source_is_an_error(self) -> None:
        with pytest.raises(EvaluationError):
            evaluate(VariableAssignment())


class TestComparison:
    """execution.md 8.7."""

    ORDERED = (
        (None, 0),
        (None, ""),
        (None, False),
        (1, 2),
        (-1, 0),
        (1, 1.5),
        (0.5, 1),
        (2**53, float(2**53) + 2),
        (float(2**53), 2**53 + 1),
        (1.0, 2.0),
        ("", "a"),
        ("A", "a"),
        ("a", "aa"),
        ("10", "9"),
        ("\U00010000", "\uffff"),
        (False, True),
        (WfRunId(id="a"), WfRunId(id="b")),
        (WfRunId(id="parent"), CHILD),
        (NOON.replace(hour=11), NOON),
    )

    @pytest.mark.parametrize(("less", "more"), ORDERED)
    def test_order(self, less: Any, more: Any) -> None:
        a, b = of(less), of(more)
        assert expressions.compare(a, C.LESS_THAN, b)
        assert expressions.compare(a, C.LESS_THAN_EQ, b)
        assert expressions.compare(a, C.NOT_EQUALS, b)
        assert expressions.compare(b, C.GREATER_THAN, a)
        assert expressions.compare(b, C.GREATER_THAN_EQ, a)
        assert not expressions.compare(b, C.LESS_THAN, a)
        assert not expressions.compare(b, C.LESS_THAN_EQ, a)
        assert not expressions.compare(a, C.GREATER_THAN, b)
        assert not expressions.compare(a, C.GREATER_THAN_EQ, b)
        assert not expressions.compare(a, C.EQUALS, b)

    @pytest.mark.parametrize(
        ("left", "right"),
        [
            (None, None),
            (1, 1),
            (1, 1.0),
            (0.0, -0.0),
            ("a", "a"),
            (True, True),
            (CHILD, CHILD),
            (NOON, NOON),
        ],
    )
    def test_equal_in_order(self, left: Any, right: Any) -> None:
        a, b = of(left), of(right)
        for comparator in (C.EQUALS, C.LESS_THAN_EQ, C.GREATER_THAN_EQ):
            assert expressions.compare(a, comparator, b)
        for comparator in (C.NOT_EQUALS, C.LESS_THAN, C.GREATER_THAN):
            assert not expressions.compare(a, comparator, b)

    @pytest.mark.parametrize(
        ("left", "right", "equal"),
        [
            ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
            ({"a": 1}, {"a": 2}, False),
            ({"a": 1}, {"a": 1, "b": None}, False),
            ([1, 2], [1, 2], True),
            ([1, 2], [2, 1], False),
            ([True], [1], False),
            ([False], [0], False),
            ([None], [0], False),
            (b"a", b"a", True),
            (b"a", b"b", False),
            ({"a": 1}, None, False),
            ([1], None, False),
            (b"a", None, False),
        ],
    )
    def test_deep_equality(self, left: Any, right: Any, equal: bool) -> None:
        assert expressions.compare(of(left), C.EQUALS, of(right)) == equal
        assert expressions.compare(of(right), C.EQUALS, of(left)) == equal
        assert expressions.compare(of(left), C.NOT_EQUALS, of(right)) != equal

    @pytest.mark.parametrize(
        ("left", "right"),
        [(1, "1"), (1, True), ("true", True), (b"a", "a"), ({"a": 1}, "x"), ([1], {"a": 1}), (NOON, 5), (CHILD, "x")],
    )
    @pytest.mark.parametrize("comparator", [C.EQUALS, C.NOT_EQUALS, C.LESS_THAN, C.GREATER_THAN_EQ])
    def test_different_kinds_are_an_error(self, left: Any, right: Any, comparator: Comparator) -> None:
        with pytest.raises(EvaluationError):
            expressions.compare(of(left), comparator, of(right))

    @pytest.mark.parametrize(("left", "right"), [({"a": 1}, {"a": 2}), ([1], [2]), (b"a", b"b")])
    @pytest.mark.parametrize("comparator", [C.LESS_THAN, C.GREATER_THAN, C.LESS_THAN_EQ, C.GREATER_THAN_EQ])
    def test_values_without_order_are_an_error(self, left: Any, right: Any, comparator: Comparator) -> None:
        with pytest.raises(EvaluationError):
            expressions.compare(of(left), comparator, of(right))

    @pytest.mark.parametrize(
        ("item", "container", "found"),
        [
            ("ell", "hello", True),
            ("", "hello", True),
            ("x", "hello", False),
            (1, [1, 2], True),
            (1.0, [1, 2], True),
            (1, [1.0], True),
            (3, [1, 2], False),
            ("1", [1], False),
            (True, [1], False),
            (1, [True], False),
            (None, [None], True),
            (None, [0, ""], False),
            ({"a": 1}, [{"a": 1}], True),
            ([1], [[1]], True),
            ("a", {"a": None}, True),
            ("b", {"a": "b"}, False),
            (1, {"1": "x"}, True),
        ],
    )
    def test_in(self, item: Any, container: Any, found: bool) -> None:
        assert expressions.compare(of(item), C.IN, of(container)) == found
        assert expressions.compare(of(item), C.NOT_IN, of(container)) != found

    @pytest.mark.parametrize("container", [None, 1, 1.5, True, b"abc", CHILD, NOON])
    @pytest.mark.parametrize("comparator", [C.IN, C.NOT_IN])
    def test_in_what_contains_nothing_is_an_error(self, container: Any, comparator: Comparator) -> None:
        with pytest.raises(EvaluationError):
            expressions.compare(of("a"), comparator, of(container))


class TestFormatStrings:
    """execution.md 8.6."""

    @pytest.mark.parametrize(
        ("pattern", "arguments", "text"),
        [
            ("plain", [], "plain"),
            ("", [], ""),
            ("{0}", ["x"], "x"),
            ("{1} {0} {1}", ["a", "b"], "b a b"),
            ("{0}", [7], "7"),
            ("{0}", [1234], "1,234"),
            ("{0}", [-1234567], "-1,234,567"),
            ("{0}", [2**63 - 1], "9,223,372,036,854,775,807"),
            ("{0}", [2.0], "2"),
            ("{0}", [0.1], "0.1"),
            ("{0}", [1.23456], "1.235"),
            ("{0}", [1234.5], "1,234.5"),
            ("{0}", [-0.25], "-0.25"),
            ("{0}", [1e7], "10,000,000"),
            ("{0}", [0.0001], "0"),
            ("{0}", [True], "true"),
            ("{0}", [None], "null"),
            ("{0}", ["{1}"], "{1}"),
            ("{0}", ["it's"], "it's"),
            ("{1}", ["x"], "{1}"),
            ("{0}", [], "{0}"),
            ("it''s {0}", ["x"], "it's x"),
            ("'{0}'", ["x"], "{0}"),
            ("'{'{0}'}'", ["x"], "{x}"),
            ("it's {0}", ["x"], "its {0}"),
            ("100% {0}", ["x"], "100% x"),
            ("{10}", list("abcdefghijk"), "k"),
        ],
    )
    def test_render(self, pattern: str, arguments: list[Any], text: str) -> None:
        assert format_strings.render(pattern, [of(one) for one in arguments]) == text

    @pytest.mark.parametrize(("number", "start"), [(1e25, "10,000,000,"), (-1e30, "-1,000,000,"), (1e300, "1,000,")])
    def test_very_large_double(self, number: float, start: str) -> None:
        assert format_strings.render("{0}", [of(number)]).startswith(start)

    @pytest.mark.parametrize("pattern", ["{0", "{", "{name}", "{}", "{-1}", "{0} {"])
    def test_malformed_pattern(self, pattern: str) -> None:
        with pytest.raises(EvaluationError):
            format_strings.render(pattern, [of("x")])

    @pytest.mark.parametrize("pattern", [None, 5, True, {"a": 1}])
    def test_format_must_be_a_str(self, pattern: Any) -> None:
        text = VariableAssignment.FormatString(format=literal(pattern))
        with pytest.raises(EvaluationError):
            evaluate(VariableAssignment(format_string=text))

    def test_arguments_are_assignments(self) -> None:
        text = VariableAssignment.FormatString(format=literal("{0}!"), args=[expression(1, M.ADD, 2)])
        assert same(evaluate(VariableAssignment(format_string=text)), "3!")


DOCUMENT = {
    "name": "Ann",
    "age": 30,
    "ratio": 1.0,
    "big": 1e2,
    "ok": True,
    "none": None,
    "list": [1, {"x": "deep"}, [2]],
    "obj": {"z": 1, "a": None},
    "a b": "spaced",
}


class TestJsonPath:
    """execution.md 8.5, json_path."""

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("$.name", "Ann"),
            ("$.age", 30),
            ("$.ratio", 1.0),
            ("$.big", 100.0),
            ("$.ok", True),
            ("$.none", None),
            ("$.missing", None),
            ("$.missing.deeper", None),
            ("$.name.deeper", None),
            ("$.list", [1, {"x": "deep"}, [2]]),
            ("$.list[0]", 1),
            ("$.list[1].x", "deep"),
            ("$.list[9]", None),
            ("$.obj", {"z": 1, "a": None}),
            ("$['a b']", "spaced"),
        ],
    )
    def test_read(self, path: str, expected: Any) -> None:
        assignment = literal(DOCUMENT)
        assignment.json_path = path
        assert same(evaluate(assignment), expected)

    def test_read_from_an_array(self) -> None:
        assignment = literal([{"n": 1}, {"n": 2}])
        assignment.json_path = "$[1].n"
        assert same(evaluate(assignment), 2)

    @pytest.mark.parametrize("value", [None, 5, "text", True, 1.5, b"raw"])
    def test_path_into_anything_else_is_an_error(self, value: Any) -> None:
        assignment = literal(value)
        assignment.json_path = "$.a"
        with pytest.raises(EvaluationError):
            evaluate(assignment)

    def test_unparsable_json_is_an_error(self) -> None:
        assignment = VariableAssignment(literal_value=VariableValue(json_obj="{broken"), json_path="$.a")
        with pytest.raises(EvaluationError):
            evaluate(assignment)


def lh_path(value: Any, *selectors: str | int) -> VariableAssignment:
    assignment = literal(value)
    assignment.lh_path.SetInParent()
    for one in selectors:
        selector = LHPath.Selector(key=one) if isinstance(one, str) else LHPath.Selector(index=one)
        assignment.lh_path.path.append(selector)
    return assignment


class TestLhPath:
    """execution.md 8.5, lh_path."""

    @pytest.mark.parametrize(
        ("selectors", "expected"),
        [
            (("name",), "Ann"),
            (("list", 1, "x"), "deep"),
            (("list", -1), [2]),
            (("list", 9), None),
            (("missing",), None),
            (("missing", "deeper"), None),
            (("a b",), "spaced"),
            (("obj", "z"), 1),
        ],
    )
    def test_read(self, selectors: tuple[str | int, ...], expected: Any) -> None:
        assert same(evaluate(lh_path(DOCUMENT, *selectors)), expected)

    @pytest.mark.parametrize("value", [None, 5, "text", {"a": 1}, [1], True])
    def test_empty_path_changes_nothing(self, value: Any) -> None:
        assert evaluate(lh_path(value)) == of(value)

    @pytest.mark.parametrize("value", [None, 5, "text", True, 1.5])
    def test_selectors_into_a_primitive_or_null_are_an_error(self, value: Any) -> None:
        with pytest.raises(EvaluationError):
            evaluate(lh_path(value, "a"))


ODD: dict[str, VariableValue] = {
    "null": NULL,
    "largest int": of(2**63 - 1),
    "smallest int": of(-(2**63)),
    "large double": of(1e300),
    "infinity": of(float("inf")),
    "not a number": of(float("nan")),
    "long digits": of("1" * 5000),
    "bytes that are no text": of(b"\xff\xfe"),
    "empty id": of(WfRunId()),
    "empty array": of([]),
    "empty object": of({}),
    "broken object": VariableValue(json_obj="{broken"),
    "no text": VariableValue(json_obj=""),
    "object in an array": VariableValue(json_arr="{}"),
    "array in an object": VariableValue(json_obj="[1]"),
    "large number in an array": VariableValue(json_arr="[123456789012345678901234567890]"),
    "half a surrogate pair": VariableValue(json_arr='["\\ud800"]'),
    "far future": VariableValue(utc_timestamp=Timestamp(seconds=10**15)),
    "struct": VariableValue(struct=Struct()),
    "array": VariableValue(array=Array()),
}


@pytest.mark.parametrize("odd", ODD)
class TestOddValues:
    """Whatever a value holds: an operation has a result or there is a VAR_SUB_ERROR, never anything else."""

    def test_text(self, odd: str) -> None:
        with suppress(EvaluationError):
            format_strings.render("{0}", [ODD[odd]])
        with suppress(EvaluationError):
            values.text_of(ODD[odd])

    def test_cast(self, odd: str) -> None:
        for target in SAMPLES:
            with suppress(EvaluationError):
                casting.cast(ODD[odd], target)
            with suppress(EvaluationError):
                casting.coerce(ODD[odd], typed(target))

    def test_path(self, odd: str) -> None:
        for path in ("$", "$.a", "$.a.b", "$[0]", "$[*]", "$..a", "$[", ""):
            with suppress(EvaluationError):
                evaluate(VariableAssignment(literal_value=ODD[odd], json_path=path))

    def test_comparison(self, odd: str) -> None:
        for other in (of(sample) for sample in SAMPLES.values()):
            for comparator in (C.EQUALS, C.LESS_THAN, C.GREATER_THAN_EQ, C.IN, C.NOT_IN):
                with suppress(EvaluationError):
                    expressions.compare(ODD[odd], comparator, other)

    def test_mutation(self, odd: str) -> None:
        for operation in MUTATION_TYPES:
            for other in (of(sample) for sample in SAMPLES.values()):
                for left, right in ((ODD[odd], other), (other, ODD[odd])):
                    for declared in SAMPLES:
                        with suppress(EvaluationError):
                            mutations.mutate(operation, left, right, typed(declared))

    def test_mutation_of_a_place(self, odd: str) -> None:
        for operation in MUTATION_TYPES:
            for other in (of(sample) for sample in SAMPLES.values()):
                for path in ("$", "$.a", "$[0]"):
                    with suppress(EvaluationError):
                        mutations.mutate_at(operation, ODD[odd], path, other)


class TestInARun:
    """execution.md 8.5 and 8.8 through a whole WfRun."""

    def test_int_stored_in_a_double_variable_is_added_to_as_double(self) -> None:
        def body(wf: WorkflowThread) -> None:
            ratio = wf.declare_double("ratio")
            wf.mutate(ratio, M.DIVIDE, 2)

        world = World()
        put(world, body)
        world.run("wf", ratio=7)
        assert python(world, "ratio") == 3.5

    def test_masked_variable_is_computed_with_its_real_value(self) -> None:
        def body(wf: WorkflowThread) -> None:
            secret = wf.declare_str("secret").masked()
            wf.declare_str("copy").assign(secret)

        world = World()
        put(world, body)
        world.run("wf", secret="password")
        assert python(world, "copy") == "password"

    def test_old_forms_of_the_right_side_work(self) -> None:
        mutation = VariableMutation(lhs_name="n", operation=M.ADD, literal_value=VariableValue(int=5))
        world = World()
        put_edited(
            world,
            lambda wf: wf.declare_int("n", 1),
            lambda spec: spec.nodes["0-entrypoint-ENTRYPOINT"].outgoing_edges[0].variable_mutations.append(mutation),
        )
        world.run("wf")
        assert python(world, "n") == 6

    def test_default_keeps_nulls_and_key_order(self) -> None:
        world = World()
        put(world, lambda wf: wf.declare_json_obj("o", {"b": None, "a": [1, 2.0]}))
        world.submit(RunWfRequest(wf_spec_name="wf", id="r"))
        assert repr(extract_value(world.variable("o"))) == repr({"b": None, "a": [1, 2.0]})

    @pytest.mark.parametrize("operation", [M.ADD, M.SUBTRACT])
    def test_mutation_of_a_null_variable_is_var_sub_error(self, operation: VariableMutationType) -> None:
        world = World()
        put(world, lambda wf: wf.mutate(wf.declare_int("n"), operation, 1))
        assert world.run("wf").status == ERROR
        assert failure(world, 0).failure_name == "VAR_SUB_ERROR"
        assert world.variable("n") == NULL
