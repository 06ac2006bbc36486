"""What the machine was like before: sysctls and firewall tables, written down to be restored."""

import json
from pathlib import Path
from typing import TypedDict

from localcluster import layout
from localcluster.shell import run
from localcluster.store import write_atomically

# kernel setting -> the value the cluster wants; None where kubelet or kube-proxy choose it
_SYSCTLS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/route_localnet": "1",
    "net/bridge/bridge-nf-call-iptables": "1",
    "fs/inotify/max_user_instances": "1024",
    "net/ipv4/conf/all/arp_ignore": None,
    "net/netfilter/nf_conntrack_max": None,
    "net/netfilter/nf_conntrack_tcp_be_liberal": None,
    "net/netfilter/nf_conntrack_tcp_timeout_established": None,
    "net/netfilter/nf_conntrack_tcp_timeout_close_wait": None,
    "net/netfilter/nf_conntrack_udp_timeout": None,
    "net/netfilter/nf_conntrack_udp_timeout_stream": None,
    "vm/overcommit_memory": None,
    "vm/panic_on_oom": None,
    "kernel/panic": None,
    "kernel/panic_on_oops": None,
    "kernel/keys/root_maxkeys": None,
    "kernel/keys/root_maxbytes": None,
}


# made by shims, CNI and kubelet whatever they are told; the deepest first
_STRAYS = (
    "/run/containerd/s",
    "/run/containerd",
    "/etc/cni/net.d",
    "/etc/cni",
    "/var/lib/cni/results",
    "/var/lib/cni",
    "/var/lib/kubelet/device-plugins",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/usr/libexec/kubernetes",
)


class Before(TypedDict):
    """The record: kernel settings, firewall tables and cgroups that were there."""

    sysctls: dict[str, str]
    tables: list[str]
    cgroups: list[str]
    folders: list[str]


def _file(name: str) -> Path:
    return Path("/proc/sys", name)


def tables() -> list[str]:
    """Return the firewall tables that exist, as nft names them: `ip filter`."""
    said = run(["nft", "list", "tables"]).stdout
    return [line.removeprefix("table ") for line in said.splitlines()]


def kubepods() -> list[str]:
    """Return the kubelet's cgroups at the top of each hierarchy."""
    root = Path("/sys/fs/cgroup")
    return [str(one) for pattern in ("kubepods", "*/kubepods") for one in root.glob(pattern)]


def strays() -> list[str]:
    """Return which of the folders exist that runtimes make at fixed places."""
    return [one for one in _STRAYS if Path(one).exists()]


def record() -> None:
    """Write the state down once; a second `up` must not record the cluster's own changes."""
    if layout.BEFORE.exists():
        return
    kept = {name: _file(name).read_text().strip() for name in _SYSCTLS if _file(name).exists()}
    before = Before(sysctls=kept, tables=tables(), cgroups=kubepods(), folders=strays())
    write_atomically(layout.BEFORE, json.dumps(before, indent=1))


def recorded() -> Before:
    """Return what was recorded, or an empty record."""
    try:
        before: Before = json.loads(layout.BEFORE.read_text())
    except (OSError, ValueError):
        return Before(sysctls={}, tables=[], cgroups=[], folders=[])
    return before


def set_sysctls() -> None:
    """Set what the cluster needs."""
    for name, value in _SYSCTLS.items():
        if value is None:
            continue
        if name.startswith("fs/inotify") and int(_file(name).read_text()) >= int(value):
            continue
        _file(name).write_text(value)


def restore_sysctls() -> list[str]:
    """Put back every setting that differs; return their names."""
    changed = []
    for name, value in recorded()["sysctls"].items():
        if _file(name).exists() and _file(name).read_text().split() != value.split():
            _file(name).write_text(value)
            changed.append(name.replace("/", "."))
    return changed
