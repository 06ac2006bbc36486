"""What runs in the cluster for the operator's sake: Envoy Gateway with one Gateway, Prometheus, object store."""

import re
import shutil
from pathlib import Path
from string import Template

from localcluster import gobuild, kubectl, layout, settings
from localcluster.progress import part
from localcluster.shell import wait_for

_SYSTEM = "envoy-gateway-system"
_SECONDS = 180


def ensure(refs: dict[str, str]) -> None:
    """Apply everything, then wait for all of it together."""
    kubectl.apply_manifest("cluster.yaml")
    with part("Prometheus and object store: apply"):
        kubectl.apply_manifest(
            "prometheus.yaml", image=refs["prometheus"], node_port=str(settings.PROMETHEUS_PORT), dollar="$"
        )
        kubectl.apply_manifest(
            "s3.yaml",
            image=refs["rclone"],
            node_port=str(settings.S3_PORT),
            access_key=settings.S3_ACCESS_KEY,
            secret_key=settings.S3_SECRET_KEY,
        )
    with part("Envoy Gateway: install"):
        _install_gateway(refs)
    for name, (ready, seconds) in {
        "object store": (lambda: _available("storage", "s3"), _SECONDS),
        "Prometheus": (lambda: _available("monitoring", "prometheus"), _SECONDS),
        "gateway": (gateway_programmed, _SECONDS),
    }.items():
        hint = f"Look with: kubectl --kubeconfig {layout.KUBECONFIG} get pods -A"
        with part(f"wait for {name}"):
            wait_for(f"{name} ready", ready, seconds, hint)


def _install_gateway(refs: dict[str, str]) -> None:
    crds = gobuild.chart() / "charts" / "crds" / "crds"
    kubectl.apply(*sorted(crds.rglob("*.yaml")))
    chart = layout.STATE / "gateway-helm"
    shutil.rmtree(chart, ignore_errors=True)
    shutil.copytree(gobuild.chart(), chart)
    template = Template((chart / "values.tmpl.yaml").read_text())
    values = template.safe_substitute(GatewayImage=refs["gateway"], GatewayImagePullPolicy="IfNotPresent")
    (chart / "values.yaml").write_text(values)
    _probe_sooner(chart / "templates" / "envoy-gateway-deployment.yaml")
    _forget_killed_install()
    shutdown = "config.envoyGateway.provider.kubernetes.shutdownManager.image"
    kubectl.helm(
        "upgrade", "--install", "eg", chart, "--namespace", _SYSTEM, "--create-namespace", "--skip-crds",
        "--set", "topologyInjector.enabled=false", "--set", f"{shutdown}={refs['gateway']}",
        "--set", "deployment.envoyGateway.resources.requests.cpu=10m",
    )  # fmt: skip
    kubectl.apply_manifest("gateway.yaml", envoy_image=refs["envoy"], node_port=str(settings.GATEWAY_PORT))


def _forget_killed_install() -> None:
    """Drop Helm's record of an install that was killed half way: it would refuse every later one."""
    pending = "owner=helm,name=eg,status in (pending-install,pending-upgrade,pending-rollback)"
    kubectl.ask("delete", "secret", "-n", _SYSTEM, "-l", pending)


def _probe_sooner(template: Path) -> None:
    """Ask each second whether the control plane is ready: the chart's first answer comes after 5 to 15 s."""
    text = template.read_text()
    template.write_text(re.sub(r"initialDelaySeconds: 5\n(\s+)periodSeconds: 10", r"periodSeconds: 1", text))


def _available(namespace: str, name: str) -> bool:
    return kubectl.ask("get", "deployment", name, "-n", namespace, "-o", "jsonpath={.status.availableReplicas}") == "1"


def gateway_programmed() -> bool:
    """Say whether Envoy serves the Gateway."""
    path = '{.status.conditions[?(@.type=="Programmed")].status}'
    return kubectl.ask("get", "gateway", "inference", "-n", "gateways", "-o", f"jsonpath={path}") == "True"


def healthy() -> dict[str, bool]:
    """Say which addons are ready."""
    return {
        "object store": _available("storage", "s3"),
        "Prometheus": _available("monitoring", "prometheus"),
        "gateway": gateway_programmed(),
    }
