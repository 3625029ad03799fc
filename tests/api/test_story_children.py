"""Stories of workflows that run other workflows: what goes in, what comes out, and what a child's failure does."""

from typing import Any

from littlehorse.exceptions import LHTaskException
from littlehorse.model import (
    ExternalEventDefId,
    LHStatus,
    PutExternalEventRequest,
    RunWfRequest,
    SearchWfRunRequest,
    WfRun,
    WfRunId,
)
from littlehorse.utils import to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import Client
from tests.api.test_story_threads import node_of, working


def pricing(thread: WorkflowThread) -> None:
    """The child: ask a worker for the price of an item and give it back."""
    item = thread.declare_str("item").required()
    count = thread.declare_int("count", 1)
    thread.complete(thread.execute("quote", item, count))


def order(thread: WorkflowThread) -> None:
    """The parent: have the price found out, then send the invoice."""
    item = thread.declare_str("item").required()
    price = thread.declare_int("price")
    child = thread.run_wf("pricing", {"item": item, "count": 3})
    price.assign(thread.wait_for_child_wf(child))
    thread.execute("invoice", item, price)


async def child_of(client: Client, run: str = "r") -> WfRun:
    """The only child WfRun."""
    search = SearchWfRunRequest(parent_wf_run_id=WfRunId(id=run))
    (child_id,) = (await client.stub.SearchWfRun(search)).results
    child: WfRun = await client.stub.GetWfRun(child_id)
    return child


async def post_to(client: Client, run: WfRunId, event_def: str, content: Any = None) -> None:
    """Put an ExternalEvent to a WfRun that may have a parent."""
    await client.stub.PutExternalEvent(
        PutExternalEventRequest(
            wf_run_id=run,
            external_event_def_id=ExternalEventDefId(name=event_def),
            content=to_variable_value(content),
        )
    )


async def test_a_parent_runs_a_child_waits_for_it_and_uses_its_output(client: Client) -> None:
    invoices: list[tuple[str, int]] = []

    async def quote(item: str, count: int) -> int:
        return len(item) * count

    async def invoice(item: str, price: int) -> None:
        invoices.append((item, price))

    async with working(client, quote, invoice):
        pricing_spec = await client.register(Workflow("pricing", pricing))
        await client.register(Workflow("order", order))
        await client.run("order", "r", item="book")
        await client.until("r", LHStatus.COMPLETED)
    assert invoices == [("book", 12)]

    child = await child_of(client)
    assert child.id.parent_wf_run_id == WfRunId(id="r")
    assert child.wf_spec_id == pricing_spec.id
    assert child.status == LHStatus.COMPLETED
    assert child.thread_runs[0].output.int == 12
    started, waited = await node_of(client, "run_child_wf"), await node_of(client, "wait_for_child_wf")
    assert started.run_child_wf.child_wf_run_id == waited.wait_for_child_wf.child_wf_run_id == child.id
    assert child.parent_trigger.triggering_node_run == started.id
    assert child.parent_trigger.waiting_node_run == waited.id


async def test_a_parent_waits_while_its_child_waits(client: Client) -> None:
    def approval(thread: WorkflowThread) -> None:
        thread.complete(thread.wait_for_event("approved", return_type=str))

    def release(thread: WorkflowThread) -> None:
        thread.complete(thread.wait_for_child_wf(thread.run_wf("approval")))

    await client.register(Workflow("approval", approval))
    await client.register(Workflow("release", release))
    assert (await client.run("release", "r")).status == LHStatus.RUNNING
    child = await child_of(client)
    assert child.status == LHStatus.RUNNING
    assert (await node_of(client, "wait_for_child_wf")).status == LHStatus.RUNNING

    await client.post("approved", "not for the child", run="r")
    assert (await child_of(client)).status == LHStatus.RUNNING

    await post_to(client, child.id, "approved", "Ada")
    run = await client.until("r", LHStatus.COMPLETED)
    assert run.thread_runs[0].output.str == "Ada"


async def test_a_parent_catches_the_exception_of_its_child_by_name(client: Client) -> None:
    def careful_order(thread: WorkflowThread) -> None:
        item = thread.declare_str("item").required()
        price = thread.wait_for_child_wf(thread.run_wf("pricing", {"item": item}))

        def apologize(handler: WorkflowThread) -> None:
            handler.execute("apologize", handler.declare_str("INPUT"))

        thread.handle_exception(price, apologize, "out-of-stock")

    apologies: list[str] = []

    async def quote(item: str, count: int) -> int:
        raise LHTaskException("out-of-stock", "none left", to_variable_value("back in May"))

    async def apologize(when: str) -> None:
        apologies.append(when)

    async with working(client, quote, apologize):
        await client.register(Workflow("pricing", pricing))
        await client.register(Workflow("order", careful_order))
        await client.run("order", "r", item="book")
        await client.until("r", LHStatus.COMPLETED)
    assert apologies == ["back in May"]
    assert (await child_of(client)).status == LHStatus.EXCEPTION
    waited = await node_of(client, "wait_for_child_wf")
    assert waited.status == LHStatus.EXCEPTION
    assert waited.failures[0].was_properly_handled


async def test_a_child_that_breaks_breaks_its_parent_with_a_child_failure(client: Client) -> None:
    async def quote(item: str, count: int) -> int:
        raise RuntimeError("the price list is gone")

    async def invoice(item: str, price: int) -> None:
        raise AssertionError("there is no price")

    async with working(client, quote, invoice):
        await client.register(Workflow("pricing", pricing))
        await client.register(Workflow("order", order))
        await client.run("order", "r", item="book")
        await client.until("r", LHStatus.ERROR)
    assert (await child_of(client)).status == LHStatus.ERROR
    assert (await node_of(client, "wait_for_child_wf")).failures[0].failure_name == "CHILD_FAILURE"


async def test_a_parent_that_does_not_wait_is_done_before_its_child(client: Client) -> None:
    def audit(thread: WorkflowThread) -> None:
        thread.wait_for_event("audited")

    def payment(thread: WorkflowThread) -> None:
        thread.run_wf("audit")

    await client.put_event_def("audited")
    await client.register(Workflow("audit", audit))
    await client.register(Workflow("payment", payment))
    assert (await client.run("payment", "r")).status == LHStatus.COMPLETED
    child = await child_of(client)
    assert child.status == LHStatus.RUNNING
    await post_to(client, child.id, "audited")
    assert (await child_of(client)).status == LHStatus.COMPLETED


async def test_a_child_that_a_client_starts_changes_a_variable_of_its_parent(client: Client) -> None:
    def account(thread: WorkflowThread) -> None:
        balance = thread.declare_int("balance", 100).as_public()
        thread.wait_for_event("closed")
        thread.complete(balance)

    def withdrawal(thread: WorkflowThread) -> None:
        amount = thread.declare_int("amount").required()
        balance = thread.declare_int("balance").as_inherited()
        balance.assign(balance.subtract(amount))

    await client.put_event_def("closed")
    await client.register(Workflow("account", account))
    await client.register(Workflow("withdrawal", withdrawal, parent_wf="account"))
    await client.run("account", "a")
    for number, amount in enumerate((30, 25)):
        child: WfRun = await client.stub.RunWf(
            RunWfRequest(
                wf_spec_name="withdrawal",
                id=f"w{number}",
                parent_wf_run_id=WfRunId(id="a"),
                variables={"amount": to_variable_value(amount)},
            )
        )
        assert child.id == WfRunId(id=f"w{number}", parent_wf_run_id=WfRunId(id="a"))
        assert child.status == LHStatus.COMPLETED
    assert (await client.variable("a", "balance")).int == 45
    await client.post("closed", run="a")
    assert (await client.wf_run("a")).thread_runs[0].output.int == 45


async def test_grandchildren_report_to_their_parents_one_after_the_other(client: Client) -> None:
    def measurement(thread: WorkflowThread) -> None:
        thread.complete(thread.execute("measure"))

    def doubling(thread: WorkflowThread) -> None:
        size = thread.declare_int("size")
        size.assign(thread.wait_for_child_wf(thread.run_wf("measurement")))
        thread.complete(size.multiply(2))

    def report(thread: WorkflowThread) -> None:
        thread.complete(thread.wait_for_child_wf(thread.run_wf("doubling")))

    async def measure() -> int:
        return 21

    async with working(client, measure):
        await client.register(Workflow("measurement", measurement))
        await client.register(Workflow("doubling", doubling))
        await client.register(Workflow("report", report))
        await client.run("report", "r")
        run = await client.until("r", LHStatus.COMPLETED)
    assert run.thread_runs[0].output.int == 42
    child = await child_of(client)
    grandchildren = await client.stub.SearchWfRun(SearchWfRunRequest(parent_wf_run_id=child.id))
    assert [run.parent_wf_run_id for run in grandchildren.results] == [child.id]
