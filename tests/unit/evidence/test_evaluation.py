"""Asking for all guards at once: whatever the provider does, there is a result for each guard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest

from modelrollout.api.guard import Guard, Sli
from modelrollout.api.status import Verdict
from modelrollout.controller.evaluation import AT_ONCE, evaluate
from modelrollout.ports import Answer, InvalidQueryError, Series, TransientError
from modelrollout.rollout.observed import Evaluation
from modelrollout.rollout.plan import EvaluationRequest
from tests.unit.evidence.envoy import Envoy, Storage, at, context

ERRORS = Guard(name="errors", sli=Sli.ERROR_RATIO, max=0.01)
DRIFT = Guard(name="drift", query="max(psi)", max=0.2)
UNKNOWN = "Prometheus could not be asked; the operator's log says why"


class FixedClock:
    def now(self) -> datetime:
        return at(100)

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("an evaluation does not sleep")


class FakeMetrics:
    def __init__(self, behave: Callable[[str], Awaitable[Answer]]) -> None:
        self.behave = behave
        self.asked: list[tuple[str, datetime, datetime | None, timedelta | None]] = []

    async def query(self, query: str, at: datetime) -> Answer:
        self.asked.append((query, at, None, None))
        return await self.behave(query)

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        self.asked.append((query, end, start, step))
        return await self.behave(query)


async def evaluated(metrics: FakeMetrics, *guards: Guard, interval: float = 10) -> Evaluation:
    names = tuple(guard.name for guard in guards)
    request = EvaluationRequest(3, "digits-new", "digits-old", 1, at(0), timedelta(seconds=interval), guards=names)
    return await evaluate(metrics, guards, context(interval=interval), request, FixedClock())


def verdicts(evaluation: Evaluation) -> dict[str, Verdict]:
    return {result.name: result.verdict for result in evaluation.results}


async def test_every_guard_is_judged_in_order_at_one_time() -> None:
    storage, envoy = Storage(), Envoy()
    for second in range(101):
        envoy.serve(good=10)
        storage.scrape(second, envoy)

    async def behave(query: str) -> Answer:
        if "psi" in query:
            return Answer("matrix", (Series({}, ((at(100).timestamp(), 0.5),)),))
        return storage.answer(query, at(100))

    latency = Guard(name="latency", sli=Sli.LATENCY_P99, max=0.5)
    evaluation = await evaluated(FakeMetrics(behave), ERRORS, DRIFT, latency)
    assert (evaluation.attempt, evaluation.revision, evaluation.at) == (3, "digits-new", at(100))
    assert [(result.name, result.verdict, result.at) for result in evaluation.results] == [
        ("errors", Verdict.PASS, at(100)),
        ("drift", Verdict.BREACH, at(100)),
        ("latency", Verdict.PASS, at(100)),
    ]


@pytest.mark.parametrize(
    ("error", "verdict", "message", "invalid"),
    [
        (TransientError("Prometheus cannot be reached"), Verdict.PROVIDER_DOWN, "Prometheus cannot be reached", False),
        (InvalidQueryError("Prometheus refuses it"), Verdict.NO_DATA, "Prometheus refuses it", True),
        (RuntimeError("secret"), Verdict.PROVIDER_DOWN, UNKNOWN, False),
        (TimeoutError(), Verdict.PROVIDER_DOWN, "Prometheus did not answer within 5 s", False),
    ],
)  # fmt: skip
async def test_one_question_that_fails_spoils_no_other(
    error: Exception, verdict: Verdict, message: str, invalid: bool
) -> None:
    async def behave(query: str) -> Answer:
        if "psi" in query:
            raise error
        return Answer("matrix", ())

    evaluation = await evaluated(FakeMetrics(behave), DRIFT, ERRORS)
    drift, errors = evaluation.results
    assert (drift.verdict, drift.message, drift.invalid) == (verdict, message, message if invalid else None)
    assert errors.verdict is Verdict.NO_DATA


async def test_a_query_that_cannot_be_compiled_is_not_asked() -> None:
    async def behave(_: str) -> Answer:
        return Answer("matrix", ())

    metrics = FakeMetrics(behave)
    evaluation = await evaluated(metrics, Guard(name="bad", query="sum(x", max=1.0))
    assert evaluation.results[0].invalid == "the query does not parse: unclosed left parenthesis"
    assert metrics.asked == []


async def test_an_answer_nobody_foresaw_spoils_no_other_guard() -> None:
    async def behave(query: str) -> Answer:
        return Answer("matrix", None) if "psi" in query else Answer("matrix", ())  # type: ignore[arg-type]

    evaluation = await evaluated(FakeMetrics(behave), DRIFT, ERRORS)
    assert verdicts(evaluation) == {"drift": Verdict.PROVIDER_DOWN, "errors": Verdict.NO_DATA}


async def test_the_same_question_is_asked_once() -> None:
    async def behave(_: str) -> Answer:
        return Answer("matrix", ())

    metrics = FakeMetrics(behave)
    others = [Guard(name=f"p{share}", sli=Sli(f"latency-p{share}"), max=1.0) for share in (50, 95, 99)]
    await evaluated(metrics, *others)
    assert len(metrics.asked) == 1


@pytest.mark.looptime
@pytest.mark.parametrize(("interval", "wait"), [(1, 2), (3, 3), (60, 5)])
async def test_a_hung_provider_ends_with_the_interval(interval: float, wait: float) -> None:
    async def behave(_: str) -> Answer:
        await asyncio.Event().wait()
        raise AssertionError

    loop = asyncio.get_running_loop()
    began = loop.time()
    evaluation = await evaluated(FakeMetrics(behave), ERRORS, DRIFT, interval=interval)
    assert loop.time() - began == pytest.approx(wait)
    assert set(verdicts(evaluation).values()) == {Verdict.PROVIDER_DOWN}


async def test_no_more_than_a_few_are_asked_at_once() -> None:
    going, most = 0, 0

    async def behave(_: str) -> Answer:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0)
        going -= 1
        return Answer("matrix", ())

    guards = [Guard(name=f"g{number}", query=f"x{number}", max=1.0) for number in range(20)]
    await evaluated(FakeMetrics(behave), *guards)
    assert most == AT_ONCE


async def test_cancellation_goes_through() -> None:
    started = asyncio.Event()

    async def behave(_: str) -> Answer:
        started.set()
        await asyncio.Event().wait()
        raise AssertionError

    task = asyncio.create_task(evaluated(FakeMetrics(behave), ERRORS))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
