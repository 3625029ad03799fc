"""Failures as values: names, the status that a name stands for, and which handler catches which (execution.md 6.3)."""

from littlehorse.model import Failure, FailureHandlerDef, LHErrorType, LHStatus, VariableValue

from lhd.core.ids import is_lh_name

ERROR_NAMES = frozenset(LHErrorType.keys())

_INCLUDED = {
    "VAR_ERROR": frozenset({"VAR_SUB_ERROR", "VAR_MUTATION_ERROR"}),
    "TASK_ERROR": frozenset({"TASK_FAILURE", "TIMEOUT"}),
}
"""The names that a handler for another name catches, too."""


class NodeFailure(Exception):
    """Raised by a node: its NodeRun fails with this name, message and content."""

    def __init__(self, name: str, message: str, content: VariableValue | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(failure_name=name, message=message, content=content)


def failure_status(name: str) -> LHStatus:
    """ERROR for the names of LHErrorType, EXCEPTION for every other; the name alone decides."""
    return LHStatus.ERROR if name in ERROR_NAMES else LHStatus.EXCEPTION


def is_exception_name(name: str) -> bool:
    """Whether a workflow may use this name for a business failure of its own."""
    return is_lh_name(name) and name not in ERROR_NAMES


def catches(handler: FailureHandlerDef, name: str) -> bool:
    """Whether a handler is for failures of this name."""
    match handler.WhichOneof("failure_to_catch"):
        case "specific_failure":
            wanted = handler.specific_failure
            return name == wanted or name in _INCLUDED.get(wanted, ())
        case "any_failure_of_type":
            wants_errors = handler.any_failure_of_type == FailureHandlerDef.FAILURE_TYPE_ERROR
            return wants_errors == (name in ERROR_NAMES)
    return True
