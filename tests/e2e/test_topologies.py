# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as people have them, each booted, and planned and proved, or refused for the right reason.

The topologies are the files of ``tests/topologies``. All are booted under one lab's name, so that each is made of the
one before it, and two that have the same hosts share a boot.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import REPOSITORY, Lab

FILES = REPOSITORY / "tests" / "topologies"
NAME = "topo"
MASTER, NODE = "192.168.253.129", "192.168.253.131"
# severity, host, variable, and words that must be in what was found or what to do
Finding = tuple[str, str, str, tuple[str, ...]]


@dataclass(frozen=True)
class Expected:
    """What preflight must say of one topology: the plan, and exactly these errors and warnings."""

    hosts: dict[str, tuple[str, str, int]]  # card, address with prefix, MTU
    calico: str = ""
    version: str = "v3.19.1"  # Calico's
    pods_mtu: int = 1480
    findings: list[Finding] = field(default_factory=list)

    @property
    def refused(self) -> bool:
        return any(severity == "error" for severity, *_rest in self.findings)


def both(master: str = "ens32", node: str = "ens32", mtu: int = 1500) -> dict[str, tuple[str, str, int]]:
    return {"master1": (master, f"{MASTER}/24", mtu), "node01": (node, f"{NODE}/24", mtu)}


def error(host: str, *words: str, variable: str = "cluster_network") -> Finding:
    return ("error", host, variable, words)


def warning(host: str, *words: str, variable: str = "cluster_network") -> Finding:
    return ("warning", host, variable, words)


SAME = both()
CIDR = "cidr=192.168.253.0/24"
STRICT = "the strict reverse path filter of ens32 drops them"
NAME_OF_CARD = "interface=^ens32$"  # where a network would fit two cards
TWO_CARDS = [
    warning("master1", "two cards are inside 192.168.253.0/24", f"ens32 ({MASTER}/24), ens34 (192.168.253.139/24)"),
    warning("node01", "two cards are inside 192.168.253.0/24", f"ens32 ({NODE}/24), ens34 (192.168.253.141/24)"),
    warning("master1", f"its card ens34 answers for {MASTER}, the address of ens32"),
    warning("node01", f"its card ens34 answers for {NODE}, the address of ens32"),
]
TOPOLOGIES: dict[str, Expected] = {
    "same-names": Expected(SAME, CIDR),
    "names-gateway": Expected(both("eno2", "enp5s0f1"), CIDR),
    "typo": Expected(
        {},
        findings=[
            error(
                host,
                f"192.158.253.1 is reached only through the default route, 192.168.160.1 on {card}",
                "Set cluster_network: 192.168.253.1",
            )
            for host, card in (("master1", "eno1"), ("node01", "enp3s0"))
        ],
    ),
    "names-no-gateway": Expected(both("eno2", "enp5s0f1"), "interface=^(eno2|enp5s0f1)$", "v3.15.5"),
    "bond-vlan": Expected(both("bond0.253", "ens34.253"), CIDR),
    "bridge": Expected(both("br0"), CIDR),
    "jumbo": Expected(both(mtu=9000), CIDR, pods_mtu=8980),
    "black-hole": Expected(
        both(mtu=9000),
        CIDR,
        pods_mtu=8980,
        findings=[
            error(
                "master1", f"a packet of 9000 bytes does not pass from {MASTER} on ens32 to node01", "; 1500 bytes do"
            ),
            error("node01", f"a packet of 9000 bytes does not pass from {NODE} on ens32 to master1", "; 1500 bytes do"),
        ],
    ),
    "mixed-mtu": Expected(
        {**both(mtu=9000), "node01": ("ens32", f"{NODE}/24", 1500)},
        CIDR,
        findings=[warning("node01", "ens32 has an MTU of 1500, the largest on this network is 9000")],
    ),
    # The rule misleads the filter of master1 as well: it would look for node01 behind the other card.
    "strict-rp-filter": Expected(
        SAME,
        CIDR,
        findings=[
            error("master1", f"answers from {MASTER} to node01 ({NODE}) would leave by ens33, not by ens32"),
            error("master1", "the answers come back, but this host drops them", STRICT),
            error("node01", f"no answer from {NODE} on ens32 to master1"),
        ],
    ),
    "loose-rp-filter": Expected(
        SAME,
        CIDR,
        findings=[
            error("master1", f"answers from {MASTER} to node01 ({NODE}) would leave by ens33, not by ens32"),
            error("node01", "the answers come back by ens33, not by ens32", f"to master1 ({MASTER})"),
        ],
    ),
    "wrong-route": Expected(
        SAME,
        CIDR,
        findings=[
            error(
                "node01", f"to master1 ({MASTER}) the kernel takes ens33 with 192.168.160.246, not ens32 with {NODE}"
            ),
            error("node01", "the answers come back, but this host drops them", STRICT),
            error("master1", f"no answer from {MASTER} on ens32 to node01"),
        ],
    ),
    "two-cards": Expected(SAME, NAME_OF_CARD, findings=TWO_CARDS),
    "two-cards-astray": Expected(
        SAME,
        NAME_OF_CARD,
        findings=[
            *TWO_CARDS,
            error(
                "master1", f"to node01 ({NODE}) the kernel takes ens34 with 192.168.253.139, not ens32 with {MASTER}"
            ),
            error(
                "node01", f"to master1 ({MASTER}) the kernel takes ens34 with 192.168.253.141, not ens32 with {NODE}"
            ),
            error("master1", "the answers come back, but this host drops them", STRICT),
            error("node01", "the answers come back, but this host drops them", STRICT),
        ],
    ),
    "no-default-route": Expected(SAME, CIDR),
    "no-default-route-auto": Expected(
        {"master1": ("ens33", "192.168.160.243/23", 1500), "node01": ("ens33", "192.168.160.246/23", 1500)},
        "cidr=192.168.160.0/23",
        findings=[
            warning("", "auto finds no difference between 192.168.160.0/23 and 192.168.253.0/24", "Name the network: ")
        ],
    ),
    "two-default-routes": Expected(SAME, CIDR),
    "docker-bridge": Expected(
        {"master1": ("ens32", "172.17.0.129/16", 1500), "node01": ("ens32", "172.17.0.131/16", 1500)},
        NAME_OF_CARD,
        findings=[
            error("node01", "172.17.0.0/16 of docker0 overlaps the cluster network 172.17.0.0/16", "daemon.json"),
            error("node01", "to master1 (172.17.0.129) the kernel takes docker0 with 172.17.0.1, not ens32"),
            error("master1", "no answer from 172.17.0.129 on ens32 to node01"),
            error("node01", "the answers come back, but this host drops them", STRICT),
        ],
    ),
    "dual-stack": Expected(SAME, f"{CIDR},fd00:253::/64"),
    "dual-stack-ipv4": Expected(SAME, CIDR),
    "ipv6": Expected(
        {"master1": ("ens32", "fd00:253::129/64", 1500), "node01": ("ens32", "fd00:253::131/64", 1500)},
        "cidr=fd00:253::/64",
        pods_mtu=1500,
    ),
    "secondary-address": Expected(SAME, "kubernetes-internal-ip", "v3.26.1"),
    "second-network": Expected(
        {"master1": ("ens32", "10.9.0.129/24", 1500), "node01": ("ens32", "10.9.0.131/24", 1500)},
        "cidr=10.9.0.0/24",
    ),
    "duplicate-address": Expected(
        SAME,
        f"can-reach={MASTER}",
        findings=[
            error("node01", f"{MASTER}, the cluster address of master1, is also on its ens32", "ip address del"),
            error("node01", f"to master1 ({MASTER}) the kernel takes lo"),
            error("master1", f"no card of master1, answers for {MASTER} on ens32"),
            error("master1", f"no answer from {MASTER} on ens32 to node01"),
        ],
    ),
    "single-address": Expected(
        {"master1": ("ens32", f"{MASTER}/32", 1500), "node01": ("ens32", f"{NODE}/32", 1500)}, CIDR
    ),
    "policy-routing": Expected(SAME, CIDR),
    "icmp-filtered": Expected(
        SAME,
        CIDR,
        findings=[warning("master1", f"no answer to ICMP from {MASTER} on ens32 to node01 ({NODE}), but TCP answers")],
    ),
}
# Those that `make test` boots too: of each kind of verdict one.
CORE = ("bond-vlan", "black-hole", "docker-bridge")


def manifest(calico: str) -> bytes:
    """What preflight reads of a bundle: the manifest, here one with Calico of this version."""
    pause = "k8s.gcr.io/pause:3.2"
    parts: list[dict[str, Any]] = [
        *({"kind": "binary", "mode": "0755", "path": f"bin/{name}"} for name in ("kubeadm", "kubelet", "kubectl")),
        {"kind": "image", "path": "images/all.tar", "images": [pause, f"docker.io/calico/node:{calico}"]},
        {"kind": "manifest", "path": "manifests/calico.yaml"},
        {
            "kind": "package",
            "path": "packages/debian-12/all.deb",
            "distribution": "debian-12",
            "package": "all",
            "version": "1",
        },
    ]
    for part in parts:
        part.update(sha256=hashlib.sha256(b"").hexdigest(), size=0)
        part.setdefault("mode", "0644")
        if part["kind"] == "image":
            part["roles"] = ["control_plane", "worker"]
    told = {
        "schema": 1,
        "kubernetes_version": "v1.20.2",
        "architecture": "amd64",
        "created": "2026-01-01T00:00:00Z",
        "image_repository": "k8s.gcr.io",
        "pause_image": pause,
        "images_required": [pause],
        "parts": parts,
    }
    return json.dumps(told).encode()


def bundle(folder: Path, calico: str) -> Path:
    path = folder / f"calico-{calico}.tar.gz"
    text = manifest(calico)
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    path.with_name(f"{path.name}.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest(), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The lab, with whatever topology is its inventory at the time."""
    lab = Lab(str(FILES / "same-names.yml"), NAME)
    try:
        lab.fresh()
        yield lab
    finally:
        lab.remove()


def plan_of(report: dict[str, Any]) -> dict[str, tuple[str, str, int]]:
    hosts = report["plan"].get("hosts") or {}
    return {
        name: (node["interface"], f"{node['address']}/{node['prefix']}", node["mtu"]) for name, node in hosts.items()
    }


def unlike(expected: list[Finding], found: list[dict[str, str]]) -> list[str]:
    """What is missing in the report, and what of its errors and warnings was not expected."""
    left = [item for item in found if item["severity"] in ("error", "warning")]
    wrong = []
    for severity, host, variable, words in expected:
        fits = [
            item
            for item in left
            if (item["severity"], item["host"], item["variable"]) == (severity, host, variable)
            and all(word in f"{item['found']}\n{item['remedy']}" for word in words)
        ]
        if len(fits) == 1:
            left.remove(fits[0])
        else:
            wrong.append(f"{len(fits)} times: {severity} {host} {variable}: {' … '.join(words)}")
    return wrong + [f"unexpected: {json.dumps(item)}" for item in left]


def test_every_topology_is_judged() -> None:
    assert sorted(TOPOLOGIES) == sorted(path.stem for path in FILES.glob("*.yml"))
    assert set(CORE) <= set(TOPOLOGIES)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in CORE else pytest.mark.slow) for name in TOPOLOGIES]
)
def test_topology(lab: Lab, name: str, tmp_path: Path) -> None:
    expected = TOPOLOGIES[name]
    lab.inventory = FILES / f"{name}.yml"
    lab.play("lab")
    report = tmp_path / "report.json"
    arguments = [f"preflight_report_path={report}", f"bundle={bundle(tmp_path, expected.version)}", "cni=calico"]
    words = [word for argument in arguments for word in ("-e", argument)]
    run = lab.play("preflight", *words, expect=2 if expected.refused else 0)
    assert not run.changed()
    told = json.loads(report.read_text(encoding="utf-8"))
    assert unlike(expected.findings, told["findings"]) == []
    assert plan_of(told) == expected.hosts
    if expected.hosts:
        cni = told["plan"]["cni"]
        assert (cni["autodetection_method"], cni["mtu"]) == (expected.calico, expected.pods_mtu)
    assert ("ERRORS: nothing has been changed on any host" in run.output) == expected.refused
