"""What the client saw: one record an answer, and the sums the view, the report and the tests are made of."""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

NO_REVISION = "none"
"""The name under which answers without a revision header are counted (no answer at all included)."""

GOOD = frozenset({"200", "OK"})
TRITON_FAILURE = "Failed to process the request(s) for model"
"""How Triton's sentence begins when the model's own code raised."""


class Answer(NamedTuple):
    """One request and what came of it.

    ``sent`` and ``at`` are unix seconds (request out, answer complete). ``status`` is an HTTP status, the name
    of a gRPC code, or ``timeout``/``connection`` where no answer came; ``text`` is the start of an error.
    """

    sent: float
    at: float
    status: str
    revision: str | None
    truth: int
    label: int | None
    text: str = ""

    @property
    def good(self) -> bool:
        """Whether the model answered."""
        return self.status in GOOD

    @property
    def latency(self) -> float:
        """Seconds from request to answer."""
        return self.at - self.sent


def made_by_model(answer: Answer) -> bool:
    """Whether an error is the model's own: Triton's sentence about its code, from a named revision.

    The header alone proves nothing: the gateway also puts it on answers it makes itself (``upstream connect error``).
    """
    return answer.revision is not None and TRITON_FAILURE in answer.text


def failed_by_traffic(answers: Iterable[Answer], faulty: Collection[str]) -> list[Answer]:
    """Every failure except the errors made by the models in ``faulty`` themselves."""
    return [a for a in answers if not a.good and not (a.revision in faulty and made_by_model(a))]


@dataclass(frozen=True)
class Bin:
    """One stretch of time of one revision: answers, errors among them, 99th percentile in seconds."""

    start: float
    requests: int
    errors: int
    p99: float | None


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Recording:
    """Answers in the order they came. ``held_back`` counts ticks not sent because too many were under way."""

    def __init__(self) -> None:
        self.answers: list[Answer] = []
        self.held_back = 0

    def add(self, answer: Answer) -> None:
        """Note one answer."""
        self.answers.append(answer)

    def between(self, start: float, end: float) -> list[Answer]:
        """Answers that came in [start, end)."""
        first = bisect.bisect_left(self.answers, start, key=lambda a: a.at)
        last = bisect.bisect_left(self.answers, end, key=lambda a: a.at)
        return self.answers[first:last]

    def revisions(self) -> list[str]:
        """Every revision that answered, in order of appearance."""
        return list(dict.fromkeys(a.revision for a in self.answers if a.revision is not None))

    def by_revision(self) -> dict[str, dict[str, int]]:
        """Counts by revision and status, as the report wants them."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for answer in self.answers:
            counts[answer.revision or NO_REVISION][answer.status] += 1
        return {revision: dict(sorted(statuses.items())) for revision, statuses in counts.items()}

    def accuracy(self, revision: str) -> float | None:
        """The share of right labels among the answers of one revision; None when it never answered."""
        answered = [a for a in self.answers if a.revision == revision and a.good]
        if not answered:
            return None
        return sum(a.label == a.truth for a in answered) / len(answered)

    def last_answer(self, revision: str) -> float | None:
        """When the last answer of a revision came (unix seconds)."""
        return next((a.at for a in reversed(self.answers) if a.revision == revision), None)

    def bins(self, revision: str | None, start: float, end: float, width: float = 1.0) -> list[Bin]:
        """What one revision did between ``start`` and ``end``, in stretches of ``width`` seconds."""
        count = max(0, int((end - start) / width))
        groups: list[list[Answer]] = [[] for _ in range(count)]
        for answer in self.between(start, start + count * width):
            if answer.revision == revision:
                groups[min(count - 1, int((answer.at - start) / width))].append(answer)
        return [summed(group, start + i * width) for i, group in enumerate(groups)]

    def recent(self, now: float, seconds: float = 3.0) -> dict[str, Bin]:
        """The last seconds of every revision seen in them."""
        groups: dict[str, list[Answer]] = defaultdict(list)
        for answer in self.between(now - seconds, now + 1):
            groups[answer.revision or NO_REVISION].append(answer)
        return {revision: summed(group, now - seconds) for revision, group in groups.items()}


def summed(answers: list[Answer], start: float) -> Bin:
    """Sum up some answers."""
    errors = sum(not a.good for a in answers)
    return Bin(start, len(answers), errors, percentile([a.latency for a in answers], 0.99))
