# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the doctor says of a healthy cluster, of each thing that may be wrong with one, and of clusters of others."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _doctor as doctor
from ansible_collections.multinic.kubernetes.plugins.module_utils._doctor import DAY, Diagnosis, Seen, diagnose
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import plan_cluster
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import (
    INTERNAL,
    MASTERS,
    WORKERS,
    default_route,
    seed_cluster,
)

ADDRESSES = {name: f"{INTERNAL}.{last}" for name, last in {**MASTERS, **WORKERS}.items()}
EXTERNAL = "192.168.160.246"  # node01's
VIP, NAME = "10.103.97.2", "apiserver.cluster.local"
ENDPOINT = f"https://{NAME}:6443"
NOW = 1_795_514_400
ACTIVE = {"active": "active", "sub": "running", "enabled": "enabled"}
SETTINGS = {"kube_proxy_mode": "ipvs"}
PROXY = {"mode": "ipvs", "exclude_cidrs": [f"{VIP}/32"]}


def asks(local: str, remote: str, port: int = 6443) -> dict[str, Any]:
    return {"local": local, "remote": remote, "port": port, "count": 1}


def process(flags: dict[str, str] | None = None, *outgoing: dict[str, Any]) -> dict[str, Any]:
    return {"flags": flags or {}, "listens": [], "outgoing": list(outgoing), "incoming": []}


def certificate(name: str, *sans: str, days: float = 300, served: bool = False) -> dict[str, Any]:
    return {
        "name": name,
        "path": "" if served else f"/etc/kubernetes/pki/{name}.crt",
        "served": served,
        "not_before": NOW - DAY,
        "not_after": NOW + int(days * DAY),
        "subject": f"CN = {name}",
        "sans": list(sans),
        "error": "",
    }


def components(name: str) -> dict[str, Any]:
    own = ADDRESSES[name]
    found: dict[str, Any] = {
        "epoch": NOW,
        "processes": {
            "kubelet": process({"node-ip": own}, asks(own, VIP)),
            "kube-proxy": process({}, asks(own, VIP)),
        },
        "kubeconfigs": {
            program: {"path": f"/etc/kubernetes/{program}.conf", "server": ENDPOINT, "resolved": [VIP]}
            for program in ("kubelet", "kube-proxy")
        },
        "kube_proxy": {"mode": "ipvs", "settings": PROXY},
        "units": {
            "multinic-vip-route.service": ACTIVE,
            "multinic-apiserver-balancer.service": ACTIVE,
            "multinic-apiserver-guard.service": ACTIVE,
            "containerd.service": ACTIVE,
        },
        "guards": [{"since": NOW - DAY, "source": own, "repairs": 0, "open": [], "clashes": []}],
        "tunnels": [],
        "cni": ["10-bridge.conflist"],
        "installed": {"route_source": own, "node_ip": own},
        "kube_proxy_configmap": {},
        "cluster_configuration": {},
        "trouble": "",
        "certificates": [certificate("kubelet client")],
    }
    if name in MASTERS:
        peer = next(ADDRESSES[other] for other in MASTERS if other != name)
        urls = dict.fromkeys(("listen-peer-urls", "initial-advertise-peer-urls"), f"https://{own}:2380")
        urls["listen-client-urls"] = f"https://127.0.0.1:2379,https://{own}:2379"
        urls["advertise-client-urls"] = f"https://{own}:2379"
        found["processes"].update(
            {
                "kube-apiserver": process({"advertise-address": own}, asks("127.0.0.1", "127.0.0.1", 2379)),
                "etcd": process(urls, asks(own, peer, 2380)),
                "kube-controller-manager": process({}, asks(own, own)),
                "kube-scheduler": process({}, asks(own, VIP)),
            }
        )
        server = {"path": "/etc/kubernetes/x.conf", "resolved": [own]}
        found["kubeconfigs"]["kube-controller-manager"] = {**server, "server": f"https://{own}:6443"}
        found["kubeconfigs"]["kube-scheduler"] = found["kubeconfigs"]["kubelet"]
        found["kube_proxy_configmap"] = PROXY
        found["cluster_configuration"] = {"podSubnet": "100.64.0.0/10"}
        sans = [NAME, VIP, "127.0.0.1", "localhost", *MASTERS, *(ADDRESSES[master] for master in MASTERS)]
        found["certificates"] += [
            certificate("apiserver", *sans),
            certificate("apiserver", *sans, served=True),
            certificate("etcd-server", "localhost", own),
            certificate("etcd-peer", "localhost", own),
            certificate("ca", days=3000),
            certificate("admin client"),
        ]
    return found


def status(name: str) -> dict[str, Any]:
    own = ADDRESSES[name]
    found: dict[str, Any] = {
        "kubelet": {"running": True, "node_ip": own, "server": ENDPOINT},
        "route": {"type": "local", "dev": "lo", "source": own, "gateway": ""},
        "virtual_server": {
            "real_servers": [{"address": ADDRESSES[master], "port": 6443, "weight": 1} for master in MASTERS]
        },
        "api": {"ok": True, "source": own, "server": ADDRESSES["master1"], "resolved": [VIP], "error": ""},
        "static_pods": {},
        "etcd": {},
    }
    if name in MASTERS:
        found["static_pods"] = {
            "kube-apiserver": {"advertise-address": own},
            "etcd": {
                "initial-advertise-peer-urls": f"https://{own}:2380",
                "advertise-client-urls": f"https://{own}:2379",
            },
        }
        members = [{"name": master, "peer_urls": [f"https://{ADDRESSES[master]}:2380"]} for master in MASTERS]
        found["etcd"] = {"healthy": True, "error": "", "members": members}
    return found


def node(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "ready": True,
        "reason": "",
        "internal_ips": [ADDRESSES[name]],
        "roles": ["control-plane"] if name in MASTERS else [],
        "version": "v1.20.2",
        "runtime": "containerd://1.6.20",
        "calico_address": "",
    }


def healthy(*, ours: bool = True, change: Callable[[dict[str, Any]], None] | None = None, **settings: str) -> Seen:
    hosts = []
    for host in seed_cluster():
        known = copy.deepcopy(dict(host.facts or {}))
        known["kubernetes"] = {"member": ours, "ours": ours, "kubelet_conf": True, "admin_conf": host.control_plane}
        hosts.append(replace(host, facts=known))
    raw: dict[str, Any] = {
        "facts": {host.name: host.facts for host in hosts},
        "status": {name: status(name) for name in ADDRESSES},
        "components": {name: components(name) for name in ADDRESSES},
        "views": {"master1": {"error": "", "nodes": [node(name) for name in ADDRESSES], "pods": []}},
    }
    if change:
        change(raw)
    result = plan_cluster(
        [replace(host, facts=raw["facts"][host.name]) for host in hosts], {**SETTINGS, **settings}, None, running=True
    )
    return Seen(plan=result.plan, findings=result.findings, hosts=list(ADDRESSES), **raw)


def at(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one thing that was seen: 'components/node01/units/x/active'. A word that begins with + appends."""

    def change(raw: dict[str, Any]) -> None:
        place: Any = raw
        *words, last = path.split("/")
        for word in words:
            place = place[int(word) if word.isdigit() else word]
        if last == "+":
            place.append(value)
        elif value is None and isinstance(place, dict):
            del place[last]
        else:
            place[int(last) if last.isdigit() else last] = value

    return change


def told(diagnosis: Diagnosis, severity: str) -> list[tuple[str, str]]:
    return [(item.host, item.found) for item in diagnosis.findings if item.severity == severity]


# --- a healthy cluster -----------------------------------------------------------------------------------------------


def test_a_healthy_cluster_has_no_findings_and_every_address_is_the_planned_one() -> None:
    seen = healthy()
    found = diagnose(seen)
    assert found.findings == []
    for name, uses in found.uses.items():
        components_here = {use.component for use in uses}
        assert {"kubelet", "kube-proxy", "node", "VIP route", "guard of the VIP"} <= components_here
        assert "API through the VIP" in components_here
        if name in MASTERS:
            assert {"kube-apiserver", "etcd", "kube-controller-manager", "kube-scheduler"} <= components_here
        for use in uses:
            assert (use.uses, use.card, use.right) == ((ADDRESSES[name],), "ens32", True), use
    assert found.about["ours"] and found.about["runtimes"] == ["containerd://1.6.20"]
    assert any(sentence.startswith("22 certificates read; the first to expire is") for sentence in found.tested)
    text = doctor.report_text(seen.plan, found)
    assert "DOCTOR  4 hosts, Kubernetes v1.20.2" in text and "all checks passed" in text
    assert "multinic.kubernetes made it" in text and "NO:" not in text
    assert all(len(line) <= 160 for line in text.splitlines())
    json.dumps(doctor.as_data(seen, found))


# --- what may be wrong -----------------------------------------------------------------------------------------------

EVERY_UNIT = "components/node01/units"
PROCESSES = "components/{}/processes"


@pytest.mark.parametrize(
    ("change", "host", "words"),
    [
        (
            at("status/node01/route", {"type": "unicast", "dev": "ens33", "source": EXTERNAL}),
            "node01",
            f"the way to {VIP}: unicast route, dev ens33, source {EXTERNAL}",
        ),
        (
            at("components/node01/processes/kubelet/outgoing", [asks(EXTERNAL, VIP)]),
            "node01",
            f"kubelet asks the API server at {NAME}:6443 from {EXTERNAL} (ens33), planned 192.168.253.131",
        ),
        (
            at("components/node01/processes/kube-proxy/outgoing", [asks(EXTERNAL, VIP)]),
            "node01",
            "kube-proxy asks the API server",
        ),
        (
            at("components/master2/processes/kube-scheduler/outgoing", [asks("192.168.160.244", VIP)]),
            "master2",
            "kube-scheduler asks the API server",
        ),
        (at("components/node01/processes/kube-proxy", None), "node01", "kube-proxy is not running"),
        (at("components/master2/processes/kube-scheduler", None), "master2", "kube-scheduler is not running"),
        (
            at("components/node01/kubeconfigs/kube-proxy/server", "https://192.168.253.129:6443"),
            "node01",
            "kube-proxy talks to https://192.168.253.129:6443, planned",
        ),
        (
            at("components/master3/kubeconfigs/kube-controller-manager/server", "https://192.168.160.245:6443"),
            "master3",
            "kube-controller-manager talks to https://192.168.160.245:6443",
        ),
        (
            at("components/master1/processes/etcd/outgoing", [asks("192.168.160.243", "192.168.253.128", 2380)]),
            "master1",
            "etcd asks its peers from 192.168.160.243 (on no card), planned 192.168.253.129",
        ),
        (
            at("components/master1/processes/etcd/flags/listen-peer-urls", "https://192.168.160.243:2380"),
            "master1",
            "etcd listens on 192.168.160.243 (--listen-peer-urls)",
        ),
        (
            at(f"{EVERY_UNIT}/multinic-apiserver-balancer.service", {**ACTIVE, "active": "failed", "sub": "failed"}),
            "node01",
            "multinic-apiserver-balancer.service is failed",
        ),
        (
            at(f"{EVERY_UNIT}/multinic-apiserver-guard.service", {**ACTIVE, "active": "inactive", "sub": "dead"}),
            "node01",
            "multinic-apiserver-guard.service is inactive (dead)",
        ),
        (at(f"{EVERY_UNIT}/multinic-vip-route.service", None), "node01", "there is no unit multinic-vip-route.service"),
        (at("components/node01/kube_proxy/mode", "iptables"), "node01", "kube-proxy is in iptables mode, planned ipvs"),
        (
            at("components/node01/kube_proxy/settings", {"mode": "ipvs", "exclude_cidrs": ["10.0.0.0/24"]}),
            "node01",
            f"excludeCIDRs lack {VIP}/32 (it has 10.0.0.0/24)",
        ),
        (
            at("views/master1/nodes/3/calico_address", EXTERNAL),
            "node01",
            f"calico/node took {EXTERNAL} (ens33), planned 192.168.253.131",
        ),
        (
            at(
                "components/node01/tunnels/+",
                {"name": "vxlan.calico", "kind": "vxlan", "link": "ens33", "local": EXTERNAL},
            ),
            "node01",
            f"vxlan.calico (vxlan) sends by ens33 from {EXTERNAL}, planned ens32 with 192.168.253.131",
        ),
        (
            at("components/node01/processes/kubelet/flags/node-ip", "192.168.253.99"),
            "node01",
            "192.168.253.99 is on no card any more, and kubelet's --node-ip still has it; the plan has 192.168.253.131",
        ),
        (
            at("components/master1/certificates/+", certificate("front-proxy-client", days=-3)),
            "master1",
            "certificate front-proxy-client (/etc/kubernetes/pki/front-proxy-client.crt) expired 3 days ago",
        ),
        (
            at("components/master1/certificates/+", {**certificate("x"), "not_before": NOW + 3 * DAY}),
            "master1",
            "is valid only in 3 days",
        ),
        (
            at("components/master1/certificates/1", certificate("apiserver", NAME, "master1", ADDRESSES["master1"])),
            "master1",
            f"certificate apiserver lacks {VIP}",
        ),
        (
            at("components/master1/certificates/1", certificate("apiserver", VIP, "192.168.160.243")),
            "master1",
            f"certificate apiserver lacks {NAME}, 192.168.253.129",
        ),
        (
            at("components/master2/certificates/4", certificate("etcd-peer", "192.168.160.244")),
            "master2",
            "certificate etcd-peer lacks 192.168.253.128",
        ),
        (
            at(
                "components/master1/certificates/2",
                certificate("apiserver", NAME, VIP, ADDRESSES["master1"], days=-1, served=True),
            ),
            "master1",
            "the certificate that kube-apiserver serves is another one than that in",
        ),
        (at("status/master3/etcd", {"healthy": False, "error": "refused"}), "master3", "etcd is not healthy: refused"),
        (at("views/master1/error", "connection refused"), "master1", "kubectl: connection refused"),
        (at("facts/node01/kubernetes/kubelet_conf", False), "node01", "no node of the cluster"),
    ],
)
def test_what_is_not_as_planned_is_an_error_of_its_host(
    change: Callable[[dict[str, Any]], None], host: str, words: str
) -> None:
    found = diagnose(healthy(change=change))
    assert any(name == host and words in text for name, text in told(found, "error")), told(found, "error")
    assert {name for name, _text in told(found, "error")} == {host}
    assert all(item.why and item.remedy for item in found.findings if item.severity == "error")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (at("components/node01/certificates/+", certificate("kubelet server", days=-40)), "expired 40 days ago"),
        (at("components/node01/certificates/0", certificate("kubelet client", days=29.5)), "expires in 29 days"),
        (
            at("components/node01/kube_proxy_configmap", {"mode": "ipvs", "exclude_cidrs": []}),
            "runs with another configuration than the configmap's",
        ),
        (
            at(f"{EVERY_UNIT}/multinic-vip-route.service", {**ACTIVE, "enabled": "disabled"}),
            "multinic-vip-route.service is disabled",
        ),
        (
            at("components/node01/guards/0/open", ["multinic-vip-route.service was stopped"]),
            "the guard of the API server's address says: multinic-vip-route.service was stopped",
        ),
        (at("components/node01/guards/0/clashes", ["servers foreign"]), "something keeps changing what the guard"),
        (at("facts/node01/routes/+", default_route(f"{INTERNAL}.1", "ens32")), "2 default routes for IPv4"),
        (
            at("facts/node01/clock", {"synchronised": False, "daemon": "chrony"}),
            "its clock is not synchronised (chrony)",
        ),
    ],
)
def test_what_may_become_trouble_is_a_warning(change: Callable[[dict[str, Any]], None], words: str) -> None:
    found = diagnose(healthy(change=change))
    assert told(found, "error") == []
    assert any(name == "node01" and words in text for name, text in told(found, "warning")), told(found, "warning")


def test_what_the_guards_have_done_is_told() -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["components"]["node01"]["guards"][0].update(repairs=2, last={"at": NOW, "told": "put the route back"})
        raw["components"]["master1"]["guards"][0].update(repairs=1, last={"at": NOW - 9, "told": "something else"})

    found = diagnose(healthy(change=change))
    assert found.findings == []
    assert (
        "the way to the API server is guarded on 4 hosts; repairs since the guards started: 3, the last on node01: "
        "put the route back"
    ) in found.tested


def test_etcd_on_every_card_is_a_warning() -> None:
    every = "https://0.0.0.0:2380"
    found = diagnose(healthy(change=at("components/master1/processes/etcd/flags/listen-peer-urls", every)))
    assert told(found, "error") == []
    assert [name for name, text in told(found, "warning") if "etcd listens on every card" in text] == ["master1"]


@pytest.mark.parametrize(
    ("days", "severity"), [(31, ""), (30.0, ""), (29.9, "warning"), (0.5, "warning"), (-0.1, "error")]
)
def test_days_that_are_left(days: float, severity: str) -> None:
    found = diagnose(healthy(change=at("components/master1/certificates/6", certificate("admin client", days=days))))
    assert [item.severity for item in found.findings] == ([severity] if severity else [])


def test_names_that_came_later_are_only_good_to_know() -> None:
    old = certificate("apiserver", NAME, VIP, ADDRESSES["master1"])
    found = diagnose(healthy(change=at("components/master1/certificates/1", old)))
    assert [item.severity for item in found.findings] == ["info"]
    assert "192.168.253.130" in found.findings[0].found


def test_certificates_that_cannot_be_read_are_told_as_not_seen() -> None:
    def change(raw: dict[str, Any]) -> None:
        for entry in raw["components"]["node01"]["certificates"]:
            entry.update(not_before=None, not_after=None, error="x.crt: it holds no certificate")

    found = diagnose(healthy(change=change))
    assert found.findings == []
    assert "certificates on node01: x.crt: it holds no certificate" in found.untested


def test_a_component_without_connections_is_told_as_not_seen() -> None:
    found = diagnose(healthy(change=at("components/node01/processes/kube-proxy/outgoing", [])))
    assert found.findings == []
    assert "an address of kube-proxy on 1 host: none in use now" in found.untested


# --- hosts and clusters that are not as usual ------------------------------------------------------------------------


def test_a_control_plane_that_is_away_is_one_finding() -> None:
    seen = healthy()
    facts = {name: known for name, known in seen.facts.items() if name != "master3"}
    hosts = [replace(host, facts=facts.get(host.name), trouble="it cannot be reached") for host in seed_cluster()]
    result = plan_cluster(hosts, SETTINGS, None, running=True)
    found = diagnose(
        replace(
            seen,
            plan=result.plan,
            findings=result.findings,
            facts=facts,
            status={name: one for name, one in seen.status.items() if name != "master3"},
            components={name: one for name, one in seen.components.items() if name != "master3"},
        )
    )
    errors = [item for item in found.findings if item.severity == "error"]
    assert [(item.host, item.variable) for item in errors] == [("master3", "ansible_host")]


def test_the_cluster_is_seen_through_the_first_control_plane_that_answers() -> None:
    def change(raw: dict[str, Any]) -> None:
        raw["views"] = {"master1": {"error": "refused", "nodes": [], "pods": []}, "master2": raw["views"]["master1"]}

    assert diagnose(healthy(change=change)).findings == []
    assert doctor.best_view({}) == {}


def plain_kubeadm(raw: dict[str, Any]) -> None:
    """No VIP, a balancer elsewhere, cri-o, no --node-ip."""
    balancer = "192.168.253.200"
    for name, host in raw["components"].items():
        own = ADDRESSES[name]
        host["units"] = {"crio.service": ACTIVE, "kubelet.service": ACTIVE}
        host["installed"] = {"route_source": "", "node_ip": ""}
        host["kube_proxy"] = {"mode": "iptables", "settings": {"mode": "iptables", "exclude_cidrs": []}}
        host["kube_proxy_configmap"] = {}
        for program in ("kubelet", "kube-proxy", *(("kube-scheduler",) if name in MASTERS else ())):
            host["kubeconfigs"][program] = {"path": "x", "server": "https://lb.example:8443", "resolved": [balancer]}
            host["processes"][program] = process({}, asks(own, balancer, 8443))
        for entry in host["certificates"]:
            if entry["name"] == "apiserver":
                entry["sans"] = ["lb.example", own]
    for host in raw["status"].values():
        host.update(route={"type": "unicast", "source": EXTERNAL}, virtual_server=None, api={"ok": False})
        host["kubelet"] = {"running": True, "node_ip": "", "server": "https://lb.example:8443"}
    for entry in raw["views"]["master1"]["nodes"]:
        entry.update(version="v1.33.1", runtime="cri-o://1.33.0")


def test_a_cluster_of_plain_kubeadm_is_named_and_compared() -> None:
    seen = healthy(ours=False, change=plain_kubeadm)
    found = diagnose(seen)
    assert told(found, "error") == []
    assert {text.split(";")[0] for _host, text in told(found, "warning")} == {"kubelet runs without --node-ip"}
    assert not found.about["ours"]
    assert found.about["endpoints"] == ["https://lb.example:8443"]
    text = doctor.report_text(seen.plan, found)
    for words in ("something else than multinic.kubernetes", "lb.example:8443", "cri-o://1.33.0", "iptables mode"):
        assert words in text
    assert VIP not in text


def test_the_version_is_the_kubelets_else_what_kubeadm_was_told() -> None:
    seen = healthy(ours=False, change=plain_kubeadm)
    assert diagnose(seen).about["versions"] == ["v1.33.1"]
    configuration = {"kubernetesVersion": "v1.33.0"}
    told_by = {name: {**host, "cluster_configuration": configuration} for name, host in seen.components.items()}
    assert diagnose(replace(seen, components=told_by, views={})).about["versions"] == ["v1.33.0"]
    assert diagnose(replace(seen, views={})).about["versions"] == []


def test_a_foreign_node_at_another_address_is_an_error() -> None:
    def change(raw: dict[str, Any]) -> None:
        plain_kubeadm(raw)
        raw["views"]["master1"]["nodes"][3]["internal_ips"] = [EXTERNAL]
        raw["components"]["node01"]["processes"]["kubelet"] = process({}, asks(EXTERNAL, "192.168.253.200", 8443))
        raw["components"]["master1"]["certificates"][1]["sans"] = ["lb.example"]

    found = diagnose(healthy(ours=False, change=change))
    assert [name for name, _text in told(found, "error")] == ["master1", "node01"]
    assert any("lacks 192.168.253.129" in text for _name, text in told(found, "error"))
    assert any(f"from {EXTERNAL} (ens33)" in text for _name, text in told(found, "warning"))


def test_without_any_plan_what_was_seen_is_still_shown() -> None:
    broken = Finding("error", "", "cluster_network", "no host has it", "why", "do")
    seen = replace(healthy(), plan={}, findings=[broken])
    found = diagnose(seen)
    assert [item for item in found.findings if item.severity == "error"] == [broken]
    assert any(
        "it was installed with 192.168.253.131, which is on ens32 now" in text for _h, text in told(found, "info")
    )
    assert {use.right for uses in found.uses.values() for use in uses} == {None}
    assert "192.168.253.131" in doctor.report_text({}, found)


def test_a_renamed_card_is_told_with_the_address_it_carries_now() -> None:
    def change(raw: dict[str, Any]) -> None:
        links = raw["facts"]["node01"]["links"]
        links[:] = [{**link, "name": "enp9s0"} if link["name"] == "ens32" else link for link in links]

    seen = healthy(change=change)
    hosts = [replace(host, cluster_network="ens32", facts=seen.facts[host.name]) for host in seed_cluster()]
    result = plan_cluster(hosts, SETTINGS, None, running=True)
    found = diagnose(replace(seen, plan=result.plan, findings=result.findings))
    assert [name for name, text in told(found, "error") if "ens32" in text] == ["node01"]
    assert ("node01", "it was installed with 192.168.253.131, which is on enp9s0 now") in told(found, "info")


def test_hosts_without_a_cluster_are_said_to_be_so() -> None:
    def change(raw: dict[str, Any]) -> None:
        for known in raw["facts"].values():
            known["kubernetes"] = {"member": False, "kubelet_conf": False}
        raw.update(status={}, views={})

    found = diagnose(healthy(change=change))
    assert len(told(found, "error")) == 1
    assert "no host is a node of a cluster" in told(found, "error")[0][1]


def test_a_run_limited_to_a_worker_judges_that_worker() -> None:
    seen = healthy()
    found = diagnose(
        replace(
            seen,
            hosts=["node01"],
            status={"node01": seen.status["node01"]},
            components={"node01": seen.components["node01"]},
            views={},
        )
    )
    assert told(found, "error") == []
    assert any("no control plane of this run" in sentence for sentence in found.untested)


def test_nodes_that_the_inventory_does_not_know_are_told() -> None:
    found = diagnose(healthy(change=at("views/master1/nodes/+", {**node("node01"), "name": "node77"})))
    assert [text for _host, text in told(found, "warning")] == [
        "the cluster has nodes that the inventory does not know: node77"
    ]


def test_a_host_that_could_not_be_examined_is_an_error() -> None:
    found = diagnose(replace(healthy(), troubles={"node01": "sudo: a password is required"}))
    assert told(found, "error") == [("node01", "the host could not be examined: sudo: a password is required")]


def test_of_many_hosts_only_those_that_differ_are_listed() -> None:
    uses = {
        f"n{number:03}": [doctor.Use("kubelet", "--node-ip", (f"10.0.0.{number}",), ("10.0.0.7",), "eth1", number == 7)]
        for number in (7, *range(100, 114))
    }
    lines = doctor._addresses(uses)
    assert any("1 of 15" in line for line in lines)
    assert any("n100" in line and "NO: 10.0.0.7" in line for line in lines)
    assert not any("n007" in line for line in lines)


def test_proof_of_members_leaves_out_what_only_an_installation_needs() -> None:
    def change(raw: dict[str, Any]) -> None:
        for known in raw["facts"].values():
            known["system"] = {**known.get("system", {}), "cpus": 1, "memory_mb": 900, "swap": ["/swap"]}
            known["disk"] = {"free_mb": 1, "path": "/"}
            known["listening"] = [{"port": 6443, "protocol": "tcp", "process": "haproxy"}]

    seen = replace(
        healthy(ours=False, change=change),
        probes={name: {"kernel_modules": {"ip_vs": False}, "commands": {"keepalived": False}} for name in ADDRESSES},
    )
    assert doctor.proof_findings(seen) == []


def test_proof_of_members_tells_a_broken_way() -> None:
    peer = {"name": "master1", "address": ADDRESSES["master1"], "size": 1500, "milliseconds": None}
    seen = replace(healthy(), probes={"node01": {"peers": [peer]}})
    assert [(item.host, item.severity) for item in doctor.proof_findings(seen)] == [("node01", "error")]


# --- other ways to the API than IPVS ---------------------------------------------------------------------------------


def by_proxy(raw: dict[str, Any]) -> None:
    """Every host reaches the API by the proxy on its loopback address."""
    for name in ADDRESSES:
        raw["status"][name].update(
            route={}, api={**status(name)["api"], "source": "127.0.0.1", "resolved": ["127.0.0.1"]}
        )
        host = raw["components"][name]
        host["units"] = {"multinic-apiserver-proxy.service": ACTIVE, "containerd.service": ACTIVE}
        host["installed"]["route_source"] = ""
        for program in ("kubelet", "kube-proxy"):
            host["processes"][program]["outgoing"] = [asks("127.0.0.1", "127.0.0.1")]
            host["kubeconfigs"][program]["resolved"] = ["127.0.0.1"]


def test_a_cluster_with_a_proxy_on_every_host_is_healthy() -> None:
    found = diagnose(healthy(change=by_proxy, apiserver_balancer="localhost"))
    assert found.findings == []
    uses = {use.component: use for use in found.uses["node01"]}
    assert uses["API (localhost)"].uses == ("127.0.0.1",)
    assert "VIP route" not in uses


def test_a_host_whose_proxy_is_gone_is_told() -> None:
    def gone(raw: dict[str, Any]) -> None:
        by_proxy(raw)
        del raw["components"]["node01"]["units"]["multinic-apiserver-proxy.service"]

    found = diagnose(healthy(change=gone, apiserver_balancer="localhost"))
    assert told(found, "error") == [("node01", "there is no unit multinic-apiserver-proxy.service")]


def test_to_an_external_balancer_any_card_may_lead() -> None:
    def outside(raw: dict[str, Any]) -> None:
        for name in ADDRESSES:
            raw["status"][name].update(route={}, virtual_server=None)
            raw["status"][name]["api"].update(source=EXTERNAL, resolved=["192.0.2.10"])
            host = raw["components"][name]
            host["units"], host["installed"]["route_source"] = {"containerd.service": ACTIVE}, ""
            for program in ("kubelet", "kube-proxy"):
                host["processes"][program]["outgoing"] = [asks(EXTERNAL, "192.0.2.10")]
                host["kubeconfigs"][program]["resolved"] = ["192.0.2.10"]

    found = diagnose(healthy(change=outside, apiserver_balancer="external", apiserver_external_address="192.0.2.10"))
    # A certificate of the time before has not the balancer's address, which nobody needs: the name is what is checked.
    assert {item.severity for item in found.findings} == {"info"}
