"""How often something may be done: in no second more than that."""

from __future__ import annotations

from collections import deque


class Bucket:
    """``rate`` tokens in any second; a rate under 1 is one token each so many seconds."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._span = max(1.0, 1.0 / rate)
        self._taken: deque[float] = deque(maxlen=max(1, int(rate)))

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        if len(self._taken) == self._taken.maxlen and now - self._taken[0] < self._span:
            return False
        self._taken.append(now)
        return True
