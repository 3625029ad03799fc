"""Checks a PutWfSpec request and gives the WfSpec that it asks for, not yet numbered (api.md 5.1 to 5.6).

What this version cannot run is refused here, so that no WfRun is ever half run.
"""

from littlehorse.model import (
    Edge,
    Node,
    PutWfSpecRequest,
    ThreadSpec,
    ThreadVarDef,
    VariableDef,
    VariableMutation,
    WfRunVariableAccessLevel,
    WfSpec,
    WfSpecId,
)

from lhd.core import json_path
from lhd.core.ids import require_lh_name
from lhd.core.nodes import NODE_KINDS, node_kind
from lhd.core.records import Transaction
from lhd.core.specs.types import Known, Shape, TypeContext, name_of, normalise_variable
from lhd.core.values import EvaluationError, fits, kind_name, type_of
from lhd.errors import invalid_argument

INPUT = "INPUT"


def check_wf_spec(tx: Transaction, tenant: str, request: PutWfSpecRequest) -> tuple[WfSpec, Known]:
    """The WfSpec that the request asks for, with defaults filled in, and its output type. Raises Rejection."""
    require_lh_name(request.name, "WfSpec")
    if request.entrypoint_thread_name not in request.thread_specs:
        raise invalid_argument(
            f"WfSpec '{request.name}': the entrypoint thread '{request.entrypoint_thread_name}' is not defined"
        )
    if request.HasField("parent_wf_spec"):
        raise invalid_argument(f"WfSpec '{request.name}': parent_wf_spec is not supported by this version of lhd")
    spec = WfSpec(
        id=WfSpecId(name=request.name),
        thread_specs=request.thread_specs,
        entrypoint_thread_name=request.entrypoint_thread_name,
    )
    if request.HasField("retention_policy"):
        spec.retention_policy.CopyFrom(request.retention_policy)
    variables = _check_variables(spec)
    output: Known = Shape.VOID
    for name, thread_spec in spec.thread_specs.items():
        context = TypeContext(tx, tenant, request.name, variables, name)
        thread_output = _check_thread(thread_spec, context)
        if name == spec.entrypoint_thread_name:
            output = thread_output
    return spec, output


def _check_variables(spec: WfSpec) -> dict[str, VariableDef]:
    variables: dict[str, VariableDef] = {}
    for thread_name, thread_spec in spec.thread_specs.items():
        of_thread: set[str] = set()
        for definition in thread_spec.variable_defs:
            name = definition.var_def.name
            where = f"WfSpec '{spec.id.name}', thread '{thread_name}', variable '{name}'"
            if name in of_thread or (name in variables and name != INPUT):
                raise invalid_argument(f"{where}: the name is declared more than once in the WfSpec")
            _check_variable(definition, where)
            of_thread.add(name)
            variables[name] = definition.var_def
    return variables


def _check_variable(definition: ThreadVarDef, where: str) -> None:
    variable = definition.var_def
    if not variable.name:
        raise invalid_argument(f"{where}: a variable needs a name")
    if definition.access_level == WfRunVariableAccessLevel.INHERITED_VAR:
        raise invalid_argument(f"{where}: INHERITED_VAR needs a parent_wf_spec")
    normalise_variable(variable, where)
    if not fits(variable.default_value, variable.type_def.primitive_type):
        given = kind_name(variable.default_value)
        raise invalid_argument(f"{where}: the default is {given}, the type {name_of(variable.type_def.primitive_type)}")


def _check_thread(thread_spec: ThreadSpec, context: TypeContext) -> Known:
    if thread_spec.interrupt_defs:
        raise context.refuse("interrupts are not supported by this version of lhd")
    if sum(node.HasField("entrypoint") for node in thread_spec.nodes.values()) != 1:
        raise context.refuse("a thread needs exactly one ENTRYPOINT node")
    for name, node in thread_spec.nodes.items():
        context.node_name = name
        _require_supported(node, context)
    # The output of an EXIT node may depend on the output of any other node, never the other way round.
    for name, node in sorted(thread_spec.nodes.items(), key=lambda item: item[1].HasField("exit")):
        context.node_name = name
        context.outputs[name] = Shape.VOID if node.HasField("exit") else node_kind(node).output_type(node, context)
    outputs = [_check_node(name, node, thread_spec, context) for name, node in sorted(thread_spec.nodes.items())]
    context.node_name = ""
    return _thread_output([output for output in outputs if output is not None], context)


def _require_supported(node: Node, context: TypeContext) -> None:
    kind = node.WhichOneof("node")
    if kind is None:
        raise context.refuse("the node has no kind")
    if kind not in NODE_KINDS:
        raise context.refuse(f"{kind.upper()} nodes are not supported by this version of lhd")
    if node.failure_handlers:
        raise context.refuse("failure handlers are not supported by this version of lhd")


def _check_node(name: str, node: Node, thread_spec: ThreadSpec, context: TypeContext) -> Known | None:
    """Check a node and its edges; returns the output type of an EXIT node that does not fail."""
    context.node_name = name
    node_kind(node).check(node, context)
    for edge in node.outgoing_edges:
        _check_edge(name, edge, thread_spec, context)
    if not node.HasField("exit") or node.exit.HasField("failure_def"):
        return None
    return node_kind(node).output_type(node, context)


def _thread_output(outputs: list[Known], context: TypeContext) -> Known:
    known = [output for output in outputs if output not in (Shape.UNKNOWN, Shape.NULL)]
    if Shape.VOID in outputs and any(output != Shape.VOID for output in outputs):
        raise context.refuse("one EXIT node returns void and another returns non-void")
    if len(set(known)) > 1:
        raise context.refuse(f"EXIT nodes returned different output types: {', '.join(map(name_of, known))}")
    if not outputs:
        return Shape.VOID
    return known[0] if known else Shape.UNKNOWN


def _check_edge(source: str, edge: Edge, thread_spec: ThreadSpec, context: TypeContext) -> None:
    sink = edge.sink_node_name
    if sink not in thread_spec.nodes:
        raise context.refuse(f"an edge leads to '{sink}', which is no node of this thread")
    if sink == source:
        raise context.refuse("an edge leads back to its own node; put a NOP node between")
    if thread_spec.nodes[sink].HasField("entrypoint"):
        raise context.refuse("an edge leads to the ENTRYPOINT node")
    if edge.HasField("condition"):
        context.check_condition(edge.condition)
    elif edge.HasField("legacy_condition"):
        context.check_legacy_condition(edge.legacy_condition)
    for mutation in edge.variable_mutations:
        _check_mutation(source, mutation, context)


def _check_mutation(source: str, mutation: VariableMutation, context: TypeContext) -> None:
    what = f"mutation of '{mutation.lhs_name}'"
    context.variable_type(mutation.lhs_name)
    if mutation.HasField("lhs_lh_path"):
        raise context.refuse(f"{what}: lhs_lh_path is not supported by this version of lhd")
    right = _right_side(source, mutation, context, what)
    if not mutation.HasField("lhs_json_path"):
        context.check_mutation(mutation.lhs_name, mutation.operation, right, what)
        return
    try:
        json_path.steps(mutation.lhs_json_path)
    except EvaluationError as error:
        raise context.refuse(f"{what}: {error}") from error


def _right_side(source: str, mutation: VariableMutation, context: TypeContext, what: str) -> Known:
    match mutation.WhichOneof("rhs_value"):
        case "rhs_assignment":
            return context.known(mutation.rhs_assignment)
        case "literal_value":
            literal = type_of(mutation.literal_value)
            return Shape.NULL if literal is None else literal
        case "node_output":
            has_path = mutation.node_output.WhichOneof("path") is not None
            output = context.outputs[source]
            return Shape.UNKNOWN if has_path or output == Shape.VOID else output
    raise context.refuse(f"{what}: the right side is missing")
