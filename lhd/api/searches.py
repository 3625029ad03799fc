"""Finding run-time objects (api.md 9.4)."""

from google.protobuf.timestamp_pb2 import Timestamp
from littlehorse.model import (
    SearchWfRunRequest,
    VariableMatch,
    WfRunIdList,
)

from lhd.api.call import Api, Method
from lhd.api.definitions import latest_wf_spec
from lhd.api.paging import Query, page, prefix_range
from lhd.core.ids import milliseconds, parse_wf_run_id, printed
from lhd.core.kinds import LAST_MS
from lhd.errors import invalid_argument

_FILTERS_MAX = 20


async def search_wf_run(api: Api, tenant: str, request: SearchWfRunRequest) -> WfRunIdList:
    """SearchWfRun: all criteria together, oldest start first."""
    await _check(api, tenant, request)
    query = Query("wf_run", ("run",), ("start_ms", "run"))
    query.where("tenant = ?", tenant)
    if request.wf_spec_name:
        query.where("wf_spec_name = ?", request.wf_spec_name)
    if request.HasField("wf_spec_major_version"):
        query.where("major_version = ?", request.wf_spec_major_version)
    if request.HasField("wf_spec_revision"):
        query.where("revision = ?", request.wf_spec_revision)
    if request.HasField("status"):
        query.where("status = ?", request.status)
    if request.HasField("parent_wf_run_id"):
        _below(query, printed(request.parent_wf_run_id), whole_tree=request.show_full_tree)
    _between(query, "start_ms", request.earliest_start, request.latest_start)
    for wanted in request.variable_filters:
        _with_variable(query, wanted)
    rows, bookmark = await page(api.reader, query, request)
    return WfRunIdList(results=[parse_wf_run_id(run) for (run,) in rows], bookmark=bookmark)


def _below(query: Query, parent: str, *, whole_tree: bool) -> None:
    if whole_tree:
        prefix_range(query, "run", f"{parent}_")
    else:
        query.where("parent = ?", parent)


def _between(query: Query, column: str, earliest: Timestamp, latest: Timestamp) -> None:
    for comparison, stamp in ((">=", earliest), ("<=", latest)):
        if milliseconds(stamp):
            query.where(f"{column} {comparison} ?", max(0, min(milliseconds(stamp), LAST_MS)))


def _with_variable(query: Query, wanted: VariableMatch) -> None:
    query.where(
        "EXISTS (SELECT 1 FROM variable WHERE variable.tenant = wf_run.tenant AND variable.run = wf_run.run "
        "AND thread = 0 AND name = ? AND value = ?)",
        wanted.var_name,
        wanted.value.SerializeToString(deterministic=True),
    )


async def _check(api: Api, tenant: str, request: SearchWfRunRequest) -> None:
    if len(request.variable_filters) > _FILTERS_MAX:
        raise invalid_argument(f"at most {_FILTERS_MAX} variable_filters can be combined")
    has_major, has_revision = request.HasField("wf_spec_major_version"), request.HasField("wf_spec_revision")
    if not request.wf_spec_name:
        if has_major or has_revision or request.variable_filters:
            raise invalid_argument("a version or variable_filters need a wf_spec_name")
        return
    if has_revision and not has_major:
        raise invalid_argument("wf_spec_revision needs wf_spec_major_version")
    spec = await latest_wf_spec(
        api,
        tenant,
        request.wf_spec_name,
        request.wf_spec_major_version if has_major else None,
        request.wf_spec_revision if has_revision else None,
    )
    if spec is None:
        raise invalid_argument(f"there is no WfSpec '{request.wf_spec_name}' of this version")
    declared = {var.var_def.name for var in spec.thread_specs[spec.entrypoint_thread_name].variable_defs}
    for wanted in request.variable_filters:
        if wanted.var_name not in declared:
            raise invalid_argument(f"the entrypoint thread of '{spec.id.name}' declares no '{wanted.var_name}'")


METHODS: dict[str, Method] = {
    "SearchWfRun": search_wf_run,
}
