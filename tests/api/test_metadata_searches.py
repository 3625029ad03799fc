"""Searches over UserTaskDefs, StructDefs, WorkflowEventDefs and WfSpecs; what was deleted is gone: api.md 9.1 and 9.5.

Not tested:
- whether a reminder of a user task counts as a use of its TaskDef: the spec speaks of TASK nodes only;
- ``name`` set to the empty text: the spec does not say whether that is a criterion;
- a default page of 100: the same for all searches, and tested where it is cheapest.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from grpc import StatusCode
from littlehorse.model import (
    DeleteExternalEventDefRequest,
    DeleteStructDefRequest,
    DeleteTaskDefRequest,
    DeleteUserTaskDefRequest,
    DeleteWfSpecRequest,
    DeleteWorkflowEventDefRequest,
    ExternalEventDefId,
    InlineStructDef,
    PutStructDefRequest,
    PutUserTaskDefRequest,
    PutWorkflowEventDefRequest,
    SearchExternalEventDefRequest,
    SearchStructDefRequest,
    SearchTaskDefRequest,
    SearchUserTaskDefRequest,
    SearchWfSpecRequest,
    SearchWorkflowEventDefRequest,
    StructDefId,
    StructFieldDef,
    TaskDefId,
    UserTaskDefId,
    VariableType,
    WfSpecId,
    WorkflowEventDefId,
)
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import (
    Client,
    assert_starts_over_or_is_refused,
    executes,
    only_exit,
    refused_with,
    type_of,
)
from tests.api.test_metadata import with_variable

Found = tuple[str, *tuple[int, ...]]
"""What a search found: the name, then the version of kinds that have one."""


async def put_form(client: Client, name: str, edition: int = 0) -> None:
    await client.stub.PutUserTaskDef(PutUserTaskDefRequest(name=name, description=f"edition {edition}"))


async def put_struct(client: Client, name: str, edition: int = 0) -> None:
    fields = {"plate": StructFieldDef(field_type=type_of(VariableType.STR))}
    await client.stub.PutStructDef(
        PutStructDefRequest(name=name, description=f"edition {edition}", struct_def=InlineStructDef(fields=fields))
    )


async def put_workflow_event_def(client: Client, name: str, edition: int = 0) -> None:
    await client.stub.PutWorkflowEventDef(PutWorkflowEventDefRequest(name=name))


async def put_task_def(client: Client, name: str, edition: int = 0) -> None:
    await client.put_task_def(name)


async def put_event_def(client: Client, name: str, edition: int = 0) -> None:
    await client.put_event_def(name)


async def put_wf_spec(client: Client, name: str, edition: int = 0) -> None:
    await client.register(with_variable(name, f"note{edition}", VariableType.STR))


class Kind(NamedTuple):
    """A kind of definition: how to search for it, to put one, and to delete one."""

    request: Any
    put: Callable[..., Awaitable[None]]
    delete: Any
    id: Any


NEW = {
    "UserTaskDef": Kind(SearchUserTaskDefRequest, put_form, DeleteUserTaskDefRequest, UserTaskDefId),
    "StructDef": Kind(SearchStructDefRequest, put_struct, DeleteStructDefRequest, StructDefId),
    "WorkflowEventDef": Kind(
        SearchWorkflowEventDefRequest, put_workflow_event_def, DeleteWorkflowEventDefRequest, WorkflowEventDefId
    ),
}
KINDS = {
    **NEW,
    "TaskDef": Kind(SearchTaskDefRequest, put_task_def, DeleteTaskDefRequest, TaskDefId),
    "ExternalEventDef": Kind(
        SearchExternalEventDefRequest, put_event_def, DeleteExternalEventDefRequest, ExternalEventDefId
    ),
    "WfSpec": Kind(SearchWfSpecRequest, put_wf_spec, DeleteWfSpecRequest, WfSpecId),
}
new_kinds = pytest.mark.parametrize("kind", NEW)
every_kind = pytest.mark.parametrize("kind", KINDS)
versioned = pytest.mark.parametrize("kind", ["UserTaskDef", "StructDef"])


def entry(found: Any) -> Found:
    if isinstance(found, WfSpecId):
        return found.name, found.major_version, found.revision
    if isinstance(found, UserTaskDefId | StructDefId):
        return found.name, found.version
    name: str = found.name
    return (name,)


async def pages(client: Client, kind: str, **criteria: Any) -> list[list[Found]]:
    """What a search finds, page by page."""
    found = await client.pages(f"Search{kind}", KINDS[kind].request(**criteria))
    return [[entry(one) for one in page] for page in found]


async def search(client: Client, kind: str, **criteria: Any) -> list[Found]:
    """What a search finds in all its pages."""
    return [one for page in await pages(client, kind, **criteria) for one in page]


async def names(client: Client, kind: str, **criteria: Any) -> list[str]:
    """The names that a search finds, one for each entry."""
    return [found[0] for found in await search(client, kind, **criteria)]


async def delete(client: Client, kind: str, name: str, **version: int) -> None:
    request = KINDS[kind].delete(id=KINDS[kind].id(name=name, **version))
    await getattr(client.stub, f"Delete{kind}")(request)


class TestPaging:
    @new_kinds
    async def test_nothing_found_is_an_empty_page(self, client: Client, kind: str) -> None:
        reply = await getattr(client.stub, f"Search{kind}")(KINDS[kind].request())
        assert not reply.results
        assert not reply.HasField("bookmark")

    @new_kinds
    @pytest.mark.parametrize("limit", [1, 2, 4, 5, 6])
    async def test_pages_join_to_all_names_in_order(self, client: Client, kind: str, limit: int) -> None:
        for name in ("c", "a", "e", "d", "b"):
            await KINDS[kind].put(client, name)
        found = await pages(client, kind, limit=limit)
        assert [one[0] for page in found for one in page] == ["a", "b", "c", "d", "e"]
        assert all(len(page) <= limit for page in found)

    @new_kinds
    async def test_names_come_in_byte_order(self, client: Client, kind: str) -> None:
        given = ("b", "B", "a-b", "a", "ab", "7", "Z")
        for name in given:
            await KINDS[kind].put(client, name)
        assert await names(client, kind) == sorted(given)

    @new_kinds
    async def test_rows_written_between_pages_do_not_repeat_or_hide_the_others(self, client: Client, kind: str) -> None:
        old = ["b", "d", "f", "h", "j"]
        for name in old:
            await KINDS[kind].put(client, name)
        request = KINDS[kind].request(limit=2)
        first = await getattr(client.stub, f"Search{kind}")(request)
        for name in ("a", "c", "e", "g", "i", "k"):
            await KINDS[kind].put(client, name)
        request.bookmark = first.bookmark
        rest = await client.pages(f"Search{kind}", request)
        found = [one.name for page in [first.results, *rest] for one in page]
        assert len(found) == len(set(found))
        assert set(old) <= set(found)

    @every_kind
    async def test_the_rows_before_the_border_may_be_deleted(self, client: Client, kind: str) -> None:
        for name in ("a", "b", "c", "d", "e"):
            await KINDS[kind].put(client, name)
        request = KINDS[kind].request(limit=2)
        first = await getattr(client.stub, f"Search{kind}")(request)
        for one in first.results:
            await delete(client, kind, one.name)
        request.bookmark = first.bookmark
        rest = await client.pages(f"Search{kind}", request)
        assert [one.name for page in rest for one in page] == ["c", "d", "e"]

    @new_kinds
    @pytest.mark.parametrize("limit", [-1, -100])
    async def test_a_negative_limit_is_refused(self, client: Client, kind: str, limit: int) -> None:
        call = getattr(client.stub, f"Search{kind}")(KINDS[kind].request(limit=limit))
        assert await refused_with(call) == StatusCode.INVALID_ARGUMENT

    @new_kinds
    async def test_a_limit_of_zero_is_like_none(self, client: Client, kind: str) -> None:
        for name in ("a", "b", "c"):
            await KINDS[kind].put(client, name)
        reply = await getattr(client.stub, f"Search{kind}")(KINDS[kind].request(limit=0))
        assert [one.name for one in reply.results] == ["a", "b", "c"]
        assert not reply.HasField("bookmark")

    @new_kinds
    @pytest.mark.parametrize("bookmark", [b"x", b"\x00\xff", b"{}", b"[]", b"null"])
    async def test_an_unusable_bookmark_starts_over_or_is_refused(
        self, client: Client, kind: str, bookmark: bytes
    ) -> None:
        await KINDS[kind].put(client, "a")
        await KINDS[kind].put(client, "b")
        await assert_starts_over_or_is_refused(client, f"Search{kind}", KINDS[kind].request(), bookmark)


class TestPrefix:
    @new_kinds
    async def test_names_that_start_with_it_are_found(self, client: Client, kind: str) -> None:
        for name in ("order", "order-2", "Order-3", "reorder", "z"):
            await KINDS[kind].put(client, name)
        assert await names(client, kind, prefix="order") == ["order", "order-2"]
        assert await names(client, kind, prefix="order-") == ["order-2"]
        assert await names(client, kind, prefix="z") == ["z"]
        assert await names(client, kind, prefix="orders") == []

    @new_kinds
    @pytest.mark.parametrize("prefix", ["%", "_", "o%", "o_der", "*", "o*", "ö", "o\U0010ffff"])
    async def test_no_character_is_special(self, client: Client, kind: str, prefix: str) -> None:
        await KINDS[kind].put(client, "order")
        assert await names(client, kind, prefix=prefix) == []

    @new_kinds
    async def test_every_name_starts_with_the_empty_prefix(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client, "a")
        await KINDS[kind].put(client, "B")
        assert await names(client, kind, prefix="") == ["B", "a"]

    @new_kinds
    async def test_pages_keep_to_it(self, client: Client, kind: str) -> None:
        for name in ("a", "oa", "ob", "oc", "p"):
            await KINDS[kind].put(client, name)
        found = await pages(client, kind, prefix="o", limit=2)
        assert [[one[0] for one in page] for page in found if page] == [["oa", "ob"], ["oc"]]

    @versioned
    async def test_all_versions_are_found_by_name_and_then_by_version(self, client: Client, kind: str) -> None:
        for edition in range(2):
            for name in ("order-2", "order", "z"):
                await KINDS[kind].put(client, name, edition)
        expected = [("order", 0), ("order", 1), ("order-2", 0), ("order-2", 1)]
        assert await search(client, kind, prefix="order") == expected
        assert await search(client, kind, prefix="order", limit=1) == expected

    async def test_all_versions_of_wf_specs_are_found(self, client: Client) -> None:
        for name in ("order-2", "order", "z"):
            await client.register(only_exit(name))
            await client.register(with_variable(name, "key", VariableType.STR, required=True))
        expected = [("order", 0, 0), ("order", 1, 0), ("order-2", 0, 0), ("order-2", 1, 0)]
        assert await search(client, "WfSpec", prefix="order") == expected
        for limit in (1, 2, 3):
            assert await search(client, "WfSpec", prefix="order", limit=limit) == expected


class TestName:
    @versioned
    async def test_it_is_exact(self, client: Client, kind: str) -> None:
        for name in ("order", "order-2", "Order"):
            await KINDS[kind].put(client, name)
        assert await search(client, kind, name="order") == [("order", 0)]
        for unknown in ("ord", "ORDER", "%", "order%"):
            assert await search(client, kind, name=unknown) == []

    @versioned
    @pytest.mark.parametrize("limit", [1, 2, 5])
    async def test_all_versions_are_found_in_numeric_order(self, client: Client, kind: str, limit: int) -> None:
        await KINDS[kind].put(client, "order-2")
        for edition in range(12):
            await KINDS[kind].put(client, "order", edition)
        found = await pages(client, kind, name="order", limit=limit)
        assert [one for page in found for one in page] == [("order", number) for number in range(12)]
        assert all(len(page) <= limit for page in found)

    @pytest.mark.parametrize("limit", [1, 2, 4])
    async def test_wf_specs_come_by_major_version_and_then_by_revision(self, client: Client, limit: int) -> None:
        await client.register(only_exit("order-2"))
        for name, marks in (("a", {}), ("b", {}), ("c", {"required": True}), ("d", {}), ("e", {})):
            await client.register(with_variable("order", name, VariableType.STR, **marks))
        found = await search(client, "WfSpec", name="order", limit=limit)
        assert found == sorted(found)
        assert found[:3] == [("order", 0, 0), ("order", 0, 1), ("order", 1, 0)]
        assert len(set(found)) == len(found) == 5


class TestWithoutCriteria:
    @versioned
    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_all_versions_are_found_by_name_and_then_by_version(
        self, client: Client, kind: str, limit: int
    ) -> None:
        for edition, name in ((0, "b"), (0, "a"), (1, "b"), (1, "a"), (2, "b")):
            await KINDS[kind].put(client, name, edition)
        expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2)]
        assert await search(client, kind, limit=limit) == expected

    @new_kinds
    async def test_a_put_again_gives_no_second_entry(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client, "a")
        await KINDS[kind].put(client, "a")
        assert len(await search(client, kind)) == 1

    async def test_every_search_finds_its_own_kind_only(self, client: Client) -> None:
        for kind in KINDS:
            await KINDS[kind].put(client, f"a-{kind}")
        for kind in KINDS:
            assert await names(client, kind) == [f"a-{kind}"]


class TestTaskDefName:
    @staticmethod
    async def ships(client: Client, *wf_specs: str) -> None:
        await client.put_task_def("ship")
        for name in wf_specs:
            await client.register(executes(name, "ship"))

    @pytest.mark.parametrize("limit", [1, 2, 3, 5])
    async def test_pages_join_to_the_whole_result_in_order(self, client: Client, limit: int) -> None:
        await self.ships(client, "d", "b", "e", "a", "c")
        await client.register(only_exit("aa"))
        found = await pages(client, "WfSpec", task_def_name="ship", limit=limit)
        assert [one for page in found for one in page] == [(name, 0, 0) for name in "abcde"]
        assert all(len(page) <= limit for page in found)

    async def test_only_the_versions_that_use_it_are_found(self, client: Client) -> None:
        await client.put_task_def("bill")
        await self.ships(client, "order")
        await client.register(executes("order", "bill"))
        await client.register(executes("order", "ship", "bill"))
        assert await search(client, "WfSpec", task_def_name="ship") == [("order", 0, 0), ("order", 0, 2)]
        assert await search(client, "WfSpec", task_def_name="bill") == [("order", 0, 1), ("order", 0, 2)]

    async def test_it_is_exact(self, client: Client) -> None:
        await self.ships(client, "order")
        for other in ("shi", "ship-2", "Ship", "%", "sh%"):
            assert await search(client, "WfSpec", task_def_name=other) == []

    async def test_it_may_be_used_in_any_thread(self, client: Client) -> None:
        def child(thread: WorkflowThread) -> None:
            thread.execute("ship")

        def entrypoint(thread: WorkflowThread) -> None:
            thread.spawn_thread(child, "child")

        await client.put_task_def("ship")
        await client.register(Workflow("order", entrypoint))
        assert await search(client, "WfSpec", task_def_name="ship") == [("order", 0, 0)]

    async def test_revisions_come_in_numeric_order(self, client: Client) -> None:
        await client.put_task_def("ship")
        for times in range(1, 13):
            await client.register(executes("order", *["ship"] * times))
        found = await search(client, "WfSpec", task_def_name="ship", limit=5)
        assert found == [("order", 0, number) for number in range(12)]

    async def test_wf_specs_that_use_a_deleted_task_def_are_still_found(self, client: Client) -> None:
        await self.ships(client, "order")
        await delete(client, "TaskDef", "ship")
        assert await search(client, "WfSpec", task_def_name="ship") == [("order", 0, 0)]


class TestDeleted:
    @every_kind
    async def test_definitions_are_not_found(self, client: Client, kind: str) -> None:
        for name in ("oa", "ob", "oc"):
            await KINDS[kind].put(client, name)
        await delete(client, kind, "ob")
        assert await names(client, kind) == ["oa", "oc"]
        assert await names(client, kind, prefix="o") == ["oa", "oc"]
        assert await names(client, kind, prefix="ob") == []

    @every_kind
    async def test_definitions_that_were_put_again_are_found_once(self, client: Client, kind: str) -> None:
        await KINDS[kind].put(client, "a")
        await delete(client, kind, "a")
        await KINDS[kind].put(client, "a")
        assert await names(client, kind) == ["a"]

    @versioned
    async def test_versions_are_not_found(self, client: Client, kind: str) -> None:
        for edition in range(3):
            await KINDS[kind].put(client, "order", edition)
        await delete(client, kind, "order", version=1)
        for criteria in ({}, {"name": "order"}, {"prefix": "order"}):
            assert await search(client, kind, **criteria) == [("order", 0), ("order", 2)]

    async def test_versions_of_wf_specs_are_not_found(self, client: Client) -> None:
        await client.put_task_def("ship")
        for times in (1, 2, 3):
            await client.register(executes("order", *["ship"] * times))
        await delete(client, "WfSpec", "order", revision=1)
        for criteria in ({}, {"name": "order"}, {"prefix": "order"}, {"task_def_name": "ship"}):
            assert await search(client, "WfSpec", **criteria) == [("order", 0, 0), ("order", 0, 2)]
