"""The node kinds. Adding one is adding its file and its line in the table here."""

from littlehorse.model import Node

from lhd.core.nodes.entrypoint import Entrypoint
from lhd.core.nodes.exit import Exit
from lhd.core.nodes.external_event import ExternalEventKind
from lhd.core.nodes.kind import NodeKind
from lhd.core.nodes.run_child_wf import RunChildWf
from lhd.core.nodes.sleep import Sleep
from lhd.core.nodes.start_multiple_threads import StartMultipleThreads
from lhd.core.nodes.start_thread import StartThread
from lhd.core.nodes.task import Task
from lhd.core.nodes.throw_event import ThrowEvent
from lhd.core.nodes.user_task import UserTask
from lhd.core.nodes.wait_for_child_wf import WaitForChildWf
from lhd.core.nodes.wait_for_condition import WaitForCondition
from lhd.core.nodes.wait_for_threads import WaitForThreads

NODE_KINDS: dict[str, NodeKind] = {
    "entrypoint": Entrypoint(),
    "exit": Exit(),
    "external_event": ExternalEventKind(),
    "nop": Entrypoint(),
    "run_child_wf": RunChildWf(),
    "sleep": Sleep(),
    "start_multiple_threads": StartMultipleThreads(),
    "start_thread": StartThread(),
    "task": Task(),
    "throw_event": ThrowEvent(),
    "user_task": UserTask(),
    "wait_for_child_wf": WaitForChildWf(),
    "wait_for_condition": WaitForCondition(),
    "wait_for_threads": WaitForThreads(),
}
"""By the name of the kind in the Node message's oneof."""


def node_kind(node: Node) -> NodeKind:
    """The kind of a node of a registered WfSpec."""
    return NODE_KINDS[str(node.WhichOneof("node"))]
