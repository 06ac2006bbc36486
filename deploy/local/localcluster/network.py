"""The bridge that pods hang on and the control plane listens on, and the few firewall rules it needs."""

import json

from localcluster import before, layout, settings
from localcluster.progress import part
from localcluster.shell import run
from localcluster.store import write_atomically

_RULE = ["-m", "comment", "--comment", settings.MARK]
_RULES = (
    ("filter", "FORWARD", ["-i", settings.BRIDGE, *_RULE, "-j", "ACCEPT"]),
    ("filter", "FORWARD", ["-o", settings.BRIDGE, *_RULE, "-j", "ACCEPT"]),
    ("nat", "POSTROUTING",
     ["-s", settings.POD_CIDR, "!", "-d", settings.POD_CIDR, *_RULE, "-j", "MASQUERADE"]),
)  # fmt: skip


def ensure() -> None:
    """Make bridge, rules, kernel settings and the CNI's configuration; what is there stays."""
    with part("host network"):
        before.record()
        before.set_sysctls()
        if run(["ip", "link", "show", settings.BRIDGE], check=False).returncode != 0:
            run(["ip", "link", "add", settings.BRIDGE, "type", "bridge"])
        run(["ip", "addr", "replace", f"{settings.BRIDGE_ADDRESS}/24", "dev", settings.BRIDGE])
        run(["ip", "link", "set", settings.BRIDGE, "up"])
        for table, chain, rule in _RULES:
            if run(["iptables", "-w", "-t", table, "-C", chain, *rule], check=False).returncode != 0:
                run(["iptables", "-w", "-t", table, "-I", chain, *rule])
        _write_cni()


def _write_cni() -> None:
    bridge = {
        "type": "bridge",
        "bridge": settings.BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": str(layout.CNI_STATE),
            "ranges": [[{"subnet": settings.POD_CIDR, "gateway": settings.BRIDGE_ADDRESS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    network = {"cniVersion": "0.4.0", "name": settings.CNI_NETWORK, "plugins": [bridge]}
    write_atomically(layout.CONFIG / "cni" / "10-modelrollout.conflist", json.dumps(network, indent=1))
