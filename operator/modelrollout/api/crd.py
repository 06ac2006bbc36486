"""The CustomResourceDefinitions, generated from the models; ``crds/`` holds what this writes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import yaml
from typing_extensions import override

from modelrollout.api.base import GROUP, VERSION, ApiModel
from modelrollout.api.modeldeployment import ModelDeployment
from modelrollout.api.modelrevision import ModelRevision
from modelrollout.api.rolloutpolicy import ClusterRolloutPolicy, RolloutPolicy
from modelrollout.api.structural import Schema, structural, without_defaults

HEADER = "# Generated from operator/modelrollout/api by `python -m modelrollout crds write crds/`. Do not edit.\n"


@dataclass(frozen=True)
class Column:
    """One column of ``kubectl get``; those of priority 1 show with ``-o wide`` only."""

    name: str
    path: str
    description: str
    type: str = "string"
    priority: int = 0

    def to_dict(self) -> dict[str, Any]:
        """An entry of ``additionalPrinterColumns``."""
        entry = {"name": self.name, "type": self.type, "jsonPath": self.path, "description": self.description}
        return entry | ({"priority": self.priority} if self.priority else {})


@dataclass(frozen=True)
class Resource:
    """One custom resource: its model, its names and what ``kubectl get`` shows."""

    model: type[ApiModel]
    short_name: str
    columns: tuple[Column, ...]
    namespaced: bool = True

    @property
    def has_status(self) -> bool:
        """Whether the operator writes a status on it."""
        return "status" in self.model.model_fields

    @property
    def kind(self) -> str:
        """Like ``ModelDeployment``."""
        return self.model.__name__

    @property
    def plural(self) -> str:
        """Like ``modeldeployments``."""
        kind = self.kind.lower()
        return f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}s"


POLICY_COLUMNS = (
    Column("Selector", ".spec.selector.matchLabels", "Labels of the ModelDeployments that it applies to by itself"),
    Column("Guards", ".spec.guards[*].name", "Names of its guards"),
)

AGE = Column("Age", ".metadata.creationTimestamp", "When it was created", type="date")

RESOURCES = (
    Resource(
        ModelDeployment,
        "mdep",
        (
            Column("Phase", ".status.phase", "Where it is"),
            Column("Desired", ".status.revisions.desired", "The revision that the spec asks for"),
            Column("Serving", ".status.revisions.stable", "The revision that serves"),
            Column("Weight", ".status.weight", "Percent of the traffic on the desired revision", type="number"),
            Column("Step", ".status.rollout.stepOf", "Step of the rollout"),
            AGE,
            Column("Version", ".spec.model.version", "Version of the model asked for", priority=1),
            Column("Strategy", ".spec.rollout.strategy", "How a change moves", priority=1),
            Column("Message", ".status.message", "What is going on", priority=1),
        ),
    ),
    Resource(
        ModelRevision,
        "mrev",
        (
            Column("Deployment", ".spec.modelDeployment", "The ModelDeployment that it belongs to"),
            Column("Version", ".spec.version", "Version of the model"),
            Column("Outcome", ".status.outcome", "How its last attempt ended"),
            Column("Duration", ".status.attempts[0].duration", "How long its last attempt took"),
            AGE,
            Column("Slot", ".status.slot", "Its place in the route", type="integer", priority=1),
            Column("Pool", ".spec.pool", "The kind of node", priority=1),
            Column("Source", ".spec.model.source.uri", "Where the model repository is", priority=1),
        ),
    ),
    Resource(RolloutPolicy, "rpol", (*POLICY_COLUMNS, AGE)),
    Resource(ClusterRolloutPolicy, "crpol", (*POLICY_COLUMNS, AGE), namespaced=False),
)


def schema_of(resource: Resource) -> Schema:
    """The schema of the whole object; descriptions without the defaults."""
    schema = structural(resource.model)
    properties = schema["properties"]
    properties["apiVersion"] = {"type": "string", "description": f"Always {GROUP}/{VERSION}."}
    properties["kind"] = {"type": "string", "description": f"Always {resource.kind}."}
    # The API server allows no more than this of metadata in a schema.
    properties["metadata"] = {"type": "object"}
    if resource.has_status:
        properties["status"] = without_defaults(properties["status"])
    return schema | {"required": ["spec"]}


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["modelrollout"],
            },
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    **({"subresources": {"status": {}}} if resource.has_status else {}),
                    "additionalPrinterColumns": [column.to_dict() for column in resource.columns],
                    "schema": {"openAPIV3Schema": _with_spoken_defaults(schema_of(resource))},
                }
            ],
        },
    }


def _with_spoken_defaults(schema: Schema) -> Schema:
    """Say each default in the description too: ``kubectl explain`` shows no defaults by itself."""
    result = dict(schema)
    if "default" in schema and not isinstance(schema["default"], dict | list):
        spoken = schema["default"] if isinstance(schema["default"], str) else json.dumps(schema["default"])
        result["description"] = f"{schema['description']} Default: {spoken}."
    for key in ("items", "additionalProperties"):
        if key in schema:
            result[key] = _with_spoken_defaults(schema[key])
    if "properties" in schema:
        result["properties"] = {name: _with_spoken_defaults(part) for name, part in schema["properties"].items()}
    return result


class _Dumper(yaml.SafeDumper):
    """Plain YAML: no anchors for parts that happen to be the same object."""

    @override
    def ignore_aliases(self, data: Any) -> bool:
        return True


def generate() -> dict[str, str]:
    """All definitions as YAML, by file name."""
    return {
        f"{GROUP}_{resource.plural}.yaml": HEADER
        + yaml.dump(definition(resource), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
        for resource in RESOURCES
    }
