"""The operator that the demo installed looks after all namespaces: it stands aside while tests run their own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from deploy.demo.install import NAMESPACE, RELEASE
from deploy.demo.kube import Kube
from deploy.demo.place import Place


@contextlib.contextmanager
def installed_operator_aside(place: Place) -> Iterator[None]:
    """No pod of the installed operator runs inside the block; behind it there are as many as before."""
    before = asyncio.run(_scale(place, 0))
    try:
        yield
    finally:
        if before:
            asyncio.run(_scale(place, before))


async def _scale(place: Place, replicas: int) -> int:
    """Set the size and wait for it; returns what it was, 0 where nothing is installed."""
    async with Kube.connect(place.kubeconfig) as kube:
        found = await kube.get("Deployment", NAMESPACE, RELEASE)
        if found is None:
            return 0
        await kube.patch("Deployment", NAMESPACE, RELEASE, {"spec": {"replicas": replicas}})
        await kube.wait(
            "Deployment",
            NAMESPACE,
            RELEASE,
            lambda now: (now or {}).get("status", {}).get("replicas", 0) == replicas,
            f"{replicas} pods of the installed operator",
            within=180,
        )
        return int(found["spec"].get("replicas", 1))
