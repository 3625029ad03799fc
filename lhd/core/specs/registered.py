"""A stored WfSpec together with what it implies for its runs, worked out once for each version in memory."""

from functools import cached_property
from typing import Any

from google.protobuf.message import Message
from littlehorse.model import ThreadSpec, ThreadVarDef, VariableAssignment, WfSpec


class RegisteredSpec:
    """A WfSpec as it was stored; the message must not be changed."""

    def __init__(self, message: WfSpec) -> None:
        self.message = message

    @cached_property
    def remembered_outputs(self) -> dict[str, frozenset[str]]:
        """For each ThreadSpec name the nodes whose latest output some assignment of it refers to."""
        return {name: frozenset(_referenced_nodes(spec)) for name, spec in self.message.thread_specs.items()}

    @cached_property
    def _variables(self) -> dict[str, dict[str, ThreadVarDef]]:
        return {
            name: {variable.var_def.name: variable for variable in spec.variable_defs}
            for name, spec in self.message.thread_specs.items()
        }

    @cached_property
    def _interrupts(self) -> dict[str, dict[str, str]]:
        return {
            name: {
                interrupt.external_event_def_id.name: interrupt.handler_spec_name for interrupt in spec.interrupt_defs
            }
            for name, spec in self.message.thread_specs.items()
        }

    def has_node(self, thread_spec_name: str, node_name: str) -> bool:
        """Whether a ThreadSpec of this name has a node of this name; asking for one that is missing would add it."""
        threads = self.message.thread_specs
        return thread_spec_name in threads and node_name in threads[thread_spec_name].nodes

    def thread_spec(self, name: str) -> ThreadSpec:
        """The ThreadSpec of this name, which a registered WfSpec always has."""
        return self.message.thread_specs[name]

    def variables(self, thread_spec_name: str) -> dict[str, ThreadVarDef]:
        """The variables that a ThreadSpec declares, by name."""
        return self._variables[thread_spec_name]

    def interrupt_handler(self, thread_spec_name: str, event_def: str) -> str | None:
        """The ThreadSpec that handles an interrupt of a ThreadSpec by this event; None where it is none."""
        return self._interrupts[thread_spec_name].get(event_def)


def _referenced_nodes(thread_spec: ThreadSpec) -> set[str]:
    found = set()
    for message in walk(thread_spec):
        if isinstance(message, VariableAssignment.NodeOutputReference):
            found.add(message.node_name)
    for name, node in thread_spec.nodes.items():
        for edge in node.outgoing_edges:
            if any(mutation.HasField("node_output") for mutation in edge.variable_mutations):
                found.add(name)
    return found


def walk(message: Message) -> Any:
    """The message and every message inside it, depth first."""
    yield message
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            for item in value.values():
                if isinstance(item, Message):
                    yield from walk(item)
        elif descriptor.is_repeated:
            for item in value:
                yield from walk(item)
        else:
            yield from walk(value)
