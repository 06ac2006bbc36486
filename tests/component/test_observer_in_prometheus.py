"""From mirrored requests to SLIs: the real observer's exposition, in a real Prometheus, by the catalog's PromQL.

What is measured is compared with the requests themselves: the names and labels of both sides must agree.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import numpy as np
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families
from scipy import stats

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading
from modelrollout.evidence.needs import missing, needed
from modelrollout.evidence.query_slis import questions, readings
from modelrollout.observer.process import Observer
from modelrollout.observer.wishes import Arms
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import Profile
from tests.component.observed import Numbers, psi
from tests.component.prometheus import Prometheus
from tests.unit.observer.stage import Arm, answer, json_body, observing, post, scrape, serving, until, value, wish

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
STABLE, CANDIDATE = "digits-0000000000", "digits-1111111111"
ROWS, REQUESTS = 50, 40


WHERE = Context(
    namespace="demo",
    name="digits",
    revision=CANDIDATE,
    stable=STABLE,
    http=True,
    grpc=False,
    slot=1,
    profile="envoy-gateway",
    interval=timedelta(seconds=10),
    since=NOW - timedelta(minutes=5),
)


def scores(rows: Numbers, moved: float) -> Numbers:
    """The model: three classes by the first two features."""
    raw = np.stack([rows[:, 0] - moved, rows[:, 1] + moved, np.zeros(len(rows))], axis=1)
    spread = np.exp(raw - raw.max(axis=1, keepdims=True))
    return np.asarray(spread / spread.sum(axis=1, keepdims=True))


def served(moved: float) -> Arm:
    def infer(request: Any) -> Any:
        rows = np.frombuffer(request.raw_input_contents[0], "<f4").reshape(-1, 2).astype(float)
        return answer({"SCORES": ("FP32", scores(rows, moved))})

    return Arm(infer)


def profile_of(rows: Numbers) -> Profile:
    columns = [Column(f"x{place}", "X", (place,), rows[:, place]) for place in range(2)]
    return make("digits", columns, {"SCORES": scores(rows, 0.0)})


async def write(server: Prometheus, observer: Observer, at: datetime, pod: str = "modelrollout-observer-0") -> None:
    """One scrape, with the labels that a scrape of the observer's pod gives."""
    url = f"http://127.0.0.1:{observer.metrics_port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        text = await response.text()
    place = {"namespace": "demo", "pod": pod, "instance": f"{pod}:9100", "job": "pods"}
    server.write(
        ({"__name__": sample.name, **sample.labels, **place}, [(at.timestamp(), sample.value)])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    )


def measured(server: Prometheus, sli: str, context: Context = WHERE, **where: str) -> Reading:
    guard = Guard.model_validate({"name": "g", "sli": sli, "max": 0.2, "window": "5m", "where": where})
    asked = questions(guard, context, NOW)
    found = readings(guard, context, {query.name: server.query(query.text, query.end) for query in asked}, NOW)
    assert not isinstance(found, str), found
    return found[0]


def shares(profile: Profile, name: str) -> tuple[tuple[float, ...], Numbers]:
    part = next(part for part in profile.features if part.name == name)
    assert part.kind == "numeric"
    return part.edges, np.array([*part.shares, part.missing])


async def test_mirrored_requests_become_slis(server: Prometheus) -> None:
    random = np.random.default_rng(11)
    profile = profile_of(random.normal(size=(5000, 2)))
    rows = random.normal([0.7, 0.0], 1.0, size=(REQUESTS, ROWS, 2)).astype(np.float32).astype(float)
    asked = wish(arms=Arms(STABLE, CANDIDATE), per_second=500.0, window=60.0, most=REQUESTS * ROWS)
    async with (
        serving(served(0.0)) as one,
        serving(served(0.4)) as other,
        observing(asked, profile=profile, addresses={STABLE: one, CANDIDATE: other}) as observer,
    ):
        await write(server, observer, NOW - timedelta(minutes=6))
        guards = [
            Guard.model_validate({"name": sli, "sli": sli, "max": 0.9, "min": 0})
            for sli in ("input-psi", "input-ks", "output-psi", "label-flips", "answer-differences", "accuracy")
        ]
        needs = needed(guards, WHERE)
        answers = {
            need.selector: server.query(need.question(NOW).text, NOW - timedelta(minutes=5, seconds=30))
            for need in needs
        }
        # Before any request.
        assert missing(needs, dict(answers), "default") == ()
        joiner = observer.registry.targets["digits"].joiner
        assert joiner is not None
        for place, batch in enumerate(rows):
            await post(observer, json_body({"X": ("FP32", batch)}, f"r{place}"))
            await until(lambda place=place: joiner.pending == place + 1)  # type: ignore[misc]
        truth = [scores(batch, 0.1).argmax(axis=1) for batch in rows]
        labels = [{"id": f"r{place}", "label": own.tolist(), "slice": "eu"} for place, own in enumerate(truth)]
        url = f"http://127.0.0.1:{observer.labels.port}/v1/labels"
        async with aiohttp.ClientSession() as session, session.post(url, data=orjson.dumps(labels)) as response:
            assert await response.json() == {"accepted": REQUESTS, "refused": {}}
        counted = value(
            await scrape(observer), "requests_total", protocol="http", outcome="counted", modeldeployment="digits"
        )
        assert counted == REQUESTS
        await write(server, observer, NOW - timedelta(seconds=5))

    flat = rows.reshape(-1, 2)
    for place in range(2):
        edges, reference = shares(profile, f"x{place}")
        counts = np.append(np.bincount(np.searchsorted(edges, flat[:, place]), minlength=len(edges) + 1), 0.0)
        reading = measured(server, "input-psi", feature=f"x{place}")
        assert reading.value == pytest.approx(psi(counts, reference), abs=1e-6)
        assert (reading.samples, reading.subject) == (len(flat), f"feature x{place}")
        distance = measured(server, "input-ks", feature=f"x{place}")
        bins = np.arange(len(reference) - 1)
        expected = np.repeat(bins, np.rint(reference[:-1] * 5000).astype(int))
        actual = np.repeat(bins, counts[:-1].astype(int))
        assert distance.value == pytest.approx(stats.ks_2samp(actual, expected).statistic, abs=1e-6)
    assert measured(server, "input-psi").subject == "feature x0"

    predicted = {STABLE: scores(flat, 0.0).argmax(axis=1), CANDIDATE: scores(flat, 0.4).argmax(axis=1)}
    part = next(part for part in profile.outputs if part.kind == "label")
    names = list(part.classes)
    reference = np.array([*part.classes.values(), part.other, part.missing])
    for context in (WHERE, WHERE.other):
        seen = predicted[context.revision]
        counts = np.array([*(np.sum(seen == int(name)) for name in names), 0, 0], dtype=float)
        reading = measured(server, "output-psi", context, output=part.name)
        assert reading.value == pytest.approx(psi(counts, reference), abs=1e-6)

    by_request = {name: own.reshape(REQUESTS, ROWS) for name, own in predicted.items()}
    flips = np.mean((by_request[STABLE] != by_request[CANDIDATE]).any(axis=1))
    reading = measured(server, "label-flips")
    assert (reading.value, reading.samples) == (pytest.approx(flips), REQUESTS)
    assert measured(server, "answer-differences").value == pytest.approx(1.0)

    flat_truth = np.concatenate(truth)
    for context in (WHERE, WHERE.other):
        seen = predicted[context.revision]
        right = measured(server, "accuracy", context, slice="eu")
        assert (right.value, right.samples) == (pytest.approx(np.mean(seen == flat_truth)), len(flat_truth))
        for name in ("0", "1"):
            own = seen == int(name)
            assert measured(server, "precision", context, label=name).value == pytest.approx(
                np.mean(flat_truth[own] == int(name))
            )
            assert measured(server, "recall", context, label=name).value == pytest.approx(
                np.mean(own[flat_truth == int(name)])
            )
        confidence = np.concatenate([scores(batch, 0.4 if context is WHERE else 0.0).max(axis=1) for batch in rows])
        error = measured(server, "calibration-error", context).value
        assert error == pytest.approx(calibration(confidence, seen == flat_truth), abs=1e-5)
    assert measured(server, "accuracy", replace(WHERE, name="other")).value is None


async def test_a_restart_counts_whole_and_what_was_before_prometheus_does_not(server: Prometheus) -> None:
    """Prometheus lost its data: its first scrape of the old process has drift of half an hour ago in it."""
    random = np.random.default_rng(12)
    profile = profile_of(random.normal(size=(5000, 2))).model_copy(update={"model": "letters"})
    asked, where = wish(name="letters", model="letters"), replace(WHERE, name="letters")
    counted: list[Numbers] = []

    async def post_some(observer: Observer, requests: int, shift: float) -> None:
        target = observer.registry.targets["letters"]
        until_now = target.features.sum()
        for _ in range(requests):
            rows = random.normal([shift, 0.0], 1.0, size=(ROWS, 2)).astype(np.float32).astype(float)
            counted.append(rows)
            await post(observer, json_body({"X": ("FP32", rows)}), model="letters", host="letters.example.com")
        await until(lambda: target.features.sum() == until_now + 2 * ROWS * requests)

    began = NOW - timedelta(minutes=30)
    async with observing(asked, profile=profile, wall=began.timestamp) as observer:
        await post_some(observer, 40, 3.0)
        counted.clear()
        await write(server, observer, NOW - timedelta(minutes=4), "letters-0")
        await post_some(observer, 10, 0.0)
        await write(server, observer, NOW - timedelta(minutes=2), "letters-0")
    async with observing(asked, profile=profile, wall=(NOW - timedelta(minutes=1)).timestamp) as observer:
        await post_some(observer, 20, 0.2)
        await write(server, observer, NOW - timedelta(seconds=5), "letters-0")
    flat = np.concatenate(counted)
    edges, reference = shares(profile, "x0")
    counts = np.append(np.bincount(np.searchsorted(edges, flat[:, 0]), minlength=len(edges) + 1), 0.0)
    reading = measured(server, "input-psi", where, feature="x0")
    assert reading.samples == counts.sum() == 30 * ROWS
    assert reading.value == pytest.approx(psi(counts, reference), abs=1e-6)


def calibration(confidence: Numbers, right: Any) -> float:
    """Expected calibration error over ten bins of confidence, each with its upper edge."""
    bins = np.minimum(np.ceil(confidence * 10).astype(int) - 1, 9)
    gaps = [abs(right[bins == place].sum() - confidence[bins == place].sum()) for place in range(10)]
    return float(sum(gaps) / len(right))
