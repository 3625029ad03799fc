"""Stories of values: structs from the client to the worker and back, JSON documents, sums and texts."""

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from grpc import StatusCode
from littlehorse.lh_struct import LHStructField, class_to_put_struct_def_request, lh_struct_def
from littlehorse.model import LHStatus, RunWfRequest, StructDefId, TaskStatus, VariableMutationType, VariableValue
from littlehorse.utils import extract_value, to_variable_value
from littlehorse.workflow import Workflow, WorkflowThread

from tests.api.client import MASK, Client, is_missing, refusal
from tests.api.test_story_threads import one_task, working


@lh_struct_def(name="address")
@dataclass(kw_only=True)
class Address:
    street: str
    city: str


@lh_struct_def(name="customer")
@dataclass(kw_only=True)
class Customer:
    full_name: str
    vip: bool
    home: Address
    card: Annotated[str, LHStructField(masked=True)]
    points: int = 10


def ada(**changes: Any) -> Customer:
    """A customer."""
    fields: dict[str, Any] = {
        "full_name": "Ada Lovelace",
        "vip": True,
        "home": Address(street="St James's Square", city="London"),
        "card": "4242",
        "points": 7,
    }
    return Customer(**(fields | changes))


async def put_struct_defs(client: Client) -> None:
    """What a customer is made of goes first."""
    for cls in (Address, Customer):
        await client.stub.PutStructDef(class_to_put_struct_def_request(cls))


class TestStructs:
    async def test_a_struct_goes_from_the_client_to_the_worker_and_its_fields_are_read(self, client: Client) -> None:
        def welcome(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            thread.execute("register", customer)
            thread.execute("send-card", customer.get("fullName"), customer.get("home").get("city"))
            thread.complete(customer.get("points"))

        registered: list[Customer] = []
        sent: list[tuple[str, str]] = []

        async def register(customer: Customer) -> None:
            registered.append(customer)

        async def send_card(name: str, city: str) -> None:
            sent.append((name, city))

        await put_struct_defs(client)
        async with working(client, register, send_card):
            await client.register(Workflow("welcome", welcome))
            await client.run("welcome", "r", customer=ada())
            run = await client.until("r", LHStatus.COMPLETED)
        assert registered == [ada()]
        assert sent == [("Ada Lovelace", "London")]
        assert run.thread_runs[0].output.int == 7

    async def test_a_worker_gives_back_a_changed_struct(self, client: Client) -> None:
        def move(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            customer.assign(thread.execute("relocate", customer, "Paris"))
            thread.complete(customer.get("home").get("city"))

        async def relocate(customer: Customer, city: str) -> Customer:
            customer.home.city = city
            return customer

        await put_struct_defs(client)
        async with working(client, relocate):
            await client.register(Workflow("move", move))
            await client.run("move", "r", customer=ada())
            run = await client.until("r", LHStatus.COMPLETED)
        assert run.thread_runs[0].output.str == "Paris"
        moved = (await client.variable("r", "customer")).struct
        assert moved.struct_def_id == StructDefId(name="customer", version=0)
        assert moved.struct.fields["home"].value.struct.struct.fields["city"].value.str == "Paris"
        assert moved.struct.fields["home"].value.struct.struct.fields["street"].value.str == "St James's Square"

    @pytest.mark.parametrize(("vip", "gift"), [(True, "champagne"), (False, "postcard")])
    async def test_a_field_decides_which_way_the_run_goes(self, client: Client, vip: bool, gift: str) -> None:
        def birthday(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            gift = thread.declare_str("gift")
            thread.do_if(
                customer.get("vip").is_equal_to(True),
                lambda thread: gift.assign("champagne"),
                lambda thread: gift.assign("postcard"),
            )
            thread.complete(gift)

        await put_struct_defs(client)
        await client.register(Workflow("birthday", birthday))
        run = await client.run("birthday", "r", customer=ada(vip=vip))
        assert run.status == LHStatus.COMPLETED
        assert run.thread_runs[0].output.str == gift

    async def test_a_masked_field_is_hidden_from_the_api_and_open_to_the_worker(self, client: Client) -> None:
        def payment(thread: WorkflowThread) -> None:
            thread.execute("charge", thread.declare_struct("customer", Customer).required())

        cards: list[str] = []

        async def charge(customer: Customer) -> None:
            cards.append(customer.card)

        await put_struct_defs(client)
        async with working(client, charge):
            await client.register(Workflow("payment", payment))
            await client.run("payment", "r", customer=ada(card="4000 0000"))
            await client.until("r", LHStatus.COMPLETED)
        assert cards == ["4000 0000"]
        stored = (await client.variable("r", "customer")).struct.struct.fields
        assert stored["card"].value.str == MASK
        assert stored["fullName"].value.str == "Ada Lovelace"
        (task_run,) = await client.task_runs("r")
        passed = task_run.input_variables[0].value.struct.struct.fields
        assert passed["card"].value.str == MASK

    async def test_a_field_that_was_not_sent_reads_as_its_default_and_stays_absent(self, client: Client) -> None:
        def loyalty(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            points = thread.declare_int("points")
            points.assign(customer.get("points"))

        value = to_variable_value(ada())
        del value.struct.struct.fields["points"]
        await put_struct_defs(client)
        await client.register(Workflow("loyalty", loyalty))
        await client.stub.RunWf(RunWfRequest(wf_spec_name="loyalty", id="r", variables={"customer": value}))
        assert (await client.wf_run("r")).status == LHStatus.COMPLETED
        assert (await client.variable("r", "points")).int == 10
        assert "points" not in (await client.variable("r", "customer")).struct.struct.fields

    @pytest.mark.parametrize(
        ("field", "value"), [("fullName", None), ("vip", "yes"), ("home", "London"), ("points", 1.5)]
    )
    async def test_a_struct_with_a_field_that_is_missing_or_does_not_fit_is_refused(
        self, client: Client, field: str, value: Any
    ) -> None:
        def welcome(thread: WorkflowThread) -> None:
            thread.declare_struct("customer", Customer).required()

        await put_struct_defs(client)
        await client.register(Workflow("welcome", welcome))
        customer = to_variable_value(ada())
        if value is None:
            del customer.struct.struct.fields[field]
        else:
            customer.struct.struct.fields[field].value.CopyFrom(to_variable_value(value))
        error = await refusal(
            client.stub.RunWf(RunWfRequest(wf_spec_name="welcome", id="r", variables={"customer": customer}))
        )
        assert error.code == StatusCode.INVALID_ARGUMENT
        assert "customer" in error.details
        assert field in error.details
        assert await is_missing(client.wf_run("r"))

    async def test_a_worker_that_leaves_a_required_field_empty_fails_its_task(self, client: Client) -> None:
        def move(thread: WorkflowThread) -> None:
            customer = thread.declare_struct("customer", Customer).required()
            customer.assign(thread.execute("relocate", customer))

        async def relocate(customer: Customer) -> Customer:
            customer.home = None  # type: ignore[assignment] # what the server is to notice
            return customer

        await put_struct_defs(client)
        async with working(client, relocate):
            await client.register(Workflow("move", move))
            await client.run("move", "r", customer=ada())
            await client.until("r", LHStatus.ERROR)
        (task_run,) = await client.task_runs("r")
        assert task_run.status == TaskStatus.TASK_OUTPUT_SERDE_ERROR
        assert (await client.node_run("r", 1)).failures[0].failure_name == "VAR_MUTATION_ERROR"
        kept = (await client.variable("r", "customer")).struct.struct.fields
        assert kept["home"].value.struct.struct.fields["city"].value.str == "London"


class TestDocumentsAndSums:
    async def test_a_cart_is_priced_discounted_and_described(self, client: Client) -> None:
        def checkout(thread: WorkflowThread) -> None:
            cart = thread.declare_json_obj("cart").required()
            total = thread.declare_double("total")
            total.assign(cart.with_json_path("$.price").multiply(cart.with_json_path("$.count")))
            thread.do_if(total.is_greater_than(100), lambda thread: total.assign(total.multiply(0.5)))
            cart.with_json_path("$.label").assign(
                thread.format("{0} x {1}", cart.with_json_path("$.count"), cart.with_json_path("$.sku"))
            )
            thread.execute("print-label", cart, total)

        printed: list[tuple[str, float]] = []

        async def print_label(cart: dict[str, Any], total: float) -> None:
            printed.append((cart["label"], total))

        async with working(client, print_label):
            await client.register(Workflow("checkout", checkout))
            await client.run("checkout", "few", cart={"sku": "pen", "price": 2.5, "count": 3})
            await client.until("few", LHStatus.COMPLETED)
            await client.run("checkout", "many", cart={"sku": "ink", "price": 12.5, "count": 20})
            await client.until("many", LHStatus.COMPLETED)
        assert printed == [("3 x pen", 7.5), ("20 x ink", 125.0)]

    async def test_a_loop_collects_what_comes_until_it_is_told_that_it_was_the_last(self, client: Client) -> None:
        def collect(thread: WorkflowThread) -> None:
            names = thread.declare_json_arr("names", [])
            more = thread.declare_bool("more", True)

            def take(thread: WorkflowThread) -> None:
                guest = thread.wait_for_event("guest", return_type=dict)
                thread.mutate(names, VariableMutationType.ADD, guest.with_json_path("$.name"))
                more.assign(guest.with_json_path("$.more"))

            thread.do_while(more.is_equal_to(True), take)
            thread.complete(names)

        await client.register(Workflow("collect", collect))
        await client.post("guest", {"name": "Ada", "more": True}, run="r")
        await client.run("collect", "r")
        assert extract_value(await client.variable("r", "names")) == ["Ada"]
        await client.post("guest", {"name": "Grace", "more": True}, run="r")
        await client.post("guest", {"name": "Mary", "more": False}, run="r")
        run = await client.wf_run("r")
        assert run.status == LHStatus.COMPLETED
        assert extract_value(run.thread_runs[0].output) == ["Ada", "Grace", "Mary"]

    async def test_a_value_that_a_worker_does_not_give_is_null_for_what_follows(self, client: Client) -> None:
        def lookup(thread: WorkflowThread) -> None:
            phone = thread.declare_str("phone", "unknown")
            phone.assign(thread.execute("find-phone"))
            thread.do_if(
                phone.is_equal_to(None),
                one_task("write-letter"),
                one_task("call", phone),
            )

        done: list[str] = []

        async def find_phone() -> str:
            nobody: Any = None
            return nobody  # type: ignore[no-any-return] # a worker that found nothing

        async def write_letter() -> None:
            done.append("letter")

        async def call(phone: str) -> None:
            done.append(phone)

        async with working(client, find_phone, write_letter, call):
            await client.register(Workflow("lookup", lookup))
            await client.run("lookup", "r")
            await client.until("r", LHStatus.COMPLETED)
        assert done == ["letter"]
        assert await client.variable("r", "phone") == VariableValue()
