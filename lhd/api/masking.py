"""What a reader through the API may not see of a record (api.md 3.3). Workers get the real values elsewhere."""

from littlehorse.model import NodeRun, TaskRun, Variable, VariableValue

MASK = "*****"
_MASKED = VariableValue(str=MASK)


def node_run(record: NodeRun) -> NodeRun:
    """A NodeRun without a masked correlation key."""
    waiting = record.external_event
    if record.HasField("external_event") and waiting.mask_correlation_key and waiting.HasField("correlation_key"):
        waiting.correlation_key = MASK
    return record


def variable(record: Variable) -> Variable:
    """A Variable without a masked value."""
    if record.masked:
        record.value.CopyFrom(_MASKED)
    return record


def task_run(record: TaskRun) -> TaskRun:
    """A TaskRun without masked inputs and outputs."""
    for given in record.input_variables:
        if given.masked:
            given.value.CopyFrom(_MASKED)
    for attempt in record.attempts:
        if attempt.masked_value and attempt.HasField("output"):
            attempt.output.CopyFrom(_MASKED)
    return record
