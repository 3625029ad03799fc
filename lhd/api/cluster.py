"""Tenants, principals and quotas, and who the caller is (api.md 13)."""

from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from littlehorse.model import (
    LittleHorseVersion,
    Principal,
    PrincipalId,
    PrincipalIdList,
    Quota,
    QuotaId,
    QuotaIdList,
    SearchPrincipalRequest,
    SearchQuotaRequest,
    SearchTenantRequest,
    TenantId,
    TenantIdList,
)

from lhd.api.call import Api, Caller, CallerMethod
from lhd.api.paging import Query, between, page
from lhd.api.reads import get
from lhd.core import kinds
from lhd.core.commands import Command
from lhd.core.commands.cluster import CLUSTER, OnBehalf, quota_key
from lhd.errors import invalid_argument, not_found


async def whoami(_: Api, caller: Caller, __: Empty) -> Principal:
    """Whoami: the principal that the caller acts as."""
    return caller.principal


async def get_server_version(_: Api, __: Caller, ___: Empty) -> LittleHorseVersion:
    """GetServerVersion: the version of the API that is spoken, not of lhd."""
    return LittleHorseVersion(major_version=1, minor_version=3, patch_version=0)


async def _submit(api: Api, caller: Caller, request: Message) -> Message:
    reply: Message = await api.engine.submit(Command(CLUSTER, OnBehalf(request, caller.principal)))
    return reply


async def get_tenant(api: Api, _: Caller, request: TenantId) -> Any:
    """GetTenant."""
    return await get(api, kinds.TENANT, (CLUSTER, request.id), f"tenant '{request.id}'")


async def get_principal(api: Api, _: Caller, request: PrincipalId) -> Any:
    """GetPrincipal."""
    return await get(api, kinds.PRINCIPAL, (CLUSTER, request.id), f"principal '{request.id}'")


async def get_quota(api: Api, _: Caller, request: QuotaId) -> Quota:
    """GetQuota: of a tenant, or of one principal in it."""
    found: Quota | None = await api.reader.get(kinds.QUOTA, quota_key(request))
    if found is None:
        raise not_found(f"the tenant '{request.tenant.id}' has no such quota")
    return found


async def search_tenant(api: Api, _: Caller, request: SearchTenantRequest) -> TenantIdList:
    """SearchTenant: all."""
    rows, bookmark = await page(api.reader, Query("tenant", ("id",), ("id",)), request)
    return TenantIdList(results=[TenantId(id=name) for (name,) in rows], bookmark=bookmark)


async def search_principal(api: Api, _: Caller, request: SearchPrincipalRequest) -> PrincipalIdList:
    """SearchPrincipal: all, admins or not, or those with ACLs of a tenant; by time only together with one of these."""
    query = Query("principal", ("id",), ("id",))
    match request.WhichOneof("principal_criteria"):
        case "is_admin":
            query.where("is_admin = ?", request.is_admin)
        case "tenant_id":
            query.where("EXISTS (SELECT 1 FROM json_each(tenants) WHERE value = ?)", request.tenant_id)
    if request.WhichOneof("principal_criteria") is not None:
        between(query, "created_ms", request.earliest_start, request.latest_start)
    rows, bookmark = await page(api.reader, query, request)
    return PrincipalIdList(results=[PrincipalId(id=name) for (name,) in rows], bookmark=bookmark)


async def search_quota(api: Api, _: Caller, request: SearchQuotaRequest) -> QuotaIdList:
    """SearchQuota: all, those of a tenant, or that of a principal in it."""
    query = Query("quota", ("tenant_id", "principal_id"), ("tenant_id", "principal_id"))
    if request.HasField("principal") and not request.HasField("tenant_id"):
        raise invalid_argument("SearchQuota takes a principal only together with a tenant_id")
    if request.HasField("tenant_id"):
        query.where("tenant_id = ?", request.tenant_id)
    if request.HasField("principal"):
        query.where("principal_id = ?", request.principal.id)
    rows, bookmark = await page(api.reader, query, request)
    return QuotaIdList(results=[_quota_id(tenant, principal) for tenant, principal in rows], bookmark=bookmark)


def _quota_id(tenant: str, principal: str) -> QuotaId:
    return QuotaId(tenant=TenantId(id=tenant), principal=PrincipalId(id=principal) if principal else None)


METHODS: dict[str, CallerMethod] = {
    "Whoami": whoami,
    "GetServerVersion": get_server_version,
    "PutTenant": _submit,
    "GetTenant": get_tenant,
    "SearchTenant": search_tenant,
    "PutPrincipal": _submit,
    "DeletePrincipal": _submit,
    "GetPrincipal": get_principal,
    "SearchPrincipal": search_principal,
    "PutQuota": _submit,
    "DeleteQuota": _submit,
    "GetQuota": get_quota,
    "SearchQuota": search_quota,
}
