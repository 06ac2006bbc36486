"""The state machine: Hypothesis draws what people and the world do next, time passes, and everything must hold.

Rules do not await: each runs the virtual loop until its action is done.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from typing_extensions import override

from tests.simulation import actions as do
from tests.simulation.actions import Action, act, told
from tests.simulation.damage import DAMAGES
from tests.simulation.ending import finish
from tests.simulation.faults import KINDS
from tests.simulation.metrics import MODES
from tests.simulation.simulation import TOTALS, Simulation
from tests.simulation.virtualtime import VirtualLoop
from tests.simulation.wishes import VERSIONS, Wish, changes, versions, wishes

VERBS = ("promote", "promote:full", "abort", "pause", "resume", "retry", "skip-step", "rollback", "retrain")
NONSENSE = ("nonsense", "promote/", "/", "", "rollback:nobody", "abort:now", "promote:full:twice", "retry/@", "PROMOTE")
PHASES = ("Verifying", "Progressing", "AwaitingApproval", "Baking", "RollingBack", "Idle")

pauses = st.sampled_from((0.0, 0.0, 0.003, 0.02, 0.07, 0.3, 1.0, 4.2, 5.0, 10.0, 31.0, 33.0))
STEPS: Counter[str] = Counter()
"""What was done, by kind of action."""
FAILED: list[tuple[str, tuple[Action, ...], dict[str, Any]]] = []
"""What failed: the message, the script, the world."""


class Rollouts(RuleBasedStateMachine):
    """One ModelDeployment, its people and its world."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.script: list[Action] = []
        self.world: dict[str, Any] = {}
        self.run: Simulation | None = None
        self.wish = Wish()
        self.failed = False

    @initialize(
        seed=st.integers(0, 99),
        watch_lag=st.sampled_from((0.02, 0.002, 0.25)),
        gateway_lag=st.sampled_from((0.05, 0.5, 3.0)),
        wish=st.one_of(st.just(Wish()), wishes),
    )
    def begin(self, seed: int, watch_lag: float, gateway_lag: float, wish: Wish) -> None:
        self.world = {"seed": seed, "watch_lag": watch_lag, "gateway_lag": gateway_lag}
        self.run = self.loop.run_until_complete(_started(self.world))
        self._apply(wish, 60.0)

    # -- people ---------------------------------------------------------------------------------------------------

    @rule(wish=wishes, pause=pauses)
    def person_applies_any_spec(self, wish: Wish, pause: float) -> None:
        self._apply(wish, pause)

    @rule(change=changes, pause=pauses)
    def person_edits_one_field(self, change: tuple[str, Any], pause: float) -> None:
        self._apply(self.wish.but(**dict([change])), pause)

    @rule(version=versions, pause=pauses)
    def person_applies_a_version(self, version: str, pause: float) -> None:
        self._apply(self.wish.but(version=version), pause)

    @rule(verb=st.sampled_from(VERBS), pause=pauses)
    def person_commands(self, verb: str, pause: float) -> None:
        self._do(do.Command(verb), pause)

    @rule(
        command=st.one_of(
            st.builds(do.Command, st.just("rollback"), versions),
            st.builds(do.Command, st.sampled_from(NONSENSE)),
            st.builds(do.Command, st.sampled_from(VERBS), versions),
        ),
        pause=pauses,
    )
    def person_commands_oddly(self, command: do.Command, pause: float) -> None:
        self._do(command, pause)

    @precondition(lambda self: sum(isinstance(action, do.Delete) for action in self.script) < 2)
    @rule(pause=pauses)
    def person_deletes(self, pause: float) -> None:
        self._do(do.Delete(), pause)
        self._apply(self.wish, pause)

    # -- the world ------------------------------------------------------------------------------------------------

    @rule(
        action=st.one_of(
            st.builds(do.Behave, versions, errors=st.sampled_from((0.3, 0.0))),
            st.builds(do.Behave, versions, drift=st.sampled_from((0.9, 0.0))),
            st.builds(do.Behave, versions, warm=st.sampled_from((False, True))),
        ),
        pause=pauses,
    )
    def model_behaves(self, action: do.Behave, pause: float) -> None:
        self._do(action, pause)

    @rule(
        action=st.one_of(
            st.builds(do.Crash, versions, st.sampled_from((3.0, 40.0, 600.0)), st.sampled_from((None, 1))),
            st.builds(do.NeverReady, versions, st.booleans()),
        ),
        pause=pauses,
    )
    def pods_fail(self, action: Action, pause: float) -> None:
        self._do(action, pause)

    @rule(
        action=st.one_of(
            st.builds(do.WorldMoves, st.sampled_from((0.3, 0.0))),
            st.builds(do.FeatureMoves, st.sampled_from((0.5, 0.19, 0.0))),
            st.builds(do.Observer, st.booleans()),
            st.builds(do.CopiesDeleted),
        ),
        pause=pauses,
    )
    def world_moves(self, action: Action, pause: float) -> None:
        self._do(action, pause)

    @rule(mode=st.sampled_from(("ok", *MODES)), pause=pauses)
    def metrics_change(self, mode: str, pause: float) -> None:
        self._do(do.Weather(mode), pause)

    @rule(refuses=st.booleans(), pause=pauses)
    def gateway_refuses(self, refuses: bool, pause: float) -> None:
        self._do(do.GatewayRefuses(refuses), pause)

    @rule(kind=st.sampled_from(sorted(KINDS)), times=st.integers(1, 4), after=st.integers(0, 8), pause=pauses)
    def api_server_fails(self, kind: str, times: int, after: int, pause: float) -> None:
        self._do(do.ApiFails(kind, times, after), pause)

    @rule(kill=st.sampled_from((do.KillBefore, do.KillAfter)), writes=st.integers(1, 12), pause=pauses)
    def operator_dies(self, kill: type[do.KillAfter] | type[do.KillBefore], writes: int, pause: float) -> None:
        self._do(kill(writes), pause)

    @rule(seconds=st.sampled_from((0.0, 0.0, -2.0, 5.0, -60.0, 300.0, -7200.0, 10800.0)), pause=pauses)
    def clock_jumps(self, seconds: float, pause: float) -> None:
        self._do(do.ClockWrong(seconds), pause)

    # -- hands ----------------------------------------------------------------------------------------------------

    @rule(
        action=st.one_of(
            st.builds(do.Scale, versions, st.integers(0, 5)),
            st.builds(do.Reweigh, st.sampled_from(((1, 1), (0, 1_000_000), (1_000_000, 0), (999_999, 1), (3, 5)))),
            st.builds(do.Damage, st.sampled_from(sorted(DAMAGES))),
        ),
        pause=pauses,
    )
    def somebody_edits(self, action: Action, pause: float) -> None:
        self._do(action, pause)

    # -- time -----------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((10.0, 33.0, 64.0, 200.0)))
    def time_passes(self, seconds: float) -> None:
        self._do(do.Wait(seconds), 0.0)

    @rule(phase=st.sampled_from(PHASES))
    def time_passes_until(self, phase: str) -> None:
        self._do(do.WaitFor(phase), 0.0)

    # -- the end --------------------------------------------------------------------------------------------------

    @override
    def teardown(self) -> None:
        try:
            if self.run is not None and not self.failed:
                self._await(finish(self.run, self.wish))
        finally:
            if self.run is not None:
                self.loop.run_until_complete(self.run.stop())
            close(self.loop)

    def _apply(self, wish: Wish, pause: float) -> None:
        self.wish = wish
        self._do(do.Apply(wish), pause)

    def _do(self, action: Action, pause: float) -> None:
        TOTALS["steps"] += 1
        STEPS[type(action).__name__] += 1
        self.script.append(action)
        if pause:
            self.script.append(do.Wait(pause))
        if self.run is None:
            raise AssertionError("nothing was begun")
        self._await(_acted(self.run, action, pause))

    def _await(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            self.loop.run_until_complete(work)
        except Exception as error:
            self.failed = True
            FAILED.append((_short(error), tuple(self.script), self.world))
            raise AssertionError(f"{_short(error)}\n\n{told(self.script, self.world)}") from None


async def _acted(run: Simulation, action: Action, pause: float) -> None:
    await act(run, action)
    if pause:
        await run.advance(pause)


def _short(error: Exception) -> str:
    return str(error) if isinstance(error, AssertionError) else repr(error)


def make(seed: int = 0, watch_lag: float = 0.02, gateway_lag: float = 0.05) -> Simulation:
    """A world with its temper."""
    return Simulation(seed, (0.001, watch_lag), accept_after=gateway_lag, program_after=gateway_lag + 0.02)


async def _started(world: dict[str, Any]) -> Simulation:
    run = make(**world)
    run.start()
    return run


def replay(script: list[Action], **world: Any) -> None:
    """Play a script that once failed, to the end of the run."""
    loop = VirtualLoop()

    async def main() -> None:
        run = make(**world)
        wish = Wish()
        async with run.running():
            for action in script:
                if isinstance(action, do.Apply):
                    wish = action.wish
                await act(run, action)
            await finish(run, wish)

    try:
        loop.run_until_complete(main())
    finally:
        close(loop)


def close(loop: asyncio.AbstractEventLoop) -> None:
    """End what is still under way in it."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


__all__ = ["VERSIONS", "Rollouts", "replay"]
