"""Bring the cluster up: the order of the parts, and what is written down for others."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from localcluster import (
    addons,
    base,
    containerd,
    controlplane,
    gobuild,
    images,
    kubectl,
    layout,
    lock,
    network,
    node,
    packages,
    processes,
    settings,
)
from localcluster.store import write_atomically


def _addresses(refs: dict[str, str]) -> dict[str, object]:
    return {
        "kubeconfig": str(layout.KUBECONFIG),
        "gateway": f"127.0.0.1:{settings.GATEWAY_PORT}",
        "prometheus": f"http://127.0.0.1:{settings.PROMETHEUS_PORT}",
        "prometheusInCluster": "http://prometheus.monitoring.svc.cluster.local:9090",
        "s3": f"http://127.0.0.1:{settings.S3_PORT}",
        "s3InCluster": "http://s3.storage.svc.cluster.local:9000",
        "s3AccessKey": settings.S3_ACCESS_KEY,
        "s3SecretKey": settings.S3_SECRET_KEY,
        "auditLog": str(layout.AUDIT_LOG),
        "binaries": str(gobuild.binaries()),
        "images": refs,
    }


def _build_all(
    pool: ThreadPoolExecutor, names: tuple[str, ...]
) -> tuple[Future[Path], dict[str, Future[tuple[str, Path]]]]:
    """Start all builds: compiling in one lane, downloads and the base in the other."""
    compiled = pool.submit(gobuild.binaries)
    grounds = pool.submit(base.rootfs)

    def build(name: str) -> tuple[str, Path]:
        (compiled if name in images.FROM_GO else grounds).result()
        return images.archive(name)

    return compiled, {name: pool.submit(build, name) for name in names}


def bring_up(names: tuple[str, ...]) -> None:
    """Build what is missing and start what does not run, builds and starts side by side."""
    packages.install_packages()
    with ThreadPoolExecutor(16) as pool:
        compiled, built = _build_all(pool, names)
        programs = compiled.result()
        pause = built["pause"].result()
        lock.take()
        network.ensure()
        containerd.ensure(pause[0])
        with ThreadPoolExecutor(1) as importer:
            brought = {name: importer.submit(_bring, one) for name, one in built.items()}
            controlplane.ensure(programs)
            node.ensure(programs)
            refs = {name: brought[name].result() for name in images.OF_THE_CLUSTER}
            addons.ensure(refs)
            refs = {name: one.result() for name, one in brought.items()}
    containerd.write_images(refs)
    _write_addresses()


def _bring(built: Future[tuple[str, Path]]) -> str:
    ref, archive = built.result()
    containerd.bring(ref, archive)
    return ref


def project_images() -> dict[str, str]:
    """Build operator, observer and Triton from the checkout as it is, and give them to the cluster if it runs."""
    refs = {}
    for name in images.OF_THE_PROJECT:
        ref, archive = images.archive(name)
        if containerd.running():
            containerd.bring(ref, archive)
        refs[name] = ref
    containerd.write_images(refs)
    if containerd.running():
        _write_addresses()
    return refs


def _write_addresses() -> None:
    refs = json.loads(layout.IMAGES_JSON.read_text()) if layout.IMAGES_JSON.exists() else {}
    write_atomically(layout.CLUSTER_JSON, json.dumps(_addresses(refs), indent=1) + "\n")


def healthy() -> bool:
    """Say whether everything of this checkout's cluster runs and is ready."""
    if not (lock.held_here() and layout.CLUSTER_JSON.exists() and layout.KUBECONFIG.exists()):
        return False
    return None not in processes.parts().values() and all(state().values())


def state() -> dict[str, bool]:
    """Say what is ready, the API server first."""
    found = {"API server": kubectl.ask("get", "--raw", "/readyz") == "ok"}
    return {**found, **addons.healthy()} if found["API server"] else found
