# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import ipaddress
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _verify as verify

ADDRESSES = {
    "master1": "192.168.253.129",
    "master2": "192.168.253.128",
    "master3": "192.168.253.130",
    "node01": "192.168.253.131",
}
MASTERS = ["master1", "master2", "master3"]
VIP = "10.103.97.2"

IP_VS = """\
IP Virtual Server version 1.2.1 (size=256)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
UDP  0A60000A:0035 rr
  -> 64400306:0035      Masq    1      0          1
TCP  0A676102:192B rr
  -> C0A8FD82:192B      Masq    1      2          40
  -> C0A8FD81:192B      Masq    0      0          39
TCP  [fd00:0103:0000:0000:0000:0000:0000:0002]:192B rr
  -> [fd00:0253:0000:0000:0000:0000:0000:0129]:192B      Masq    1      0          0
"""

IP_VS_CONN = """\
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0A8FD83 9C40 0A676102 192B C0A8FD81 192B ESTABLISHED     899
TCP C0A8FD83 9C42 0A676102 192B C0A8FD82 192B TIME_WAIT        11
TCP fd00:0253:0000:0000:0000:0000:0000:0131 9C44 fd00:0103:0000:0000:0000:0000:0000:0002 192B \
fd00:0253:0000:0000:0000:0000:0000:0129 192B ESTABLISHED     899
"""


def plan(cni: str = "bridge") -> dict[str, Any]:
    return {
        "kubernetes_version": "v1.20.2",
        "apiserver": {
            "name": "apiserver.cluster.local",
            "vip": VIP,
            "port": 6443,
            "endpoint": "apiserver.cluster.local:6443",
            "real_servers": [ADDRESSES[name] for name in MASTERS],
        },
        "pod_cidr": "100.64.0.0/10",
        "dns_address": "10.96.0.10",
        "control_plane": list(MASTERS),
        "first_control_plane": "master1",
        "cni": {"name": cni},
        "hosts": {
            name: {
                "node_name": name,
                "role": "control_plane" if name in MASTERS else "worker",
                "schedulable": name not in MASTERS,
                "address": address,
                "vip_route": {"destination": f"{VIP}/32", "source": address},
            }
            for name, address in ADDRESSES.items()
        },
    }


def node(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ready": True,
        "reason": "",
        "internal_ips": [ADDRESSES[name]],
        "roles": ["control-plane", "master"] if name in MASTERS else [],
        "version": "v1.20.2",
        "pod_cidr": "100.64.0.0/24",
        "schedulable": True,
        **more,
    }


def pod(name: str, **more: Any) -> dict[str, Any]:
    labels = {"k8s-app": "kube-dns"} if name.startswith("coredns") else {}
    found = {"name": name, "uid": "u", "labels": labels, "node": "node01", "address": "100.64.3.2"}
    return {**found, "phase": "Running", "ready": True, "restarts": 0, "reason": "", **more}


def cluster() -> dict[str, Any]:
    return {"error": "", "nodes": [node(name) for name in ADDRESSES], "pods": [pod("coredns-1"), pod("etcd-master1")]}


def status(name: str) -> dict[str, Any]:
    address = ADDRESSES[name]
    found: dict[str, Any] = {
        "kubelet": {"running": True, "node_ip": address, "server": "https://apiserver.cluster.local:6443"},
        "route": {"type": "local", "dev": "lo", "source": address, "gateway": ""},
        "virtual_server": {
            "address": VIP,
            "port": 6443,
            "real_servers": [{"address": ADDRESSES[master], "port": 6443, "weight": 1} for master in MASTERS],
        },
        "api": {"ok": True, "source": address, "server": ADDRESSES["master1"], "resolved": [VIP], "error": ""},
        "static_pods": {},
        "etcd": {},
        "dns": {"question": "kubernetes.default.svc.cluster.local", "answers": ["10.96.0.1"], "error": ""},
        "pod_network": {
            "mtu": 1500,
            "peers": [
                {"node": peer, "address": "100.64.9.9", "uid": "u", "answered": True, "full_size": True}
                for peer in ADDRESSES
                if peer != name
            ],
        },
    }
    if name in MASTERS:
        found["static_pods"] = {
            "kube-apiserver": {"advertise-address": address},
            "etcd": {
                "initial-advertise-peer-urls": f"https://{address}:2380",
                "advertise-client-urls": f"https://{address}:2379",
            },
        }
        members = [{"name": master, "peer_urls": [f"https://{ADDRESSES[master]}:2380"]} for master in MASTERS]
        found["etcd"] = {"healthy": True, "error": "", "members": members}
    return found


def hosts() -> dict[str, dict[str, Any]]:
    return {name: status(name) for name in ADDRESSES}


# --- reading ---


def test_ip_vs_is_read() -> None:
    servers = verify.parse_ip_vs(IP_VS)
    assert [(server["protocol"], server["address"], server["port"]) for server in servers] == [
        ("UDP", "10.96.0.10", 53),
        ("TCP", VIP, 6443),
        ("TCP", "fd00:103::2", 6443),
    ]
    assert servers[1]["real_servers"] == [
        {"address": "192.168.253.130", "port": 6443, "method": "Masq", "weight": 1, "active": 2, "inactive": 40},
        {"address": "192.168.253.129", "port": 6443, "method": "Masq", "weight": 0, "active": 0, "inactive": 39},
    ]
    assert servers[2]["real_servers"][0]["address"] == "fd00:253::129"


@given(st.ip_addresses(v=4), st.integers(1, 65535))
def test_any_endpoint_is_read_back(address: ipaddress.IPv4Address, port: int) -> None:
    assert verify.hex_endpoint(f"{int(address):08X}:{port:04X}") == (str(address), port)


def test_ip_vs_conn_is_read() -> None:
    first, second, third = verify.parse_ip_vs_conn(IP_VS_CONN)
    assert first == {
        "source": ("192.168.253.131", 40000),
        "virtual": (VIP, 6443),
        "real": ("192.168.253.129", 6443),
        "state": "ESTABLISHED",
    }
    assert second["real"][0] == "192.168.253.130"
    assert (third["source"], third["real"]) == (("fd00:253::131", 40004), ("fd00:253::129", 6443))


def test_a_server_of_weight_zero_is_drained_and_not_missing() -> None:
    virtual = verify.parse_ip_vs(IP_VS)[1]
    expected = [ADDRESSES[name] for name in MASTERS]
    assert verify.missing_real_servers(virtual, expected) == ["192.168.253.128"]
    assert verify.drained_real_servers(virtual, expected) == ["192.168.253.129"]
    assert verify.missing_real_servers(None, expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "    - kube-apiserver\n    - --advertise-address=192.168.253.129\n    - --etcd-servers=https://127.0.0.1:2379\n",
        "/usr/local/bin/kubelet\n--advertise-address=192.168.253.129\n--etcd-servers=https://127.0.0.1:2379\n",
        '  - "--advertise-address=192.168.253.129"\n  - "--etcd-servers=https://127.0.0.1:2379"\n',
    ],
)
def test_flags_are_read(text: str) -> None:
    assert verify.flags_of(text) == {
        "advertise-address": "192.168.253.129",
        "etcd-servers": "https://127.0.0.1:2379",
    }


def test_a_node_of_the_api_is_read() -> None:
    item = {
        "metadata": {"name": "master1", "labels": {"node-role.kubernetes.io/master": "", "a": "b"}},
        "spec": {"podCIDR": "100.64.0.0/24", "unschedulable": True},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.168.253.129"}, {"type": "Hostname", "address": "m"}],
            "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady", "message": "cni missing"}],
            "nodeInfo": {"kubeletVersion": "v1.20.2"},
        },
    }
    found = verify.node_of(item)
    assert (found["ready"], found["reason"], found["roles"]) == (False, "cni missing", ["master"])
    assert (found["internal_ips"], found["schedulable"]) == (["192.168.253.129"], False)
    assert verify.node_of({"metadata": {"name": "new"}})["reason"] == "unknown"


def test_a_pod_of_the_api_is_read() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    item = {
        "metadata": {"name": "coredns-1", "uid": "u-1", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"nodeName": "node01"},
        "status": {
            "phase": "Running",
            "podIP": "100.64.3.2",
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"restartCount": 3, "state": waiting}, {"restartCount": 1, "state": {"running": {}}}],
        },
    }
    found = verify.pod_of(item)
    assert (found["ready"], found["restarts"], found["reason"]) == (False, 4, "back-off 40s")
    assert verify.is_dns(found) and not verify.is_probe(found)


@pytest.mark.parametrize(("count", "most"), [(1, 16), (4, 16), (17, 16), (40, 16), (5, 2)])
def test_every_pod_is_pinged_by_as_many_as_it_pings(count: int, most: int) -> None:
    pods = [{"node": f"n{number:02}", "address": str(number)} for number in range(count)]
    pinged = {entry["node"]: [peer["node"] for peer in verify.peers_of(entry["node"], pods, most)] for entry in pods}
    expected = min(most, count - 1)
    assert all(len(set(peers)) == expected and me not in peers for me, peers in pinged.items())
    assert all(sum(name in peers for peers in pinged.values()) == expected for name in pinged)


def dns_answer(*records: tuple[int, bytes], compressed: bool = True) -> bytes:
    name = b"\x0akubernetes\x07default\x00"
    body = b"".join(
        (b"\xc0\x0c" if compressed else name) + struct.pack("!HHIH", kind, 1, 5, len(data)) + data
        for kind, data in records
    )
    return struct.pack("!HHHHHH", 7, 0x8180, 1, len(records), 0, 0) + name + struct.pack("!HH", 1, 1) + body


@pytest.mark.parametrize("compressed", [True, False])
def test_dns_addresses_are_read(compressed: bool) -> None:
    answer = dns_answer((5, b"\x01a\x00"), (1, bytes([10, 96, 0, 1])), compressed=compressed)
    assert verify.dns_addresses(answer) == ["10.96.0.1"]
    assert verify.dns_addresses(dns_answer()) == []


def test_the_probe_runs_everywhere_and_ends_at_once() -> None:
    pods = verify.probe_pods(["master1", "node01"], "k8s.gcr.io/pause:3.2", "5a")["items"]
    assert [pod["metadata"]["name"] for pod in pods] == ["multinic-probe-5a-master1", "multinic-probe-5a-node01"]
    assert [pod["spec"]["nodeName"] for pod in pods] == ["master1", "node01"]
    for pod in pods:
        spec = pod["spec"]
        assert spec["tolerations"] == [{"operator": "Exists"}]
        assert spec["terminationGracePeriodSeconds"] == 0
        assert "hostNetwork" not in spec


# --- comparing ---


def test_a_cluster_as_planned_has_no_findings() -> None:
    verdict = verify.compare(plan(), cluster(), hosts())
    assert verdict.findings == []
    assert verdict.untested == []
    assert verdict.tested == [
        "all 4 nodes are Ready, with their planned INTERNAL-IPs",
        "all 3 etcd members are healthy, their peers on the cluster network",
        "all 12 pings between pods on different nodes came back, at the pods' full MTU",
        "cluster DNS answers pods on all 4 nodes",
    ]


EXTERNAL = "192.168.160.246"


def at(path: str, value: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """A change of one thing that was seen: 'cluster/nodes/3/ready' or 'hosts/node01/route/source'."""

    def change(seen: dict[str, Any], by_host: dict[str, Any]) -> None:
        first, *rest = path.split("/")
        place: Any = seen if first == "cluster" else by_host
        for word in rest[:-1]:
            place = place[int(word) if word.isdigit() else word]
        last = rest[-1]
        if isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "host", "words"),
    [
        (at("cluster/nodes/3/internal_ips", [EXTERNAL]), "node01", f"INTERNAL-IP {EXTERNAL}, planned 192.168.253.131"),
        (at("cluster/nodes/3/ready", False), "node01", "not Ready"),
        (at("cluster/nodes/3/version", "v1.19.2"), "node01", "kubelet is v1.19.2, planned v1.20.2"),
        (at("cluster/nodes/3/version", ""), "node01", "kubelet is of no known version, planned v1.20.2"),
        (
            at("cluster/nodes/1/roles", []),
            "master2",
            "is no control plane by its labels (none), planned a control plane",
        ),
        (
            at("cluster/nodes/3/roles", ["master"]),
            "node01",
            "is a control plane by its labels (master), planned a worker",
        ),
        (at("cluster/nodes/3/name", "other"), "node01", "no node node01 in the cluster"),
        (at("cluster/error", "connection refused"), "master1", "kubectl: connection refused"),
        (at("hosts/node01/kubelet/node_ip", ""), "node01", "--node-ip=(not set), planned 192.168.253.131"),
        (at("hosts/node01/kubelet/running", False), "node01", "kubelet is not running"),
        (at("hosts/master2/kubelet/server", "https://192.168.253.129:6443"), "master2", "kubelet talks to"),
        (at("hosts/node01/route/source", EXTERNAL), "node01", f"source {EXTERNAL}; planned: local route"),
        (at("hosts/node01/route", {}), "node01", "the way to 10.103.97.2: none"),
        (at("hosts/master3/virtual_server", None), "master3", "no virtual server 10.103.97.2:6443"),
        (
            at("hosts/node01/virtual_server/real_servers/0/address", "192.168.253.77"),
            "node01",
            "no connections are sent to 192.168.253.129",
        ),
        (
            at("hosts/node01/virtual_server/real_servers/0/address", "192.168.253.9"),
            "node01",
            "also sent to 192.168.253.9",
        ),
        (at("hosts/node01/api", {"ok": False, "error": "timed out", "resolved": [VIP]}), "node01", "timed out"),
        (at("hosts/node01/api/source", EXTERNAL), "node01", f"reached from {EXTERNAL}, planned 192.168.253.131"),
        (at("hosts/node01/api/resolved", ["192.168.160.1"]), "node01", "is 192.168.160.1 here, planned 10.103.97.2"),
        (at("hosts/master2/static_pods/kube-apiserver", {}), "master2", "--advertise-address=(not set)"),
        (
            at("hosts/master2/static_pods/etcd/initial-advertise-peer-urls", "https://192.168.160.244:2380"),
            "master2",
            "planned https://192.168.253.128:2380",
        ),
        (at("hosts/master3/etcd", {"healthy": False, "error": "refused"}), "master3", "etcd is not healthy: refused"),
        (
            at("hosts/master1/etcd/members/1/peer_urls", ["https://192.168.160.244:2380"]),
            "master2",
            "no etcd member has the peer address 192.168.253.128",
        ),
        (at("hosts/node01/pod_network/peers/0/answered", False), "node01", "pings a pod on master1 (100.64.9.9): no"),
        (at("hosts/node01/pod_network/peers/0/full_size", False), "node01", "no answer to packets of 1500 bytes"),
        (at("hosts/node01/dns/answers", []), "node01", "asked of 10.96.0.10 by a pod here"),
        (at("cluster/pods/0/ready", False), "node01", "coredns-1 is not ready"),
    ],
)
def test_each_difference_is_an_error_of_its_host(change: Callable[..., None], host: str, words: str) -> None:
    seen, by_host = cluster(), hosts()
    change(seen, by_host)
    errors = verify.compare(plan(), seen, by_host).errors
    assert any(error.host == host and words in error.found for error in errors), errors
    assert all(error.remedy and error.why for error in errors)


def test_all_differences_are_told_at_once() -> None:
    seen, by_host = cluster(), hosts()
    at("cluster/nodes/3/internal_ips", [EXTERNAL])(seen, by_host)
    at("hosts/master2/route", {})(seen, by_host)
    at("hosts/master3/etcd", {"healthy": False, "error": "refused"})(seen, by_host)
    assert {error.host for error in verify.compare(plan(), seen, by_host).errors} == {"node01", "master2", "master3"}


def test_without_a_pod_network_unready_nodes_are_no_error() -> None:
    seen = cluster()
    for entry in seen["nodes"]:
        entry.update(ready=False, reason="runtime network not ready: NetworkReady=false")
    seen["pods"][0]["ready"] = False
    verdict = verify.compare(plan("none"), seen, hosts())
    assert verdict.errors == []
    assert [finding.severity for finding in verdict.findings] == ["info"] * 4
    assert "pods reaching each other: cni is none" in verdict.untested


def test_a_pod_that_does_not_start_is_an_error_of_its_node() -> None:
    verdict = verify.compare(plan(), cluster(), hosts(), ["node01: pod multinic-probe-1 is Pending", "no image"])
    assert [(error.host, error.found) for error in verdict.errors] == [("node01", "pod multinic-probe-1 is Pending")]
    assert verdict.untested == ["pods reaching each other: no image"]


def test_what_was_not_tried_is_said() -> None:
    seen, by_host = cluster(), hosts()
    seen.update(pods=[], dns={"ready": False, "missing": "the proxy is away"})
    for entry in by_host.values():
        entry.update(pod_network={}, dns={})
    verdict = verify.compare(plan(), seen, by_host)
    assert verdict.errors == []
    assert verdict.untested == [
        "pods reaching each other: no probe pods ran",
        "cluster DNS: no CoreDNS runs (the bundle holds none: the proxy is away)",
    ]
    assert "cluster DNS: no CoreDNS runs" in verify.compare(plan(), {**seen, "dns": {}}, by_host).untested


@pytest.mark.parametrize(
    ("change", "missing", "settled"),
    [
        (at("cluster/error", ""), "", True),
        (at("cluster/error", "refused"), "", False),
        (at("cluster/nodes/3/ready", False), "", False),
        (at("cluster/nodes/3/ready", False), "the proxy is away", False),
        (at("cluster/pods/0/ready", False), "", False),
        (at("cluster/pods/0/ready", False), "the proxy is away", True),
        (at("cluster/pods", []), "", True),
    ],
)
def test_what_cannot_come_is_not_waited_for(change: Callable[..., None], missing: str, settled: bool) -> None:
    seen = {**cluster(), "dns": {"ready": True, "missing": missing}}
    change(seen, {})
    assert verify.settled(seen, ADDRESSES) is settled


def test_coredns_that_lacks_its_image_is_a_note_and_no_error() -> None:
    seen = {**cluster(), "dns": {"ready": False, "missing": "the proxy is away"}}
    seen["pods"][0]["ready"] = False
    verdict = verify.compare(plan(), seen, hosts())
    assert verdict.errors == []
    assert verdict.untested == ["cluster DNS: no CoreDNS runs (the bundle holds none: the proxy is away)"]


def test_an_api_that_does_not_answer_is_told_once_and_nothing_is_guessed() -> None:
    verdict = verify.compare(plan(), {"error": "refused", "nodes": [], "pods": []}, hosts())
    assert [error.found for error in verdict.errors] == ["kubectl: refused"]
    assert verdict.untested == ["cluster DNS: the pods could not be listed"]


def test_a_run_limited_to_one_host_judges_only_what_it_saw() -> None:
    verdict = verify.compare(plan(), cluster(), {"node01": status("node01")})
    assert verdict.errors == []
    assert [row["host"] for row in verdict.rows] == list(ADDRESSES)
    assert any(sentence.startswith("etcd on master1") for sentence in verdict.untested)


def test_what_another_run_has_to_mend_is_no_error_of_a_limited_one() -> None:
    seen = cluster()
    seen["nodes"][3]["name"] = "gone"
    seen["nodes"][2].update(ready=False, reason="kubelet stopped posting")
    verdict = verify.compare(plan(), seen, {"master1": status("master1")})
    assert verdict.errors == []
    assert [(item.severity, item.host) for item in verdict.findings] == [("warning", "master3")]
    assert "node01: not part of this run, and no node of the cluster yet" in verdict.untested


@pytest.mark.parametrize(
    ("running", "same"),
    [("v1.20.2", True), ("v1.20.2+vendor.1", True), ("v1.20.3", False), ("v1.20.2-rc.1", False), ("x", False)],
)
def test_a_vendors_mark_makes_no_other_version(running: str, same: bool) -> None:
    assert verify.same_version(running, "v1.20.2") is same


def test_a_drained_control_plane_is_told_without_being_an_error() -> None:
    by_host = hosts()
    by_host["node01"]["virtual_server"]["real_servers"][0]["weight"] = 0
    verdict = verify.compare(plan(), cluster(), by_host)
    assert verdict.errors == []
    (told,) = verdict.findings
    assert (told.host, told.variable) == ("node01", "apiserver_drained")
    assert "192.168.253.129 gets no new connections" in told.found


def test_restarts_are_told_without_being_errors() -> None:
    seen = cluster()
    seen["pods"].append(pod("kube-apiserver-master1", restarts=2, node="master1"))
    verdict = verify.compare(plan(), seen, hosts())
    assert [finding.found for finding in verdict.findings] == [
        "kube-apiserver-master1 has been restarted, 2 times so far"
    ]
    assert verdict.errors == []


def test_comparing_changes_nothing_it_was_given() -> None:
    seen, by_host, planned = cluster(), hosts(), plan()
    before = copy.deepcopy((seen, by_host, planned))
    verify.compare(planned, seen, by_host)
    assert (seen, by_host, planned) == before


# --- telling ---


def test_the_summary_names_every_address_and_the_way_in() -> None:
    text = verify.summary(plan(), verify.compare(plan(), cluster(), hosts()), "ssh root@192.168.160.243")
    for address in ADDRESSES.values():
        assert address in text
    for words in ("10.103.97.2", "ssh root@192.168.160.243", "kubectl get nodes", "192.168.253.128 .129 .130"):
        assert words in text
    assert all(len(line) <= 130 for line in text.splitlines())


@pytest.mark.parametrize(
    ("addresses", "told"),
    [
        ([], ""),
        (["192.168.253.130", "192.168.253.128"], "192.168.253.128 .130"),
        (["10.0.0.5", "192.168.253.128"], "10.0.0.5 192.168.253.128"),
        (["fd00::2", "fd00::1"], "fd00::1 fd00::2"),
    ],
)
def test_addresses_are_shortened(addresses: list[str], told: str) -> None:
    assert verify.short(addresses) == told


@pytest.mark.parametrize(
    ("variables", "command"),
    [
        ({}, "ssh master1"),
        ({"ansible_host": "192.168.160.243", "ansible_user": "lab"}, "ssh lab@192.168.160.243"),
        (
            {"ansible_ssh_private_key_file": "/a b/key", "ansible_port": 2222, "ansible_ssh_common_args": " -o A=b"},
            "ssh -i '/a b/key' -p 2222 -o A=b master1",
        ),
        ({"ansible_port": 22}, "ssh master1"),
    ],
)
def test_the_way_in_follows_the_connection_variables(variables: dict[str, Any], command: str) -> None:
    assert verify.ssh_command(variables, "master1") == command


def test_errors_have_their_own_heading() -> None:
    seen = cluster()
    seen["nodes"][3]["ready"] = False
    text = verify.told(verify.compare(plan(), seen, hosts()).findings)
    assert text.startswith("NOT AS PLANNED")
    assert "nothing has been changed" not in text
    assert verify.told([]) == ""


# --- clusters that something else made, and hosts that could not be looked at ---


def made_by_others() -> dict[str, dict[str, Any]]:
    """No VIP, no balancer, no --node-ip: what plain kubeadm leaves."""
    seen = hosts()
    for entry in seen.values():
        entry.update(
            route={"type": "unicast", "dev": "ens33", "source": EXTERNAL}, virtual_server=None, api={"ok": False}
        )
        entry["kubelet"] = {"running": True, "node_ip": "", "server": "https://lb.example:6443"}
    return seen


def test_a_cluster_of_another_tool_is_compared_where_it_can_be() -> None:
    seen = cluster()
    seen["nodes"][3]["internal_ips"] = [EXTERNAL]
    verdict = verify.compare({**plan(), "kubernetes_version": ""}, seen, made_by_others(), foreign=list(ADDRESSES))
    assert [(error.host, error.variable) for error in verdict.errors] == [("node01", "cluster_network")]
    warnings = [item for item in verdict.findings if item.severity == "warning"]
    assert {item.host for item in warnings} == set(ADDRESSES)
    assert all("without --node-ip" in item.found for item in warnings)


def test_etcd_outside_of_the_cluster_is_not_judged() -> None:
    seen = made_by_others()
    for name in MASTERS:
        seen[name].update(etcd={}, static_pods={"kube-apiserver": {"advertise-address": ADDRESSES[name]}})
    verdict = verify.compare(plan(), cluster(), seen, foreign=list(ADDRESSES))
    assert verdict.errors == []
    assert any(sentence.startswith("etcd: it does not run as a static pod") for sentence in verdict.untested)


def test_addresses_of_a_control_plane_that_is_away_are_no_strangers() -> None:
    known = plan()
    del known["hosts"]["master3"]
    known["apiserver"]["real_servers"].remove(ADDRESSES["master3"])
    seen = {name: entry for name, entry in hosts().items() if name != "master3"}
    assert verify.compare(known, cluster(), seen).errors == []


def test_calicos_address_and_the_runtime_are_read() -> None:
    item = {
        "metadata": {"name": "n", "annotations": {"projectcalico.org/IPv4Address": "192.168.253.131/24"}},
        "status": {"nodeInfo": {"containerRuntimeVersion": "cri-o://1.30.0"}},
    }
    found = verify.node_of(item)
    assert (found["calico_address"], found["runtime"]) == ("192.168.253.131", "cri-o://1.30.0")


# --- two families ---

VIP6 = "fd00:10:103:97::2"
SIX = {name: f"fd00:253::{address.rpartition('.')[2]}" for name, address in ADDRESSES.items()}


def dual_plan() -> dict[str, Any]:
    found = plan()
    four, six = (
        {"vip": vip, "real_servers": [addresses[name] for name in MASTERS]}
        for vip, addresses in ((VIP, ADDRESSES), (VIP6, SIX))
    )
    found["apiserver"]["virtual_servers"] = [four, six]
    for name, host in found["hosts"].items():
        host["addresses"] = [ADDRESSES[name], SIX[name]]
        host["vip_routes"] = [host["vip_route"], {"destination": f"{VIP6}/128", "source": SIX[name]}]
    return found


def dual_status(name: str) -> dict[str, Any]:
    found = status(name)
    found["kubelet"]["node_ip"] = f"{ADDRESSES[name]},{SIX[name]}"
    found["further_vips"] = [
        {
            "vip": VIP6,
            "route": {"type": "local", "dev": "lo", "source": SIX[name]},
            "virtual_server": {"real_servers": [{"address": SIX[master], "weight": 1} for master in MASTERS]},
            "api": {"ok": True, "source": SIX[name], "resolved": [VIP, VIP6], "error": ""},
        }
    ]
    return found


def dual_cluster() -> dict[str, Any]:
    found = cluster()
    found["nodes"] = [node(name, internal_ips=[ADDRESSES[name], SIX[name]]) for name in ADDRESSES]
    return found


def test_a_cluster_of_two_families_as_planned_has_no_findings() -> None:
    verdict = verify.compare(dual_plan(), dual_cluster(), {name: dual_status(name) for name in ADDRESSES})
    assert verdict.findings == []
    row = next(row for row in verdict.rows if row["host"] == "node01")
    assert row["api_from"] == f"{ADDRESSES['node01']}, {SIX['node01']}"
    assert SIX["master1"] in row["real_servers"]
    assert f"VIP {VIP}, {VIP6}" in verify.summary(dual_plan(), verdict, "ssh master1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            at("hosts/node01/kubelet/node_ip", ADDRESSES["node01"]),
            f"--node-ip={ADDRESSES['node01']}, planned {ADDRESSES['node01']},",
        ),
        (at("hosts/node01/further_vips/0/route/source", "fd00::9"), f"the way to {VIP6}"),
        (at("hosts/node01/further_vips/0/virtual_server", None), f"IPVS has no virtual server [{VIP6}]:6443"),
        (
            at("hosts/node01/further_vips/0/virtual_server/real_servers/0/address", "fd00:253::77"),
            f"no connections are sent to {SIX['master1']}",
        ),
        (at("hosts/node01/further_vips/0/api/ok", False), f"GET /readyz through {VIP6}"),
        (at("hosts/node01/further_vips/0/api/source", "fd00::9"), "reached from fd00::9, planned fd00:253::131"),
        (at("hosts/node01/further_vips", []), f"the way to {VIP6}: none"),
    ],
)
def test_each_difference_of_the_second_family_is_an_error(change: Callable[..., None], words: str) -> None:
    seen = {name: dual_status(name) for name in ADDRESSES}
    change({}, seen)
    errors = verify.compare(dual_plan(), dual_cluster(), seen).errors
    assert {error.host for error in errors} == {"node01"}
    assert any(words in error.found for error in errors), [error.found for error in errors]


def test_a_node_that_lacks_its_second_address_is_told() -> None:
    seen = dual_cluster()
    seen["nodes"][3]["internal_ips"] = [ADDRESSES["node01"]]
    (error,) = verify.compare(dual_plan(), seen, {name: dual_status(name) for name in ADDRESSES}).errors
    assert error.found == f"INTERNAL-IP {ADDRESSES['node01']}, planned {ADDRESSES['node01']}, {SIX['node01']}"


def test_a_pod_pings_every_address_of_a_family_that_it_has_too() -> None:
    both = {"node": "b", "uid": "u", "address": "100.64.1.2", "addresses": ["100.64.1.2", "fd00:64::2"]}
    mine = {"node": "a", "uid": "v", "address": "100.64.0.2", "addresses": ["100.64.0.2", "fd00:64::1"]}
    assert [echo["address"] for echo in verify.echoes_of(mine, [both])] == ["100.64.1.2", "fd00:64::2"]
    assert [echo["address"] for echo in verify.echoes_of({**mine, "addresses": []}, [both])] == ["100.64.1.2"]
    assert all("addresses" not in echo for echo in verify.echoes_of(mine, [both]))


def test_the_addresses_of_a_dns_answer_are_of_either_family() -> None:
    name = b"\x01a\x00"
    head = struct.pack("!HHHHHH", 1, 0x8180, 1, 2, 0, 0) + name + struct.pack("!HH", 28, 1)
    four = name + struct.pack("!HHIH", 1, 1, 30, 4) + ipaddress.ip_address("10.96.0.1").packed
    six = name + struct.pack("!HHIH", 28, 1, 30, 16) + ipaddress.ip_address("fd00:10:96::1").packed
    assert verify.dns_addresses(head + four + six) == ["10.96.0.1", "fd00:10:96::1"]


@pytest.mark.parametrize(
    ("urls", "loopback"),
    [
        ("https://127.0.0.1:2379,https://192.168.253.129:2379", "127.0.0.1"),
        ("https://[::1]:2379,https://[fd00:253::129]:2379", "::1"),
    ],
)
def test_etcd_is_asked_on_the_loopback_that_it_listens_on(urls: str, loopback: str) -> None:
    assert verify.loopback_of({"listen-client-urls": urls}) == loopback


# --- other ways than IPVS ---


def by_proxy(name: str) -> dict[str, Any]:
    """A host that reaches the API by the proxy on its loopback address."""
    found = status(name)
    found["route"] = {}
    found["virtual_server"] = {**found["virtual_server"], "address": "127.0.0.1"}
    found["api"] = {**found["api"], "source": "127.0.0.1", "resolved": ["127.0.0.1"]}
    return found


def with_way(mode: str, *addresses: str) -> dict[str, Any]:
    made = plan()
    real_servers = made["apiserver"]["real_servers"]
    servers = [{"vip": vip, "real_servers": real_servers} for vip in addresses or [made["apiserver"]["name"]]]
    way = {"balancer": mode, "addresses": list(addresses), "virtual_servers": servers}
    return {**made, "apiserver": {**made["apiserver"], **way}}


def test_a_proxy_needs_no_route_and_no_source() -> None:
    seen = {name: by_proxy(name) for name in ADDRESSES}
    verdict = verify.compare(with_way("localhost", "127.0.0.1"), cluster(), seen)
    assert verdict.errors == []
    assert "= 127.0.0.1, balanced on each host by a proxy" in verify.summary(
        with_way("localhost", "127.0.0.1"), verdict, "ssh"
    )


def test_a_proxy_that_is_gone_or_lacks_a_server_is_told() -> None:
    seen = {name: by_proxy(name) for name in ADDRESSES}
    seen["master1"]["virtual_server"] = None
    del seen["node01"]["virtual_server"]["real_servers"][0]
    errors = verify.compare(with_way("localhost", "127.0.0.1"), cluster(), seen).errors
    assert [(item.host, item.found) for item in errors] == [
        ("master1", "no proxy answers for 127.0.0.1:6443"),
        ("node01", f"no connections are sent to {ADDRESSES['master1']}"),
    ]
    assert all("multinic-apiserver-proxy" in item.remedy for item in errors)


def test_of_an_external_balancer_only_the_answer_matters() -> None:
    seen = {name: {**by_proxy(name), "virtual_server": None} for name in ADDRESSES}
    for found in seen.values():
        found["api"] = {**found["api"], "resolved": ["192.0.2.10"]}
    planned = with_way("external", "192.0.2.10")
    assert verify.compare(planned, cluster(), seen).errors == []
    seen["node01"]["api"] = {"ok": False, "error": "timed out", "resolved": ["192.0.2.99"]}
    errors = verify.compare(planned, cluster(), seen).errors
    assert [item.found for item in errors] == [
        "GET /readyz through 192.0.2.10: timed out",
        "apiserver.cluster.local is 192.0.2.99 here, planned 192.0.2.10",
    ]


def test_a_balancer_that_dns_knows_has_no_planned_address() -> None:
    seen = {name: {**by_proxy(name), "virtual_server": None} for name in ADDRESSES}
    verdict = verify.compare(with_way("external"), cluster(), seen)
    assert verdict.errors == []
    assert "6443, balanced outside of the cluster" in verify.summary(with_way("external"), verdict, "ssh")


def test_a_drained_server_of_a_proxy_is_a_warning() -> None:
    seen = {name: by_proxy(name) for name in ADDRESSES}
    seen["node01"]["virtual_server"]["real_servers"][0]["weight"] = 0
    verdict = verify.compare(with_way("localhost", "127.0.0.1"), cluster(), seen)
    assert verdict.errors == []
    assert [(item.host, item.variable) for item in verdict.findings] == [("node01", "apiserver_drained")]


def test_the_proxy_must_answer_at_both_loopback_addresses() -> None:
    seen = {name: by_proxy(name) for name in ADDRESSES}
    for found in seen.values():
        found["api"]["resolved"] = ["127.0.0.1", "::1"]
        found["further_vips"] = [{"vip": "::1", **{key: found[key] for key in ("virtual_server", "api")}}]
    planned = with_way("localhost", "127.0.0.1", "::1")
    assert verify.compare(planned, cluster(), seen).errors == []
    seen["node01"]["further_vips"][0]["api"] = {"ok": False, "error": "refused", "resolved": ["127.0.0.1", "::1"]}
    errors = verify.compare(planned, cluster(), seen).errors
    assert [(item.host, item.found) for item in errors] == [("node01", "GET /readyz through ::1: refused")]
