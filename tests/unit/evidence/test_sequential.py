"""Guards with confidence: both arms from the counters of a pretend Envoy to the verdict."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from modelrollout.api.guard import Guard, RelativeTo, Sli
from modelrollout.api.status import Verdict
from modelrollout.evidence.allocation import allocation_queries, read_allocation
from modelrollout.evidence.context import Context
from modelrollout.evidence.counted import POINTS, Counted, counted_queries, read_counted
from modelrollout.evidence.queries import guard_queries
from modelrollout.evidence.slis import CatalogError, Indicator, catalog
from modelrollout.rollout.observed import Allocation, GuardResult
from modelrollout.rollout.plan import WHOLE, Source, Span
from tests.unit.evidence.envoy import GRPC, HTTP, Envoy, Storage, at, context

STABLE = HTTP[:-1] + "0"
ERRORS = Guard(name="errors", sli=Sli.ERROR_RATIO, relative_to=RelativeTo.STABLE)
LATENCY = Guard(name="latency", sli=Sli.LATENCY_P95, relative_to=RelativeTo.STABLE)
LIMIT = Guard(name="limit", sli=Sli.ERROR_RATIO, max=0.01, confidence=0.999)


def with_(guard: Guard, **changes: Any) -> Guard:
    return guard.model_copy(update=changes)


def share(percent: float) -> int:
    return round(percent * WHOLE / 100)


def weighed(*spans: tuple[float, float], **more: Any) -> Context:
    """Weights in percent from these seconds on."""
    return replace(context(**more), spans=tuple(Span(at(since), share(percent)) for since, percent in spans))


class World:
    """Both arms behind one proxy, scraped every five seconds; what they do is said per span of time."""

    def __init__(self, every: int = 5) -> None:
        self.storage = Storage()
        self.candidate, self.stable = Envoy(cluster=HTTP), Envoy(cluster=STABLE)
        self.every = every
        self.time = -60
        self.scraped = True

    def run(self, until: int, mine: tuple[float, float], theirs: tuple[float, float], **latency: float) -> World:
        """Requests and errors a second of each arm until a time; fractions come out over the scrapes."""
        began = self.time
        while self.time < until:
            self.time += self.every
            for arm, (requests, errors), slow in (
                (self.candidate, mine, latency.get("slow", 20)),
                (self.stable, theirs, latency.get("stable", 20)),
            ):
                passed = self.time - began
                bad = int(errors * passed) - int(errors * (passed - self.every))
                total = int(requests * passed) - int(requests * (passed - self.every))
                arm.serve(good=total - bad, bad=bad, milliseconds=slow)
            if self.scraped:
                self.storage.scrape(self.time, self.candidate, self.stable)
        return self

    def judge(self, guard: Guard, where: Context) -> GuardResult:
        return self.storage.judge(guard, where, self.time)


HALF = weighed((0, 50))


class TestUnanswered:
    """Routes have no timeout: who gives up on a model that hangs is counted among the requests that were sent only."""

    @staticmethod
    def given_up(world: World, until: int, mine: int, theirs: int = 0, after: int = 0) -> World:
        """Clients of each arm give up on so many requests a scrape, after so many seconds."""
        patience: list[tuple[int, Envoy, int]] = []
        while world.time < until:
            for arm, count in ((world.candidate, mine), (world.stable, theirs)):
                arm.take(count)
                patience.append((world.time + after, arm, count))
            for _, arm, count in [one for one in patience if one[0] <= world.time]:
                arm.leave(count)
            patience = [one for one in patience if one[0] > world.time]
            world.run(world.time + world.every, (10, 0), (10, 0))
        return world

    @pytest.mark.parametrize("after", [0, 20])
    def test_a_candidate_that_hangs_now_and_then(self, after: int) -> None:
        world = self.given_up(World().run(0, (0, 0), (20, 0)), 200, 5, after=after)
        result = world.judge(ERRORS, HALF)
        assert (result.verdict, result.value) == (Verdict.BREACH, pytest.approx(5 / 55, abs=0.02))
        assert "never answered" in result.message

    def test_a_candidate_that_answers_nothing(self) -> None:
        world = World().run(0, (0, 0), (20, 0))
        while world.time < 120:
            world.candidate.take(50)
            world.candidate.leave(50)
            world.run(world.time + 5, (0, 0), (10, 0))
        assert (world.judge(ERRORS, HALF).verdict, world.judge(ERRORS, HALF).value) == (Verdict.BREACH, 1.0)
        questions = allocation_queries((ERRORS,), HALF, at(world.time))
        answers = {query.name: world.storage.asked(query) for query in questions}
        found = read_allocation((ERRORS,), HALF, answers, at(world.time))
        assert found is not None
        assert found.effective

    def test_clients_that_give_up_on_both(self) -> None:
        world = self.given_up(World().run(0, (0, 0), (20, 0)), 200, 5, 5)
        assert world.judge(ERRORS, HALF).verdict is Verdict.PASS

    def test_a_slow_candidate_is_waited_for(self) -> None:
        """Its answers take two minutes: all that it was sent it either answered, or it is waited for."""
        world = World().run(0, (0, 0), (20, 0))
        taken = 0
        while world.time < 300:
            world.candidate.take(5)
            taken += 1
            if taken > 24:
                world.candidate.finish(5)
            world.run(world.time + 5, (0, 0), (10, 0))
            assert world.judge(ERRORS, HALF).verdict is not Verdict.BREACH
        assert world.judge(ERRORS, HALF).verdict is Verdict.PASS

    def test_long_answers_are_no_lost_requests(self) -> None:
        """Envoy counts an answer as soon as it begins, and its request as active until it ends."""
        world, busy = World().run(0, (0, 0), (20, 0)), [0, 6, 1, 5, 0, 7, 2, 6]
        for turn in range(80):
            change = busy[(turn + 1) % 8] - busy[turn % 8]
            world.candidate.take(max(change, 0))
            world.candidate.begin(max(change, 0))
            world.candidate.leave(max(-change, 0))
            world.run(world.time + 5, (10, 0), (10, 0))
            assert world.judge(ERRORS, HALF).value in (None, 0.0)

    @staticmethod
    def stream(world: World, until: int, mine: int, theirs: int, patience: int = 0) -> World:
        """Answers that go on for 100 s, so many of each arm; what ends is replaced up to that number.

        With ``patience`` a request of the candidate hangs each second, and is given up after so long.
        """
        held: dict[Envoy, list[int]] = world.__dict__.setdefault("held", {world.candidate: [], world.stable: []})
        while world.time < until:
            for arm, wanted in ((world.candidate, mine), (world.stable, theirs)):
                over = [end for end in held[arm] if end <= world.time]
                arm.leave(len(over))
                held[arm] = [end for end in held[arm] if end > world.time]
                more = max(min(wanted - len(held[arm]), max(wanted // 20, 1)), 0)
                arm.take(more)
                arm.begin(more)
                held[arm] += [world.time + 100] * more
            if patience:
                hung: list[int] = world.__dict__.setdefault("hung", [])
                world.candidate.take(5)
                hung.append(world.time + patience)
                world.candidate.leave(5 * sum(end <= world.time for end in hung))
                hung[:] = [end for end in hung if end > world.time]
            world.run(world.time + 5, (4, 0), (4, 0))
        return world

    RISING = ((0, 10), (200, 50), (400, 90))

    def rise_streaming(self, patience: int = 0) -> World:
        """200 answers are on their way all the time, ever more of them the candidate's."""
        world = self.stream(World().run(-55, (0, 0), (20, 0)), 0, 0, 200)
        for (_, percent), end in zip(self.RISING, (200, 400, 700), strict=True):
            self.stream(world, end, 2 * percent, 200 - 2 * percent, patience)
        return world

    def test_a_baseline_whose_long_answers_end_hides_no_bad_candidate(self) -> None:
        """Stable had 200 of them when counting began, and has 20 in the end: none of them failed."""
        world = self.rise_streaming()
        assert (world.judge(ERRORS, weighed(*self.RISING)).value, world.judge(ERRORS, HALF).baseline) == (0.0, 0.0)
        bad = self.stream(World().run(-55, (0, 0), (20, 0)), 0, 0, 200)
        while bad.time < 700:
            bad.candidate.serve(bad=1)
            self.stream(bad, bad.time + 5, 0, 200 - 180 * bad.time // 700)
        result = bad.judge(ERRORS, HALF)
        assert (result.verdict, result.baseline) == (Verdict.BREACH, 0.0)

    def test_long_answers_that_end_are_no_fault_in_the_bake(self) -> None:
        """Those that began while the weight changed end in the bake, and fewer follow them."""
        bake = weighed((0, 50), (200, 100))
        world = self.stream(World().run(0, (0, 0), (20, 0)), 195, 0, 100)
        for arm, count in ((world.candidate, 200), (world.stable, -100)):
            arm.take(max(count, 0))
            arm.begin(max(count, 0))
            arm.leave(max(-count, 0))
        world.run(205, (10, 0), (0, 0))
        while world.time < 400:
            world.candidate.leave(5)
            world.run(world.time + 5, (4, 0), (0, 0))
            assert world.judge(with_(LIMIT, max=0.01), bake).value in (None, 0.0)

    @pytest.mark.parametrize("patience", [1, 30])
    def test_between_long_answers_requests_that_hang_are_found(self, patience: int) -> None:
        result = self.rise_streaming(patience).judge(ERRORS, weighed(*self.RISING))
        assert (result.verdict, "never answered" in result.message) == (Verdict.BREACH, True)

    @pytest.mark.parametrize("hung", [15, 50])
    def test_many_that_hang_are_found_soon(self, hung: int) -> None:
        """Of 50 requests a scrape."""
        world = World().run(0, (0, 0), (20, 0))
        while world.time < 75:
            world.candidate.take(hung)
            world.candidate.leave(hung)
            world.run(world.time + 5, ((50 - hung) / 5, 0), (10, 0))
        assert world.judge(ERRORS, HALF).verdict is Verdict.BREACH

    @pytest.mark.parametrize("proxies", [1, 4])
    def test_each_process_may_be_off_by_a_few(self, proxies: int) -> None:
        """As if the scrape that counting began with had 6 requests too many of each."""
        storage = Storage()
        arms = [
            (Envoy(f"10.0.0.{number}:19001", HTTP), Envoy(f"10.0.0.{number}:19001", STABLE))
            for number in range(proxies)
        ]
        for second in range(-60, 305, 5):
            for mine, theirs in arms:
                if second >= 0:
                    mine.serve(good=5)
                theirs.serve(good=95)
                if second == 20:
                    mine.take(6)
                    mine.leave(6)
            storage.scrape(second, *(one for pair in arms for one in pair))
            assert storage.judge(ERRORS, weighed((0, 5)), second).value in (None, 0.0)

    @pytest.mark.parametrize("off", [-6, 6])
    def test_counters_that_are_read_one_after_the_other(self, off: int) -> None:
        """Requests go on meanwhile: now and then some seem to be missing, or too many to be there."""
        world = World().run(0, (0, 0), (20, 0))
        for scrape in range(60):
            apart = off if scrape % 3 == 0 else 0
            world.candidate.add("envoy_cluster_upstream_rq_active", -apart)
            world.run(world.time + 5, (1, 0), (19, 0))
            world.candidate.add("envoy_cluster_upstream_rq_active", apart)
            assert world.judge(ERRORS, weighed((0, 5))).value in (None, 0.0)

    def test_requests_that_met_no_pod_are_none_that_hang(self) -> None:
        """They are answered without having been sent."""
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 0), (10, 0))
        for arm in (world.candidate, world.stable):
            arm.turn_away(20)
        result = self.given_up(world, 400, 5).judge(ERRORS, HALF)
        assert "never answered" in result.message
        assert self.given_up(world, 600, 0).judge(ERRORS, HALF).verdict is Verdict.BREACH

    def test_in_the_bake_a_bound_is_broken_by_those_that_hang(self) -> None:
        bake = weighed((0, 50), (200, 100))
        world = self.given_up(World().run(0, (0, 0), (20, 0)), 200, 5, 5)
        usual = self.given_up(world, 300, 5)
        assert usual.judge(with_(LIMIT, max=0.05), bake).verdict is Verdict.PASS
        assert self.given_up(usual, 500, 50).judge(with_(LIMIT, max=0.05), bake).verdict is Verdict.BREACH

    def test_where_nothing_was_compared_nobody_knows_how_many_give_up(self) -> None:
        """Blue-green: one of eight requests is given up as ever, and stable never had traffic beside the candidate."""
        world = self.given_up(World().run(0, (0, 0), (20, 0)), 400, 7)
        result = world.judge(with_(LIMIT, max=0.1), weighed((0, 100)))
        assert (result.verdict, result.value) == (Verdict.PASS, 0.0)

    def test_beside_stable_a_bound_is_about_answers(self) -> None:
        world = self.given_up(World().run(0, (0, 0), (20, 0)), 200, 5, 5)
        assert world.judge(LIMIT, HALF).verdict is Verdict.PASS

    def test_retries_are_no_requests(self) -> None:
        world = World().run(0, (0, 0), (20, 0))
        while world.time < 200:
            for name in ("total", "retry"):
                world.candidate.add(f"envoy_cluster_upstream_rq_{name}", 5)
            world.run(world.time + 5, (10, 0), (10, 0))
        assert world.judge(ERRORS, HALF).verdict is Verdict.PASS


class TestRelativeToStable:
    def test_more_errors_than_stable(self) -> None:
        world = World().run(0, (0, 0), (20, 0.02)).run(300, (10, 0.4), (10, 0.01))
        result = world.judge(ERRORS, HALF)
        assert (result.verdict, result.threshold, result.both) == (Verdict.BREACH, "<= stable + 0.002", False)
        assert result.value == pytest.approx(0.04, abs=0.002)
        assert result.baseline == pytest.approx(0.001, abs=0.0005)
        assert result.samples == pytest.approx(3000, abs=100)
        assert result.confidence is not None
        assert result.confidence > 0.999
        assert result.message.startswith("error-ratio is 0.0")
        assert "against stable's 0.00" in result.message

    def test_as_many_errors_as_stable(self) -> None:
        world = World().run(0, (0, 0), (20, 1)).run(300, (10, 0.5), (10, 0.5))
        result = world.judge(ERRORS, HALF)
        assert (result.verdict, result.confidence) == (Verdict.PASS, 0.0)

    def test_a_rise_that_nobody_cares_about(self) -> None:
        world = World().run(0, (0, 0), (200, 0)).run(1200, (100, 0.3), (100, 0.1))
        assert world.judge(with_(ERRORS, min_effect=0.005), HALF).verdict is Verdict.PASS
        assert world.judge(with_(ERRORS, min_effect=0.0005), HALF).verdict is Verdict.BREACH

    def test_what_leans_to_a_breach_is_no_pass(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 0.2), (10, 0.0))
        result = world.judge(ERRORS, HALF)
        assert result.verdict is Verdict.NO_DATA
        assert result.confidence is not None
        assert 0.5 <= result.confidence < 0.999
        assert "not sure yet" in result.message

    def test_less_confidence_is_sooner_sure(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(75, (10, 0.2), (10, 0.0))
        assert world.judge(ERRORS, HALF).verdict is Verdict.NO_DATA
        assert world.judge(with_(ERRORS, confidence=0.6), HALF).verdict is Verdict.BREACH

    def test_the_world_got_worse_while_the_weight_rose(self) -> None:
        """1 % at 5 percent of the traffic, 8 % at 50: pooled the candidate has three times the errors of stable."""
        world = World().run(0, (0, 0), (40, 0.4)).run(300, (2, 0.02), (38, 0.38)).run(600, (20, 1.6), (20, 1.6))
        result = world.judge(ERRORS, weighed((0, 5), (300, 50)))
        assert (result.verdict, result.confidence) == (Verdict.PASS, 0.0)
        assert result.baseline == pytest.approx(result.value, rel=0.05)

    def test_too_few_requests(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 5), (10, 0))
        result = world.judge(with_(ERRORS, min_samples=5000), HALF)
        assert (result.verdict, result.value) == (Verdict.NO_DATA, None)
        assert result.message == "550 of at least 5000 requests since the first traffic"

    def test_stable_without_requests_is_nothing_to_compare_with(self) -> None:
        world = World().run(0, (0, 0), (0, 0)).run(60, (10, 5), (0, 0))
        result = world.judge(ERRORS, HALF)
        assert (result.verdict, result.message) == (
            Verdict.NO_DATA,
            "stable answered no request to compare with yet",
        )

    def test_in_the_bake_what_was_compared_before_counts(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0)).run(600, (20, 10), (0, 0))
        result = world.judge(ERRORS, weighed((0, 50), (300, 100)))
        assert (result.verdict, result.value) == (Verdict.PASS, 0.0)

    def test_where_stable_never_had_traffic_nothing_is_compared(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (20, 10), (0, 0))
        result = world.judge(ERRORS, weighed((0, 100)))
        assert (result.verdict, result.message) == (
            Verdict.PASS,
            "stable has no traffic any more: nothing to compare with",
        )

    def test_a_first_revision_has_nobody_beside_it(self) -> None:
        world = World().run(0, (0, 0), (0, 0)).run(60, (10, 5), (0, 0))
        alone = replace(weighed((0, 100)), stable="digits-new")
        assert world.judge(ERRORS, alone).message == "there is no other revision to compare with"

    @pytest.mark.parametrize("guard", [ERRORS, LATENCY])
    def test_weights_on_their_way_are_not_compared_nor_waited_for(self, guard: Guard) -> None:
        """A ramp has share 0: its requests are of no known weight, however many. The first step asks for its own."""
        own = with_(guard, min_samples=100)
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 5), (10, 0))
        ramp = world.judge(own, weighed((0, 0)))
        assert (ramp.verdict, ramp.message) == (
            Verdict.PASS, "the arms share no traffic by a known weight now: nothing to compare",
        )  # fmt: skip
        step = world.run(305, (10, 5), (10, 0)).judge(own, weighed((0, 0), (300, 50)))
        assert (step.verdict, step.value) == (Verdict.NO_DATA, None)

    def test_the_bake_waits_for_no_requests_that_are_compared(self) -> None:
        """A person promotes before there are enough: stable gets none any more."""
        where = weighed((0, 50), (60, 100))
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 0), (10, 0)).run(100, (20, 0), (0, 0))
        assert world.judge(with_(ERRORS, min_samples=5000), where).verdict is Verdict.PASS

    def test_a_late_fault_is_not_diluted(self) -> None:
        world = World().run(0, (0, 0), (100, 0)).run(3000, (50, 0.05), (50, 0.05)).run(3120, (50, 2), (50, 0.05))
        result = world.judge(ERRORS, HALF)
        assert result.verdict is Verdict.BREACH
        assert result.value is not None
        assert result.value > 0.02  # of the time in which it fails; 0.0026 of all

    def test_copies_are_compared_with_what_users_get(self) -> None:
        storage = Storage()
        copies, stable = Envoy(cluster="httproute/demo/digits/rule/0-mirror-0"), Envoy(cluster=STABLE)
        storage.scrape(-5, copies, stable)
        for second in range(0, 305, 5):
            copies.serve(good=45, bad=5)
            stable.serve(good=50)
            storage.scrape(second, copies, stable)
        where = replace(context(), source=Source.MIRROR, spans=(Span(at(0), WHOLE),))
        assert storage.judge(ERRORS, where, 300).verdict is Verdict.BREACH

    def test_both_protocols_are_added_up(self) -> None:
        storage = Storage()
        arms = [Envoy(cluster=name) for name in (HTTP, STABLE, GRPC, GRPC[:-1] + "0")]
        storage.scrape(-5, *arms)
        for second in range(0, 305, 5):
            for arm in arms[:2]:
                arm.serve(good=50)
            arms[2].serve(good=45, bad=5, status="13")
            arms[3].serve(good=50, status=None)
            storage.scrape(second, *arms)
        result = storage.judge(ERRORS, replace(HALF, grpc=True), 300)
        assert (result.verdict, result.value) == (Verdict.BREACH, pytest.approx(0.05))

    def test_half_of_the_traffic_is_no_evidence(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 5), (10, 0))
        result = world.judge(ERRORS, replace(HALF, grpc=True))
        assert (result.verdict, result.message) == (Verdict.NO_DATA, "no series for grpc at the gateway")


class TestLatency:
    def test_slower_than_stable(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0), slow=70)
        result = world.judge(LATENCY, HALF)
        assert (result.verdict, result.threshold) == (Verdict.BREACH, "<= 1.1 x stable")
        assert result.baseline is not None
        assert result.value is not None
        assert result.baseline <= 0.025 < 0.05 <= result.value

    def test_as_fast_as_stable(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0), slow=20)
        assert world.judge(LATENCY, HALF).verdict is Verdict.PASS

    def test_a_maximum_is_rounded_to_the_edge_that_is_sure(self) -> None:
        """All requests lie between 50 and 100 ms: whether over 60 ms nobody can know, over 40 ms they are."""
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0), slow=70)
        guard = Guard(name="slow", sli=Sli.LATENCY_P95, max=0.04, confidence=0.999)
        assert world.judge(guard, HALF).verdict is Verdict.BREACH
        unknown = world.judge(with_(guard, max=0.06), HALF)
        assert (unknown.verdict, unknown.value) == (Verdict.NO_DATA, pytest.approx(0.083, abs=0.001))
        assert unknown.message.endswith("max lies inside a bucket: give an edge of it, 0.1 s is the next")
        assert world.judge(with_(guard, max=0.1), HALF).verdict is Verdict.PASS

    def test_a_bound_without_an_edge_is_not_tested(self) -> None:
        """A tenth of a millisecond is below the first edge: of no request is it known to be less."""
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0), slow=70)
        result = world.judge(Guard(name="fast", sli=Sli.LATENCY_P50, min=0.0001, confidence=0.999), HALF)
        assert result.verdict is Verdict.NO_DATA
        assert "min cannot be tested: the buckets have edges from 0.0005 to " in result.message

    def test_a_minimum_too(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0), slow=20)
        guard = Guard(name="fast", sli=Sli.LATENCY_P50, min=0.06, confidence=0.999)
        assert world.judge(guard, HALF).verdict is Verdict.BREACH
        assert world.judge(with_(guard, min=0.005, max=None), HALF).verdict is Verdict.PASS


class TestBoundWithConfidence:
    def test_sure(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0.4), (10, 0))
        result = world.judge(LIMIT, HALF)
        assert (result.verdict, result.threshold, result.both) == (Verdict.BREACH, "<= 0.01", False)
        assert result.value == pytest.approx(0.04, abs=0.003)

    def test_a_few_errors_at_first_are_not(self) -> None:
        """A bound without confidence would take the candidate back for 2 errors of 100 requests."""
        world = World().run(0, (0, 0), (20, 0)).run(15, (10, 0.2), (10, 0))
        result = world.judge(LIMIT, HALF)
        assert result.verdict in (Verdict.NO_DATA, Verdict.PASS)
        assert world.judge(with_(LIMIT, confidence=None), HALF).verdict is Verdict.BREACH

    def test_a_burst_is_of_no_consequence(self) -> None:
        """Half of the requests of five seconds fail: beyond doubt over 5 percent then, and 4 percent of a minute."""
        world = World().run(0, (0, 0), (200, 0)).run(600, (100, 0), (100, 0)).run(605, (100, 50), (100, 0))
        guard = with_(LIMIT, max=0.05)
        sure = world.judge(with_(guard, window=timedelta(seconds=1)), HALF)
        assert sure.verdict is Verdict.BREACH
        result = world.judge(guard, HALF)
        assert result.verdict is not Verdict.BREACH
        assert result.confidence is not None
        assert result.confidence > 0.999
        assert world.run(660, (100, 50), (100, 0)).judge(guard, HALF).verdict is Verdict.BREACH

    def test_one_incident_is_no_breach(self) -> None:
        """Five seconds in which everything fails, 8 percent of a minute: twice is no incident."""
        world = World().run(0, (0, 0), (200, 0)).run(600, (100, 0), (100, 0)).run(605, (100, 100), (100, 0))
        guard = with_(LIMIT, max=0.05)
        once = world.judge(guard, HALF)
        assert (once.verdict, once.value) == (Verdict.NO_DATA, pytest.approx(0.08, abs=0.03))
        twice = world.run(640, (100, 0), (100, 0)).run(645, (100, 100), (100, 0)).judge(guard, HALF)
        assert twice.verdict is Verdict.BREACH

    @pytest.mark.parametrize("begin", [300, 475])
    @pytest.mark.parametrize("end", [700, 950, 970, 1930, 3850])
    def test_an_incident_stays_one_as_the_attempt_grows(self, begin: int, end: int) -> None:
        """Ten seconds in which everything fails, within a piece of time or across the border of two."""
        world = World().run(0, (0, 0), (20, 0)).run(begin, (20, 0), (20, 0)).run(begin + 10, (20, 20), (20, 0))
        found = [world.judge(LIMIT, HALF)]
        found.append(world.run(begin + 60, (20, 0), (20, 0)).judge(LIMIT, HALF))
        found.append(world.run(end, (20, 0), (20, 0)).judge(LIMIT, HALF))
        assert [one.verdict for one in found] == [Verdict.NO_DATA, Verdict.NO_DATA, Verdict.PASS]

    def test_an_incident_that_is_over_is_left_out(self) -> None:
        """It is 1.6 % of all requests at 600 s, and 2 minutes were clean."""
        world = World().run(0, (0, 0), (20, 0)).run(300, (20, 0), (20, 0)).run(310, (20, 20), (20, 0))
        early = world.run(400, (20, 0), (20, 0)).judge(LIMIT, HALF)
        assert (early.verdict, early.message.rpartition("; ")[2]) == (
            Verdict.NO_DATA, "of one moment only: does it last?",
        )  # fmt: skip
        late = world.run(600, (20, 0), (20, 0)).judge(LIMIT, HALF)
        assert (late.verdict, late.value) == (Verdict.PASS, 0.0)
        assert late.message.endswith("without a moment 0:05:00 after the first")

    def test_an_incident_that_is_over_hides_nothing(self) -> None:
        """Everything fails for ten seconds, and afterwards less, but more than it may."""
        world = World().run(0, (0, 0), (20, 0)).run(300, (20, 0), (20, 0)).run(310, (20, 20), (20, 0))
        assert world.run(900, (20, 0.5), (20, 0)).judge(LIMIT, HALF).verdict is Verdict.BREACH

    def test_a_minimum(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0.4), (10, 0))
        assert world.judge(with_(LIMIT, max=None, min=0.2), HALF).verdict is Verdict.BREACH
        assert world.judge(with_(LIMIT, max=None, min=0.01), HALF).verdict is Verdict.PASS

    @pytest.mark.parametrize(("theirs", "both"), [(0.5, True), (0.4, True), (0.0, False)])
    def test_stable_breaks_it_too(self, theirs: float, both: bool) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0.5), (10, theirs))
        result = world.judge(LIMIT, HALF)
        assert (result.verdict, result.both) == (Verdict.BREACH, both)
        assert result.baseline == pytest.approx(theirs / 10, abs=0.005)

    def test_in_the_bake_stable_is_no_witness(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0.5), (10, 0.5)).run(400, (20, 1), (0, 0))
        result = world.judge(LIMIT, weighed((0, 50), (300, 100)))
        assert (result.verdict, result.both) == (Verdict.BREACH, False)

    @pytest.mark.parametrize("guard", [LIMIT, Guard(name="slow", sli=Sli.LATENCY_P95, max=0.05, confidence=0.999)])
    @pytest.mark.parametrize(("begin", "growth"), [(420, 300), (437, 300), (1210, 900)])
    def test_in_the_bake_a_minute_of_trouble_is_an_incident(self, guard: Guard, begin: int, growth: int) -> None:
        """Nothing tells a world that fails from a candidate that does: half a window is left out, and no more."""
        guard = with_(guard, window=timedelta(minutes=3))
        bake = weighed((0, 50), (growth, 100))
        world = World().run(0, (0, 0), (20, 0)).run(growth, (10, 0), (10, 0)).run(begin, (20, 0), (0, 0))
        found = [
            world.run(begin + lasted, (20, 20), (0, 0), slow=70).judge(guard, bake).verdict for lasted in (20, 40, 60)
        ]
        assert Verdict.BREACH not in found
        assert found[-1] is Verdict.NO_DATA
        over = world.run(begin + 60 + 500, (20, 0), (0, 0)).judge(guard, bake)
        assert (over.verdict, "without a moment" in over.message) == (Verdict.PASS, True)

    @pytest.mark.parametrize("guard", [LIMIT, Guard(name="slow", sli=Sli.LATENCY_P95, max=0.05, confidence=0.999)])
    def test_in_the_bake_trouble_that_lasts_is_a_breach(self, guard: Guard) -> None:
        guard = with_(guard, window=timedelta(minutes=3))
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0)).run(420, (20, 0), (0, 0))
        world.run(560, (20, 20), (0, 0), slow=70)
        assert world.judge(guard, weighed((0, 50), (300, 100))).verdict is Verdict.BREACH

    @pytest.mark.parametrize("minutes", [3, 10, 30, 60])
    def test_a_moment_without_a_witness_does_not_grow_with_the_window(self, minutes: int) -> None:
        """All fails from the beginning of the bake: two minutes later that is a breach, whatever the window."""
        guard, bake = with_(LIMIT, window=timedelta(minutes=minutes)), weighed((0, 50), (300, 100))
        world = World().run(0, (0, 0), (20, 0)).run(300, (10, 0), (10, 0)).run(430, (20, 20), (0, 0))
        assert world.judge(guard, bake).verdict is Verdict.BREACH

    def test_trouble_that_begins_just_before_the_bake_is_an_incident_too(self) -> None:
        """Between a scrape under one weight and the next under another nothing is counted: that parts nothing."""
        guard, bake = with_(LIMIT, window=timedelta(minutes=3)), weighed((0, 50), (300, 100))
        world = World().run(0, (0, 0), (20, 0)).run(278, (10, 0), (10, 0)).run(300, (10, 10), (10, 10))
        found = [world.run(end, (20, 20), (0, 0)).judge(guard, bake).verdict for end in (310, 320, 330, 340)]
        assert Verdict.BREACH not in found

    def test_beside_a_witness_a_minute_of_trouble_is_a_breach(self) -> None:
        guard = with_(LIMIT, window=timedelta(minutes=3))
        world = World().run(0, (0, 0), (20, 0)).run(420, (10, 0), (10, 0)).run(480, (10, 10), (10, 0))
        assert world.judge(guard, HALF).verdict is Verdict.BREACH

    @pytest.mark.parametrize("guard", [LIMIT, Guard(name="slow", sli=Sli.LATENCY_P95, max=0.05, confidence=0.999)])
    def test_an_incident_of_both_stays_one_in_the_bake(self, guard: Guard) -> None:
        """The world moved while both had traffic; a person promotes; nothing has failed since."""
        world = (
            World().run(0, (0, 0), (20, 0)).run(200, (10, 0), (10, 0)).run(320, (10, 3), (10, 3), slow=70, stable=70)
        )
        both = weighed((0, 50))
        assert (world.judge(guard, both).verdict, world.judge(guard, both).both) == (Verdict.BREACH, True)
        result = world.run(380, (20, 0), (0, 0)).judge(guard, weighed((0, 50), (320, 100)))
        assert (result.verdict, result.both) == (Verdict.BREACH, True)
        assert result.message.endswith("; stable is as bad")
        alone = world.run(480, (20, 6), (0, 0), slow=70).judge(guard, weighed((0, 50), (320, 100)))
        assert (alone.verdict, alone.both) == (Verdict.BREACH, False)

    def test_a_rate_has_nothing_to_be_sure_of(self) -> None:
        guard = Guard(name="rate", sli=Sli.REQUEST_RATE, min=5.0, confidence=0.99)
        with pytest.raises(CatalogError, match="remove confidence"):
            guard_queries(guard, HALF, at(100))

    def test_what_prometheus_computes_has_no_counts(self) -> None:
        guard = Guard(name="psi", sli="input-psi", max=0.2, confidence=0.99)
        with pytest.raises(CatalogError, match="give max or min without confidence"):
            guard_queries(guard, HALF, at(100))


class TestPlainBounds:
    GUARD = Guard(name="errors", sli=Sli.ERROR_RATIO, max=0.01, window=timedelta(minutes=1))

    @pytest.mark.parametrize(("theirs", "both"), [(5, True), (0, False)])
    def test_stable_breaks_it_too(self, theirs: int, both: bool) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 1), (50, theirs))
        result = world.judge(self.GUARD, HALF)
        assert (result.verdict, result.both) == (Verdict.BREACH, both)
        assert result.baseline == pytest.approx(theirs / 50, abs=0.01)

    def test_stable_with_too_few_requests_is_no_witness(self) -> None:
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 1), (1, 0.5))
        assert world.judge(with_(self.GUARD, min_samples=100), HALF).both is False

    @pytest.mark.parametrize(("theirs", "both"), [(5, True), (0, False)])
    def test_both_are_asked_about_the_evaluations_that_are_outside(self, theirs: int, both: bool) -> None:
        """Half a minute of trouble is over, three of the last five evaluations have it: it was the world's, or not."""
        guard = with_(self.GUARD, window=timedelta(seconds=10), breaches=3, of=5)
        world = World().run(0, (0, 0), (20, 0)).run(40, (10, 0), (10, 0)).run(70, (10, 5), (10, theirs))
        result = world.run(80, (10, 0), (10, 0)).judge(guard, HALF)
        assert (result.verdict, result.value, result.both) == (Verdict.BREACH, 0.5, both)

    def test_trouble_of_both_does_not_add_to_that_of_one(self) -> None:
        """Two evaluations of the world's trouble and one of the candidate's own are not three of its own."""
        guard = with_(self.GUARD, window=timedelta(seconds=10), breaches=3, of=5)
        world = World().run(0, (0, 0), (20, 0)).run(50, (10, 0), (10, 0)).run(70, (10, 5), (10, 5))
        world.run(80, (10, 5), (10, 0))
        assert (world.judge(guard, HALF).verdict, world.judge(guard, HALF).both) == (Verdict.BREACH, True)
        assert world.run(100, (10, 5), (10, 0)).judge(guard, HALF).both is False

    def test_the_world_moves_as_the_weight_changes(self) -> None:
        """The candidate's window holds more of its late requests than stable's: within the newest weight they agree."""
        world = World().run(0, (0, 0), (100, 0)).run(60, (10, 0), (90, 0)).run(70, (25, 7.5), (75, 22.5))
        guard = with_(self.GUARD, max=0.09)
        result = world.judge(guard, weighed((0, 10), (60, 25)))
        assert (result.verdict, result.both) == (Verdict.BREACH, True)
        assert result.baseline is not None
        assert result.baseline < 0.09  # over the whole window stable keeps the bound

    def test_a_little_less_than_the_bound_is_as_bad(self) -> None:
        """Where the world moves either arm may cross the bound first."""
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 0.13), (10, 0.09))
        result = world.judge(self.GUARD, HALF)
        assert (result.verdict, result.both) == (Verdict.BREACH, True)

    def test_the_bake_has_no_witness(self) -> None:
        world = World().run(0, (0, 0), (20, 2)).run(60, (20, 2), (0, 0))
        result = world.judge(self.GUARD, weighed((0, 100)))
        assert (result.verdict, result.both, result.baseline) == (Verdict.BREACH, False, None)


class TestWaiting:
    @pytest.mark.parametrize("guard", [ERRORS, LIMIT, TestPlainBounds.GUARD])
    def test_nothing_of_the_warm_up_counts(self, guard: Guard) -> None:
        """Every request fails for 75 s, none after it."""
        own = with_(guard, warm_up=timedelta(seconds=90))
        world = World().run(0, (0, 0), (20, 0)).run(75, (10, 10), (10, 0))
        early = world.judge(own, HALF)
        assert (early.verdict, early.waits_until, early.value) == (Verdict.NO_DATA, at(90), None)
        assert world.judge(guard, HALF).verdict is Verdict.BREACH
        world.run(180, (10, 0), (10, 0))
        late = world.judge(own, HALF)
        assert (late.verdict, late.waits_until, late.value) == (Verdict.PASS, None, 0.0)

    def test_labels_are_waited_for(self) -> None:
        guard = with_(TestPlainBounds.GUARD, label_delay=timedelta(hours=2))
        world = World().run(0, (0, 0), (20, 0)).run(60, (10, 5), (10, 0))
        result = world.judge(guard, HALF)
        assert (result.verdict, result.waits_until) == (Verdict.NO_DATA, at(7200))

    def test_a_guard_that_can_never_be_judged_does_not_wait(self) -> None:
        guard = Guard(name="bad", sli=Sli.REQUEST_RATE, min=5.0, confidence=0.9, warm_up=timedelta(minutes=1))
        with pytest.raises(CatalogError):
            guard_queries(guard, HALF, at(5))


class TestCounting:
    def counted(self, world: World, where: Context, begin: float = 0) -> Counted:
        entry = catalog("envoy-gateway").indicator(Sli.ERROR_RATIO, where)
        found = read(world, entry, where, begin)
        assert isinstance(found, Counted)
        return found

    def test_nothing_is_counted_across_a_change_of_weight(self) -> None:
        """Scrapes lie at 5, 10, ...; the weight changes at 302: of the steps of 300 and 305 nothing is known."""
        world = World().run(0, (0, 0), (40, 0)).run(600, (10, 0), (30, 0))
        found = self.counted(world, weighed((0, 25), (302, 50)))
        by_span = [0.0, 0.0]
        for span, count in zip(found.cuts.spans, found.of(0, "total"), strict=True):
            by_span[span] += count
        assert by_span[0] <= 10 * 300
        assert by_span[1] <= 10 * 295
        assert sum(by_span) >= 10 * 575

    def test_a_gap_is_no_burst(self) -> None:
        """Nobody scrapes for three minutes around a change of weight: what was counted then belongs to no weight."""
        world = World().run(0, (0, 0), (40, 0)).run(200, (10, 0), (30, 0))
        world.scraped = False
        world.run(380, (10, 10), (30, 0))
        world.scraped = True
        world.run(600, (10, 0), (30, 0))
        found = self.counted(world, weighed((0, 25), (300, 50)))
        assert sum(found.of(0, "errors")) == 0
        assert world.judge(ERRORS, weighed((0, 25), (300, 50))).verdict is Verdict.PASS

    @pytest.mark.parametrize("window", ["10m", "2m"])
    def test_a_prometheus_that_lost_its_data_blames_nobody_for_what_was_before(self, window: str) -> None:
        """Half of the requests failed until 300; the counters still have that when they are scraped again at 400."""
        world = World()
        world.scraped = False
        world.run(0, (0, 0), (40, 0)).run(300, (10, 5), (30, 0)).run(400, (10, 0), (30, 0))
        world.scraped = True
        world.run(600, (10, 0), (30, 0))
        found = self.counted(world, weighed((0, 25)))
        assert sum(found.of(0, "errors")) == 0
        assert sum(found.of(0, "total")) == pytest.approx(2000, abs=60)
        for guard in (ERRORS, Guard(name="bound", sli=Sli.ERROR_RATIO, max=0.01, window=window)):
            result = world.judge(guard, weighed((0, 25)))
            assert (result.verdict, result.value) == (Verdict.PASS, 0.0)
            assert result.samples is not None
            assert result.samples < 2000

    def test_a_restart_of_the_proxy_counts_from_nothing(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (10, 1), (30, 0))
        for arm in (world.candidate, world.stable):
            arm.restart()
        world.run(600, (10, 1), (30, 0))
        found = self.counted(world, weighed((0, 25)))
        assert sum(found.of(0, "errors")) == pytest.approx(600, abs=25)
        assert sum(found.of(0, "total")) == pytest.approx(6000, abs=250)

    def test_errors_that_create_their_series_count(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (10, 0), (30, 0)).run(305, (10, 8), (30, 0))
        assert sum(self.counted(world, weighed((0, 25))).of(0, "errors")) == 40

    def test_two_proxies_are_added_up(self) -> None:
        storage = Storage()
        pairs = [(Envoy(place, HTTP), Envoy(place, STABLE)) for place in ("10.0.0.1:19001", "10.0.0.2:19001")]
        for second in range(-60, 305, 5):
            for mine, theirs in pairs:
                mine.serve(good=9, bad=1)
                theirs.serve(good=30)
                storage.scrape(second, mine, theirs)
        result = storage.judge(LIMIT, weighed((0, 25)), 300)
        assert result.samples == pytest.approx(2 * 10 * 59, abs=40)

    def test_stale_is_no_evidence(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (10, 5), (30, 0))
        result = world.storage.judge(ERRORS, HALF, 360)
        assert (result.verdict, result.message) == (
            Verdict.NO_DATA, "the newest sample is 60 s old for http at the gateway",
        )  # fmt: skip

    @pytest.mark.parametrize("passed", [1, 60, 1320, 7200, 86_400, 30 * 86_400])
    def test_an_answer_has_no_more_points_than_it_may(self, passed: float) -> None:
        entry = catalog("envoy-gateway").indicator(Sli.ERROR_RATIO, HALF)
        (query,) = counted_queries(entry, HALF, catalog("envoy-gateway"), at(passed))
        assert query.start is not None
        assert query.step is not None
        assert query.start <= at(0)
        assert (query.end - query.start) / query.step <= POINTS
        look = int(query.text.rpartition("[")[2].removesuffix("ms])"))
        assert look == min(query.step.total_seconds(), 60) * 1000

    def test_old_evidence_costs_no_more_than_new(self) -> None:
        """Three days at one scrape a minute."""
        world = World(every=60).run(0, (0, 0), (1, 0)).run(3 * 86_400, (0.5, 0.05), (0.5, 0))
        result = world.judge(ERRORS, HALF)
        assert (result.verdict, result.value) == (Verdict.BREACH, pytest.approx(0.1, abs=0.01))


def read(world: World, entry: Indicator, where: Context, begin: float) -> Counted | str:
    known, now = catalog("envoy-gateway"), at(world.time)
    answers = {query.name: world.storage.asked(query) for query in counted_queries(entry, where, known, now)}
    return read_counted(entry, answers, where, known, now, at(begin))


class TestAllocation:
    def allocated(self, world: World, where: Context) -> Allocation | None:
        now = at(world.time)
        answers = {query.name: world.storage.asked(query) for query in allocation_queries((), where, now)}
        return read_allocation((), where, answers, now)

    def test_the_arms_get_their_weights(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (2, 0), (38, 0)).run(600, (20, 0), (20, 0))
        found = self.allocated(world, weighed((0, 5), (300, 50)))
        assert found is not None
        assert (found.effective, found.message) == (True, "")
        assert found.observed == pytest.approx(found.expected, abs=0.005)

    def test_a_weight_that_has_no_effect(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (0.1, 0), (39.9, 0))
        found = self.allocated(world, weighed((0, 5)))
        assert found is not None
        assert not found.effective
        assert found.expected == pytest.approx(0.05)
        assert found.message.endswith("its weight asks for 5.00%")

    def test_one_that_was_rounded_is_effective(self) -> None:
        world = World().run(0, (0, 0), (100, 0)).run(900, (6, 0), (94, 0))
        found = self.allocated(world, weighed((0, 5.5)))
        assert found is not None
        assert found.effective

    def test_a_step_that_has_none_is_seen_after_good_ones(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(600, (10, 0), (30, 0)).run(700, (10, 0), (30, 0))
        found = self.allocated(world, weighed((0, 25), (600, 50)))
        assert found is not None
        assert (found.effective, found.expected, round(found.observed, 2)) == (False, 0.5, 0.25)

    def test_a_wrong_weight_of_an_earlier_step_is_over(self) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(600, (0.1, 0), (39.9, 0)).run(900, (20, 0), (20, 0))
        found = self.allocated(world, weighed((0, 5), (600, 50)))
        assert found is not None
        assert (found.effective, found.expected, round(found.observed, 2)) == (True, 0.5, 0.5)
        assert self.allocated(world, weighed((0, 5), (600, 100))) is None

    def test_one_that_was_put_right_is_effective_soon_and_wrong_again_when_it_is(self) -> None:
        where = weighed((0, 25))
        world = World().run(0, (0, 0), (40, 0)).run(600, (24.4, 0), (15.6, 0))
        told = []
        for until, mine in ((610, 10), (690, 10), (900, 10), (1800, 10), (1900, 24.4), (2100, 10)):
            found = self.allocated(world.run(until, (mine, 0), (40 - mine, 0)), where)
            assert found is not None
            told.append(found.effective)
        assert told == [False, True, True, True, False, True]

    def test_a_stray_request_does_not_make_a_weight_effective(self) -> None:
        where = weighed((0, 5))
        world = World().run(0, (0, 0), (40, 0)).run(600, (0, 0), (40, 0))
        for until in range(605, 900, 5):
            found = self.allocated(world.run(until, (0.2, 0), (39.8, 0)), where)
            assert found is not None
            assert not found.effective

    @pytest.mark.parametrize("percent", [0, 0.0001, 100])
    def test_nothing_to_tell_where_nothing_is_shared(self, percent: float) -> None:
        world = World().run(0, (0, 0), (40, 0)).run(300, (10, 0), (30, 0))
        assert self.allocated(world, weighed((0, percent))) is None

    def test_no_series_no_word(self) -> None:
        world = World()
        world.time = 300
        assert self.allocated(world, weighed((0, 5))) is None
