"""Every address, port and version of the local cluster."""

KUBERNETES_VERSION = "v1.35.4"
ENVOY_GATEWAY_MODULE = "github.com/envoyproxy/gateway"

NODE = "modelrollout"
BRIDGE = "mrollout0"
BRIDGE_ADDRESS = "10.244.0.1"
POD_CIDR = "10.244.0.0/24"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_FIRST = "10.96.0.1"
CNI_NETWORK = "modelrollout"
MARK = "modelrollout"

APISERVER_PORT = 6443
APISERVER = f"https://{BRIDGE_ADDRESS}:{APISERVER_PORT}"
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_HEALTH_PORT = 10248
PROXY_METRICS_PORT = 10249
KUBELET_PORT = 10250
PROXY_HEALTH_PORT = 10256
CONTROLLERS_PORT = 10257
SCHEDULER_PORT = 10259

GATEWAY_PORT = 30080
PROMETHEUS_PORT = 30090
S3_PORT = 30900

PORTS = {
    "etcd": ETCD_PORT,
    "etcd (peers)": ETCD_PEER_PORT,
    "kube-apiserver": APISERVER_PORT,
    "kubelet": KUBELET_PORT,
    "kubelet (health)": KUBELET_HEALTH_PORT,
    "kube-proxy": PROXY_METRICS_PORT,
    "kube-proxy (health)": PROXY_HEALTH_PORT,
    "kube-controller-manager": CONTROLLERS_PORT,
    "kube-scheduler": SCHEDULER_PORT,
    "the gateway": GATEWAY_PORT,
    "Prometheus": PROMETHEUS_PORT,
    "the object store": S3_PORT,
}

S3_ACCESS_KEY = "demo-access"
S3_SECRET_KEY = "demo-secret-key"
