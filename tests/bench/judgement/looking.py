"""The sequential test by itself: false alarms while it is looked at all the time, and requests until it is sure.

Counts are drawn, no Prometheus is asked: steps, looks and confidence are those of the suite. The same looks with a
fixed-sample test (two proportions, one-sided z) show what peeking costs, and how many requests such a test would need.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from modelrollout.evidence.statistics.difference import Chunk, rise
from modelrollout.evidence.statistics.starts import cuts
from tests.bench.judgement.verdicts import STEPS

RATE, EVERY = 100.0, 10.0
"""Requests a second of all users, and seconds between two looks."""

POWER = 0.95

Row = tuple[float, tuple[int, int], tuple[int, int]]
"""When it began, and requests of the candidate and of stable: good, bad."""


@dataclass(frozen=True)
class Looked:
    """One course of looks: when the test (and a z-test looked at as often) first refuted, in candidate's requests.

    None: it never did. ``requests`` are all of the candidate's.
    """

    ours: int | None
    naive: int | None
    requests: int


def look(base: float, more: float, least: float, confidence: float, random: np.random.Generator) -> Looked:
    """Look at one rollout until its last step is over; stable fails with ``base``, the candidate with ``more`` more."""
    rows: list[Row] = []
    begins = [0.0]
    for _, hold in STEPS[:-1]:
        begins.append(begins[-1] + hold)
    ours = naive = None
    requests, now = 0, 0.0
    for span, (percent, hold) in enumerate(STEPS):
        for _ in range(int(hold / EVERY)):
            mine = int(random.poisson(RATE * EVERY * percent / 100))
            theirs = int(random.poisson(RATE * EVERY * (1 - percent / 100)))
            bad, worse = int(random.binomial(theirs, base)), int(random.binomial(mine, base + more))
            rows.append((now, (mine - worse, worse), (theirs - bad, bad)))
            now, requests = now + EVERY, requests + mine
            if ours is None and _refutes(rows, now, begins[: span + 1], least, confidence):
                ours = requests
            if naive is None and _significant(rows, least, confidence):
                naive = requests
    return Looked(ours, naive, requests)


def _refutes(
    rows: Sequence[Row],
    now: float,
    begins: Sequence[float],
    least: float,
    confidence: float,
) -> bool:
    pieces = cuts(0.0, now, begins)
    sums = np.zeros((len(pieces.times), 4))
    for at, mine, theirs in rows:
        sums[pieces.piece(at)] += (*mine, *theirs)
    chunks = [Chunk((float(row[0]), float(row[1])), (float(row[2]), float(row[3]))) for row in sums]
    return rise(chunks, pieces.starts, least).refutes(confidence)


def _significant(rows: Sequence[Row], least: float, confidence: float) -> bool:
    """A z-test of all requests so far, as if it were the only look."""
    n = sum(sum(mine) for _, mine, _ in rows)
    m = sum(sum(theirs) for _, _, theirs in rows)
    if not n or not m:
        return False
    p, q = sum(mine[1] for _, mine, _ in rows) / n, sum(theirs[1] for _, _, theirs in rows) / m
    error = (p * (1 - p) / n + q * (1 - q) / m) ** 0.5
    return error > 0 and (p - q - least) / error > NormalDist().inv_cdf(confidence)


def fixed_sample(base: float, more: float, least: float, confidence: float, share: float) -> float:
    """Requests of the candidate that a single z-test needs for POWER where it gets ``share`` of the traffic."""
    ratio = (1 - share) / share
    variance = (base + more) * (1 - base - more) + base * (1 - base) / ratio
    normal = NormalDist()
    return (normal.inv_cdf(confidence) + normal.inv_cdf(POWER)) ** 2 * variance / (more - least) ** 2


def false_alarms(
    trials: int, base: float, more: float, least: float, confidence: float, seed: int
) -> tuple[float, float]:
    """The shares of courses in which our test and the z-test ever refuted a true null hypothesis."""
    found = [look(base, more, least, confidence, np.random.default_rng([seed, trial])) for trial in range(trials)]
    return (
        sum(each.ours is not None for each in found) / trials,
        sum(each.naive is not None for each in found) / trials,
    )


def requests_until_sure(
    trials: int, base: float, more: float, least: float, confidence: float, seed: int
) -> tuple[float, float]:
    """The mean requests of the candidate until the test is sure (all where it never is), and how often it is."""
    found = [look(base, more, least, confidence, np.random.default_rng([seed, trial])) for trial in range(trials)]
    return (
        statistics.fmean(each.requests if each.ours is None else each.ours for each in found),
        sum(each.ours is not None for each in found) / trials,
    )
