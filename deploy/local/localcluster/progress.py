"""Progress lines: what is being done, a sign of life while it lasts, and the time it took.

Lines go to stderr, so that a verb may print JSON on stdout.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_START = time.monotonic()
_BEAT_SECONDS = 4.0
_write_lock = threading.Lock()


def say(text: str) -> None:
    """Print one line, with the seconds since the program began."""
    with _write_lock:
        print(f"[{time.monotonic() - _START:6.1f}s] {text}", file=sys.stderr, flush=True)


@contextmanager
def part(name: str, detail: Callable[[], str] | None = None) -> Iterator[None]:
    """Frame one part of the work; `detail` says how far it is, asked every few seconds."""
    begun = time.monotonic()
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_BEAT_SECONDS):
            more = f", {detail()}" if detail else ""
            say(f"  ... {name}: {time.monotonic() - begun:.0f} s{more}")

    say(f"{name} ...")
    beater = threading.Thread(target=beat, daemon=True)
    beater.start()
    try:
        yield
    except BaseException as error:
        ended.set()
        reason = str(error).split("\n", 1)[0]
        say(f"{name}: FAILED after {time.monotonic() - begun:.1f} s: {reason}")
        raise
    ended.set()
    say(f"{name}: done in {time.monotonic() - begun:.1f} s")
