"""How what makes a node is started: arguments and configuration files, as pure functions.

    containerd       runs containers                 kubelet      runs Pods on the node
    kube-scheduler   gives Pods their node           kube-proxy   makes Services reachable
    CoreDNS          gives Services their names

Addresses: Pods 10.88.0.0/16, Services as in `jiemi.controlplane.arguments`, the node 10.89.0.1. All of them are in a
network namespace that has no way out (`isolation`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from jiemi.controlplane.control_plane import ControlPlane

NODE_NAME = "jiemi-node"
NODE_ADDRESS = "10.89.0.1"
NODE_DEVICE = "node0"
PODS = "10.88.0.0/16"
CLUSTER_DOMAIN = "cluster.local"
SANDBOX_IMAGE = "localhost/jiemi/sandbox:1"


@attrs.frozen
class NodePaths:
    """Where a node keeps what.

    Attributes:
        root: folder on a real file system, for containers' layers and for what is no secret.
        memory: folder on tmpfs, for keys, the kubeconfig and etcd's data.
    """

    root: Path
    memory: Path

    @property
    def control_plane(self) -> Path:
        """The control plane's state."""
        return self.memory / "control-plane"

    @property
    def kubelet_certificates(self) -> Path:
        """kubelet's own certificate and key."""
        return self.memory / "kubelet-pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's, by an address that is the same in every process of the node."""
        return self.memory / "kubeconfig"

    @property
    def containerd_config(self) -> Path:
        """containerd's configuration."""
        return self.root / "containerd.toml"

    @property
    def containerd_socket(self) -> Path:
        """Where containerd listens."""
        return self.root / "containerd.sock"

    @property
    def cni(self) -> Path:
        """The folder with the configuration of the Pods' network."""
        return self.root / "cni"

    @property
    def kubelet_config(self) -> Path:
        """kubelet's configuration."""
        return self.root / "kubelet.json"

    @property
    def kubelet_root(self) -> Path:
        """What kubelet keeps of Pods: volumes, among others."""
        return self.root / "kubelet"

    @property
    def proxy_config(self) -> Path:
        """kube-proxy's configuration."""
        return self.root / "kube-proxy.json"

    @property
    def corefile(self) -> Path:
        """CoreDNS's configuration."""
        return self.root / "Corefile"

    @property
    def logs(self) -> Path:
        """What each of them logs."""
        return self.root / "logs"

    @property
    def pod_logs(self) -> Path:
        """What containers write."""
        return self.logs / "pods"


def containerd_toml(paths: NodePaths, cni_programs: Path) -> str:
    """containerd's configuration (version 2, which 1.4 to 2.x read).

    Args:
        cni_programs: folder of the plugins bridge, host-local and loopback.
    """
    return f"""\
version = 2
root = "{paths.root / "containerd"}"
state = "{paths.root / "containerd-run"}"

[grpc]
address = "{paths.containerd_socket}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{SANDBOX_IMAGE}"
# Root without the capability SYS_RESOURCE may not make a process less likely to be killed than it is itself.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{cni_programs}"
conf_dir = "{paths.cni}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"""


def cni_json() -> str:
    """The Pods' network: a bridge, whose addresses are given out by host-local (CNI specification 0.4.0)."""
    return _json(
        {
            "cniVersion": "0.4.0",
            "name": "pods",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pods0",
                    "isGateway": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "ranges": [[{"subnet": PODS}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
            ],
        }
    )


def kubelet_json(paths: NodePaths, control_plane: ControlPlane, cgroup_root: str) -> str:
    """kubelet's configuration (kubelet.config.k8s.io/v1beta1).

    Args:
        cgroup_root: the control group below which those of Pods are made.
    """
    return _json(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup_root,
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": ["pods"],
            "containerRuntimeEndpoint": f"unix://{paths.containerd_socket}",
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": CLUSTER_DOMAIN,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(control_plane.authority)},
            },
            "authorization": {"mode": "Webhook"},
            "podLogsDir": str(paths.pod_logs),
            "volumePluginDir": str(paths.root / "volume-plugins"),
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "serverTLSBootstrap": False,
            "shutdownGracePeriod": "0s",
            "syncFrequency": "10s",
            "fileCheckFrequency": "10s",
            "resolvConf": "",
        }
    )


def proxy_json(paths: NodePaths) -> str:
    """kube-proxy's configuration (kubeproxy.config.k8s.io/v1alpha1)."""
    return _json(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "nftables",
            "clusterCIDR": PODS,
            "hostnameOverride": NODE_NAME,
            "clientConnection": {"kubeconfig": str(paths.kubeconfig)},
            # The kernel's limits of connections are the machine's.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "healthzBindAddress": "",
            "metricsBindAddress": "",
        }
    )


def corefile(paths: NodePaths) -> str:
    """CoreDNS's configuration: the cluster's names, and no others."""
    return f"""\
.:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
        kubeconfig {paths.kubeconfig} jiemi
    }}
    cache 5
}}
"""


def scheduler_arguments(paths: NodePaths) -> Sequence[str]:
    """kube-scheduler's arguments."""
    return (
        f"--kubeconfig={paths.kubeconfig}",
        f"--authentication-kubeconfig={paths.kubeconfig}",
        f"--authorization-kubeconfig={paths.kubeconfig}",
        "--leader-elect=false",
        "--secure-port=0",
    )


def kubelet_arguments(paths: NodePaths) -> Sequence[str]:
    """kubelet's arguments."""
    return (
        f"--kubeconfig={paths.kubeconfig}",
        f"--config={paths.kubelet_config}",
        f"--root-dir={paths.kubelet_root}",
        f"--cert-dir={paths.kubelet_certificates}",
        f"--hostname-override={NODE_NAME}",
        f"--node-ip={NODE_ADDRESS}",
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
