# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report a person reads."""

from __future__ import annotations

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import (
    WIDTH,
    Finding,
    Findings,
    headline,
    ordered,
    render,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import plan_cluster
from ansible_collections.multinic.kubernetes.plugins.module_utils._report import report_text
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import bundle, card, seed_cluster

TYPO = """\
ERRORS: nothing has been changed on any host
  1. master1, master2: cluster_network
     found  master1: 192.158.253.1 is off-link
            master2: 192.158.253.1 is off-link too
     why    It leads to the wrong card.
     do     Set cluster_network: 192.168.253.1

WARNINGS
  1. the cluster: kube_control_plane
     found  two
     why    No majority.
     do     Take three."""


def test_hosts_with_one_trouble_share_a_paragraph() -> None:
    remedy = ("It leads to the wrong card.", "Set cluster_network: 192.168.253.1")
    findings = [
        Finding("warning", "", "kube_control_plane", "two", "No majority.", "Take three."),
        Finding("error", "master2", "cluster_network", "192.158.253.1 is off-link too", *remedy),
        Finding("error", "master1", "cluster_network", "192.158.253.1 is off-link", *remedy),
    ]
    assert render(findings) == TYPO


def test_equal_findings_are_told_once() -> None:
    finding = Finding("info", "a", "", "x", "y", "")
    assert ordered([finding, finding]) == [finding]


def test_headline() -> None:
    findings = Findings()
    assert headline(findings.items) == "all checks passed"
    findings.info("a", "", "x", "y")
    assert headline(findings.items) == "all checks passed"
    findings.error("a", "", "x", "y", "z")
    findings.warning("a", "", "x", "y", "z")
    findings.warning("b", "", "x", "y", "z")
    assert headline(findings.items) == "1 error, 2 warnings"


def test_a_finding_survives_the_way_through_ansible() -> None:
    finding = Finding("error", "a", "b", "c", "d", "e")
    assert Finding.from_dict(finding.as_dict()) == finding


def test_report_tells_the_whole_plan() -> None:
    links = [card("ens32", "192.168.253.131/24", speed_mbps=10000)]
    hosts = seed_cluster(node01={"links": links})
    text = report_text(
        plan_cluster(hosts, {}, bundle()).plan, {host.name: dict(host.facts or {}) for host in hosts}, []
    )
    for words in (
        "PREFLIGHT  4 hosts planned, Kubernetes v1.20.2",
        "all checks passed",
        "master1  control plane (first)  ens32  192.168.253.129/24  1500  not told",
        "node01   worker                 ens32  192.168.253.131/24  1500  10000 Mbit/s",
        "apiserver.cluster.local:6443 is 10.103.97.2 (ipvs) on every node",
        "pods 100.64.0.0/10, services 10.96.0.0/16, cluster DNS 10.96.0.10",
        "calico, MTU 1480, ipip, method interface=^ens32$",
    ):
        assert words in text
    assert max(map(len, text.splitlines())) <= WIDTH


def test_each_address_has_the_prefix_of_its_own_network() -> None:
    links = {
        name: [card("ens32", f"192.168.253.{last}/24", f"fd00:253::{last}/64")]
        for name, last in {"master1": 129, "master2": 128, "master3": 130, "node01": 131}.items()
    }
    hosts = seed_cluster(
        ["192.168.253.0/24", "fd00:253::/64"], **{name: {"links": mine} for name, mine in links.items()}
    )
    text = report_text(plan_cluster(hosts, {}, bundle()).plan, {}, [])
    assert "node01   worker                 ens32  192.168.253.131/24, fd00:253::131/64  1500" in text


def test_report_without_a_plan_tells_why() -> None:
    result = plan_cluster([], {}, bundle())
    text = report_text(result.plan, {}, result.findings)
    assert "the inventory's group kube_control_plane is empty" in text
