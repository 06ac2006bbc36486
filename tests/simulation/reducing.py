"""A failing script made small: what can be left out without the failure going away is left out."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from tests.simulation.actions import Action, Apply, told
from tests.simulation.machine import replay
from tests.simulation.wishes import Wish

TRIES = 400


@dataclass(frozen=True)
class Failure:
    """What happened, and how to make it happen again."""

    message: str
    script: tuple[Action, ...]
    world: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.message}\n\n{told(list(self.script), self.world)}"


def kind_of(message: str) -> str:
    """What makes two failures the same: the first words, without names and numbers."""
    first = message.strip().splitlines()[0] if message.strip() else ""
    if first.startswith("logged"):
        first = f"{first} {message.split('phase ')[0].strip().splitlines()[-1]}"
    return re.sub(r"digits-[0-9a-f]{10}|[0-9.]+", "#", first.partition("[")[0])[:60]


def outcome_of(script: tuple[Action, ...], world: dict[str, Any]) -> str:
    """The message with which the script fails; empty if it does not."""
    try:
        replay(list(script), **world)
    except Exception as error:
        return str(error) if isinstance(error, AssertionError) else repr(error)
    return ""


def reduced(failure: Failure, tries: int = TRIES) -> Failure:
    """The smallest script found that fails in the same way."""
    left = [tries]
    best = failure

    def fails(script: tuple[Action, ...], world: dict[str, Any] | None = None) -> bool:
        nonlocal best
        if left[0] <= 0:
            return False
        left[0] -= 1
        world = best.world if world is None else world
        message = outcome_of(script, world)
        if not message or kind_of(message) != kind_of(failure.message):
            return False
        best = Failure(message, script, world)
        return True

    if not fails(failure.script):
        return Failure(f"(not by replay alone) {failure.message}", failure.script, failure.world)
    fails(best.script, {})
    again = True
    while again and left[0] > 0:
        before = best.script
        _without(lambda: best.script, fails)
        _simpler(lambda: best.script, fails)
        again = best.script != before
    return best


Fails = Callable[[tuple[Action, ...]], bool]


def _without(script: Callable[[], tuple[Action, ...]], fails: Fails) -> None:
    size = len(script()) // 2
    while size:
        start = 0
        while start < len(script()):
            current = script()
            if not fails(current[:start] + current[start + size :]):
                start += size
        size //= 2


def _simpler(script: Callable[[], tuple[Action, ...]], fails: Fails) -> None:
    """Fields of wishes back to their defaults."""
    for place, action in enumerate(script()):
        if not isinstance(action, Apply):
            continue
        for each in fields(Wish):
            wish = script()[place]
            if isinstance(wish, Apply) and getattr(wish.wish, each.name) != each.default:
                changed = Apply(replace(wish.wish, **{each.name: each.default}))
                fails((*script()[:place], changed, *script()[place + 1 :]))
