"""Where everything lives: the checkout's `.local`, the machine's state and the build cache.

The machine has one cluster, so its state sits at fixed places; the cache is shared by all checkouts.
"""

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[3]
DEPLOY = REPO / "deploy"
LOCAL_CODE = DEPLOY / "local"
MANIFESTS = LOCAL_CODE / "manifests"
IMAGES_CODE = DEPLOY / "images"
TOOLS_MODULE = LOCAL_CODE / "tools"

LOCAL = REPO / ".local"
LOGS = LOCAL / "logs"
AUDIT_LOG = LOCAL / "audit" / "audit.log"
KUBECONFIG = LOCAL / "kubeconfig"
CLUSTER_JSON = LOCAL / "cluster.json"
IMAGES_JSON = LOCAL / "images.json"

STATE = Path("/var/lib/modelrollout")
PKI = STATE / "pki"
ETCD = STATE / "etcd"
KUBELET = STATE / "kubelet"
CONTAINERD_ROOT = STATE / "containerd"
CNI_STATE = STATE / "cni"
CONFIG = STATE / "config"

RUN = Path("/run/modelrollout")
CONTAINERD_STATE = RUN / "containerd"
CONTAINERD_SOCKET = RUN / "containerd.sock"
LOCK = RUN / "lock.json"
BEFORE = RUN / "before.json"
PROCESSES = RUN / "processes.json"
VERB_LOCK = Path("/run/modelrollout.verb")


def cache() -> Path:
    """Return the build cache: $MODELROLLOUT_CACHE, else below the user's cache folder."""
    named = os.environ.get("MODELROLLOUT_CACHE")
    if named:
        return Path(named).resolve()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "modelrollout"
