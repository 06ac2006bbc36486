"""A token bucket: how often something may be done, with a little store for bursts."""

from __future__ import annotations


class Bucket:
    """``rate`` tokens a second, at most one second's worth in store (one at least)."""

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._most = max(1.0, rate)
        self._tokens = 1.0
        self._at = now

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        self._tokens = min(self._most, self._tokens + max(0.0, now - self._at) * self.rate)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
