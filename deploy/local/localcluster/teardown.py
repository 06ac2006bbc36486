"""Take the cluster down: end and remove exactly what `up` made, and say what that was."""

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from localcluster import before, buildah, firewall, layout, lock, processes, settings
from localcluster.errors import ClusterError
from localcluster.host import mounts_below, unmount_below
from localcluster.progress import part, say
from localcluster.shell import run

# The order matters: who would start things again goes first, who holds containers last.
_FIRST = ("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy")


def _end_processes() -> int:
    ended = 0
    for names in (_FIRST, None):
        pids = [
            pid
            for pid, comm in processes.ours().items()
            if (comm in {name[:15] for name in names} if names else not comm.startswith("containerd"))
        ]
        processes.stop(pids, grace=5)
        ended += len(pids)
    return ended


def _end_containers() -> int:
    """Kill what runs in the pods' cgroups, then the shims and containerd."""
    mine = set(before.kubepods()) - set(before.recorded()["cgroups"])
    pids = set()
    for top in mine:
        for listed in Path(top).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):
                pids |= {int(pid) for pid in listed.read_text().split()}
    pids.discard(0)  # a process outside our pid namespace; to kill(2) it would mean ourselves
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    rest = list(processes.ours())
    processes.stop(rest, grace=3)
    return len(pids | set(rest))


def _remove_cgroups() -> int:
    gone = 0
    for top in set(before.kubepods()) - set(before.recorded()["cgroups"]):
        folders = [*sorted((one for one in Path(top).rglob("*") if one.is_dir()), reverse=True), Path(top)]
        for folder in folders:
            for _ in range(50):
                try:
                    folder.rmdir()
                    gone += 1
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.05)
    return gone


def _remove_links() -> int:
    gone = 0
    if run(["ip", "link", "show", settings.BRIDGE], check=False).returncode == 0:
        members = run(["ip", "-o", "link", "show", "master", settings.BRIDGE]).stdout.splitlines()
        for line in members:
            name = line.split(": ")[1].split("@")[0]
            gone += run(["ip", "link", "del", name], check=False).returncode == 0
        gone += run(["ip", "link", "del", settings.BRIDGE], check=False).returncode == 0
    return gone


def _remove_files() -> None:
    for pattern in (f"{settings.CNI_NETWORK}-*", "cni-loopback-*"):
        for cached in Path("/var/lib/cni/results").glob(pattern):
            cached.unlink(missing_ok=True)
    logs = Path("/var/log/containers")
    if logs.is_dir():
        for link in logs.iterdir():
            if link.is_symlink() and str(link.readlink()).startswith(str(layout.STATE)):
                link.unlink()
    for checkout in {lock.holder() or layout.REPO, layout.REPO}:
        for file in (layout.KUBECONFIG, layout.CLUSTER_JSON, layout.IMAGES_JSON):
            (checkout / file.relative_to(layout.REPO)).unlink(missing_ok=True)
    _remove_strays()
    _remove_tree(layout.STATE)
    _remove_tree(layout.RUN)


def _remove_tree(folder: Path) -> None:
    """Remove one of our folders, but never what is still mounted in it: that may be a volume of the user's."""
    left = mounts_below(folder)
    if left:
        raise ClusterError(f"could not unmount {', '.join(left)}: unmount by hand, then run down again")
    shutil.rmtree(folder, ignore_errors=True)


def _remove_shim_sockets() -> None:
    """Shims put their sockets at a fixed place; each names its own in its bundle."""
    for file in layout.CONTAINERD_STATE.glob("io.containerd.runtime.v2.task/*/*/address"):
        with contextlib.suppress(OSError):
            Path(file.read_text().strip().removeprefix("unix://")).unlink()


def _remove_strays() -> None:
    """Remove the folders that were not there before, when only our own remains are in them."""
    for name in ("/etc/cni/net.d/cni.lock", "/var/lib/kubelet/device-plugins/kubelet.sock"):
        if str(Path(name).parent) not in before.recorded()["folders"]:
            Path(name).unlink(missing_ok=True)
    for name in before.strays():
        if name not in before.recorded()["folders"]:
            with contextlib.suppress(OSError):
                Path(name).rmdir()


def down() -> None:
    """Remove everything, in an order in which nothing comes back."""
    if not layout.RUN.exists() and not layout.STATE.exists() and not processes.ours():
        say("there is no local cluster: nothing to remove")
        return
    with part("take the cluster down"):
        ended = _end_processes() + _end_containers()
        _remove_shim_sockets()
        places = unmount_below(layout.RUN) + unmount_below(layout.STATE)
        buildah.clear()
        groups = _remove_cgroups()
        links = _remove_links()
        rules = firewall.remove()
        settings_back = before.restore_sysctls()
        _remove_files()
    say(
        f"removed: {ended} processes, {places} mounts, {links} interfaces, {rules} firewall rules and chains, "
        f"{groups} cgroups; restored {len(settings_back)} kernel settings; removed {layout.KUBECONFIG}"
    )
    say(f"kept: logs in {layout.LOGS}, builds in {layout.cache()}")
