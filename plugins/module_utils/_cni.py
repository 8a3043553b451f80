# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod network, from the plan: the small bridge network of ours, or Calico's manifests with the plan's settings.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import copy
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

ROUTES_UNIT = "multinic-pod-routes.service"
ROUTES_PROGRAM = "/usr/local/lib/multinic/pod_routes.py"
ROUTES_CONFIG = "/etc/multinic/pod-network.json"
CONFLIST = "/etc/cni/net.d/10-multinic-bridge.conflist"
BOOT_CLEANUP = "/etc/tmpfiles.d/multinic-cni.conf"
NODES_STATE = "/var/lib/multinic/pod-nodes.json"
BRIDGE = "cni0"
OPERATOR_GROUP = "operator.tigera.io"

Document = dict[str, Any]


class CniError(ValueError):
    """The plan or the manifests do not make a pod network; the message says what was found and what to do."""


# --- bridge -----------------------------------------------------------------------------------------------------------


def of_family(values: Any, like: str) -> str:
    """Of addresses or networks, a list or 'CIDR,CIDR', the one of the family that another has; or empty."""
    items = values.split(",") if isinstance(values, str) else values
    return next((item for item in map(str.strip, map(str, items)) if item and (":" in item) == (":" in like)), "")


def bridge_problems(cluster: Mapping[str, Any]) -> list[str]:
    """Why the bridge network cannot serve these hosts; all reasons at once."""
    problems = []
    networks: dict[bool, dict[str, list[str]]] = {}
    for name, host in cluster["hosts"].items():
        for network in host.get("networks") or [host["network"]]:
            networks.setdefault(":" in str(network), {}).setdefault(str(network), []).append(name)
        for address in host.get("addresses") or [host["address"]]:
            if not of_family(cluster["pod_cidr"], str(address)):
                problems.append(
                    f"{name} has the address {address}, and pod_cidr {cluster['pod_cidr']} none of its family"
                )
    for found in networks.values():
        if len(found) > 1:
            told = "; ".join(f"{network}: {', '.join(sorted(names))}" for network, names in sorted(found.items()))
            problems.append(f"its routes need all hosts on one network, and they are on {len(found)} ({told})")
    return problems


def bridge_config(cluster: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """What the program that keeps the bridge network has to know."""
    return {
        "node_name": node["node_name"],
        "interface": node["interface"],
        "families": [
            {
                "address": str(address),
                "pod_cidr": of_family(cluster["pod_cidr"], str(address)),
                "service_cidr": of_family(cluster["service_cidr"], str(address)),
            }
            for address in node.get("addresses") or [node["address"]]
        ],
        "mtu": int(cluster["cni"]["mtu"]),
        "bridge": BRIDGE,
        "kubeconfig": "/etc/kubernetes/kubelet.conf",
        "conflist_path": CONFLIST,
        "state_path": NODES_STATE,
    }


def routes_unit() -> str:
    """Unit of the program that keeps the bridge network.

    It runs by the distribution's own Python, of which it needs the standard library only. The interpreter that Ansible
    found may be another one, in an environment of the login user's, which may be gone at the next boot.
    """
    return f"""\
# Written by multinic.kubernetes
[Unit]
Description=Pod network of the bridge CNI: routes over the cluster network, masquerading, CNI configuration
After=network.target
StartLimitIntervalSec=0

[Service]
Type=simple
ExecStart=/usr/bin/python3 -I {ROUTES_PROGRAM} {ROUTES_CONFIG}
Restart=always
RestartSec=1
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_DAC_READ_SEARCH
NoNewPrivileges=yes
PrivateTmp=yes
ProtectHome=yes
ProtectSystem=full
ReadWritePaths=-/etc/cni -/var/lib/multinic

[Install]
WantedBy=multi-user.target
"""


def boot_cleanup() -> str:
    """What of the last boot's pod networks is thrown away before this boot's begin, as a tmpfiles.d file.

    libcni and host-local write their records without fsync. After a power loss an empty one keeps containerd from
    tearing down the old sandbox, and kubelet from ever starting the pod again. No pod survives a boot, so no record is
    needed then.
    """
    return """\
# Written by multinic.kubernetes
R! /var/lib/cni/results
R! /var/lib/cni/networks/multinic-bridge
"""


def bridge_state(cluster: Mapping[str, Any], node: Mapping[str, Any], program: str) -> dict[str, Any]:
    """Everything the bridge network needs on one host, as parameters of the host_state module."""
    problems = bridge_problems(cluster)
    if problems:
        raise CniError("cni: bridge does not fit: " + "; ".join(problems) + ". Use cni: calico, or none")
    config = json.dumps(bridge_config(cluster, node), indent=2) + "\n"
    unit_path = f"/etc/systemd/system/{ROUTES_UNIT}"
    return {
        "directories": [
            {"path": path.rpartition("/")[0], "mode": "0755"}
            for path in (ROUTES_CONFIG, ROUTES_PROGRAM, CONFLIST, NODES_STATE)
        ],
        "files": [
            {"path": path, "content": content, "restart": [ROUTES_UNIT]}
            for path, content in ((ROUTES_PROGRAM, program), (ROUTES_CONFIG, config), (unit_path, routes_unit()))
        ]
        + [{"path": BOOT_CLEANUP, "content": boot_cleanup()}],
        "units": [{"name": ROUTES_UNIT, "enabled": True, "state": "started"}],
    }


# --- Calico -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Encapsulation:
    """One encapsulation in the words of both forms of Calico's manifests."""

    ipip: str
    vxlan: str
    backend: str
    operator: str
    bgp: str


ENCAPSULATIONS = {
    "ipip": Encapsulation("Always", "Never", "bird", "IPIP", "Enabled"),
    "vxlan": Encapsulation("Never", "Always", "vxlan", "VXLAN", "Disabled"),
    "none": Encapsulation("Never", "Never", "bird", "None", "Enabled"),
}


@dataclass(frozen=True)
class Calico:
    """What the plan says about Calico."""

    method: str
    mtu: int
    pod_cidrs: tuple[str, ...]
    encapsulation: str

    @classmethod
    def of(cls, cluster: Mapping[str, Any]) -> Calico:
        cni = cluster["cni"]
        method = str(cni.get("autodetection_method") or "")
        if not method:
            raise CniError(
                "the plan has no autodetection method for Calico: none finds the planned address on every host. "
                "Set calico_autodetection_method, or use cni: bridge"
            )
        if cni["encapsulation"] not in ENCAPSULATIONS:
            raise CniError(f"calico_encapsulation {cni['encapsulation']!r} is none of {', '.join(ENCAPSULATIONS)}")
        cidrs = tuple(cidr.strip() for cidr in str(cluster["pod_cidr"]).split(",") if cidr.strip())
        return cls(method, int(cni["mtu"]), cidrs, str(cni["encapsulation"]))

    def cidr(self, family: int) -> str:
        """The pods' network of this family, or empty."""
        return next((cidr for cidr in self.pod_cidrs if (":" in cidr) == (family == 6)), "")

    def settings(self) -> dict[str, str]:
        """The settings a person asks for, for the report and the diff."""
        return {
            "autodetection method": self.method,
            "MTU of pods": str(self.mtu),
            "pod CIDR": ",".join(self.pod_cidrs),
            "encapsulation": self.encapsulation,
        }


def operator_method(method: str) -> dict[str, Any]:
    """An autodetection method as the operator's Installation spells it."""
    if method == "first-found":
        return {"firstFound": True}
    if method == "kubernetes-internal-ip":
        return {"kubernetes": "NodeInternalIP"}
    name, _equals, value = method.partition("=")
    spelled: dict[str, Any] = {
        "interface": {"interface": value},
        "skip-interface": {"skipInterface": value},
        "can-reach": {"canReach": value},
        "cidr": {"cidrs": [cidr.strip() for cidr in value.split(",")]},
    }
    if name not in spelled or not value:
        raise CniError(f"Calico's autodetection method {method!r} cannot be told to the operator")
    found: dict[str, Any] = spelled[name]
    return found


def patch_calico(documents: Iterable[Any], calico: Calico, images: Sequence[str]) -> list[Document]:
    """Calico's manifests with the plan's settings and the bundle's images. The documents given stay as they are."""
    patched = [copy.deepcopy(document) for document in flat(documents)]
    nodes = [doc for doc in patched if kind_and_name(doc) == ("DaemonSet", "calico-node")]
    installations = [doc for doc in patched if doc["kind"] == "Installation" and group_of(doc) == OPERATOR_GROUP]
    if nodes:
        _patch_manifest(patched, nodes, calico)
    elif installations:
        for installation in installations:
            _patch_installation(installation, calico, images)
    else:
        kinds = ", ".join(sorted({doc["kind"] for doc in patched})) or "nothing"
        raise CniError(
            f"the bundle's manifests hold neither the DaemonSet calico-node nor an operator's Installation ({kinds}). "
            "Put calico.yaml, or tigera-operator.yaml with custom-resources.yaml, into the bundle"
        )
    _use_images(patched, images)
    return patched


def flat(documents: Iterable[Any]) -> list[Document]:
    """The documents, Lists taken apart, empty ones dropped."""
    found: list[Document] = []
    for document in documents:
        if not document:
            continue
        if not isinstance(document, dict) or "kind" not in document:
            raise CniError(f"a manifest holds something that is no Kubernetes object: {str(document)[:80]!r}")
        found += flat(document.get("items") or ()) if document["kind"] == "List" else [document]
    return found


def kind_and_name(document: Mapping[str, Any]) -> tuple[str, str]:
    return str(document["kind"]), str((document.get("metadata") or {}).get("name", ""))


def group_of(document: Mapping[str, Any]) -> str:
    """The API group of a document; empty for the core group."""
    group, separator, _version = str(document.get("apiVersion", "")).partition("/")
    return group if separator else ""


def containers_of(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All containers of a workload's pods, init containers too."""
    spec = ((document.get("spec") or {}).get("template") or {}).get("spec") or {}
    return [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]


def set_env(container: dict[str, Any], values: Mapping[str, str]) -> None:
    """Set environment variables of a container; those it has keep their place."""
    entries: list[dict[str, Any]] = container.setdefault("env", [])
    for name, value in values.items():
        entry = next((entry for entry in entries if entry["name"] == name), None)
        if entry is None:
            entries.append({"name": name, "value": value})
        else:
            entry.pop("valueFrom", None)
            entry["value"] = value


def _patch_manifest(documents: Sequence[Document], nodes: Sequence[Document], calico: Calico) -> None:
    encapsulation = ENCAPSULATIONS[calico.encapsulation]
    for node in nodes:
        for container in containers_of(node):
            if container["name"] == "calico-node":
                set_env(container, _node_env(container, calico, encapsulation))
                if encapsulation.backend != "bird":
                    _without_bird_probes(container)
    configs = [doc for doc in documents if kind_and_name(doc) == ("ConfigMap", "calico-config")]
    if not configs:
        raise CniError(
            "the manifests hold the DaemonSet calico-node but no ConfigMap calico-config, which sets its MTU"
        )
    for config in configs:
        data = config.setdefault("data", {})
        data.update({"veth_mtu": str(calico.mtu), "calico_backend": encapsulation.backend})
        if calico.cidr(6):
            data["cni_network_config"] = _with_families(str(data.get("cni_network_config") or ""), calico)


def _with_families(config: str, calico: Calico) -> str:
    """The CNI configuration with an address of each family for pods. It is JSON only when calico/cni has filled it in."""
    if '"calico-ipam"' not in config:
        raise CniError(
            "calico-config's cni_network_config does not use calico-ipam, and no other gives pods IPv6 addresses. "
            "Put Calico's own calico.yaml into the bundle"
        )
    bare = re.sub(r',\s*"assign_ipv[46]":\s*"?(true|false)"?', "", config)
    assigned = ", ".join(f'"assign_ipv{family}": "{_truth(calico.cidr(family))}"' for family in (4, 6))
    return re.sub(r'("type":\s*"calico-ipam")', rf"\1, {assigned}", bare)


def _truth(value: Any) -> str:
    return "true" if value else "false"


def _node_env(container: Mapping[str, Any], calico: Calico, encapsulation: Encapsulation) -> dict[str, str]:
    values = {"IP": "none", "CALICO_ROUTER_ID": "hash"}  # without an IPv4 address, BGP needs another identity
    if calico.cidr(4):
        values = {
            "IP": "autodetect",
            "IP_AUTODETECTION_METHOD": calico.method,
            "CALICO_IPV4POOL_CIDR": calico.cidr(4),
            "CALICO_IPV4POOL_IPIP": encapsulation.ipip,
            "CALICO_IPV4POOL_VXLAN": encapsulation.vxlan,
        }
    given = {entry["name"]: entry.get("value") for entry in container.get("env") or ()}
    if calico.cidr(6) or given.get("IP6") == "autodetect":
        values["IP6_AUTODETECTION_METHOD"] = calico.method
    if calico.cidr(6):
        values.update(
            IP6="autodetect",
            FELIX_IPV6SUPPORT="true",
            CALICO_IPV6POOL_CIDR=calico.cidr(6),
            CALICO_IPV6POOL_VXLAN=encapsulation.vxlan,
            CALICO_IPV6POOL_NAT_OUTGOING=_truth(not ipaddress.ip_network(calico.cidr(6)).is_global),
        )
    return values


def _without_bird_probes(container: dict[str, Any]) -> None:
    """Without BGP there is no BIRD, and a probe that asks for it would never pass."""
    for probe in ("livenessProbe", "readinessProbe"):
        action = (container.get(probe) or {}).get("exec") or {}
        if "command" in action:
            action["command"] = [word for word in action["command"] if not word.startswith("-bird")]


def _patch_installation(installation: Document, calico: Calico, images: Sequence[str]) -> None:
    encapsulation = ENCAPSULATIONS[calico.encapsulation]
    spec = installation.get("spec") or {}
    network = spec.get("calicoNetwork") or {}
    given = list(network.get("ipPools") or ())
    pools = []
    for cidr in calico.pod_cidrs:
        version = 6 if ":" in cidr else 4
        like: Document = next((pool for pool in given if (":" in str(pool.get("cidr", ""))) == (version == 6)), {})
        # IP in IP carries IPv4 alone; routed IPv6 pods need no tunnel where all nodes share a network.
        form = "None" if version == 6 and encapsulation.operator == "IPIP" else encapsulation.operator
        pools.append({"natOutgoing": "Enabled", "nodeSelector": "all()", **like, "cidr": cidr, "encapsulation": form})
        network[f"nodeAddressAutodetectionV{version}"] = operator_method(calico.method)
    for family in (4, 6):
        if not calico.cidr(family):
            network.pop(f"nodeAddressAutodetectionV{family}", None)
    network.update({"ipPools": pools, "mtu": calico.mtu, "bgp": encapsulation.bgp})
    spec["calicoNetwork"] = network
    registry = registry_of_calico(images)
    if registry:
        spec["registry"] = registry
    installation["spec"] = spec


def registry_of_calico(images: Sequence[str]) -> str:
    """What stands before calico/node in the bundle's images, with its slash; empty when the bundle has no such image."""
    for image in images:
        head, found, _tag = image.partition("calico/node:")
        if found and (not head or head.endswith("/")):
            return head
    return ""


def _use_images(documents: Iterable[Document], images: Sequence[str]) -> None:
    missing: dict[str, None] = {}
    for document in documents:
        for container in containers_of(document):
            image = image_in_bundle(str(container.get("image", "")), images)
            if image is None:
                missing[str(container.get("image", ""))] = None
                continue
            container["image"] = image
            if container.get("imagePullPolicy") == "Always":
                container["imagePullPolicy"] = "IfNotPresent"
    if missing:
        raise CniError(
            f"the bundle's manifests use images the bundle does not hold: {', '.join(missing)}. "
            "Build the bundle with them, or with manifests of the version its images have"
        )


def image_in_bundle(wanted: str, images: Sequence[str]) -> Optional[str]:
    """The bundle's name of a manifest's image: the same, or the same name and tag under another registry."""
    if wanted in images:
        return wanted
    tail = wanted.split("@", 1)[0].split("/")[-2:]
    return next((image for image in images if image.split("@", 1)[0].split("/")[-2:] == tail), None)


def stages(documents: Sequence[Document]) -> list[dict[str, Any]]:
    """The documents in the order they can be applied: custom resources after their definitions are known."""
    definitions = [doc for doc in documents if doc["kind"] == "CustomResourceDefinition"]
    groups = {str((doc.get("spec") or {}).get("group", "")) for doc in definitions}
    custom = [doc for doc in documents if group_of(doc) and group_of(doc) in groups]
    first = [doc for doc in documents if doc not in custom]
    # A namespace before what is in it, and definitions before the workloads that read them.
    order = {"Namespace": 0, "CustomResourceDefinition": 1}
    first.sort(key=lambda doc: order.get(doc["kind"], 2))
    found: list[dict[str, Any]] = [{"documents": first, "definitions": []}]
    if custom:
        found.append({"documents": custom, "definitions": [kind_and_name(doc)[1] for doc in definitions]})
    return found
