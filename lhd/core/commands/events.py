"""PutExternalEvent and PutCorrelatedEvent (execution.md 2.1, 3.1; api.md 7)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    CorrelatedEvent,
    CorrelatedEventId,
    DeleteCorrelatedEventRequest,
    ExternalEvent,
    ExternalEventDef,
    ExternalEventDefId,
    ExternalEventId,
    PutCorrelatedEventRequest,
    PutExternalEventRequest,
    VariableValue,
    WfRunId,
)

from lhd.core import correlation, events, kinds
from lhd.core.advance import advance
from lhd.core.fitting import StoredStructDefs
from lhd.core.ids import external_event_key, require_wf_run_id, run_key, timestamp
from lhd.core.interrupts import interrupt
from lhd.core.kinds import TERMINAL, OnSameKey, Outcome
from lhd.core.records import Transaction
from lhd.core.run import AdvanceRun, Run
from lhd.core.values import EvaluationError
from lhd.errors import Code, Rejection, invalid_argument

KEY_BYTES_MAX = 1024


def advance_after(tx: Transaction, tenant: str, request: AdvanceRun) -> None:
    """See :func:`advance_run`."""
    advance_run(tx, tenant, request.wf_run_id)


def put_external_event(
    tx: Transaction, tenant: str, request: PutExternalEventRequest, origin: str | None = None
) -> ExternalEvent:
    """Store an ExternalEvent and let its WfRun take it, if there is one; the reply shows whether it was claimed.

    ``origin`` is the id of the delivery that brought the event, if a source did.
    """
    definition = _definition(tx, tenant, request.external_event_def_id)
    event = ExternalEvent(
        id=ExternalEventId(
            wf_run_id=require_wf_run_id(request.wf_run_id),
            external_event_def_id=request.external_event_def_id,
            guid=request.guid if request.HasField("guid") else tx.new_id(),
        ),
        created_at=timestamp(tx.now_ms),
    )
    key = external_event_key(tenant, event.id)
    if origin is None and request.HasField("guid") and tx.get(kinds.EXTERNAL_EVENT, key) is not None:
        raise Rejection(Code.ALREADY_EXISTS, f"ExternalEvent '{key[2]}' {key[3]} of WfRun {key[1]} already exists")
    event.content.CopyFrom(_content(tx, tenant, definition, request.content, void_takes_anything=True))
    if request.HasField("thread_run_number"):
        event.thread_run_number = request.thread_run_number
    if request.HasField("node_run_position"):
        event.node_run_position = request.node_run_position
    events.store(tx, tenant, event, definition, origin)
    wf_run = tx.get(kinds.WF_RUN, run_key(tenant, event.id.wf_run_id))
    if wf_run is not None and wf_run.status not in TERMINAL:
        run = Run(tx, tenant, event.id.wf_run_id)
        if not run.is_lost:
            interrupt(run, event)
        advance(run)
    return tx.get(kinds.EXTERNAL_EVENT, key) or event


def put_correlated_event(tx: Transaction, tenant: str, request: PutCorrelatedEventRequest) -> CorrelatedEvent:
    """The PutCorrelatedEvent RPC, which bans two characters that any other way in allows."""
    if "/" in request.key or "~" in request.key:
        raise invalid_argument("a correlation key cannot contain '/' or '~'")
    definition, event = _new_correlated_event(tx, tenant, request)
    if tx.get(kinds.CORRELATED_EVENT, (tenant, definition.id.name, request.key)) is not None:
        raise _key_is_taken(definition)
    return _correlate(tx, tenant, event, definition, None)


def delete_correlated_event(tx: Transaction, tenant: str, request: DeleteCorrelatedEventRequest) -> Empty:
    """Delete a CorrelatedEvent, if there is one; the ExternalEvents that were made from it stay."""
    correlation.delete(tx, tenant, request.id.external_event_def_id.name, request.id.key, Outcome.DELETED)
    return Empty()


def correlate_delivery(
    tx: Transaction, tenant: str, request: PutCorrelatedEventRequest, origin: str, on_same_key: OnSameKey | None
) -> None:
    """A CorrelatedEvent that a source brought. While another one of its key is live, ``on_same_key`` decides.

    Without it an event waits for its turn where the def deletes after the first correlation, and otherwise takes the
    place of the live one.
    """
    definition, event = _new_correlated_event(tx, tenant, request)
    name = definition.id.name
    if tx.get(kinds.CORRELATED_EVENT, (tenant, name, request.key)) is not None:
        if on_same_key is None:
            deletes = definition.correlated_event_config.delete_after_first_correlation
            on_same_key = OnSameKey.QUEUE if deletes else OnSameKey.REPLACE
        if on_same_key == OnSameKey.REJECT:
            raise _key_is_taken(definition)
        if on_same_key == OnSameKey.QUEUE:
            correlation.enqueue(tx, tenant, event, origin)
            return
        correlation.clear(tx, tenant, name, request.key)
    _correlate(tx, tenant, event, definition, origin)


def _new_correlated_event(
    tx: Transaction, tenant: str, request: PutCorrelatedEventRequest
) -> tuple[ExternalEventDef, CorrelatedEvent]:
    definition = _definition(tx, tenant, request.external_event_def_id)
    if not definition.HasField("correlated_event_config"):
        text = f"ExternalEventDef '{definition.id.name}' has no correlated_event_config, so it takes no keys"
        raise invalid_argument(text)
    if len(request.key.encode()) > KEY_BYTES_MAX:
        raise invalid_argument(f"the correlation key is longer than {KEY_BYTES_MAX} bytes")
    event = CorrelatedEvent(
        id=CorrelatedEventId(key=request.key, external_event_def_id=definition.id),
        created_at=timestamp(tx.now_ms),
        content=_content(tx, tenant, definition, request.content, void_takes_anything=False),
    )
    return definition, event


def _key_is_taken(definition: ExternalEventDef) -> Rejection:
    return Rejection(Code.ALREADY_EXISTS, f"a CorrelatedEvent '{definition.id.name}' with this key already exists")


def _correlate(
    tx: Transaction, tenant: str, event: CorrelatedEvent, definition: ExternalEventDef, origin: str | None
) -> CorrelatedEvent:
    """Make the event live and give it to every NodeRun that waits for its key."""
    correlation.store(tx, tenant, event, definition, origin)
    return correlation.give_to_waiting(tx, tenant, event)


def advance_run(tx: Transaction, tenant: str, wf_run_id: WfRunId) -> None:
    """Advance a WfRun, if there is one; of one that has ended, what could not be halted at once may move."""
    if tx.get(kinds.WF_RUN, run_key(tenant, wf_run_id)) is not None:
        advance(Run(tx, tenant, wf_run_id))


def _definition(tx: Transaction, tenant: str, def_id: ExternalEventDefId) -> ExternalEventDef:
    found = tx.get(kinds.EXTERNAL_EVENT_DEF, (tenant, def_id.name))
    if found is None:
        raise invalid_argument(f"there is no ExternalEventDef '{def_id.name}'")
    return found


def _content(
    tx: Transaction, tenant: str, definition: ExternalEventDef, content: VariableValue, *, void_takes_anything: bool
) -> VariableValue:
    structs = StoredStructDefs(tx, tenant)
    try:
        return events.accept_content(definition, content, structs, void_takes_anything=void_takes_anything)
    except EvaluationError as error:
        text = f"invalid type of the content for ExternalEventDef '{definition.id.name}': {error}"
        raise invalid_argument(text) from error
