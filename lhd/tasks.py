"""Task queues, the polls of task workers and worker groups. All in memory; the queues are rebuilt from rows."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from littlehorse.model import LHHostInfo, ScheduledTask, TaskWorkerGroup, TaskWorkerMetadata

from lhd.core.ids import milliseconds, timestamp
from lhd.core.kinds import QueuedTask

WORKER_TIMEOUT_MS = 90_000


@dataclass(slots=True, eq=False)
class Poll:
    """A worker's request for one task. ``deliver`` is called once, after the claim has been committed."""

    tenant: str
    task_def: str
    worker: str
    version: str | None
    deliver: Callable[["Poll", ScheduledTask], None]
    gone: bool = False


@dataclass(slots=True)
class _Queue:
    tasks: deque[QueuedTask] = field(default_factory=deque)
    polls: deque[Poll] = field(default_factory=deque)


class TaskQueues:
    """One FIFO of tasks and one of polls for each TaskDef (api.md 8.4)."""

    def __init__(self) -> None:
        self._queues: dict[tuple[str, str], _Queue] = {}
        self._ready: set[tuple[str, str]] = set()

    def offer(self, task: QueuedTask) -> None:
        """Put a task at the tail of its queue."""
        key = (task.tenant, task.task_def)
        queue = self._queues.setdefault(key, _Queue())
        queue.tasks.append(task)
        self._settle(key)

    def wait(self, poll: Poll, *, first: bool = False) -> None:
        """Put a poll behind those that wait longer; ``first`` for one whose matched task turned out to be gone."""
        key = (poll.tenant, poll.task_def)
        queue = self._queues.setdefault(key, _Queue())
        if first:
            queue.polls.appendleft(poll)
        else:
            queue.polls.append(poll)
        self._settle(key)

    def forget(self, polls: set[Poll]) -> None:
        """Drop the polls of a worker that has left; they are of one TaskDef, or few."""
        for key in {(poll.tenant, poll.task_def) for poll in polls}:
            queue = self._queues.get(key)
            if queue is not None:
                queue.polls = deque(poll for poll in queue.polls if poll not in polls)
                self._settle(key)

    def matches(self) -> Iterator[tuple[QueuedTask, Poll]]:
        """Take the oldest task and the longest-waiting poll of a queue, as long as some queue has both."""
        while self._ready:
            key = self._ready.pop()
            queue = self._queues[key]
            while queue.polls and queue.polls[0].gone:
                queue.polls.popleft()
            if queue.tasks and queue.polls:
                yield queue.tasks.popleft(), queue.polls.popleft()
            self._settle(key)

    def _settle(self, key: tuple[str, str]) -> None:
        """Note whether a queue has matches, and drop an empty one; others may have changed it at any await."""
        queue = self._queues.get(key, _Queue())
        if queue.tasks and queue.polls:
            self._ready.add(key)
            return
        self._ready.discard(key)
        if not queue.tasks and not queue.polls:
            self._queues.pop(key, None)

    def depth(self) -> dict[tuple[str, str], tuple[int, int]]:
        """For each (tenant, TaskDef) the number of queued tasks and of waiting polls."""
        return {
            key: (len(queue.tasks), sum(not poll.gone for poll in queue.polls)) for key, queue in self._queues.items()
        }


class WorkerGroups:
    """Which workers have sent a heartbeat for which TaskDef of late (api.md 8.2)."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], TaskWorkerGroup] = {}

    def heartbeat(self, tenant: str, task_def: str, worker: str, host: LHHostInfo, now_ms: int) -> None:
        """Note a worker's heartbeat, and forget the workers of the TaskDef that have been silent for too long."""
        group = self._groups.get((tenant, task_def))
        if group is None:
            group = TaskWorkerGroup(created_at=timestamp(now_ms))
            group.id.task_def_id.name = task_def
            self._groups[tenant, task_def] = group
        workers = group.task_workers
        for silent in [name for name, one in workers.items() if _silence_ms(one, now_ms) >= WORKER_TIMEOUT_MS]:
            del workers[silent]
        workers[worker].CopyFrom(
            TaskWorkerMetadata(task_worker_id=worker, latest_heartbeat=timestamp(now_ms), hosts=[host])
        )

    def group(self, tenant: str, task_def: str) -> TaskWorkerGroup | None:
        """The workers of a TaskDef; None where none has ever sent a heartbeat."""
        return self._groups.get((tenant, task_def))

    def drop(self, tenant: str, task_def: str) -> None:
        """Forget the workers of a TaskDef that has been deleted."""
        self._groups.pop((tenant, task_def), None)

    def counts(self) -> dict[tuple[str, str], int]:
        """For each (tenant, TaskDef) the number of workers."""
        return {key: len(group.task_workers) for key, group in self._groups.items()}


def _silence_ms(worker: TaskWorkerMetadata, now_ms: int) -> int:
    return now_ms - milliseconds(worker.latest_heartbeat)
