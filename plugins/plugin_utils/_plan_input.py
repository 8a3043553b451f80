# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""Reads what the plan needs from the inventory: hosts, variables, facts and the bundle."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleError

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import Bundle, Host
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import RULES
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import read_manifest, sha256_of
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_source import is_url, locate

Hostvars = t.Mapping[str, t.Mapping[str, t.Any]]
PER_HOST = "cluster_network"
SILENT = "waiting for privilege escalation prompt"


class Inventory(t.NamedTuple):
    hosts: list[Host]
    variables: dict[str, dict[str, t.Any]]
    findings: list[Finding]


def read_inventory(
    hostvars: Hostvars,
    control_plane: t.Sequence[str],
    nodes: t.Sequence[str],
    facts_result: str = "",
    *,
    in_run: t.Sequence[str] | None = None,
    others: t.Sequence[t.Mapping[str, t.Any]] = (),
) -> Inventory:
    """Hosts of both groups in the inventory's order, with their variables templated for each of them.

    in_run names the hosts of the play, all if it is not told. The others' facts are in the results of a looped task.
    """
    names = list(dict.fromkeys([*control_plane, *nodes]))
    outside = {str(result.get("item")): result for result in others if not result.get("skipped")}
    masters, workers = set(control_plane), set(nodes)
    hosts: list[Host] = []
    variables: dict[str, dict[str, t.Any]] = {}
    findings: list[Finding] = []
    for position, name in enumerate(names):
        mine = hostvars[name]
        values: dict[str, t.Any] = {}
        for variable in (PER_HOST, *RULES):
            try:
                values[variable] = plain(mine.get(variable))
            except AnsibleError as problem:
                findings.append(
                    Finding(
                        "error",
                        name,
                        variable,
                        f"its template fails: {problem.message}",
                        "The plan needs its value.",
                        "Correct the template, or the variable that it uses.",
                    )
                )
        network = values.pop(PER_HOST, None)
        variables[name] = values
        result = outside.get(name) or (mine.get(facts_result) if facts_result else None)
        facts = facts_of(outside.get(name) or {}) or facts_of(mine)
        hosts.append(
            Host(
                name=name,
                position=position,
                control_plane=name in masters,
                worker=name in workers,
                facts=facts,
                trouble="" if facts is not None else trouble_of(result, mine.get("ansible_host")),
                cluster_network=network,
                in_run=in_run is None or name in in_run,
            )
        )
    return Inventory(hosts, variables, findings)


def facts_of(variables: t.Mapping[str, t.Any]) -> dict[str, t.Any] | None:
    """The host's network facts, if it has any."""
    facts = (variables.get("ansible_facts") or {}).get("multinic")
    return plain(facts) if facts else None


def trouble_of(result: t.Any, address: t.Any = None) -> str:
    """Why a host's task brought nothing, from its registered result and the address Ansible has for it."""
    result = plain(result) if result else {}
    told = " ".join(str(result.get(key) or "").strip() for key in ("msg", "module_stderr")).strip()
    told = told.removeprefix("Task failed: ")
    if SILENT in told:
        # Over a connection that is there already, a host that has died shows only like this.
        told = f"it went silent, or its sudo waits for something ({told.rstrip(':')})"
    if result.get("unreachable"):
        return f"it cannot be reached{f' at {address}' if address else ''}: {told}"
    if result.get("skipped"):
        return ""
    return told


def failed(result: t.Any) -> bool:
    """True for a result of a task that could not do its work, also where failed_when let it pass."""
    result = plain(result) if result else {}
    return bool(result.get("unreachable") or result.get("failed") or result.get("rc") or "exception" in result)


def read_bundle(bundle: t.Any, sha256: t.Any) -> Bundle | None:
    """The bundle's manifest and sum. A URL is downloaded into the cache first; its sum is checked on the way."""
    if not isinstance(bundle, str) or not bundle.strip():
        return None
    bundle, sha256 = bundle.strip(), str(sha256 or "").strip()
    try:
        found = locate(bundle, sha256, verify=is_url(bundle))
        return Bundle(bundle, read_manifest(found.path), sha256_of(found.path), found.sha256)
    except BundleError as problem:
        return Bundle(bundle, trouble=str(problem))
