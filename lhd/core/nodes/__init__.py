"""The node kinds. Adding one is adding its file and its line in the table here."""

from littlehorse.model import Node

from lhd.core.nodes.entrypoint import Entrypoint
from lhd.core.nodes.exit import Exit
from lhd.core.nodes.external_event import ExternalEventKind
from lhd.core.nodes.kind import NodeKind
from lhd.core.nodes.sleep import Sleep
from lhd.core.nodes.task import Task

NODE_KINDS: dict[str, NodeKind] = {
    "entrypoint": Entrypoint(),
    "exit": Exit(),
    "external_event": ExternalEventKind(),
    "nop": Entrypoint(),
    "sleep": Sleep(),
    "task": Task(),
}
"""By the name of the kind in the Node message's oneof."""


def node_kind(node: Node) -> NodeKind:
    """The kind of a node of a registered WfSpec."""
    return NODE_KINDS[str(node.WhichOneof("node"))]
