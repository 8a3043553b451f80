# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _kubeadm_types as types
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import NEWEST_KNOWN, OLDEST, Version

APIS = sorted(types._TABLES)
SCALARS = set(types._SCALARS)
MINORS = list(range(OLDEST[1], NEWEST_KNOWN[1] + 1))


def release(minor: int) -> Version:
    return Version(1, minor, 0)


def kubelet(fields: dict[str, Any], minor: int = 20) -> list[str]:
    problems = types.check_fields(
        fields, types.KUBELET_API, "KubeletConfiguration", release(minor), path="kubelet_config"
    )
    return [str(problem) for problem in problems]


def proxy(fields: dict[str, Any], minor: int = 20) -> list[str]:
    problems = types.check_fields(
        fields, types.KUBE_PROXY_API, "KubeProxyConfiguration", release(minor), path="kube_proxy_config"
    )
    return [str(problem) for problem in problems]


def inner(kind: str) -> list[str]:
    return [part.strip("[]{}") for part in kind.split("|")]


@pytest.mark.parametrize("api", APIS)
def test_every_kind_in_the_tables_exists(api: str) -> None:
    known = types.types_of(api)
    for name, fields in known.items():
        for field in fields:
            for kind in inner(field.kind):
                assert kind in SCALARS or kind in known, f"{api} {name}.{field.name}: {kind}"


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("minor", MINORS)
def test_no_field_has_two_kinds_in_one_release(api: str, minor: int) -> None:
    for name, fields in types.types_of(api).items():
        there = [field.name for field in fields if field.exists_in(minor)]
        assert len(there) == len(set(there)), f"{api} {name} in 1.{minor}"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"maxPod": 5}, "kubelet_config.maxPod: not a field of KubeletConfiguration (kubelet.config.k8s.io/v1beta1);"
                        " did you mean 'maxPods'?"),
        ({"MaxPods": 5}, "did you mean 'maxPods'?"),
        ({"max_pods": 5}, "did you mean 'maxPods'?"),
        ({"maxPods": "5"}, "kubelet_config.maxPods: the string '5' where a whole number belongs"),
        ({"maxPods": True}, "kubelet_config.maxPods: true where a whole number belongs"),
        ({"maxPods": 5.0}, "kubelet_config.maxPods: the number 5.0 where a whole number belongs"),
        ({"maxPods": None}, "kubelet_config.maxPods: empty (null); give a whole number or leave the field out"),
        ({"failSwapOn": "false"}, "kubelet_config.failSwapOn: the string 'false' where a true or false belongs"),
        ({"clusterDNS": "10.96.0.10"}, "kubelet_config.clusterDNS: the string '10.96.0.10' where a list belongs"),
        ({"clusterDNS": [10]}, "kubelet_config.clusterDNS[0]: the number 10 where a string belongs; quote it"),
        ({"syncFrequency": "60"}, "kubelet_config.syncFrequency: the string '60' where a duration"),
        ({"syncFrequency": 60}, "kubelet_config.syncFrequency: the number 60 where a duration"),
        ({"evictionHard": {"memory.available": 100}}, "kubelet_config.evictionHard.memory.available: the number 100"),
        ({"evictionHard": ["x"]}, "kubelet_config.evictionHard: a list where a mapping belongs"),
        ({"evictionHard": {5: "x"}}, "the key 5 is not a string; quote it"),
        ({"authentication": {"anonymous": {"enable": True}}}, "kubelet_config.authentication.anonymous.enable: "),
        ({"authentication": []}, "kubelet_config.authentication: a list where a mapping with the fields of"),
        ({"authentication": "no"}, "kubelet_config.authentication: the string 'no' where a mapping"),
        ({"seccompDefault": True}, "not a field of KubeletConfiguration in Kubernetes 1.20; it exists only since 1.22"),
        ({"logging": {"sanitization": "no"}}, "kubelet_config.logging.sanitization: "),
        ({"xyzzy": 1}, "its fields: address, "),
    ],
)  # fmt: skip
def test_what_kubelet_would_lose_is_an_error(fields: dict[str, Any], said: str) -> None:
    found = kubelet(fields)
    assert len(found) == 1
    assert said in found[0]


def test_all_errors_are_told_at_once() -> None:
    assert len(kubelet({"maxPod": 1, "failSwapOn": 1, "authentication": {"x": 1, "webhook": {"cacheTTL": 5}}})) == 4


@pytest.mark.parametrize(
    ("fields", "minor"),
    [
        (
            {
                "maxPods": 200,
                "failSwapOn": False,
                "syncFrequency": "1m30s",
                "evictionHard": {"imagefs.available": "15%"},
            },
            19,
        ),
        ({"shutdownGracePeriod": "30s"}, 20),
        ({"logging": {"format": "json", "sanitization": True}}, 20),
        ({"reservedMemory": [{"numaNode": 0, "limits": {"memory": "1Gi", "hugepages-2Mi": 5}}]}, 21),
        ({"memoryThrottlingFactor": 0.8, "registerWithTaints": [{"key": "a", "effect": "NoSchedule"}]}, 23),
        ({"logging": {"flushFrequency": 5000000000, "verbosity": 3}}, 27),
        ({"logging": {"flushFrequency": "5s", "vmodule": [{"filePattern": "x*", "verbosity": 4}]}}, 28),
        ({"logging": {"flushFrequency": 5000000000}}, 28),
        ({"crashLoopBackOff": {"maxContainerRestartPeriod": "1m"}, "failCgroupV1": False}, 32),
        ({"tlsCurvePreferences": [29]}, 36),
        ({"defaultPodSysctls": {"net.ipv4.ip_forward": "1"}}, 40),
    ],
)
def test_what_exists_in_a_release_is_taken(fields: dict[str, Any], minor: int) -> None:
    assert kubelet(fields, minor) == []


@pytest.mark.parametrize(
    ("fields", "minor", "said"),
    [
        ({"nftables": {"masqueradeAll": True}}, 28, "it exists only since 1.29"),
        ({"udpIdleTimeout": "5s"}, 26, "it exists only up to 1.25"),
        ({"ipvs": {"excludeCIDR": ["10.0.0.0/8"]}}, 20, "did you mean 'excludeCIDRs'?"),
        ({"ipvs": {"excludeCIDRs": "10.0.0.0/8"}}, 20, "where a list belongs"),
        ({"conntrack": {"maxPerCore": "0"}}, 20, "kube_proxy_config.conntrack.maxPerCore: the string '0'"),
        ({"clientConnection": {"qps": "5"}}, 20, "where a number belongs"),
    ],
)
def test_what_kube_proxy_would_lose_is_an_error(fields: dict[str, Any], minor: int, said: str) -> None:
    found = proxy(fields, minor)
    assert len(found) == 1
    assert said in found[0]


def test_kube_proxy_takes_what_it_knows() -> None:
    fields = {"conntrack": {"maxPerCore": 0}, "ipvs": {"strictARP": True}, "clientConnection": {"qps": 5, "burst": 10}}
    assert proxy(fields) == []
    assert proxy({"udpIdleTimeout": "250ms"}, 25) == []
    assert proxy({"nftables": {"masqueradeAll": True}}, 29) == []


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "apiVersion: 'None' is not known"),
        ({"apiVersion": "kubeadm.k8s.io/v1beta1", "kind": "InitConfiguration"}, "known: kubeadm.k8s.io/v1beta2"),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta3", "kind": "ResetConfiguration"},
            "not a kind of kubeadm.k8s.io/v1beta3",
        ),
        ({"apiVersion": "kubeadm.k8s.io/v1beta3", "kind": "Taint"}, "not a kind of"),
        ({"apiVersion": "kubeadm.k8s.io/v1beta3"}, "kind: 'None' is not a kind"),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "ClusterConfiguration", "apiServer": {"extraArgs": {}}},
            "ClusterConfiguration.apiServer.extraArgs: a mapping where a list belongs",
        ),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta3", "kind": "ClusterConfiguration", "apiServer": {"extraArgs": []}},
            "ClusterConfiguration.apiServer.extraArgs: a list where a mapping belongs",
        ),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta4", "kind": "JoinConfiguration", "discovery": {"timeout": "5m"}},
            "JoinConfiguration.discovery.timeout: not a field of Discovery",
        ),
        (
            {"apiVersion": "kubeadm.k8s.io/v1beta2", "kind": "InitConfiguration", "patches": {"directory": "/x"}},
            "InitConfiguration.patches: not a field of InitConfiguration",
        ),
    ],
)
def test_documents_are_held_to_their_api_version(document: dict[str, Any], said: str) -> None:
    found = [str(problem) for problem in types.check_document(document, release(31))]
    assert len(found) == 1
    assert said in found[0]


@pytest.mark.parametrize("text", ["0", "1h", "1m30s", "1.5h", "100ms", "-5s", "10us", "3µs", ".5s"])
def test_durations(text: str) -> None:
    assert types._SCALARS["duration"](text)


@pytest.mark.parametrize("text", ["", "5", "1d", "s", "1m 30s", "five"])
def test_no_durations(text: str) -> None:
    assert not types._SCALARS["duration"](text)


@pytest.mark.parametrize(("text", "good"), [("100Mi", True), ("1.5", True), ("1e3", True), ("5X", False), ("", False)])
def test_quantities(text: str, good: bool) -> None:
    assert types._SCALARS["quantity"](text) is good


SAMPLES: dict[str, st.SearchStrategy[Any]] = {
    "string": st.text(),
    "int": st.integers(min_value=0, max_value=2**31 - 1),
    "nanoseconds": st.integers(min_value=0, max_value=2**62),
    "number": st.floats(min_value=0, max_value=1),
    "bool": st.booleans(),
    "duration": st.integers(min_value=0, max_value=999).map(lambda number: f"{number}s"),
    "quantity": st.integers(min_value=0, max_value=999).map(lambda number: f"{number}Mi"),
    "time": st.just("2030-01-31T00:00:00Z"),
}


def values(api: str, kind: str, minor: int) -> st.SearchStrategy[Any]:
    """Any value that the tables allow for a kind."""
    if kind.startswith("["):
        return st.lists(values(api, kind[1:-1], minor), max_size=2)
    if kind.startswith("{"):
        return st.dictionaries(st.text(max_size=3), values(api, kind[1:-1], minor), max_size=2)
    if "|" in kind:
        return st.one_of(*(values(api, part, minor) for part in kind.split("|")))
    if kind in SAMPLES:
        return SAMPLES[kind]
    fields = {
        field.name: values(api, field.kind, minor) for field in types.types_of(api)[kind] if field.exists_in(minor)
    }
    return st.fixed_dictionaries({}, optional=fields)


@given(st.data(), st.sampled_from(MINORS))
def test_whatever_the_tables_allow_is_taken(data: st.DataObject, minor: int) -> None:
    api, kind = data.draw(
        st.sampled_from([
            (types.KUBELET_API, "KubeletConfiguration"),
            (types.KUBE_PROXY_API, "KubeProxyConfiguration"),
            ("kubeadm.k8s.io/v1beta3", "ClusterConfiguration"),
            ("kubeadm.k8s.io/v1beta4", "JoinConfiguration"),
        ])
    )  # fmt: skip
    fields = data.draw(values(api, kind, minor))
    assert types.check_document({"apiVersion": api, "kind": kind, **fields}, release(minor)) == []


@given(st.text(min_size=1), st.sampled_from(MINORS))
def test_a_field_that_is_in_no_table_is_always_an_error(name: str, minor: int) -> None:
    known = types.fields_of(types.KUBELET_API, "KubeletConfiguration", release(minor))
    assert bool(kubelet({name: None}, minor))
    if name not in known:
        assert "not a field" in kubelet({name: 1}, minor)[0]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(["maxPods", "authentication", "logging", "clusterDNS", "x"]), json_values))
def test_no_input_breaks_the_check(fields: dict[str, Any]) -> None:
    for problem in kubelet(fields):
        assert problem.startswith("kubelet_config.")
