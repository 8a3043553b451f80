#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: component_status
short_description: Which addresses, files and certificates the components on a host really use
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Reads, and changes nothing. It needs neither a plan nor a cluster that this collection installed.
  - Of kubelet, kube-proxy, etcd and the control plane's programs it reads the command line and the TCP connections that are
    open now, which tell the addresses that they really use; and the kubeconfigs, which tell whom they are to ask.
  - Of the certificates on the host, and of those that its components serve, it reads dates and names. No key is read into
    a result.
  - M(multinic.kubernetes.doctor_report) compares all this with the plan.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It changes nothing, so there is never a difference.
options:
  kubeconfig:
    description: Access to the cluster on a control plane, for the configuration of kube-proxy and kubeadm.
    type: path
    default: /etc/kubernetes/admin.conf
  bin_dir:
    description: Where kubectl is, before the usual folders are searched.
    type: path
    default: /usr/local/bin
seealso:
  - module: multinic.kubernetes.cluster_status
  - module: multinic.kubernetes.doctor_report
"""

EXAMPLES = r"""
- name: The components of every host are known
  multinic.kubernetes.component_status:
  register: components
"""

RETURN = r"""
component_status:
  description: What was read. Parts that the host does not have are empty.
  returned: always
  type: dict
  sample:
    epoch: 1795514400
    processes:
      kubelet:
        flags: {node-ip: 192.168.253.131}
        listens: [{address: "::", port: 10250}]
        outgoing: [{local: 192.168.253.131, remote: 10.103.97.2, port: 6443, count: 1}]
        incoming: []
    kubeconfigs:
      kubelet:
        path: /etc/kubernetes/kubelet.conf
        server: https://apiserver.cluster.local:6443
        resolved: [10.103.97.2]
    kube_proxy: {mode: ipvs, settings: {mode: ipvs, exclude_cidrs: [10.103.97.2/32]}}
    units:
      kubelet.service: {active: active, sub: running, enabled: enabled}
    guards:
      - since: 1795514400
        source: 192.168.253.131
        repairs: 1
        last: {at: 1795514460, told: "put the route to 10.103.97.2 with the source 192.168.253.131 back: it was gone"}
        open: []
        clashes: []
    tunnels: []
    cni: [10-bridge.conflist]
    installed: {route_source: 192.168.253.131, node_ip: 192.168.253.131}
    kube_proxy_configmap: {}
    cluster_configuration: {}
    trouble: ""
    certificates:
      - name: kubelet client
        path: /var/lib/kubelet/pki/kubelet-client-current.pem
        served: false
        not_before: 1795514400
        not_after: 1827050400
        subject: O = system:nodes, CN = system:node:node01
        sans: []
        error: ""
"""

import glob
import os
import socket
import ssl
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _components as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import (
    BALANCER_UNIT,
    GUARD_FOLDER,
    GUARD_UNIT,
    ROUTE_UNIT,
    UNIT_FOLDER,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import PROXY_UNIT
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import (
    BIN_DIR,
    Kubectl,
    NoKubectlError,
    find_kubectl,
    kubeconfig_server,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._x509 import (
    CertificateError,
    first_certificate,
    read_certificate,
)

PROC = Path("/proc")
KUBERNETES = "/etc/kubernetes"
PKI = f"{KUBERNETES}/pki"
KUBELET_PKI = "/var/lib/kubelet/pki"
PROGRAMS = ("kubelet", "kube-proxy", "kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler")
KUBECONFIGS = {
    "kubelet": f"{KUBERNETES}/kubelet.conf",
    "kube-controller-manager": f"{KUBERNETES}/controller-manager.conf",
    "kube-scheduler": f"{KUBERNETES}/scheduler.conf",
    "kube-proxy": "/var/lib/kube-proxy/kubeconfig.conf",
}
FOR_PEOPLE = {"admin": f"{KUBERNETES}/admin.conf", "super-admin": f"{KUBERNETES}/super-admin.conf"}
UNITS = (
    *(ROUTE_UNIT, BALANCER_UNIT, GUARD_UNIT, PROXY_UNIT),
    *("kubelet.service", "containerd.service", "crio.service", "docker.service"),
    *("keepalived.service", "haproxy.service", "chrony.service", "chronyd.service", "systemd-timesyncd.service"),
)
# name -> who names it (program, flag), where kubeadm puts it
CERTIFICATES = {
    "apiserver": ("kube-apiserver", "tls-cert-file", f"{PKI}/apiserver.crt"),
    "apiserver-kubelet-client": (
        "kube-apiserver",
        "kubelet-client-certificate",
        f"{PKI}/apiserver-kubelet-client.crt",
    ),
    "apiserver-etcd-client": ("kube-apiserver", "etcd-certfile", f"{PKI}/apiserver-etcd-client.crt"),
    "front-proxy-client": ("kube-apiserver", "proxy-client-cert-file", f"{PKI}/front-proxy-client.crt"),
    "front-proxy-ca": ("kube-apiserver", "requestheader-client-ca-file", f"{PKI}/front-proxy-ca.crt"),
    "ca": ("kube-apiserver", "client-ca-file", f"{PKI}/ca.crt"),
    "etcd-server": ("etcd", "cert-file", f"{PKI}/etcd/server.crt"),
    "etcd-peer": ("etcd", "peer-cert-file", f"{PKI}/etcd/peer.crt"),
    "etcd-ca": ("etcd", "trusted-ca-file", f"{PKI}/etcd/ca.crt"),
    "kubelet server": ("kubelet", "tls-cert-file", f"{KUBELET_PKI}/kubelet.crt"),
}
ROTATED_SERVER = f"{KUBELET_PKI}/kubelet-server-current.pem"
# program -> the certificate that it serves at this port
SERVED = {
    "kube-apiserver": ("apiserver", 6443),
    "etcd": ("etcd-server", 2379),
    "kubelet": ("kubelet server", 10250),
}
# The flags that tell of addresses and files; the others are not taken along.
TOLD = frozenset(
    (
        *("node-ip", "hostname-override", "config", "kubeconfig", "container-runtime-endpoint"),
        *("advertise-address", "bind-address", "secure-port", "etcd-servers", "service-cluster-ip-range"),
        *("listen-peer-urls", "listen-client-urls", "initial-advertise-peer-urls", "advertise-client-urls"),
        *("proxy-mode", "cluster-cidr"),
    )
)
PROXY_STATUS_PORT = 10249
LOOPBACKS = ("127.0.0.1", "::1")  # kube-proxy answers on that of the family it binds to
SECONDS = 3


def read(path: Any) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):
        return ""


class Process:
    """One running program: its command line and its network."""

    def __init__(self, path: Path, arguments: list[str]) -> None:
        self.path = path
        self.flags = core.command_flags(arguments)

    def inside(self, path: str) -> str:
        """A file as the program sees it, also in a container."""
        return read(f"{self.path}/root{path}")

    def inodes(self) -> set[str]:
        """The numbers of its sockets."""
        found: set[str] = set()
        try:
            handles = list((self.path / "fd").iterdir())
        except OSError:
            return found
        for handle in handles:
            try:
                target = os.readlink(handle)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
        return found

    def ends(self) -> dict[str, Any]:
        sockets = [found for name in ("tcp", "tcp6") for found in core.parse_tcp(read(self.path / "net" / name))]
        return core.ends_of(sockets, self.inodes())


def namespace(path: Path) -> str:
    """The network that a process is in."""
    try:
        return os.readlink(path / "ns/net")
    except OSError:
        return ""


def find_processes() -> dict[str, Process]:
    """The cluster's programs that run here, in the host's own network; the oldest of each name.

    A program of the same name in a pod, as somebody's own etcd, is none of the cluster's.
    """
    found: dict[str, Process] = {}
    here = namespace(PROC / "self")
    for path in sorted((path for path in PROC.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)):
        arguments = [word for word in read(path / "cmdline").split("\0") if word]
        name = os.path.basename(arguments[0]) if arguments else ""
        if name in PROGRAMS and namespace(path) == here:
            found.setdefault(name, Process(path, arguments[1:]))
    return found


class Components:
    """Reads one host. What cannot be read is empty, or an error of its own."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.processes = find_processes()
        self.trouble = ""

    def status(self) -> dict[str, Any]:
        maps = self.configmaps()
        return {
            "epoch": int(time.time()),
            "processes": {
                name: {
                    "flags": {flag: value for flag, value in process.flags.items() if flag in TOLD},
                    **process.ends(),
                }
                for name, process in self.processes.items()
            },
            "kubeconfigs": {name: self.kubeconfig(path, text) for name, (path, text) in self.kubeconfigs().items()},
            "kube_proxy": self.kube_proxy(),
            "units": self.units(),
            "guards": [core.guard_status(read(path)) for path in sorted(glob.glob(f"{GUARD_FOLDER}/*.json"))],
            "tunnels": core.tunnels(self.run("ip", "-j", "-d", "link", "show")),
            "cni": sorted(os.listdir("/etc/cni/net.d")) if os.path.isdir("/etc/cni/net.d") else [],
            "installed": {
                "route_source": core.route_source(read(f"{UNIT_FOLDER}/{ROUTE_UNIT}")),
                "node_ip": core.command_flags(
                    read("/var/lib/kubelet/kubeadm-flags.env").partition("=")[2].strip().strip('"').split()
                ).get("node-ip", ""),
            },
            "kube_proxy_configmap": core.proxy_settings(maps["kube-proxy"].get("config.conf", ""))
            if "kube-proxy" in maps
            else {},
            "cluster_configuration": core.cluster_configuration(
                maps.get("kubeadm-config", {}).get("ClusterConfiguration", "")
            ),
            "trouble": self.trouble,
            "certificates": self.certificates(),
        }

    def run(self, *words: str, data: Optional[str] = None) -> str:
        program = self.module.get_bin_path(words[0], opt_dirs=["/sbin", "/usr/sbin"])
        if program is None:
            return ""
        _code, out, _err = self.module.run_command([program, *words[1:]], data=data)
        return str(out)

    def kubeconfigs(self) -> dict[str, tuple[str, str]]:
        """Name to path and text: what the running program was given, else where kubeadm puts it."""
        found = {}
        for name, usual in KUBECONFIGS.items():
            process = self.processes.get(name)
            path = (process.flags.get("kubeconfig") if process else "") or usual
            text = (process.inside(path) if process else "") or read(path)
            if text:
                found[name] = (path, text)
        return found

    def kubeconfig(self, path: str, text: str) -> dict[str, Any]:
        server = kubeconfig_server(text)
        host = core.url_hosts(server)[:1]
        return {"path": path, "server": server, "resolved": resolved(host[0]) if host and host[0] else []}

    def kube_proxy(self) -> dict[str, Any]:
        """The mode it says to be in, and the configuration that it has read."""
        process = self.processes.get("kube-proxy")
        if process is None:
            return {}
        config = process.inside(process.flags.get("config") or "/var/lib/kube-proxy/config.conf")
        return {"mode": proxy_mode(), "settings": core.proxy_settings(config) if config else {}}

    def units(self) -> dict[str, dict[str, str]]:
        names = "Id,LoadState,ActiveState,SubState,UnitFileState"
        return core.unit_states(self.run("systemctl", "show", f"--property={names}", *UNITS))

    def configmaps(self) -> dict[str, dict[str, str]]:
        """The configmaps of kube-proxy and kubeadm, through this host's own access to the cluster."""
        kubeconfig, bin_dir = self.module.params["kubeconfig"], self.module.params["bin_dir"]
        if not os.path.exists(kubeconfig):
            return {}
        try:
            kubectl = Kubectl(find_kubectl(bin_dir), kubeconfig, bin_dir)
        except NoKubectlError as problem:
            self.trouble = str(problem)
            return {}
        answer = kubectl.ask(
            *("--namespace=kube-system", "get", "configmap", "kube-proxy", "kubeadm-config"),
            *("--ignore-not-found", "-o", "json"),
            request_seconds=10,
        )
        self.trouble = "" if answer.good else answer.complaint
        return core.configmaps(answer.out) if answer.good and answer.out.strip() else {}

    # -- certificates --

    def certificates(self) -> list[dict[str, Any]]:
        found = []
        for name, (program, flag, usual) in CERTIFICATES.items():
            process = self.processes.get(program)
            path = process.flags.get(flag) if process else ""
            if not path and name == "kubelet server" and os.path.exists(ROTATED_SERVER):
                path = ROTATED_SERVER
            path = path or usual
            text = (process.inside(path) if process else "") or read(path)
            if text:
                found.append(self.certificate(name, path, text))
        for name, (path, text) in {
            **self.kubeconfigs(),
            **{name: (path, read(path)) for name, path in FOR_PEOPLE.items()},
        }.items():
            kind, value = core.kubeconfig_client(text)
            if kind:
                pem = value if kind == "pem" else read(value)
                found.append(self.certificate(f"{name} client", path if kind == "pem" else value, pem))
        for program, (name, port) in SERVED.items():
            process = self.processes.get(program)
            pem = served(process, port) if process else ""
            if pem:
                found.append(self.certificate(name, "", pem, is_served=True))
        return found

    def certificate(self, name: str, path: str, text: str, *, is_served: bool = False) -> dict[str, Any]:
        told: dict[str, Any] = {"not_before": None, "not_after": None, "subject": "", "sans": []}
        error = ""
        try:
            told = read_certificate(first_certificate(text))._asdict()
        except CertificateError as problem:
            error = f"{path or name}: {problem}"
        return {"name": name, "path": path, "served": is_served, **told, "error": error}


def resolved(name: str) -> list[str]:
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None)})
    except (OSError, UnicodeError):
        return []


def proxy_mode() -> str:
    """What kube-proxy itself says, as it does to anyone on its own host; empty where it does not answer there."""
    for loopback in LOOPBACKS:
        connection = HTTPConnection(loopback, PROXY_STATUS_PORT, timeout=SECONDS)
        try:
            connection.request("GET", "/proxyMode")
            response = connection.getresponse()
            return response.read(64).decode("ascii", "replace").strip() if response.status == 200 else ""
        except (OSError, HTTPException):
            continue
        finally:
            connection.close()
    return ""


def served(process: Process, usual: int) -> str:
    """The certificate that a program shows to whoever connects to it on this host."""
    port = process.flags.get("secure-port") or ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    # Nothing is asked and nothing sent: the certificate is looked at, whoever signed it.
    context.verify_mode = ssl.CERT_NONE
    address = process.flags.get("advertise-address") or "127.0.0.1"
    try:
        with socket.create_connection((address, int(port) if port.isdigit() else usual), timeout=SECONDS) as plain:
            with context.wrap_socket(plain) as stream:
                der = stream.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return ""
    return ssl.DER_cert_to_PEM_cert(der) if der else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "kubeconfig": {"type": "path", "default": f"{KUBERNETES}/admin.conf"},
            "bin_dir": {"type": "path", "default": BIN_DIR},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, component_status=Components(module).status())


if __name__ == "__main__":
    main()
