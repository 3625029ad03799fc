"""Whatever comes, in whatever order: the rules of the engine hold after every command."""

from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from littlehorse.model import CorrelatedEventConfig, PutExternalEventDefRequest, RunWfRequest, VariableType

from lhd.core import kinds
from lhd.core.commands.deliveries import Decision, Deliver
from lhd.core.kinds import Verdict
from lhd.errors import Rejection
from tests.core.ledger import keyed
from tests.core.shapes import correlate, of_type
from tests.properties import invariants, moves
from tests.properties.moves import Ask, Checkpoint, Claim, Control, Nudge, Pass, Release, Report, Ring, Treat, play
from tests.properties.whole_world import WholeWorld
from tests.properties.workflows import KEYED


class EngineMachine(RuleBasedStateMachine):
    """The core with everything that can happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.world = WholeWorld.defined()
        self.accepted: dict[tuple[str, str], tuple[str, int]] = {}

    @initialize(ask=moves.runs())
    def a_first_run(self, ask: Ask) -> None:
        play(self.world, ask)

    @rule(ask=moves.runs())
    def run(self, ask: Ask) -> None:
        play(self.world, ask)

    @rule(ask=moves.posted())
    def put_external_event(self, ask: Ask) -> None:
        play(self.world, ask)

    @rule(ask=moves.correlated())
    def put_correlated_event(self, ask: Ask) -> None:
        play(self.world, ask)

    @rule(ask=moves.delivered())
    def deliver(self, ask: Ask) -> None:
        """Within its time an identity is accepted once, and its repeats name the delivery that was."""
        decisions = play(self.world, ask)
        assert not isinstance(decisions, Rejection), "a batch of a source is never refused as a whole"
        for delivery, decision in zip(ask.request.deliveries, decisions, strict=True):
            self._note((ask.request.source, delivery.identity), decision)

    def _note(self, identity: tuple[str, str], decision: Decision) -> None:
        known = self.accepted.get(identity)
        fresh = known is not None and self.world.now_ms - known[1] < self.world.settings.dedupe_ms
        match decision.verdict:
            case Verdict.ACCEPTED | Verdict.FILTERED:
                assert not fresh
                self.accepted[identity] = decision.delivery_id, self.world.now_ms
            case Verdict.DUPLICATE:
                assert fresh
                assert known is not None
                assert decision.delivery_id == known[0]
            case Verdict.CONFLICT:
                assert fresh
            case Verdict.DEAD:
                assert not fresh

    @rule(ask=moves.event_defs_again())
    def put_event_def_again(self, ask: Ask) -> None:
        play(self.world, ask)

    @rule(ask=moves.deleted())
    def delete_run(self, ask: Ask) -> None:
        play(self.world, ask)
        assert self.world.wf_run(ask.request.id.id) is None

    @rule(move=moves.passed())
    def time_passes(self, move: Pass) -> None:
        play(self.world, move)

    @precondition(lambda self: self.world.queue)
    @rule()
    def claim(self) -> None:
        assert play(self.world, Claim()) is not None

    @precondition(lambda self: self.world.handed_out)
    @rule(move=moves.reported())
    def report(self, move: Report) -> None:
        play(self.world, move)

    @precondition(lambda self: self.world.handed_out)
    @rule()
    def a_worker_was_gone(self) -> None:
        play(self.world, Release(0))

    @precondition(lambda self: self.world.handed_out)
    @rule(move=moves.checkpoints())
    def put_checkpoint(self, move: Checkpoint) -> None:
        play(self.world, move)

    @precondition(lambda self: self.world.rows[kinds.WF_RUN])
    @rule(move=moves.controls())
    def stop_resume_or_rescue(self, move: Control) -> None:
        play(self.world, move)

    @precondition(lambda self: self.world.rows[kinds.USER_TASK_RUN])
    @rule(move=moves.treatments())
    def treat_a_user_task(self, move: Treat) -> None:
        play(self.world, move)

    @precondition(lambda self: self.world.rows[kinds.WF_RUN])
    @rule(move=moves.rings())
    def ring(self, move: Ring) -> None:
        play(self.world, move)

    @rule(move=moves.nudges())
    def nudge(self, move: Nudge) -> None:
        play(self.world, move)

    @invariant()
    def every_rule_holds(self) -> None:
        # A timer that is set for now, or for a time that has been, is due at once.
        self.world.wait(0)
        invariants.check(self.world)


TestEngineRules: Any = EngineMachine.TestCase
TestEngineRules.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)


def test_a_queued_event_that_becomes_live_is_given_to_who_waits() -> None:
    """Somebody can wait behind a live event: one that does not fit the def as it now is."""
    world = WholeWorld.defined()
    config = CorrelatedEventConfig(ttl_seconds=6, delete_after_first_correlation=True)
    correlate(world, KEYED, "k", "text")
    world.submit(
        PutExternalEventDefRequest(name=KEYED, content_type=of_type(VariableType.INT), correlated_event_config=config)
    )
    world.wait(1)
    world.submit(RunWfRequest(wf_spec_name="wait-twice-for-key", id="r"))
    world.submit(Deliver("hook", (keyed("fits", content=7),), None))
    assert len(world.rows[kinds.QUEUED_EVENT]) == 1
    world.wait(5.5)
    assert not world.rows[kinds.QUEUED_EVENT]
    invariants.nobody_waits_for_a_key_whose_live_event_fits(world)
