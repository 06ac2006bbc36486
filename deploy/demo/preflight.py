"""Looks at a user's cluster before anything is changed in it, and names all that is missing at once."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil

import aiohttp
from deploy.demo.kube import Kube, KubeError, Object
from deploy.demo.place import Place, UnusableError
from deploy.demo.store import open_store
from obstore.exceptions import BaseError

NEEDED_CRDS = ("httproutes.gateway.networking.k8s.io", "grpcroutes.gateway.networking.k8s.io")


async def checked(place: Place, kube: Kube) -> Place:
    """The place with the gateway's address filled in. Raises UnusableError naming everything that is missing."""
    problems: list[str] = []
    if shutil.which(place.helm) is None:
        problems.append(f"there is no command {place.helm!r}: install Helm or set HELM to its path")
    try:
        problems += [
            f"the Gateway API is missing in the cluster: no CRD {name}"
            for name in NEEDED_CRDS
            if await kube.get("CustomResourceDefinition", None, name) is None
        ]
        gateway = await kube.get("Gateway", place.gateway_namespace, place.gateway_name)
    except (KubeError, aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnusableError(f"the cluster of {place.kubeconfig} cannot be asked: {error}") from error
    shown = f"{place.gateway_namespace}/{place.gateway_name}"
    if gateway is None:
        problems.append(f"GATEWAY is {shown}: there is no such Gateway")
    elif not place.gateway_here:
        place = dataclasses.replace(place, gateway_here=address_of(gateway))
        place = dataclasses.replace(place, gateway_probe=place.gateway_probe or place.gateway_here)
        if not place.gateway_here:
            problems.append(f"the Gateway {shown} has no address in its status: set GATEWAY_ADDRESS=host:port")
    if place.gateway_here:
        problems += await _reachable(f"http://{place.gateway_here}/", "GATEWAY_ADDRESS")
    problems += await _reachable(f"{place.prometheus_here}/api/v1/query?query=1", "PROMETHEUS_HERE", 200)
    problems += await asyncio.to_thread(_store_writable, place)
    if problems:
        raise UnusableError("\n".join(problems))
    return place


def address_of(gateway: Object) -> str:
    """``host:port`` of a Gateway's first address and HTTP listener; empty when it has none."""
    addresses = gateway.get("status", {}).get("addresses", [])
    ports = [one["port"] for one in gateway["spec"].get("listeners", []) if one.get("protocol") == "HTTP"]
    return f"{addresses[0]['value']}:{ports[0]}" if addresses and ports else ""


async def _reachable(url: str, variable: str, expected: int | None = None) -> list[str]:
    limit = aiohttp.ClientTimeout(total=5)
    try:
        async with aiohttp.ClientSession(timeout=limit) as session, session.get(url) as answer:
            if expected not in (None, answer.status):
                return [f"{url} answered {answer.status}, not {expected}: check {variable}"]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        return [f"{url} cannot be reached from here ({str(error) or type(error).__name__}): set {variable}"]
    return []


def _store_writable(place: Place) -> list[str]:
    store = open_store(place.s3_here, place.s3_bucket, place.s3_access_key, place.s3_secret_key)
    try:
        store.put("modelrollout-demo/.check", b"can be written")
        store.delete("modelrollout-demo/.check")
    except (BaseError, OSError, ValueError) as error:
        first_line = str(error).splitlines()[0][:300]
        return [f"cannot write to bucket {place.s3_bucket} at {place.s3_here} (check S3_HERE and keys): {first_line}"]
    return []
