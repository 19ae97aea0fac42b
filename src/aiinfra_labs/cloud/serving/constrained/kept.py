"""What was worked out once and is kept, up to a number of bytes: the longest unused goes first.

Unit 4.3. A mask has a byte for each token of the vocabulary, and each request may bring a schema of
its own: a cache that is bounded by its entries grows with both.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

Found = TypeVar("Found")


class Kept(Generic[Found]):
    """At most so many bytes of what `make` gave. Several threads may use it.

    hits, made: how often something was there, and how often it was not.
    """

    def __init__(self, most_bytes: int, size: Callable[[Found], int], most: int | None = None):
        """size: the bytes of one. most: how many. The last one stays, however large it is."""
        self.most_bytes, self.size, self.most = most_bytes, size, most
        self.bytes = self.hits = self.made = 0
        self._found: OrderedDict[Hashable, tuple[Found, int]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._found)

    def __contains__(self, key: Any) -> bool:
        return key in self._found

    def get(self, key: Hashable, make: Callable[[], Found]) -> Found:
        """What was made for this key, now or before."""
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                self.hits += 1
                return self._found[key][0]
            self.made += 1
        found = make()  # not under the lock: it may ask for others
        size = self.size(found)
        with self._lock:
            if key not in self._found:
                self._found[key] = (found, size)
                self.bytes += size
            while len(self._found) > 1 and self._is_full():
                _, (_, gone) = self._found.popitem(last=False)
                self.bytes -= gone
        return found

    def _is_full(self) -> bool:
        too_many = self.most is not None and len(self._found) > self.most
        return too_many or self.bytes > self.most_bytes
