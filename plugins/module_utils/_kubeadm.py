# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""kubeadm's configuration, built from the cluster plan and the user's settings.

Every address comes from the plan. Documents are plain dictionaries without secrets; tokens and keys are merged in on
the host that uses them. What Kubernetes would not take, or would silently drop, is an error here, all of it at once.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import sharing_arguments, taken_port
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm_types import (
    KUBE_PROXY_API,
    KUBELET_API,
    Problem,
    check_document,
    check_fields,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import (
    Version,
    VersionError,
    kubeadm_api,
    nftables_proxy_gate,
    parse_supported,
)

Document = dict[str, Any]

DEFAULT_SETTINGS: dict[str, Any] = {
    "image_repository": "",
    "apiserver_extra_args": {},
    "controller_manager_extra_args": {},
    "scheduler_extra_args": {},
    "etcd_extra_args": {},
    "kubelet_config": {},
    "kube_proxy_config": {},
    "ignore_preflight_errors": [],
    "cri_socket": "unix:///run/containerd/containerd.sock",
    "patches_directory": "",
    "control_plane_timeout": 600,
}
"""Every setting there is, with its default."""

DEFAULT_APISERVER_ARGUMENTS = {"shutdown-delay-duration": "8s"}
"""Flags that every API server gets unless the user gives them another value.

An API server that is told to stop turns unready at once (kubernetes #88911) but serves on for this long, so that
every balancer has taken it out before it closes its port. A balancer needs Check.slowest_leave() for that; kubelet gives
a static pod 30 s to end, and what is left of them is for requests that are still being answered.
"""

_PER_HOST_ARGUMENTS: dict[str, frozenset[str]] = {
    "apiserver_extra_args": frozenset({"advertise-address", "secure-port"}),
    "etcd_extra_args": frozenset(
        {
            "advertise-client-urls",
            "data-dir",
            "initial-advertise-peer-urls",
            "initial-cluster",
            "initial-cluster-state",
            "listen-client-urls",
            "listen-peer-urls",
            "name",
        }
    ),
    "controller_manager_extra_args": frozenset(),
    "scheduler_extra_args": frozenset(),
}

DUAL_STACK_GATE = "IPv6DualStack"
NFTABLES_GATE = "NFTablesProxyMode"

_ETCD_PATCH: Document = {
    "spec": {
        "containers": [
            {
                "name": "etcd",
                "resources": {"requests": {"ephemeral-storage": None}},
                "startupProbe": {"initialDelaySeconds": 1, "periodSeconds": 1, "failureThreshold": 600},
            }
        ]
    }
}


class KubeadmConfigError(ValueError):
    """Everything that is wrong with the configuration."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(str(problem) for problem in self.problems))


def init_documents(plan: Mapping[str, Any], node: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Document]:
    """The documents of C(kubeadm init) on the first control plane."""
    version, api, options = _prepare(plan, settings)
    first = {
        "apiVersion": api,
        "kind": "InitConfiguration",
        "nodeRegistration": _node_registration(node, version, options),
        "localAPIEndpoint": _local_endpoint(plan, node),
    }
    first.update(_patches_field(version, options))
    first.update(_timeouts_field(version, options))
    documents = [
        first,
        _cluster(plan, version, options),
        _kubelet(plan, options),
        _kube_proxy(plan, version, options),
    ]
    return _checked(documents, version)


def join_documents(plan: Mapping[str, Any], node: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Document]:
    """The document of C(kubeadm join), for a control plane or a worker, still without its credentials."""
    version, api, options = _prepare(plan, settings)
    join: Document = {
        "apiVersion": api,
        "kind": "JoinConfiguration",
        "nodeRegistration": _node_registration(node, version, options),
        "discovery": {},
    }
    if node["role"] == "control_plane":
        join["controlPlane"] = {"localAPIEndpoint": _local_endpoint(plan, node)}
    join.update(_patches_field(version, options))
    join.update(_timeouts_field(version, options))
    return _checked([join], version)


def problems_of(plan: Mapping[str, Any], version: str, settings: Mapping[str, Any]) -> list[Problem]:
    """What the roles would refuse when they build the documents; the settings alone while the plan is not whole."""
    try:
        _prepare({**plan, "kubernetes_version": version}, settings)
        whole = plan and all(name in plan["hosts"] for name in (*plan["control_plane"], *plan["workers"]))
        if whole:
            hosts = plan["hosts"]
            init_documents(plan, hosts[plan["first_control_plane"]], settings)
            for node in hosts.values():
                join_documents(plan, node, {"ignore_preflight_errors": settings.get("ignore_preflight_errors", [])})
    except KubeadmConfigError as error:
        return error.problems
    return []


def default_patches() -> dict[str, str]:
    """Patches every cluster gets: file name to content.

    etcd gets no request of ephemeral storage, for a kubelet that does not know its disk yet can refuse the pod for
    ever; and its startup probe looks every second instead of every ten, for the next member waits for it. etcd may
    take ten minutes to start.
    """
    return {"etcd+strategic.json": json.dumps(_ETCD_PATCH, indent=2, sort_keys=True) + "\n"}


def with_init_secrets(documents: Sequence[Document], token: str, ttl: str, certificate_key: str) -> list[Document]:
    """The documents of an init that also makes the token and the uploaded certificates the joining hosts need."""
    return [
        {**document, "bootstrapTokens": [{"token": token, "ttl": ttl}], "certificateKey": certificate_key}
        if document["kind"] == "InitConfiguration"
        else dict(document)
        for document in documents
    ]


def with_image_repository(documents: Sequence[Document], repository: str) -> list[Document]:
    """The documents with the repository the bundle's images are named after, where the user chose none."""
    return [
        {"imageRepository": repository, **document}
        if repository and document["kind"] == "ClusterConfiguration"
        else dict(document)
        for document in documents
    ]


def without_image_check(documents: Sequence[Document]) -> list[Document]:
    """The documents of a control plane whose images cannot all be had: kubeadm's check of that only warns.

    Workers have no such check.
    """
    checked = []
    for document in documents:
        document = dict(document)
        if document["kind"] == "InitConfiguration" or "controlPlane" in document:
            registration = document["nodeRegistration"]
            ignored = registration.get("ignorePreflightErrors") or []
            if not {"all", "imagepull"} & {str(name).lower() for name in ignored}:
                registration = {**registration, "ignorePreflightErrors": [*ignored, "ImagePull"]}
            document["nodeRegistration"] = registration
        checked.append(document)
    return checked


def with_join_secrets(
    documents: Sequence[Document], token: str, certificate_key: str, kubeconfig_path: str
) -> list[Document]:
    """The documents of a join with its token, the key of the uploaded certificates and the discovery file."""
    merged = []
    for document in documents:
        document = dict(document)
        if document["kind"] == "JoinConfiguration":
            document["discovery"] = {
                **document.get("discovery", {}),
                "file": {"kubeConfigPath": kubeconfig_path},
                "tlsBootstrapToken": token,
            }
            if "controlPlane" in document:
                document["controlPlane"] = {**document["controlPlane"], "certificateKey": certificate_key}
        merged.append(document)
    return merged


def discovery_kubeconfig(server: str, ca_certificate: str) -> str:
    """A kubeconfig that holds nothing but where the API server is and which authority signs for it."""
    authority = base64.b64encode(ca_certificate.encode()).decode()
    return (
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [
                    {"name": "", "cluster": {"server": server, "certificate-authority-data": authority}},
                ],
                "contexts": [],
                "current-context": "",
                "users": [],
                "preferences": {},
            },
            indent=2,
        )
        + "\n"
    )


def render(documents: Sequence[Document]) -> str:
    """The documents as one file. JSON is YAML, and needs no library on the host."""
    return "---\n".join(json.dumps(document, indent=2, sort_keys=True) + "\n" for document in documents)


def check(documents: Sequence[Mapping[str, Any]], version: Version) -> list[Problem]:
    """All problems of all documents, with the kind of the document at the head of each path."""
    return [problem for document in documents for problem in check_document(document, version)]


def joiners(plan: Mapping[str, Any], host_facts: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """Which hosts of the plan still have to join, as far as their facts are known.

    host_facts maps inventory names to what C(network_facts) found; a host without facts is not part of this run.
    """
    waiting = [
        name
        for name in [*plan["control_plane"], *plan["workers"]]
        if name != plan["first_control_plane"]
        and name in host_facts
        and host_facts[name].get("kubernetes") is not None
        and not host_facts[name]["kubernetes"].get("member")
    ]
    return {
        "control_plane": [name for name in waiting if name in plan["control_plane"]],
        "workers": [name for name in waiting if name not in plan["control_plane"]],
    }


def _prepare(plan: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[Version, str, dict[str, Any]]:
    try:
        version = parse_supported(str(plan["kubernetes_version"]))
    except VersionError as error:
        raise KubeadmConfigError([Problem("kubernetes_version", str(error), "")]) from error
    problems = [
        Problem(name, "not a setting", "known: " + ", ".join(DEFAULT_SETTINGS))
        for name in settings
        if name not in DEFAULT_SETTINGS
    ]
    options = {name: settings.get(name, default) for name, default in DEFAULT_SETTINGS.items()}
    for name in _PER_HOST_ARGUMENTS:
        problems += _check_arguments(options[name], name, version)
    problems += check_fields(options["kubelet_config"], KUBELET_API, "KubeletConfiguration", version, "kubelet_config")
    problems += check_fields(
        options["kube_proxy_config"], KUBE_PROXY_API, "KubeProxyConfiguration", version, "kube_proxy_config"
    )
    problems += _lost_gate(plan, options, version)
    seconds = options["control_plane_timeout"]
    if isinstance(seconds, bool) or not isinstance(seconds, int) or seconds < 1:
        problems.append(Problem("control_plane_timeout", f"{seconds!r} is not a whole number of seconds", ""))
    if problems:
        raise KubeadmConfigError(problems)
    options["ignore_preflight_errors"] = [*options["ignore_preflight_errors"], *taken_port(plan.get("apiserver") or {})]
    options["apiserver_extra_args"] = {**sharing_arguments(version[:2]), **options["apiserver_extra_args"]}
    return version, "kubeadm.k8s.io/" + kubeadm_api(version), options


def _lost_gate(plan: Mapping[str, Any], options: Mapping[str, Any], version: Version) -> list[Problem]:
    """Gates of the user's own, which take the place of the one that kubeadm passes on for two families."""
    if not _needs_gate(plan, version):
        return []
    return [
        Problem(
            f"{setting}.feature-gates",
            f"'{options[setting]['feature-gates']}' takes the place of {DUAL_STACK_GATE}=true, which two families need "
            f"in Kubernetes {version}",
            f"add {DUAL_STACK_GATE}=true to it",
        )
        for setting in ("apiserver_extra_args", "controller_manager_extra_args")
        if isinstance(options[setting], Mapping)
        and "feature-gates" in options[setting]
        and f"{DUAL_STACK_GATE}=true" not in str(options[setting]["feature-gates"])
    ]


def _check_arguments(arguments: Any, setting: str, version: Version) -> list[Problem]:
    if not isinstance(arguments, Mapping):
        return [Problem(setting, f"{arguments!r} is not a mapping", "write it as flag: value")]
    problems = []
    for name, value in arguments.items():
        path = f"{setting}.{name}"
        if not isinstance(name, str) or not name or name.startswith("-") or "=" in name:
            problems.append(Problem(path, "not the name of a flag", "write it without the leading dashes"))
        elif name in _PER_HOST_ARGUMENTS[setting]:
            problems.append(
                Problem(
                    path,
                    "differs from host to host, but this setting goes to all control planes alike",
                    "leave it out: kubeadm sets it from the host's cluster address",
                )
            )
        elif setting == "apiserver_extra_args" and name == "anonymous-auth" and _is_off(value):
            problems.append(
                Problem(
                    path,
                    "is off, and then /readyz answers nobody who has no credentials (401): the balancer's health checks "
                    "and kubeadm's would never find a healthy API server",
                    "leave it out. What anonymous requests may see is the business of RBAC; from Kubernetes 1.32 on an "
                    "AuthenticationConfiguration can allow them for /livez, /readyz and /healthz only",
                )
            )
        if isinstance(value, (list, tuple)):
            if not version.at_least(1, 31):
                problems.append(Problem(path, "a list", "a flag can be repeated only from Kubernetes 1.31 on"))
            problems += [
                Problem(f"{path}[{number}]", f"{item!r} is not a value of a flag", "write a string")
                for number, item in enumerate(value)
                if not isinstance(item, (str, int, float))
            ]
        elif not isinstance(value, (str, int, float)):
            problems.append(Problem(path, f"{value!r} is not a value of a flag", "write a string"))
    return problems


def _is_off(value: Any) -> bool:
    """Whether a flag's value, or the last of its values, is what Go reads as false."""
    last = value[-1] if isinstance(value, (list, tuple)) and value else value
    return str(last) in ("0", "f", "F", "false", "FALSE", "False")


def _argument_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _arguments(arguments: Mapping[str, Any], version: Version) -> dict[str, str] | list[dict[str, str]]:
    """Flags in the form of the release: a map up to v1beta3, a list of name and value from v1beta4 on."""
    if not version.at_least(1, 31):
        return {str(name): _argument_value(arguments[name]) for name in sorted(arguments)}
    return [
        {"name": str(name), "value": _argument_value(value)}
        for name in sorted(arguments)
        for value in (arguments[name] if isinstance(arguments[name], (list, tuple)) else [arguments[name]])
    ]


def _node_registration(node: Mapping[str, Any], version: Version, options: Mapping[str, Any]) -> Document:
    registration: Document = {
        "name": str(node["node_name"]),
        "criSocket": str(options["cri_socket"]),
        "kubeletExtraArgs": _arguments({"node-ip": _node_ip(node)}, version),
    }
    if options["ignore_preflight_errors"]:
        registration["ignorePreflightErrors"] = [str(name) for name in options["ignore_preflight_errors"]]
    if node["role"] == "control_plane" and node.get("schedulable"):
        registration["taints"] = []
    return registration


def _node_ip(node: Mapping[str, Any]) -> str:
    """One address, or since 1.20 one of each family, the primary one first (cmd/kubelet/app/server.go)."""
    return ",".join(str(address) for address in node.get("addresses") or [node["address"]])


def _dual_stack(plan: Mapping[str, Any]) -> bool:
    return "," in str(plan.get("pod_cidr") or "")


def _needs_gate(plan: Mapping[str, Any], version: Version) -> bool:
    """Whether two families have to be switched on: beta and on by default since 1.21, and gone as a gate since 1.24.

    kubeadm passes its own gate on to every component (cmd/kubeadm/app/phases/controlplane, componentconfigs).
    """
    return _dual_stack(plan) and not version.at_least(1, 21)


def _local_endpoint(plan: Mapping[str, Any], node: Mapping[str, Any]) -> Document:
    return {"advertiseAddress": str(node["address"]), "bindPort": int(plan["apiserver"]["port"])}


def _patches_field(version: Version, options: Mapping[str, Any]) -> Document:
    directory = str(options["patches_directory"])
    return {"patches": {"directory": directory}} if directory and version.at_least(1, 22) else {}


def _timeouts_field(version: Version, options: Mapping[str, Any]) -> Document:
    seconds = f"{options['control_plane_timeout']}s"
    return {"timeouts": {"controlPlaneComponentHealthCheck": seconds}} if version.at_least(1, 31) else {}


def _cluster(plan: Mapping[str, Any], version: Version, options: Mapping[str, Any]) -> Document:
    server: Document = {"certSANs": _sans(plan)}
    document: Document = {
        "apiVersion": "kubeadm.k8s.io/" + kubeadm_api(version),
        "kind": "ClusterConfiguration",
        "kubernetesVersion": str(version),
        "controlPlaneEndpoint": str(plan["apiserver"]["endpoint"]),
        "apiServer": server,
        "networking": {
            "podSubnet": str(plan["pod_cidr"]),
            "serviceSubnet": str(plan["service_cidr"]),
            "dnsDomain": str(plan["dns_domain"]),
        },
    }
    if not version.at_least(1, 31):
        server["timeoutForControlPlane"] = f"{options['control_plane_timeout']}s"
    if _needs_gate(plan, version):
        document["featureGates"] = {DUAL_STACK_GATE: True}
    if options["image_repository"]:
        document["imageRepository"] = str(options["image_repository"])
    server["extraArgs"] = _arguments({**DEFAULT_APISERVER_ARGUMENTS, **options["apiserver_extra_args"]}, version)
    for field, setting in (
        ("controllerManager", "controller_manager_extra_args"),
        ("scheduler", "scheduler_extra_args"),
    ):
        if options[setting]:
            document[field] = {"extraArgs": _arguments(options[setting], version)}
    local: Document = {"dataDir": "/var/lib/etcd"}
    if options["etcd_extra_args"]:
        local["extraArgs"] = _arguments(options["etcd_extra_args"], version)
    document["etcd"] = {"local": local}
    return document


def _sans(plan: Mapping[str, Any]) -> list[str]:
    """The API server's names and addresses, each once: by which anybody may reach it, from any control plane."""
    server = plan["apiserver"]
    addresses = [plan["hosts"][name]["address"] for name in plan["control_plane"]]
    names = [server["name"], server["vip"], "127.0.0.1", *addresses, *server.get("sans", [])]
    return list(dict.fromkeys(str(name) for name in names if name))


def _kubelet(plan: Mapping[str, Any], options: Mapping[str, Any]) -> Document:
    document: Document = {
        "apiVersion": KUBELET_API,
        "kind": "KubeletConfiguration",
        "cgroupDriver": "systemd",
        "clusterDomain": str(plan["dns_domain"]),
    }
    if plan.get("dns_address"):
        document["clusterDNS"] = [str(plan["dns_address"])]
    return _merged(document, options["kubelet_config"])


def _kube_proxy(plan: Mapping[str, Any], version: Version, options: Mapping[str, Any]) -> Document:
    proxy = plan["kube_proxy"]
    document: Document = {
        "apiVersion": KUBE_PROXY_API,
        "kind": "KubeProxyConfiguration",
        "mode": str(proxy["mode"]),
        "clusterCIDR": str(plan["pod_cidr"]),
    }
    if proxy["mode"] == "nftables" and nftables_proxy_gate(version):
        document["featureGates"] = {NFTABLES_GATE: True}
    document = _merged(document, options["kube_proxy_config"])
    excludes = [str(cidr) for cidr in proxy.get("exclude_cidrs") or []]
    if excludes:
        ipvs = dict(document.get("ipvs", {}))
        ipvs["excludeCIDRs"] = list(dict.fromkeys([*excludes, *ipvs.get("excludeCIDRs", [])]))
        document["ipvs"] = ipvs
    return document


def _merged(base: Mapping[str, Any], override: Mapping[str, Any]) -> Document:
    """The base with the override's fields, mappings merged field by field, everything else replaced."""
    merged = dict(base)
    for name, value in override.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _checked(documents: list[Document], version: Version) -> list[Document]:
    plain: list[Document] = [_plain(document) for document in documents]
    problems = check(plain, version)
    if problems:
        raise KubeadmConfigError(problems)
    return plain


def _plain(value: Any) -> Any:
    """Ordinary containers and strings, whatever kind of container the caller's data came in."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, str) else value
