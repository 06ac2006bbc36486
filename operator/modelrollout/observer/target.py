"""One observed ModelDeployment: its plan of counting, its counts, and what its arms said."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from modelrollout.observer.comparing import Answer, Comparer, Kind
from modelrollout.observer.counting import Binning, LabelBins, WrongTypeError, labels_of
from modelrollout.observer.decoding import Inference
from modelrollout.observer.labelling import (
    REVISION_LIMIT,
    Joiner,
    Names,
    Prediction,
    confidences_of,
)
from modelrollout.observer.lives import Life, Lives
from modelrollout.observer.rates import Bucket
from modelrollout.observer.wishes import Wish
from modelrollout.profile.model import LabelOutput, NumericOutput, Profile, dump

FLIP_LIMIT = 32
OUTPUT_LIMIT = 32
_HASH_LENGTH = 8


@dataclass
class Outputs:
    """Counts of one revision's answers: of its numbers (flat) and of its labels (by output)."""

    life: Life
    numbers: NDArray[np.int64]
    labels: list[NDArray[np.int64]]


@dataclass
class Compared:
    """Answers of two arms to the same requests.

    ``differing`` counts a request once, ``outputs`` once for each output that differs, ``kinds`` once for each output
    and way in which it does; that an arm did not answer is of no output.
    """

    life: Life
    compared: int = 0
    differing: int = 0
    outputs: Counter[str] = field(default_factory=Counter)
    kinds: Counter[tuple[str, Kind]] = field(default_factory=Counter)
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)


class Plan:
    """A profile, made ready for counting, and when that began. ``None``: nothing is counted by bins."""

    def __init__(self, profile: Profile, life: Life) -> None:
        self.profile = profile
        self.life = life
        self.hash = hash_of(profile)
        self.inputs = Binning((part.name, part.input, part.index, part) for part in profile.features)
        numbers = [part for part in profile.outputs if isinstance(part, NumericOutput)]
        self.outputs = Binning((part.name, part.output, part.index, part) for part in numbers)
        self.labels = [(part, LabelBins(part)) for part in profile.outputs if isinstance(part, LabelOutput)]

    @property
    def label(self) -> LabelOutput | None:
        """The output that is the model's label."""
        return self.labels[0][0] if self.labels else None

    def new_outputs(self, life: Life) -> Outputs:
        """Counts of a revision that has not answered yet."""
        return Outputs(
            life,
            np.zeros(self.outputs.size, dtype=np.int64),
            [np.zeros(bins.size, dtype=np.int64) for _, bins in self.labels],
        )


def hash_of(profile: Profile) -> str:
    """What tells profiles apart."""
    return hashlib.sha256(dump(profile).encode()).hexdigest()[:_HASH_LENGTH]


class Target:
    """The counts of one ModelDeployment. ``now`` is in seconds of any clock that only goes forward.

    ``misfits`` is how many parts of its profile do not fit the model; None while nobody tells what the model is.
    ``unusable`` says in a word why the profile that it names cannot be used; empty where it can, or names none.
    """

    def __init__(self, wish: Wish, now: float, lives: Lives) -> None:
        self.wish = wish
        self.life = lives.begin()
        self._lives = lives
        self.requests: Counter[tuple[str, str]] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.asking: dict[str, Life] = {}
        """Since when a revision is asked."""
        self.refused: Counter[tuple[str, str]] = Counter()
        self.comparisons: dict[tuple[str, str], Compared] = {}
        self.outputs: dict[str, Outputs] = {}
        self.plan: Plan | None = None
        self.misfits: int | None = None
        self.unusable = ""
        self.features: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self.joiner: Joiner | None = None
        self.bucket: Bucket | None = None
        self._comparer = Comparer()
        self._classes = Names(FLIP_LIMIT)
        self._named = Names(OUTPUT_LIMIT)
        self._recent: list[str] = []
        self.follow(wish, now)

    def follow(self, wish: Wish, now: float) -> None:
        """Take over a changed wish; what is counted already stays."""
        before, self.wish = self.wish, wish
        comparing, labelling = wish.comparing, wish.labelling
        if comparing is None:
            self.bucket = None
        elif self.bucket is None or self.bucket.rate != comparing.per_second:
            self.bucket = Bucket(comparing.per_second, now)
        if labelling is None:
            self.joiner = None
        elif self.joiner is None or before.labelling != labelling:
            self.joiner = self._new_joiner(labelling.window, labelling.most)
        self._remember(wish.arms.names)
        self._compare_by()

    def use(self, profile: Profile | None) -> None:
        """Count by this profile from now on; counts of another one, and answers that wait, are forgotten."""
        before = self.plan.hash if self.plan is not None else None
        if before == (hash_of(profile) if profile is not None else None):
            return
        plan = Plan(profile, self._lives.begin()) if profile is not None else None
        # A scrape reads from another thread: a plan that it sees before and after has these counts.
        self.plan = None
        self.features = np.zeros(plan.inputs.size if plan else 0, dtype=np.int64)
        self.outputs = {}
        self.plan = plan
        # With their names: flips that stayed beside new ones would be more than there is room for.
        self.comparisons = {}
        self._classes = Names(FLIP_LIMIT, self._known_classes())
        self._named = Names(
            OUTPUT_LIMIT, tuple(dict.fromkeys(part.output for part in profile.outputs)) if profile else ()
        )
        if self.joiner is not None:
            self.joiner = self._new_joiner(self.joiner.window, self.joiner.most)
        self._remember(self.wish.arms.names)
        self._compare_by()

    def count(self, protocol: str, inferences: Sequence[Inference]) -> list[Inference]:
        """Count these requests; returns those that could be."""
        checked: list[tuple[Inference, int]] = []
        for inference in inferences:
            try:
                rows = self.plan.inputs.check(inference.inputs) if self.plan is not None else 1
            except WrongTypeError:
                self.requests[protocol, "wrong_type"] += 1
            else:
                checked.append((inference, rows))
        if self.plan is not None and checked:
            self.plan.inputs.count([(inference.inputs, rows) for inference, rows in checked], self.features)
        self.requests[protocol, "counted"] += len(checked)
        return [inference for inference, _ in checked]

    def answered(self, request: str, answers: Mapping[str, Answer | None], arms: tuple[str, ...], now: float) -> None:
        """Count what ``arms`` (stable first) said to the request with this id; None: that arm did not answer."""
        for revision, answer in answers.items():
            self.asked[revision, "answered" if answer is not None else "failed"] += 1
            if answer is not None:
                self._count_outputs(revision, answer)
        if len(arms) == 2:
            self._compare(arms[0], arms[1], answers.get(arms[0]), answers.get(arms[1]))
        if self.joiner is not None and request:
            predictions = [self._prediction(name, answer) for name, answer in answers.items() if answer is not None]
            self.joiner.remember(request, [each for each in predictions if each is not None], now)

    def _compare(self, stable: str, candidate: str, expected: Answer | None, given: Answer | None) -> None:
        if expected is None:
            return
        compared = self._comparison(candidate, stable)
        if given is None:
            compared.kinds["", Kind.ERROR] += 1
            return
        difference = self._comparer.compare(expected, given)
        compared.compared += 1
        compared.differing += any(difference.outputs.values())
        shown: dict[str, frozenset[Kind]] = {}
        for output, kinds in difference.outputs.items():
            name = self._named.let_in(output)
            shown[name] = shown.get(name, frozenset()) | kinds
        for name, kinds in shown.items():
            # From 0, so that an output that never differs is a number too.
            compared.outputs[name] += bool(kinds)
            compared.kinds.update((name, kind) for kind in kinds)
        if difference.flip is not None:
            before, after = difference.flip
            compared.flips[self._classes.shown(before), self._classes.shown(after)] += 1

    def _count_outputs(self, revision: str, answer: Answer) -> None:
        if self.plan is None:
            return
        counted = self.outputs.get(revision)
        if counted is None:
            counted = self.outputs[revision] = self.plan.new_outputs(self._lives.begin())
        tensors = dict(answer)
        if self.plan.outputs.size:
            try:
                rows = self.plan.outputs.check(tensors)
            except WrongTypeError:
                self.refused["output", "wrong_type"] += 1
            else:
                self.plan.outputs.count([(tensors, rows)], counted.numbers)
        for (part, bins), counts in zip(self.plan.labels, counted.labels, strict=True):
            tensor = answer.get(part.output)
            found = labels_of(tensor) if tensor is not None else [None]
            if found is None:
                self.refused["output", "wrong_type"] += 1
            else:
                bins.count(found, counts)

    def _prediction(self, revision: str, answer: Answer) -> Prediction | None:
        name = self._comparer.label_output(answer)
        labels = labels_of(answer[name]) if name is not None else None
        if labels is None:
            return None
        return Prediction(revision, tuple(labels), confidences_of(answer, len(labels)))

    def _compare_by(self) -> None:
        label = self.plan.label if self.plan is not None else None
        tolerances = self.wish.comparing.tolerances if self.wish.comparing is not None else ()
        self._comparer = Comparer(tolerances, label.output if label is not None else None)

    def _comparison(self, candidate: str, stable: str) -> Compared:
        found = self.comparisons.get((candidate, stable))
        if found is None:
            found = self.comparisons[candidate, stable] = Compared(self._lives.begin())
        return found

    def _new_joiner(self, window: float, most: int) -> Joiner:
        label = self.plan.label if self.plan is not None else None
        return Joiner(window, most, self._lives, self._known_classes(), rare=label is not None and label.other > 0)

    def _known_classes(self) -> tuple[str, ...]:
        label = self.plan.label if self.plan is not None else None
        return tuple(label.classes) if label is not None else ()

    def _remember(self, revisions: tuple[str, ...]) -> None:
        """Keep the counts of the last few revisions only, and show those of today's arms from 0."""
        self._recent = [*(name for name in self._recent if name not in revisions), *revisions][-REVISION_LIMIT:]
        kept = set(self._recent)
        if self.plan is not None:
            fresh = {name: self.plan.new_outputs(self._lives.begin()) for name in revisions if name not in self.outputs}
            self.outputs = {name: each for name, each in {**self.outputs, **fresh}.items() if name in kept}
        if len(revisions) == 2:
            self._comparison(revisions[1], revisions[0])
        self.comparisons = {key: each for key, each in self.comparisons.items() if set(key) <= kept}
        self.asking = {name: life for name, life in self.asking.items() if name in kept}
        for revision in revisions:
            if revision not in self.asking:
                self.asking[revision] = self._lives.begin()
            for outcome in ("answered", "failed"):
                self.asked.setdefault((revision, outcome), 0)
        self.asked = Counter({key: number for key, number in self.asked.items() if key[0] in kept})
        if self.joiner is not None:
            self.joiner.keep(kept)
