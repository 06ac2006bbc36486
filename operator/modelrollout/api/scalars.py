"""The kinds of text a spec is made of: names, versions, addresses, quantities, with their rules."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from modelrollout.api.rules import Rule, matches

NAME_LIMIT = 52
"""A ModelDeployment's name, a dash and ten characters of hash make the name of a Service: 63 at most."""

NAME_RULE = Rule(
    f"self.metadata.name.size() <= {NAME_LIMIT} && self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')",
    f"metadata.name must be at most {NAME_LIMIT} characters, start with a lower-case letter and hold only "
    "lower-case letters, digits and dashes: the operator adds a dash and a hash of ten characters and "
    "names Services by it",
    lambda self: re.fullmatch("[a-z]([-a-z0-9]{0,50}[a-z0-9])?", self.metadata.name),
)

Label = Annotated[
    str,
    Field(min_length=1, max_length=63),
    matches(
        "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        "must hold only lower-case letters, digits and dashes, and start and end with a letter or digit",
    ),
]
"""DNS-1123 label."""

ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must hold only lower-case letters, digits, dashes and dots, and start and end with a letter or digit",
    ),
]
"""DNS-1123 subdomain, the name of most Kubernetes objects."""

Hostname = Annotated[
    str,
    Field(min_length=1, max_length=253),
    matches(
        r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
        "must be a lower-case DNS name like digits.example.com, or one with a wildcard as its whole first "
        "label, like *.example.com; no scheme, port or path",
    ),
    Rule(
        "!self.matches('^[0-9.]+$')",
        "must be a DNS name, not an IP address",
        lambda self: not re.fullmatch("[0-9.]+", self),
    ),
]
"""A hostname as Gateway API takes it."""

ModelName = Annotated[
    str,
    Field(min_length=1, max_length=128),
    matches(
        "^[A-Za-z0-9][A-Za-z0-9._-]*$",
        "must hold only letters, digits, dots, dashes and underscores, and start with a letter or digit: "
        "it is a folder of the model repository and part of the URL",
    ),
]
"""Triton's name of a model."""

SemVer = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matches(
        r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(-(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*)"
        r"(\.(0|[1-9][0-9]*|[0-9]*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$",
        "must be a semantic version like 1.4.0 or 2.0.0-rc.1, without a leading v",
    ),
]
"""A version as semver.org defines it."""

_SEGMENTS = "[A-Za-z0-9._~=@+:,-]+(/[A-Za-z0-9._~=@+:,-]+)*/?"
_PVC = f"^pvc://[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(/|/{_SEGMENTS})?$"
_S3 = f"^s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]/{_SEGMENTS}$"
_DOTS = r"/\.\.?(/|$)"

SourceUri = Annotated[
    str,
    Field(min_length=1, max_length=1024),
    Rule(
        "self.startsWith('pvc://') || self.startsWith('s3://')",
        "unsupported scheme: use pvc://<claim>/<path> (a PersistentVolumeClaim of this namespace) or "
        "s3://<bucket>/<prefix> (any S3-compatible object store)",
        lambda self: self.startswith(("pvc://", "s3://")),
    ),
    Rule(
        f"!self.startsWith('pvc://') || self.matches(r'{_PVC}')",
        "must be pvc://<claim>/<path>: a claim name in lower-case letters, digits, dashes and dots, and a "
        "path of letters, digits and . _ ~ = @ + : , - without empty parts",
        lambda self: not self.startswith("pvc://") or re.fullmatch(_PVC, self),
    ),
    Rule(
        f"!self.startsWith('s3://') || self.matches(r'{_S3}')",
        "must be s3://<bucket>/<prefix>: a bucket name of 3 to 63 lower-case letters, digits, dots and "
        "dashes, and a prefix of letters, digits and . _ ~ = @ + : , - without empty parts",
        lambda self: not self.startswith("s3://") or re.fullmatch(_S3, self),
    ),
    Rule(
        f"!self.matches(r'{_DOTS}')",
        "must not have . or .. as a part of the path: write the path as it is",
        lambda self: not re.search(_DOTS, self),
    ),
]
"""Where a model repository is."""

Endpoint = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matches(
        r"^https?://([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?$",
        "must be an http or https URL like https://s3.example.com:9000, without user, password or query "
        "(credentials belong in the Secret that secretRef names)",
    ),
]
"""The address of an object store."""

Region = Annotated[
    str,
    Field(min_length=1, max_length=64),
    matches("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "must be a region name like eu-central-1"),
]

Image = Annotated[
    str,
    Field(min_length=1, max_length=512),
    matches(
        r"^[A-Za-z0-9][A-Za-z0-9._/:@-]*$",
        "must be an image reference like registry.example.com/team/triton@sha256:..., without spaces",
    ),
]

_QUANTITY = r"^[0-9]+(\.[0-9]*)?(m|k|Ki|M|Mi|G|Gi|T|Ti|P|Pi|E|Ei|e[0-9]{1,2}|E[0-9]{1,2})?$"
_RESOURCE = "cpu|memory|ephemeral-storage|[a-z0-9.-]{1,128}/[A-Za-z0-9._-]{1,63}|hugepages-[0-9]+[KMG]i"
_UNITS = {
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Amounts = Annotated[
    dict[
        str,
        Annotated[
            str,
            BeforeValidator(_as_text),
            # Kubernetes takes cpu: 2 as well as cpu: "2".
            WithJsonSchema({"x-kubernetes-int-or-string": True, "maxLength": 32}),
        ],
    ],
    Field(max_length=16),
    Rule(
        "self.all(key, key in ['cpu', 'memory', 'ephemeral-storage'] || "
        "key.matches('^[a-z0-9.-]{1,128}/[A-Za-z0-9._-]{1,63}$') || key.matches('^hugepages-[0-9]+[KMG]i$'))",
        "keys must be cpu, memory, ephemeral-storage, hugepages-<size> or an extended resource like nvidia.com/gpu",
        lambda self: all(re.fullmatch(_RESOURCE, key) for key in self),
    ),
    Rule(
        f"self.all(key, string(self[key]).matches(r'{_QUANTITY}'))",
        "must be quantities like 500m, 2, 1.5 or 4Gi, not negative",
        lambda self: all(re.fullmatch(_QUANTITY, amount) for amount in self.values()),
    ),
]
"""Amounts of resources by their name."""


def quantity(text: str) -> Decimal:
    """The amount in base units (cores, bytes) of a text that fits the rule of ``Amounts``."""
    found = re.fullmatch(r"(.*?)([mkKMGTPE]i?)?", text)
    number, unit = found.groups() if found else (text, None)
    return Decimal(number) * (_UNITS[unit] if unit else 1)
