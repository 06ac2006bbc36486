"""Values of the guards while one looks: the status keeps those of the last change only, so Prometheus is asked."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelrollout.api.status import GuardStatus
    from modelrollout.cli.view.snapshot import Snapshot

SHORTEST, LONGEST = 2.0, 10.0


class LiveGuards:
    """Asks a Prometheus again and again in a thread of its own; without ``url`` it changes nothing.

    A step lives from its first evaluation on, so values of another step are never shown for this one.
    """

    def __init__(self, url: str | None) -> None:
        self._url = url
        self._snapshot: Snapshot | None = None
        self._found: tuple[object, tuple[GuardStatus, ...]] = (None, ())
        self._thread: threading.Thread | None = None

    def fill(self, snapshot: Snapshot, *, at_once: bool = False) -> Snapshot:
        """The snapshot with the newest values; ``at_once`` asks now and waits for the answers."""
        if self._url is None:
            return snapshot
        self._snapshot = snapshot
        if at_once:
            self._ask()
        elif self._thread is None:
            self._thread = threading.Thread(target=self._for_ever, name="guards", daemon=True)
            self._thread.start()
        step, guards = self._found
        return snapshot.with_guards(guards) if step == _step(snapshot) else snapshot

    def _for_ever(self) -> None:
        while True:
            self._ask()
            snapshot = self._snapshot
            rollout = snapshot.spec.rollout if snapshot is not None and snapshot.spec is not None else None
            interval = rollout.evaluation_interval.total_seconds() if rollout else LONGEST
            time.sleep(min(max(interval, SHORTEST), LONGEST))

    def _ask(self) -> None:
        from modelrollout.cli.surroundings import live_guards

        snapshot = self._snapshot
        if snapshot is not None and self._url is not None:
            self._found = (_step(snapshot), live_guards(snapshot, self._url))


def _step(snapshot: Snapshot) -> object:
    attempt = snapshot.attempt
    return None if attempt is None else (attempt.attempt, attempt.step, attempt.step_started_at)
