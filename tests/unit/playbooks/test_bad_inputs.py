# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every bad input, from a real inventory to the one message: as the playbook reads it, with the facts of the lab's hosts."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from ipaddress import ip_address, ip_interface
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager

from ansible_collections.multinic.kubernetes.plugins.module_utils._facts import lookup_targets
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, render
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Result
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import RULES
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._plan_input import OURS, plan_inventory
from ansible_collections.multinic.kubernetes.tests.bad_inputs import (
    BAD_INPUTS,
    BAD_INPUTS_OF_SIX,
    HOSTS,
    SIX,
    BadInput,
    everywhere,
    write_inventory,
)
from ansible_collections.multinic.kubernetes.tests.unit.network_hosts import card, default_route, facts

# ansible_host: name, last number on the internal network
MACHINES = {
    "192.168.160.243": ("master1", 129),
    "192.168.160.244": ("master2", 128),
    "192.168.160.245": ("master3", 130),
    "192.168.160.246": ("node01", 131),
}
IMAGES = [f"k8s.gcr.io/{name}" for name in ("kube-apiserver:v1.20.2", "kube-proxy:v1.20.2", "pause:3.2")]
PART = {"sha256": "0" * 64, "size": 1, "mode": "0644"}
MANIFEST: dict[str, Any] = {
    "schema": 1,
    "kubernetes_version": "v1.20.2",
    "architecture": "amd64",
    "created": "2021-01-13T13:28:09Z",
    "image_repository": "k8s.gcr.io",
    "pause_image": "k8s.gcr.io/pause:3.2",
    "images_required": IMAGES,
    "parts": [
        *({**PART, "path": f"bin/{name}", "kind": "binary"} for name in ("kubeadm", "kubelet", "kubectl")),
        *(
            {**PART, "path": f"images/{n}.tar", "kind": "image", "images": [name], "roles": ["control_plane"]}
            for n, name in enumerate(IMAGES)
        ),
        {
            **PART,
            "path": "packages/debian-12/x.deb",
            "kind": "package",
            "distribution": "debian-12",
            "package": "haproxy",
            "version": "1",
        },
    ],
    "missing": [{"name": "calico", "reason": "its images are in no Debian package"}],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with a small bundle where the lab's inventory looks for one."""
    folder = tmp_path_factory.mktemp("cache")
    (folder / "bundle").mkdir()
    bundle = folder / "bundle" / "lab.tar.gz"
    data = json.dumps(MANIFEST).encode()
    with tarfile.open(bundle, "w:gz") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    bundle.with_name("lab.tar.gz.sha256").write_text(hashlib.sha256(bundle.read_bytes()).hexdigest(), encoding="utf-8")
    return folder


def machine(name: str, last: int, external: str, targets: list[str], *, six: bool = False) -> dict[str, Any]:
    """What network_facts brings from a host of the lab; the kernel's lookups are those of its two networks.

    With six its internal card has an IPv6 address beside the IPv4 one.
    """
    internal, internal_six = f"192.168.253.{last}", f"fd00:253::{last}"
    inside = [f"{internal}/24", *([f"{internal_six}/64"] if six else [])]
    cards = [
        card("ens32", *inside, speed_mbps=10000),
        card("ens33", f"{external}/23", speed_mbps=1000),
        card("lo", {"address": "127.0.0.1", "prefix": 8, "scope": "host"}, kind="loopback"),
    ]
    lookups = {}
    for target in targets:
        for dev, source, prefix in (("ens32", internal, 24), ("ens32", internal_six, 64), ("ens33", external, 23)):
            if ip_address(target) in ip_interface(f"{source}/{prefix}").network:
                lookups[target] = {"dev": dev, "source": source, "gateway": None}
        if ":" not in target:  # of IPv6 there is no default route
            lookups.setdefault(target, {"dev": "ens33", "source": external, "gateway": "192.168.160.1"})
    return facts(
        name,
        cards,
        routes=[default_route("192.168.160.1", "ens33")],
        lookups=lookups,
        identity={
            "hostname": name,
            "machine_id": f"id-of-{name}",
            "product_uuid": "",
            "macs": [f"52:54:00:00:00:{last}", f"52:54:00:00:01:{last}"],
        },
    )


def planned(inventory: Path, cache: Path, *, six: bool = False) -> Result:
    """The plan of an inventory, by the code of the playbook's task."""
    loader = DataLoader()
    hosts = InventoryManager(loader=loader, sources=[str(inventory)])
    manager = VariableManager(loader=loader, inventory=hosts)
    manager.extra_vars.update({"multinic_cache": str(cache), "lab_name": "none"})
    hostvars = HostVars(inventory=hosts, variable_manager=manager, loader=loader)
    for name in HOSTS:
        # As roles/preflight asks for them.
        try:
            wish = plain(hostvars[name].get("cluster_network"))
        except AnsibleError as problem:
            if "is undefined" not in problem.message:
                manager.set_nonpersistent_facts(name, {"asked": {"failed": True, "msg": problem.message}})
                continue
            wish = None
        words = wish if isinstance(wish, list) else [wish]
        address = str(hostvars[name].get("ansible_host"))
        if address not in MACHINES:
            message = (
                f"Task failed: Failed to connect to the host via ssh: ssh: connect to host {address} port 22: No route"
            )
            manager.set_nonpersistent_facts(name, {"asked": {"unreachable": True, "msg": message}})
            continue
        found = machine(*MACHINES[address], address, lookup_targets(map(str, words)), six=six)
        manager.set_host_facts(name, {"multinic": found})
    variables = {"hostvars": hostvars, "groups": hosts.get_groups_dict(), "ansible_play_hosts_all": list(HOSTS)}
    return plan_inventory(variables, facts_result="asked")


@pytest.fixture(scope="module")
def good(cache: Path, repository: Path) -> Result:
    return planned(repository / "inventories" / "lab", cache)


def messages(findings: list[Finding]) -> dict[tuple[str, str, str], list[Finding]]:
    """Findings as the report tells them: those of several hosts with the same trouble are one paragraph."""
    told: dict[tuple[str, str, str], list[Finding]] = {}
    for item in findings:
        told.setdefault((item.variable, item.why, item.remedy), []).append(item)
    return told


def test_the_labs_own_inventory_is_good(good: Result) -> None:
    assert good.findings == []
    assert set(good.plan["hosts"]) == set(HOSTS)


@pytest.mark.parametrize("row", BAD_INPUTS, ids=lambda row: row.id)
def test_one_message_tells_host_variable_value_and_remedy(
    row: BadInput, cache: Path, repository: Path, tmp_path: Path
) -> None:
    result = planned(write_inventory(row, repository / "inventories" / "lab", tmp_path / "inventory"), cache)
    assert_told(row, result)


def test_an_inventory_of_ipv6_is_good(cache: Path, repository: Path, tmp_path: Path) -> None:
    row = everywhere("", "cluster_network", SIX, "", "")
    result = planned(write_inventory(row, repository / "inventories" / "lab", tmp_path / "inventory"), cache, six=True)
    assert result.findings == []
    assert result.plan["hosts"]["node01"]["address"] == "fd00:253::131"


@pytest.mark.parametrize("row", BAD_INPUTS_OF_SIX, ids=lambda row: row.id)
def test_on_hosts_of_ipv6_too(row: BadInput, cache: Path, repository: Path, tmp_path: Path) -> None:
    result = planned(write_inventory(row, repository / "inventories" / "lab", tmp_path / "inventory"), cache, six=True)
    assert_told(row, result)


def assert_told(row: BadInput, result: Result) -> None:
    assert not result.sound
    told = render(result.findings)
    errors = [item for item in result.findings if item.severity == "error"]
    assert len(messages(errors)) == 1, told
    assert {item.host for item in errors} == set(row.where), told
    for item in errors:
        assert item.variable == row.variable, told
        assert row.found in item.found, told
        assert row.remedy in item.remedy, told
        assert item.why, told
        assert re.search(r"\b(Correct|Fix|Check) it\b", item.remedy) is None, told


def test_the_table_is_large_and_names_every_variable() -> None:
    assert len({row.id for row in BAD_INPUTS}) == len(BAD_INPUTS) >= 60
    assert {row.variable for row in BAD_INPUTS} >= {*RULES, "cluster_network", "ansible_host"}
    assert {row.where for row in BAD_INPUTS} >= {("",), HOSTS, ("node01",)}


def test_no_variable_is_one_slip_away_from_another(repository: Path, cache: Path) -> None:
    """Else one that is right would be taken for another one with a slip."""
    from ansible_collections.multinic.kubernetes.plugins.plugin_utils import _plan_input

    texts = [path.read_text(encoding="utf-8") for path in repository.glob("roles/*/defaults/main.yml")]
    names: set[str] = {name for text in texts for name in re.findall(r"^(\w+):", text, re.MULTILINE)}
    assert len(names) > 40
    meant: Mapping[str, str] = {}
    assert _plan_input.misspelt_variables("any", names | set(OURS), dict(meant)) == []
