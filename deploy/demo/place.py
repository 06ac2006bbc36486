"""Where the demo runs: the local cluster it brings up itself, or (CLUSTER=existing) the one of the user.

Addresses come in pairs where the cluster and this machine see a thing under different names.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
LOCAL = REPO / ".local"
CLUSTER_COMMAND = REPO / "deploy" / "local" / "cluster.py"

VARIABLES = """\
environment (CLUSTER=existing only; without it the local cluster is used and nothing of these is read):
  KUBECONFIG        the kubeconfig of the cluster; its current context is used
  GATEWAY           Gateway to attach to, as namespace/name; it must take HTTPRoutes of other namespaces
  GATEWAY_ADDRESS   host:port at which this machine reaches it (default: its status address and HTTP port)
  GATEWAY_PROBE     host:port at which the operator's pod reaches it (default: the same, unless that is a
                    loopback address: then the operator trusts the Gateway's conditions and does not probe)
  PROMETHEUS_URL    Prometheus as the operator's pod reaches it; it must scrape the gateway's Envoy
  PROMETHEUS_HERE   the same as this machine reaches it (default: PROMETHEUS_URL)
  S3_ENDPOINT       S3-compatible object store as pods reach it
  S3_HERE           the same as this machine reaches it (default: S3_ENDPOINT)
  S3_BUCKET         bucket for the models (default: models)
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY   keys that may write to the bucket
  IMAGE_OPERATOR    image of the operator that the cluster can pull
  IMAGE_TRITON      image of Triton with the python backend and numpy that the cluster can pull
  HELM              the helm command (default: helm)
"""


class UnusableError(Exception):
    """The demo cannot run here; the message says what is missing and what to do, one line a thing."""


@dataclass(frozen=True)
class Place:
    """Everything the demo must know of a cluster. ``audit_log`` None: there is none to read."""

    kubeconfig: Path
    local: bool
    gateway_namespace: str
    gateway_name: str
    gateway_here: str
    gateway_probe: str
    prometheus_inside: str
    prometheus_here: str
    s3_inside: str
    s3_here: str
    s3_bucket: str
    s3_access_key: str
    s3_secret_key: str
    image_operator: str
    image_triton: str
    helm: str
    image_observer: str = ""
    audit_log: Path | None = None

    @property
    def kubectl(self) -> str:
        """How a person would look around."""
        path = self.kubeconfig
        shown = path.relative_to(REPO) if path.is_relative_to(REPO) else path
        return f"KUBECONFIG={shown} kubectl"


def bring_up_local() -> None:
    """Bring the local cluster up (or find it healthy), its progress on our stderr. Raises UnusableError."""
    if subprocess.run([sys.executable, str(CLUSTER_COMMAND), "up"], check=False).returncode:
        raise UnusableError("the local cluster did not come up; the lines above say why (logs: .local/logs)")


def local_place(directory: Path = LOCAL) -> Place:
    """The local cluster as its files describe it. Raises UnusableError when it is not up."""
    try:
        addresses = json.loads((directory / "cluster.json").read_text())
        images = json.loads((directory / "images.json").read_text())
        return Place(
            kubeconfig=Path(addresses["kubeconfig"]),
            local=True,
            gateway_namespace="gateways",
            gateway_name="inference",
            gateway_here=addresses["gateway"],
            gateway_probe="inference.envoy-gateway-system:80",
            prometheus_inside=addresses["prometheusInCluster"],
            prometheus_here=addresses["prometheus"],
            s3_inside=addresses["s3InCluster"],
            s3_here=addresses["s3"],
            s3_bucket="models",
            s3_access_key=addresses["s3AccessKey"],
            s3_secret_key=addresses["s3SecretKey"],
            image_operator=images["operator"],
            image_triton=images["triton"],
            helm=str(Path(addresses["binaries"]) / "helm"),
            image_observer=images.get("observer", ""),
            audit_log=Path(addresses["auditLog"]),
        )
    except (OSError, ValueError, KeyError) as error:
        raise UnusableError(f"the local cluster is not ready ({error!r}): run `make cluster`") from error


LOOPBACK = re.compile(r"(127\.|localhost:|\[::1\])")

REQUIRED = {
    "KUBECONFIG": "the kubeconfig of your cluster",
    "GATEWAY": "the Gateway to attach to, as namespace/name",
    "PROMETHEUS_URL": "the Prometheus that scrapes the gateway, as the operator reaches it",
    "S3_ENDPOINT": "the object store for the models, as pods reach it",
    "AWS_ACCESS_KEY_ID": "a key that may write to the object store",
    "AWS_SECRET_ACCESS_KEY": "its secret",
    "IMAGE_OPERATOR": "the operator's image, pushed where your cluster can pull it",
    "IMAGE_TRITON": "an image of Triton with the python backend and numpy",
}


def existing_place(environment: Mapping[str, str]) -> Place:
    """The user's cluster as the environment describes it. Raises UnusableError naming each that is missing."""
    problems = [f"{name} is not set: {what}" for name, what in REQUIRED.items() if not environment.get(name)]
    gateway = environment.get("GATEWAY", "")
    namespace, _, name = gateway.partition("/")
    if gateway and not (namespace and name):
        problems.append(f"GATEWAY is {gateway!r}: write namespace/name")
    kubeconfig = Path(environment.get("KUBECONFIG", "")).expanduser().absolute()
    if environment.get("KUBECONFIG") and not kubeconfig.is_file():
        problems.append(f"KUBECONFIG is {kubeconfig}: there is no such file")
    if problems:
        raise UnusableError("\n".join(problems))
    here = environment.get("GATEWAY_ADDRESS", "")
    return Place(
        kubeconfig=kubeconfig,
        local=False,
        gateway_namespace=namespace,
        gateway_name=name,
        gateway_here=here,
        gateway_probe=environment.get("GATEWAY_PROBE", "" if LOOPBACK.match(here) else here),
        prometheus_inside=environment["PROMETHEUS_URL"].rstrip("/"),
        prometheus_here=environment.get("PROMETHEUS_HERE", environment["PROMETHEUS_URL"]).rstrip("/"),
        s3_inside=environment["S3_ENDPOINT"],
        s3_here=environment.get("S3_HERE", environment["S3_ENDPOINT"]),
        s3_bucket=environment.get("S3_BUCKET", "models"),
        s3_access_key=environment["AWS_ACCESS_KEY_ID"],
        s3_secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        image_operator=environment["IMAGE_OPERATOR"],
        image_triton=environment["IMAGE_TRITON"],
        helm=environment.get("HELM", "helm"),
        image_observer=environment.get("IMAGE_OBSERVER", ""),
    )
