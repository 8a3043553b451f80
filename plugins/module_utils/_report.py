# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The preflight's report as text: what will be done where, why, and what was found.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._findings import WIDTH, Finding, headline, render

ROLES = {"control_plane": "control plane", "worker": "worker"}
FEW = 12


def report_text(plan: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]], findings: Sequence[Finding]) -> str:
    """The whole report."""
    parts = [_title(plan, findings)]
    if plan.get("hosts"):
        parts += [_table(plan, facts), _cluster(plan), _reasons(plan)]
    parts.append(render(findings))
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(plan: Mapping[str, Any], findings: Sequence[Finding]) -> str:
    hosts = len(plan.get("hosts") or ())
    version = f", Kubernetes {plan['kubernetes_version']}" if plan.get("kubernetes_version") else ""
    left = f"PREFLIGHT  {hosts} host{'' if hosts == 1 else 's'} planned{version}"
    return f"{left}{headline(findings):>{max(WIDTH - len(left), 2)}}\n{'=' * WIDTH}"


def _table(plan: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [("host", "role", "card", "cluster address", "MTU", "link")]
    for name, node in plan["hosts"].items():
        role = ROLES[node["role"]]
        if node["role"] == "control_plane" and node["schedulable"]:
            role += " + worker"
        if name == plan["first_control_plane"]:
            role += " (first)"
        rows.append(
            (
                name,
                role,
                node["interface"],
                ", ".join(_with_prefix(*pair) for pair in zip(node["addresses"], node["networks"])),
                str(node["mtu"]),
                _speed(facts.get(name) or {}, node["interface"]),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def _with_prefix(address: str, network: str) -> str:
    return f"{address}/{network.rpartition('/')[2]}"


def _speed(facts: Mapping[str, Any], interface: str) -> str:
    for link in facts.get("links") or ():
        if link.get("name") == interface and link.get("speed_mbps"):
            return f"{link['speed_mbps']} Mbit/s"
    return "not told"


def _cluster(plan: Mapping[str, Any]) -> str:
    server, cni, clock = plan["apiserver"], plan["cni"], plan["time"]
    wrapped = f", {cni['encapsulation']}" if cni["encapsulation"] != "none" else ""
    method = f", method {cni['autodetection_method']}" if cni["autodetection_method"] else ""
    lines = (
        (
            "API",
            f"{server['endpoint']} is {', '.join(server['addresses']) or 'what DNS tells'} ({server['balancer']}) on every "
            "node, balanced to "
            f"{', '.join(server['real_servers'])}",
        ),
        (
            "networks",
            f"pods {plan['pod_cidr']}, services {plan['service_cidr']}, cluster DNS {plan['dns_address']} "
            f"({plan['dns_domain']})",
        ),
        ("CNI", f"{cni['name']}, MTU {cni['mtu']}{wrapped}{method}; kube-proxy in {plan['kube_proxy']['mode']} mode"),
        (
            "time",
            f"from {', '.join(clock['servers']) or 'no server'}"
            + (" (hosts of the cluster)" if clock["offline"] else ""),
        ),
    )
    return "\n".join(_item(name, text) for name, text in lines)


def _reasons(plan: Mapping[str, Any]) -> str:
    """Why: the cluster's reasons, then the hosts', those that share their reasons together."""
    lines = ["  Why"]
    lines += [_bullet(reason) for reason in plan["reasons"]]
    hosts = list(plan["hosts"].items())
    for name, node in hosts[:FEW]:
        lines.append(_bullet(f"{name}: {' '.join(node['reasons'])}"))
    if len(hosts) > FEW:
        lines.append(_bullet(f"… and {len(hosts) - FEW} more hosts; each has its reasons in the fact cluster_plan."))
    return "\n".join(lines)


def _item(name: str, text: str) -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=f"  {name:<10}", subsequent_indent=" " * 12, break_on_hyphens=False
    )


def _bullet(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
