"""The counters as Prometheus' text: written from plain arrays, so that a scrape of thousands of bins stays cheap.

Everything is a counter or gauge, histograms too: Prometheus rewrites ``le`` of a histogram, and the reference's would
no longer be the same.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from modelrollout.observer.comparing import Kind
from modelrollout.observer.counting import Binning, Part, cumulative
from modelrollout.observer.intake import Protocol
from modelrollout.observer.labelling import CALIBRATION_BINS, Calibration, Joiner, Refusal
from modelrollout.observer.lives import Life
from modelrollout.observer.registry import NOBODY, Registry
from modelrollout.observer.target import Compared, Outputs, Plan, Target
from modelrollout.profile.model import MISSING, OTHER, Numeric, text

PREFIX = "modelrollout_observer_"
OUTCOMES = ("counted", "dropped", "malformed", "too_large", "unknown_model", "unsupported", "wrong_type")

_HELP = {
    "started_timestamp_seconds": "When the counters with this label process began from 0.",
    "requests_total": "Mirrored requests, by what became of them.",
    "feature_rows_total": "Rows whose features were counted; each is in one bin of every feature.",
    "feature_total": "Values of a feature in a bin of the profile.",
    "feature_bucket": "Values of a numeric feature at or below an edge of the profile.",
    "feature_reference": "Share of the profile's values in a bin.",
    "feature_reference_bucket": "Share of the profile's values at or below an edge, of those that are there.",
    "output_total": "Answers of a revision in a bin of the profile.",
    "output_bucket": "Numbers of a revision's answers at or below an edge of the profile.",
    "output_reference": "Share of the profile's answers in a bin.",
    "output_reference_bucket": "Share of the profile's answers at or below an edge, of those that are there.",
    "asked_total": "Requests that a revision was asked, by whether it answered.",
    "compared_total": "Requests that both arms answered.",
    "differing_outputs_total": "Requests that both arms answered, with a difference in this output.",
    "differing_total": "Requests whose answers differ in an output, by kind; error: only stable answered.",
    "differing_requests_total": "Requests that both arms answered, with any difference beyond the tolerance.",
    "label_flips_total": "Requests whose label is another one.",
    "labels_total": "True labels, joined with what a revision had answered.",
    "calibration_total": "Labelled answers by the confidence that the revision gave them.",
    "calibration_confidence_sum": "Sum of the confidences of the labelled answers of a bin.",
    "refused_total": "What was refused, and why.",
    "pending_labels": "Answers that wait for their labels, those already labelled included.",
    "profile_info": "1 for the profile that is counted by; samples is how many rows it was made of.",
    "profile_misfits": "Parts of the profile that do not fit the model; absent while that is not known.",
    "profile_unusable": "1 where the profile that the spec names cannot be used, and why; nothing is counted by bins.",
    "queue_length": "Mirrored requests that wait to be counted.",
    "lag_seconds": "How long the oldest request of the last batch had waited.",
}
_GAUGES = frozenset(
    {
        "started_timestamp_seconds",
        "pending_labels",
        "profile_info",
        "profile_misfits",
        "profile_unusable",
        "queue_length",
        "lag_seconds",
    }
)

Line = tuple[str, str]
"""Name of the family (without the prefix), and a whole line."""


class Exposition:
    """Writes all counters of a registry.

    Parameters
    ----------
    process
        Short identity of this process: a restart begins new series. Counts that begin anew in it have its number added.
    load
        Returns the length of the queue and the lag in seconds.

    """

    def __init__(self, registry: Registry, process: str, load: Callable[[], tuple[int, float]]) -> None:
        self._registry = registry
        self._process = process
        self._load = load
        self._plans: dict[str, _Static] = {}
        self._lock = threading.Lock()

    def text(self) -> str:
        """Everything, in Prometheus' text format 0.0.4; families together. Any thread may ask, one is answered."""
        with self._lock:
            return self._text()

    def _text(self) -> str:
        families: dict[str, list[str]] = {name: [] for name in _HELP}
        for name, line in self._lines():
            families[name].append(line)
        written: list[str] = []
        for name, lines in families.items():
            if lines:
                kind = _kind(name)
                written.append(f"# HELP {PREFIX}{name} {_HELP[name]}\n# TYPE {PREFIX}{name} {kind}\n")
                written += lines
        return "".join(written)

    def _lines(self) -> Iterator[Line]:
        registry = self._registry
        length, lag = self._load()
        yield _line("queue_length", {"process": self._process}, length)
        yield _line("lag_seconds", {"process": self._process}, round(lag, 6))
        targets = dict(registry.targets)
        nobody = self._begun(NOBODY, registry.life)
        yield _started(nobody, registry.life)
        yield from _requests(nobody, registry.stray)
        yield from _refused(nobody, registry.refused)
        self._plans = {name: known for name, known in self._plans.items() if name in targets}
        for name, target in targets.items():
            yield from self._target(name, target)

    def _target(self, name: str, target: Target) -> Iterator[Line]:
        base = self._begun(name, target.life)
        yield _started(base, target.life)
        yield from _requests(base, target.requests)
        yield from _refused(base, target.refused)
        asked = dict(target.asked)
        for revision, life in list(target.asking.items()):
            own = self._begun(name, life)
            yield _started(own, life)
            for outcome in ("answered", "failed"):
                labels = {**own, "revision": revision, "outcome": outcome}
                yield _line("asked_total", labels, asked.get((revision, outcome), 0))
        for (revision, stable), compared in list(target.comparisons.items()):
            own = self._begun(name, compared.life)
            yield _started(own, compared.life)
            yield from _comparison({**own, "revision": revision, "stable": stable}, compared)
        joiner = target.joiner
        if joiner is not None:
            yield _line("pending_labels", base, joiner.pending)
            for revision, life in list(joiner.lives.items()):
                own = self._begun(name, life)
                yield _started(own, life)
                yield from _joined({**own, "revision": revision}, revision, joiner)
        plan = target.plan
        features, outputs = target.features, dict(target.outputs)
        if target.wish.profile is not None:
            yield _line("profile_unusable", {**base, "reason": target.unusable}, int(bool(target.unusable)))
        if target.misfits is not None:
            yield _line("profile_misfits", {**base, "profile": plan.hash if plan else ""}, target.misfits)
        # Another profile was taken up meanwhile: the next scrape has all of its bins.
        if plan is None or target.plan is not plan:
            return
        known = self._plans.get(name)
        if known is None or known.plan is not plan:
            known = self._plans[name] = _Static(plan, self._begun(name, plan.life))
        yield _started(self._begun(name, plan.life), plan.life)
        yield from known.lines(features.copy())
        for revision, counted in outputs.items():
            own = self._begun(name, counted.life)
            yield _started(own, counted.life)
            yield from known.outputs({**own, "profile": plan.hash, "revision": revision}, counted)
        known.keep(outputs)

    def _begun(self, name: str, life: Life) -> dict[str, str]:
        """The labels of counts of this life."""
        return {"modeldeployment": name, "process": f"{self._process}-{life.number}"}


def _started(labels: Mapping[str, str], life: Life) -> Line:
    return _line("started_timestamp_seconds", labels, life.began)


def _requests(labels: Mapping[str, str], counted: Mapping[tuple[str, str], int]) -> Iterator[Line]:
    for protocol in Protocol:
        for outcome in OUTCOMES:
            own = {**labels, "protocol": protocol, "outcome": outcome}
            yield _line("requests_total", own, counted.get((protocol, outcome), 0))


def _refused(labels: Mapping[str, str], counted: Mapping[tuple[str, str], int]) -> Iterator[Line]:
    found = {**{("label", reason.value): 0 for reason in Refusal}, **dict(counted)}
    for (what, reason), number in found.items():
        yield _line("refused_total", {**labels, "what": what, "reason": reason}, number)


class _Static:
    """What of a plan's lines never changes: the references as they are, the counters without their numbers."""

    def __init__(self, plan: Plan, labels: Mapping[str, str]) -> None:
        self.plan = plan
        shared = {"modeldeployment": labels["modeldeployment"], "profile": plan.hash}
        counter = {**labels, **shared}
        self._base = counter
        self._references = [
            *_references("feature", plan.inputs, shared),
            *_references("output", plan.outputs, shared),
        ]
        for part, _ in plan.labels:
            for bin_name, share in zip(part.bins, part.reference, strict=True):
                labels = {**shared, "output": part.name, "bin": bin_name}
                self._references.append(_line("output_reference", labels, share))
        info = {**shared, "model": plan.profile.model, "samples": str(plan.profile.samples)}
        self._references.append(_line("profile_info", info, 1))
        self._features = _Binned("feature", plan.inputs, counter)
        self._outputs: dict[Life, _Binned] = {}

    def lines(self, features: NDArray[np.int64]) -> Iterator[Line]:
        yield from self._references
        if self._features.rows is not None:
            yield _line("feature_rows_total", self._base, int(features[self._features.rows].sum()))
        yield from self._features.lines(features)

    def outputs(self, labels: Mapping[str, str], counted: Outputs) -> Iterator[Line]:
        if counted.life not in self._outputs:
            self._outputs[counted.life] = _Binned("output", self.plan.outputs, labels)
        yield from self._outputs[counted.life].lines(counted.numbers.copy())
        for (part, _), counts in zip(self.plan.labels, counted.labels, strict=True):
            for bin_name, number in zip(part.bins, counts.tolist(), strict=True):
                yield _line("output_total", {**labels, "output": part.name, "bin": bin_name}, number)

    def keep(self, outputs: Mapping[str, Outputs]) -> None:
        kept = {counted.life for counted in outputs.values()}
        self._outputs = {life: known for life, known in self._outputs.items() if life in kept}


class _Binned:
    """The counter lines of one binning, made once but for their numbers."""

    def __init__(self, what: str, binning: Binning, labels: Mapping[str, str]) -> None:
        self._total, self._bucket = f"{what}_total", f"{what}_bucket"
        self._parts: list[tuple[Part, list[str], list[str]]] = []
        # Every part counts every row once, in one bin or another.
        first = next(iter(binning.parts), None)
        self.rows = None if first is None else slice(first.start, first.start + first.size)
        for part in binning.parts:
            own = {**labels, what: part.name}
            totals = [_head(self._total, {**own, "bin": name}) for name in part.binned.bins]
            buckets = [_head(self._bucket, {**own, "le": edge}) for edge in _edges(part)]
            self._parts.append((part, totals, buckets))

    def lines(self, counts: NDArray[np.int64]) -> Iterator[Line]:
        for part, totals, buckets in self._parts:
            found = counts[part.start : part.start + part.size]
            for head, number in zip(totals, found.tolist(), strict=True):
                yield self._total, f"{head} {number}\n"
            if buckets:
                for head, number in zip(buckets, cumulative(found), strict=True):
                    yield self._bucket, f"{head} {number}\n"


def _kind(name: str) -> str:
    """The type of a family. OpenMetrics lets a counter's name end in ``_total`` only."""
    if name in _GAUGES or "reference" in name:
        return "gauge"
    return "counter" if name.endswith("_total") else "untyped"


def _references(what: str, binning: Binning, labels: Mapping[str, str]) -> Iterator[Line]:
    for part in binning.parts:
        own = {**labels, what: part.name}
        for name, share in zip(part.binned.bins, part.binned.reference, strict=True):
            yield _line(f"{what}_reference", {**own, "bin": name}, share)
        if isinstance(part.binned, Numeric):
            there = 1.0 - part.binned.missing
            total = 0.0
            for edge, share in zip(_edges(part), part.binned.shares, strict=True):
                total += share
                value = 1.0 if edge == "+Inf" else min(total / there, 1.0) if there > 0 else 0.0
                yield _line(f"{what}_reference_bucket", {**own, "le": edge}, value)


def _edges(part: Part) -> list[str]:
    return [name for name in part.binned.bins if name != MISSING] if isinstance(part.binned, Numeric) else []


def _comparison(labels: Mapping[str, str], compared: Compared) -> Iterator[Line]:
    yield _line("compared_total", labels, compared.compared)
    yield _line("differing_requests_total", labels, compared.differing)
    kinds = dict(compared.kinds)
    yield _line("differing_total", {**labels, "kind": Kind.ERROR, "output": ""}, kinds.get(("", Kind.ERROR), 0))
    for output, number in dict(compared.outputs).items():
        yield _line("differing_outputs_total", {**labels, "output": output}, number)
        for kind in Kind:
            if kind is not Kind.ERROR:
                own = {**labels, "kind": kind, "output": output}
                yield _line("differing_total", own, kinds.get((output, kind), 0))
    # From 0, so that no flip at all is a number too.
    for (before, after), number in ({(OTHER, OTHER): 0} | dict(compared.flips)).items():
        yield _line("label_flips_total", {**labels, "from": before, "to": after}, number)


def _joined(labels: Mapping[str, str], revision: str, joiner: Joiner) -> Iterator[Line]:
    for (who, part, name, predicted, right), number in list(joiner.joined.items()):
        if who == revision:
            own = {"slice": part, "label": name, "predicted": predicted, "correct": _truth(right)}
            yield _line("labels_total", {**labels, **own}, number)
    for (who, part), counted in list(joiner.calibration.items()):
        if who == revision:
            yield from _calibration({**labels, "slice": part}, counted)


def _calibration(labels: Mapping[str, str], counted: Calibration) -> Iterator[Line]:
    for place in range(CALIBRATION_BINS):
        own = {**labels, "bin": text((place + 1) / CALIBRATION_BINS)}
        for right, numbers in ((True, counted.right), (False, counted.wrong)):
            yield _line("calibration_total", {**own, "correct": _truth(right)}, int(numbers[place]))
        yield _line("calibration_confidence_sum", own, float(counted.confidence[place]))


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _line(name: str, labels: Mapping[str, str], value: float) -> Line:
    return name, f"{_head(name, labels)} {value!r}\n"


def _head(name: str, labels: Mapping[str, str]) -> str:
    return f"{PREFIX}{name}{{{','.join(_pairs(labels.items()))}}}"


def _pairs(items: Iterable[tuple[str, str]]) -> Iterator[str]:
    for key, value in items:
        escaped = str(value).replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
        yield f'{key}="{escaped}"'
