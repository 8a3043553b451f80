# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""Reads what the plan needs from the inventory: hosts, variables, facts and the bundle."""

from __future__ import annotations

import typing as t
from difflib import SequenceMatcher

from ansible.errors import AnsibleError

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import Finding, ordered
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import plain
from ansible_collections.multinic.kubernetes.plugins.module_utils._plan import (
    Bundle,
    Host,
    Result,
    plan_cluster,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._settings import RULES, merge_settings
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import read_manifest, sha256_of
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_source import is_url, locate

Hostvars = t.Mapping[str, t.Mapping[str, t.Any]]
PER_HOST, OUTSIDE = "cluster_network", "apiserver_outside_network"
OURS = (PER_HOST, OUTSIDE, *RULES)
ALIKE_GROUPS = 0.9
SHORTEST_NAME = 6  # names with fewer letters may be one slip away from anything
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
    meant: dict[str, str] = {}
    for position, name in enumerate(names):
        mine = hostvars[name]
        values: dict[str, t.Any] = {}
        findings += misspelt_variables(name, mine, meant)
        for variable in OURS:
            try:
                # Not get(): it takes a missing filter or lookup, which is a KeyError too, for a missing variable.
                values[variable] = plain(mine[variable]) if variable in mine else None
            except AnsibleError as problem:
                findings.append(
                    Finding(
                        "error",
                        name,
                        variable,
                        f"its template fails: {problem.message}",
                        "The plan needs its value.",
                        f"Correct the template of {variable}, or the variable that it uses.",
                    )
                )
        # The facts are asked for with these variables too, so without them there may be none.
        unread = not {PER_HOST, OUTSIDE} <= set(values)
        network = values.pop(PER_HOST, None)
        outside_network = values.pop(OUTSIDE, None)
        variables[name] = values
        result = outside.get(name) or (mine.get(facts_result) if facts_result else None)
        facts = facts_of(outside.get(name) or {}) or facts_of(mine)
        address = _address_of(mine)
        hosts.append(
            Host(
                name=name,
                position=position,
                control_plane=name in masters,
                worker=name in workers,
                facts=facts,
                trouble="" if facts is not None else trouble_of(result, address),
                cluster_network=network,
                in_run=in_run is None or name in in_run,
                ansible_host=address,
                explained=unread and not (result or {}).get("unreachable"),
                outside_network=outside_network,
            )
        )
    return Inventory(hosts, variables, findings)


def _address_of(variables: t.Mapping[str, t.Any]) -> str:
    """What Ansible has for the host's address; nothing where its template fails, which the connection tells."""
    try:
        return str(variables.get("ansible_host") or "")
    except AnsibleError:
        return ""


def plan_inventory(
    variables: t.Mapping[str, t.Any],
    control_plane_group: str = "kube_control_plane",
    node_group: str = "kube_node",
    facts_result: str = "",
    others: t.Sequence[t.Mapping[str, t.Any]] = (),
    *,
    running: bool = False,
) -> Result:
    """The plan from a task's variables, with all that was found on the way from the inventory to it.

    A cluster that is running needs no bundle.
    """
    groups = {str(name): [str(host) for host in hosts] for name, hosts in variables.get("groups", {}).items()}
    inventory = read_inventory(
        variables["hostvars"],
        groups.get(control_plane_group, ()),
        groups.get(node_group, ()),
        facts_result,
        in_run=plain(variables.get("ansible_play_hosts_all")),
        others=others,
    )
    settings, disagreements = merge_settings(inventory.variables)
    told = [*inventory.findings, *disagreements, *misspelt_groups(groups, (control_plane_group, node_group))]
    bundle = None if running else read_bundle(settings.get("bundle"), settings.get("bundle_sha256"))
    if not running and bundle is None and settings.get("kubernetes_version"):
        bundle = Bundle(trouble="it is not set")
    result = plan_cluster(
        inventory.hosts,
        settings,
        bundle,
        doubtful={finding.variable for finding in told} - {PER_HOST, OUTSIDE},
        running=running,
    )
    return Result(result.plan, ordered([*told, *result.findings]))


def misspelt_groups(groups: t.Mapping[str, t.Sequence[str]], wanted: t.Sequence[str]) -> list[Finding]:
    """A group whose name is nearly that of one that has no hosts: its hosts would silently be no part of the cluster."""
    planned = {host for name in wanted for host in groups.get(name, ())}
    findings = []
    for name in wanted:
        for other, hosts in groups.items() if not groups.get(name) else ():
            lost = [host for host in hosts if host not in planned]
            if lost and other not in wanted and SequenceMatcher(None, _spelt(other), name).ratio() >= ALIKE_GROUPS:
                findings.append(
                    Finding(
                        "error",
                        "",
                        name,
                        f"the inventory has no hosts in {name}, but {other} holds {', '.join(lost)}",
                        "Only hosts of the right groups become members of the cluster.",
                        f"Rename the group {other} to {name}.",
                    )
                )
    return findings


def misspelt_variables(host: str, names: t.Iterable[str], meant: dict[str, str]) -> list[Finding]:
    """Variables whose names are one slip away from one of ours: they would silently have no effect.

    meant is what each name was found to stand for; hosts have mostly the same.
    """
    findings = []
    for name in map(str, names):
        if name not in meant:
            near = [known for known in OURS if _nearly(name, known)]
            meant[name] = near[0] if near and name not in OURS else ""
        if meant[name]:
            findings.append(
                Finding(
                    "error",
                    host,
                    name,
                    f"there is no variable {name}, only {meant[name]}",
                    "The collection would go on as if it were not set.",
                    f"Write {meant[name]}, or give a variable of your own another name.",
                )
            )
    return findings


def _spelt(name: str) -> str:
    """A name as ours are written."""
    return name.lower().replace("-", "_")


def _nearly(text: str, known: str) -> bool:
    """Whether a text is one slip of the hand away: a letter too much, missing, wrong or swapped, or another dash."""
    text = _spelt(text)
    if text == known:
        return True
    if len(known) < SHORTEST_NAME or abs(len(text) - len(known)) > 1:
        return False
    start = next((at for at, (one, other) in enumerate(zip(text, known)) if one != other), min(len(text), len(known)))
    left, right = text[start:], known[start:]
    if len(left) == len(right):
        return left[1:] == right[1:] or (left[:2] == right[:2][::-1] and left[2:] == right[2:])
    return left[1:] == right or left == right[1:]


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
        if not sha256 and "bundle_sha256" in str(problem):
            remedy = "Set bundle_sha256 to what sha256sum prints for the bundle; its maker tells it."
            return Bundle(bundle, trouble=str(problem), variable="bundle_sha256", remedy=remedy)
        return Bundle(bundle, trouble=str(problem))
