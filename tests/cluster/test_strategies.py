"""Every strategy on the real parts: what users meet, what guards see, and the way back."""

from __future__ import annotations

import time
from typing import Any

from deploy.demo.training import V1, V2, V3

from tests.cluster.client import Clients, clients
from tests.cluster.conftest import Staging
from tests.cluster.stage import Stage, lost
from tests.cluster.waiting import wait_for

ERRORS = {"name": "errors", "sli": "error-ratio", "max": 0.02, "window": "10s", "minSamples": 10}
LATENCY = {"name": "latency", "sli": "latency-p99", "max": 2, "window": "10s", "minSamples": 10}


def strategy(
    name: str, bake: str = "5s", guards: tuple[dict[str, Any], ...] = (ERRORS,), **block: Any
) -> dict[str, Any]:
    """A rollout by this strategy, looked at every second."""
    timing = {"bake": bake, "evaluationInterval": "1s", "progressDeadline": "3m"}
    return {"strategy": name, **block, **timing, "guards": list(guards)}


def met_by(stage: Stage, revision: str, until: float | None = None) -> int:
    """How many users ``revision`` answered (before ``until``, unix seconds)."""
    answers = stage.recording.answers
    return sum(each.revision == revision and (until is None or each.sent < until) for each in answers)


def measured(status: dict[str, Any]) -> bool:
    """Whether the result of an A/B test tells all of both arms."""
    arms = (status.get("rollout") or {}).get("arms", [])
    return len(arms) == 2 and all({"latencyP50", "latencyP99"} <= set(arm) for arm in arms)


async def test_blue_green_is_tried_on_copies_approved_switched_and_back_in_one_write(staging: Staging) -> None:
    async with staging() as stage, clients(stage.place.gateway_here, stage.digits) as some:
        preview = f"preview-{stage.hostname}"
        block = {
            "preview": {"http": {"hostnames": [preview]}},
            "prePromotion": {"source": "Mirror", "percent": 30, "hold": "4s"},
            "approval": True,
        }
        # Healthy, but it must not get more than this: 15 a second are copied to it, then 50 come from users.
        load = {"name": "load", "sli": "request-rate", "max": 30, "window": "5s", "breaches": 3, "of": 3}
        plan = strategy("BlueGreen", "60s", (ERRORS, load), blueGreen=block)
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording, stage.drawn("blue-green"):
            # Without a candidate the preview leads to who serves.
            await some.of(preview).until_meets({first})
            second = await stage.apply(V2, rollout=plan)
            await stage.until_phase("AwaitingApproval")
            guards = {guard["name"]: guard for guard in stage.chronicle.status["rollout"]["guards"]}
            assert {guard["verdict"] for guard in guards.values()} == {"Pass"}
            assert guards["errors"]["samples"] >= 10, "judged by copies"
            await some.of(preview).until_meets({second})
            await some.of(stage.hostname, x_model_revision=second).until_meets({second})
            assert met_by(stage, second) == 0, "no user met it before the switch"
            await stage.command("promote")
            await stage.until_phase("Baking")
            await stage.until_outcome(second, "RolledBack")
            await stage.until_phase("RolledBack")
            await some.of(preview).until_meets({first})
        assert stage.weights_of(second) == [0.0, 100.0, 0.0], "there in one write, back in one write"
        status = stage.chronicle.status
        assert status["revisions"]["stable"] == first
        assert status["history"][0]["reason"] == "GuardBreached"
        assert [(record["command"], record["accepted"]) for record in status["commands"]] == [("promote", True)]
        assert met_by(stage, second) > 50
        assert not lost(recording)


async def test_a_canary_with_pods_a_fraction_a_pause_and_little_room(staging: Staging) -> None:
    async with staging() as stage:
        steps = [
            {"replicas": 1, "hold": "2s"},
            {"weight": 0.5, "hold": "3s"},
            {"pause": {}},
            {"weight": 50, "hold": "3s"},
        ]
        late = ({**ERRORS, "fromStep": 4}, {**LATENCY, "fromStep": 4})
        plan = strategy("Canary", guards=late, canary={"steps": steps, "maxSurge": 1})
        first = await stage.apply(V1, rollout=plan, replicas=2)
        await stage.until_serves(first)
        async with stage.traffic() as recording, stage.drawn("canary") as timeline:
            second = await stage.apply(V2, rollout=plan, replicas=2)
            status = await stage.until_phase("AwaitingApproval")
            assert status["rollout"]["stepOf"] == "3/4"
            assert status["weight"] == 0.5
            assert stage.chronicle.weights[-1].percent[second] == 0.5
            await stage.command("promote")
            await stage.until_serves(second)
        steps_seen = [step for step in stage.weights_of(second) if step]
        assert steps_seen[-2:] == [50.0, 100.0], steps_seen
        wanted = [sum(pods["wanted"] for pods in entry["pods"].values()) for entry in timeline.pods]
        assert max(wanted) <= 3, "never more than maxSurge beyond the replicas"
        assert not lost(recording)


async def test_shadow_answers_no_user_and_its_copies_take_a_bad_one_back(staging: Staging) -> None:
    async with staging() as stage:
        plan = strategy("Shadow", guards=(ERRORS, LATENCY), shadow={"percent": 50, "hold": "4s", "then": "Approval"})
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording, stage.drawn("shadow"):
            second = await stage.apply(V2, rollout=plan)
            status = await stage.until_phase("AwaitingApproval")
            assert status["rollout"]["guards"][0]["samples"] >= 10
            assert met_by(stage, second) == 0, "copies only"
            assert set(stage.weights_of(second)) == {0.0}
            await stage.command("promote")
            await stage.until_serves(second)
            third = await stage.apply(V3, rollout=plan)
            await stage.until_outcome(third, "RolledBack")
            await stage.until_phase("RolledBack")
        assert met_by(stage, third) == 0, "no user ever met it"
        assert not lost(recording)
        evidence = {guard["name"]: guard for guard in stage.chronicle.status["rollout"]["guards"]}
        assert evidence["errors"]["verdict"] == "Breach"
        assert evidence["errors"]["value"] > 0.02


async def test_ab_test_keeps_each_client_on_its_arm_and_tells_what_each_arm_did(staging: Staging) -> None:
    async with staging() as stage, clients(stage.place.gateway_here, stage.digits) as some:
        match = [
            {"header": {"name": "x-group", "value": "beta"}},
            {"cookie": {"name": "group", "value": "beta"}},
        ]
        test = {"weight": 40, "match": match, "stickyCookie": "arm", "hold": "6s", "samples": 100}
        plan = strategy("ABTest", abTest=test)
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic() as recording, stage.drawn("ab-test"):
            second = await stage.apply(V2, rollout=plan)
            await stage.until_weight(second, 40)
            await stage.until_phase("Progressing")
            await cookies_are_given(some, stage.hostname)
            for _ in range(8):
                client = some.of(stage.hostname)
                arms = await client.meets(1)
                assert client.cookies, "the first answer names the arm"
                assert await client.meets(10) == arms, "and each client stays on it"
            await some.of(stage.hostname, x_group="beta").until_meets({second})
            assert await some.of(stage.hostname, {"group": "beta"}).meets() == {second}
            assert await some.of(stage.hostname, {"group": "other"}, x_group="alpha").meets() <= {first, second}
            await stage.until_phase("AwaitingApproval")
            # Envoy renews its histograms every five seconds only, and the result goes on while a person thinks.
            status = await stage.chronicle.until(measured, "both arms have latencies", 90)
            kept = some.of(stage.hostname, {"arm": second})
            arms = {arm["revision"]: arm for arm in status["rollout"]["arms"]}
            assert set(arms) == {first, second}
            assert min(arm["requests"] for arm in arms.values()) >= 100
            assert max(arm["errorRatio"] for arm in arms.values()) == 0
            await stage.command("abort")
            await stage.until_outcome(second, "Aborted")
            await stage.until_phase("RolledBack")
            # A cookie of an arm that is gone leads to who serves.
            await kept.until_meets({first})
        assert not lost(recording)
        share = met_by(stage, second) / len(recording.answers)
        assert 0.02 < share < 0.6
        record = await stage.until_recorded(second, lambda status: status.get("attempts"), "its attempt is kept")
        assert len(record["attempts"][0]["arms"]) == 2, "the result stays with the revision"


async def cookies_are_given(some: Clients, hostname: str) -> None:
    """Wait until a client that is new is put on an arm: proxies learn of the test some moments after the status."""
    end = time.monotonic() + 60
    client = some.of(hostname)
    while not client.cookies:
        assert time.monotonic() < end, "no answer names an arm"
        await client.ask()


async def test_recreate_stops_the_old_pods_first_and_says_so(staging: Staging) -> None:
    async with staging() as stage:
        plan = strategy("Recreate", bake="3s")
        first = await stage.apply(V1, rollout=plan)
        await stage.until_serves(first)
        async with stage.traffic(20) as recording:
            async with stage.drawn("recreate") as timeline:
                second = await stage.apply(V2, rollout=plan)
                await stage.until_phase("Baking")
                await stage.until_serves(second)
                served = time.time()
                await wait_for(lambda: any(each.sent > served for each in recording.answers), "answers", within=60)
            assert all(each.good and each.revision == second for each in recording.answers if each.sent > served)
            await stage.apply(V1, rollout=plan)
            await stage.until_serves(first)
            assert stage.chronicle.status["rollout"]["fastTrack"], "it served before: gates, then all traffic"
        ready = [{name for name, pods in entry["pods"].items() if pods["ready"]} for entry in timeline.pods]
        assert not any(len(names) > 1 for names in ready), "never both: the pool has no room"
        said = [entry["message"] for entry in timeline.phases]
        assert any("nobody answers" in message for message in said), said
