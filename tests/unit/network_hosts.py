# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts for the tests of plan and proof: facts in the form of the network_facts module."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils import _facts
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Bundle, Host

FIXTURES = Path(__file__).parent / "fixtures" / "ip_json"
MASTERS = {"master1": 129, "master2": 128, "master3": 130}
WORKERS = {"node01": 131}
INTERNAL = "192.168.253"
SHA = "a" * 64
# Calico without calico/node, whose tag would tell its version.
CALICO: list[dict[str, Any]] = [
    {"kind": "manifest", "path": "manifests/calico.yaml"},
    {"kind": "image", "path": "images/calico.tar", "images": ["docker.io/calico/cni:v3.15.5"]},
]
MANIFEST: dict[str, Any] = {"kubernetes_version": "v1.20.2", "architecture": "amd64", "parts": CALICO}


def address(text: str, **more: Any) -> dict[str, Any]:
    found = ip_interface(text)
    return {"address": str(found.ip), "prefix": found.network.prefixlen, "family": found.version, **more}


def card(name: str, *addresses: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "mtu": 1500,
        "up": True,
        "carrier": True,
        "kind": "",
        "addresses": [item if isinstance(item, dict) else address(item) for item in addresses],
        **more,
    }


def default_route(gateway: str, dev: str) -> dict[str, Any]:
    return {"dst": "0.0.0.0/0", "family": 4, "gateway": gateway, "dev": dev}


def facts(name: str, cards: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "links": list(cards),
        "routes": [],
        "lookups": {},
        "identity": {"hostname": name, "machine_id": f"id-of-{name}", "product_uuid": "", "macs": []},
        "system": {"architecture": "x86_64", "os_id": "debian", "os_version": "12", "cpus": 4, "memory_mb": 8000},
        "kubernetes": {"member": False, "admin_conf": False, "node_name": "", "kubelet_conf": False, "ours": False},
        "clock": {"daemon": "chrony"},
        "disk": {"path": "/var/lib", "free_mb": 50000},
        "hosts_file": [],
        "listening": [],
        **more,
    }


def seed_facts(name: str, last: int, inner: str = "ens32", outer: str = "ens33", **more: Any) -> dict[str, Any]:
    """A host of the seed's table: an internal card without and an external one with the default route."""
    external = f"192.168.160.{243 + (last - 128)}"
    return facts(
        name,
        [card(inner, f"{INTERNAL}.{last}/24"), card(outer, f"{external}/23")],
        **{
            "routes": [
                default_route("192.168.160.1", outer),
                {"dst": "192.168.253.0/24", "family": 4, "dev": inner, "source": f"{INTERNAL}.{last}"},
                {"dst": "192.168.160.0/23", "family": 4, "dev": outer, "source": external},
            ],
            "lookups": {
                "192.168.253.1": {"dev": inner, "source": f"{INTERNAL}.{last}", "gateway": None},
                "192.158.253.1": {"dev": outer, "source": external, "gateway": "192.168.160.1"},
            },
            **more,
        },
    )


def seed_cluster(cluster_network: Any = "192.168.253.0/24", **per_host: Mapping[str, Any]) -> list[Host]:
    """The seed's four hosts; per_host changes facts of single ones."""
    return [
        Host(
            name=name,
            position=position,
            control_plane=name in MASTERS,
            worker=name in WORKERS,
            facts=seed_facts(name, last, **per_host.get(name, {})),
            cluster_network=cluster_network,
        )
        for position, (name, last) in enumerate({**MASTERS, **WORKERS}.items())
    ]


def bundle(manifest: Mapping[str, Any] | None = None, **more: Any) -> Bundle:
    return Bundle(**{"path": "/root/kube.tar.gz", "manifest": manifest or MANIFEST, "sha256": SHA, **more})


def recorded(name: str) -> dict[str, Any]:
    """The facts of a recorded host, by the functions that the module uses."""
    data = json.loads((FIXTURES / f"{name}.json").read_text(encoding="utf-8"))
    return {
        "links": _facts.parse_links(json.dumps(data["address"])),
        "routes": [
            route for family in (4, 6) for route in _facts.parse_routes(json.dumps(data[f"route{family}"]), family)
        ],
        "rules": [rule for family in (4, 6) for rule in _facts.parse_rules(json.dumps(data[f"rule{family}"]), family)],
        "lookups": _facts.parse_lookups("\n".join(data["lookups"]), data["targets"]),
    }
