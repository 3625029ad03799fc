"""What is known of a value's type before a WfSpec runs, and which types may stand where (api.md 5.4 to 5.6)."""

from enum import Enum

from littlehorse.model import (
    Comparator,
    LegacyEdgeCondition,
    ReturnType,
    TypeDefinition,
    VariableAssignment,
    VariableDef,
    VariableMutationType,
    VariableType,
)

from lhd.core import json_path
from lhd.core.casting import can_cast
from lhd.core.records import Transaction
from lhd.core.values import EvaluationError, primitive_fits, type_of
from lhd.errors import Rejection, invalid_argument


class Shape(Enum):
    """What is known where it is not one primitive type."""

    UNKNOWN = "unknown"
    NULL = "NULL"
    VOID = "void"


Known = VariableType | Shape

_NUMBERS = frozenset({VariableType.INT, VariableType.DOUBLE})
_JSON = frozenset({VariableType.JSON_OBJ, VariableType.JSON_ARR})
_ORDERED = _NUMBERS | {VariableType.STR, VariableType.BOOL, VariableType.TIMESTAMP}
_SCALARS = _NUMBERS | {VariableType.STR, VariableType.BOOL, VariableType.BYTES, VariableType.WF_RUN_ID}
_WEAK_SOURCES = frozenset({"node_output", "expression"})


def name_of(known: Known) -> str:
    """How a type is called in texts for people."""
    return known.value if isinstance(known, Shape) else VariableType.Name(known)


def return_shape(return_type: ReturnType) -> Known:
    """The type that a ReturnType names; without one it is void."""
    if not return_type.HasField("return_type"):
        return Shape.VOID
    return return_type.return_type.primitive_type


def normalise(definition: TypeDefinition, what: str) -> None:
    """Make an empty TypeDefinition the JSON_OBJ that it means; refuse types that are not supported."""
    shape = definition.WhichOneof("defined_type")
    if shape is None:
        definition.primitive_type = VariableType.JSON_OBJ
    elif shape != "primitive_type":
        raise invalid_argument(f"{what}: Struct, Array and Map types are not supported by this version of lhd")
    elif definition.primitive_type not in VariableType.values():
        raise invalid_argument(f"{what}: {definition.primitive_type} is not a VariableType")


def normalise_variable(variable: VariableDef, what: str) -> None:
    """Bring a VariableDef from its deprecated form to ``type_def``."""
    if variable.HasField("type"):
        variable.type_def.CopyFrom(TypeDefinition(primitive_type=variable.type, masked=variable.masked_value))
    variable.ClearField("type")
    variable.ClearField("masked_value")
    normalise(variable.type_def, what)


class TypeContext:
    """The place inside a PutWfSpec request that is being checked, and what is declared around it."""

    def __init__(
        self, tx: Transaction, tenant: str, spec_name: str, variables: dict[str, VariableDef], thread_name: str
    ) -> None:
        self.tx = tx
        self.tenant = tenant
        self.variables = variables
        self._where = f"WfSpec '{spec_name}', thread '{thread_name}'"
        self.node_name = ""
        self.outputs: dict[str, Known] = {}

    def refuse(self, text: str) -> Rejection:
        """The refusal of the request because of this place."""
        node = f", node '{self.node_name}'" if self.node_name else ""
        return invalid_argument(f"{self._where}{node}: {text}")

    def variable_type(self, name: str) -> VariableType:
        """The declared type of a variable of any thread; raises Rejection where there is none."""
        variable = self.variables.get(name)
        if variable is None:
            raise self.refuse(f"no thread declares the variable '{name}'")
        return variable.type_def.primitive_type

    def known(self, assignment: VariableAssignment) -> Known:
        """What is known of an assignment's type; raises Rejection where it cannot be evaluated at all."""
        source = self._source(assignment)
        path = assignment.WhichOneof("path")
        if path == "json_path":
            self._check_json_path(assignment.json_path)
            source = self._inside(source)
        elif path == "lh_path" and assignment.lh_path.path:
            self._check_lh_path(assignment)
            source = self._inside(source)
        if assignment.HasField("target_type"):
            return self._cast(source, assignment.target_type)
        return source

    def _source(self, assignment: VariableAssignment) -> Known:
        match assignment.WhichOneof("source"):
            case "literal_value":
                return self._literal(assignment)
            case "variable_name":
                return self.variable_type(assignment.variable_name)
            case "node_output":
                return self._node_output(assignment.node_output.node_name)
            case "format_string":
                self.require(assignment.format_string.format, VariableType.STR)
                for argument in assignment.format_string.args:
                    self.known(argument)
                return VariableType.STR
            case "expression":
                return self._expression(assignment.expression)
            case "size_of":
                return self._size_of(assignment.size_of.operand)
            case None:
                raise self.refuse("a VariableAssignment has no source")
            case other:
                raise self.refuse(f"{other} is not supported by this version of lhd")

    def _literal(self, assignment: VariableAssignment) -> Known:
        value = assignment.literal_value
        if value.WhichOneof("value") in ("struct", "array", "map"):
            raise self.refuse("Struct, Array and Map values are not supported by this version of lhd")
        literal = type_of(value)
        return Shape.NULL if literal is None else literal

    def _node_output(self, node_name: str) -> Known:
        if node_name not in self.outputs:
            raise self.refuse(f"there is no node '{node_name}' in this thread to take the output of")
        output = self.outputs[node_name]
        return Shape.UNKNOWN if output == Shape.VOID else output

    def _inside(self, source: Known) -> Known:
        if not isinstance(source, Shape) and source not in _JSON:
            raise self.refuse(f"a path cannot go into {name_of(source)}")
        return Shape.UNKNOWN

    def _check_json_path(self, path: str) -> None:
        try:
            json_path.check(path)
        except EvaluationError as error:
            raise self.refuse(str(error)) from error

    def _check_lh_path(self, assignment: VariableAssignment) -> None:
        try:
            json_path.lh_path_steps(assignment.lh_path)
        except EvaluationError as error:
            raise self.refuse(f"{error} by this version of lhd") from error

    def _cast(self, source: Known, target: TypeDefinition) -> Known:
        normalise(target, "target_type")
        if not isinstance(source, Shape) and not can_cast(source, target.primitive_type):
            raise self.refuse(f"cannot cast {name_of(source)} to {name_of(target.primitive_type)}")
        return target.primitive_type

    def _size_of(self, operand: VariableAssignment) -> Known:
        known = self.known(operand)
        if not isinstance(known, Shape) and known not in (VariableType.STR, VariableType.JSON_ARR):
            raise self.refuse(f"size() only supports STR, ARRAY and JSON_ARR, not {name_of(known)}")
        return VariableType.INT

    def _expression(self, expression: VariableAssignment.Expression) -> Known:
        left, right = self.known(expression.lhs), self.known(expression.rhs)
        if expression.WhichOneof("operation") == "comparator":
            self.check_comparison(left, expression.comparator, right)
            return VariableType.BOOL
        return self.operation_type(expression.mutation_type, left, right)

    def require(self, assignment: VariableAssignment, *expected: VariableType) -> None:
        """The weak form: the assignment can give one of these types, as far as anybody knows."""
        known = self.known(assignment)
        if isinstance(known, Shape) or assignment.WhichOneof("source") in _WEAK_SOURCES:
            return
        if not any(primitive_fits(known, one) for one in expected):
            raise self.refuse(f"{name_of(known)} given where {' or '.join(map(name_of, expected))} is needed")

    def require_assignable(self, assignment: VariableAssignment, expected: VariableType, what: str) -> None:
        """The strong form: a known type must fit, or be cast to one that does."""
        known = self.known(assignment)
        if not isinstance(known, Shape) and not primitive_fits(known, expected):
            raise self._misfit(known, expected, what)

    def _misfit(self, given: Known, expected: VariableType, what: str) -> Rejection:
        return self.refuse(f"{what}: Cannot assign {name_of(given)} to {name_of(expected)} without explicit casting")

    def check_condition(self, assignment: VariableAssignment) -> None:
        """A condition can give BOOL."""
        self.require(assignment, VariableType.BOOL)

    def check_legacy_condition(self, condition: LegacyEdgeCondition) -> None:
        """Both sides of the old form of a condition compare."""
        self.check_comparison(self.known(condition.left), condition.comparator, self.known(condition.right))

    def check_comparison(self, left: Known, comparator: int, right: Known) -> None:
        """The two types compare, as far as they are known."""
        if comparator not in Comparator.values():
            raise self.refuse(f"{comparator} is not a Comparator")
        if isinstance(left, Shape) or isinstance(right, Shape):
            return
        match comparator:
            case Comparator.EQUALS | Comparator.NOT_EQUALS:
                accepted = left == right or (left in _ORDERED and right in _ORDERED)
            case Comparator.IN | Comparator.NOT_IN:
                accepted = right in _JSON and (right == VariableType.JSON_ARR or left == VariableType.STR)
            case _:
                accepted = right in _ORDERED
        if not accepted:
            comparison = Comparator.Name(Comparator.ValueType(comparator))
            raise self.refuse(f"{name_of(left)} {comparison} {name_of(right)} does not compare")

    def operation_type(self, operation: int, left: Known, right: Known) -> Known:
        """The type of ``left operation right``; raises Rejection where the operation has no meaning for them."""
        if operation not in VariableMutationType.values():
            raise self.refuse(f"{operation} is not a VariableMutationType")
        if operation in (VariableMutationType.AND, VariableMutationType.OR):
            return VariableType.BOOL
        if operation == VariableMutationType.ASSIGN:
            return right
        if isinstance(left, Shape):
            return Shape.UNKNOWN
        if isinstance(right, Shape):
            return left
        if not _accepts(operation, left, right):
            verb = VariableMutationType.Name(VariableMutationType.ValueType(operation)).lower().replace("_", " ")
            raise self.refuse(f"cannot {verb} to a {name_of(left)}: the other side is {name_of(right)}")
        both = {left, right}
        if operation == VariableMutationType.POW and both == set(_NUMBERS):
            return VariableType.DOUBLE
        return left

    def check_mutation(self, name: str, operation: int, right: Known, what: str) -> None:
        """The operation has a meaning for the variable and its result fits it."""
        declared = self.variable_type(name)
        result = self.operation_type(operation, declared, right)
        computed = operation == VariableMutationType.POW and result == VariableType.DOUBLE
        if not isinstance(result, Shape) and not computed and not primitive_fits(result, declared):
            raise self._misfit(result, declared, what)


def _accepts(operation: int, left: VariableType, right: VariableType) -> bool:
    match operation:
        case VariableMutationType.ADD:
            return (
                (left in _NUMBERS and right in _NUMBERS)
                or (left == VariableType.STR and right in _SCALARS)
                or left == VariableType.JSON_ARR
            )
        case (
            VariableMutationType.SUBTRACT
            | VariableMutationType.MULTIPLY
            | VariableMutationType.DIVIDE
            | VariableMutationType.POW
        ):
            return left in _NUMBERS and right in _NUMBERS
        case VariableMutationType.EXTEND:
            return (left == VariableType.STR and right in _SCALARS) or (
                left == right and left in (VariableType.JSON_ARR, VariableType.BYTES)
            )
        case VariableMutationType.REMOVE_IF_PRESENT:
            return left in _JSON | {VariableType.STR} and right in _SCALARS
        case VariableMutationType.REMOVE_INDEX:
            return left in (VariableType.STR, VariableType.JSON_ARR) and right in _NUMBERS
        case VariableMutationType.REMOVE_KEY:
            return left == VariableType.JSON_OBJ and right in _SCALARS
    return False
