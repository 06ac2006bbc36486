"""Whatever begins to count from 0 is a series of its own, and tells when it began."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from modelrollout.observer.decoding import Inference
from modelrollout.observer.exposition import Exposition
from modelrollout.observer.registry import Registry
from modelrollout.observer.tensors import Tensor
from modelrollout.observer.wishes import Arms, Comparing, Labelling, Wish
from modelrollout.profile.making import Column, make
from modelrollout.profile.model import Profile

STARTED = "modelrollout_observer_started_timestamp_seconds"
DATA = np.linspace(0, 1, 200)
SCORES = np.stack([DATA, 1 - DATA], axis=1)
PROFILES = [make("digits", [Column("x", "X", (0,), data)], {"S": SCORES}) for data in (DATA, DATA**2)]
REVISIONS = [f"digits-{letter}" for letter in "abcdefg"]
GAUGES = ("reference", "pending_labels", "profile_", "queue_length", "lag_seconds", "started")

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class Stage:
    """One observed ModelDeployment whose time goes on with each thing that happens."""

    def __init__(self) -> None:
        self.time, self.ids = 1000.0, 0
        self.registry = Registry(lambda: self.time, lambda: 1e9 + self.time)
        self.exposition = Exposition(self.registry, "p", lambda: (0, 0.0))
        self.wish: Wish | None = None
        self.profile: Profile | None = PROFILES[0]

    def follow(self, wish: Wish | None) -> None:
        self.time += 10
        self.wish = wish
        self.registry.follow({"digits": wish} if wish is not None else {})
        self.use(self.profile)

    def use(self, profile: Profile | None) -> None:
        self.profile = profile
        if self.wish is not None:
            self.registry.targets["digits"].use(profile)

    def answer(self, place: float) -> None:
        """One request that all arms answer, and its true label."""
        self.time += 1
        if self.wish is None:
            return
        target, request = self.registry.targets["digits"], f"r{self.ids}"
        self.ids += 1
        rows = np.array([[place]])
        target.count("http", [Inference("digits", request, {"X": Tensor("X", "FP64", (1, 1), rows)})])
        scores = np.array([[place, 1 - place]])
        names = self.wish.arms.names
        answers = {name: {"S": Tensor("S", "FP64", (1, 2), scores[:, :: 1 - 2 * at])} for at, name in enumerate(names)}
        target.answered(request, answers, names, self.time)
        self.registry.label("digits", {"id": request, "label": 0})

    def scrape(self) -> Samples:
        """All counters, and the start of each; fails where one has no start or one of the future."""
        self.time += 5
        found: Samples = {}
        started: dict[str, float] = {}
        for family in text_string_to_metric_families(self.exposition.text()):
            for sample in family.samples:
                if sample.name == STARTED:
                    assert sample.labels["process"] not in started
                    started[sample.labels["process"]] = sample.value
                elif not any(part in sample.name for part in GAUGES):
                    found[sample.name, frozenset(sample.labels.items())] = sample.value
        for _, labels in found:
            assert started[dict(labels)["process"]] <= 1e9 + self.time
        assert set(started) == {dict(labels)["process"] for _, labels in found}
        return found


def fresh(candidate: str | None = None) -> Wish:
    arms = Arms("digits-a", candidate)
    return Wish("digits", "demo", "digits", frozenset(), arms, None, Comparing(5.0), Labelling(60.0, 100))


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("answer"), st.floats(0, 1, width=32)),
        st.tuples(st.just("answer"), st.floats(0, 1, width=32)),
        st.tuples(st.just("candidate"), st.sampled_from([*REVISIONS, None])),
        st.tuples(st.just("stable"), st.sampled_from(REVISIONS)),
        st.tuples(st.just("profile"), st.sampled_from([*PROFILES, None])),
        st.tuples(st.just("labels"), st.sampled_from([30.0, 60.0, None])),
        st.tuples(st.just("gone"), st.none()),
    ),
    max_size=40,
)


def walk(stage: Stage, steps: list[tuple[str, object]]) -> Iterator[None]:
    for what, value in steps:
        wish = stage.wish
        if what == "gone" or wish is None:
            stage.follow(None if what == "gone" else fresh())
        elif what == "answer":
            assert isinstance(value, float)
            stage.answer(value)
        elif what == "profile":
            stage.use(value)  # type: ignore[arg-type]
        elif what == "labels":
            stage.follow(replace(wish, labelling=Labelling(value, 100) if value else None))  # type: ignore[arg-type]
        else:
            stage.follow(replace(wish, arms=replace(wish.arms, **{what: value})))
        yield


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_no_counter_ever_falls_or_begins_anew_under_the_labels_it_had(steps: list[tuple[str, object]]) -> None:
    stage = Stage()
    stage.follow(fresh("digits-b"))
    seen: Samples = {}
    before: Samples = {}
    for _ in walk(stage, steps):
        found = stage.scrape()
        for key, value in found.items():
            assert value >= seen.get(key, 0.0), key
            assert key in before or key not in seen, f"{key} came back"
        seen.update(found)
        before = found


def test_a_start_is_when_counting_began_however_late_the_first_scrape_is() -> None:
    stage = Stage()
    stage.follow(fresh("digits-b"))
    began = 1e9 + stage.time
    for place in range(100):
        stage.answer(place / 100)
    text = stage.exposition.text()
    starts = {float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(STARTED)}
    assert max(starts) <= began + 1
    assert 'modelrollout_observer_feature_rows_total{modeldeployment="digits"' in text
