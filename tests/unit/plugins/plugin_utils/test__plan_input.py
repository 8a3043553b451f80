# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan reads from the inventory and the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError

from ansible_collections.multinic.kubernetes.plugins.plugin_utils._plan_input import (
    failed,
    read_bundle,
    read_inventory,
    trouble_of,
)


class Broken(dict[str, Any]):
    """Variables of which one has a template that fails."""

    def __contains__(self, key: object) -> bool:
        return key == "cni"

    def __getitem__(self, key: str) -> Any:
        raise AnsibleError("'nobody' is undefined")


HOSTVARS: Mapping[str, Mapping[str, Any]] = {
    "m1": {"cluster_network": "ens32", "cni": "none", "ansible_facts": {"multinic": {"links": []}}},
    "n1": {"asked": {"unreachable": True, "msg": "Task failed: no route to host"}},
    "n2": {"asked": {"failed": True, "msg": "module failed", "module_stderr": "/bin/sh: python3: not found"}},
}


def test_hosts_are_in_the_inventorys_order_and_in_both_groups_once() -> None:
    inventory = read_inventory(HOSTVARS, ["m1"], ["n1", "m1", "n2"], "asked")
    assert [(host.name, host.position, host.control_plane, host.worker) for host in inventory.hosts] == [
        ("m1", 0, True, True),
        ("n1", 1, False, True),
        ("n2", 2, False, True),
    ]
    assert inventory.hosts[0].facts == {"links": []}
    assert inventory.hosts[0].cluster_network == "ens32"
    assert inventory.variables["m1"]["cni"] == "none"
    assert [host.trouble for host in inventory.hosts] == [
        "",
        "it cannot be reached: no route to host",
        "module failed /bin/sh: python3: not found",
    ]


OTHERS: list[dict[str, Any]] = [
    {"item": "n1", "ansible_facts": {"multinic": {"links": ["seen"]}}},
    {"item": "n2", "unreachable": True, "msg": "Task failed: no route to host"},
]


def test_hosts_outside_the_run_have_facts_of_their_own_task() -> None:
    inventory = read_inventory(HOSTVARS, ["m1"], ["n1", "n2"], "asked", in_run=["m1"], others=OTHERS)
    assert [(host.name, host.in_run) for host in inventory.hosts] == [("m1", True), ("n1", False), ("n2", False)]
    assert [host.facts for host in inventory.hosts] == [{"links": []}, {"links": ["seen"]}, None]
    assert [host.trouble for host in inventory.hosts] == ["", "", "it cannot be reached: no route to host"]


def test_without_a_list_of_the_runs_hosts_all_are_in_it() -> None:
    assert all(host.in_run for host in read_inventory(HOSTVARS, ["m1"], ["n1"]).hosts)


def test_a_template_that_fails_is_a_finding() -> None:
    (finding,) = read_inventory({"m1": Broken()}, ["m1"], []).findings
    assert (finding.host, finding.variable) == ("m1", "cni")
    assert "'nobody' is undefined" in finding.found


@pytest.mark.parametrize(
    ("result", "bad"),
    [
        (None, False),
        ({"changed": False}, False),
        ({"skipped": True}, False),
        ({"rc": 127}, True),
        ({"failed": True}, True),
        ({"unreachable": True}, True),
    ],
)
def test_failed(result: Any, bad: bool) -> None:
    assert failed(result) is bad


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("Task failed: no route to host", "it cannot be reached at 192.0.2.7: no route to host"),
        (
            "Timeout (17s) waiting for privilege escalation prompt:",
            "it cannot be reached at 192.0.2.7: it went silent, or its sudo waits for something "
            "(Timeout (17s) waiting for privilege escalation prompt)",
        ),
    ],
)
def test_a_host_that_cannot_be_reached_is_told_with_its_address(told: str, said: str) -> None:
    assert trouble_of({"unreachable": True, "msg": told}, "192.0.2.7") == said


def test_a_skipped_task_is_no_trouble() -> None:
    assert trouble_of({"skipped": True, "msg": "x"}) == ""
    assert trouble_of(None) == ""


@pytest.mark.parametrize("value", [None, "", " ", 7, ["x"]])
def test_no_bundle(value: Any) -> None:
    assert read_bundle(value, "") is None


def test_a_bundle_that_is_not_there(tmp_path: Path) -> None:
    found = read_bundle(str(tmp_path / "none.tar.gz"), "")
    assert found is not None
    assert "no file on the controller" in found.trouble


def test_a_url_needs_a_sum() -> None:
    found = read_bundle("https://example.org/kube.tar.gz", "")
    assert found is not None
    assert "bundle_sha256 must be set" in found.trouble


def test_an_archive_that_is_no_bundle(tmp_path: Path) -> None:
    archive = tmp_path / "kube.tar.gz"
    archive.write_bytes(b"no archive")
    found = read_bundle(str(archive), "a" * 64)
    assert found is not None
    assert "no tar.gz archive" in found.trouble
