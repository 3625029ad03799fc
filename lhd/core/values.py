"""VariableValues: NULL, JSON, text forms, types and the rule of what fits a type (execution.md 8.1, 8.2)."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isfinite
from typing import Any

import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import TypeDefinition, VariableType, VariableValue

from lhd.core.ids import printed, require_shallow, timestamp
from lhd.errors import LhdError

NULL = VariableValue()

TYPE_OF_FIELD = {
    "json_obj": VariableType.JSON_OBJ,
    "json_arr": VariableType.JSON_ARR,
    "double": VariableType.DOUBLE,
    "bool": VariableType.BOOL,
    "str": VariableType.STR,
    "int": VariableType.INT,
    "bytes": VariableType.BYTES,
    "wf_run_id": VariableType.WF_RUN_ID,
    "utc_timestamp": VariableType.TIMESTAMP,
}
FIELD_OF_TYPE = {number: field for field, number in TYPE_OF_FIELD.items()}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
NESTED_MAX = 10
"""Containers inside one another; protobuf reads messages that are nested about ten times deeper."""

TEXTUAL = frozenset(
    {VariableType.INT, VariableType.DOUBLE, VariableType.BOOL, VariableType.BYTES, VariableType.WF_RUN_ID}
)
"""The types that STR stands for, and that stand for STR."""


class EvaluationError(LhdError):
    """A value cannot be computed; the node at hand turns this into a Failure."""


def require_size(value: VariableValue, bytes_max: int) -> None:
    """Raise EvaluationError for a value that is larger than a record may be."""
    if value.ByteSize() > bytes_max:
        raise EvaluationError(f"the value has {value.ByteSize()} bytes, a record holds {bytes_max}")


def is_null(value: VariableValue) -> bool:
    """Whether the value's oneof is unset."""
    return value.WhichOneof("value") is None


def type_of(value: VariableValue) -> VariableType | None:
    """The primitive type of a value; None for NULL and for Struct, Array and Map values."""
    field = value.WhichOneof("value")
    return TYPE_OF_FIELD.get(field) if field else None


def kind_name(value: VariableValue) -> str:
    """How a value's kind is called in texts for people."""
    field = value.WhichOneof("value")
    if field is None:
        return "NULL"
    primitive = TYPE_OF_FIELD.get(field)
    return VariableType.Name(primitive) if primitive is not None else field.capitalize()


def type_name(definition: TypeDefinition) -> str:
    """How a TypeDefinition is called in texts for people."""
    match definition.WhichOneof("defined_type"):
        case "struct_def_id":
            return f"Struct '{definition.struct_def_id.name}'"
        case "inline_array_def":
            return f"Array of {type_name(definition.inline_array_def.array_type)}"
        case "inline_map_def":
            types = definition.inline_map_def
            return f"Map of {type_name(types.key_type)} to {type_name(types.value_type)}"
    return VariableType.Name(definition.primitive_type)


def primitive_fits(given: VariableType, expected: VariableType) -> bool:
    """Whether a value of one primitive type may stand where another is expected, without a cast."""
    if given == expected:
        return True
    if expected == VariableType.STR:
        return given in TEXTUAL
    return expected == VariableType.DOUBLE and given == VariableType.INT


def from_python(value: Any) -> VariableValue:
    """The VariableValue of a JSON-like Python value, of bytes or of an aware datetime.

    Raises EvaluationError for anything else, such as an integer of more than 64 bits.
    """
    if value is None:
        return VariableValue()
    if isinstance(value, bool):
        return VariableValue(bool=value)
    if isinstance(value, str):
        return VariableValue(str=value)
    if isinstance(value, int):
        return int_value(value)
    if isinstance(value, float):
        return VariableValue(double=value)
    if isinstance(value, bytes):
        return VariableValue(bytes=value)
    if isinstance(value, dict):
        return VariableValue(json_obj=_json_text(value))
    if isinstance(value, list):
        return VariableValue(json_arr=_json_text(value))
    if isinstance(value, datetime):
        return VariableValue(utc_timestamp=timestamp(int(value.timestamp() * 1000)))
    raise EvaluationError(f"a {type(value).__name__} cannot become a variable's value")


def _json_text(value: Any) -> str:
    try:
        return orjson.dumps(value).decode()
    except TypeError as error:
        raise EvaluationError(f"not JSON: {error}") from error


def int_value(number: int) -> VariableValue:
    """An INT; raises EvaluationError outside 64 bits."""
    if not INT_MIN <= number <= INT_MAX:
        raise EvaluationError("an INT has 64 bits; the number is larger")
    return VariableValue(int=number)


def to_json(value: VariableValue) -> Any:
    """The JSON-like Python value of a value; raises EvaluationError where JSON text cannot be parsed."""
    field = value.WhichOneof("value")
    if field in ("json_obj", "json_arr"):
        parsed = parse_json(getattr(value, field))
        if not isinstance(parsed, dict if field == "json_obj" else list):
            raise EvaluationError(f"the text of a {kind_name(value)} does not hold one")
        return parsed
    if field in (None, "bool", "str", "int", "double"):
        return getattr(value, field) if field else None
    return text_of(value)


def items_of(value: VariableValue) -> list[VariableValue]:
    """The items of a JSON_ARR or an Array; raises EvaluationError for any other value."""
    match value.WhichOneof("value"):
        case "json_arr":
            return [from_python(item) for item in to_json(value)]
        case "array":
            return list(value.array.items)
    raise EvaluationError(f"{kind_name(value)} is no list")


def parse_json(text: str) -> Any:
    """Parse the JSON text of a JSON_OBJ or JSON_ARR."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise EvaluationError(f"not JSON: {error}") from error


@contextmanager
def computing() -> Iterator[None]:
    """Turn what the libraries below an expression raise for odd values into EvaluationError."""
    try:
        yield
    except (ValueError, OverflowError, RecursionError) as error:
        raise EvaluationError(f"the value cannot be computed ({type(error).__name__})") from error


def require_sound(value: VariableValue, depth: int = 0) -> None:
    """Raise EvaluationError for a value that must not be stored.

    That is text that is not the JSON that its kind promises, a time out of range, an id of too many parts, and
    containers that nest deeper than a stored message can be read.
    """
    if depth > NESTED_MAX:
        raise EvaluationError(f"the value nests deeper than {NESTED_MAX} levels")
    match value.WhichOneof("value"):
        case "wf_run_id":
            with computing():
                require_shallow(value.wf_run_id)
        case "json_obj" | "json_arr":
            _json_text(to_json(value))
        case "utc_timestamp":
            text_of(value)
        case "array" | "map" | "struct":
            for part in parts_of(value):
                require_sound(part, depth + 1)


def parts_of(value: VariableValue) -> list[VariableValue]:
    """The values directly inside a container; none for any other value."""
    match value.WhichOneof("value"):
        case "array":
            return list(value.array.items)
        case "map":
            return [part for entry in value.map.entries for part in (entry.key, entry.value)]
        case "struct":
            return [field.value for field in value.struct.struct.fields.values()]
    return []


def text_of(value: VariableValue) -> str:
    """The text form of a value (execution.md 8.5); raises EvaluationError for NULL and containers."""
    field = value.WhichOneof("value")
    if field in ("str", "json_obj", "json_arr"):
        return str(getattr(value, field))
    if field == "int":
        return str(value.int)
    if field == "double":
        return double_text(value.double)
    if field == "bool":
        return "true" if value.bool else "false"
    if field == "bytes":
        return value.bytes.decode("utf-8", "replace")
    if field == "wf_run_id":
        return printed(value.wf_run_id)
    if field == "utc_timestamp":
        return _instant_text(value.utc_timestamp)
    raise EvaluationError(f"{kind_name(value)} has no text form")


def _instant_text(stamp: Timestamp) -> str:
    try:
        return stamp.ToJsonString()
    except ValueError as error:
        raise EvaluationError("a TIMESTAMP is of the years 1 to 9999") from error


def double_text(number: float) -> str:
    """A DOUBLE as text: always with a fraction, with an exponent from 10^7 up and below 10^-3."""
    if not isfinite(number):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(repr(number), "NaN")
    if number == 0 or 1e-3 <= abs(number) < 1e7:
        text = format(Decimal(repr(number)), "f")
        return text if "." in text else f"{text}.0"
    sign, digits, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    mantissa = "".join(map(str, digits))
    return f"{'-' if sign else ''}{mantissa[0]}.{mantissa[1:] or '0'}E{exponent + len(digits) - 1}"


def instant_ms(text: str) -> int:
    """Milliseconds since the epoch of an ISO-8601 instant with zone ``Z``."""
    if not text.endswith("Z"):
        raise EvaluationError("not an ISO-8601 instant ending with Z")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise EvaluationError("not an ISO-8601 instant ending with Z") from error
    return (moment - _EPOCH) // timedelta(milliseconds=1)
