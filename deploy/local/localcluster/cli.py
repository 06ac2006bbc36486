"""The verbs of the command line."""

import argparse
import contextlib
import json
import os
import sys
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
    preflight,
    processes,
    settings,
    teardown,
)
from localcluster.errors import ClusterError
from localcluster.progress import say
from localcluster.store import write_atomically

_HELP = """\
One real single-node Kubernetes on this machine, from package registries alone.

verbs:
  up        bring the cluster up (again: check its health and repair it); --without-project leaves out
            the images of operator and Triton
  down      remove every process, mount, interface, firewall rule and cgroup of it; --force also takes
            down the cluster of another checkout
  status    say what runs and what is ready (exit code 0 when all is)
  images    build the images of operator and Triton, import them when the cluster runs, print them as JSON
  binaries  build etcd, kube-apiserver, kubectl and the others only, print their folder (no root needed)
  env       print the cluster's addresses as JSON

The kubeconfig is .local/kubeconfig; builds are kept in $MODELROLLOUT_CACHE (else ~/.cache/modelrollout).
"""


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


def _up(arguments: argparse.Namespace) -> int:
    preflight.check_privileges()
    with lock.one_verb():
        lock.refuse_others()
        if lock.holder() is not None and (not lock.held_here() or lock.rebooted() or not processes.ours()):
            say("a dead cluster is in the way: removing what it left")
            teardown.down()
        if _healthy():
            say("the cluster is up and healthy")
        else:
            preflight.check(fresh=not processes.ours())
            _bring_up(images.OF_THE_CLUSTER + (() if arguments.without_project else images.OF_THE_PROJECT))
        if not arguments.without_project:
            _project_images()
    _say_how()
    return 0


def _bring_up(names: tuple[str, ...]) -> None:
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


def _project_images() -> dict[str, str]:
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


def _say_how() -> None:
    say(f"the kubeconfig is {layout.KUBECONFIG}; look around with:")
    say(f"  export KUBECONFIG={layout.KUBECONFIG} PATH={gobuild.binaries()}:$PATH; kubectl get pods -A")
    say(f"gateway 127.0.0.1:{settings.GATEWAY_PORT}, Prometheus :{settings.PROMETHEUS_PORT}, S3 :{settings.S3_PORT}")


def _healthy() -> bool:
    if not (lock.held_here() and layout.CLUSTER_JSON.exists() and layout.KUBECONFIG.exists()):
        return False
    return None not in processes.parts().values() and all(_state().values())


def _state() -> dict[str, bool]:
    state = {"API server": kubectl.ask("get", "--raw", "/readyz") == "ok"}
    return {**state, **addons.healthy()} if state["API server"] else state


def _status(arguments: argparse.Namespace) -> int:
    owner = lock.holder()
    if owner is None:
        say("there is no local cluster")
        return 1
    say(f"the cluster belongs to {owner}")
    for name, pid in processes.parts().items():
        say(f"  {name}: {'pid ' + str(pid) if pid else 'ENDED, see ' + str(processes.log_file(name))}")
    if owner != layout.REPO:
        return 1
    state = _state()
    for name, ready in state.items():
        say(f"  {name}: {'ready' if ready else 'NOT READY'}")
    return 0 if _healthy() else 1


def _down(arguments: argparse.Namespace) -> int:
    if os.geteuid() != 0:
        raise ClusterError("root is needed: run it as root")
    with lock.one_verb():
        if not arguments.force:
            lock.refuse_others()
        teardown.down()
    return 0


def _images(arguments: argparse.Namespace) -> int:
    preflight.check(fresh=False)
    packages.install_packages()
    print(json.dumps(_project_images(), indent=1))
    return 0


def _binaries(arguments: argparse.Namespace) -> int:
    print(gobuild.binaries())
    return 0


def _env(arguments: argparse.Namespace) -> int:
    if not layout.CLUSTER_JSON.exists():
        raise ClusterError("there is no cluster of this checkout; bring it up with: make cluster")
    print(layout.CLUSTER_JSON.read_text(), end="")
    return 0


_VERBS = {"up": _up, "down": _down, "status": _status, "images": _images, "binaries": _binaries, "env": _env}


def main() -> int:
    """Run one verb; what a person must know goes to stderr, results to stdout."""
    parser = argparse.ArgumentParser(
        prog="cluster.py", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=sorted(_VERBS), metavar="verb")
    parser.add_argument("--without-project", action="store_true", help="up: leave out the project's own images")
    parser.add_argument("--force", action="store_true", help="down: also a living cluster of another checkout")
    arguments = parser.parse_args()
    os.umask(0o022)
    with contextlib.suppress(KeyboardInterrupt):
        try:
            return _VERBS[arguments.verb](arguments)
        except ClusterError as error:
            print(f"\nerror: {error}", file=sys.stderr)
            return 1
    return 130
