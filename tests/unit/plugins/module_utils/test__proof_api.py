# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _proof_api
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Findings
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import Seen

NODE = {"interface": "ens32", "address": "192.168.253.131"}
VIP, VIP6 = "10.103.97.2", "fd00:10:103:97::2"
SERVERS = ["192.168.253.129", "192.168.253.128"]


def plan(balancer: str = "external", *addresses: str) -> dict[str, Any]:
    name = "apiserver.cluster.local"
    return {
        "apiserver": {
            "name": name,
            "vip": VIP,
            "port": 6443,
            "real_servers": SERVERS,
            "virtual_servers": [{"vip": vip, "real_servers": SERVERS} for vip in addresses or [name]],
            "balancer": balancer,
            "addresses": list(addresses),
        }
    }


def judge(cluster: dict[str, Any], running: bool, **probe: Any) -> list[tuple[str, str, str]]:
    found = Findings()
    _proof_api.judge_api_way(Seen("node01", NODE, {}, probe), cluster, running, found)
    return [(item.severity, item.variable, item.found) for item in found.items]


@pytest.mark.parametrize(
    ("cluster", "asked"),
    [
        (plan("ipvs", VIP), {"vip": VIP, "further_vips": []}),
        (plan("ipvs", VIP, VIP6), {"vip": VIP, "further_vips": [VIP6]}),
        (plan("localhost", "127.0.0.1", "::1"), {"vip": None, "further_vips": []}),
        (plan("external", "192.0.2.10"), {"vip": None, "further_vips": [], "external": "192.0.2.10"}),
        (plan("external"), {"vip": None, "further_vips": [], "external": "apiserver.cluster.local"}),
    ],
)
def test_what_is_asked_depends_on_who_balances(cluster: dict[str, Any], asked: dict[str, Any]) -> None:
    port = {"external_port": 6443} if "external" in asked else {}
    assert _proof_api.api_way(cluster) == {**asked, **port}


@pytest.mark.parametrize(
    ("answer", "running", "severity", "told"),
    [
        ("open", False, "", ""),
        ("open", True, "", ""),
        ("refused", False, "", ""),
        ("refused", True, "error", "192.0.2.10:6443 refuses connections"),
        ("silent", False, "warning", "192.0.2.10:6443 does not answer connections"),
        ("silent", True, "error", "192.0.2.10:6443 does not answer connections"),
        ("unreachable", False, "error", "192.0.2.10:6443 cannot be reached: Network is unreachable"),
        ("unknown", False, "error", "no address is known for apiserver.cluster.local"),
    ],
)
def test_a_balancer_without_servers_may_refuse_as_long_as_there_is_no_cluster(
    answer: str, running: bool, severity: str, told: str
) -> None:
    seen = {"addresses": ["192.0.2.10"], "answer": answer, "error": "Network is unreachable"}
    found = judge(plan("external", "192.0.2.10"), running, external=seen)
    assert [item[:2] for item in found] == ([(severity, "apiserver_external_address")] if severity else [])
    assert all(told in item[2] for item in found)


def test_a_name_that_dns_tells_is_named() -> None:
    seen = {"addresses": [], "answer": "unknown", "error": "Name or service not known"}
    ((severity, variable, told),) = judge(plan(), False, external=seen)
    assert (severity, variable) == ("error", "apiserver_name")
    assert "Name or service not known" in told


def test_the_vip_is_of_no_interest_to_other_ways() -> None:
    lookups = {VIP: {"dev": "lo", "source": VIP}}
    assert judge(plan("localhost", "127.0.0.1"), False, lookups=lookups) == []
    assert [item[0] for item in judge(plan("ipvs", VIP), False, lookups=lookups)] == ["error"]
