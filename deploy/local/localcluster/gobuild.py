"""Build all Go parts from the one tools module, into the cache.

Go's own environment decides on proxy and checksums; nothing of it is written here.
"""

import contextlib
import json
import os
import subprocess
from pathlib import Path

from localcluster import layout, store
from localcluster.digest import digest
from localcluster.errors import ClusterError
from localcluster.progress import part, say
from localcluster.settings import ENVOY_GATEWAY_MODULE, KUBERNETES_VERSION
from localcluster.shell import run

_TAGS = "remove_all_sd,enable_kubernetes_sd,netgo"
_MINIMUM = (1, 26, 3)


def _link_flags() -> str:
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    values = {
        "k8s.io/component-base/version.gitVersion": KUBERNETES_VERSION,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES_VERSION,
    }
    return "-s -w " + " ".join(f"-X {name}={value}" for name, value in values.items())


def _flags() -> list[str]:
    return ["-mod=readonly", "-trimpath", "-buildvcs=false", "-tags", _TAGS, "-ldflags", _link_flags()]


def go_version() -> str:
    """Return the version of the installed Go, or say which one is needed."""
    try:
        said = run(["go", "env", "GOVERSION"], cwd=layout.TOOLS_MODULE).stdout.strip()
    except ClusterError as error:
        wanted = ".".join(str(number) for number in _MINIMUM)
        raise ClusterError(f"Go >= {wanted} is needed on the PATH to build the cluster's parts: {error}") from error
    digits = said.removeprefix("go").split("-")[0].split(" ")[0].split(".")
    if tuple(int(one) for one in digits if one.isdigit()) < _MINIMUM:
        raise ClusterError(f"Go >= {'.'.join(map(str, _MINIMUM))} is needed, found {said}")
    return said


def key() -> str:
    """Name the build by all that shapes it."""
    module = layout.TOOLS_MODULE
    return digest(module / "go.mod", module / "go.sum", module / "pause", *_flags(), go_version(), "layout 1")


def binaries() -> Path:
    """Return the folder with all programs, built when they are not in the cache."""
    return store.entry("tools", key(), _build, keep=2) / "bin"


def _build(folder: Path) -> None:
    target = folder / "bin"
    target.mkdir()
    packages = folder / "packages.log"

    def count() -> str:
        with contextlib.suppress(OSError):
            return f"{sum(1 for _ in packages.open())} packages compiled"
        return ""

    with part("build Kubernetes, etcd, Envoy Gateway, Helm, CoreDNS, Prometheus (minutes when cold)", count):
        argv = ["go", "build", "-v", *_flags(), "-o", f"{target}/", "tool"]
        env = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": ""}
        with packages.open("w") as sink:
            code = subprocess.run(
                argv, cwd=layout.TOOLS_MODULE, env=env, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, check=False
            ).returncode
        if code != 0:
            tail = "\n".join(packages.read_text(errors="replace").splitlines()[-25:])
            raise ClusterError(f"the Go build failed with {code}:\n{tail}")
    (target / "server").rename(target / "etcd")
    _copy_charts(folder)
    say(f"built {len(list(target.iterdir()))} programs")


def _copy_charts(folder: Path) -> None:
    """Keep Envoy Gateway's chart beside the programs: it is inside the Go module."""
    listed = run(["go", "list", "-m", "-json", ENVOY_GATEWAY_MODULE], cwd=layout.TOOLS_MODULE, env={"GOWORK": "off"})
    module = json.loads(listed.stdout)
    run(["cp", "-r", "--no-preserve=mode", f"{module['Dir']}/charts/gateway-helm", folder / "gateway-helm"])


def chart() -> Path:
    """Return Envoy Gateway's chart, as the module has it."""
    return binaries().parent / "gateway-helm"
