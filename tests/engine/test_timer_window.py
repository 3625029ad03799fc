"""The window of timers behaves like all timers in memory, whatever its size."""

from hypothesis import given
from hypothesis import strategies as st

from lhd.core.kinds import Timer, TimerAction
from lhd.timer_window import TimerWindow, place_of

START_MS = 1_000_000

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("arm"), st.integers(0, 30), st.integers(-50, 3_000)),
        st.tuples(st.just("disarm"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("disarm run"), st.integers(0, 3), st.just(0)),
        st.tuples(st.just("wait"), st.just(0), st.integers(0, 1_500)),
    ),
    max_size=60,
)


def timer(number: int, due_ms: int) -> Timer:
    return Timer(due_ms, "default", f"run{number % 4}", TimerAction.SLEEP, (number,))


def turn_pages(window: TimerWindow, rows: dict[int, Timer]) -> None:
    while window.wants_page:
        horizon = window.horizon
        assert horizon is not None
        beyond = sorted((one for one in rows.values() if place_of(one) > horizon), key=place_of)
        window.add_page(beyond[: window.page_size])


@given(steps=STEPS, already=st.dictionaries(st.integers(0, 30), st.integers(0, 3_000)), timers_max=st.integers(2, 12))
def test_exactly_the_due_timers_are_taken_and_the_memory_is_bounded(
    steps: list[tuple[str, int, int]], already: dict[int, int], timers_max: int
) -> None:
    now_ms = START_MS
    rows = {number: timer(number, now_ms + delay_ms) for number, delay_ms in already.items()}
    window = TimerWindow(now_ms, timers_max)
    turn_pages(window, rows)
    for step, number, milliseconds in steps:
        match step:
            case "arm":
                rows[number] = timer(number, now_ms + milliseconds)
                window.arm(rows[number])
            case "disarm":
                rows.pop(number, None)
                window.disarm(timer(number, 0).key)
            case "disarm run":
                rows = {key: one for key, one in rows.items() if one.run != f"run{number}"}
                window.disarm_run(("default", f"run{number}"))
            case "wait":
                now_ms += milliseconds
                taken = window.take_due(now_ms, 1000)
                # The wheel's tick is 10 ms: what is due within the present tick may come with the next.
                must = {key for key, one in rows.items() if -(-one.due_ms // 10) <= now_ms // 10}
                in_reach = {key for key in must if window.horizon is None or place_of(rows[key]) <= window.horizon}
                assert in_reach <= {one.target[0] for one in taken} <= must
                assert [one.due_ms for one in taken] == sorted(one.due_ms for one in taken)
                for one in taken:
                    del rows[int(one.target[0])]
        turn_pages(window, rows)
        assert len(window) <= 2 * timers_max + window.page_size
    while rows:
        now_ms = max(now_ms, max(one.due_ms for one in rows.values())) + 10
        for one in window.take_due(now_ms, 3):
            del rows[int(one.target[0])]
        turn_pages(window, rows)
    assert len(window) == 0
