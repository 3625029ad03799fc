"""Tenants, principals and quotas as they are committed, in memory, for the questions that each call asks first."""

from typing import Any

from littlehorse.model import Principal

from lhd.core import kinds
from lhd.core.access import ANONYMOUS, DEFAULT_TENANT
from lhd.core.commands.cluster import CLUSTER
from lhd.core.records import Key, Kind, LaneId

CLUSTER_LANE = LaneId(kinds.TENANT.lane, (CLUSTER,))


class Directory:
    """Follows the commits; it is never ahead of them."""

    def __init__(self) -> None:
        self._records: dict[Kind[Any], dict[Key, Any]] = {kinds.TENANT: {}, kinds.PRINCIPAL: {}, kinds.QUOTA: {}}

    def follow(self, writes: dict[Kind[Any], dict[Key, Any]]) -> None:
        """Take over what a commit wrote."""
        for kind, records in self._records.items():
            for key, value in writes.get(kind, {}).items():
                records.pop(key, None)
                if value is not None:
                    records[key] = value

    def has_tenant(self, tenant: str) -> bool:
        """Whether the tenant exists; the default one always does."""
        return tenant == DEFAULT_TENANT or (CLUSTER, tenant) in self._records[kinds.TENANT]

    def principal(self, name: str) -> Principal:
        """The principal of this id; a stranger is the anonymous one."""
        principals = self._records[kinds.PRINCIPAL]
        found: Principal = principals.get((CLUSTER, name)) or principals[CLUSTER, ANONYMOUS]
        return found

    def quota(self, tenant: str, principal: str = "") -> int | None:
        """The write requests per second of a tenant, or of one principal in it; None without a limit."""
        found = self._records[kinds.QUOTA].get((CLUSTER, tenant, principal))
        return None if found is None else int(found.write_requests_per_second)
