"""The Debian packages the cluster needs, and pip with this machine's own settings."""

import shutil
import sys
from pathlib import Path

from localcluster.progress import part, say
from localcluster.shell import run

# program that shows the package is there -> package
_PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "sysctl": "procps",
    "openssl": "openssl",
    "mount": "mount",
    "xz": "xz-utils",
    "wget": "wget",
}


def missing_packages() -> list[str]:
    """Return the Debian packages that are still to be installed."""
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program) is None]
    if not Path("/usr/lib/cni/bridge").exists():
        missing.append("containernetworking-plugins")
    if not Path("/usr/share/keyrings/debian-archive-keyring.gpg").exists():
        missing.append("debian-archive-keyring")
    if run([*pip(), "--version"], check=False).returncode != 0:
        missing.append("python3-pip")
    return sorted(missing)


def pip() -> list[str]:
    """Return how to call a pip of this machine, with whatever index it is configured for."""
    if run([sys.executable, "-m", "pip", "--version"], check=False).returncode == 0:
        return [sys.executable, "-m", "pip"]
    return ["/usr/bin/python3", "-m", "pip"]


def install_packages() -> None:
    """Install the Debian packages that are missing; leave a system containerd as it was."""
    missing = missing_packages()
    if not missing:
        return
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    had_containerd = shutil.which("containerd") is not None
    with part(f"install Debian packages: {' '.join(missing)}"):
        run(["apt-get", "update", "-q"], env=quiet)
        run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], env=quiet)
    if not had_containerd and Path("/run/systemd/system").exists():
        run(["systemctl", "disable", "--now", "containerd.service"], check=False)
        say("the system's containerd service, just installed, was switched off: the cluster starts its own")
