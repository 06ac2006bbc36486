"""The specs that people apply in the simulation: every strategy, with everything that can be combined."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from hypothesis import strategies as st

from tests.builders import DRIFT, ERRORS, Manifest, manifest
from tests.simulation.simulation import RENAMED, Simulation

VERSIONS = ("1.0.0", "2.0.0", "3.0.0", "4.0.0")
STEPS: dict[str, tuple[Manifest, ...]] = {
    "three": ({"weight": 10, "hold": "30s"}, {"weight": 25, "hold": "30s"}, {"weight": 50, "hold": "30s"}),
    "whole": ({"weight": 5, "hold": "0s"}, {"weight": 40, "hold": "20s"}, {"weight": 100, "hold": "10s"}),
    "fractions": ({"weight": 0.001, "hold": "10s"}, {"weight": 33.3, "hold": "20s"}),
    "pods": ({"replicas": 1, "hold": "10s"}, {"weight": 20, "hold": "10s"}, {"weight": 60, "hold": "10s"}),
    "pause": ({"weight": 20, "hold": "10s"}, {"pause": {}}, {"weight": 60, "hold": "10s"}),
}
PAUSING: Manifest = {**ERRORS, "onBreach": "Pause"}
WARNING: Manifest = {**ERRORS, "onBreach": "Warn"}
LATE: Manifest = {**DRIFT, "fromStep": 2, "toStep": 2}
INPUTS: Manifest = {"name": "inputs", "sli": "input-psi", "max": 0.2, "minSamples": 100}
OBSERVATION: Manifest = {
    "percent": 25,
    "profile": {"configMap": {"name": "profiles", "key": "digits"}},
    "drift": {"maxPsi": 0.2, "interval": "1m", "retraining": {"webhook": "pipeline", "approval": "Automatic"}},
}
LOAD: Manifest = {"load": {"duration": "3s"}}
GUARDS: dict[str, tuple[Manifest, ...]] = {
    "errors": (ERRORS,),
    "both": (ERRORS, DRIFT),
    "pause": (PAUSING,),
    "warn": (WARNING, DRIFT),
    "late": (ERRORS, LATE),
    "drift": (DRIFT,),
    "inputs": (ERRORS, INPUTS),
    "none": (),
}
STRATEGIES = ("Canary", "BlueGreen", "Shadow", "ABTest", "Recreate")
WITH_SERVICE = ("BlueGreen", "Recreate")


@dataclass(frozen=True, repr=False)
class Wish:
    """The spec that a person applies; fields that do nothing for its strategy are left out of it."""

    version: str = "1.0.0"
    strategy: str = "Canary"
    replicas: int = 2
    steps: str = "three"
    guards: str = "errors"
    paused: bool = False
    bake: str = "60s"
    grpc: bool = False
    service: bool = False
    renamed: bool = False
    surge: str | None = None
    approval: bool = False
    trial: str | None = None
    preview: bool = False
    then: str = "Canary"
    decide: str = "Guards"
    pool: str = "cpu"
    observed: bool = False
    load: bool = False

    def manifest(self) -> Manifest:
        """As the API server would take it: what contradicts is decided for the strategy."""
        service = self.service and self.strategy in WITH_SERVICE
        has_steps = self.strategy == "Canary" or (self.strategy == "Shadow" and self.then == "Canary")
        guards = GUARDS[self.guards]
        if service:
            guards = tuple(guard for guard in guards if "sli" not in guard)
        if not has_steps:
            guards = tuple({key: guard[key] for key in guard if key not in ("fromStep", "toStep")} for guard in guards)
        surge = self.surge if has_steps else None
        if surge in ("0", "0%") and self.replicas == 1:
            surge = "1"
        if not self.observed or service:
            guards = tuple(guard for guard in guards if guard != INPUTS)
        body = manifest(
            self.version,
            replicas=self.replicas,
            steps=STEPS[self.steps],
            guards=guards,
            grpc=self.grpc and not service and not self._copies(),
            service=service,
            model=RENAMED if self.renamed else None,
            max_surge=surge,
            pool=self.pool,
            paused=self.paused,
            bake=self.bake,
            strategy=self.strategy,
            evaluationInterval="10s",
            **({"gates": LOAD} if self.load else {}),
            **self._blocks(service),
        )
        if self.observed and not service:
            body["spec"]["observation"] = OBSERVATION
        return body

    def _copies(self) -> bool:
        """Whether requests are copied: the errors of gRPC cannot be judged by copies, which is refused."""
        before_the_switch = self.strategy == "BlueGreen" or (self.strategy == "Shadow" and self.then == "BlueGreen")
        return self.strategy == "Shadow" or (before_the_switch and self.trial == "Mirror")

    def _blocks(self, service: bool) -> dict[str, Any]:
        blue_green: Manifest = {"approval": self.approval}
        if self.trial and not service:
            percent = {"percent": 20} if self.trial == "Mirror" else {}
            blue_green["prePromotion"] = {"source": self.trial, "hold": "20s", **percent}
        if self.preview and not service and (self.trial or self.approval):
            blue_green["preview"] = {"http": {"hostnames": ["preview.example.com"]}}
        match self.strategy:
            case "BlueGreen":
                return {"blueGreen": blue_green}
            case "Shadow":
                shadow = {"shadow": {"percent": 20, "hold": "20s", "then": self.then}}
                return {**shadow, "blueGreen": blue_green} if self.then == "BlueGreen" else shadow
            case "ABTest":
                match = [{"header": {"name": "x-team", "value": "lab"}}]
                weight = {"fractions": 0.5, "pods": 0}.get(self.steps, 50)
                decide = self.decide if GUARDS[self.guards] else "Approval"
                return {"abTest": {"weight": weight, "hold": "30s", "match": match, "decide": decide}}
            case _:
                return {}

    def apply(self, run: Simulation) -> None:
        run.write(self.manifest())

    def but(self, **changes: Any) -> Wish:
        return replace(self, **changes)

    def __repr__(self) -> str:
        """As it is written in a script: what is at its default is left out."""
        told = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != each.default
        ]
        return f"Wish({', '.join(told)})"


def mostly(*values: Any) -> st.SearchStrategy[Any]:
    """The first value half of the time."""
    return st.sampled_from((*(values[:1] * (len(values) - 1)), *values[1:]))


versions = st.sampled_from(VERSIONS)
wishes = st.builds(
    Wish,
    version=versions,
    strategy=st.sampled_from(STRATEGIES),
    replicas=mostly(2, 1, 3, 4, 0),
    steps=st.sampled_from(sorted(STEPS)),
    guards=st.sampled_from(sorted(GUARDS)),
    paused=mostly(False, True),
    bake=mostly("60s", "0s"),
    grpc=mostly(False, True),
    service=mostly(False, True),
    renamed=mostly(False, True),
    surge=mostly(None, "0", "1", "50%"),
    approval=mostly(False, True),
    trial=st.sampled_from((None, "Mirror", "Preview")),
    preview=mostly(False, True),
    then=st.sampled_from(("Approval", "Canary", "BlueGreen", "End")),
    decide=mostly("Guards", "Approval"),
    observed=mostly(False, True),
    load=mostly(False, True),
)
"""Any spec."""
CHANGES: dict[str, tuple[Any, ...]] = {
    "version": VERSIONS,
    "strategy": STRATEGIES,
    "replicas": (1, 2, 3, 4, 0),
    "steps": tuple(STEPS),
    "guards": tuple(GUARDS),
    "paused": (False, True),
    "bake": ("60s", "0s"),
    "grpc": (False, True),
    "service": (False, True),
    "renamed": (False, True),
    "surge": (None, "0", "1", "50%"),
    "pool": ("cpu", "nowhere"),
    "observed": (False, True),
    "load": (False, True),
}
changes = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(CHANGES[name]))
)
"""One field of the spec, and what it becomes."""
