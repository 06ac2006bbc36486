"""Asking for all guards at once: whatever the provider does, there is a result for each guard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrollout.api.guard import Guard, RelativeTo, Sli
from modelrollout.api.status import Verdict
from modelrollout.controller.evaluation import AT_ONCE, evaluate
from modelrollout.ports import Answer, InvalidQueryError, Series, TransientError
from modelrollout.rollout.observed import Evaluation
from modelrollout.rollout.plan import EvaluationRequest, Source, Span
from tests.unit.evidence.envoy import HTTP, Envoy, Storage, at, context

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


async def test_what_was_asked_is_kept_in_one_line() -> None:
    async def behave(_: str) -> Answer:
        return Answer("matrix", ())

    long = Guard(name="long", query=f'sum(rate(a{{b="two  spaces"}}[1m])) / sum(rate({"c" * 120}[1m]))', max=1.0)
    (result,) = (await evaluated(FakeMetrics(behave), long)).results
    assert result.query.startswith("sum(")
    assert '"two  spaces"' in result.query
    assert "  " not in result.query.replace("two  spaces", "")


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


def both_arms(storage: Storage) -> None:
    """The candidate fails four times as often, and gets a fifth of the requests."""
    candidate, stable = Envoy(), Envoy(cluster=HTTP[:-1] + "0")
    for second in range(-60, 301, 5):
        candidate.serve(good=8, bad=2)
        stable.serve(good=38, bad=2)
        storage.scrape(second, candidate, stable)


class CountingMetrics(FakeMetrics):
    """Answers from a storage, and 0.25 (of 40) to whatever the observer counts."""

    def __init__(self) -> None:
        self.storage = Storage()
        both_arms(self.storage)
        super().__init__(self._never)

    async def _never(self, query: str) -> Answer:
        raise AssertionError(query)

    async def query(self, query: str, at: datetime) -> Answer:
        self.asked.append((query, at, None, None))
        if query.startswith("count("):
            return Answer("vector", ())
        if "observer" in query:
            value = 0.25 if "flips" in query or "differing" in query else 40.0
            return Answer("vector", (Series({}, ((at.timestamp(), value),)),))
        return self.storage.answer(query, at)

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        self.asked.append((query, end, start, step))
        return self.storage.answer_range(query, start, end, step)


RELATIVE = Guard(name="relative", sli=Sli.ERROR_RATIO, relative_to=RelativeTo.STABLE)
FLIPS = Guard(name="flips", sli="label-flips", max=0.1)

PSI = Guard(name="inputs", sli="input-psi", max=0.2)


class LaterClock(FixedClock):
    def now(self) -> datetime:
        return at(300)


def request(*guards: Guard, **more: Any) -> EvaluationRequest:
    names = tuple(guard.name for guard in guards)
    known = EvaluationRequest(3, "digits-new", "digits-old", 1, at(0), timedelta(seconds=10), guards=names)
    return replace(known, **more)


async def counted(asked: EvaluationRequest, *guards: Guard, **more: Any) -> tuple[Evaluation, CountingMetrics]:
    metrics = CountingMetrics()
    where = replace(context(), spans=asked.spans, watch=asked.watch, source=asked.source)
    return await evaluate(metrics, guards, where, asked, LaterClock(), **more), metrics


async def test_one_answer_serves_the_guard_and_the_allocation() -> None:
    asked = request(RELATIVE, spans=(Span(at(0), 200_000),))
    evaluation, metrics = await counted(asked, RELATIVE)
    (result,) = evaluation.results
    assert (result.verdict, result.baseline) == (Verdict.BREACH, pytest.approx(0.05))
    assert evaluation.allocation is not None
    assert (evaluation.allocation.effective, evaluation.allocation.observed) == (True, 0.2)
    assert len(metrics.asked) == 1
    assert result.query == metrics.asked[0][0]
    assert result.query.startswith("last_over_time({")


async def test_weights_are_watched_without_any_guard_of_both_arms() -> None:
    asked = request(ERRORS, spans=(Span(at(0), 500_000),))
    evaluation, _ = await counted(asked, ERRORS)
    assert evaluation.allocation is not None
    assert not evaluation.allocation.effective
    assert evaluation.allocation.message == "digits-new got 20.00% of 2950 requests, its weight asks for 50.00%"


@pytest.mark.parametrize(
    "more",
    [{}, {"trial": True}, {"watch": True}, {"source": Source.MIRROR}],
    ids=["no known weights", "trial", "watch", "mirror"],
)
async def test_weights_are_not_watched_where_there_are_none(more: dict[str, Any]) -> None:
    spans = (Span(at(0), 500_000),) if more else ()
    evaluation, _ = await counted(request(ERRORS, spans=spans, **more), ERRORS)
    assert evaluation.allocation is None


async def test_answers_of_both_arms_are_compared_where_asked_for() -> None:
    evaluation, _ = await counted(request(ERRORS, compare=True), ERRORS)
    assert evaluation.comparison is not None
    assert evaluation.comparison.compared > 0
    assert evaluation.comparison.label_flips is not None
    assert (await counted(request(ERRORS), ERRORS))[0].comparison is None


async def test_nothing_is_in_breach_before_the_first_traffic() -> None:
    busy = Guard(name="busy", sli=Sli.REQUEST_RATE, min=1e6)
    tried, under_way = [(await counted(request(busy, trial=trial), busy))[0].results[0] for trial in (True, False)]
    assert under_way.verdict is Verdict.BREACH
    assert (tried.verdict, tried.value, tried.message) == (Verdict.NO_DATA, None, "asked before the first traffic")


async def test_a_trial_looks_for_the_series_that_guards_need() -> None:
    evaluation, _ = await counted(request(FLIPS, trial=True), FLIPS, provider="main")
    assert len(evaluation.missing) == 1
    assert evaluation.missing[0].startswith("guard flips needs ")
    assert "Prometheus main does not have" in evaluation.missing[0]
    assert (await counted(request(FLIPS), FLIPS, provider="main"))[0].missing == ()


async def test_a_watch_that_got_no_answer_knows_of_nothing_missing_or_not() -> None:
    async def refused(query: str) -> Answer:
        raise TransientError("refused")

    asked = request(PSI, watch=True)
    found = await evaluate(FakeMetrics(refused), (PSI,), context(), asked, LaterClock(), provider="main")
    assert found.missing is None
    assert (await counted(request(PSI), PSI))[0].missing == (), "nothing was looked for"


async def test_a_watch_says_that_it_is_one() -> None:
    evaluation, _ = await counted(request(ERRORS, watch=True), ERRORS)
    assert evaluation.watch
