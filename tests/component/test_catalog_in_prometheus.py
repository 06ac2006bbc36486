"""The catalog's PromQL, asked of a real Prometheus, gives what numpy and scipy give for the same requests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from scipy import stats

from modelrollout.api.guard import Guard
from modelrollout.evidence.context import Context
from modelrollout.evidence.measure import Reading
from modelrollout.evidence.queried import queried
from modelrollout.evidence.query_slis import questions, readings, rounded
from modelrollout.ports import Answer
from modelrollout.rollout.plan import Source
from tests.component.observed import Labels, Life, Numbers, psi
from tests.component.prometheus import Prometheus

NOW = datetime(2026, 11, 1, 12, 0, 3, 250_000, tzinfo=UTC)
HOUR = timedelta(hours=1)
EDGES = [-1.0, -0.3, 0.0, 0.2, 0.9, 2.5]
BINS = [*(f"{edge:g}" for edge in EDGES), "+Inf", "missing"]
SHARES = {
    "age": np.array([0.15, 0.25, 0.1, 0.08, 0.22, 0.12, 0.05, 0.03]),
    "income": np.array([0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.0]),
}
CATEGORIES = ["north", "south", "other", "missing"]
CATEGORY_SHARES = np.array([0.6, 0.39, 0.01, 0.0])
_names = itertools.count(1)


@pytest.fixture
def where() -> Context:
    return context_of("digits")


def context_of(prefix: str) -> Context:
    """The candidate of a ModelDeployment that no other test has."""
    name = f"{prefix}{next(_names)}"
    return Context(
        namespace="demo",
        name=name,
        revision=f"{name}-new",
        stable=f"{name}-old",
        http=True,
        grpc=False,
        slot=1,
        profile="envoy-gateway",
        interval=timedelta(seconds=10),
        since=NOW - timedelta(days=40),
        source=Source.WEIGHTED,
    )


def evaluate(server: Prometheus, guard: Guard, context: Context, now: datetime = NOW) -> list[Reading]:
    """Ask and read as the operator does."""
    answers: dict[str, Answer] = {}
    for query in questions(guard, context, now):
        if query.start is None or query.step is None:
            answers[query.name] = server.query(query.text, query.end)
        else:
            answers[query.name] = server.query_range(query.text, query.start, query.end, query.step.total_seconds())
    found = readings(guard, context, answers, now)
    assert not isinstance(found, str), found
    return found


def guard(sli: str, window: timedelta = HOUR, **more: object) -> Guard:
    return Guard.model_validate({"name": "g", "sli": sli, "max": 0.2, "window": window, **more})


def life(context: Context, pod: str, process: str, start: float, end: float, every: float) -> Life:
    """A process of the observer; ``start`` and ``end`` are seconds before now."""
    place = {
        "namespace": context.namespace,
        "pod": pod,
        "instance": f"{pod}:9100",
        "job": "pods",
        "process": process,
        "modeldeployment": context.name,
    }
    now = NOW.timestamp()
    return Life(place, now - start, now - end, every)


def lives(context: Context, span: float, every: float) -> list[Life]:
    """Replicas in ``span`` seconds: two are there all the time (one restarts in place), one ends, one is born."""
    return [
        life(context, "observer-a", "a1", 1.4 * span, 0.45 * span, every),
        life(context, "observer-a", "a2", 0.45 * span - 2 * every, -1, every),
        life(context, "observer-b", "b1", 1.6 * span + every / 3, -1, every),
        life(context, "observer-c", "c1", 1.3 * span, 0.7 * span + every / 5, every),
        life(context, "observer-d", "d1", 0.31 * span, -1, every),
    ]


def features(found: list[Life], rows: int, shift: float, seed: int) -> None:
    """Each process counts rows of three features; ``shift`` moves age."""
    random = np.random.default_rng(seed)
    for one in found:
        one.from_zero = [
            *(counter("feature_total", feature=name, bin=bin_) for name in SHARES for bin_ in BINS),
            *(counter("feature_bucket", feature=name, le=le) for name in SHARES for le in BINS[:-1]),
            *(counter("feature_total", feature="region", bin=bin_) for bin_ in CATEGORIES),
            counter("feature_rows_total"),
        ]
        for at in random.uniform(one.start, one.end, rows):
            for name in SHARES:
                missing = random.random() < 0.02
                value = float(random.normal(shift if name == "age" else 0.1))
                place = len(EDGES) + 1 if missing else int(np.searchsorted(EDGES, value))
                one.count(float(at), counter("feature_total", feature=name, bin=BINS[place]))
                for le in BINS[place:-1]:
                    one.count(float(at), counter("feature_bucket", feature=name, le=le))
            one.count(float(at), counter("feature_rows_total"))
            region = str(random.choice(CATEGORIES, p=[0.5, 0.45, 0.03, 0.02]))
            one.count(float(at), counter("feature_total", feature="region", bin=region))


def counter(name: str, profile: str = "p1", **labels: str) -> Labels:
    return {"__name__": f"modelrollout_observer_{name}", "profile": profile, **labels}


def references(context: Context, every: float, span: float, profile: str = "p1", until: float = -1) -> Life:
    """The gauges of the profile, as one more target."""
    found = life(context, "observer-b", "", 1.6 * span, until, every)
    del found.place["process"]
    for name, shares in SHARES.items():
        for bin_, share in zip(BINS, shares, strict=True):
            found.count(found.start, counter("feature_reference", profile, feature=name, bin=bin_), share)
        present = np.cumsum(shares[:-1]) / shares[:-1].sum()
        for le, share in zip(BINS[:-1], present, strict=True):
            found.count(found.start, counter("feature_reference_bucket", profile, feature=name, le=le), float(share))
    for bin_, share in zip(CATEGORIES, CATEGORY_SHARES, strict=True):
        found.count(found.start, counter("feature_reference", profile, feature="region", bin=bin_), float(share))
    return found


def bins_seen(found: list[Life], feature: str, names: list[str], start: float, end: float) -> Numbers:
    counts = dict.fromkeys(names, 0.0)
    for one in found:
        for labels, amount in one.seen(start, end):
            if labels["__name__"].endswith("feature_total") and labels["feature"] == feature:
                counts[labels["bin"]] += amount
    return np.array([counts[name] for name in names])


@pytest.mark.parametrize(
    ("window", "every", "rows"),
    [
        (timedelta(seconds=90), 1.0, 400),
        (timedelta(hours=1), 15.0, 1500),
        (timedelta(hours=24), 60.0, 1500),
        (timedelta(hours=720), 300.0, 2000),
    ],
)
def test_drift_equals_scipy_over_replicas_and_restarts(
    server: Prometheus, where: Context, window: timedelta, every: float, rows: int
) -> None:
    """Every window has a restart in place, a replica that ended and one that was born."""
    span = window.total_seconds()
    found = lives(where, span, every)
    features(found, rows, shift=0.6, seed=round(span))
    for one in (*found, references(where, every, span)):
        server.write(one.series())
    now = NOW.timestamp()
    worst = {}
    for name, names, shares in (
        ("age", BINS, SHARES["age"]),
        ("income", BINS, SHARES["income"]),
        ("region", CATEGORIES, CATEGORY_SHARES),
    ):
        counts = bins_seen(found, name, names, now - span, now)
        assert counts.sum() > rows
        (reading,) = evaluate(server, guard("input-psi", window, where={"feature": name}, minSamples=100), where)
        worst[name] = psi(counts, shares)
        assert reading.value == pytest.approx(worst[name], abs=1e-9)
        assert reading.samples == counts.sum()
        assert reading.subject == f"feature {name}"
        if name == "region":
            continue
        (distance,) = evaluate(server, guard("input-ks", window, where={"feature": name}), where)
        # The same bins as ordinal numbers, as often as they were counted; the reference in parts of 10,000.
        actual = np.repeat(np.arange(len(counts) - 1), counts[:-1].astype(int))
        expected = np.repeat(np.arange(len(counts) - 1), np.rint(shares[:-1] * 10_000).astype(int))
        assert distance.value == pytest.approx(stats.ks_2samp(actual, expected).statistic, abs=1e-9)
        assert distance.samples == counts[:-1].sum()
    (reading,) = evaluate(server, guard("input-psi", window), where)
    assert reading.subject == f"feature {max(worst, key=lambda name: worst[name])}"
    assert reading.value == pytest.approx(max(worst.values()), abs=1e-9)


def test_increase_would_change_the_shares(server: Prometheus, where: Context) -> None:
    """Why growth() is written as it is: extrapolation is cut short where a counter was near zero."""
    found = [life(where, "observer-a", "a1", 3640, -1, 15)]
    features(found, 900, shift=0.6, seed=1)
    for one in (*found, references(where, 15, 3600)):
        server.write(one.series())
    query = next(one for one in questions(guard("input-psi", where={"feature": "age"}), where, NOW))
    assert "last_over_time" in query.text
    counts = bins_seen(found, "age", BINS, NOW.timestamp() - 3600, NOW.timestamp())
    selector = f'modelrollout_observer_feature_total{{modeldeployment="{where.name}",feature="age"}}'
    (total,) = (one.samples[0][1] for one in server.query(f"sum(increase({selector}[1h]))", NOW).series)
    shares = {
        one.labels["bin"]: one.samples[0][1] / total
        for one in server.query(f"sum by (bin) (increase({selector}[1h]))", NOW).series
    }
    extrapolated = psi(np.array([shares[name] for name in BINS]), SHARES["age"])
    exact = psi(counts, SHARES["age"])
    (reading,) = evaluate(server, guard("input-psi", where={"feature": "age"}), where)
    assert reading.value == pytest.approx(exact, abs=1e-9)
    assert abs(extrapolated - exact) > 1e-6


def test_counts_of_an_older_profile_are_left_out(server: Prometheus, where: Context) -> None:
    """With the profile the edges change: the same bin is another one."""
    older, newer = life(where, "observer-a", "a1", 3000, 1200, 15), life(where, "observer-a", "a2", 1190, -1, 15)
    features([newer], 800, shift=0.0, seed=2)
    for at in range(2000):
        older.count(older.start + at * 0.8, counter("feature_total", profile="p0", feature="age", bin="missing"))
        older.count(older.start + at * 0.8, counter("feature_rows_total", profile="p0"))
    gauges = references(where, 15, 1190, profile="p1")
    for one in (older, newer, gauges, references(where, 15, 3000, profile="p0", until=1205)):
        server.write(one.series())
    counts = bins_seen([newer], "age", BINS, NOW.timestamp() - 3600, NOW.timestamp())
    (reading,) = evaluate(server, guard("input-psi", where={"feature": "age"}), where)
    assert reading.value == pytest.approx(psi(counts, SHARES["age"]), abs=1e-9)


def test_each_of_the_last_evaluations_has_its_own_value(server: Prometheus, where: Context) -> None:
    """An arm's windows are cut where its traffic began, so they are of several lengths."""
    where = replace(where, since=NOW - timedelta(seconds=125))
    one = life(where, "observer-a", "a1", 3600, -1, 1)
    random = np.random.default_rng(3)
    for at in np.sort(random.uniform(one.start, one.end, 4000)):
        late = at > one.end - 80
        one.count(float(at), compared(where))
        if random.random() < (0.4 if late else 0.1):
            one.count(float(at), compared(where, "label_flips_total", **{"from": "cat", "to": "dog"}))
    server.write(one.series())
    asked = guard("label-flips", timedelta(seconds=100), breaches=3, of=5)
    found = evaluate(server, asked, where)
    assert len(found) == 5
    assert len({query.text for query in questions(asked, where, NOW)}) > 2
    for place, reading in enumerate(found):
        at = NOW.timestamp() - 10 * place
        start = at - min(100, rounded(timedelta(seconds=at - where.since.timestamp())).total_seconds())
        seen = [labels["__name__"].rpartition("observer_")[2] for labels, _ in one.seen(start, at)]
        flips, both = seen.count("label_flips_total"), seen.count("compared_total")
        assert reading.value == pytest.approx(flips / both, abs=1e-12)
        assert reading.samples == both
    assert (found[0].value or 0) > (found[4].value or 0)


def compared(where: Context, name: str = "compared_total", **labels: str) -> Labels:
    named = {"__name__": f"modelrollout_observer_{name}", "revision": where.revision, "stable": where.stable}
    return {**named, **labels}


def test_no_flip_is_zero_and_no_comparison_is_nothing(server: Prometheus, where: Context) -> None:
    one = life(where, "observer-a", "a1", 600, -1, 5)
    for at in range(50):
        one.count(one.start + 3 * at, compared(where))
    one.from_zero = [compared(where)]
    server.write(one.series())
    (reading,) = evaluate(server, guard("label-flips"), where)
    assert (reading.value, reading.samples) == (0.0, 50)
    (reading,) = evaluate(server, guard("answer-differences"), where)
    assert (reading.value, reading.samples) == (0.0, 50)
    (other,) = evaluate(server, guard("label-flips"), where.other)
    assert (other.value, other.samples) == (None, 0)
    assert "nothing was counted in the last 1h" in other.why
    (late,) = evaluate(server, guard("label-flips", timedelta(minutes=5)), where)
    assert (late.value, late.samples) == (None, 0)


@pytest.mark.parametrize("observer", ["new", "old"])
def test_a_request_counts_once_however_many_outputs_differ_and_the_worst_one_is_named(
    server: Prometheus, where: Context, observer: str
) -> None:
    """An older observer tells of no output: the same value, without a name."""
    one = life(where, "observer-a", "a1", 600, -1, 5)
    for at in range(50):
        moment = one.start + 3 * at
        one.count(moment, compared(where))
        outputs = [name for name, every in (("SCORES", 5), ("CLASS", 10)) if at % every == 0]
        if outputs:
            one.count(moment, compared(where, "differing_requests_total"))
        for output in outputs if observer == "new" else ():
            one.count(moment, compared(where, "differing_outputs_total", output=output))
    server.write(one.series())
    (reading,) = evaluate(server, guard("answer-differences"), where)
    assert (reading.value, reading.samples) == (pytest.approx(0.2), 50), "10 of 50 requests, 15 answers of outputs"
    assert reading.subject == ("worst output SCORES: 0.2" if observer == "new" else "")


def test_the_query_of_an_older_operator_has_the_same_value_beside_the_new_series(
    server: Prometheus, where: Context
) -> None:
    new = life(where, "observer-a", "a1", 600, -1, 5)
    for at in range(20):
        moment = new.start + 3 * at
        new.count(moment, compared(where))
        if at % 2:
            new.count(moment, compared(where, "differing_requests_total"))
            for output in ("SCORES", "CLASS"):
                new.count(moment, compared(where, "differing_outputs_total", output=output))
                new.count(moment, compared(where, "differing_total", output=output, kind="value"))
    server.write(new.series())
    # As the catalog had it before outputs were told apart.
    own = '{modeldeployment="$name",revision="$revision",stable="$stable"}'
    one, both = (f"sum(growth(modelrollout_observer_{name}_total{own}))" for name in ("differing_requests", "compared"))
    before = queried()["answer-differences"].compiled(f"({one} or 0 * {both}) / ({both} > 0)", where, HOUR, {})
    (series,) = server.query(before, NOW).series
    (reading,) = evaluate(server, guard("answer-differences"), where)
    assert series.samples[0][1] == reading.value == 0.5


def test_outputs_of_an_arm_are_its_own(server: Prometheus, where: Context) -> None:
    one = life(where, "observer-a", "a1", 600, -1, 5)
    shares, names = np.array([0.7, 0.2, 0.1, 0.0]), ["approve", "review", "decline", "other"]
    counts = {where.revision: [30, 60, 10, 0], where.stable: [69, 22, 9, 0]}
    for revision, amounts in counts.items():
        for name, amount in zip(names, amounts, strict=True):
            if amount:
                labels = {"revision": revision, "output": "DECISION", "bin": name}
                one.count(one.start + 60, counter("output_total", **labels), amount)
    for name, share in zip(names, shares, strict=True):
        one.count(one.start, counter("output_reference", output="DECISION", bin=name), share)
    server.write(one.series())
    for context in (where, where.other):
        (reading,) = evaluate(server, guard("output-psi"), context)
        assert reading.value == pytest.approx(psi(np.array(counts[context.revision]), shares), abs=1e-9)
        assert (reading.samples, reading.subject) == (100, "output DECISION")


PAIRS = {("cat", "cat"): 40, ("cat", "dog"): 10, ("dog", "dog"): 25, ("dog", "cat"): 5, ("eel", "cat"): 4}


def test_quality_is_what_the_joined_labels_say(server: Prometheus, where: Context) -> None:
    one = life(where, "observer-a", "a1", 600, -1, 5)
    for place, ((label, predicted), amount) in enumerate(PAIRS.items()):
        right = "true" if label == predicted else "false"
        labels = {"revision": where.revision, "label": label, "predicted": predicted, "correct": right}
        one.count(one.start + 40 + place, counter("labels_total", slice="eu", **labels), amount)
        one.count(one.start + 50 + place, counter("labels_total", slice="us", **labels), 1)
    server.write(one.series())

    def read(sli: str, **where_labels: str) -> tuple[object, ...]:
        (reading,) = evaluate(server, guard(sli, max=None, min=0.5, where=where_labels), where)
        return reading.value, reading.samples, reading.subject

    assert read("accuracy") == (pytest.approx((65 + 2) / (84 + 5)), 89, "")
    assert read("accuracy", slice="eu") == (pytest.approx(65 / 84), 84, "slice eu")
    assert read("recall", slice="eu", label="cat") == (pytest.approx(40 / 50), 50, "slice eu, label cat")
    # No eel was ever found: a recall of 0 and not an absent one.
    assert read("recall", slice="eu") == (0.0, 4, "slice eu, label eel")
    assert read("precision", slice="eu", label="cat") == (pytest.approx(40 / 49), 49, "slice eu, label cat")
    assert read("precision", slice="eu", label="dog") == (pytest.approx(25 / 35), 35, "slice eu, label dog")
    assert read("precision", slice="eu") == (pytest.approx(25 / 35), 35, "slice eu, label dog")
    assert read("recall", slice="asia") == (None, 0, "")


def test_calibration_error_is_the_mean_gap_of_confidence_and_accuracy(server: Prometheus, where: Context) -> None:
    one = life(where, "observer-a", "a1", 600, -1, 5)
    bins = {"0.5": (10, 3, 4.6), "0.8": (50, 45, 37.5), "1": (40, 40, 39.2)}
    for name, (total, right, confidence) in bins.items():
        labels = {"revision": where.revision, "slice": "all", "bin": name}
        one.count(one.start + 30, counter("calibration_total", correct="true", **labels), right)
        one.count(one.start + 30, counter("calibration_total", correct="false", **labels), total - right)
        one.count(one.start + 30, counter("calibration_confidence_sum", **labels), confidence)
    server.write(one.series())
    expected = sum(total * abs(right / total - confidence / total) for total, right, confidence in bins.values()) / 100
    (reading,) = evaluate(server, guard("calibration-error"), where)
    assert reading.value == pytest.approx(expected, abs=1e-12)
    assert reading.samples == 100


def test_the_series_of_another_namespace_do_not_count(server: Prometheus, where: Context) -> None:
    one = life(replace(where, namespace="theirs"), "observer-a", "a1", 600, -1, 5)
    for at in range(50):
        one.count(one.start + 3 * at, compared(where))
    server.write(one.series())
    (mine,) = evaluate(server, guard("label-flips"), where)
    assert mine.value is None
    (all_of_them,) = evaluate(server, guard("label-flips"), replace(where, enforce_namespace=False))
    assert (all_of_them.value, all_of_them.samples) == (0.0, 50)


def test_triton_by_the_pods_of_the_arm(server: Prometheus, where: Context) -> None:
    """A pod whose server restarts in place goes on from 0; a ModelDeployment named like our revision is another one."""
    names = {
        f"{where.revision}-756c694b87-f2lth": 1,
        f"{where.revision}-6cd79f5b96-zkxqp": 2,
        f"{where.stable}-756c694b87-f2lth": 50,
        f"{where.revision}-0123456789-756c694b87-f2lth": 50,
    }
    now = NOW.timestamp()

    def at(pod: str, name: str, values: list[float], **labels: str) -> tuple[Labels, list[tuple[float, float]]]:
        place = {"namespace": "demo", "pod": pod, "instance": pod, "job": "triton", "model": "m", "version": "1"}
        times = [now - 5 - 10 * age for age in reversed(range(len(values)))]
        return {"__name__": name, **place, **labels}, list(zip(times, values, strict=True))

    for pod, many in names.items():
        steps = [100.0, 100.0, 104.0, 2.0 * many, 6.0 * many]
        server.write(
            [
                at(pod, "nv_inference_request_success", steps),
                at(pod, "nv_inference_request_failure", [0, 0, 0, 0, float(many)], reason="BACKEND"),
                at(pod, "nv_inference_request_failure", [0, 0, 0, 0, 0], reason="REJECTED"),
                at(pod, "nv_inference_queue_duration_us", [one * 3000 for one in steps]),
                at(pod, "nv_inference_compute_input_duration_us", [one * 1000 for one in steps]),
                at(pod, "nv_inference_compute_infer_duration_us", [one * 8000 for one in steps]),
                at(pod, "nv_inference_compute_output_duration_us", [one * 500 for one in steps]),
                at(pod, "nv_inference_count", [one * 4 for one in steps]),
                at(pod, "nv_inference_exec_count", steps),
                at(pod, "nv_inference_pending_request_count", [7.0 * many, 0, 2.0 * many, 0, 4.0 * many]),
                at(pod, "nv_gpu_utilization", [0.9, 0.2, 0.2, 0.2, 0.2 * many], gpu_uuid="gpu-0"),
                at(pod, "nv_gpu_memory_used_bytes", [9.0, 2.0, 3.0, 2.0, 2.0 + many], gpu_uuid="gpu-0"),
                at(pod, "nv_gpu_memory_total_bytes", [10.0, 10.0, 10.0, 10.0, 10.0], gpu_uuid="gpu-0"),
            ]
        )
    # The window begins after the first scrape of five, 45 s ago; the drop to 2 (or 4) is a restart.
    window = timedelta(seconds=42)

    def read(sli: str, **labels: str) -> tuple[float | None, float | None]:
        (reading,) = evaluate(server, guard(sli, window, where=labels), where)
        return reading.value, reading.samples

    value, samples = read("triton-failure-ratio")
    assert (value, samples) == (pytest.approx(3 / 21), 21)
    assert read("triton-failure-ratio", reason="REJECTED") == (0.0, 21)
    assert read("triton-failure-ratio", reason="BACKEND", model="m") == (pytest.approx(3 / 21), 21)
    assert read("triton-failure-ratio", model="other")[0] is None
    assert read("triton-queue-time") == (pytest.approx(0.003), 18)
    assert read("triton-compute-time") == (pytest.approx(0.0095), 18)
    assert read("triton-batch-size") == (pytest.approx(4.0), 18)
    assert read("triton-pending-requests") == (pytest.approx((0 + 4 + 0 + 8) / 4), 18)
    assert read("gpu-utilization")[0] == pytest.approx((0.2 + 0.2 + 0.2 + 0.4) / 4)
    assert read("gpu-memory")[0] == pytest.approx(0.4)
