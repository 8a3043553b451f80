#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_status
short_description: What a host sees of its cluster, and which address each component uses
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Reads, and changes nothing. On a host without a cluster it says so and succeeds.
  - The host's view is kubelet's address, the static pods' and etcd's addresses, the route to the VIP, the virtual server
    of IPVS, whether the API server answers through the VIP and from which address it was asked.
  - The cluster's view is its nodes and the pods of kube-system, as the API tells them.
  - The roles compare all this with the plan. See the role P(multinic.kubernetes.verify#role).
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: It changes nothing, so there is never a difference.
options:
  sections:
    description: The host's own view, the cluster's through the host's C(admin.conf), or both.
    type: list
    elements: str
    choices: [host, cluster]
    default: [host]
  vip:
    description: Address at which the API server is balanced. Needed for V(host).
    type: str
    default: ""
  balancer:
    description: Who balances the API server on the host.
    type: str
    choices: [ipvs, localhost, external]
    default: ipvs
  port:
    description: Port of the API server.
    type: int
    default: 6443
  server_name:
    description: Name of the API server, which its certificate must hold.
    type: str
    default: apiserver.cluster.local
  real_servers:
    description: Control planes that should get connections. The module waits up to 10 seconds until all do.
    type: list
    elements: str
    default: []
  further_vips:
    description: The VIPs of other families than O(vip), which are looked at in the same way.
    type: list
    elements: dict
    default: []
    suboptions:
      vip:
        description: The address.
        type: str
        required: true
      real_servers:
        description: Control planes that should get connections.
        type: list
        elements: str
        default: []
  outside:
    description:
      - Addresses that the API has from outside, on one control plane at a time. Whether the host has each is told, whether the
        API answers there, and whether the certificate of the host's own API server is good for it.
    type: list
    elements: str
    default: []
  expected_nodes:
    description: Nodes to wait for until they are Ready, and CoreDNS with them where it is deployed.
    type: list
    elements: str
    default: []
  wait:
    description: Seconds to wait for O(expected_nodes) at most. What is not there then is told, not failed upon.
    type: int
    default: 120
  kubeconfig:
    description: Access to the cluster for V(cluster).
    type: path
    default: /etc/kubernetes/admin.conf
  bundle_manifest:
    description: The manifest of the bundle on the host. Where it lacks CoreDNS, CoreDNS is not waited for.
    type: path
    default: /var/lib/multinic/bundle/current/manifest.json
  bin_dir:
    description: Where kubectl is, before the usual folders are searched.
    type: path
    default: /usr/local/bin
  node_name:
    description: Name of this host's node. It tells which of O(probe_pods) is the host's own.
    type: str
    default: ""
  probe_pods:
    description:
      - Pods that M(multinic.kubernetes.probe_pods) started, one a node.
      - From the network of its own one the module pings the others, at the full MTU, and asks the cluster's DNS.
    type: list
    elements: dict
    default: []
    suboptions:
      node:
        description: Node it runs on.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      addresses:
        description: Its addresses of all families. All that have a family in common are pinged.
        type: list
        elements: str
        default: []
      uid:
        description: Its UID in the API.
        type: str
        required: true
  dns_address:
    description: Service address of the cluster's DNS. Empty leaves it unasked.
    type: str
    default: ""
  dns_question:
    description: Name that the cluster's DNS is asked for.
    type: str
    default: kubernetes.default.svc.cluster.local
seealso:
  - module: multinic.kubernetes.probe_pods
"""

EXAMPLES = r"""
- name: Every host's view of the API server is known
  multinic.kubernetes.cluster_status:
    vip: 10.103.97.2
    real_servers: [192.168.253.129, 192.168.253.128, 192.168.253.130]
  register: seen

- name: The nodes are known, once they are Ready
  multinic.kubernetes.cluster_status:
    sections: [cluster]
    expected_nodes: [master1, master2, master3, node01]
    wait: 60
  register: cluster
"""

RETURN = r"""
member:
  description: Whether the host belongs to a cluster.
  type: bool
  returned: always
  sample: true
status:
  description: The host's view. Empty without a cluster.
  type: dict
  returned: when asked for
  sample:
    kubelet: {running: true, node_ip: 192.168.253.131, server: "https://apiserver.cluster.local:6443"}
    route: {type: local, dev: lo, source: 192.168.253.131}
    virtual_server:
      address: 10.103.97.2
      port: 6443
      protocol: TCP
      scheduler: rr
      real_servers:
        - {address: 192.168.253.129, port: 6443, method: Masq, weight: 1, active: 3, inactive: 0}
    api: {ok: true, source: 192.168.253.131, server: 192.168.253.129, resolved: [10.103.97.2], seconds: 0.02}
    further_vips: []
    outside: [{address: 192.168.160.250, held: true, error: "", certificate: ""}]
    static_pods: {}
    etcd: {}
cluster:
  description: The cluster's view. Empty without a cluster.
  type: dict
  returned: when asked for
  sample:
    error: ""
    waited: 3.1
    nodes:
      - name: node01
        ready: true
        reason: ""
        internal_ips: [192.168.253.131]
        roles: []
        version: v1.20.2
        runtime: containerd://1.6.20
        calico_address: ""
        pod_cidr: 100.64.3.0/24
        schedulable: true
    pods: []
    dns: {ready: true, missing: ""}
"""

import ctypes
import fcntl
import json
import os
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple, Optional

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _verify as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._apiserver_guard import UP
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import BALANCER_FOLDER
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    EXTERNAL,
    IPVS,
    LOCALHOST,
    MODES,
    proxy_as_virtual_server,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._dns import missing_dns
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import (
    BIN_DIR,
    Kubectl,
    NoKubectlError,
    find_kubectl,
    kubeconfig_server,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._proxy_status import proxy_status

KUBELET_CONF = Path("/etc/kubernetes/kubelet.conf")
MANIFESTS = Path("/etc/kubernetes/manifests")
BALANCER = Path(BALANCER_FOLDER)
CA = "/etc/kubernetes/pki/ca.crt"
ETCD_PKI = Path("/etc/kubernetes/pki/etcd")
ARGUMENT_SPEC: dict[str, Any] = {
    "sections": {"type": "list", "elements": "str", "choices": ["host", "cluster"], "default": ["host"]},
    "vip": {"type": "str", "default": ""},
    "balancer": {"type": "str", "choices": list(MODES), "default": IPVS},
    "port": {"type": "int", "default": 6443},
    "server_name": {"type": "str", "default": "apiserver.cluster.local"},
    "real_servers": {"type": "list", "elements": "str", "default": []},
    "further_vips": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "vip": {"type": "str", "required": True},
            "real_servers": {"type": "list", "elements": "str", "default": []},
        },
    },
    "outside": {"type": "list", "elements": "str", "default": []},
    "expected_nodes": {"type": "list", "elements": "str", "default": []},
    "wait": {"type": "int", "default": 120},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "bundle_manifest": {"type": "path", "default": "/var/lib/multinic/bundle/current/manifest.json"},
    "bin_dir": {"type": "path", "default": BIN_DIR},
    "node_name": {"type": "str", "default": ""},
    "probe_pods": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "node": {"type": "str", "required": True},
            "address": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "uid": {"type": "str", "required": True},
        },
    },
    "dns_address": {"type": "str", "default": ""},
    "dns_question": {"type": "str", "default": "kubernetes.default.svc.cluster.local"},
}
CLONE_NEWNET = 0x40000000
IP_MTU_DISCOVER = 10
IP_PMTUDISC_DO = 2
SIOCGIFMTU = 0x8921
IPV6_MTU_DISCOVER = 23
PATIENCE = 10


def read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


class Host:
    """What this host sees."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def status(self) -> dict[str, Any]:
        return {
            "kubelet": self.kubelet(),
            **self.way(self.params["vip"], self.params["real_servers"]),
            "further_vips": [
                {"vip": further["vip"], **self.way(further["vip"], further["real_servers"])}
                for further in self.params["further_vips"]
            ],
            "outside": [self.outside(address) for address in self.params["outside"]],
            "static_pods": {
                path.stem: core.flags_of(read(path))
                for path in sorted(MANIFESTS.glob("*.yaml"))
                if path.stem in {"etcd", "kube-apiserver"}
            },
            "etcd": self.etcd(),
            **self.pod_network(),
        }

    def kubelet(self) -> dict[str, Any]:
        found = next((path for path in processes() if read(path / "comm").strip() == "kubelet"), None)
        arguments = read(found / "cmdline").replace("\0", "\n") if found else ""
        return {
            "running": found is not None,
            "node_ip": core.flags_of(arguments).get("node-ip", ""),
            "server": kubeconfig_server(read(KUBELET_CONF)),
        }

    def way(self, vip: str, real_servers: Sequence[str]) -> dict[str, Any]:
        return {
            "route": self.route(vip),
            "virtual_server": self.virtual_server(vip, real_servers),
            "api": self.api(vip),
        }

    def route(self, vip: str) -> dict[str, Any]:
        status, out, _err = self.module.run_command(["ip", "-j", "route", "get", vip])
        try:
            route = json.loads(out)[0] if status == 0 else {}
        except (ValueError, IndexError):
            route = {}
        if not route:
            return {}
        return {
            "type": route.get("type", "unicast"),
            "dev": route.get("dev", ""),
            "source": route.get("prefsrc", ""),
            "gateway": route.get("gateway", ""),
        }

    def virtual_server(self, vip: str, real_servers: Sequence[str]) -> Optional[dict[str, Any]]:
        """The virtual server of the VIP, as soon as all expected real servers are in it, else after the wait.

        The proxy on the host's loopback address is told in the same shape; of an external balancer nothing is known.
        """
        if self.params["balancer"] == EXTERNAL:
            return None
        look = self.proxy if self.params["balancer"] == LOCALHOST else self.ipvs
        deadline = time.monotonic() + 10
        while True:
            found = look(vip)
            if not core.missing_real_servers(found, real_servers) or time.monotonic() > deadline:
                return found
            time.sleep(0.3)

    def ipvs(self, vip: str) -> Optional[dict[str, Any]]:
        for server in core.parse_ip_vs(read(Path("/proc/net/ip_vs"))):
            if server["address"] == vip and server["port"] == self.params["port"]:
                if BALANCER.is_dir():
                    healthy = {path.name[len(UP) :] for path in BALANCER.glob(f"{UP}*")}
                    server["real_servers"] = core.offered_real_servers(server, healthy)
                return server
        return None

    def proxy(self, address: str) -> Optional[dict[str, Any]]:
        try:
            told = proxy_status(5)
        except OSError:
            return None
        return proxy_as_virtual_server(address, self.params["port"], told)

    def outside(self, address: str) -> dict[str, Any]:
        """Whether the host has this address, and what clients at it would see.

        Nothing is said of the certificate of an API server that does not answer, which is told elsewhere.
        """
        _status, out, _err = self.module.run_command(["ip", "-o", "address", "show", "to", address])
        mine = core.flags_of(read(MANIFESTS / "kube-apiserver.yaml")).get("advertise-address", "")
        refused = str(self.api(mine, address).get("error") or "") if mine else ""
        told = self.api(address)
        return {
            "address": address,
            "held": bool(out.strip()),
            "error": str(told["error"]),
            "certificate": refused if "certificate" in refused.lower() else "",
        }

    def api(self, vip: str, server_name: str = "") -> dict[str, Any]:
        """Ask the API server through the VIP, as kubelet does: certificate checked, by name."""
        port, name = self.params["port"], server_name or self.params["server_name"]
        found: dict[str, Any] = {"ok": False, "source": "", "server": "", "resolved": resolved(name)}
        began = time.monotonic()
        try:
            context = ssl.create_default_context(cafile=CA)
            with socket.create_connection((vip, port), timeout=5) as plain:
                found["source"] = plain.getsockname()[0]
                with context.wrap_socket(plain, server_hostname=name) as stream:
                    found["server"] = real_server(stream.getsockname()[:2])
                    ask = f"GET /readyz HTTP/1.0\r\nHost: {name}\r\n\r\n"
                    stream.sendall(ask.encode())
                    status = stream.recv(200).decode(errors="replace").splitlines()[0]
            found["ok"] = " 200 " in f"{status} "
            found["error"] = "" if found["ok"] else status
        except (OSError, IndexError) as exc:
            found["error"] = str(exc) or type(exc).__name__
        found["seconds"] = round(time.monotonic() - began, 3)
        return found

    def etcd(self) -> dict[str, Any]:
        if not (MANIFESTS / "etcd.yaml").exists():
            return {}
        try:
            health = ask_etcd("GET", "/health")
            listing = ask_etcd("POST", "/v3/cluster/member/list", "{}")
        except (OSError, ValueError, HTTPException) as exc:
            return {"healthy": False, "error": str(exc), "members": []}
        members = [
            {"name": member.get("name", ""), "peer_urls": member.get("peerURLs") or []}
            for member in listing.get("members") or ()
        ]
        return {"healthy": str(health.get("health")).lower() == "true", "error": "", "members": members}

    def pod_network(self) -> dict[str, Any]:
        """What the host's own probe pod reaches."""
        pods, me = self.params["probe_pods"], self.params["node_name"]
        mine = next((pod for pod in pods if pod["node"] == me), None)
        if not pods:
            return {}
        if mine is None:
            return {"pod_network": {"skipped": "no probe pod runs here"}}
        namespace = namespace_of(mine["uid"])
        if namespace is None:
            return {"pod_network": {"skipped": "the network namespace of the probe pod was not found"}}
        peers = core.echoes_of(mine, core.peers_of(me, pods))
        dns, question = self.params["dns_address"], self.params["dns_question"]
        try:
            return inside(namespace, lambda: probe(peers, dns, question))
        except (OSError, ValueError) as exc:
            return {"pod_network": {"skipped": f"the network namespace of the probe pod could not be entered ({exc})"}}


class Cluster:
    """What the API tells."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params

    def status(self) -> dict[str, Any]:
        began = time.monotonic()
        while True:
            found = self.look()
            waited = time.monotonic() - began
            if self.settled(found) or waited > self.params["wait"]:
                return {**found, "waited": round(waited, 1)}
            time.sleep(0.5)

    def look(self) -> dict[str, Any]:
        bin_dir = self.params["bin_dir"]
        error = ""
        items: list[dict[str, Any]] = []
        try:
            kubectl = Kubectl(find_kubectl(bin_dir), self.params["kubeconfig"], bin_dir)
            answer = kubectl.ask("--namespace=kube-system", "get", "nodes,pods", "-o", "json", patience=PATIENCE)
            error = "" if answer.good else answer.complaint
            items = json.loads(answer.out)["items"] if answer.good else []
        except (NoKubectlError, OSError) as exc:
            error = str(exc)
        except (ValueError, KeyError, TypeError) as exc:
            error = f"kubectl's answer is no list: {exc}"
        pods = [core.pod_of(item) for item in items if item["kind"] == "Pod"]
        return {
            "error": error,
            "nodes": [core.node_of(item) for item in items if item["kind"] == "Node"],
            "pods": pods,
            "dns": {"ready": any(pod["ready"] for pod in pods if core.is_dns(pod)), "missing": self.missing_dns()},
        }

    def missing_dns(self) -> str:
        """Why the bundle holds no CoreDNS, or ""."""
        try:
            return missing_dns(json.loads(read(Path(self.params["bundle_manifest"])) or "{}"))
        except (ValueError, AttributeError, TypeError):
            return ""

    def settled(self, found: Mapping[str, Any]) -> bool:
        return core.settled(found, self.params["expected_nodes"])


def processes() -> list[Path]:
    return [path for path in Path("/proc").iterdir() if path.name.isdigit()]


def resolved(name: str) -> list[str]:
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None)})
    except OSError:
        return []


def real_server(source: Sequence[Any]) -> str:
    """To which control plane IPVS sent the connection from this source."""
    for entry in core.parse_ip_vs_conn(read(Path("/proc/net/ip_vs_conn"))):
        if entry["source"] == tuple(source):
            return str(entry["real"][0])
    return ""


def ask_etcd(method: str, path: str, body: Optional[str] = None) -> dict[str, Any]:
    context = ssl.create_default_context(cafile=str(ETCD_PKI / "ca.crt"))
    context.load_cert_chain(ETCD_PKI / "healthcheck-client.crt", ETCD_PKI / "healthcheck-client.key")
    flags = core.flags_of(read(MANIFESTS / "etcd.yaml"))
    connection = HTTPSConnection(core.loopback_of(flags), 2379, timeout=5, context=context)
    try:
        connection.request(method, path, body=body)
        response = connection.getresponse()
        answer: dict[str, Any] = json.load(response)
    finally:
        connection.close()
    return answer


# --- inside a pod's network -------------------------------------------------------------------------------------------


def namespace_of(uid: str) -> Optional[Path]:
    """The network namespace of a pod, by any process in the pod's control group."""
    names = {f"pod{uid}", "pod" + uid.replace("-", "_")}
    for path in processes():
        if any(name in read(path / "cgroup") for name in names):
            return path / "ns/net"
    return None


def inside(namespace: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of work done in a network namespace, by a child process."""
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        answer: dict[str, Any] = {"failure": "the probe ended early"}
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            with namespace.open("rb") as handle:
                if libc.setns(handle.fileno(), CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            answer = work()
        except Exception as exc:  # noqa: BLE001  the child has no other way to tell its parent
            answer = {"failure": f"{type(exc).__name__}: {exc}"}
        finally:
            os.write(sender, json.dumps(answer).encode())
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as stream:
        text = stream.read()
    os.waitpid(child, 0)
    answer = json.loads(text)
    if "failure" in answer:
        raise ValueError(answer["failure"])
    return answer


def probe(peers: Sequence[Mapping[str, Any]], dns_address: str, question: str) -> dict[str, Any]:
    mtu = mtu_of("eth0")
    addresses = [str(peer["address"]) for peer in peers]
    small, full = set(), set()
    for echo in ECHOES:
        mine = [address for address in addresses if (":" in address) == echo.ipv6]
        answered = ping(echo, mine, 56) if mine else set()
        small |= answered
        full |= ping(echo, sorted(answered), mtu - echo.overhead) if answered else set()
    found: dict[str, Any] = {
        "pod_network": {
            "mtu": mtu,
            "peers": [
                {**peer, "answered": peer["address"] in small, "full_size": peer["address"] in full} for peer in peers
            ],
        }
    }
    if dns_address:
        found["dns"] = ask_dns(dns_address, question)
    return found


def mtu_of(card: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("256s", card.encode())
        return int(struct.unpack_from("i", fcntl.ioctl(any_socket.fileno(), SIOCGIFMTU, request), 16)[0])


class Echo(NamedTuple):
    """ICMP's echo in one family."""

    family: int
    protocol: int
    request: int
    reply: int
    discover: tuple[int, int, int]  # the socket option by which nothing is fragmented, neither here nor on the way
    overhead: int  # bytes of the IP and ICMP headers

    @property
    def ipv6(self) -> bool:
        return self.family == socket.AF_INET6

    def message(self, packet: bytes) -> bytes:
        """What a raw socket received, without IPv4's header; IPv6's is never there."""
        return packet if self.ipv6 else packet[(packet[0] & 0x0F) * 4 :]


ECHOES = (
    Echo(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, (socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO), 28),
    Echo(
        socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129, (socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO), 48
    ),
)


def ping(echo: Echo, addresses: Sequence[str], size: int) -> set[str]:
    """The addresses that answer an echo request of this many bytes, sent unfragmented; three tries within 3 seconds."""
    answered: set[str] = set()
    identity = os.getpid() & 0xFFFF
    with socket.socket(echo.family, socket.SOCK_RAW, echo.protocol) as icmp:
        icmp.setsockopt(*echo.discover)
        icmp.setblocking(False)
        for sequence in range(1, 4):
            for address in addresses:
                if address not in answered:
                    send_echo(icmp, echo, address, identity, sequence, size)
            deadline = time.monotonic() + 1
            while len(answered) < len(addresses) and time.monotonic() < deadline:
                if not select.select([icmp.fileno()], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    break
                packet, sender = icmp.recvfrom(65536)
                message = echo.message(packet)
                kind, _code, _sum, answer_to, _sequence = struct.unpack_from("!BBHHH", message)
                if kind == echo.reply and answer_to == identity and sender[0] in addresses and len(message) >= size:
                    answered.add(sender[0])
    return answered


def send_echo(icmp: socket.socket, echo: Echo, address: str, identity: int, sequence: int, size: int) -> None:
    payload = bytes(max(0, size))
    # The kernel itself fills in ICMPv6's sum, which counts addresses that only it knows.
    total = 0 if echo.ipv6 else checksum(struct.pack("!BBHHH", echo.request, 0, 0, identity, sequence) + payload)
    head = struct.pack("!BBHHH", echo.request, 0, total, identity, sequence)
    try:
        icmp.sendto(head + payload, (address, 0))
    except OSError:  # no route, or larger than the path: shown as no answer
        return


def checksum(data: bytes) -> int:
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


DNS_PATIENCE = 45.0


def ask_dns(address: str, question: str) -> dict[str, Any]:
    """The addresses that a DNS server has for a name; asked again for a while, as each kube-proxy learns of it in its time."""
    found: dict[str, Any] = {"question": question, "answers": [], "error": "no answer"}
    labels = b"".join(bytes([len(label)]) + label.encode() for label in question.rstrip(".").split("."))
    identity = os.getpid() & 0xFFFF
    # The names' addresses are of the cluster's primary family, as is the DNS service's own.
    kind = core.DNS_AAAA if ":" in address else core.DNS_A
    query = struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)
    give_up = time.monotonic() + DNS_PATIENCE
    while time.monotonic() < give_up:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as stream:
            stream.settimeout(2)
            try:
                stream.connect((address, 53))
                stream.send(query)
                answer = stream.recv(4096)
            except OSError as exc:
                found["error"] = str(exc)
                time.sleep(0.5)
                continue
        code = struct.unpack_from("!H", answer, 2)[0] & 0x0F
        found["answers"] = core.dns_addresses(answer) if code == 0 else []
        found["error"] = "" if found["answers"] else f"answer without an address (code {code})"
        if found["answers"]:
            break
        time.sleep(0.5)
    return found


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    member = KUBELET_CONF.exists()
    result: dict[str, Any] = {"changed": False, "member": member}
    if "host" in module.params["sections"]:
        if not module.params["vip"]:
            module.fail_json(msg="vip is needed for the section host: the address at which the API server is balanced")
        result["status"] = Host(module).status() if member else {}
    if "cluster" in module.params["sections"]:
        result["cluster"] = Cluster(module).status() if Path(module.params["kubeconfig"]).exists() else {}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
