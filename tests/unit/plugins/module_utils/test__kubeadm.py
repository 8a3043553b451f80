# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""kubeadm's configuration. The golden documents were accepted by kubeadm of their own release."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _kubeadm as kubeadm
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import Check
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import kubeadm_api, parse

GOLDEN = Path("tests/unit/fixtures/kubeadm")
TOKEN = "abcdef.0123456789abcdef"
KEY = "a" * 64

SETTINGS: dict[str, Any] = {
    "etcd_extra_args": {"heartbeat-interval": 500, "election-timeout": "5000"},
    "apiserver_extra_args": {"profiling": False},
    "controller_manager_extra_args": {"bind-address": "127.0.0.1"},
    "kubelet_config": {"maxPods": 200, "authentication": {"anonymous": {"enabled": False}}},
    "kube_proxy_config": {"conntrack": {"maxPerCore": 0}, "ipvs": {"strictARP": True}},
    "ignore_preflight_errors": ["NumCPU", "Mem"],
    "image_repository": "registry.example/k8s",
    "patches_directory": "/var/lib/multinic/patches",
}


def host(name: str, address: str, role: str, schedulable: bool = False) -> dict[str, Any]:
    return {"node_name": name, "role": role, "schedulable": schedulable, "address": address, "interface": "ens32"}


def plan(version: str = "v1.20.2") -> dict[str, Any]:
    return {
        "kubernetes_version": version,
        "apiserver": {
            "name": "apiserver.cluster.local",
            "vip": "10.103.97.2",
            "port": 6443,
            "endpoint": "apiserver.cluster.local:6443",
            "sans": ["api.example.com", "127.0.0.1"],
        },
        "pod_cidr": "100.64.0.0/10",
        "service_cidr": "10.96.0.0/16",
        "dns_domain": "cluster.local",
        "dns_address": "10.96.0.10",
        "control_plane": ["m1", "m2", "m3"],
        "workers": ["w1"],
        "first_control_plane": "m1",
        "kube_proxy": {"mode": "ipvs", "exclude_cidrs": ["10.103.97.2/32"]},
        "hosts": {
            "m1": host("master1", "192.168.253.129", "control_plane"),
            "m2": host("master2", "192.168.253.128", "control_plane", schedulable=True),
            "m3": host("master3", "192.168.253.130", "control_plane"),
            "w1": host("node01", "192.168.253.131", "worker", schedulable=True),
        },
    }


def init(version: str = "v1.20.2", settings: dict[str, Any] | None = None, name: str = "m1") -> list[dict[str, Any]]:
    whole = plan(version)
    return kubeadm.init_documents(whole, whole["hosts"][name], settings or {})


def join(version: str = "v1.20.2", settings: dict[str, Any] | None = None, name: str = "w1") -> dict[str, Any]:
    whole = plan(version)
    (document,) = kubeadm.join_documents(whole, whole["hosts"][name], settings or {})
    return document


def of_kind(documents: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def problems(version: str = "v1.20.2", **settings: Any) -> list[str]:
    with pytest.raises(kubeadm.KubeadmConfigError) as caught:
        init(version, settings)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize("version", ["v1.20.2", "v1.25.0", "v1.31.0"])
def test_golden_documents(version: str, repository: Path) -> None:
    built = {
        "init": kubeadm.with_init_secrets(init(version, SETTINGS), TOKEN, "2h0m0s", KEY),
        "join-control-plane": kubeadm.with_join_secrets([join(version, SETTINGS, "m2")], TOKEN, KEY, "/run/d.conf"),
        "join-worker": kubeadm.with_join_secrets([join(version, SETTINGS, "w1")], TOKEN, "", "/run/d.conf"),
    }
    golden = json.loads((repository / GOLDEN / f"{version}.json").read_text())
    assert built == golden
    for documents in built.values():
        assert kubeadm.check(documents, parse(version)) == []


@pytest.mark.parametrize(
    "version", ["v1.19.2", "v1.21.0", "v1.22.0", "v1.24.17", "v1.30.0", "v1.31.0", "v1.37.2", "v1.40.0"]
)
def test_every_address_is_the_plans(version: str) -> None:
    documents = init(version)
    first = of_kind(documents, "InitConfiguration")
    assert first["localAPIEndpoint"] == {"advertiseAddress": "192.168.253.129", "bindPort": 6443}
    arguments = first["nodeRegistration"]["kubeletExtraArgs"]
    assert arguments in ({"node-ip": "192.168.253.129"}, [{"name": "node-ip", "value": "192.168.253.129"}])
    cluster = of_kind(documents, "ClusterConfiguration")
    assert cluster["controlPlaneEndpoint"] == "apiserver.cluster.local:6443"
    assert cluster["apiVersion"] == "kubeadm.k8s.io/" + kubeadm_api(parse(version))
    master = join(version, name="m2")
    assert master["controlPlane"]["localAPIEndpoint"]["advertiseAddress"] == "192.168.253.128"
    assert "controlPlane" not in join(version, name="w1")


def dual_stack(version: str) -> dict[str, Any]:
    """The plan of a cluster with two families."""
    whole = plan(version)
    whole.update(pod_cidr="100.64.0.0/10,fd00:100:64::/48", service_cidr="10.96.0.0/16,fd00:10:96::/112")
    for node in whole["hosts"].values():
        node["addresses"] = [node["address"], f"fd00:253::{node['address'].rpartition('.')[2]}"]
    return whole


@pytest.mark.parametrize(
    ("version", "gates"),
    [("v1.20.2", {"IPv6DualStack": True}), ("v1.21.0", None), ("v1.23.0", None), ("v1.24.0", None), ("v1.37.2", None)],
)
def test_two_families_are_switched_on_where_they_have_to_be(version: str, gates: dict[str, bool] | None) -> None:
    whole = dual_stack(version)
    documents = kubeadm.init_documents(whole, whole["hosts"]["m1"], {})
    cluster = of_kind(documents, "ClusterConfiguration")
    assert cluster.get("featureGates") == gates
    assert cluster["networking"]["podSubnet"] == "100.64.0.0/10,fd00:100:64::/48"
    assert of_kind(documents, "KubeProxyConfiguration")["clusterCIDR"] == "100.64.0.0/10,fd00:100:64::/48"
    first = of_kind(documents, "InitConfiguration")
    assert first["localAPIEndpoint"]["advertiseAddress"] == "192.168.253.129"
    arguments = first["nodeRegistration"]["kubeletExtraArgs"]
    both = "192.168.253.129,fd00:253::129"
    assert arguments in ({"node-ip": both}, [{"name": "node-ip", "value": both}])


def test_one_family_needs_no_gate() -> None:
    assert "featureGates" not in of_kind(init(), "ClusterConfiguration")
    six = {**plan(), "pod_cidr": "fd00:100:64::/48", "service_cidr": "fd00:10:96::/112"}
    node = {**six["hosts"]["m1"], "address": "fd00:253::129", "addresses": ["fd00:253::129"]}
    documents = kubeadm.init_documents(six, node, {})
    assert "featureGates" not in of_kind(documents, "ClusterConfiguration")
    assert of_kind(documents, "InitConfiguration")["localAPIEndpoint"]["advertiseAddress"] == "fd00:253::129"


@pytest.mark.parametrize(
    ("version", "gates", "told"),
    [
        ("v1.20.2", "TTLAfterFinished=true", True),
        ("v1.20.2", "TTLAfterFinished=true,IPv6DualStack=true", False),
        ("v1.21.0", "TTLAfterFinished=true", False),
    ],
)
def test_gates_of_the_users_own_do_not_switch_a_family_off(version: str, gates: str, told: bool) -> None:
    whole = dual_stack(version)
    found = kubeadm.problems_of(whole, version, {"apiserver_extra_args": {"feature-gates": gates}})
    assert [problem.path for problem in found] == (["apiserver_extra_args.feature-gates"] if told else [])


def test_the_certificate_holds_every_name_once() -> None:
    assert of_kind(init(), "ClusterConfiguration")["apiServer"]["certSANs"] == [
        "apiserver.cluster.local",
        "10.103.97.2",
        "127.0.0.1",
        "192.168.253.129",
        "192.168.253.128",
        "192.168.253.130",
        "api.example.com",
    ]


def test_only_a_schedulable_control_plane_has_no_taint() -> None:
    assert join(name="m2")["nodeRegistration"]["taints"] == []
    assert "taints" not in join(name="m3")["nodeRegistration"]
    assert "taints" not in join(name="w1")["nodeRegistration"]
    assert "taints" not in of_kind(init(), "InitConfiguration")["nodeRegistration"]


def test_the_vip_stays_excluded_whatever_the_user_excludes() -> None:
    settings = {"kube_proxy_config": {"ipvs": {"excludeCIDRs": ["10.0.0.1/32"], "strictARP": True}}}
    proxy = of_kind(init(settings=settings), "KubeProxyConfiguration")
    assert proxy["ipvs"] == {"excludeCIDRs": ["10.103.97.2/32", "10.0.0.1/32"], "strictARP": True}


@pytest.mark.parametrize(
    ("version", "gates"),
    [("v1.29.0", {"NFTablesProxyMode": True}), ("v1.30.4", {"NFTablesProxyMode": True}), ("v1.31.0", None)],
)
def test_nftables_mode_is_switched_on_where_it_has_to_be(version: str, gates: dict[str, bool] | None) -> None:
    whole = {**plan(version), "kube_proxy": {"mode": "nftables", "exclude_cidrs": []}}
    proxy = of_kind(kubeadm.init_documents(whole, whole["hosts"]["m1"], {}), "KubeProxyConfiguration")
    assert proxy["mode"] == "nftables"
    assert proxy.get("featureGates") == gates
    assert "featureGates" not in of_kind(init(version), "KubeProxyConfiguration")


def test_overrides_are_merged_field_by_field() -> None:
    kubelet = of_kind(init(settings=SETTINGS), "KubeletConfiguration")
    assert kubelet["cgroupDriver"] == "systemd"
    assert kubelet["clusterDNS"] == ["10.96.0.10"]
    assert kubelet["maxPods"] == 200
    changed = init(settings={"kubelet_config": {"cgroupDriver": "cgroupfs", "clusterDNS": ["10.96.0.53"]}})
    assert of_kind(changed, "KubeletConfiguration")["cgroupDriver"] == "cgroupfs"
    assert of_kind(changed, "KubeletConfiguration")["clusterDNS"] == ["10.96.0.53"]


def test_flags_are_a_map_first_and_a_list_later() -> None:
    settings = {"apiserver_extra_args": {"v": 4, "profiling": False, "audit-log-path": "-"}}
    old = of_kind(init("v1.30.0", settings), "ClusterConfiguration")["apiServer"]["extraArgs"]
    new = of_kind(init("v1.31.0", settings), "ClusterConfiguration")["apiServer"]["extraArgs"]
    assert old == {
        "audit-log-path": "-",
        "permit-port-sharing": "true",
        "profiling": "false",
        "shutdown-delay-duration": "8s",
        "v": "4",
    }
    assert new == [
        {"name": "audit-log-path", "value": "-"},
        {"name": "permit-port-sharing", "value": "true"},
        {"name": "profiling", "value": "false"},
        {"name": "shutdown-delay-duration", "value": "8s"},
        {"name": "v", "value": "4"},
    ]


@pytest.mark.parametrize("version", ["v1.19.2", "v1.31.0"])
def test_a_stopping_api_server_serves_on_until_every_balancer_has_taken_it_out(version: str) -> None:
    def delay(settings: dict[str, Any]) -> str:
        arguments = of_kind(init(version, settings), "ClusterConfiguration")["apiServer"]["extraArgs"]
        named = arguments if isinstance(arguments, dict) else {item["name"]: item["value"] for item in arguments}
        return str(named["shutdown-delay-duration"])

    seconds = float(delay({}).rstrip("s"))
    slowest = max(Check().slowest_leave(), Check(interval=2, timeout=0.4).slowest_leave())
    # As much again as a second for slow answers and for what is on its way; and kubelet kills after 30 s.
    assert slowest + 2 <= seconds <= 30 / 2
    assert delay({"apiserver_extra_args": {"shutdown-delay-duration": "0s"}}) == "0s"


def test_a_flag_can_be_repeated_where_kubeadm_can() -> None:
    settings = {"apiserver_extra_args": {"tls-sni-cert-key": ["a,b", "c,d"]}}
    new = of_kind(init("v1.31.0", settings), "ClusterConfiguration")["apiServer"]["extraArgs"]
    assert [item["value"] for item in new if item["name"] == "tls-sni-cert-key"] == ["a,b", "c,d"]
    assert problems("v1.30.0", **settings) == [
        "apiserver_extra_args.tls-sni-cert-key: a list; a flag can be repeated only from Kubernetes 1.31 on"
    ]


@pytest.mark.parametrize("value", [False, "false", "False", "0", ["false"]])
def test_an_api_server_that_answers_no_health_check_is_refused(value: Any) -> None:
    (problem,) = problems("v1.31.0", apiserver_extra_args={"anonymous-auth": value})
    assert problem.startswith("apiserver_extra_args.anonymous-auth: is off, and then /readyz answers")
    assert "leave it out" in problem
    assert init("v1.31.0", {"apiserver_extra_args": {"anonymous-auth": "true"}})


@pytest.mark.parametrize("version", ["v1.20.2", "v1.22.0"])
def test_the_configuration_names_the_patches_where_it_can(version: str) -> None:
    settings = {"patches_directory": "/var/lib/multinic/patches"}
    expected = None if version == "v1.20.2" else {"directory": "/var/lib/multinic/patches"}
    assert of_kind(init(version, settings), "InitConfiguration").get("patches") == expected
    assert join(version, settings).get("patches") == expected


def test_a_slow_control_plane_has_time() -> None:
    settings = {"control_plane_timeout": 900}
    old = of_kind(init("v1.30.0", settings), "ClusterConfiguration")
    assert old["apiServer"]["timeoutForControlPlane"] == "900s"
    new = init("v1.31.0", settings)
    assert of_kind(new, "InitConfiguration")["timeouts"] == {"controlPlaneComponentHealthCheck": "900s"}
    assert "timeoutForControlPlane" not in of_kind(new, "ClusterConfiguration")["apiServer"]
    assert join("v1.31.0", settings, "m2")["timeouts"] == {"controlPlaneComponentHealthCheck": "900s"}
    assert problems(control_plane_timeout=True) == ["control_plane_timeout: True is not a whole number of seconds"]


def test_everything_wrong_is_told_at_once() -> None:
    told = problems(
        etcd_extra_args={"listen-client-urls": "https://0.0.0.0:2379", "--quota": "5", "x": None},
        scheduler_extra_args=["v=4"],
        kubelet_config={"maxPod": 1},
        kube_proxy_config={"ipvs": {"excludeCIDR": []}},
        colour="blue",
    )
    assert sorted(told) == [
        "colour: not a setting; known: " + ", ".join(kubeadm.DEFAULT_SETTINGS),
        "etcd_extra_args.--quota: not the name of a flag; write it without the leading dashes",
        "etcd_extra_args.listen-client-urls: differs from host to host, but this setting goes to all control planes "
        "alike; leave it out: kubeadm sets it from the host's cluster address",
        "etcd_extra_args.x: None is not a value of a flag; write a string",
        "kube_proxy_config.ipvs.excludeCIDR: not a field of KubeProxyIPVSConfiguration "
        "(kubeproxy.config.k8s.io/v1alpha1); did you mean 'excludeCIDRs'?",
        "kubelet_config.maxPod: not a field of KubeletConfiguration (kubelet.config.k8s.io/v1beta1); "
        "did you mean 'maxPods'?",
        "scheduler_extra_args: ['v=4'] is not a mapping; write it as flag: value",
    ]


@pytest.mark.parametrize("version", ["v1.18.0", "latest", ""])
def test_a_version_that_cannot_be_installed_is_refused(version: str) -> None:
    assert problems(version)[0].startswith("kubernetes_version: ")


def test_no_document_holds_a_secret_before_it_is_on_its_host() -> None:
    text = kubeadm.render([*init(settings=SETTINGS), join(name="m2")])
    assert "bootstrapTokens" not in text
    assert "certificateKey" not in text
    assert "tlsBootstrapToken" not in text


def test_secrets_are_merged_into_copies() -> None:
    documents = init()
    before = copy.deepcopy(documents)
    merged = kubeadm.with_init_secrets(documents, TOKEN, "2h0m0s", KEY)
    assert documents == before
    assert of_kind(merged, "InitConfiguration")["certificateKey"] == KEY
    member = [join(name="m2")]
    before = copy.deepcopy(member)
    (joined,) = kubeadm.with_join_secrets(member, TOKEN, KEY, "/run/x/discovery.conf")
    assert member == before
    assert joined["controlPlane"]["certificateKey"] == KEY
    assert joined["discovery"] == {"file": {"kubeConfigPath": "/run/x/discovery.conf"}, "tlsBootstrapToken": TOKEN}


def test_a_worker_gets_no_certificate_key() -> None:
    (joined,) = kubeadm.with_join_secrets([join(name="w1")], TOKEN, KEY, "/run/x/discovery.conf")
    assert KEY not in json.dumps(joined)


def test_the_bundles_repository_yields_to_the_users() -> None:
    named = kubeadm.with_image_repository(init(), "registry.bundle")
    assert of_kind(named, "ClusterConfiguration")["imageRepository"] == "registry.bundle"
    chosen = kubeadm.with_image_repository(init(settings=SETTINGS), "registry.bundle")
    assert of_kind(chosen, "ClusterConfiguration")["imageRepository"] == "registry.example/k8s"
    assert kubeadm.with_image_repository(init(), "") == init()


def test_the_discovery_file_holds_the_authority_and_no_credentials() -> None:
    config = json.loads(kubeadm.discovery_kubeconfig("https://apiserver.cluster.local:6443", "-----BEGIN\nx\n"))
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://apiserver.cluster.local:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"-----BEGIN\nx\n"
    assert config["users"] == []


def test_etcd_is_patched_by_name() -> None:
    ((name, text),) = kubeadm.default_patches().items()
    assert name == "etcd+strategic.json"
    (container,) = json.loads(text)["spec"]["containers"]
    assert container["name"] == "etcd"
    assert container["resources"] == {"requests": {"ephemeral-storage": None}}
    probe = container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 600


FACTS_FRESH = {"kubernetes": {"member": False}}
FACTS_MEMBER = {"kubernetes": {"member": True}}


@pytest.mark.parametrize(
    ("facts", "control_plane", "workers"),
    [
        ({}, [], []),
        ({"m1": FACTS_FRESH, "m2": FACTS_FRESH, "m3": FACTS_FRESH, "w1": FACTS_FRESH}, ["m2", "m3"], ["w1"]),
        ({"m1": FACTS_MEMBER, "m2": FACTS_MEMBER, "m3": FACTS_MEMBER, "w1": FACTS_MEMBER}, [], []),
        ({"m1": FACTS_MEMBER, "w1": FACTS_FRESH}, [], ["w1"]),
        ({"m1": FACTS_MEMBER, "m3": FACTS_FRESH, "w1": FACTS_MEMBER}, ["m3"], []),
        ({"m2": {}, "w1": {"kubernetes": None}, "stranger": FACTS_FRESH}, [], []),
    ],
)
def test_who_still_has_to_join(facts: dict[str, Any], control_plane: list[str], workers: list[str]) -> None:
    assert kubeadm.joiners(plan(), facts) == {"control_plane": control_plane, "workers": workers}


minors = st.integers(min_value=19, max_value=45)
flags = st.dictionaries(
    st.from_regex(r"[a-z][a-z-]{0,10}x", fullmatch=True), st.one_of(st.text(), st.integers(), st.booleans()), max_size=4
)


@given(minors, flags, flags, st.sampled_from(["m1", "m2", "m3"]))
def test_whatever_is_built_is_valid(minor: int, server: dict[str, Any], etcd: dict[str, Any], name: str) -> None:
    version = f"v1.{minor}.0"
    settings = {"apiserver_extra_args": server, "etcd_extra_args": etcd}
    whole = plan(version)
    documents = kubeadm.init_documents(whole, whole["hosts"][name], settings)
    assert kubeadm.check(kubeadm.with_init_secrets(documents, TOKEN, "2h0m0s", KEY), parse(version)) == []
    joined = kubeadm.join_documents(whole, whole["hosts"][name], settings)
    assert kubeadm.check(kubeadm.with_join_secrets(joined, TOKEN, KEY, "/x"), parse(version)) == []
    assert [json.loads(text) for text in kubeadm.render(documents).split("---\n")] == documents


settings_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda children: st.lists(children, max_size=2) | st.dictionaries(st.text(), children, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.sampled_from(["etcd_extra_args", "kubelet_config", "kube_proxy_config", "apiserver_extra_args", "other"]),
        settings_values,
    ),
    minors,
)
def test_bad_settings_are_refused_in_one_way_only(settings: dict[str, Any], minor: int) -> None:
    version = f"v1.{minor}.0"
    try:
        documents = init(version, settings)
    except kubeadm.KubeadmConfigError as error:
        assert {re.split(r"[.\[]", str(problem.path), maxsplit=1)[0] for problem in error.problems} <= set(settings)  # noqa: PT017
    else:
        assert kubeadm.check(documents, parse(version)) == []
