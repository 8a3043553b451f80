# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _components as components

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
REST = "00000000:00000000 00:00000000 00000000     0        0"
TCP = HEAD + "\n".join(
    [
        f"   0: 83FDA8C0:9C40 0261670A:192B 01 {REST} 101 1",
        f"   1: 83FDA8C0:9C42 0261670A:192B 01 {REST} 102 1",
        f"   2: 0100007F:2710 00000000:0000 0A {REST} 103 1",
        f"   3: F6A0A8C0:9C44 0261670A:192B 01 {REST} 999 1",
        f"   4: 83FDA8C0:9C46 0261670A:192B 06 {REST} 104 1",
    ]
)
TCP6 = HEAD + "\n".join(
    [
        f"   0: 00000000000000000000000000000000:280A 00000000000000000000000000000000:0000 0A {REST} 201 1",
        f"   1: 0000000000000000FFFF000083FDA8C0:280A 0000000000000000FFFF000081FDA8C0:9C40 01 {REST} 202 1",
    ]
)


def test_connections_of_one_process_are_told_by_its_own_addresses() -> None:
    sockets = components.parse_tcp(TCP) + components.parse_tcp(TCP6)
    found = components.ends_of(sockets, {"101", "102", "103", "104", "201", "202"})
    assert found["outgoing"] == [{"local": "192.168.253.131", "remote": "10.103.97.2", "port": 6443, "count": 2}]
    assert found["incoming"] == [{"local": "192.168.253.131", "port": 10250, "count": 1}]
    assert found["listens"] == [{"address": "127.0.0.1", "port": 10000}, {"address": "::", "port": 10250}]


@pytest.mark.parametrize(
    ("server", "resolved", "locals_"),
    [
        ("https://apiserver.cluster.local:6443", ["10.103.97.2"], ["192.168.253.131"]),
        ("https://10.103.97.2:6443", [], ["192.168.253.131"]),
        ("https://unknown.example:6443", [], ["192.168.253.131"]),
        ("https://10.0.0.9:6443", [], []),
        ("https://10.103.97.2", [], []),
        ("https://10.103.97.2:99999999", [], []),
    ],
)
def test_from_where_a_server_is_asked(server: str, resolved: list[str], locals_: list[str]) -> None:
    outgoing = components.ends_of(components.parse_tcp(TCP), {"101"})["outgoing"]
    assert components.asked_from(outgoing, server, resolved) == locals_


def test_flags_of_a_running_program() -> None:
    words = ["/usr/bin/kubelet", "--node-ip=10.0.0.1", "--config", "/var/lib/kubelet/config.yaml", "--v=2", "--fail"]
    assert components.command_flags(words) == {
        "node-ip": "10.0.0.1",
        "config": "/var/lib/kubelet/config.yaml",
        "v": "2",
        "fail": "",
    }


@pytest.mark.parametrize(
    ("text", "mode", "exclude"),
    [
        (
            'mode: ipvs\nipvs:\n  excludeCIDRs:\n  - 10.103.97.2/32\n  - "fd00::2/128"\n  minSyncPeriod: 0s\n',
            "ipvs",
            ["10.103.97.2/32", "fd00::2/128"],
        ),
        ("ipvs:\n  excludeCIDRs:\n    - 10.103.97.2/32\nmode: 'ipvs'\n", "ipvs", ["10.103.97.2/32"]),
        ("ipvs:\n  excludeCIDRs: [10.103.97.2/32]\nmode: nftables\n", "nftables", ["10.103.97.2/32"]),
        ('ipvs:\n  excludeCIDRs: null\n  scheduler: ""\nmode: ""\n', "iptables", []),
        ("", "iptables", []),
    ],
)
def test_kube_proxys_settings_are_read(text: str, mode: str, exclude: list[str]) -> None:
    assert components.proxy_settings(text) == {"mode": mode, "exclude_cidrs": exclude}


def test_configmaps_are_read() -> None:
    listed = {"items": [{"metadata": {"name": "kube-proxy"}, "data": {"config.conf": "mode: ipvs\n"}}]}
    assert components.configmaps(json.dumps(listed)) == {"kube-proxy": {"config.conf": "mode: ipvs\n"}}
    assert components.configmaps("Unable to connect") == {}
    text = 'controlPlaneEndpoint: "lb.example:6443"\nnetworking:\n  podSubnet: 10.244.0.0/16\n'
    assert components.cluster_configuration(text) == {
        "controlPlaneEndpoint": "lb.example:6443",
        "podSubnet": "10.244.0.0/16",
    }


def test_client_certificates_of_kubeconfigs() -> None:
    pem = base64.b64encode(b"-----BEGIN").decode()
    assert components.kubeconfig_client(f"  user:\n    client-certificate-data: {pem}\n") == ("pem", "-----BEGIN")
    path = "/var/lib/kubelet/pki/kubelet-client-current.pem"
    assert components.kubeconfig_client(f"    client-certificate: {path}\n    client-key: {path}\n") == ("path", path)
    assert components.kubeconfig_client("users: []") == ("", "")
    assert components.kubeconfig_client("client-certificate-data: abc\n") == ("", "")


def test_units_are_read() -> None:
    text = (
        "Id=kubelet.service\nLoadState=loaded\nActiveState=active\nSubState=running\nUnitFileState=enabled\n\n"
        "Id=crio.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\nUnitFileState=\n"
    )
    assert components.unit_states(text) == {
        "kubelet.service": {"active": "active", "sub": "running", "enabled": "enabled"}
    }
    assert components.unit_states("") == {}


def test_tunnels_tell_the_card_they_send_from() -> None:
    links = [
        {"ifname": "ens32"},
        {
            "ifname": "vxlan.calico",
            "linkinfo": {"info_kind": "vxlan", "info_data": {"id": 4096, "link": "ens33", "local": "192.168.160.246"}},
        },
        {"ifname": "tunl0", "linkinfo": {"info_kind": "ipip", "info_data": {"local": "any"}}},
    ]
    assert components.tunnels(json.dumps(links)) == [
        {"name": "vxlan.calico", "kind": "vxlan", "link": "ens33", "local": "192.168.160.246"},
        {"name": "tunl0", "kind": "ipip", "link": "", "local": ""},
    ]
    assert components.tunnels('Object "x" is unknown') == []


def test_the_routes_source_is_read_from_our_unit() -> None:
    unit = "[Service]\nExecStart=/sbin/ip route replace local 10.103.97.2/32 dev lo table local src 192.168.253.131\n"
    assert components.route_source(unit) == "192.168.253.131"
    assert components.route_source("") == ""
