"""What makes an e-value one: its expectation under the null hypothesis is at most 1, counted out over all outcomes."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from modelrollout.evidence.statistics.bound import above
from modelrollout.evidence.statistics.difference import Chunk, rise
from modelrollout.evidence.statistics.eprocess import NOTHING, Evidence, averaged, log_sum, mixed
from modelrollout.evidence.statistics.multinomial import against_range, against_shares, mixture, off_weight

WHOLE = math.log(1.0)
ALMOST = 1 + 1e-9

shares = st.floats(0.0, 1.0)
small = st.integers(1, 6)


def outcomes(requests: int, share: float) -> list[tuple[int, float]]:
    """Every number of failures, with its probability."""
    return [
        (bad, math.comb(requests, bad) * share**bad * (1 - share) ** (requests - bad)) for bad in range(requests + 1)
    ]


class TestEvidence:
    @pytest.mark.parametrize(
        ("log_e", "confidence"), [(-5.0, 0.0), (0.0, 0.0), (math.log(2), 0.5), (math.log(1000), 0.999), (math.inf, 1.0)]
    )
    def test_confidence_is_one_less_the_inverse(self, log_e: float, confidence: float) -> None:
        assert Evidence(log_e).confidence == pytest.approx(confidence)

    def test_refutes_from_the_inverse_of_the_level_on(self) -> None:
        assert Evidence(math.log(1000) + 1e-9).refutes(0.999)
        assert not Evidence(math.log(1000) - 1e-9).refutes(0.999)

    def test_sums_of_exponentials_neither_overflow_nor_vanish(self) -> None:
        assert log_sum([1000.0, 1000.0]) == pytest.approx(1000 + math.log(2))
        assert log_sum([-1000.0, -1000.0]) == pytest.approx(-1000 + math.log(2))
        assert log_sum([NOTHING, 0.0]) == 0.0
        assert log_sum([]) == NOTHING

    def test_bets_are_mixed_over_starts(self) -> None:
        """Two bets, two chunks: the mean of the stakes of those that began with either."""
        growth = [[math.log(2), math.log(0.5)], [math.log(3), math.log(4)]]
        found = mixed(growth, [math.log(0.5), math.log(0.25)])
        assert math.exp(found.log_e) == pytest.approx(0.5 * (6 + 2) / 2 + 0.25 * (3 + 4) / 2)
        assert found.start == 0

    def test_the_loudest_start_is_told(self) -> None:
        growth = [[math.log(0.01)], [math.log(50)]]
        assert mixed(growth, [math.log(0.5), math.log(0.1)]).start == 1

    def test_what_is_left_without_the_loudest_moment(self) -> None:
        """The loudest chunk, and the louder one beside it: what is short may lie across the border of two."""
        growth = [[math.log(2)], [math.log(50)], [math.log(3)], [math.log(0.5)], [math.log(8)]]
        found = mixed(growth, [0.0, *[NOTHING] * 4])
        assert math.exp(found.log_e) == pytest.approx(1200)
        assert (found.moment, math.exp(found.spread)) == ((1, 2), pytest.approx(8))
        assert math.exp(averaged([found, Evidence(0.0)]).spread) == pytest.approx(4.5)

    def test_a_chunk_beside_that_says_the_contrary_is_no_part_of_the_moment(self) -> None:
        found = mixed([[math.log(0.5)], [math.log(50)], [math.log(0.9)]], [0.0, NOTHING, NOTHING])
        assert (found.moment, math.exp(found.spread)) == ((1,), pytest.approx(0.45))

    def test_a_moment_is_as_long_as_its_chunks_belong_together(self) -> None:
        """It may begin before the loudest start: not every chunk is one."""
        growth = [[math.log(2)], [math.log(4)], [math.log(50)], [math.log(3)], [math.log(0.5)], [math.log(8)]]
        starts = [NOTHING, NOTHING, 0.0, NOTHING, NOTHING, NOTHING]
        assert mixed(growth, starts).moment == (1, 2)
        assert mixed(growth, starts, lambda chunks: len(chunks) <= 3).moment == (1, 2, 3)
        assert mixed(growth, starts, lambda chunks: chunks[0] >= 2).moment == (2, 3)
        found = mixed(growth, starts, lambda chunks: True)
        assert (found.moment, math.exp(found.spread)) == ((0, 1, 2, 3), pytest.approx(4))

    def test_chunks_without_requests_part_no_moment(self) -> None:
        growth = [[math.log(5)], [0.0], [math.log(50)], [math.log(0.5)]]
        assert mixed(growth, [0.0, *[NOTHING] * 3], lambda chunks: len(chunks) <= 3).moment == (0, 1, 2)

    def test_a_chunk_belongs_to_the_moment_by_all_its_bets(self) -> None:
        """Half of the last one is good: the bet that gained most loses there, another gains."""
        growth = [[math.log(100), math.log(5)], [math.log(0.1), math.log(4)]]
        assert mixed(growth, [0.0, NOTHING]).moment == (0, 1)

    def test_no_data_is_no_evidence(self) -> None:
        assert mixed([], []) == Evidence()
        assert averaged([]) == Evidence()

    def test_the_mean_of_two(self) -> None:
        found = averaged([Evidence(math.log(8), 3), Evidence(math.log(2), 1)])
        assert (math.exp(found.log_e), found.start) == (pytest.approx(5), 3)


class TestBound:
    @given(requests=small, bound=st.floats(0.001, 0.9), part=shares)
    @settings(deadline=None)
    def test_expectation_under_any_mean_within_the_bound(self, requests: int, bound: float, part: float) -> None:
        total = sum(
            chance * math.exp(above([(requests - bad, bad)], [WHOLE], bound).log_e)
            for bad, chance in outcomes(requests, bound * part)
        )
        assert total <= ALMOST

    @given(first=small, second=small, bound=st.floats(0.01, 0.9), parts=st.tuples(shares, shares))
    @settings(deadline=None)
    def test_expectation_while_the_mean_moves(
        self, first: int, second: int, bound: float, parts: tuple[float, float]
    ) -> None:
        """Two chunks with means of their own, and bets that begin with either."""
        total = sum(
            one * two * math.exp(above([(first - a, a), (second - b, b)], [math.log(0.6), math.log(0.4)], bound).log_e)
            for (a, one), (b, two) in itertools.product(
                outcomes(first, bound * parts[0]), outcomes(second, bound * parts[1])
            )
        )
        assert total <= ALMOST

    def test_a_bound_of_nothing_and_of_all(self) -> None:
        assert above([(1000.0, 2.0)], [WHOLE], 0.0).refutes(0.999)
        assert above([(1000.0, 0.0)], [WHOLE], 0.0).confidence == 0
        assert above([(0.0, 1000.0)], [WHOLE], 1.0) == Evidence()


class TestRise:
    @given(
        requests=st.tuples(small, small),
        least=st.floats(0.0, 0.3),
        baseline=shares,
        part=shares,
    )
    @settings(deadline=None)
    def test_expectation_under_any_baseline(
        self, requests: tuple[int, int], least: float, baseline: float, part: float
    ) -> None:
        """Whatever stable's mean is, and whatever the candidate's within the rise."""
        mine, theirs = requests
        mean = min(baseline + least, 1.0) * part
        total = sum(
            one * two * math.exp(rise([Chunk((mine - a, a), (theirs - b, b))], [WHOLE], least).log_e)
            for (a, one), (b, two) in itertools.product(outcomes(mine, mean), outcomes(theirs, baseline))
        )
        assert total <= ALMOST

    @given(
        requests=st.tuples(*[st.integers(1, 3)] * 4),
        least=st.floats(0.0, 0.2),
        baselines=st.tuples(shares, shares),
    )
    @settings(deadline=None, max_examples=50)
    def test_expectation_while_world_and_weights_move(
        self, requests: tuple[int, int, int, int], least: float, baselines: tuple[float, float]
    ) -> None:
        """Two chunks with any shares of the traffic and any means: no paradox of pooled data."""
        a, b, c, d = requests
        means = [min(baseline + least, 1.0) for baseline in baselines]
        every = itertools.product(
            outcomes(a, means[0]), outcomes(b, baselines[0]), outcomes(c, means[1]), outcomes(d, baselines[1])
        )
        total = 0.0
        for (i, p), (j, q), (k, r), (m, s) in every:
            chunks = [Chunk((a - i, i), (b - j, j)), Chunk((c - k, k), (d - m, m))]
            total += p * q * r * s * math.exp(rise(chunks, [math.log(0.5), math.log(0.5)], least).log_e)
        assert total <= ALMOST

    @given(
        values=st.tuples(st.floats(0.05, 1.0), st.floats(1.0, 3.0)).map(lambda v: (0.0, v[0], v[0] * v[1])),
        weights=st.tuples(shares, shares, shares).filter(lambda w: sum(w) > 0),
        requests=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    )
    @settings(deadline=None, max_examples=50)
    def test_expectation_with_outcomes_of_stable_between(
        self, values: tuple[float, float, float], weights: tuple[float, float, float], requests: tuple[int, int]
    ) -> None:
        """Stable's outcomes are numbers: the candidate fails as often as their mean says."""
        chances = [weight / sum(weights) for weight in weights]
        mean = min(sum(value * chance for value, chance in zip(values, chances, strict=True)), 1.0)
        mine, theirs = requests
        total = 0.0
        for bad, one in outcomes(mine, mean):
            for drawn in itertools.product(range(3), repeat=theirs):
                two = math.prod(chances[place] for place in drawn)
                counts = tuple(float(drawn.count(place)) for place in range(3))
                found = rise([Chunk((mine - bad, bad), counts)], [WHOLE], 0.0, values)
                total += one * two * math.exp(found.log_e)
        assert total <= ALMOST

    def test_one_arm_alone_says_nothing(self) -> None:
        assert rise([Chunk((0.0, 500.0), (0.0, 0.0))], [WHOLE], 0.002).log_e == 0.0
        assert rise([Chunk((0.0, 0.0), (500.0, 0.0))], [WHOLE], 0.002).log_e == 0.0

    def test_a_rise_is_seen_and_a_fall_is_not(self) -> None:
        worse = [Chunk((970.0, 30.0), (9990.0, 10.0))]
        better = [Chunk((1000.0, 0.0), (9700.0, 300.0))]
        assert rise(worse, [WHOLE], 0.002).refutes(0.999)
        assert rise(better, [WHOLE], 0.002).confidence == 0

    def test_pooled_data_would_show_a_rise_that_is_none(self) -> None:
        """1 % of both arms at 5 % weight, 10 % of both at 50 %: pooled, the candidate fails twice as often."""
        chunks = [Chunk((495.0, 5.0), (9405.0, 95.0)), Chunk((4500.0, 500.0), (4500.0, 500.0))]
        pooled = [
            Chunk(
                (sum(chunk.candidate[0] for chunk in chunks), sum(chunk.candidate[1] for chunk in chunks)),
                (sum(chunk.stable[0] for chunk in chunks), sum(chunk.stable[1] for chunk in chunks)),
            )
        ]
        assert rise(pooled, [WHOLE], 0.002).refutes(0.999)
        assert rise(chunks, [math.log(0.7), math.log(0.3)], 0.002).confidence == 0


class TestMultinomial:
    @given(counts=st.lists(st.integers(0, 40), min_size=2, max_size=2))
    def test_two_bins_are_the_beta_mixture(self, counts: list[int]) -> None:
        a, b = counts
        assert mixture([a, b], [0.5, 0.5]) == pytest.approx(betaln(a + 0.5, b + 0.5) - betaln(0.5, 0.5))

    @given(
        weights=st.lists(st.floats(0.05, 1.0), min_size=2, max_size=4),
        requests=st.integers(1, 6),
        prior=st.floats(0.2, 5.0),
    )
    @settings(deadline=None, max_examples=50)
    def test_expectation_at_the_shares_is_one(self, weights: list[float], requests: int, prior: float) -> None:
        """Exactly: the mixture is a probability."""
        chances = [weight / sum(weights) for weight in weights]
        total = 0.0
        for drawn in itertools.product(range(len(chances)), repeat=requests):
            counts = [drawn.count(place) for place in range(len(chances))]
            chance = math.prod(chances[place] for place in drawn)
            total += chance * math.exp(against_shares(counts, chances, [prior] * len(chances)))
        assert total == pytest.approx(1.0)

    @given(requests=st.integers(1, 12), least=st.floats(0.01, 0.9), width=st.floats(0.0, 0.5), part=shares)
    @settings(deadline=None)
    def test_expectation_within_the_range(self, requests: int, least: float, width: float, part: float) -> None:
        most = min(least + width, 1.0)
        share = least + part * (most - least)
        total = sum(
            chance * math.exp(against_range(hits, requests - hits, least, most))
            for hits, chance in outcomes(requests, share)
        )
        assert total <= ALMOST

    def test_a_range_of_one_share_is_the_simple_test(self) -> None:
        assert against_range(30, 70, 0.25, 0.25) == pytest.approx(against_shares([30, 70], [0.25, 0.75]))

    def test_the_loudest_beginning_is_told(self) -> None:
        starts = [math.log(0.5), math.log(0.25)]
        assert off_weight([(5000.0, 5000.0), (5000.0, 5000.0)], starts, 0.4, 0.6).confidence == 0
        wrong = off_weight([(5000.0, 5000.0), (500.0, 9500.0)], starts, 0.4, 0.6)
        assert (wrong.refutes(0.999), wrong.start) == (True, 1)

    def test_pieces_count_together(self) -> None:
        starts = [math.log(0.5), NOTHING, NOTHING]
        apart = off_weight([(10.0, 90.0)] * 3, starts, 0.24, 0.26)
        assert apart.log_e == pytest.approx(math.log(0.5) + against_range(30, 270, 0.24, 0.26))
