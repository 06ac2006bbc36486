"""Joins true labels that come later with what the arms had answered, within a bounded window and number.

Kept are request ids, labels and confidences of answers that wait; what leaves are counts by class and slice.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum

import numpy as np
from numpy.typing import NDArray

from modelrollout.observer.comparing import Answer
from modelrollout.observer.lives import Life, Lives
from modelrollout.profile.bins import code
from modelrollout.profile.making import probabilities
from modelrollout.profile.model import OTHER

CLASS_LIMIT, SLICE_LIMIT, REVISION_LIMIT = 64, 16, 4
CELL_LIMIT = 4096
"""Pairs of classes that are counted apart, over all slices and revisions; further ones are ``other``."""
ROW_LIMIT = 256
"""Answers with more rows than this wait for no label."""
CALIBRATION_BINS = 10
NO_SLICE = "none"
LONGEST_NAME = 63
LONGEST_LABEL = 128
"""Characters; an answer with a longer one waits for no label."""
ROWS_EACH = 2
"""Rows of all arms together that wait at most, for each answer that may."""
_SMALL = 1000

Labels = tuple[str | None, ...]


class Refusal(StrEnum):
    """Why a label was not joined."""

    MALFORMED = "malformed"
    UNKNOWN_ID = "unknown_id"
    DUPLICATE = "duplicate"
    TOO_LATE = "too_late"
    ROWS = "rows"
    WRONG_KIND = "wrong_kind"
    NOT_ASKED_FOR = "not_asked_for"


class _Kind(Enum):
    WHOLE = "whole number"
    FRACTION = "fraction"
    WORD = "word"


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one arm said: a label for each row, and the confidence of each where the output is a probability."""

    revision: str
    labels: Labels
    confidences: tuple[float, ...] | None = None


@dataclass(slots=True)
class _Waiting:
    until: float
    predictions: tuple[Prediction, ...]
    rows: int
    labelled: bool = False


@dataclass
class Calibration:
    """Of one revision and slice: predictions by confidence in ten bins, right and wrong, and the confidences' sum."""

    right: NDArray[np.int64]
    wrong: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @classmethod
    def empty(cls) -> Calibration:
        """Nothing counted."""
        return cls(
            np.zeros(CALIBRATION_BINS, dtype=np.int64),
            np.zeros(CALIBRATION_BINS, dtype=np.int64),
            np.zeros(CALIBRATION_BINS, dtype=np.float64),
        )


class Names:
    """The first so many names that were let in keep theirs; all others are ``other``."""

    def __init__(self, limit: int, known: Sequence[str] = ()) -> None:
        self._limit = limit
        self._names = set(known[:limit])

    def let_in(self, name: str) -> str:
        """The name, if it is known or there is room for it."""
        name = name[:LONGEST_NAME]
        if name not in self._names:
            if len(self._names) >= self._limit or name == OTHER:
                return OTHER
            self._names.add(name)
        return name

    def known(self, name: str | None) -> str:
        """The name, if it is known already."""
        return name[:LONGEST_NAME] if name is not None and name[:LONGEST_NAME] in self._names else OTHER

    def shown(self, name: str | None) -> str:
        """A model's own answer: small integers and places are let in, words must be known from elsewhere."""
        if name is not None and name.isdecimal() and len(name) <= 3 and int(name) < _SMALL:
            return self.let_in(name)
        return self.known(name)


class Joiner:
    """The answers of one model that wait for their labels.

    Parameters
    ----------
    window
        Seconds that an answer waits.
    most
        How many answers wait at most, and half of how many rows of all arms; the oldest go first.
    lives
        What tells counts that begin from 0 apart.
    classes
        Names of classes that are known from the profile.
    rare
        Whether the model has classes beyond these.

    """

    def __init__(
        self, window: float, most: int, lives: Lives, classes: Sequence[str] = (), *, rare: bool = False
    ) -> None:
        self.window, self.most = window, most
        self._lives = lives
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._rows = 0
        self._gone: OrderedDict[int, None] = OrderedDict()
        self._classes = Names(CLASS_LIMIT, classes)
        self._kinds = frozenset(_kind(name) for name in classes)
        self._rare = rare
        self._slices = Names(SLICE_LIMIT, (NO_SLICE,))
        self.joined: dict[tuple[str, str, str, str, bool], int] = {}
        self.calibration: dict[tuple[str, str], Calibration] = {}
        self.lives: dict[str, Life] = {}
        """Since when the counts of a revision are those of now."""

    @property
    def pending(self) -> int:
        """Answers that are remembered."""
        return len(self._waiting)

    def remember(self, request: str, predictions: Sequence[Prediction], now: float) -> bool:
        """Let the answers to ``request`` wait.

        False where they cannot: no id, one that is known, too many rows, a label that is too long.
        """
        self.expire(now)
        if not request or request in self._waiting or not predictions:
            return False
        if any(len(prediction.labels) > ROW_LIMIT for prediction in predictions):
            return False
        if any(len(label) > LONGEST_LABEL for each in predictions for label in each.labels if label is not None):
            return False
        rows = sum(len(prediction.labels) for prediction in predictions)
        self._waiting[request] = _Waiting(now + self.window, tuple(predictions), rows)
        self._rows += rows
        while len(self._waiting) > self.most or (self._rows > ROWS_EACH * self.most and len(self._waiting) > 1):
            self._drop(next(iter(self._waiting)))
        return True

    def expire(self, now: float) -> None:
        """Forget what has waited too long."""
        while self._waiting:
            request = next(iter(self._waiting))
            if self._waiting[request].until > now:
                return
            self._drop(request)

    def knows(self, request: str) -> bool:
        """Whether an answer to this request waits, was labelled or has waited too long."""
        return request in self._waiting or hash(request) in self._gone

    def label(self, request: str, truth: Sequence[str], part: str, now: float) -> Refusal | None:
        """Count the true labels of ``request`` (one a row); None where they were joined, else why not."""
        self.expire(now)
        waiting = self._waiting.get(request)
        if waiting is None:
            return Refusal.TOO_LATE if hash(request) in self._gone else Refusal.UNKNOWN_ID
        if waiting.labelled:
            return Refusal.DUPLICATE
        if any(len(prediction.labels) != len(truth) for prediction in waiting.predictions):
            return Refusal.ROWS
        if not all(self._can_be_right(name) for name in truth):
            return Refusal.WRONG_KIND
        waiting.labelled = True
        shown = self._slices.let_in(part) if part else NO_SLICE
        names = [self._classes.let_in(name) for name in truth]
        for prediction in waiting.predictions:
            self._count(prediction, truth, names, shown)
        waiting.predictions = ()
        self._rows -= waiting.rows
        waiting.rows = 0
        return None

    def keep(self, revisions: set[str]) -> None:
        """Forget the counts of all revisions but these."""
        self.joined = {key: count for key, count in self.joined.items() if key[0] in revisions}
        self.calibration = {key: count for key, count in self.calibration.items() if key[0] in revisions}
        self.lives = {name: life for name, life in self.lives.items() if name in revisions}

    def _count(self, prediction: Prediction, truth: Sequence[str], names: Sequence[str], part: str) -> None:
        if prediction.revision not in self.lives:
            self.lives[prediction.revision] = self._lives.begin()
        for row, (true, name) in enumerate(zip(truth, names, strict=True)):
            predicted = prediction.labels[row]
            right = predicted == true
            key = (prediction.revision, part, name, name if right else self._classes.shown(predicted), right)
            if key not in self.joined and len(self.joined) >= CELL_LIMIT:
                key = (prediction.revision, part, OTHER, OTHER, right)
            self.joined[key] = self.joined.get(key, 0) + 1
            if prediction.confidences is None:
                continue
            counted = self.calibration.setdefault((prediction.revision, part), Calibration.empty())
            confidence = min(max(prediction.confidences[row], 0.0), 1.0)
            place = min(int(confidence * CALIBRATION_BINS), CALIBRATION_BINS - 1)
            (counted.right if right else counted.wrong)[place] += 1
            counted.confidence[place] += confidence

    def _can_be_right(self, name: str) -> bool:
        """False where this is another output's label, or a code book's: by the kind of the classes."""
        kind, kinds = _kind(name), self._kinds
        if not kinds or kind in kinds:
            return True
        if _Kind.WORD in kinds:
            # A rare class among words may be written in digits.
            return self._rare or len(kinds) > 1
        return kind is _Kind.WHOLE

    def _drop(self, request: str) -> None:
        self._rows -= self._waiting.pop(request).rows
        self._gone[hash(request)] = None
        while len(self._gone) > self.most:
            self._gone.popitem(last=False)


def _kind(name: str) -> _Kind:
    if name.removeprefix("-").isdecimal():
        return _Kind.WHOLE
    number = None if name.lower() in ("true", "false") else code(name)
    return _Kind.FRACTION if number is not None and math.isfinite(number) else _Kind.WORD


def confidences_of(answer: Answer, rows: int) -> tuple[float, ...] | None:
    """The greatest probability of each row, of the first output (by name) whose rows are probabilities."""
    for name in sorted(answer):
        numbers = answer[name].numbers
        if numbers is None or numbers.ndim == 0 or numbers.size == 0 or numbers.shape[-1] < 2:
            continue
        flat = numbers.reshape(-1, numbers.shape[-1])
        if len(flat) == rows and probabilities(flat):
            return tuple(float(value) for value in flat.max(axis=1))
    return None
