# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _cni as cni

IMAGES = ["docker.io/calico/node:v3.19.1", "docker.io/calico/cni:v3.19.1", "docker.io/calico/kube-controllers:v3.19.1"]


def plan(name: str = "calico", **more: Any) -> dict[str, Any]:
    hosts = {
        "master1": {"address": "192.168.253.129", "network": "192.168.253.0/24", "interface": "ens32"},
        "node01": {"address": "192.168.253.131", "network": "192.168.253.0/24", "interface": "eno2"},
    }
    for host, planned in hosts.items():
        planned["node_name"] = host
    found: dict[str, Any] = {
        "pod_cidr": "100.64.0.0/10",
        "service_cidr": "10.96.0.0/16",
        "cni": {
            "name": name,
            "mtu": 8980,
            "autodetection_method": "cidr=192.168.253.0/24",
            "encapsulation": "ipip",
        },
        "hosts": hosts,
    }
    found.update(more)
    return found


def node_container() -> dict[str, Any]:
    return {
        "name": "calico-node",
        "image": "calico/node:v3.19.1",
        "imagePullPolicy": "Always",
        "env": [
            {"name": "DATASTORE_TYPE", "value": "kubernetes"},
            {"name": "IP", "value": "autodetect"},
            {"name": "CALICO_IPV4POOL_IPIP", "value": "Always"},
            {"name": "CALICO_IPV4POOL_VXLAN", "value": "Never"},
            {"name": "FELIX_IPINIPMTU", "valueFrom": {"configMapKeyRef": {"name": "calico-config", "key": "veth_mtu"}}},
        ],
        "livenessProbe": {"exec": {"command": ["/bin/calico-node", "-felix-live", "-bird-live"]}},
        "readinessProbe": {"exec": {"command": ["/bin/calico-node", "-felix-ready", "-bird-ready"]}},
    }


def workload(
    kind: str, name: str, *containers: dict[str, Any], init: tuple[dict[str, Any], ...] = ()
) -> dict[str, Any]:
    pod = {"containers": list(containers), **({"initContainers": list(init)} if init else {})}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {"template": {"spec": pod}},
    }


def definition(plural: str, group: str) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {"group": group},
    }


def manifest() -> list[Any]:
    """The shape of calico.yaml: a settings map, definitions, the node's DaemonSet, the controllers."""
    return [
        {
            "kind": "ConfigMap",
            "apiVersion": "v1",
            "metadata": {"name": "calico-config", "namespace": "kube-system"},
            "data": {"calico_backend": "bird", "veth_mtu": "0", "typha_service_name": "none"},
        },
        definition("ippools", "crd.projectcalico.org"),
        None,
        workload(
            "DaemonSet",
            "calico-node",
            node_container(),
            init=({"name": "install-cni", "image": "docker.io/calico/cni:v3.19.1"},),
        ),
        workload(
            "Deployment",
            "calico-kube-controllers",
            {"name": "calico-kube-controllers", "image": "quay.io/calico/kube-controllers:v3.19.1"},
        ),
    ]


def operator() -> list[Any]:
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tigera-operator"}},
        {
            "apiVersion": "operator.tigera.io/v1",
            "kind": "Installation",
            "metadata": {"name": "default"},
            "spec": {
                "calicoNetwork": {
                    "ipPools": [{"blockSize": 26, "cidr": "192.168.0.0/16", "encapsulation": "VXLANCrossSubnet"}]
                }
            },
        },
        definition("installations", "operator.tigera.io"),
        workload(
            "Deployment", "tigera-operator", {"name": "tigera-operator", "image": "quay.io/tigera/operator:v1.30.4"}
        ),
    ]


OPERATOR_IMAGES = ["registry.lan:5000/calico/node:v3.26.1", "registry.lan:5000/tigera/operator:v1.30.4"]


def env_of(documents: list[dict[str, Any]]) -> dict[str, Any]:
    node = next(doc for doc in documents if cni.kind_and_name(doc) == ("DaemonSet", "calico-node"))
    container = next(entry for entry in cni.containers_of(node) if entry["name"] == "calico-node")
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def patched(documents: list[Any], images: list[str], **cni_settings: Any) -> list[dict[str, Any]]:
    wanted = plan()
    pod_cidr = cni_settings.pop("pod_cidr", None)
    wanted["cni"].update(cni_settings)
    if pod_cidr:
        wanted["pod_cidr"] = pod_cidr
    return cni.patch_calico(documents, cni.Calico.of(wanted), images)


@pytest.mark.parametrize(
    ("encapsulation", "ipip", "vxlan", "backend", "probe"),
    [
        ("ipip", "Always", "Never", "bird", ["/bin/calico-node", "-felix-ready", "-bird-ready"]),
        ("vxlan", "Never", "Always", "vxlan", ["/bin/calico-node", "-felix-ready"]),
        ("none", "Never", "Never", "bird", ["/bin/calico-node", "-felix-ready", "-bird-ready"]),
    ],
)
def test_manifest_gets_the_plan(encapsulation: str, ipip: str, vxlan: str, backend: str, probe: list[str]) -> None:
    documents = patched(manifest(), IMAGES, encapsulation=encapsulation)
    env = env_of(documents)
    assert env["IP_AUTODETECTION_METHOD"] == "cidr=192.168.253.0/24"
    assert env["CALICO_IPV4POOL_CIDR"] == "100.64.0.0/10"
    assert (env["CALICO_IPV4POOL_IPIP"], env["CALICO_IPV4POOL_VXLAN"]) == (ipip, vxlan)
    assert env["DATASTORE_TYPE"] == "kubernetes"
    config = next(doc for doc in documents if doc["kind"] == "ConfigMap")
    assert config["data"] == {"calico_backend": backend, "veth_mtu": "8980", "typha_service_name": "none"}
    node = next(doc for doc in documents if doc["kind"] == "DaemonSet")
    assert cni.containers_of(node)[1]["readinessProbe"]["exec"]["command"] == probe


def test_images_are_those_of_the_bundle() -> None:
    documents = patched(manifest(), ["registry.lan/calico/node:v3.19.1", *IMAGES[1:]])
    images = [container["image"] for doc in documents for container in cni.containers_of(doc)]
    assert images == [IMAGES[1], "registry.lan/calico/node:v3.19.1", IMAGES[2]]
    pulled = [container.get("imagePullPolicy") for doc in documents for container in cni.containers_of(doc)]
    assert "Always" not in pulled


def test_all_missing_images_are_told_at_once() -> None:
    with pytest.raises(cni.CniError, match=r"calico/cni:v3\.19\.1, calico/node:v3\.19\.1, quay\.io/calico/kube-contr"):
        patched(manifest(), ["docker.io/calico/node:v3.20.0"])


def test_the_manifests_given_stay_as_they_are() -> None:
    before = manifest()
    given = copy.deepcopy(before)
    patched(given, IMAGES)
    assert given == before


def test_patching_twice_is_patching_once() -> None:
    once = patched(manifest(), IMAGES)
    assert patched(once, IMAGES) == once


def test_ipv6_method_is_set_only_where_ipv6_is_detected() -> None:
    documents = manifest()
    assert "IP6_AUTODETECTION_METHOD" not in env_of(patched(documents, IMAGES))
    cni.set_env(cni.containers_of(documents[3])[1], {"IP6": "autodetect"})
    assert env_of(patched(documents, IMAGES))["IP6_AUTODETECTION_METHOD"] == "cidr=192.168.253.0/24"


def test_a_reference_is_replaced_by_a_value() -> None:
    container = node_container()
    cni.set_env(container, {"FELIX_IPINIPMTU": "1480"})
    assert container["env"][-1] == {"name": "FELIX_IPINIPMTU", "value": "1480"}


@pytest.mark.parametrize(
    ("encapsulation", "told", "bgp"),
    [("ipip", "IPIP", "Enabled"), ("vxlan", "VXLAN", "Disabled"), ("none", "None", "Enabled")],
)
def test_installation_gets_the_plan(encapsulation: str, told: str, bgp: str) -> None:
    documents = patched(operator(), OPERATOR_IMAGES, encapsulation=encapsulation)
    spec = next(doc for doc in documents if doc["kind"] == "Installation")["spec"]
    assert spec == {
        "registry": "registry.lan:5000/",
        "calicoNetwork": {
            "ipPools": [
                {
                    "natOutgoing": "Enabled",
                    "nodeSelector": "all()",
                    "blockSize": 26,
                    "cidr": "100.64.0.0/10",
                    "encapsulation": told,
                }
            ],
            "mtu": 8980,
            "bgp": bgp,
            "nodeAddressAutodetectionV4": {"cidrs": ["192.168.253.0/24"]},
        },
    }


def test_installation_of_two_families_gets_two_pools() -> None:
    documents = patched(
        operator(),
        OPERATOR_IMAGES,
        pod_cidr="100.64.0.0/10,fd00:64::/48",
        autodetection_method="kubernetes-internal-ip",
    )
    network = next(doc for doc in documents if doc["kind"] == "Installation")["spec"]["calicoNetwork"]
    assert [(pool["cidr"], pool["encapsulation"]) for pool in network["ipPools"]] == [
        ("100.64.0.0/10", "IPIP"),
        ("fd00:64::/48", "None"),
    ]
    assert network["nodeAddressAutodetectionV6"] == {"kubernetes": "NodeInternalIP"}


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("first-found", {"firstFound": True}),
        ("kubernetes-internal-ip", {"kubernetes": "NodeInternalIP"}),
        ("interface=^ens32$", {"interface": "^ens32$"}),
        ("skip-interface=ens33", {"skipInterface": "ens33"}),
        ("can-reach=192.168.253.129", {"canReach": "192.168.253.129"}),
        ("cidr=10.0.0.0/8, 192.168.253.0/24", {"cidrs": ["10.0.0.0/8", "192.168.253.0/24"]}),
    ],
)
def test_methods_in_the_operators_words(method: str, told: dict[str, Any]) -> None:
    assert cni.operator_method(method) == told


def test_resources_come_after_their_definitions() -> None:
    staged = cni.stages(patched(operator(), OPERATOR_IMAGES))
    assert [[doc["kind"] for doc in stage["documents"]] for stage in staged] == [
        ["Namespace", "CustomResourceDefinition", "Deployment"],
        ["Installation"],
    ]
    assert staged[1]["definitions"] == ["installations.operator.tigera.io"]
    assert len(cni.stages(patched(manifest(), IMAGES))) == 1


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "hold neither .*nothing"),
        ([{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}], r"hold neither .*\(Service\)"),
        (["text"], "no Kubernetes object"),
        (manifest()[1:], "no ConfigMap calico-config"),
    ],
)
def test_manifests_that_are_not_calicos_are_refused(documents: list[Any], message: str) -> None:
    with pytest.raises(cni.CniError, match=message):
        patched(documents, IMAGES)


def test_no_method_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(cni.CniError, match="Set calico_autodetection_method"):
        patched(manifest(), IMAGES, autodetection_method=None)


DUAL_PODS = "100.64.0.0/10,fd00:100:64::/48"
# calico.yaml's, abridged: what it holds is no JSON before calico/cni has filled it in.
NETWORK_CONFIG = """{
  "name": "k8s-pod-network",
  "plugins": [{"type": "calico", "mtu": __CNI_MTU__, "ipam": {
          "type": "calico-ipam"
      }}]
}"""


def manifest_with_network() -> list[Any]:
    documents = manifest()
    documents[0]["data"]["cni_network_config"] = NETWORK_CONFIG
    return documents


def network_config(documents: list[dict[str, Any]]) -> str:
    return str(next(doc for doc in documents if doc["kind"] == "ConfigMap")["data"]["cni_network_config"])


def test_manifest_gives_pods_an_address_of_each_family() -> None:
    documents = patched(manifest_with_network(), IMAGES, pod_cidr=DUAL_PODS)
    env = env_of(documents)
    assert (env["IP"], env["CALICO_IPV4POOL_CIDR"], env["CALICO_IPV4POOL_IPIP"]) == (
        "autodetect",
        "100.64.0.0/10",
        "Always",
    )
    assert env["IP6_AUTODETECTION_METHOD"] == env["IP_AUTODETECTION_METHOD"]
    assert {name: env[name] for name in env if "6" in name and "METHOD" not in name} == {
        "IP6": "autodetect",
        "FELIX_IPV6SUPPORT": "true",
        "CALICO_IPV6POOL_CIDR": "fd00:100:64::/48",
        "CALICO_IPV6POOL_VXLAN": "Never",
        "CALICO_IPV6POOL_NAT_OUTGOING": "true",
    }
    config = network_config(documents)
    assert '"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"\n' in config
    assert json.loads(config.replace("__CNI_MTU__", "0"))
    assert patched(documents, IMAGES, pod_cidr=DUAL_PODS) == documents


def test_manifest_of_ipv6_alone_has_no_ipv4_pool() -> None:
    documents = patched(manifest_with_network(), IMAGES, pod_cidr="2001:db8:64::/48", encapsulation="vxlan")
    env = env_of(documents)
    assert (env["IP"], env["CALICO_ROUTER_ID"], env["IP6"]) == ("none", "hash", "autodetect")
    assert "CALICO_IPV4POOL_CIDR" not in env
    assert env["CALICO_IPV6POOL_VXLAN"] == "Always"
    assert '"assign_ipv4": "false", "assign_ipv6": "true"' in network_config(documents)


@pytest.mark.parametrize(("cidr", "nat"), [("fd00:100:64::/48", "true"), ("2a01:4f8:64::/48", "false")])
def test_public_pods_are_not_hidden(cidr: str, nat: str) -> None:
    env = env_of(patched(manifest_with_network(), IMAGES, pod_cidr=cidr))
    assert env["CALICO_IPV6POOL_NAT_OUTGOING"] == nat


def test_ipv4_alone_leaves_the_cni_configuration_as_it_is() -> None:
    assert network_config(patched(manifest_with_network(), IMAGES)) == NETWORK_CONFIG


def test_another_ipam_gives_pods_no_ipv6() -> None:
    with pytest.raises(cni.CniError, match="does not use calico-ipam"):
        patched(manifest(), IMAGES, pod_cidr=DUAL_PODS)


def test_installation_of_ipv6_alone_looks_for_no_ipv4_address() -> None:
    documents = operator()
    documents[1]["spec"]["calicoNetwork"]["nodeAddressAutodetectionV4"] = {"firstFound": True}
    network = next(
        doc
        for doc in patched(documents, OPERATOR_IMAGES, pod_cidr="fd00:64::/48", encapsulation="none")
        if doc["kind"] == "Installation"
    )["spec"]["calicoNetwork"]
    assert "nodeAddressAutodetectionV4" not in network
    assert network["nodeAddressAutodetectionV6"] == {"cidrs": ["192.168.253.0/24"]}


# --- bridge ---


def test_bridge_state_holds_what_the_program_reads() -> None:
    wanted = plan("bridge")
    state = cni.bridge_state(wanted, wanted["hosts"]["node01"], "the program\n")
    files = {entry["path"]: entry for entry in state["files"]}
    assert files[cni.ROUTES_PROGRAM]["content"] == "the program\n"
    config = json.loads(files[cni.ROUTES_CONFIG]["content"])
    assert (config["node_name"], config["interface"], config["mtu"]) == ("node01", "eno2", 8980)
    assert config["families"] == [
        {"address": "192.168.253.131", "pod_cidr": "100.64.0.0/10", "service_cidr": "10.96.0.0/16"}
    ]
    assert f"{cni.ROUTES_PROGRAM} {cni.ROUTES_CONFIG}\n" in files[f"/etc/systemd/system/{cni.ROUTES_UNIT}"]["content"]
    cleanup = files.pop(cni.BOOT_CLEANUP)
    assert all(line.startswith(("# ", "R! /var/lib/cni/")) for line in cleanup["content"].splitlines())
    assert all(entry["restart"] == [cni.ROUTES_UNIT] for entry in files.values())


def test_bridge_tells_all_that_does_not_fit() -> None:
    wanted = plan("bridge")
    wanted["hosts"]["node01"].update(address="192.168.160.5", network="192.168.160.0/23")
    wanted["hosts"]["master1"].update(addresses=["192.168.253.129", "fd00::5"])
    with pytest.raises(cni.CniError) as told:
        cni.bridge_state(wanted, wanted["hosts"]["master1"], "")
    for words in (
        "master1 has the address fd00::5, and pod_cidr 100.64.0.0/10 none of its family",
        "they are on 2 (192.168.160.0/23: node01; 192.168.253.0/24: master1)",
        "Use cni: calico",
    ):
        assert words in str(told.value)


def test_bridge_needs_one_network_of_each_family() -> None:
    wanted = plan("bridge", pod_cidr=DUAL_PODS, service_cidr="10.96.0.0/16,fd00:10:96::/112")
    for number, host in enumerate(wanted["hosts"].values()):
        host["addresses"] = [host["address"], f"fd00:253::{number}"]
        host["networks"] = [host["network"], "fd00:253::/64"]
    assert cni.bridge_problems(wanted) == []
    assert cni.bridge_config(wanted, wanted["hosts"]["node01"])["families"] == [
        {"address": "192.168.253.131", "pod_cidr": "100.64.0.0/10", "service_cidr": "10.96.0.0/16"},
        {"address": "fd00:253::1", "pod_cidr": "fd00:100:64::/48", "service_cidr": "fd00:10:96::/112"},
    ]
    wanted["hosts"]["node01"]["networks"][1] = "fd00:254::/64"
    (problem,) = cni.bridge_problems(wanted)
    assert "they are on 2 (fd00:253::/64: master1; fd00:254::/64: node01)" in problem


def test_the_one_of_a_family() -> None:
    assert cni.of_family("fd00:64::/48, 100.64.0.0/10", "10.0.0.1") == "100.64.0.0/10"
    assert cni.of_family(["fd00:64::/48"], "10.0.0.1") == ""
    assert cni.of_family("fd00:64::/48", "fd00::1") == "fd00:64::/48"
