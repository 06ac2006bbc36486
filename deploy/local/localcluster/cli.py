"""The verbs of the command line."""

import argparse
import contextlib
import json
import os
import sys

from localcluster import (
    bringup,
    gobuild,
    images,
    layout,
    lock,
    packages,
    preflight,
    processes,
    settings,
    teardown,
)
from localcluster.errors import ClusterError
from localcluster.progress import say

_HELP = """\
One real single-node Kubernetes on this machine, from package registries alone.

verbs:
  up        bring the cluster up (again: check its health and repair it); --without-project leaves out
            the images of operator, observer and Triton
  down      remove every process, mount, interface, firewall rule and cgroup of it; --force also takes
            down the cluster of another checkout
  status    say what runs and what is ready (exit code 0 when all is)
  images    build the images of operator, observer and Triton, import them when the cluster runs, print them as JSON
  binaries  build etcd, kube-apiserver, kubectl and the others only, print their folder (no root needed)
  env       print the cluster's addresses as JSON

The kubeconfig is .local/kubeconfig; builds are kept in $MODELROLLOUT_CACHE (else ~/.cache/modelrollout).
"""


def _up(arguments: argparse.Namespace) -> int:
    preflight.check_privileges()
    with lock.one_verb():
        lock.refuse_others()
        if lock.holder() is not None and (not lock.held_here() or lock.rebooted() or not processes.ours()):
            say("a dead cluster is in the way: removing what it left")
            teardown.down()
        if bringup.healthy():
            say("the cluster is up and healthy")
        else:
            preflight.check(fresh=not processes.ours())
            bringup.bring_up(images.OF_THE_CLUSTER + (() if arguments.without_project else images.OF_THE_PROJECT))
        if not arguments.without_project:
            bringup.project_images()
    _say_how()
    return 0


def _say_how() -> None:
    say(f"the kubeconfig is {layout.KUBECONFIG}; look around with:")
    say(f"  export KUBECONFIG={layout.KUBECONFIG} PATH={gobuild.binaries()}:$PATH; kubectl get pods -A")
    say(f"gateway 127.0.0.1:{settings.GATEWAY_PORT}, Prometheus :{settings.PROMETHEUS_PORT}, S3 :{settings.S3_PORT}")


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
    for name, ready in bringup.state().items():
        say(f"  {name}: {'ready' if ready else 'NOT READY'}")
    return 0 if bringup.healthy() else 1


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
    print(json.dumps(bringup.project_images(), indent=1))
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
