# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which other hosts a host tries: all of them, or in a large cluster a sample that leaves nobody and no network out.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. Each host works out
its own part by itself, and all parts together keep these promises, whatever order the hosts come in:

- up to ALL_PAIRS hosts each tries every other one;
- above, each host tries at least LEAST others and is tried by at least LEAST others;
- from each group of hosts to each, also within a group of several, at least one host tries one of the other;
- the same hosts give the same sample.
"""

from __future__ import annotations

from collections.abc import Mapping

ALL_PAIRS = 200
LEAST = 8


def sampled(hosts: int) -> bool:
    """Whether so many hosts are too many for all pairs."""
    return hosts > ALL_PAIRS


def sample(groups: Mapping[str, str], name: str) -> list[str]:
    """Those that this host tries, sorted. Groups tell each host's subnet, rack or whatever its way depends on."""
    if not sampled(len(groups)):
        return sorted(other for other in groups if other != name)
    ring = sorted(groups, key=lambda host: (groups[host], host))
    members: dict[str, list[str]] = {}
    for host in ring:
        members.setdefault(groups[host], []).append(host)
    # Neighbours of the ring, and those one, two … eighths of the ring further: each host also is so far from as many.
    place = ring.index(name)
    chosen = {ring[(place + part * len(ring) // LEAST + 1) % len(ring)] for part in range(LEAST)}
    # A group's members share the other groups among themselves, and so do those who are tried there.
    order = sorted(members)
    mine = members[groups[name]]
    turn, number = mine.index(name), order.index(groups[name])
    for position in range(turn, len(order), len(mine)):
        theirs = members[order[position]]
        chosen.add(theirs[number % len(theirs)])
    return sorted(chosen - {name})
