"""One spec of every way that an attempt can go."""

from __future__ import annotations

from typing import Any

from tests.builders import DRIFT

COURSES: dict[str, dict[str, Any]] = {
    "canary": {},
    "canary, fractions": {"steps": ((0.001, "30s"), (0.5, "30s"), (100, "30s"))},
    "canary, pods and pause": {
        "replicas": 3,
        "steps": ({"replicas": 1, "hold": "1m"}, (0.5, "1m"), {"pause": {}}, (50, "30s")),
    },
    "canary, surge 1": {"replicas": 3, "max_surge": "1", "steps": ((50, "30s"),)},
    "canary, surge 0": {"replicas": 4, "max_surge": "0", "steps": ((20, "30s"), (50, "30s"))},
    "canary, surge 50%": {"replicas": 4, "max_surge": "50%", "steps": ({"replicas": 2, "hold": "10s"}, (50, "30s"))},
    "blue-green": {"strategy": "BlueGreen"},
    "blue-green, mirror and approval": {
        "strategy": "BlueGreen",
        "blueGreen": {"prePromotion": {"percent": 20, "hold": "1m"}, "approval": True},
    },
    "blue-green, preview": {
        "strategy": "BlueGreen",
        "blueGreen": {"prePromotion": {"source": "Preview", "hold": "1m"}},
    },
    "shadow, then approval": {"strategy": "Shadow", "shadow": {"hold": "1m"}},
    "shadow, then canary": {"strategy": "Shadow", "shadow": {"then": "Canary", "hold": "1m"}},
    "shadow, then canary with surge 1": {
        "strategy": "Shadow",
        "shadow": {"then": "Canary", "hold": "1m"},
        "replicas": 4,
        "max_surge": "1",
        "steps": ((50, "30s"),),
    },
    "shadow, then blue-green": {
        "strategy": "Shadow",
        "shadow": {"then": "BlueGreen", "hold": "1m"},
        "blueGreen": {"approval": True},
    },
    "shadow, then end": {"strategy": "Shadow", "shadow": {"then": "End", "hold": "1m"}},
    "A/B": {"strategy": "ABTest", "abTest": {"weight": 30, "hold": "1h", "samples": 500}},
    "A/B, guards decide": {"strategy": "ABTest", "abTest": {"weight": 30, "hold": "1h", "decide": "Guards"}},
    "A/B, match only": {
        "strategy": "ABTest",
        "abTest": {"weight": 0, "hold": "1h", "match": [{"header": {"name": "x-team", "value": "a"}}]},
    },
    "recreate": {"strategy": "Recreate"},
    "service": {"service": True, "strategy": "BlueGreen", "guards": (DRIFT,)},
    "service, recreate": {"service": True, "strategy": "Recreate", "guards": (DRIFT,)},
}
