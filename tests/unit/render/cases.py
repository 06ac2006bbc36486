"""The golden cases: what goes into the renderer, and all that comes out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from modelrollout.api.modeldeployment import ModelDeployment, parse_modeldeployment, revision_name
from modelrollout.api.modelrevision import parse_modelrevision
from modelrollout.ports import Manifest
from modelrollout.render.revision import Materials, Revision, materials, model_revision
from modelrollout.render.route import preview_routes, routes
from modelrollout.render.service import disruption_budget, service
from modelrollout.render.traffic_service import traffic_service
from modelrollout.render.workload import deployment
from modelrollout.rollout.plan import ARMED, WHOLE, Mirror, RoutePlan, Slot
from modelrollout.settings import Settings, load

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
CASES = sorted(path.stem for path in (GOLDEN / "input").glob("*.yaml"))
RECORD_UID = "99999999-9999-4999-8999-999999999999"


@dataclass(frozen=True)
class Case:
    """One input with what is needed to render it."""

    wish: ModelDeployment
    settings: Settings
    plan: RoutePlan

    @property
    def revision_name(self) -> str:
        return revision_name(self.wish.metadata.name, self.wish.spec)

    @property
    def revision(self) -> Revision:
        """The revision as its record reads once the API server has given it a uid."""
        record = model_revision(self.wish, self.revision_name)
        record["metadata"]["uid"] = RECORD_UID
        return Revision.of(parse_modelrevision(record))

    @property
    def materials(self) -> Materials:
        found = materials(self.revision, self.settings)
        assert found is not None
        return found

    def objects(self) -> list[Manifest]:
        revision = self.revision
        return [
            model_revision(self.wish, self.revision_name),
            deployment(revision, self.wish.spec.replicas, self.materials),
            service(revision),
            disruption_budget(revision),
            *self.traffic(),
        ]

    def traffic(self) -> list[Manifest]:
        """The objects that lead users to the pods."""
        if self.wish.spec.traffic.gateway is None:
            return [traffic_service(self.wish, self.plan)]
        return [*routes(self.wish, self.plan), *preview_routes(self.wish, self.plan)]


def load_case(name: str, **changes: Any) -> Case:
    """The case; ``changes`` replace top-level fields of the spec."""
    raw = yaml.safe_load((GOLDEN / "input" / f"{name}.yaml").read_text())
    raw["spec"] |= changes
    wish = parse_modeldeployment(raw)
    serving = revision_name(wish.metadata.name, wish.spec)
    return Case(wish, load(GOLDEN / "settings.yaml"), _plan(name, f"{wish.metadata.name}-0000000000", serving))


def _plan(name: str, stable: str, candidate: str) -> RoutePlan:
    """In the middle of an attempt, as the case's name says: the stable revision in slot 0, the candidate in slot 1."""

    def slots(weight: int) -> tuple[Slot, Slot]:
        return Slot(stable, WHOLE - weight), Slot(candidate, weight)

    match name.partition("-")[0]:
        case "canary":
            return RoutePlan(slots(50_000), stable)
        case "shadow":
            return RoutePlan(slots(0), stable, mirror=Mirror(candidate, 2_500))
        case "abtest":
            return RoutePlan(slots(300_000), stable, split=candidate)
        case "bluegreen":
            return RoutePlan(slots(0), stable, mirror=Mirror(candidate, 100_000), preview=candidate)
        case "service":
            return RoutePlan(slots(WHOLE - ARMED), stable)
        case _:
            return RoutePlan((Slot(candidate, WHOLE), Slot(None, 0)), candidate)
