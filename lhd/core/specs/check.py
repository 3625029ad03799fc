"""Checks a PutWfSpec request and gives the WfSpec that it asks for, not yet numbered (api.md 5.1 to 5.6)."""

from functools import partial

from littlehorse.model import (
    Edge,
    Node,
    PutWfSpecRequest,
    ThreadVarDef,
    TypeDefinition,
    VariableMutation,
    WfRunVariableAccessLevel,
    WfSpec,
    WfSpecId,
)

from lhd.core import json_path, kinds
from lhd.core.fitting import StoredStructDefs, accept
from lhd.core.ids import require_lh_name
from lhd.core.indexing import INPUT
from lhd.core.nodes import node_kind
from lhd.core.records import Transaction
from lhd.core.specs.context import TypeContext
from lhd.core.specs.definitions import normalise_variable
from lhd.core.specs.types import Known, Shape, name_of, type_of_literal
from lhd.core.values import EvaluationError
from lhd.errors import Rejection, invalid_argument


def check_wf_spec(
    tx: Transaction, tenant: str, request: PutWfSpecRequest, *, follow_children: bool = True
) -> tuple[WfSpec, Known]:
    """The WfSpec that the request asks for, with defaults and pins filled in, and its output type. Raises Rejection.

    Without ``follow_children`` the outputs of child WfRuns count as unknown: a WfSpec may run older ones of itself.
    """
    require_lh_name(request.name, "WfSpec")
    if request.entrypoint_thread_name not in request.thread_specs:
        raise invalid_argument(
            f"WfSpec '{request.name}': the entrypoint thread '{request.entrypoint_thread_name}' is not defined"
        )
    spec = WfSpec(
        id=WfSpecId(name=request.name),
        thread_specs=request.thread_specs,
        entrypoint_thread_name=request.entrypoint_thread_name,
    )
    if request.HasField("retention_policy"):
        spec.retention_policy.CopyFrom(request.retention_policy)
    if request.HasField("parent_wf_spec"):
        spec.parent_wf_spec.CopyFrom(request.parent_wf_spec)
    variables = _check_variables(tx, tenant, spec)
    triggers = _interrupt_triggers(spec)
    output: Known = Shape.VOID
    for name in sorted(spec.thread_specs):
        context = TypeContext(tx, tenant, spec, variables, name)
        if follow_children:
            context.output_of = partial(output_type_of, tx, tenant, follow_children=False)
        _check_interrupts(context)
        thread_output = _check_thread(context, triggers)
        if name == spec.entrypoint_thread_name:
            output = thread_output
    return spec, output


def output_type_of(tx: Transaction, tenant: str, spec: WfSpec, *, follow_children: bool = True) -> Known:
    """The output type of a stored WfSpec; unknown where what it refers to has been deleted since."""
    request = PutWfSpecRequest(
        name=spec.id.name, thread_specs=spec.thread_specs, entrypoint_thread_name=spec.entrypoint_thread_name
    )
    if spec.HasField("parent_wf_spec"):
        request.parent_wf_spec.CopyFrom(spec.parent_wf_spec)
    try:
        return check_wf_spec(tx, tenant, request, follow_children=follow_children)[1]
    except Rejection:
        return Shape.UNKNOWN


def _check_variables(tx: Transaction, tenant: str, spec: WfSpec) -> dict[str, TypeDefinition]:
    inheritable = _inheritable(tx, tenant, spec)
    variables: dict[str, TypeDefinition] = {}
    for thread_name, thread_spec in spec.thread_specs.items():
        of_thread: set[str] = set()
        for definition in thread_spec.variable_defs:
            name = definition.var_def.name
            where = f"WfSpec '{spec.id.name}', thread '{thread_name}', variable '{name}'"
            if name in of_thread or (name in variables and name != INPUT):
                raise invalid_argument(f"{where}: the name is declared more than once in the WfSpec")
            _check_variable(tx, tenant, definition, where)
            if definition.access_level == WfRunVariableAccessLevel.INHERITED_VAR:
                _check_inherited(name, inheritable, where)
            of_thread.add(name)
            variables[name] = definition.var_def.type_def
    return variables


def _inheritable(tx: Transaction, tenant: str, spec: WfSpec) -> dict[str, ThreadVarDef] | None:
    """The variables of the parent WfSpec's entrypoint by name; None without a parent."""
    if not spec.HasField("parent_wf_spec"):
        return None
    parent = spec.parent_wf_spec
    found = tx.get(kinds.WF_SPEC, (tenant, parent.wf_spec_name, parent.wf_spec_major_version, 0))
    if found is None:
        version = f"'{parent.wf_spec_name}' {parent.wf_spec_major_version}"
        raise invalid_argument(f"WfSpec '{spec.id.name}': there is no WfSpec {version} to be the parent")
    return found.variables(found.message.entrypoint_thread_name)


def _check_inherited(name: str, inheritable: dict[str, ThreadVarDef] | None, where: str) -> None:
    if inheritable is None:
        raise invalid_argument(f"{where}: INHERITED_VAR needs a parent_wf_spec")
    inherited = inheritable.get(name)
    if inherited is None:
        raise invalid_argument(f"{where}: the parent WfSpec's entrypoint declares no such variable to inherit")
    if inherited.access_level == WfRunVariableAccessLevel.PRIVATE_VAR:
        raise invalid_argument(f"{where}: it is private to the parent WfSpec (PRIVATE_VAR) and cannot be inherited")


def _check_variable(tx: Transaction, tenant: str, definition: ThreadVarDef, where: str) -> None:
    variable = definition.var_def
    if not variable.name:
        raise invalid_argument(f"{where}: a variable needs a name")
    normalise_variable(tx, tenant, variable, where)
    for index in definition.json_indexes:
        try:
            json_path.check(index.field_path)
        except EvaluationError as error:
            raise invalid_argument(f"{where}: an index: {error}") from error
    try:
        default = accept(variable.default_value, variable.type_def, StoredStructDefs(tx, tenant))
    except EvaluationError as error:
        raise invalid_argument(f"{where}: the default: {error}") from error
    if variable.HasField("default_value"):
        variable.default_value.CopyFrom(default)


def _interrupt_triggers(spec: WfSpec) -> dict[str, str]:
    """The ExternalEventDefs that interrupt, each with the one thread that may say so."""
    triggers: dict[str, str] = {}
    for thread_name, thread_spec in sorted(spec.thread_specs.items()):
        for interrupt in thread_spec.interrupt_defs:
            event = interrupt.external_event_def_id.name
            if event in triggers:
                raise invalid_argument(
                    f"WfSpec '{spec.id.name}', thread '{thread_name}': '{event}' is an interrupt of the thread "
                    f"'{triggers[event]}' already; an event can interrupt in one thread only, and once"
                )
            triggers[event] = thread_name
    return triggers


def _check_interrupts(context: TypeContext) -> None:
    for interrupt in context.thread_spec.interrupt_defs:
        event = interrupt.external_event_def_id.name
        if context.tx.get(kinds.EXTERNAL_EVENT_DEF, (context.tenant, event)) is None:
            raise context.refuse(f"the interrupt by '{event}': there is no such ExternalEventDef")
        handler = interrupt.handler_spec_name
        if handler not in context.spec.thread_specs:
            raise context.refuse(f"the interrupt by '{event}': there is no thread '{handler}' to handle it")
        declared = [variable.var_def.name for variable in context.spec.thread_specs[handler].variable_defs]
        if declared not in ([], [INPUT]):
            raise context.refuse(
                f"the interrupt by '{event}': the handler '{handler}' may declare no variable but one named {INPUT}"
            )


def _check_thread(context: TypeContext, triggers: dict[str, str]) -> Known:
    nodes = context.thread_spec.nodes
    if sum(node.HasField("entrypoint") for node in nodes.values()) != 1:
        raise context.refuse("a thread needs exactly one ENTRYPOINT node")
    for name, node in nodes.items():
        context.node_name = name
        if node.WhichOneof("node") is None:
            raise context.refuse("the node has no kind")
    # The output of an EXIT node may depend on the output of any other node, never the other way round.
    for name, node in sorted(nodes.items()):
        context.node_name = name
        context.outputs[name] = Shape.VOID if node.HasField("exit") else node_kind(node).output_type(node, context)
    outputs = [_check_node(name, node, context, triggers) for name, node in sorted(nodes.items())]
    context.node_name = ""
    return _thread_output([output for output in outputs if output is not None], context)


def _check_node(name: str, node: Node, context: TypeContext, triggers: dict[str, str]) -> Known | None:
    """Check a node and its edges; returns the output type of an EXIT node that does not fail."""
    context.node_name = name
    event = node.external_event.external_event_def_id.name
    if node.HasField("external_event") and event in triggers:
        raise context.refuse(
            f"'{event}' is an interrupt of the thread '{triggers[event]}'; no node can wait for it, too"
        )
    node_kind(node).check(node, context)
    context.check_failure_handlers(node.failure_handlers)
    for edge in node.outgoing_edges:
        _check_edge(name, edge, context)
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


def _check_edge(source: str, edge: Edge, context: TypeContext) -> None:
    sink, nodes = edge.sink_node_name, context.thread_spec.nodes
    if sink not in nodes:
        raise context.refuse(f"an edge leads to '{sink}', which is no node of this thread")
    if sink == source:
        raise context.refuse("an edge leads back to its own node; put a NOP node between")
    if nodes[sink].HasField("entrypoint"):
        raise context.refuse("an edge leads to the ENTRYPOINT node")
    if edge.HasField("condition"):
        context.check_condition(edge.condition)
    elif edge.HasField("legacy_condition"):
        context.check_legacy_condition(edge.legacy_condition)
    for mutation in edge.variable_mutations:
        _check_mutation(source, mutation, context)


def _check_mutation(source: str, mutation: VariableMutation, context: TypeContext) -> None:
    """A mutation on an edge that leaves the node ``source``."""
    what = f"mutation of '{mutation.lhs_name}'"
    context.variable_type(mutation.lhs_name)
    right = _right_side(source, mutation, context, what)
    if mutation.HasField("lhs_lh_path"):
        raise context.refuse(
            f"{what}: lhs_lh_path is not supported by lhd; use lhs_json_path or assign the whole variable"
        )
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
            return type_of_literal(mutation.literal_value)
        case "node_output":
            has_path = mutation.node_output.WhichOneof("path") is not None
            output = context.outputs[source]
            return Shape.UNKNOWN if has_path or output == Shape.VOID else output
    raise context.refuse(f"{what}: the right side is missing")
