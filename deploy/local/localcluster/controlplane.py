"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: host processes on the bridge and loopback."""

from pathlib import Path

from localcluster import layout, pki, processes, settings
from localcluster.progress import part
from localcluster.shell import run, wait_for
from localcluster.store import write_atomically

# Bodies are not kept; ResponseComplete carries verb, user agent, object and times of every request.
_AUDIT_POLICY = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  nonResourceURLs: ["/healthz*", "/livez*", "/readyz*", "/version", "/openapi*"]
- level: Metadata
"""


def ensure(programs: Path) -> None:
    """Start what does not run, and wait until the API answers."""
    layout.STATE.mkdir(parents=True, exist_ok=True)
    pki.ensure()
    with part("etcd"):
        _ensure_etcd(programs)
    with part("kube-apiserver"):
        _ensure_apiserver(programs)
        write_atomically(layout.KUBECONFIG, pki.kubeconfig("admin").read_text(), mode=0o600)
        wait_for("kube-apiserver ready", lambda: _ready(programs), 90, f"See {processes.log_file('kube-apiserver')}")
    with part("kube-controller-manager and kube-scheduler"):
        _ensure_controllers(programs)


def _ensure_etcd(programs: Path) -> None:
    layout.ETCD.mkdir(parents=True, exist_ok=True)
    if not layout.ETCD.is_mount():
        run(["mount", "-t", "tmpfs", "-o", "size=2g,mode=0700", "modelrollout-etcd", layout.ETCD])
    here, peers = (f"127.0.0.1:{port}" for port in (settings.ETCD_PORT, settings.ETCD_PEER_PORT))
    processes.ensure("etcd", [
        programs / "etcd", "--name=local", f"--data-dir={layout.ETCD}/data", "--unsafe-no-fsync",
        f"--listen-client-urls=https://{here}", f"--advertise-client-urls=https://{here}",
        f"--listen-peer-urls=http://{peers}", f"--initial-advertise-peer-urls=http://{peers}",
        f"--initial-cluster=local=http://{peers}",
        f"--cert-file={layout.PKI}/etcd.crt", f"--key-file={layout.PKI}/etcd.key",
        f"--trusted-ca-file={layout.PKI}/ca.crt", "--client-cert-auth",
        "--quota-backend-bytes=1610612736", "--auto-compaction-mode=periodic", "--auto-compaction-retention=5m",
        "--log-level=warn",
    ])  # fmt: skip


def _ensure_apiserver(programs: Path) -> None:
    layout.AUDIT_LOG.parent.mkdir(parents=True, exist_ok=True)
    if layout.AUDIT_LOG.exists() and processes.alive("kube-apiserver") is None:
        layout.AUDIT_LOG.replace(layout.AUDIT_LOG.with_suffix(".log.old"))
    write_atomically(layout.CONFIG / "audit-policy.yaml", _AUDIT_POLICY)
    keys = layout.PKI
    processes.ensure("kube-apiserver", [
        programs / "kube-apiserver",
        f"--bind-address={settings.BRIDGE_ADDRESS}", f"--secure-port={settings.APISERVER_PORT}",
        f"--advertise-address={settings.BRIDGE_ADDRESS}",
        f"--etcd-servers=https://127.0.0.1:{settings.ETCD_PORT}", f"--etcd-cafile={keys}/ca.crt",
        f"--etcd-certfile={keys}/etcd.crt", f"--etcd-keyfile={keys}/etcd.key",
        f"--tls-cert-file={keys}/apiserver.crt", f"--tls-private-key-file={keys}/apiserver.key",
        f"--client-ca-file={keys}/ca.crt",
        f"--kubelet-certificate-authority={keys}/ca.crt",
        f"--kubelet-client-certificate={keys}/apiserver-kubelet-client.crt",
        f"--kubelet-client-key={keys}/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        f"--service-cluster-ip-range={settings.SERVICE_CIDR}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={keys}/sa.pub", f"--service-account-signing-key-file={keys}/sa.key",
        "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
        f"--audit-policy-file={layout.CONFIG}/audit-policy.yaml", f"--audit-log-path={layout.AUDIT_LOG}",
        "--audit-log-maxsize=1024", "--audit-log-maxbackup=2",
        "--profiling=false", "--v=1",
    ])  # fmt: skip


def _ready(programs: Path) -> bool:
    processes.assert_alive("etcd")
    processes.assert_alive("kube-apiserver")
    asked = run(
        [programs / "kubectl", "--kubeconfig", layout.KUBECONFIG, "get", "--raw", "/readyz"], check=False, timeout=20
    )
    return asked.stdout.strip() == "ok"


def _ensure_controllers(programs: Path) -> None:
    keys = layout.PKI
    processes.ensure("kube-controller-manager", [
        programs / "kube-controller-manager", "--bind-address=127.0.0.1",
        f"--secure-port={settings.CONTROLLERS_PORT}", "--leader-elect=false",
        f"--kubeconfig={pki.kubeconfig('controller-manager')}", "--use-service-account-credentials",
        f"--root-ca-file={keys}/ca.crt", f"--service-account-private-key-file={keys}/sa.key",
        f"--cluster-signing-cert-file={keys}/ca.crt", f"--cluster-signing-key-file={keys}/ca.key",
        f"--service-cluster-ip-range={settings.SERVICE_CIDR}",
        f"--flex-volume-plugin-dir={layout.STATE}/volume-plugins", "--v=1",
    ])  # fmt: skip
    processes.ensure("kube-scheduler", [
        programs / "kube-scheduler", "--bind-address=127.0.0.1", f"--secure-port={settings.SCHEDULER_PORT}",
        "--leader-elect=false", f"--kubeconfig={pki.kubeconfig('scheduler')}", "--v=1",
    ])  # fmt: skip
