# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _plan
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Result, plan_cluster
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import MANIFEST, bundle, seed_cluster

VIP = "10.103.97.2"
NAME = "apiserver.cluster.local"
HOSTS = ["master1", "master2", "master3", "node01"]
LOCAL = {"apiserver_balancer": "localhost"}
EXTERNAL = {"apiserver_balancer": "external", "apiserver_external_address": "192.0.2.10"}


def plan(variables: dict[str, Any], manifest: dict[str, Any] | None = None, **hosts: dict[str, Any]) -> Result:
    return plan_cluster(seed_cluster(**hosts), variables, bundle(manifest=manifest))


def with_way(*balancers: str, address: str = VIP, **kubernetes: Any) -> dict[str, Any]:
    """Facts of a host that has these ways, and whose hosts file leads by one of them."""
    return {
        "hosts_file": [{"address": "127.0.0.1", "names": ["localhost"]}, {"address": address, "names": [NAME]}],
        "kubernetes": {"ours": True, "balancers": list(balancers), **kubernetes},
    }


def api_lines(result: Result) -> list[str]:
    return [line["address"] for line in result.plan["hosts_file"] if line["names"] == [NAME]]


@pytest.mark.parametrize(
    ("variables", "addresses", "command"),
    [
        ({}, [VIP], "keepalived"),
        (LOCAL, ["127.0.0.1"], "haproxy"),
        (EXTERNAL, ["192.0.2.10"], ""),
        ({"apiserver_balancer": "external", "apiserver_name": "api.example.org"}, [], ""),
    ],
)
def test_each_way_has_its_addresses_and_needs(variables: dict[str, Any], addresses: list[str], command: str) -> None:
    result = plan(variables)
    assert result.findings == []
    assert result.plan["apiserver"]["addresses"] == addresses
    if "apiserver_name" not in variables:
        assert api_lines(result) == addresses
    commands = set(result.plan["needs"]["commands"])
    assert commands & {"keepalived", "ipvsadm", "haproxy"} - {"ipvsadm"} == ({command} if command else set())
    assert set(_plan.COMMANDS) - {"keepalived", "ipvsadm"} <= commands
    assert {"ip_vs", "ip_vs_rr"} <= set(result.plan["kernel_modules"]) or variables
    # The same in all modes, so that no kubeconfig changes.
    assert result.plan["apiserver"]["endpoint"].endswith(":6443")
    for address in addresses:
        assert address in result.plan["apiserver"]["sans"]


def test_hosts_that_have_another_way_are_told_with_it() -> None:
    result = plan(LOCAL, master1=with_way("ipvs"), node01=with_way("ipvs"))
    assert result.plan["apiserver"]["changing"] == {"master1": [VIP], "node01": [VIP]}
    assert result.plan["apiserver"]["retiring"] == {"master1": ["ipvs"], "node01": ["ipvs"]}
    assert any(
        "master1, node01 change their way to the API to localhost" in reason for reason in result.plan["reasons"]
    )


def test_an_interrupted_change_is_finished() -> None:
    """The name has changed already, and something of the old way is still there."""
    result = plan(LOCAL, node01=with_way("ipvs", "localhost", address="127.0.0.1"))
    assert result.plan["apiserver"]["changing"] == {}
    assert result.plan["apiserver"]["retiring"] == {"node01": ["ipvs"]}


def test_an_ordinary_run_changes_no_way() -> None:
    result = plan({}, **{name: with_way("ipvs") for name in HOSTS})
    assert (result.plan["apiserver"]["changing"], result.plan["apiserver"]["retiring"]) == ({}, {})


def test_somebody_elses_line_is_not_a_way_of_ours() -> None:
    theirs = {"hosts_file": [{"address": "192.168.253.128", "names": [NAME]}]}
    assert plan(LOCAL, node01=theirs).plan["apiserver"]["changing"] == {}


@pytest.mark.parametrize(
    ("variables", "manifest", "hosts", "host", "variable", "told", "remedy"),
    [
        (
            {**LOCAL, "kubernetes_version": "v1.19.2"},
            {"kubernetes_version": "v1.19.2"},
            {},
            "",
            "apiserver_balancer",
            "it is localhost, and Kubernetes is v1.19.2",
            "apiserver_balancer: ipvs",
        ),
        (
            {**LOCAL, "apiserver_extra_args": {"permit-port-sharing": False}},
            {},
            {},
            "",
            "apiserver_extra_args",
            "permit-port-sharing is false",
            "Leave permit-port-sharing out",
        ),
        (
            LOCAL,
            {"parts": [*MANIFEST["parts"], {"kind": "package", "distribution": "debian-12", "package": "keepalived"}]},
            {},
            "",
            "apiserver_balancer",
            "none is haproxy",
            "Build the bundle anew",
        ),
        (
            LOCAL,
            {},
            {"master2": {"kubernetes": {"port_sharing": False}}},
            "master2",
            "apiserver_balancer",
            "runs without --permit-port-sharing",
            "kube-apiserver.yaml",
        ),
        (
            {**EXTERNAL, "apiserver_external_address": "192.168.253.131"},
            {},
            {},
            "node01",
            "apiserver_external_address",
            "192.168.253.131 is this host's own cluster address",
            "the balancer's address",
        ),
        (
            {**EXTERNAL, "apiserver_external_address": "10.96.0.7"},
            {},
            {},
            "",
            "apiserver_external_address",
            "10.96.0.7 is inside service_cidr 10.96.0.0/16",
            "Set service_cidr",
        ),
        (
            {"apiserver_balancer": "external"},
            {},
            {"node01": with_way("ipvs")},
            "node01",
            "apiserver_external_address",
            f"it is empty, and {NAME} is {VIP} in /etc/hosts here",
            "Set apiserver_external_address",
        ),
        (
            {"apiserver_external_address": "localhost"},
            {},
            {},
            "",
            "apiserver_external_address",
            "'localhost' is not an address",
            "set apiserver_name",
        ),
    ],
)
def test_what_cannot_be_is_one_error(
    variables: dict[str, Any],
    manifest: dict[str, Any],
    hosts: dict[str, Any],
    host: str,
    variable: str,
    told: str,
    remedy: str,
) -> None:
    found = plan(variables, {**MANIFEST, **manifest}, **hosts).findings
    assert [(item.severity, item.host, item.variable) for item in found] == [("error", host, variable)]
    assert told in found[0].found
    assert remedy in found[0].remedy


def test_an_address_that_is_not_used_is_a_warning() -> None:
    (found,) = plan({"apiserver_external_address": "192.0.2.10"}).findings
    assert (found.severity, found.variable) == ("warning", "apiserver_external_address")
    assert "apiserver_balancer: external" in found.remedy
