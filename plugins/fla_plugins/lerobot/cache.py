"""`BoundedCache`: the most recently used values within a limit, safe to share between threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class BoundedCache(Generic[Key, Value]):
    """Keeps values until their weights sum to more than `limit`; the newest one is always kept."""

    def __init__(self, limit: int, *, weight: Callable[[Value], int] = lambda _: 1) -> None:
        """`weight` gives a value's share of `limit`, for example its bytes; one each by default."""
        self._limit, self._weight, self._total = limit, weight, 0
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Key, load: Callable[[], Value]) -> Value:
        """The value of `key`, loaded when absent. Two threads may load the same value; one of the two is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = load()
        with self._lock:
            if key not in self._values:
                self._values[key] = value
                self._total += self._weight(value)
            while self._total > self._limit and len(self._values) > 1:
                _, oldest = self._values.popitem(last=False)
                self._total -= self._weight(oldest)
            return self._values.get(key, value)
