"""A replay in bounded parts, and how it is told; what Prometheus answers is pretended."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest

from modelrollout.api.guard import Guard, OnBreach
from modelrollout.cli.backtest import QUIET, Progress
from modelrollout.cli.replaying import POINTS, Replayed, Replayer, batches, questions
from modelrollout.cli.view.backtest import Report, report_document, report_lines
from modelrollout.cli.view.text import render
from modelrollout.ports import Answer, InvalidQueryError, PortError, Series, TransientError
from tests.unit.cli.test_past import FIRST, NOW, SECOND, STEP, THIRD, past

QUERY = Guard.model_validate({"name": "drift", "query": 'max(psi{revision="$revision"})', "max": 0.2})
BOUND = Guard.model_validate({"name": "errors", "sli": "error-ratio", "max": 0.1})
RELATIVE = Guard.model_validate({"name": "more", "sli": "error-ratio", "relativeTo": "stable"})


class Prometheus:
    """Answers each range query with one series of ``value`` (another one for some revisions), or fails."""

    def __init__(
        self, value: float = 0.1, error: PortError | None = None, longest: int = 10**6, **values: float
    ) -> None:
        self.value, self.error, self.longest, self.values = value, error, longest, values
        self.asked: list[tuple[str, int]] = []

    async def query(self, query: str, at: datetime) -> Answer:
        raise AssertionError("one at a time would be too many")

    async def query_range(self, query: str, start: datetime, end: datetime, step: timedelta) -> Answer:
        count = (end - start) // step + 1
        self.asked.append((query, count))
        if self.error is not None:
            raise self.error
        if count > self.longest:
            raise TransientError("the answer of Prometheus is longer than 8192 KiB")
        value = next((each for name, each in self.values.items() if f'revision="{name}"' in query), self.value)
        points = tuple(((start + number * step).timestamp(), value) for number in range(count))
        return Answer("matrix", (Series({}, points),))


def replayed(server: Prometheus, *guards: Guard, since: float = 48) -> list[Replayed]:
    made = past(FIRST, SECOND, THIRD, stable="b", since=since)
    return asyncio.run(Replayer(server).run(made, guards))


def test_two_days_are_asked_for_in_as_many_questions_as_were_said() -> None:
    made, server = past(FIRST, SECOND, THIRD, stable="b"), Prometheus()
    (found,) = asyncio.run(Replayer(server).run(made, [QUERY]))
    assert len(server.asked) == questions(made, [QUERY]) < 20
    assert max(count for _, count in server.asked) <= POINTS
    assert (found.served.fired, found.served.silent) == (0, 0)
    assert found.served.trials == len(made.pretended())
    assert found.served.worst is not None
    assert found.served.worst.value == 0.1
    assert {trial.title.rpartition(" ")[2] for trial, _ in found.recorded} == {"Promoted", "RolledBack"}


def test_a_value_outside_fires_in_every_rollout() -> None:
    (found,) = replayed(Prometheus(0.5), QUERY)
    assert found.served.fired == found.served.trials > 50
    assert all(tally.fired for _, tally in found.recorded)


def test_an_answer_that_is_too_long_is_asked_for_in_halves() -> None:
    server = Prometheus(longest=POINTS // 3)
    (found,) = replayed(server, QUERY)
    assert found.served.unread == 0
    assert found.served.silent == 0
    assert any(count > server.longest for _, count in server.asked)


def test_a_prometheus_that_is_down_is_asked_a_bounded_number_of_times() -> None:
    server = Prometheus(error=TransientError("Prometheus cannot be reached"))
    (found,) = replayed(server, QUERY)
    assert found.unread == "Prometheus cannot be reached"
    assert (found.served.fired, found.served.silent) == (0, 0)
    assert len(server.asked) < 200


def test_a_query_that_it_refuses_is_not_cut_in_halves() -> None:
    server = Prometheus(error=InvalidQueryError("Prometheus refuses the query (HTTP 400)"))
    replayed(server, QUERY, since=7)
    made = past(FIRST, SECOND, THIRD, stable="b", since=7)
    assert len(server.asked) <= questions(made, [QUERY])


def test_a_guard_that_can_never_be_judged_is_not_asked_for() -> None:
    broken = Guard.model_validate({"name": "x", "query": "rate(x[5m", "max": 1})
    server = Prometheus()
    (found,) = replayed(server, broken)
    assert "does not parse" in (found.problem or "")
    assert server.asked == []


def test_relative_guards_alone_need_the_rollouts_on_record_only() -> None:
    made = past(FIRST, SECOND, THIRD, stable="b")
    assert [batch.trials[0].title for batch in batches(made, [RELATIVE])] == [trial.title for trial in made.recorded()]


def told(*found: Replayed, **more: Any) -> str:
    report = Report("demo", "digits", NOW - timedelta(hours=48), NOW, STEP, timedelta(minutes=22), found, **more)
    return render(report_lines(report))


def test_what_is_told_of_a_guard_that_fires() -> None:
    (found,) = replayed(Prometheus(0.5, a=0.1), QUERY)
    text = told(found, origins={"drift": "of RolloutPolicy team"}, notes=("its pods: not allowed",))
    assert "drift  query  <= 0.2  Rollback  of RolloutPolicy team" in text
    assert f"✖  fires in {found.served.fired} (" in text
    assert f" %) of {found.served.trials} rollouts of 22m" in text
    assert "✖  b, attempt 2: Promoted: fires 3m after its first traffic" in text
    assert "!  c, attempt 3: RolledBack: holds (stable is as bad)" in text
    assert "?  its pods: not allowed" in text
    assert "first 2026-11-20" in text
    (found,) = replayed(Prometheus(0.1, c=0.5), QUERY)
    assert "✔  c, attempt 3: RolledBack: fires" in told(found)
    assert "✔  b, attempt 2: Promoted: does not fire" in told(found)


def test_what_is_told_of_silence_and_of_what_cannot_be_replayed() -> None:
    (silent,) = replayed(Prometheus(float("nan")), QUERY)
    assert "?  fires in none of" in told(silent)
    assert "no data in 100 %" in told(silent)
    assert "and no rollout with traffic is on record here: it cannot be replayed" in told(Replayed(RELATIVE))
    assert "nobody served long enough for one rollout" in told(Replayed(BOUND))
    assert "✖  can never be judged: so it is" in told(Replayed(BOUND, problem="so it is"))


def test_only_what_was_good_makes_the_command_fail() -> None:
    (bad,) = replayed(Prometheus(0.5), QUERY)
    (good,) = replayed(Prometheus(0.1), QUERY)
    (warned,) = replayed(Prometheus(0.5), QUERY.model_copy(update={"on_breach": OnBreach.WARN}))
    caught = Replayed(RELATIVE, recorded=[each for each in bad.recorded if each[0].title.endswith("RolledBack")])

    def fired(found: Replayed) -> bool:
        report = Report("demo", "digits", NOW, NOW, STEP, STEP, (found,))
        assert report_document(report)["fired"] is report.fired
        return report.fired

    assert (fired(bad), fired(good), fired(caught)) == (True, False, False)
    assert fired(warned) is False


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_is_told_once_it_takes_longer_than_two_seconds(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 1.0, QUIET + 0.1, QUIET + 0.2, QUIET + 0.4, 12 * QUIET])
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    with Progress("asked {} questions", 5, lambda: next(times)) as progress:
        for _ in range(5):
            progress.one()
    said = capsys.readouterr().err
    if terminal:
        assert [line[3:] for line in said.split("\r")[1:]] == [*(f"asked {n} of 5 questions" for n in (2, 4, 5)), ""]
    else:
        assert said.splitlines() == ["asked 2 of 5 questions", "asked 5 of 5 questions"]
