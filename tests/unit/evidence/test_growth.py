"""growth(x), last(x) and before(x) become PromQL that parses, by the length of the window."""

from __future__ import annotations

from datetime import timedelta

import promql_parser as promql
import pytest

from modelrollout.evidence.growth import EXACT, expanded
from modelrollout.evidence.promql import QueryError
from modelrollout.evidence.queried import LONGEST_WINDOW, queried
from tests.unit.evidence.envoy import context

SHORT = timedelta(minutes=10)


STARTED = "modelrollout_observer_started_timestamp_seconds"


def test_a_short_window_is_looked_through() -> None:
    assert expanded('sum(last(x{a="b"}))', SHORT) == 'sum(last_over_time(x{a="b"}[$window]))'
    first = "min_over_time(x[$window])"
    before = expanded("before(x)", SHORT)
    assert before == (
        f"(x offset 10m <= {first} or ({first} unless x offset 10m unless on (job, instance) (up offset 10m == 1)))"
    )
    assert expanded("growth(x)", SHORT) == f"(last_over_time(x[$window]) - {before} >= 0 or last_over_time(x[$window]))"


def test_a_counter_of_the_observer_is_dated_by_its_process() -> None:
    name = "modelrollout_observer_compared_total"
    began = f"{STARTED} offset 10m or last_over_time({STARTED}[$window]) > time() - 600"
    first = f"min_over_time({name}[$window])"
    assert expanded(f"before({name})", SHORT) == f"({name} offset 10m or ({first} unless on (process) ({began})))"
    of_one = expanded(f'growth({name}{{revision="$revision",modeldeployment="$name"}})', SHORT)
    assert of_one.count(f'{STARTED}{{modeldeployment="$name"}}') == of_one.count(STARTED) == 2


def test_a_long_window_is_looked_at_from_points() -> None:
    assert "[$window]" not in expanded("growth(x{$where})", EXACT + timedelta(seconds=1))
    assert (
        expanded("last(x)", timedelta(hours=8)) == f"(x or {' or '.join(f'x offset {hour}h' for hour in range(1, 8))})"
    )
    hours = " or ".join(f"x offset {hour}h" for hour in range(14, 0, -2))
    first = f"(x offset 15h55m or {hours} or x offset 30m or x)"
    assert f"x offset 16h <= {first}" in expanded("before(x)", timedelta(hours=16))


def test_only_these_three_are_written_out() -> None:
    text = "last_over_time(x[5m]) + mygrowth(x) + growth(x + y) + last(rate(x[1m]))"
    assert expanded(text, SHORT) == text


@pytest.mark.parametrize("window", [timedelta(seconds=1), SHORT, EXACT, timedelta(hours=24), LONGEST_WINDOW])
@pytest.mark.parametrize("name", list(queried()))
def test_every_computed_sli_parses_for_every_window(name: str, window: timedelta) -> None:
    entry = queried()[name]
    for text in entry.texts():
        sent = entry.compiled(text, context(), window, dict.fromkeys(entry.where or (), "x"))
        found = namespaces(sent)
        assert found
        assert set(found) == {"demo"}


def namespaces(text: str) -> list[str]:
    """What each selector says of its namespace."""
    found: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, promql.VectorSelector):
            found.append(",".join(one.value for one in node.matchers.matchers if one.name == "namespace"))

    promql.walk(promql.parse(text), pre_visit=visit)
    return found


def test_what_is_written_is_bounded_and_not_what_it_becomes() -> None:
    entry = queried()["input-psi"].model_copy(update={"query": " + ".join(["growth(x)"] * 60)})
    with pytest.raises(QueryError, match="too complex"):
        entry.compiled(entry.query, context(), SHORT, {})
