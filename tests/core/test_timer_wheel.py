"""The timer wheel equals a sorted list, at a resolution of 10 ms and never early."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lhd.core.timers import TimerWheel

TICK_MS = 10
KEYS = st.integers(0, 12)
SPANS = st.one_of(
    st.integers(0, 50),
    st.integers(0, 5_000),
    st.integers(0, 10_000_000),
    st.integers(0, 10**13),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), KEYS, SPANS),
        st.tuples(st.just("add-overdue"), KEYS, SPANS),
        st.tuples(st.just("cancel"), KEYS, st.just(0)),
        st.tuples(st.just("advance"), st.just(0), SPANS),
        st.tuples(st.just("advance-to-next"), st.just(0), st.just(0)),
        st.tuples(st.just("go-back"), st.just(0), SPANS),
    ),
    max_size=60,
)


class SortedList:
    """What the wheel has to equal: every timer with the time at which it can fire first."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.fires_ms: dict[int, int] = {}

    def add(self, key: int, due_ms: int) -> None:
        on_tick = -(-due_ms // TICK_MS) * TICK_MS
        self.fires_ms[key] = max(on_tick, self.now_ms // TICK_MS * TICK_MS)

    def cancel(self, key: int) -> None:
        self.fires_ms.pop(key, None)

    def advance(self, now_ms: int) -> list[tuple[int, int]]:
        """What fires, as pairs of time and key in order."""
        self.now_ms = max(self.now_ms, now_ms)
        due = sorted((fires_ms, key) for key, fires_ms in self.fires_ms.items() if fires_ms <= self.now_ms)
        for _, key in due:
            del self.fires_ms[key]
        return due


@settings(max_examples=500, deadline=None)
@given(start_ms=st.sampled_from([0, 7, 1_700_000_000_003]), steps=STEPS)
def test_wheel_equals_a_sorted_list(start_ms: int, steps: list[tuple[str, int, int]]) -> None:
    wheel: TimerWheel[int] = TimerWheel(start_ms, TICK_MS)
    model = SortedList(start_ms)
    due_ms: dict[int, int] = {}
    for action, key, span in steps:
        match action:
            case "add" | "add-overdue":
                due = model.now_ms + span if action == "add" else max(model.now_ms - span, 0)
                wheel.add(key, due)
                model.add(key, due)
                due_ms[key] = due
            case "cancel":
                wheel.cancel(key)
                model.cancel(key)
            case _:
                now_ms = new_time(action, span, model, wheel)
                check_advance(wheel, model, now_ms, due_ms)
        check_rest(wheel, model)


def new_time(action: str, span: int, model: SortedList, wheel: TimerWheel[int]) -> int:
    if action == "advance":
        return model.now_ms + span
    if action == "go-back":
        return max(model.now_ms - span, 0)
    next_ms = wheel.next_ms()
    return model.now_ms if next_ms is None else next_ms


def check_advance(wheel: TimerWheel[int], model: SortedList, now_ms: int, due_ms: dict[int, int]) -> None:
    times = dict(model.fires_ms)
    fired = wheel.advance(now_ms)
    expected = model.advance(now_ms)
    assert sorted(fired) == sorted(key for _, key in expected)
    assert [times[key] for key in fired] == [time for time, _ in expected], "not earliest first"
    assert all(due_ms[key] <= model.now_ms for key in fired), "early"


def check_rest(wheel: TimerWheel[int], model: SortedList) -> None:
    assert len(wheel) == len(model.fires_ms)
    next_ms = wheel.next_ms()
    assert (next_ms is None) == (not model.fires_ms)
    if next_ms is not None:
        assert next_ms <= min(model.fires_ms.values()), "would be called too late"


@given(start_ms=st.integers(0, 10**13), spans=st.lists(SPANS, max_size=20))
def test_who_follows_next_ms_is_on_time_in_few_steps(start_ms: int, spans: list[int]) -> None:
    wheel: TimerWheel[int] = TimerWheel(start_ms, TICK_MS)
    due = {key: start_ms + span for key, span in enumerate(spans)}
    for key, due_ms in due.items():
        wheel.add(key, due_ms)
    now_ms = start_ms
    calls = 0
    while (next_ms := wheel.next_ms()) is not None:
        now_ms = max(now_ms, next_ms)
        for key in wheel.advance(now_ms):
            assert due[key] <= now_ms < due.pop(key) + TICK_MS
        calls += 1
        assert calls <= 10 * len(spans) + 1
    assert not due


@given(key=KEYS, first=SPANS, second=SPANS)
def test_second_add_replaces_the_first(key: int, first: int, second: int) -> None:
    wheel: TimerWheel[Any] = TimerWheel(0, TICK_MS)
    wheel.add(key, first)
    wheel.add(key, second)
    assert len(wheel) == 1
    assert wheel.advance(second + TICK_MS) == [key]
    assert wheel.advance(10**15) == []


def test_cancel_of_an_unknown_key_changes_nothing() -> None:
    wheel: TimerWheel[str] = TimerWheel(0, TICK_MS)
    wheel.cancel("unknown")
    assert wheel.next_ms() is None
    assert wheel.advance(1000) == []


def test_due_time_between_two_ticks_waits_for_the_later_one() -> None:
    wheel: TimerWheel[str] = TimerWheel(0, TICK_MS)
    wheel.add("t", 101)
    assert wheel.advance(101) == []
    assert wheel.advance(109) == []
    assert wheel.advance(110) == ["t"]
