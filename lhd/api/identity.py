"""Who the caller is and what server this is (api.md 13.3)."""

from google.protobuf.empty_pb2 import Empty
from littlehorse.model import ACLAction, ACLResource, LittleHorseVersion, Principal, PrincipalId, ServerACL, ServerACLs

from lhd.api.call import Api, Method


async def whoami(api: Api, tenant: str, request: Empty) -> Principal:  # noqa: ARG001
    """Whoami: every caller of a listener without authentication is the anonymous principal."""
    everything = ServerACL(resources=[ACLResource.ACL_ALL_RESOURCES], allowed_actions=[ACLAction.ALL_ACTIONS])
    return Principal(id=PrincipalId(id="anonymous"), global_acls=ServerACLs(acls=[everything]))


async def get_server_version(api: Api, tenant: str, request: Empty) -> LittleHorseVersion:  # noqa: ARG001
    """GetServerVersion: the version of the API that is spoken, not of lhd."""
    return LittleHorseVersion(major_version=1, minor_version=3, patch_version=0)


METHODS: dict[str, Method] = {"Whoami": whoami, "GetServerVersion": get_server_version}
