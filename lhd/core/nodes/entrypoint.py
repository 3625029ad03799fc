"""ENTRYPOINT and NOP nodes: they complete at once (execution.md 7.1)."""

from littlehorse.model import EntrypointRun, NodeRun

from lhd.core.nodes.kind import Done, NodeKind
from lhd.core.run import Step


class Entrypoint(NodeKind):
    """Also the NOP node, which is shown in the same way."""

    def arrive(self, step: Step, node_run: NodeRun) -> None:  # noqa: ARG002
        """See NodeKind."""
        node_run.entrypoint.CopyFrom(EntrypointRun())

    def progress(self, step: Step) -> Done:  # noqa: ARG002
        """See NodeKind."""
        return Done()
