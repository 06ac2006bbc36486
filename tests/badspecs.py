"""The table of bad specs, read for the tiers that use it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).parent / "data" / "api"

Manifest = dict[str, Any]


@dataclass(frozen=True)
class BadSpec:
    """One case: the whole object, where the answer must point to, and a piece of what it must say."""

    case: str
    manifest: Manifest
    path: str
    sentence: str
    operator_path: str
    operator_sentence: str

    def __str__(self) -> str:
        return self.case


def good() -> Manifest:
    """The object that all cases start from."""
    loaded: Manifest = yaml.safe_load((DATA / "good.yaml").read_text())
    return loaded


def merged(base: Mapping[str, Any], patch: Mapping[str, Any]) -> Manifest:
    """JSON merge patch: null removes, lists are replaced."""
    result = dict(base)
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping):
            inner = result.get(key)
            result[key] = merged(inner if isinstance(inner, Mapping) else {}, value)
        else:
            result[key] = value
    return result


def _read(entry: Mapping[str, Any]) -> BadSpec:
    return BadSpec(
        case=entry["case"],
        manifest=merged(good(), entry["patch"]),
        path=entry["path"],
        sentence=entry["sentence"],
        operator_path=entry.get("operatorPath", entry["path"]),
        operator_sentence=entry.get("operator", entry["sentence"]),
    )


BAD_SPECS = [_read(entry) for entry in yaml.safe_load((DATA / "bad_specs.yaml").read_text())]


POLICY_KINDS = ("RolloutPolicy", "ClusterRolloutPolicy")


def good_policy(kind: str) -> Manifest:
    """The policy that all cases start from."""
    sli = {"name": "price", "unit": "eur", "query": "max(price)", "samples": "sum(sold)"}
    guards = [
        {"name": "errors", "sli": "error-ratio", "relativeTo": "stable"},
        {"name": "price", "sli": "price", "max": 2},
    ]
    return {
        "apiVersion": "modelrollout.io/v1alpha1",
        "kind": kind,
        "metadata": {"name": "house"},
        "spec": {"selector": {"matchLabels": {"tier": "gold"}}, "slis": [sli], "guards": guards},
    }


def _read_policy(entry: Mapping[str, Any], kind: str) -> BadSpec:
    return BadSpec(
        case=f"{kind}: {entry['case']}",
        manifest=merged(good_policy(kind), {"spec": entry["patch"]}),
        path=entry["path"],
        sentence=entry["sentence"],
        operator_path=entry.get("operatorPath", entry["path"]),
        operator_sentence=entry.get("operator", entry["sentence"]),
    )


BAD_POLICIES = [
    _read_policy(entry, kind)
    for entry in yaml.safe_load((DATA / "bad_policies.yaml").read_text())
    for kind in POLICY_KINDS
]


def previous_release() -> Manifest:
    """What the operator of the release before strategies (commit f3cee04) wrote, stopped in the middle of a canary."""
    loaded: Manifest = json.loads((DATA / "previous_release.json").read_text())
    return loaded
