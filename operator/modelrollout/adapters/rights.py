"""Asks the API server what this login may do, so that a kind that may not be watched is known before it is tried."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from modelrollout.adapters.apierrors import Call
from modelrollout.adapters.apiserver import ApiServer
from modelrollout.ports import ConflictError, DeniedError, RejectedError

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
WATCHING = ("list", "watch")


async def may_watch(server: ApiServer, group: str, plural: str, namespaces: Sequence[str | None]) -> bool:
    """Whether objects of this kind may be listed and watched in each of ``namespaces`` (None: in all).

    True where the server does not say: whoever then watches is told. Raises TransientError.
    """
    asked = [_allowed(server, group, plural, verb, namespace) for namespace in namespaces for verb in WATCHING]
    return all(await asyncio.gather(*asked))


async def _allowed(server: ApiServer, group: str, plural: str, verb: str, namespace: str | None) -> bool:
    attributes = {"group": group, "resource": plural, "verb": verb} | ({"namespace": namespace} if namespace else {})
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    call = Call("review", "SelfSubjectAccessReview", namespace or "", plural)
    try:
        reply = await server.request(call, "POST", REVIEWS, body=body)
    except (DeniedError, RejectedError, ConflictError):
        return True
    status = reply.body.get("status")
    return not isinstance(status, dict) or bool(status.get("allowed", True))
