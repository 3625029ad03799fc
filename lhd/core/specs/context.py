"""The place in a PutWfSpec request that is being checked, and what is known of the types around it (api.md 5.4)."""

from collections.abc import Callable, Iterable, Mapping

from littlehorse.model import (
    Comparator,
    FailureHandlerDef,
    LegacyEdgeCondition,
    LHPath,
    MapBuilder,
    StructBuilder,
    StructDefId,
    ThreadSpec,
    TypeDefinition,
    VariableAssignment,
    VariableMutationType,
    VariableType,
    WfSpec,
)

from lhd.core import json_path
from lhd.core.failure import ERROR_NAMES
from lhd.core.fitting import StoredStructDefs, is_required
from lhd.core.ids import is_lh_name
from lhd.core.records import Transaction
from lhd.core.specs.definitions import normalise, pin
from lhd.core.specs.types import (
    JSON,
    ArrayType,
    Known,
    MapType,
    Shape,
    StructType,
    assignable,
    castable,
    comparable,
    name_of,
    operation_type,
    type_of_definition,
    type_of_literal,
)
from lhd.core.values import EvaluationError
from lhd.errors import Rejection, invalid_argument

_WEAK_SOURCES = frozenset({"node_output", "expression"})


class TypeContext:
    """One place of the request; the methods raise Rejection with a text that names it."""

    def __init__(
        self, tx: Transaction, tenant: str, spec: WfSpec, variables: Mapping[str, TypeDefinition], thread_name: str
    ) -> None:
        self.tx = tx
        self.tenant = tenant
        self.spec = spec
        self.thread_name = thread_name
        self.structs = StoredStructDefs(tx, tenant)
        self._variables = variables
        self.node_name = ""
        self.outputs: dict[str, Known] = {}
        self.output_of: Callable[[WfSpec], Known] = lambda _: Shape.UNKNOWN

    @property
    def thread_spec(self) -> ThreadSpec:
        """The ThreadSpec that is being checked."""
        return self.spec.thread_specs[self.thread_name]

    def refuse(self, text: str) -> Rejection:
        """The refusal of the request because of this place."""
        return invalid_argument(f"{self._where}: {text}")

    @property
    def _where(self) -> str:
        node = f", node '{self.node_name}'" if self.node_name else ""
        return f"WfSpec '{self.spec.id.name}', thread '{self.thread_name}'{node}"

    def variable_type(self, name: str) -> Known:
        """The declared type of a variable of any thread."""
        own = (variable.var_def for variable in self.thread_spec.variable_defs)
        declared = next((var.type_def for var in own if var.name == name), self._variables.get(name))
        if declared is None:
            raise self.refuse(f"no thread declares the variable '{name}'")
        return type_of_definition(declared)

    def known(self, assignment: VariableAssignment) -> Known:
        """What is known of an assignment's type."""
        source = self._source(assignment)
        path = assignment.WhichOneof("path")
        if path == "json_path":
            source = self._inside_json(source, assignment.json_path)
        elif path == "lh_path":
            source = self._inside(source, assignment.lh_path)
        if assignment.HasField("target_type"):
            return self._cast(source, assignment.target_type)
        return source

    def _source(self, assignment: VariableAssignment) -> Known:
        match assignment.WhichOneof("source"):
            case "literal_value":
                return type_of_literal(assignment.literal_value)
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
            case "struct_builder":
                return self._struct_builder(assignment.struct_builder)
            case "map_builder":
                return self._map_builder(assignment.map_builder)
        raise self.refuse("a VariableAssignment has no source")

    def _node_output(self, node_name: str) -> Known:
        if node_name not in self.outputs:
            raise self.refuse(f"there is no node '{node_name}' in this thread to take the output of")
        output = self.outputs[node_name]
        return Shape.UNKNOWN if output == Shape.VOID else output

    def _inside_json(self, source: Known, path: str) -> Known:
        try:
            json_path.check(path)
        except EvaluationError as error:
            raise self.refuse(str(error)) from error
        if not isinstance(source, Shape) and source not in JSON:
            raise self.refuse(f"a JSONPath cannot go into {name_of(source)}")
        return Shape.UNKNOWN

    def _inside(self, source: Known, path: LHPath) -> Known:
        for selector in path.path:
            source = self._select(source, selector)
        return source

    def _select(self, source: Known, selector: LHPath.Selector) -> Known:
        kind = selector.WhichOneof("selector_type")
        if kind is None:
            raise self.refuse("a selector of a path is empty")
        if kind == "dynamic":
            self.known(selector.dynamic)
        match source:
            case Shape() | VariableType.JSON_OBJ | VariableType.JSON_ARR:
                return Shape.UNKNOWN
            case StructType() if kind == "key":
                return self._field_type(source, selector.key)
            case StructType() if kind == "dynamic":
                return Shape.UNKNOWN
            case ArrayType() if kind != "key":
                return source.element
            case MapType() if kind != "index":
                return source.value
        raise self.refuse(f"a path cannot go into {name_of(source)} by {kind}")

    def _field_type(self, struct: StructType, name: str) -> Known:
        try:
            fields = self.structs.struct_def(StructDefId(name=struct.name, version=struct.version)).fields
        except EvaluationError as error:
            raise self.refuse(str(error)) from error
        if name not in fields:
            raise self.refuse(f"could not find field '{name}' in StructDef '{struct.name}' {struct.version}")
        return type_of_definition(fields[name].field_type)

    def _cast(self, source: Known, target: TypeDefinition) -> Known:
        normalise(self.tx, self.tenant, target, f"{self._where}, target_type")
        known = type_of_definition(target)
        if not castable(source, known):
            raise self.refuse(f"cannot cast {name_of(source)} to {name_of(known)}")
        return known

    def _size_of(self, operand: VariableAssignment) -> Known:
        known = self.known(operand)
        sized = known in (VariableType.STR, VariableType.JSON_ARR) or isinstance(known, ArrayType | Shape)
        if not sized:
            raise self.refuse(f"size() only supports STR, ARRAY and JSON_ARR, not {name_of(known)}")
        return VariableType.INT

    def _struct_builder(self, builder: StructBuilder) -> Known:
        pin(self.tx, self.tenant, builder.struct_def_id, f"{self._where}, a struct builder")
        struct = StructType(builder.struct_def_id.name, builder.struct_def_id.version)
        for name, value in builder.value.fields.items():
            expected = self._field_type(struct, name)
            match value.WhichOneof("struct_value"):
                case "simple_value":
                    self.require_assignable(value.simple_value, expected, f"field '{name}'")
                case "sub_structure":
                    self._sub_structure(builder, name, expected)
        definition = self.structs.struct_def(builder.struct_def_id)
        for name, field in definition.fields.items():
            if is_required(field) and name not in builder.value.fields:
                raise self.refuse(f"a Struct '{struct.name}' needs the field '{name}'")
        return struct

    def _sub_structure(self, builder: StructBuilder, name: str, expected: Known) -> None:
        if not isinstance(expected, StructType):
            raise self.refuse(f"the field '{name}' of '{builder.struct_def_id.name}' is {name_of(expected)}, no Struct")
        inner = StructBuilder(
            struct_def_id=StructDefId(name=expected.name, version=expected.version),
            value=builder.value.fields[name].sub_structure,
        )
        self._struct_builder(inner)

    def _map_builder(self, builder: MapBuilder) -> Known:
        definition = TypeDefinition(inline_map_def=builder.map_type)
        normalise(self.tx, self.tenant, definition, f"{self._where}, a map builder")
        builder.map_type.CopyFrom(definition.inline_map_def)
        known = type_of_definition(definition)
        assert isinstance(known, MapType)
        for entry in builder.entries:
            self.require_assignable(entry.key, known.key, "a key of a map")
            self.require_assignable(entry.value, known.value, "a value of a map")
        return known

    def _expression(self, expression: VariableAssignment.Expression) -> Known:
        left, right = self.known(expression.lhs), self.known(expression.rhs)
        if expression.WhichOneof("operation") == "comparator":
            self.check_comparison(left, expression.comparator, right)
            return VariableType.BOOL
        return self.operation_type(expression.mutation_type, left, right)

    def require(self, assignment: VariableAssignment, *expected: VariableType) -> None:
        """The weak form: the assignment can give one of these types, as far as anybody knows."""
        known = self.known(assignment)
        if assignment.WhichOneof("source") in _WEAK_SOURCES:
            return
        if not any(assignable(known, one) for one in expected):
            wanted = " or ".join(map(name_of, expected))
            raise self.refuse(f"Cannot assign {name_of(known)} to {wanted} without explicit casting")

    def require_assignable(self, assignment: VariableAssignment, expected: Known, what: str) -> None:
        """The strong form: a known type must fit, or be cast to one that does."""
        known = self.known(assignment)
        if not assignable(known, expected):
            raise self._misfit(known, expected, what)

    def check_inputs(self, inputs: Mapping[str, VariableAssignment], thread_spec: ThreadSpec, what: str) -> None:
        """What another thread is started with: declared there, of fitting types, everything required given."""
        declared = {definition.var_def.name: definition for definition in thread_spec.variable_defs}
        for name, assignment in sorted(inputs.items()):
            if name not in declared:
                raise self.refuse(f"{what} declares no variable '{name}'")
            expected = type_of_definition(declared[name].var_def.type_def)
            self.require_assignable(assignment, expected, f"variable '{name}' of {what}")
        for name, definition in declared.items():
            if definition.required and name not in inputs:
                raise self.refuse(f"{what} requires the variable '{name}'")

    def check_failure_handlers(self, handlers: Iterable[FailureHandlerDef]) -> None:
        """The handlers of a node, or of the threads that it waits for: they exist and catch what can be thrown."""
        for handler in handlers:
            name = handler.specific_failure
            if handler.HasField("specific_failure") and name not in ERROR_NAMES and not is_lh_name(name):
                raise self.refuse(
                    f"a failure handler catches '{name}', which is neither an LHErrorType nor a valid name: use "
                    "letters, digits and inner hyphens"
                )
            if handler.handler_spec_name not in self.spec.thread_specs:
                raise self.refuse(f"there is no thread '{handler.handler_spec_name}' to handle failures")

    def _misfit(self, given: Known, expected: Known, what: str) -> Rejection:
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
        if not comparable(left, comparator, right):
            comparison = Comparator.Name(Comparator.ValueType(comparator))
            raise self.refuse(f"{name_of(left)} {comparison} {name_of(right)} does not compare")

    def operation_type(self, operation: int, left: Known, right: Known) -> Known:
        """The type of ``left operation right``."""
        if operation not in VariableMutationType.values():
            raise self.refuse(f"{operation} is not a VariableMutationType")
        result = operation_type(operation, left, right)
        if result is None:
            verb = VariableMutationType.Name(VariableMutationType.ValueType(operation)).lower().replace("_", " ")
            raise self.refuse(f"cannot {verb} to a {name_of(left)}: the other side is {name_of(right)}")
        return result

    def check_mutation(self, name: str, operation: int, right: Known, what: str) -> None:
        """The operation has a meaning for the variable and its result fits it."""
        declared = self.variable_type(name)
        result = self.operation_type(operation, declared, right)
        computed = operation == VariableMutationType.POW and result == VariableType.DOUBLE
        if not computed and not assignable(result, declared):
            raise self._misfit(result, declared, what)
