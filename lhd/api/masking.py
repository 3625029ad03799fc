"""What a reader through the API may not see of a record (api.md 3.3). Workers get the real values elsewhere."""

from typing import Any, TypeVar

from google.protobuf.message import Message
from littlehorse.model import (
    CorrelatedEvent,
    ExternalEvent,
    InactiveThreadRun,
    NodeRun,
    TaskRun,
    ThreadRun,
    Variable,
    VariableValue,
    WfRun,
    WorkflowEvent,
)

from lhd.core.values import parts_of

MASK = "*****"
_MASKED = VariableValue(str=MASK)
_CONTAINERS = frozenset({"struct", "array", "map"})

M = TypeVar("M", bound=Message)


def masked(record: M) -> M:
    """The record, or a copy of it without what may not be seen. A reply may be a record that the engine shares."""
    hide = _HIDERS.get(type(record))
    if hide is None or not _may_hide(record):
        return record
    copy = type(record)()
    copy.CopyFrom(record)
    hide(copy)
    return copy


def _may_hide(record: Any) -> bool:
    """Whether it is worth a copy: most records that travel often hold no container."""
    return not isinstance(record, ExternalEvent) or record.content.WhichOneof("value") in _CONTAINERS


def _value(value: VariableValue) -> None:
    """Replace the masked fields of Structs, however deep they are."""
    if value.WhichOneof("value") not in _CONTAINERS:
        return
    for field in value.struct.struct.fields.values() if value.HasField("struct") else ():
        if field.masked:
            field.value.CopyFrom(_MASKED)
    for part in parts_of(value):
        _value(part)


def _node_run(record: NodeRun) -> None:
    waiting = record.external_event
    if record.HasField("external_event") and waiting.mask_correlation_key and waiting.HasField("correlation_key"):
        waiting.correlation_key = MASK
    for failure in record.failures:
        _value(failure.content)
    for given in record.run_child_wf.inputs.values() if record.HasField("run_child_wf") else ():
        _value(given)


def _variable(record: Variable) -> None:
    if record.masked:
        record.value.CopyFrom(_MASKED)
    _value(record.value)


def _task_run(record: TaskRun) -> None:
    for given in record.input_variables:
        if given.masked:
            given.value.CopyFrom(_MASKED)
        _value(given.value)
    for attempt in record.attempts:
        if attempt.masked_value and attempt.HasField("output"):
            attempt.output.CopyFrom(_MASKED)
        _value(attempt.output)


def _content(record: ExternalEvent | CorrelatedEvent | WorkflowEvent) -> None:
    _value(record.content)


def _thread_run(record: ThreadRun) -> None:
    _value(record.output)


def _wf_run(record: WfRun) -> None:
    for thread in record.thread_runs:
        _thread_run(thread)


_HIDERS: dict[type[Message], Any] = {
    CorrelatedEvent: _content,
    ExternalEvent: _content,
    InactiveThreadRun: lambda record: _thread_run(record.thread_run),
    NodeRun: _node_run,
    TaskRun: _task_run,
    Variable: _variable,
    WfRun: _wf_run,
    WorkflowEvent: _content,
}
