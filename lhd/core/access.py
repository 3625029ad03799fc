"""Who may do what: admins, applicable ACLs, and what they allow (api.md 2.3). Knows no RPC."""

from collections.abc import Iterable

from littlehorse.model import ACLAction, ACLResource, Principal, ServerACL, ServerACLs

ANONYMOUS = "anonymous"
DEFAULT_TENANT = "default"
CLUSTER_RESOURCES = frozenset({ACLResource.ACL_TENANT, ACLResource.ACL_PRINCIPAL, ACLResource.ACL_QUOTA})


def everything() -> ServerACLs:
    """The ACL of an admin."""
    acl = ServerACL(resources=[ACLResource.ACL_ALL_RESOURCES], allowed_actions=[ACLAction.ALL_ACTIONS])
    return ServerACLs(acls=[acl])


def is_admin(principal: Principal) -> bool:
    """Whether a principal may do everything: one ACL of all actions over all resources in every tenant."""
    return _allows(principal.global_acls.acls, ACLResource.ACL_ALL_RESOURCES, ACLAction.ALL_ACTIONS)


def may(principal: Principal, tenant: str, resource: ACLResource, action: ACLAction) -> bool:
    """Whether a principal may do this in a tenant.

    ACLs of the tenant stand in the place of the global ones, for cluster-wide objects also of an admin's.
    """
    if tenant in principal.per_tenant_acls:
        if resource in CLUSTER_RESOURCES:
            return False
        return is_admin(principal) or _allows(principal.per_tenant_acls[tenant].acls, resource, action)
    return may_everywhere(principal, resource, action)


def may_everywhere(principal: Principal, resource: ACLResource, action: ACLAction) -> bool:
    """Whether the principal's global ACLs allow this."""
    return is_admin(principal) or _allows(principal.global_acls.acls, resource, action)


def _allows(acls: Iterable[ServerACL], resource: ACLResource, action: ACLAction) -> bool:
    return any(
        (resource in acl.resources or ACLResource.ACL_ALL_RESOURCES in acl.resources)
        and (action in acl.allowed_actions or ACLAction.ALL_ACTIONS in acl.allowed_actions)
        for acl in acls
    )
