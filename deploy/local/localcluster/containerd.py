"""containerd of the cluster's own: its configuration, its start, and images brought into it.

A system containerd is not touched: root, state, socket and network namespaces are all below our folders.
"""

import json
import shutil
from pathlib import Path

from localcluster import layout, processes
from localcluster.errors import ClusterError
from localcluster.progress import part
from localcluster.shell import run, wait_for
from localcluster.store import write_atomically

# restrict_oom_score_adj: without CAP_SYS_RESOURCE every sandbox dies at start.
_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
oom_score = 0
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
]
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
      Root = "{runc}"
"""


def _ctr(*words: str | Path, check: bool = True) -> str:
    return run(["ctr", "-a", layout.CONTAINERD_SOCKET, "-n", "k8s.io", *words], check=check).stdout


def ensure(pause_ref: str) -> None:
    """Start containerd unless it runs."""
    write_atomically(
        layout.CONFIG / "containerd.toml",
        _CONFIG.format(
            root=layout.CONTAINERD_ROOT,
            state=layout.CONTAINERD_STATE,
            socket=layout.CONTAINERD_SOCKET,
            pause=pause_ref,
            runc=layout.RUN / "runc",
            cni=layout.CONFIG / "cni",
        ),
    )
    with part("containerd"):
        program = shutil.which("containerd") or "/usr/bin/containerd"
        processes.ensure("containerd", [program, "--config", layout.CONFIG / "containerd.toml"])
        wait_for("containerd answering", _answers, 30, f"See {processes.log_file('containerd')}")


def _answers() -> bool:
    processes.assert_alive("containerd")
    return "io.containerd.grpc.v1" in _ctr("plugins", "ls", check=False)


def imported() -> set[str]:
    """Return the references of all images that containerd has."""
    return set(_ctr("images", "ls", "-q").split())


def bring(ref: str, archive: Path) -> None:
    """Import an image unless it is there."""
    if ref in imported():
        return
    name = ref.rsplit("/", 1)[1].split(":")[0]
    with part(f"import image {name} ({archive.stat().st_size / 2**20:.0f} MB)"):
        _ctr("images", "import", "--all-platforms", archive)
        if ref not in imported():
            raise ClusterError(f"{archive} was imported, but does not hold {ref}")


def running() -> bool:
    """Say whether the cluster's containerd runs."""
    return processes.alive("containerd") is not None


def write_images(refs: dict[str, str]) -> None:
    """Add references to .local/images.json."""
    known: dict[str, str] = {}
    if layout.IMAGES_JSON.exists():
        known = json.loads(layout.IMAGES_JSON.read_text())
    write_atomically(layout.IMAGES_JSON, json.dumps({**known, **refs}, indent=1, sort_keys=True) + "\n")
