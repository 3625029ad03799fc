"""Tenants, principals and quotas, which belong to no tenant (api.md 13)."""

from dataclasses import dataclass
from typing import Any

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import (
    ACLAction,
    ACLResource,
    DeletePrincipalRequest,
    DeleteQuotaRequest,
    Principal,
    PrincipalId,
    PutPrincipalRequest,
    PutQuotaRequest,
    PutTenantRequest,
    Quota,
    QuotaId,
    ServerACL,
    Tenant,
    TenantId,
)

from lhd.core import kinds
from lhd.core.access import ANONYMOUS, CLUSTER_RESOURCES, DEFAULT_TENANT, everything, is_admin, may_everywhere
from lhd.core.commands.deliveries import EnsureEventDef, ensure_event_def
from lhd.core.ids import require_lh_name, timestamp
from lhd.core.records import Transaction
from lhd.errors import Code, Rejection, invalid_argument, not_found

CLUSTER = ""
"""What stands in the place of the tenant in the keys of these records."""


@dataclass(frozen=True, slots=True)
class OnBehalf:
    """A request about the cluster, and who makes it."""

    request: Any
    principal: Principal


@dataclass(frozen=True, slots=True)
class EnsureCluster:
    """The first start makes what everybody needs; what was changed since then stays."""


def ensure_cluster(tx: Transaction, _: str, __: EnsureCluster) -> None:
    """Create the default tenant, and an anonymous principal that may do everything."""
    if tx.get(kinds.TENANT, (CLUSTER, DEFAULT_TENANT)) is not None:
        return
    now = timestamp(tx.now_ms)
    tx.put(kinds.TENANT, (CLUSTER, DEFAULT_TENANT), Tenant(id=TenantId(id=DEFAULT_TENANT), created_at=now))
    anonymous = Principal(id=PrincipalId(id=ANONYMOUS), created_at=now, global_acls=everything())
    tx.put(kinds.PRINCIPAL, (CLUSTER, ANONYMOUS), anonymous)


def on_behalf(tx: Transaction, _: str, command: OnBehalf) -> Any:
    """Do what the principal asks for."""
    match command.request:
        case PutTenantRequest():
            return _put_tenant(tx, command.request)
        case PutPrincipalRequest():
            return _put_principal(tx, command.request, command.principal)
        case DeletePrincipalRequest():
            return _delete_principal(tx, command.request, command.principal)
        case PutQuotaRequest():
            return _put_quota(tx, command.request)
        case DeleteQuotaRequest():
            return _delete_quota(tx, command.request)
    raise AssertionError(f"{type(command.request).__name__} is not about the cluster")


def _put_tenant(tx: Transaction, request: PutTenantRequest) -> Tenant:
    key = (CLUSTER, request.id)
    stored = tx.get(kinds.TENANT, key)
    if stored is None:
        require_lh_name(request.id, "Tenant")
        if request.id[0].isdigit():
            raise invalid_argument(f"the tenant '{request.id}' cannot begin with a digit")
        for (tenant_id, _), defined in tx.settings.event_defs.items():
            if tenant_id == request.id:
                ensure_event_def(tx, tenant_id, EnsureEventDef(defined))
    tenant = Tenant(id=TenantId(id=request.id))
    tenant.created_at.CopyFrom(timestamp(tx.now_ms) if stored is None else stored.created_at)
    if request.HasField("output_topic_config"):
        tenant.output_topic_config.CopyFrom(request.output_topic_config)
    return tx.put(kinds.TENANT, key, tenant)


def _put_principal(tx: Transaction, request: PutPrincipalRequest, caller: Principal) -> Principal:
    if "/" in request.id or "\\" in request.id:
        raise invalid_argument("the id of a principal cannot contain '/' or '\\'")
    stored = tx.get(kinds.PRINCIPAL, (CLUSTER, request.id))
    if stored is not None and not request.overwrite:
        raise Rejection(
            Code.ALREADY_EXISTS, f"the principal '{request.id}' already exists; set overwrite to replace it"
        )
    principal = Principal(id=PrincipalId(id=request.id), global_acls=request.global_acls)
    for tenant, acls in request.per_tenant_acls.items():
        principal.per_tenant_acls[tenant].CopyFrom(acls)
    if stored is not None and not is_admin(principal) and _is_last_admin(tx, stored):
        raise Rejection(Code.FAILED_PRECONDITION, f"'{request.id}' is the last admin and has to stay one")
    if request.global_acls.acls and not is_admin(caller):
        raise invalid_argument("only an admin can give global ACLs")
    _require(caller, ACLResource.ACL_PRINCIPAL)
    if not request.id:
        raise invalid_argument("a principal needs an id")
    _check_tenant_acls(tx, principal)
    principal.created_at.CopyFrom(timestamp(tx.now_ms) if stored is None else stored.created_at)
    return tx.put(kinds.PRINCIPAL, (CLUSTER, request.id), principal)


def _check_tenant_acls(tx: Transaction, principal: Principal) -> None:
    for tenant, acls in sorted(principal.per_tenant_acls.items()):
        for acl in acls.acls:
            _check_tenant_acl(tenant, acl)
        if tx.get(kinds.TENANT, (CLUSTER, tenant)) is None:
            raise invalid_argument(f"there is no tenant '{tenant}'")


def _check_tenant_acl(tenant: str, acl: ServerACL) -> None:
    for resource in acl.resources:
        if resource in CLUSTER_RESOURCES:
            name = ACLResource.Name(resource)
            raise invalid_argument(f"an ACL of the tenant '{tenant}' cannot be over {name}, which is not the tenant's")


def _delete_principal(tx: Transaction, request: DeletePrincipalRequest, caller: Principal) -> Empty:
    name = request.id.id
    if name == ANONYMOUS:
        raise invalid_argument("the anonymous principal cannot be deleted; overwrite it to take its rights away")
    if name == caller.id.id:
        raise Rejection(Code.PERMISSION_DENIED, "a principal cannot delete itself")
    _require(caller, ACLResource.ACL_PRINCIPAL)
    stored = tx.get(kinds.PRINCIPAL, (CLUSTER, name))
    if stored is None:
        raise not_found(f"there is no principal '{name}'")
    if _is_last_admin(tx, stored):
        raise invalid_argument(f"'{name}' is the last admin and has to stay")
    tx.delete(kinds.PRINCIPAL, (CLUSTER, name))
    return Empty()


def _is_last_admin(tx: Transaction, principal: Principal) -> bool:
    others = [one for one in tx.all(kinds.PRINCIPAL, CLUSTER) if one.id != principal.id]
    return is_admin(principal) and not any(map(is_admin, others))


def _require(caller: Principal, resource: ACLResource) -> None:
    if not may_everywhere(caller, resource, ACLAction.WRITE_METADATA):
        text = f"the principal '{caller.id.id}' may not write {ACLResource.Name(resource)}"
        raise Rejection(Code.PERMISSION_DENIED, text)


def quota_key(quota_id: QuotaId) -> tuple[str, str, str]:
    """The key of a Quota, of a tenant or of one principal in it."""
    return CLUSTER, quota_id.tenant.id, quota_id.principal.id


def _put_quota(tx: Transaction, request: PutQuotaRequest) -> Quota:
    if request.write_requests_per_second <= 0:
        raise invalid_argument("write_requests_per_second must be positive")
    quota_id = QuotaId(tenant=request.tenant)
    if request.HasField("principal"):
        quota_id.principal.CopyFrom(request.principal)
    if tx.get(kinds.TENANT, (CLUSTER, request.tenant.id)) is None:
        raise invalid_argument(f"there is no tenant '{request.tenant.id}'")
    if request.HasField("principal") and tx.get(kinds.PRINCIPAL, (CLUSTER, request.principal.id)) is None:
        raise invalid_argument(f"there is no principal '{request.principal.id}'")
    stored = tx.get(kinds.QUOTA, quota_key(quota_id))
    quota = Quota(id=quota_id, write_requests_per_second=request.write_requests_per_second)
    quota.created_at.CopyFrom(timestamp(tx.now_ms) if stored is None else stored.created_at)
    return tx.put(kinds.QUOTA, quota_key(quota_id), quota)


def _delete_quota(tx: Transaction, request: DeleteQuotaRequest) -> Empty:
    key = quota_key(request.id)
    if tx.get(kinds.QUOTA, key) is None:
        raise not_found(
            f"there is no quota of the tenant '{key[1]}'" + (f" and principal '{key[2]}'" if key[2] else "")
        )
    tx.delete(kinds.QUOTA, key)
    return Empty()
