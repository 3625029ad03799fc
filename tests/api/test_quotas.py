"""Quotas, and what happens when one is used up: api.md 13.4, and status details: api.md 1.

A quota of one request per second grants one permit per window of 500 ms, so a burst of calls is throttled soon; how
soon depends on when the window ends, and no test depends on that.

Not tested here:
- which of two used-up quotas has the larger delay, and the wording of the text: the rules leave too much open;
- that the delay shrinks as windows pass, and that windows end in time: it would need a clock;
- the asynchronous interceptor of the SDK: it cannot read the metadata that grpc.aio gives it, whatever a server does;
- ValidateStructDefEvolution and MigrateWfSpec: not said whether they count.
"""

from collections.abc import Awaitable, Callable
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import grpc
import pytest
from grpc import StatusCode
from littlehorse.config import LHConfig
from littlehorse.model import (
    DeleteQuotaRequest,
    LittleHorseStub,
    PrincipalId,
    PutQuotaRequest,
    PutTaskDefRequest,
    Quota,
    QuotaId,
    SearchQuotaRequest,
    TaskDefId,
    TenantId,
)

from tests.api.access import (
    METHODS,
    await_thrown,
    call_empty,
    code_of,
    in_tenant,
    next_millisecond,
    put_principal,
    put_tenant,
    restrict,
)
from tests.api.client import (
    Client,
    assert_starts_over_or_is_refused,
    executes,
    is_missing,
    refused_with,
)
from tests.api.test_restart import daemon

# Imported by name because these modules have no types.
RetryInfo: Any = import_module("google.rpc.error_details_pb2").RetryInfo
Status: Any = import_module("google.rpc.status_pb2").Status

PLENTY = 1_000_000
"""A rate that no test uses up."""

BURST = 50
"""More calls than any quota of these tests grants while they last."""

WINDOW_MS = 500
DETAILS = "grpc-status-details-bin"

COMMANDS = sorted(
    name
    for name in METHODS
    if name.startswith(
        (
            "Apply",
            "Assign",
            "Cancel",
            "Complete",
            "Create",
            "Delete",
            "Edit",
            "Put",
            "Register",
            "Report",
            "Rescue",
            "Resume",
            "Run",
            "Save",
            "Schedule",
            "Stop",
        )
    )
)
FREE = sorted(name for name in METHODS if name.startswith(("Count", "Get", "List", "Search", "Whoami")))


@pytest.fixture
async def acme(client: Client) -> Client:
    """The API as it is used in the tenant ``acme``; quotas are put from the tenant ``default``, which has none."""
    await put_tenant(client, "acme")
    return in_tenant(client, "acme")


def quota_id(tenant: str, principal: str | None = None) -> QuotaId:
    return QuotaId(tenant=TenantId(id=tenant), principal=PrincipalId(id=principal) if principal else None)


async def put_quota(client: Client, tenant: str, rate: int, principal: str | None = None) -> Quota:
    key = quota_id(tenant, principal)
    reply: Quota = await client.stub.PutQuota(
        PutQuotaRequest(
            tenant=key.tenant, principal=key.principal if principal else None, write_requests_per_second=rate
        )
    )
    return reply


async def get_quota(client: Client, tenant: str, principal: str | None = None) -> Quota:
    reply: Quota = await client.stub.GetQuota(quota_id(tenant, principal))
    return reply


async def delete_quota(client: Client, tenant: str, principal: str | None = None) -> None:
    await client.stub.DeleteQuota(DeleteQuotaRequest(id=quota_id(tenant, principal)))


def names(found: list[QuotaId]) -> list[tuple[str, str]]:
    """Tenant and principal of each quota; "" is no principal."""
    return [(one.tenant.id, one.principal.id) for one in found]


async def quotas(client: Client, **criteria: Any) -> list[tuple[str, str]]:
    """What a search finds in all its pages."""
    pages = await client.pages("SearchQuota", SearchQuotaRequest(**criteria))
    return names([one for page in pages for one in page])


async def until_throttled(call: Callable[[], Awaitable[Any]]) -> grpc.aio.AioRpcError:
    """Make the same call until it is refused because a quota is used up."""
    for _ in range(BURST):
        try:
            await call()
        except grpc.aio.AioRpcError as error:
            if error.code() == StatusCode.RESOURCE_EXHAUSTED:
                return error
    pytest.fail("never throttled")


async def use_up(client: Client) -> grpc.aio.AioRpcError:
    """Send good commands until one is refused."""
    return await until_throttled(lambda: client.put_task_def("ship"))


async def throttled_calls(client: Client, calls: int = BURST) -> list[grpc.aio.AioRpcError]:
    """Send that many good commands, and tell the errors of those that were refused."""
    errors = []
    for _ in range(calls):
        try:
            await client.put_task_def("ship")
        except grpc.aio.AioRpcError as error:
            if error.code() != StatusCode.RESOURCE_EXHAUSTED:
                raise
            errors.append(error)
    return errors


def details_of(error: grpc.aio.AioRpcError) -> list[Any]:
    """The status details in the trailing metadata of an error."""
    return [value for key, value in error.trailing_metadata() or () if key == DETAILS]


def delay_ms(error: grpc.aio.AioRpcError) -> float:
    """The delay in the RetryInfo of an error."""
    (packed,) = details_of(error)
    (detail,) = Status.FromString(packed).details
    info = RetryInfo()
    assert detail.Unpack(info)
    return float(info.retry_delay.ToNanoseconds()) / 1_000_000


class TestPutGetAndDelete:
    @pytest.mark.parametrize("principal", [None, "anonymous", "alice"])
    async def test_the_stored_quota_is_returned_and_found(
        self, client: Client, acme: Client, principal: str | None
    ) -> None:
        await put_principal(client, "alice")
        put = await put_quota(client, "acme", 7, principal)
        assert put.id == quota_id("acme", principal)
        assert put.id.HasField("principal") == (principal is not None)
        assert put.write_requests_per_second == 7
        assert put.created_at.ToMilliseconds() > 0
        assert await get_quota(client, "acme", principal) == put

    async def test_a_second_put_changes_the_rate_and_keeps_the_time(self, client: Client, acme: Client) -> None:
        first = await put_quota(client, "acme", 7)
        await next_millisecond(first.created_at)
        second = await put_quota(client, "acme", 8)
        assert second.write_requests_per_second == 8
        assert second.created_at == first.created_at
        assert await get_quota(client, "acme") == second
        assert await quotas(client) == [("acme", "")]

    async def test_a_tenant_and_each_principal_in_it_have_quotas_of_their_own(
        self, client: Client, acme: Client
    ) -> None:
        await put_principal(client, "alice")
        given = {None: 5, "anonymous": 6, "alice": 7}
        for principal, rate in given.items():
            await put_quota(client, "acme", rate, principal)
        await put_quota(client, "default", PLENTY, "alice")
        for principal, rate in given.items():
            assert (await get_quota(client, "acme", principal)).write_requests_per_second == rate
        await delete_quota(client, "acme")
        assert await is_missing(get_quota(client, "acme"))
        assert sorted(await quotas(client)) == [("acme", "alice"), ("acme", "anonymous"), ("default", "alice")]

    @pytest.mark.parametrize("rate", [0, -1, -1000])
    async def test_a_rate_must_be_positive(self, client: Client, acme: Client, rate: int) -> None:
        assert await refused_with(put_quota(client, "acme", rate)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(get_quota(client, "acme"))

    async def test_a_refused_rate_leaves_the_old_one(self, client: Client, acme: Client) -> None:
        put = await put_quota(client, "acme", 7)
        assert await refused_with(put_quota(client, "acme", 0)) == StatusCode.INVALID_ARGUMENT
        assert await get_quota(client, "acme") == put

    @pytest.mark.parametrize(("tenant", "principal"), [("emca", None), ("emca", "anonymous"), ("acme", "alice")])
    async def test_the_tenant_and_the_principal_must_exist(
        self, client: Client, acme: Client, tenant: str, principal: str | None
    ) -> None:
        assert await refused_with(put_quota(client, tenant, 7, principal)) == StatusCode.INVALID_ARGUMENT
        assert await is_missing(get_quota(client, tenant, principal))

    async def test_who_may_not_write_quotas_is_denied(self, client: Client, acme: Client) -> None:
        put = await put_quota(client, "acme", PLENTY)
        await restrict(client, ("ACL_QUOTA", "READ"), ("ACL_QUOTA", "RUN"), ("ACL_TENANT", "ALL_ACTIONS"))
        assert await refused_with(put_quota(client, "acme", 7)) == StatusCode.PERMISSION_DENIED
        assert await refused_with(put_quota(client, "default", 7)) == StatusCode.PERMISSION_DENIED
        assert await refused_with(delete_quota(client, "acme")) == StatusCode.PERMISSION_DENIED
        assert await get_quota(client, "acme") == put
        assert await quotas(client) == [("acme", "")]

    async def test_who_may_write_quotas_need_not_be_an_admin(self, client: Client, acme: Client) -> None:
        await restrict(client, ("ACL_QUOTA", "WRITE_METADATA"))
        assert (await put_quota(client, "acme", 7)).write_requests_per_second == 7
        await delete_quota(client, "acme")

    @pytest.mark.parametrize(("tenant", "principal"), [("acme", "anonymous"), ("default", None), ("emca", None)])
    async def test_a_missing_quota_is_not_found(
        self, client: Client, acme: Client, tenant: str, principal: str | None
    ) -> None:
        await put_quota(client, "acme", PLENTY)
        assert await is_missing(get_quota(client, tenant, principal))
        assert await refused_with(delete_quota(client, tenant, principal)) == StatusCode.NOT_FOUND
        assert await quotas(client) == [("acme", "")]

    async def test_the_quota_of_a_principal_is_not_that_of_the_tenant(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", PLENTY, "anonymous")
        assert await is_missing(get_quota(client, "acme"))
        assert await refused_with(delete_quota(client, "acme")) == StatusCode.NOT_FOUND


class TestSearch:
    @pytest.fixture
    async def known(self, client: Client, acme: Client) -> None:
        await put_principal(client, "alice")
        for tenant, principal in (
            ("default", "alice"),
            ("acme", "anonymous"),
            ("default", None),
            ("acme", None),
            ("acme", "alice"),
        ):
            await put_quota(client, tenant, PLENTY, principal)

    async def test_there_are_none_at_first(self, client: Client) -> None:
        reply = await client.stub.SearchQuota(SearchQuotaRequest())
        assert not reply.results
        assert not reply.HasField("bookmark")

    @pytest.mark.parametrize(
        ("criteria", "expected"),
        [
            (
                {},
                [("acme", ""), ("acme", "alice"), ("acme", "anonymous"), ("default", ""), ("default", "alice")],
            ),
            ({"tenant_id": "acme"}, [("acme", ""), ("acme", "alice"), ("acme", "anonymous")]),
            ({"tenant_id": "default"}, [("default", ""), ("default", "alice")]),
            ({"tenant_id": "acme", "principal": PrincipalId(id="alice")}, [("acme", "alice")]),
            ({"tenant_id": "default", "principal": PrincipalId(id="anonymous")}, []),
        ],
        ids=str,
    )
    async def test_quotas_are_found_by_criterion_each_once(
        self, client: Client, known: None, criteria: dict[str, Any], expected: list[tuple[str, str]]
    ) -> None:
        whole = await quotas(client, **criteria)
        assert sorted(whole) == expected
        for limit in (1, 2, 3, 5):
            pages = await client.pages("SearchQuota", SearchQuotaRequest(**criteria, limit=limit))
            assert names([one for page in pages for one in page]) == whole
            assert all(len(page) == limit for page in pages[:-1])
            assert len(pages[-1]) <= limit

    async def test_a_principal_without_a_tenant_is_refused(self, client: Client, known: None) -> None:
        call = client.stub.SearchQuota(SearchQuotaRequest(principal=PrincipalId(id="alice")))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    async def test_a_negative_limit_is_refused(self, client: Client) -> None:
        call = client.stub.SearchQuota(SearchQuotaRequest(limit=-1))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"null"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, known: None, bookmark: bytes
    ) -> None:
        await assert_starts_over_or_is_refused(client, "SearchQuota", SearchQuotaRequest(), bookmark)


class TestWhatCounts:
    @pytest.mark.parametrize("name", COMMANDS)
    async def test_every_command_counts(self, client: Client, acme: Client, name: str) -> None:
        await put_quota(client, "acme", 1)
        assert details_of(await until_throttled(lambda: call_empty(acme, name)))

    async def test_reads_do_not_count(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        await use_up(acme)
        for _ in range(2):
            codes = {name: await code_of(call_empty(acme, name)) for name in FREE}
            assert not [name for name, code in codes.items() if code == StatusCode.RESOURCE_EXHAUSTED]

    async def test_awaiting_an_event_does_not_count(self, client: Client, acme: Client) -> None:
        request = await await_thrown(acme)
        await put_quota(client, "acme", 1)
        await use_up(acme)
        for _ in range(3):
            assert (await acme.stub.AwaitWorkflowEvent(request)).content.str == "content"

    async def test_polling_does_not_count(self, client: Client, acme: Client) -> None:
        await acme.put_task_def("ship")
        await acme.register(executes("order", "ship"))
        for run in ("a", "b", "c"):
            await acme.run("order", run)
        await put_quota(client, "acme", 1)
        await use_up(acme)
        async with acme.poller("ship") as poller:
            await poller.ask(3)
            assert [(await poller.take()).task_run_id.wf_run_id.id for _ in range(3)] == ["a", "b", "c"]

    async def test_a_throttled_command_does_nothing(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        put: list[str] = []

        async def another() -> None:
            put.append(f"t{len(put)}")
            await acme.put_task_def(put[-1])

        await until_throttled(another)
        assert await is_missing(acme.stub.GetTaskDef(TaskDefId(name=put[-1])))
        for name in put[:-1]:
            assert (await acme.stub.GetTaskDef(TaskDefId(name=name))).id.name == name


class TestWhoIsThrottled:
    async def test_without_a_quota_nobody(self, client: Client) -> None:
        assert not await throttled_calls(client)

    async def test_the_callers_in_the_tenant_of_the_quota_only(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        await use_up(acme)
        assert not await throttled_calls(client)

    async def test_calls_without_a_tenant_by_the_quota_of_the_tenant_default(
        self, client: Client, acme: Client
    ) -> None:
        await put_quota(client, "default", 1)
        await use_up(client)
        assert not await throttled_calls(acme)

    async def test_the_principal_of_the_quota_only(self, client: Client, acme: Client) -> None:
        await put_principal(client, "alice")
        await put_quota(client, "acme", 1, "alice")
        assert not await throttled_calls(acme)

    async def test_the_principal_in_the_tenant_of_the_quota_only(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1, "anonymous")
        await use_up(acme)
        assert not await throttled_calls(client)

    @pytest.mark.parametrize(("of_tenant", "of_principal"), [(1, PLENTY), (PLENTY, 1), (1, 1)])
    async def test_by_the_quota_of_the_tenant_and_by_that_of_the_principal(
        self, client: Client, acme: Client, of_tenant: int, of_principal: int
    ) -> None:
        await put_quota(client, "acme", of_tenant)
        await put_quota(client, "acme", of_principal, "anonymous")
        assert delay_ms(await use_up(acme)) >= WINDOW_MS

    async def test_nobody_by_a_generous_quota(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", PLENTY)
        await put_quota(client, "acme", PLENTY, "anonymous")
        assert not await throttled_calls(acme)

    async def test_nobody_any_more_when_the_quota_is_deleted(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        await use_up(acme)
        await delete_quota(client, "acme")
        assert not await throttled_calls(acme)

    async def test_nobody_any_more_when_the_rate_is_raised(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        await use_up(acme)
        await put_quota(client, "acme", PLENTY)
        assert not await throttled_calls(acme)

    async def test_everybody_at_once_when_the_rate_is_lowered(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", PLENTY)
        assert not await throttled_calls(acme)
        await put_quota(client, "acme", 1)
        assert await throttled_calls(acme)

    async def test_the_same_after_a_restart(self, tmp_path: Path) -> None:
        async with daemon(tmp_path / "data") as client:
            await put_tenant(client, "acme")
            await put_principal(client, "alice")
            put = await put_quota(client, "acme", 1)
            await put_quota(client, "default", 1, "alice")
            await delete_quota(client, "default", "alice")
        async with daemon(tmp_path / "data") as client:
            assert await get_quota(client, "acme") == put
            assert await quotas(client) == [("acme", "")]
            assert not await throttled_calls(client)
            await use_up(in_tenant(client, "acme"))


class TestDelay:
    async def test_a_rejection_carries_a_status_with_a_retry_info(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        assert delay_ms(await use_up(acme)) >= WINDOW_MS

    @pytest.mark.parametrize(("rate", "permits"), [(1, 1), (2, 1), (3, 2), (4, 2), (7, 4), (10, 5)])
    async def test_a_window_has_a_permit_for_every_half_request_per_second_rounded_up(
        self, client: Client, acme: Client, rate: int, permits: int
    ) -> None:
        await put_quota(client, "acme", rate)
        assert not await throttled_calls(acme, permits)

    @pytest.mark.parametrize(("rate", "step_ms"), [(1, 500), (2, 500), (3, 250), (4, 250), (7, 125), (10, 100)])
    async def test_every_rejection_adds_its_share_of_a_window_to_the_delay(
        self, client: Client, acme: Client, rate: int, step_ms: int
    ) -> None:
        await put_quota(client, "acme", rate)
        delays = [delay_ms(error) for error in await throttled_calls(acme)]
        steps = {round(later - earlier, 3) for earlier, later in pairwise(delays)}
        assert {step for step in steps if step > 0} == {step_ms}  # less than 0 is where a window ended

    async def test_the_delay_is_never_longer_than_the_largest_debt_allows(self, client: Client, acme: Client) -> None:
        await put_quota(client, "acme", 1)
        delays = [delay_ms(error) for error in await throttled_calls(acme, 3 * BURST)]
        assert max(delays) == WINDOW_MS * (1 + 60)
        assert min(delays) >= WINDOW_MS

    async def test_no_other_rejection_carries_details(self, client: Client, acme: Client) -> None:
        too_large = PutTaskDefRequest(name="x" * 1_100_000)
        for call, code in (
            (client.stub.PutTaskDef(too_large), StatusCode.RESOURCE_EXHAUSTED),
            (client.stub.PutTaskDef(PutTaskDefRequest(name="a/b")), StatusCode.INVALID_ARGUMENT),
            (client.stub.GetTaskDef(TaskDefId(name="missing")), StatusCode.NOT_FOUND),
            (in_tenant(client, "emca").put_task_def("ship"), StatusCode.PERMISSION_DENIED),
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert caught.value.code() == code
            assert not details_of(caught.value)


async def test_the_sdk_waits_and_retries_until_it_gets_through(client: Client, acme: Client) -> None:
    (host,) = (await client.register_worker("ship")).your_hosts
    await put_quota(client, "acme", 2)

    def use_the_sdk() -> list[str]:
        config = LHConfig()
        config.load({"LHC_API_HOST": host.host, "LHC_API_PORT": host.port, "LHC_TENANT_ID": "acme"})
        with config.establish_channel() as channel:
            stub = LittleHorseStub(channel)  # type: ignore[no-untyped-call] # generated code
            return [stub.PutTaskDef(PutTaskDefRequest(name=name)).id.name for name in ("a", "b", "c")]

    await use_up(acme)
    assert await anyio.to_thread.run_sync(use_the_sdk) == ["a", "b", "c"]
    for name in ("a", "b", "c"):
        assert (await acme.stub.GetTaskDef(TaskDefId(name=name))).id.name == name
