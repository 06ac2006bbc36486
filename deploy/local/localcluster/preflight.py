"""What the machine is and has: asked before anything is started, and named when it does not do."""

import os
import platform
import shutil
from pathlib import Path

from localcluster import layout, settings
from localcluster.errors import ClusterError
from localcluster.gobuild import go_version
from localcluster.packages import missing_packages
from localcluster.shell import run

_CAPABILITIES = {"SYS_ADMIN": 21, "NET_ADMIN": 12, "SYS_CHROOT": 18, "MKNOD": 27, "SYS_PTRACE": 19, "DAC_OVERRIDE": 1}
_CACHE_GIB = 12
_STATE_GIB = 6
_FILESYSTEMS = ("overlay", "tmpfs")


def _listeners() -> dict[int, list[str]]:
    """Return the listening TCP ports and the inodes of their sockets."""
    found: dict[int, list[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        if not Path(table).exists():
            continue
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                port = fields[1].rsplit(":", 1)[1]
                found.setdefault(int(port, 16), []).append(fields[9])
    return found


def _owner(inodes: list[str]) -> str:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(one.readlink()) in wanted for one in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return "another process"


def _port_problems() -> list[str]:
    listeners = _listeners()
    return [
        f"port {port}, wanted for {name}, is in use by {_owner(listeners[port])}"
        for name, port in settings.PORTS.items()
        if port in listeners
    ]


def _privilege_problems() -> list[str]:
    if os.geteuid() != 0:
        return ["root is needed (mounts, namespaces, firewall): run it as root"]
    effective = next(
        int(line.split()[1], 16)
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("CapEff:")
    )
    return [f"the capability CAP_{name} is missing" for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]


def _kernel_problems() -> list[str]:
    known = Path("/proc/filesystems").read_text().split()
    problems = []
    for one in _FILESYSTEMS:
        if one not in known:
            run(["modprobe", one], check=False) if shutil.which("modprobe") else None
            if one not in Path("/proc/filesystems").read_text().split():
                problems.append(f"the kernel has no {one} file system")
    if not Path("/proc/sys/net/bridge").exists() and shutil.which("modprobe"):
        run(["modprobe", "br_netfilter"], check=False)
    if not Path("/proc/sys/net/bridge").exists():
        problems.append("the kernel lacks br_netfilter (bridge-nf-call-iptables)")
    return problems


def _disk_problems() -> list[str]:
    problems = []
    for path, need in ((layout.cache(), _CACHE_GIB), (layout.STATE, _STATE_GIB)):
        place = next(one for one in (path, *path.parents) if one.exists())
        free = shutil.disk_usage(place).free / 2**30
        if free < need and not (path / "tools").exists():
            problems.append(f"{place} has {free:.1f} GiB free, {need} are needed for {path}")
    return problems


def _address_problems() -> list[str]:
    if shutil.which("ip") is None:
        return []
    taken = [
        line.split()[0]
        for line in run(["ip", "-4", "route", "show"]).stdout.splitlines()
        if settings.BRIDGE not in line and line.split()[0].startswith(("10.244.", "10.96."))
    ]
    return [f"the route {one} overlaps the cluster's addresses" for one in taken]


def check_privileges() -> None:
    """Name what the kernel would refuse, before any file of ours is touched."""
    problems = _privilege_problems()
    if problems:
        raise ClusterError("nothing was started:\n" + "\n".join(f"  - {one}" for one in problems))


def check(fresh: bool) -> None:
    """Name every missing privilege, package source, port and room at once."""
    problems = _privilege_problems()
    if platform.machine() != "x86_64":
        problems.append(f"the wheels of Triton, Envoy and rclone are for x86_64, this is {platform.machine()}")
    if missing_packages() and shutil.which("apt-get") is None:
        problems.append(f"these are missing, and there is no apt-get: {', '.join(missing_packages())}")
    try:
        go_version()
    except ClusterError as error:
        problems.append(str(error))
    if not problems:
        problems += _kernel_problems() + _disk_problems() + _address_problems()
        problems += _port_problems() if fresh else []
    if problems:
        raise ClusterError("nothing was started:\n" + "\n".join(f"  - {one}" for one in problems))
