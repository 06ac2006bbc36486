"""Keys and certificates by openssl: one authority, a certificate a part; and the kubeconfigs made of them."""

import base64
import json
import shutil
from pathlib import Path

from localcluster import layout, settings
from localcluster.progress import part
from localcluster.shell import run
from localcluster.store import write_atomically

_DAYS = "3650"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_CONFIG = "[req]\ndistinguished_name=dn\n[dn]\n"

_SERVICE_NAMES = ",".join(
    f"DNS:kubernetes{more}" for more in ("", ".default", ".default.svc", ".default.svc.cluster.local")
)

# name -> (subject, extra names)
_CERTIFICATES = {
    "apiserver": (
        "/CN=kube-apiserver",
        f"{_SERVICE_NAMES},DNS:localhost,IP:127.0.0.1,IP:{settings.BRIDGE_ADDRESS},IP:{settings.SERVICE_FIRST}",
    ),
    "etcd": ("/CN=etcd", "DNS:localhost,IP:127.0.0.1"),
    "kubelet": (
        f"/O=system:nodes/CN=system:node:{settings.NODE}",
        f"DNS:{settings.NODE},IP:{settings.BRIDGE_ADDRESS},IP:127.0.0.1",
    ),
    "apiserver-kubelet-client": ("/O=system:masters/CN=kube-apiserver-kubelet-client", ""),
    "admin": ("/O=system:masters/CN=admin", ""),
    "controller-manager": ("/CN=system:kube-controller-manager", ""),
    "scheduler": ("/CN=system:kube-scheduler", ""),
    "kube-proxy": ("/CN=system:kube-proxy", ""),
    "coredns": ("/CN=system:coredns", ""),
}


def ensure() -> None:
    """Make all keys in a folder beside, and put it in place by one rename."""
    if layout.PKI.is_dir():
        return
    with part("keys and certificates"):
        folder = layout.PKI.with_name("pki.making")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, mode=0o700)
        (folder / "openssl.cnf").write_text(_CONFIG)
        _openssl(folder, "ca", "/CN=modelrollout-local", "", ["-addext", "basicConstraints=critical,CA:TRUE"])
        for name, (subject, names) in _CERTIFICATES.items():
            _openssl(folder, name, subject, names, ["-CA", folder / "ca.crt", "-CAkey", folder / "ca.key"])
        run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", folder / "sa.key"])
        run(["openssl", "ec", "-in", folder / "sa.key", "-pubout", "-out", folder / "sa.pub"])
        folder.rename(layout.PKI)


def _openssl(folder: Path, name: str, subject: str, names: str, more: list[str | Path]) -> None:
    leaf = [] if name == "ca" else [
        "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=clientAuth,serverAuth",
    ]  # fmt: skip
    alternative = ["-addext", f"subjectAltName={names}"] if names else []
    run([
        "openssl", "req", "-x509", *_CURVE, "-config", folder / "openssl.cnf", "-days", _DAYS, "-subj", subject,
        "-keyout", folder / f"{name}.key", "-out", folder / f"{name}.crt", *leaf, *alternative, *more,
    ])  # fmt: skip


def kubeconfig(name: str) -> Path:
    """Return a kubeconfig for one of the certificates, self-contained."""
    target = layout.CONFIG / f"{name}.kubeconfig"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "modelrollout-local",
            "cluster": {"server": settings.APISERVER, "certificate-authority-data": _encoded("ca.crt")},
        }],
        "users": [{
            "name": name,
            "user": {
                "client-certificate-data": _encoded(f"{name}.crt"),
                "client-key-data": _encoded(f"{name}.key"),
            },
        }],
        "contexts": [{
            "name": "modelrollout-local",
            "context": {"cluster": "modelrollout-local", "user": name},
        }],
        "current-context": "modelrollout-local",
    }  # fmt: skip
    write_atomically(target, json.dumps(content, indent=1), mode=0o600)
    return target


def _encoded(file: str) -> str:
    return base64.b64encode((layout.PKI / file).read_bytes()).decode()
