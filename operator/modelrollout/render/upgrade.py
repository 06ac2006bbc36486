"""What a Deployment keeps when another version of the operator looks after it: the pods it was made with.

A revision never changes, nor does what its pods are made with (``Materials``). So a Deployment whose pods were rendered
otherwise was rendered by another version, and correcting it would restart the pods of every model at once, untried.
"""

from __future__ import annotations

import hashlib
import json

from modelrollout.ports import Manifest
from modelrollout.render.names import owner_uid

TEMPLATE = "modelrollout.io/template"
"""Annotation of a Deployment: a hash over its pod template as it was rendered."""


def as_made(body: Manifest, live: Manifest | None) -> Manifest:
    """``body`` of a Deployment; with the pods of ``live`` where another version of the operator rendered those.

    What a person changed by hand is still put right: the hash tells that this version would render what was there.
    """
    digest = _digest(body["spec"]["template"])
    annotations = {**(body["metadata"].get("annotations") or {}), TEMPLATE: digest}
    spec = body["spec"]
    if live is not None and owner_uid(live) == owner_uid(body):
        made = (live["metadata"].get("annotations") or {}).get(TEMPLATE)
        if made != digest:
            spec = {**spec, **{part: live["spec"][part] for part in ("selector", "template") if part in live["spec"]}}
            del annotations[TEMPLATE]
            if made is not None:
                annotations[TEMPLATE] = made
    return {**body, "metadata": {**body["metadata"], "annotations": annotations}, "spec": spec}


def _digest(template: object) -> str:
    return hashlib.sha256(json.dumps(template, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:16]
