"""The node: kubelet, kube-proxy and CoreDNS as host processes."""

import json
from pathlib import Path

from localcluster import kubectl, layout, pki, processes, settings
from localcluster.progress import part
from localcluster.shell import wait_for
from localcluster.store import write_atomically

_COREFILE = """\
.:53 {{
    bind {address}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig}
        pods disabled
        ttl 5
    }}
{forward}    cache 5
}}
"""


def ensure(programs: Path) -> None:
    """Start what does not run, and wait until the node is Ready."""
    with part("node (kubelet, kube-proxy, CoreDNS)"):
        processes.ensure("kube-proxy", [programs / "kube-proxy", f"--config={_proxy_config()}", "--v=1"])
        processes.ensure("kubelet", [
            programs / "kubelet", f"--config={_kubelet_config()}", f"--kubeconfig={pki.kubeconfig('kubelet')}",
            f"--hostname-override={settings.NODE}", f"--node-ip={settings.BRIDGE_ADDRESS}",
            f"--root-dir={layout.KUBELET}", f"--cert-dir={layout.KUBELET}/pki", "--v=1",
        ])  # fmt: skip
        corefile = layout.CONFIG / "Corefile"
        corefile_text = _COREFILE.format(
            address=settings.BRIDGE_ADDRESS, kubeconfig=pki.kubeconfig("coredns"), forward=_forward()
        )
        write_atomically(corefile, corefile_text)
        processes.ensure("coredns", [programs / "coredns", "-conf", corefile])
        wait_for("the node Ready", _ready, 90, f"See {processes.log_file('kubelet')}")


def _forward() -> str:
    """Ask the machine's own name servers for other names, if it has any: CoreDNS would not start without."""
    resolv = Path("/etc/resolv.conf")
    if resolv.exists() and any(line.startswith("nameserver") for line in resolv.read_text().splitlines()):
        return "    forward . /etc/resolv.conf\n"
    return ""


def _ready() -> bool:
    for name in ("kubelet", "kube-proxy", "containerd", "coredns"):
        processes.assert_alive(name)
    path = '{.status.conditions[?(@.type=="Ready")].status}'
    return kubectl.ask("get", "node", settings.NODE, "-o", f"jsonpath={path}") == "True"


def _kubelet_config() -> Path:
    config = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": settings.BRIDGE_ADDRESS,
        "port": settings.KUBELET_PORT,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": settings.KUBELET_HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.PKI / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.PKI / "kubelet.crt"),
        "tlsPrivateKeyFile": str(layout.PKI / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{layout.CONTAINERD_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDomain": "cluster.local",
        "clusterDNS": [settings.BRIDGE_ADDRESS],
        "resolvConf": "/etc/resolv.conf",
        "podLogsDir": str(layout.STATE / "pod-logs"),
        "volumePluginDir": str(layout.STATE / "volume-plugins"),
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "serializeImagePulls": False,
        "containerLogMaxSize": "32Mi",
        "containerLogMaxFiles": 2,
    }
    target = layout.CONFIG / "kubelet.json"
    write_atomically(target, json.dumps(config, indent=1))
    return target


def _proxy_config() -> Path:
    config = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": settings.BRIDGE_ADDRESS,
        "clusterCIDR": settings.POD_CIDR,
        "hostnameOverride": settings.NODE,
        "clientConnection": {"kubeconfig": str(pki.kubeconfig("kube-proxy"))},
        "healthzBindAddress": f"127.0.0.1:{settings.PROXY_HEALTH_PORT}",
        "metricsBindAddress": f"127.0.0.1:{settings.PROXY_METRICS_PORT}",
        # NodePorts answer on loopback and the bridge only, never on the machine's outward addresses.
        "nodePortAddresses": ["127.0.0.0/8", f"{settings.BRIDGE_ADDRESS}/32"],
        "iptables": {"localhostNodePorts": True, "minSyncPeriod": "100ms", "syncPeriod": "30s"},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    target = layout.CONFIG / "kube-proxy.json"
    write_atomically(target, json.dumps(config, indent=1))
    return target
