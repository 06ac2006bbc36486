"""The observer cannot harm: killed, hung, fed garbage or taken away, and what users notice of each."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from deploy.demo import loans
from deploy.demo.kube import Object
from deploy.demo.place import Place
from deploy.demo.recording import Answer, percentile
from deploy.demo.training import Digits

from tests.cluster.applicants import Flow, applicants
from tests.cluster.breaking import bodies
from tests.cluster.observing import OBSERVER, install_observer, metrics_of, observer_ready
from tests.cluster.stage import Stage, lost, staged
from tests.cluster.test_evidence import ERRORS, OBSERVATION, plan, profile
from tests.cluster.test_faults import condition

pytestmark = pytest.mark.asyncio(loop_scope="module")

LABELS = "app.kubernetes.io/component=observer"
HUNG = 8.0
"""Seconds for which it hangs: copies pile up in the gateway, and no probe has failed often enough to end it."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(
    place: Place, digits: Digits, loans_models: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stage]:
    """A model that serves, all of whose requests are copied to an observer."""
    folder = tmp_path_factory.mktemp("observer")
    async with staged(place, digits, loans_models, folder, model=loans.MODEL_NAME) as made:
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "profile", "namespace": made.name}}
        await made.kube.apply({**body, "data": {"profile.json": await profile(folder)}})
        await install_observer(place, made.kube, made.name, folder)
        first = await made.apply(loans.GOOD, rollout=plan(ERRORS), spec={"observation": OBSERVATION})
        await made.until_serves(first)
        yield made


async def pods(stage: Stage) -> list[Object]:
    """The observer's pods that do not end."""
    found = await stage.kube.list("Pod", stage.name, LABELS)
    return [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]


async def counted(stage: Stage) -> float:
    """How many requests the observer says it counted."""
    found = await metrics_of(stage.kube, stage.name)
    return sum(value for series, value in found.items() if "requests_total" in series and '"counted"' in series)


async def until_counted(stage: Stage, more_than: float, within: float = 120) -> None:
    """Wait until the observer counted more than that."""
    end = time.monotonic() + within
    while await counted(stage) <= more_than:
        assert time.monotonic() < end, f"the observer counts nothing: {await counted(stage)}"
        await asyncio.sleep(0.5)


async def quiet(flow: Flow, seconds: float = 3.0) -> list[Answer]:
    """What users get while nothing is wrong."""
    begun = time.time()
    await asyncio.sleep(seconds)  # a stretch of time is what is compared with
    return flow.recording.between(begun, time.time())


async def test_killed_and_hung_it_costs_users_nothing(stage: Stage) -> None:
    async with applicants(stage.place.gateway_here, stage.hostname, rate=100) as flow:
        await until_counted(stage, 0)
        usual = await quiet(flow)

        begun = time.time()
        for pod in await pods(stage):
            await stage.kube.delete("Pod", stage.name, pod["metadata"]["name"], grace=0)
        await observer_ready(stage.kube, stage.name)
        await until_counted(stage, 0)
        killed = flow.recording.between(begun, time.time())

        begun = time.time()
        with stopped(await processes(stage)):
            await asyncio.sleep(HUNG)  # a hang has a length
            hung = flow.recording.between(begun, time.time())
        await observer_ready(stage.kube, stage.name)
    assert len(killed) > 100
    assert len(hung) > 50 * HUNG, "users got their answers meanwhile"
    assert not lost(flow.recording), "and not one of them failed"
    slow = {name: percentile([each.latency for each in found], 0.99) for name, found in
            {"usual": usual, "killed": killed, "hung": hung}.items()}  # fmt: skip
    print(f"p99 of users in seconds: {slow}, {len(flow.recording.answers)} requests, none failed")
    assert slow["hung"] is not None
    assert slow["usual"] is not None
    # Whoever waited for it would wait for seconds; a busy machine is slow for everybody.
    assert slow["hung"] < 1.0 + 3 * slow["usual"], slow


async def processes(stage: Stage) -> list[int]:
    """The processes of the observer's pods on this machine, which is the cluster's only node."""
    wanted = [str(pod["metadata"]["uid"]) for pod in await pods(stage)]
    found = await asyncio.to_thread(running, wanted)
    assert found, "the observer's process is on this machine"
    return found


def running(pods: list[str]) -> list[int]:
    """Processes that observe, of the pods with these uids: a container's cgroup has the uid in its name."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            groups, command = (folder / "cgroup").read_text(), (folder / "cmdline").read_bytes()
            if b"observe" in command and any(uid in groups for uid in pods):
                found.append(int(folder.name))
    return found


@contextlib.contextmanager
def stopped(found: list[int]) -> Iterator[None]:
    """These processes stand still inside the block."""
    for each in found:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


async def test_garbage_and_bombs_leave_it_alive_and_counting(stage: Stage) -> None:
    async with applicants(stage.place.gateway_here, stage.hostname) as flow:
        await until_counted(stage, await counted(stage))
        before = await restarts(stage)
        refused = await until_refused(stage)
        await until_counted(stage, await counted(stage) + 100)
    assert await restarts(stage) == before, "the same pod, never restarted"
    assert refused["too_large"] > 0, refused
    assert not lost(flow.recording), "and users got their answers"


async def throw_garbage(stage: Stage) -> None:
    """Send every odd body three times, as a user would; the gateway answers each in one way or another."""
    url = f"http://{stage.place.gateway_here}/v2/models/{loans.MODEL_NAME}/infer"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=90), trust_env=False) as session:
        for body in bodies():
            headers = {"Host": stage.hostname, "Content-Type": "application/json", **body.headers}
            for _ in range(3):
                async with session.post(url, data=body.content, headers=headers) as answer:
                    assert answer.status < 600, body.name
                    await answer.read()


async def until_refused(stage: Stage, throws: int = 3, within: float = 60) -> dict[str, float]:
    """Throw garbage until the observer refused enough of it; what it refused, by reason.

    Copies wait in the gateway behind those of a hang before: that good requests are counted does not show that the
    bad ones have arrived.
    """
    refused: dict[str, float] = {}
    for _ in range(throws):
        await throw_garbage(stage)
        end = time.monotonic() + within
        while time.monotonic() < end:
            found = await metrics_of(stage.kube, stage.name)
            refused = {
                outcome: sum(value for series, value in found.items() if f'outcome="{outcome}"' in series)
                for outcome in ("malformed", "too_large", "wrong_type")
            }
            if refused["malformed"] >= 10 and sum(refused.values()) >= 30:
                return refused
            await asyncio.sleep(0.5)
    raise AssertionError(f"of {throws} times {3 * len(bodies())} odd requests it refused {refused}")


async def restarts(stage: Stage) -> list[tuple[str, int]]:
    """Names of its pods, and how often their containers began anew."""
    return [
        (pod["metadata"]["name"], sum(each["restartCount"] for each in pod["status"]["containerStatuses"]))
        for pod in await pods(stage)
    ]


async def test_its_service_taken_away_is_a_condition_and_what_it_costs_is_known(stage: Stage, tmp_path: Path) -> None:
    async with applicants(stage.place.gateway_here, stage.hostname, rate=100) as flow:
        await until_counted(stage, 0)
        await quiet(flow, 1)
        begun = time.time()
        await stage.kube.delete("Service", stage.name, OBSERVER)
        status = await stage.chronicle.until(
            lambda now: condition(now, "Observed").get("status") == "False", "Observed is False", 90
        )
        assert "observer.namespaces" in condition(status, "Observed")["message"]
        await quiet(flow)
        await install_observer(stage.place, stage.kube, stage.name, tmp_path)
        await stage.chronicle.until(
            lambda now: condition(now, "Observed").get("status") == "True", "Observed is True", 90
        )
        before = await counted(stage)
        await until_counted(stage, before)
    failed = [each for each in flow.recording.answers if not each.good]
    lasted = max((each.at for each in failed), default=begun) - begun
    print(f"its Service deleted: {len(failed)} of {len(flow.recording.answers)} failed, the last {lasted:.2f} s later")
    assert lasted < 2.0, "the route lets go of it within two seconds"
    assert len(failed) <= 200
