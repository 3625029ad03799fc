"""Finding WfRuns and variables (api.md 9.4)."""

from littlehorse.model import (
    SearchVariableRequest,
    SearchWfRunRequest,
    ThreadVarDef,
    VariableId,
    VariableIdList,
    VariableMatch,
    VariableType,
    VariableValue,
    WfRunIdList,
    WfSpec,
)

from lhd.api.call import Api, Method
from lhd.api.definitions import latest_wf_spec
from lhd.api.paging import Query, between, page, prefix_range
from lhd.core.ids import parse_wf_run_id, printed
from lhd.core.values import kind_name, primitive_fits, type_of
from lhd.errors import invalid_argument

_FILTERS_MAX = 20
_PATH = "_$."
"""What stands between the name of a JSON variable and the path that is sought in it."""
_SOUGHT = (VariableType.STR, VariableType.BOOL, VariableType.INT, VariableType.DOUBLE)


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
    between(query, "start_ms", request.earliest_start, request.latest_start)
    for wanted in request.variable_filters:
        _with_variable(query, wanted)
    rows, bookmark = await page(api.reader, query, request)
    return WfRunIdList(results=[parse_wf_run_id(run) for (run,) in rows], bookmark=bookmark)


def _below(query: Query, parent: str, *, whole_tree: bool) -> None:
    if whole_tree:
        prefix_range(query, "run", f"{parent}_")
    else:
        query.where("parent = ?", parent)


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
    spec = await _wf_spec(api, tenant, request)
    declared = {var.var_def.name for var in spec.thread_specs[spec.entrypoint_thread_name].variable_defs}
    for wanted in request.variable_filters:
        if wanted.var_name not in declared:
            raise invalid_argument(f"the entrypoint thread of '{spec.id.name}' declares no '{wanted.var_name}'")


async def _wf_spec(api: Api, tenant: str, request: SearchWfRunRequest | SearchVariableRequest) -> WfSpec:
    """The version of a WfSpec that a search is about, or the newest one."""
    spec = await latest_wf_spec(
        api,
        tenant,
        request.wf_spec_name,
        request.wf_spec_major_version if request.HasField("wf_spec_major_version") else None,
        request.wf_spec_revision if request.HasField("wf_spec_revision") else None,
    )
    if spec is None:
        raise invalid_argument(f"there is no WfSpec '{request.wf_spec_name}' of this version")
    return spec


async def search_variable(api: Api, tenant: str, request: SearchVariableRequest) -> VariableIdList:
    """SearchVariable: the searchable variables of a WfSpec that have a value."""
    name, path = _sought_name(request.var_name)
    await _check_variable_search(api, tenant, request, name, path)
    query = Query("indexed_value", ("run", "thread"), ("created_ms", "run", "thread"))
    query.where("tenant = ? AND wf_spec_name = ?", tenant, request.wf_spec_name)
    query.where("name = ? AND value = ?", request.var_name, request.value.SerializeToString(deterministic=True))
    if request.HasField("wf_spec_major_version"):
        query.where("major_version = ?", request.wf_spec_major_version)
        query.where("revision = ?", request.wf_spec_revision)
    rows, bookmark = await page(api.reader, query, request)
    results = [VariableId(wf_run_id=parse_wf_run_id(run), thread_run_number=thread, name=name) for run, thread in rows]
    return VariableIdList(results=results, bookmark=bookmark)


def _sought_name(var_name: str) -> tuple[str, str]:
    """The variable's name, and the path in it that ``<name>_$.<path>`` asks for."""
    name, separator, path = var_name.partition(_PATH)
    return name, f"$.{path}" if separator else ""


async def _check_variable_search(api: Api, tenant: str, request: SearchVariableRequest, name: str, path: str) -> None:
    has_major, has_revision = request.HasField("wf_spec_major_version"), request.HasField("wf_spec_revision")
    if has_major != has_revision:
        raise invalid_argument("a version of SearchVariable needs both wf_spec_major_version and wf_spec_revision")
    spec = await _wf_spec(api, tenant, request)
    declared = [
        variable
        for thread_spec in spec.thread_specs.values()
        for variable in thread_spec.variable_defs
        if variable.var_def.name == name
    ]
    if not declared:
        raise invalid_argument(f"no thread of '{spec.id.name}' declares the variable '{name}'")
    if not path and not declared[0].searchable:
        raise invalid_argument(f"the variable '{name}' of '{spec.id.name}' is not searchable")
    _check_sought(declared[0], path, request.value)


def _check_sought(variable: ThreadVarDef, path: str, value: VariableValue) -> None:
    name, declared, kind = variable.var_def.name, variable.var_def.type_def.primitive_type, type_of(value)
    if kind not in _SOUGHT:
        raise invalid_argument(f"a search is by STR, BOOL, INT or DOUBLE, not {kind_name(value)}")
    is_json = declared in (VariableType.JSON_OBJ, VariableType.JSON_ARR)
    if path and not (is_json and any(index.field_path == path for index in variable.json_indexes)):
        raise invalid_argument(f"the variable '{name}' has no index of '{path}'")
    if declared == VariableType.JSON_OBJ and not path:
        raise invalid_argument(f"the variable '{name}' is JSON_OBJ; name one of its indexes as '{name}{_PATH}...'")
    if not is_json and not primitive_fits(kind, declared):
        raise invalid_argument(f"the variable '{name}' is {VariableType.Name(declared)}, not {kind_name(value)}")


METHODS: dict[str, Method] = {"SearchWfRun": search_wf_run, "SearchVariable": search_variable}
