# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The floor: how fast plain ssh and kubeadm alone make the same cluster on hosts that hold everything already.

Hosts that were reset have packages, binaries and images; only ``kubeadm init`` and the joins are timed: the first
control plane, then the other two and the worker at once. It uses nothing of the collection's Python.
"""

from __future__ import annotations

import base64
import time

from harness import Lab

VIP = "10.103.97.2"
TOKEN = "abcdef.0123456789abcdef"
CERTIFICATE_KEY = "0123456789abcdef" * 4
IGNORE = "NumCPU,SystemVerification,Mem"
PATCH = """spec:
  containers:
  - name: etcd
    resources:
      requests:
        ephemeral-storage: null
    startupProbe:
      periodSeconds: 1
      failureThreshold: 240
"""
ADDRESSES = {
    "master1": "192.168.253.129",
    "master2": "192.168.253.128",
    "master3": "192.168.253.130",
    "node01": "192.168.253.131",
}

INIT = f"""apiVersion: kubeadm.k8s.io/v1beta2
kind: InitConfiguration
certificateKey: {CERTIFICATE_KEY}
bootstrapTokens:
- token: {TOKEN}
localAPIEndpoint: {{advertiseAddress: {ADDRESSES["master1"]}}}
nodeRegistration:
  criSocket: /run/containerd/containerd.sock
  kubeletExtraArgs: {{node-ip: {ADDRESSES["master1"]}}}
---
apiVersion: kubeadm.k8s.io/v1beta2
kind: ClusterConfiguration
kubernetesVersion: v1.20.2
controlPlaneEndpoint: apiserver.cluster.local:6443
apiServer: {{certSANs: [{VIP}]}}
etcd: {{local: {{extraArgs: {{heartbeat-interval: "500", election-timeout: "5000"}}}}}}
networking: {{podSubnet: 100.64.0.0/10, serviceSubnet: 10.96.0.0/16}}
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: ipvs
ipvs: {{excludeCIDRs: [{VIP}/32]}}
conntrack: {{maxPerCore: 0}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
"""

JOIN = """apiVersion: kubeadm.k8s.io/v1beta2
kind: JoinConfiguration
discovery:
  file: {{kubeConfigPath: /root/floor-discovery.conf}}
  tlsBootstrapToken: {token}
nodeRegistration:
  criSocket: /run/containerd/containerd.sock
  kubeletExtraArgs: {{node-ip: {address}}}
{control_plane}"""


def reset(lab: Lab) -> None:
    """Undo kubeadm on all hosts; packages, binaries, images, balancer and /etc/hosts stay.

    All hosts at once are no members of anything any more: kubeadm finds neither an etcd that it should take out of a
    cluster without quorum nor an API server to ask, and would wait minutes for either.
    """
    lab.everywhere(
        lambda host: lab.run(
            host,
            "systemctl stop kubelet; rm -rf /etc/kubernetes/manifests /etc/kubernetes/*.conf; "
            "kubeadm reset -f >/dev/null 2>&1; rm -rf /var/lib/multinic/member.json /etc/kubernetes/* /var/lib/etcd "
            "/var/lib/kubelet/*; mkdir -p /etc/kubernetes/manifests /var/lib/kubelet",
            120,
        )
    )


def _write(lab: Lab, host: str, path: str, content: str) -> None:
    encoded = base64.b64encode(content.encode()).decode()
    lab.run(host, f"mkdir -p $(dirname {path}); echo {encoded} | base64 -d > {path}")


def measured(lab: Lab, attempts: int = 3) -> float:
    """The seconds of the first attempt that ends well.

    Plain kubeadm 1.20 has etcd stand still while its second member joins; hosts that join in that moment may give up.
    """
    for left in range(attempts - 1, -1, -1):
        reset(lab)
        try:
            return measure(lab)
        except AssertionError:
            if not left:
                raise
    raise AssertionError("no attempt was made")


def measure(lab: Lab) -> float:
    """Seconds from ``kubeadm init`` until every join has returned."""

    def prepare(host: str) -> None:
        _write(lab, host, "/root/floor-patches/etcd.yaml", PATCH)
        control_plane = (
            f"controlPlane:\n  certificateKey: {CERTIFICATE_KEY}\n  localAPIEndpoint: {{advertiseAddress: {ADDRESSES[host]}}}\n"
            if host.startswith("master")
            else ""
        )
        config = (
            INIT
            if host == "master1"
            else JOIN.format(token=TOKEN, address=ADDRESSES[host], control_plane=control_plane)
        )
        _write(lab, host, "/root/floor.yaml", config)

    lab.everywhere(prepare)
    patches = "--experimental-patches /root/floor-patches"
    started = time.monotonic()
    lab.run(
        "master1",
        f"kubeadm init --config /root/floor.yaml --upload-certs {patches} --ignore-preflight-errors {IGNORE}",
        300,
    )
    ca = lab.run("master1", "base64 -w0 /etc/kubernetes/pki/ca.crt")
    discovery = (
        "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster:\n"
        f"    certificate-authority-data: {ca}\n    server: https://apiserver.cluster.local:6443\n"
    )

    def join(host: str) -> None:
        _write(lab, host, "/root/floor-discovery.conf", discovery)
        extra = patches if host.startswith("master") else ""
        lab.run(host, f"kubeadm join --config /root/floor.yaml {extra} --ignore-preflight-errors {IGNORE}", 400)

    lab.everywhere(join, [host for host in ADDRESSES if host != "master1"])
    return time.monotonic() - started
