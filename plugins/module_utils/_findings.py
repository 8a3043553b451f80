# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings of the plan and the proof, and the one function that renders them.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Optional

SEVERITIES = ("error", "warning", "info")
WIDTH = 110


@dataclass(frozen=True)
class Finding:
    """One thing that was found: where, what, why it matters, what to do."""

    severity: str
    host: str
    variable: str
    found: str
    why: str
    remedy: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Finding:
        return cls(**{name: str(data.get(name) or "") for name in cls.__dataclass_fields__})


@dataclass
class Findings:
    """Collects findings, so that all of them are told at once."""

    items: list[Finding] = field(default_factory=list)

    def error(self, host: str, variable: str, found: str, why: str, remedy: str) -> None:
        self.items.append(Finding("error", host, variable, found, why, remedy))

    def warning(self, host: str, variable: str, found: str, why: str, remedy: str) -> None:
        self.items.append(Finding("warning", host, variable, found, why, remedy))

    def info(self, host: str, variable: str, found: str, why: str, remedy: str = "") -> None:
        self.items.append(Finding("info", host, variable, found, why, remedy))

    def extend(self, findings: Iterable[Finding]) -> None:
        self.items.extend(findings)


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """Errors first, then by what they are about, then by host; equal ones once."""
    unique = dict.fromkeys(findings)
    return sorted(
        unique, key=lambda item: (SEVERITIES.index(item.severity), item.variable, item.why, item.host, item.found)
    )


def count(findings: Iterable[Finding]) -> dict[str, int]:
    numbers = dict.fromkeys(SEVERITIES, 0)
    for item in findings:
        numbers[item.severity] += 1
    return numbers


def headline(findings: Sequence[Finding]) -> str:
    """'2 errors, 1 warning', or 'all checks passed'."""
    numbers = count(findings)
    told = [
        f"{numbers[severity]} {severity}{'' if numbers[severity] == 1 else 's'}"
        for severity in ("error", "warning")
        if numbers[severity]
    ]
    return ", ".join(told) or "all checks passed"


TITLES = {
    "error": "ERRORS: nothing has been changed on any host",
    "warning": "WARNINGS",
    "info": "GOOD TO KNOW",
}


def render(findings: Iterable[Finding], titles: Optional[Mapping[str, str]] = None) -> str:
    """The findings as text. Hosts with the same trouble share one paragraph. Titles may be others than the preflight's."""
    titles = {**TITLES, **(titles or {})}
    groups: dict[tuple[str, str, str, str], list[Finding]] = {}
    for item in ordered(findings):
        groups.setdefault((item.severity, item.variable, item.why, item.remedy), []).append(item)
    lines: list[str] = []
    for severity in SEVERITIES:
        mine = [(key, items) for key, items in groups.items() if key[0] == severity]
        if mine:
            lines += ["", titles[severity]]
        for number, ((_severity, variable, why, remedy), items) in enumerate(mine, 1):
            lines += _paragraph(number, variable, why, remedy, items)
    return "\n".join(lines).strip("\n")


def _paragraph(number: int, variable: str, why: str, remedy: str, items: Sequence[Finding]) -> list[str]:
    hosts = list(dict.fromkeys(item.host for item in items if item.host))
    head = ": ".join(part for part in (", ".join(hosts) or "the cluster", variable) if part)
    lines = _wrapped(f"{number:>3}. ", head, "     ")
    if len({item.found for item in items}) == 1:
        lines += _wrapped("     found  ", items[0].found)
    else:
        for position, item in enumerate(items):
            lines += _wrapped("     found  " if position == 0 else "            ", f"{item.host}: {item.found}")
    if why:
        lines += _wrapped("     why    ", why)
    if remedy:
        lines += _wrapped("     do     ", remedy)
    return lines


def _wrapped(first: str, text: str, rest: str = " " * 12) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
