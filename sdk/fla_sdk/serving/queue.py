"""`RequestQueue`: which requests are answered next, how many at once, and which cannot be answered in time.

Time is an argument, so that nothing here waits. The earliest deadline comes first; where deadlines tie, the robot that
has waited longest since it was last served. A robot has one request at a time, so none can crowd out the others.
"""

import statistics
from collections import defaultdict, deque
from collections.abc import Callable, Hashable
from typing import Any

import attrs

from fla_sdk.policy.batching import buckets
from fla_sdk.serving.refusal import Refusal

DEFAULT_DEADLINE_S = 1.0
"""Where a request without a deadline stands in the queue: as if it had to be answered so soon. It is never dropped for
being late."""

_REMEMBERED = 9
_EQUAL = 1.05
"""Plans that take so much longer than the shortest are as good: batch times are known no better."""


@attrs.define(kw_only=True, eq=False)
class Ticket:
    """One request in the queue."""

    robot: Hashable
    group: Hashable
    """Requests of one group can be answered together."""

    payload: Any
    deadline_s: float | None = None
    """When the answer becomes worthless; None: never."""

    arrived_s: float = attrs.field(init=False, default=0.0)
    at_once: bool = attrs.field(init=False, default=False)
    """Nothing was ahead of it: it is tried, whatever the forecast says, or a slow model would never be measured."""

    @property
    def due_s(self) -> float:
        return self.arrived_s + DEFAULT_DEADLINE_S if self.deadline_s is None else self.deadline_s


class BatchTimes:
    """What a batch will take, from what the last ones took: their median, by group and compiled batch size."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self._sizes = sizes
        self._known: defaultdict[Hashable, dict[int, deque[float]]] = defaultdict(dict)

    def measured(self, group: Hashable, count: int, seconds: float) -> None:
        self._known[group].setdefault(self.size(count), deque(maxlen=_REMEMBERED)).append(seconds)

    def expected_s(self, group: Hashable, count: int) -> float:
        """Of a size that was never tried: what the next smaller took, so that it is tried; 0 when nothing is known."""
        known = self._known.get(group)
        if not known or not count:
            return 0.0
        size = self.size(count)
        smaller = [one for one in known if one <= size]
        return statistics.median(known[max(smaller) if smaller else min(known)])

    def size(self, count: int) -> int:
        """The compiled size that `count` requests are padded to."""
        return next((size for size in self._sizes if size >= count), self._sizes[-1])


class RequestQueue:
    """Not for several threads at once; `ModelThread` has the lock."""

    def __init__(
        self,
        *,
        max_batch: int = 1,
        capacity: int = 256,
        linger_s: float = 0.0,
        robots: Callable[[], int] = lambda: 2**31,
    ) -> None:
        """At most `capacity` requests wait. A batch that is not full waits `linger_s` for more, unless all of the
        connected `robots()` are in it.
        """
        self.resize(max_batch)
        self._capacity, self._linger_s, self._robots = capacity, linger_s, robots
        self._waiting: list[Ticket] = []
        self._served_s: dict[Hashable, float] = {}
        self._started_s: float | None = None
        self._busy_until_s = 0.0

    def resize(self, max_batch: int) -> None:
        """From now on batches hold so many."""
        self._max_batch, self._sizes = max_batch, buckets(max_batch)
        self.times = BatchTimes(self._sizes)

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def idle(self) -> bool:
        """A request would be answered at once."""
        return self._started_s is None and not self._waiting

    def add(self, ticket: Ticket, now_s: float) -> None:
        """Raises `Refusal` when the queue is full, or the deadline cannot be met."""
        ticket.arrived_s, ticket.at_once = now_s, self.idle
        ahead = sum(self._rank(other) <= self._rank(ticket) for other in self._waiting)
        if len(self._waiting) >= self._capacity:
            wait_s = self._wait_s(ticket, len(self._waiting), now_s)
            raise Refusal(
                "overloaded",
                f"{len(self._waiting)} requests are waiting, as many as may: ask again in {_ms(wait_s)}, or serve the "
                "policy on more machines",
                retry_after_s=wait_s,
            )
        if ticket.deadline_s is not None and not ticket.at_once:
            wait_s, own_s = self._wait_s(ticket, ahead, now_s), self.times.expected_s(ticket.group, 1)
            if now_s + wait_s + own_s > ticket.deadline_s:
                raise _too_late(ticket, wait_s, own_s)
        self._waiting.append(ticket)

    def take(self, now_s: float) -> tuple[list[Ticket], list[tuple[Ticket, Refusal]]]:
        """The next batch, of one group, and requests that can no longer be answered in time. Call `done` afterwards
        when the batch is not empty.
        """
        late: list[tuple[Ticket, Refusal]] = []
        for ticket in list(self._waiting):
            own_s = self.times.expected_s(ticket.group, 1)
            if ticket.deadline_s is not None and not ticket.at_once and now_s + own_s > ticket.deadline_s:
                self._waiting.remove(ticket)
                late.append((ticket, _too_late(ticket, 0.0, own_s)))
        self._waiting.sort(key=self._rank)
        batch = self._alike()
        if not batch or self._linger_until_s(batch) > now_s:
            return [], late
        batch = batch[: self._count(batch[0].group, len(batch))]
        self._waiting = [ticket for ticket in self._waiting if ticket not in batch]
        for ticket in batch:
            self._served_s[ticket.robot] = now_s
        self._started_s = now_s
        self._busy_until_s = now_s + self.times.expected_s(batch[0].group, len(batch))
        return batch, late

    def done(self, batch: list[Ticket], now_s: float) -> None:
        """The batch is answered."""
        if self._started_s is not None:
            self.times.measured(batch[0].group, len(batch), now_s - self._started_s)
        self._started_s = None

    def next_s(self, now_s: float) -> float | None:
        """Seconds until `take` has something to give; None: not before another request comes."""
        batch = self._alike()
        return max(self._linger_until_s(batch) - now_s, 0.0) if batch else None

    def withdraw(self, ticket: Ticket) -> bool:
        """Forget a request; False when it has been taken already."""
        if ticket not in self._waiting:
            return False
        self._waiting.remove(ticket)
        return True

    def forget(self, robot: Hashable) -> None:
        """The robot is gone."""
        self._served_s.pop(robot, None)

    def _rank(self, ticket: Ticket) -> tuple[float, float, float]:
        return ticket.due_s, self._served_s.get(ticket.robot, -1.0), ticket.arrived_s

    def _alike(self) -> list[Ticket]:
        """The most urgent request and those that can go with it, in order."""
        if not self._waiting:
            return []
        ordered = sorted(self._waiting, key=self._rank)
        return [ticket for ticket in ordered if ticket.group == ordered[0].group][: self._max_batch]

    def _linger_until_s(self, batch: list[Ticket]) -> float:
        if len(batch) >= self._max_batch or len(self._waiting) >= self._robots():
            return 0.0
        until_s = min(ticket.arrived_s for ticket in batch) + self._linger_s
        deadlines = [ticket.deadline_s for ticket in batch if ticket.deadline_s is not None]
        return min([until_s, *(d - self.times.expected_s(batch[0].group, len(batch)) for d in deadlines)])

    def _count(self, group: Hashable, waiting: int) -> int:
        """How many of `waiting` to answer now, so that all of them are answered soonest; of equal plans, the fewest.

        On a GPU that is all of them; on a CPU, where a batch takes as long as its parts, one after another.
        """
        soonest, first = [0.0], [0]
        for count in range(1, waiting + 1):
            options = {*(size for size in self._sizes if size < count), count}
            plans = {size: self.times.expected_s(group, size) + soonest[count - size] for size in options}
            best = min(plans.values())
            soonest.append(best)
            fitting = [size for size, seconds in plans.items() if seconds <= best * _EQUAL]
            first.append(min(fitting) if best > 0 else count)
        return first[waiting]

    def _wait_s(self, ticket: Ticket, ahead: int, now_s: float) -> float:
        """Until its batch begins, with `ahead` requests before it."""
        running_s = max(self._busy_until_s - now_s, 0.0) if self._started_s is not None else 0.0
        return running_s + ahead // self._max_batch * self.times.expected_s(ticket.group, self._max_batch)


def _too_late(ticket: Ticket, wait_s: float, own_s: float) -> Refusal:
    assert ticket.deadline_s is not None
    return Refusal(
        "overloaded",
        f"the answer would come too late: deadline_ms is {_ms(ticket.deadline_s - ticket.arrived_s)}, the forecast "
        f"{_ms(wait_s)} of waiting and {_ms(own_s)} for the policy; allow more time, or serve fewer robots here",
        retry_after_s=max(wait_s, own_s),
    )


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms"
