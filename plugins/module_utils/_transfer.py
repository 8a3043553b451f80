# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which chunks the controller sends to which host, so that each leaves it once.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only. All that is known
stands in one Ledger, which the workers of a run, one for each host, read and write in turn. A worker sends its host some
chunks that nobody has and nobody else is sending; who gets which is told only then, so a fast way in carries more of
them than a slow one, and the chunks of a host that fell silent are taken over by others.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import MIB, unmask

STARTING, RECEIVING, DONE, FAILED = "starting", "receiving", "done", "failed"

MOST_FEEDERS = 6
# One call may send so much: the first one little, as the host's way in is not known. A call costs about 0.2 s of processor
# time on both ends together, so they are few.
FIRST_BATCH, LAST_BATCH, MOST_BATCH, MOST_ALONE = 4 * MIB, 4 * MIB, 16 * MIB, 64 * MIB
BATCH_SECONDS = 4.0
# What was to be sent in so many times the time it should take, and this long at least, may be sent to another host.
PATIENCE, LEAST_PATIENCE = 3.0, 5.0
# A fresh run begins when so many hosts are known to have nothing; the others are waited for only so long.
FRESH_HOSTS, FRESH_SECONDS, RESUME_SECONDS = 3, 1.0, 8.0
HEAD_START_SECONDS = 3.0
LINE_SECONDS = 5.0


@dataclass
class Host:
    """How far one host is. `have` is a mask of chunks, `rate` the bytes a second that its way in carried."""

    state: str = STARTING
    have: int = 0
    rate: float = 0.0
    sent: int = 0
    feeds: bool = False


@dataclass
class Lease:
    """A chunk that is on its way to a host, and when it may be given up."""

    host: str
    until: float


@dataclass
class Ledger:
    """What is known of a transfer. Sizes in bytes, times in seconds of a clock that all workers share."""

    sizes: list[int]
    began: float = 0.0
    hosts: dict[str, Host] = field(default_factory=dict)
    leases: dict[int, Lease] = field(default_factory=dict)
    told: float = 0.0

    @classmethod
    def new(cls, sizes: Sequence[int], hosts: Sequence[str], now: float) -> Ledger:
        return cls(list(sizes), now, {name: Host() for name in hosts}, told=now)

    @classmethod
    def read(cls, text: str) -> Ledger:
        data: Mapping[str, Any] = json.loads(text)
        hosts = {name: Host(**{**item, "have": int(item["have"], 16)}) for name, item in data["hosts"].items()}
        leases = {int(index): Lease(**item) for index, item in data["leases"].items()}
        return cls(data["sizes"], data["began"], hosts, leases, data["told"])

    def text(self) -> str:
        data = asdict(self)
        for item in data["hosts"].values():
            item["have"] = f"{item['have']:x}"
        return json.dumps(data, separators=(",", ":"))

    @property
    def everything(self) -> int:
        return (1 << len(self.sizes)) - 1

    @property
    def total(self) -> int:
        return sum(self.sizes)

    @property
    def sent(self) -> int:
        return sum(host.sent for host in self.hosts.values())

    def bytes_of(self, bits: int) -> int:
        return self.total if bits == self.everything else sum(self.sizes[index] for index in unmask(bits))

    def held(self) -> int:
        """The chunks that at least one host has which did not fail."""
        bits = 0
        for host in self.hosts.values():
            if host.state != FAILED:
                bits |= host.have
        return bits

    def report(self, name: str, have: int) -> None:
        """A host told which chunks it has. Those need not be sent to it any more."""
        host = self.hosts.setdefault(name, Host())
        host.have = have
        host.state = DONE if have == self.everything else RECEIVING
        if host.state == DONE:
            host.feeds = False
        self.leases = {
            index: lease for index, lease in self.leases.items() if lease.host != name or not have >> index & 1
        }

    def fail(self, name: str) -> None:
        """A host takes no part any more. What was on its way to it has to go to another."""
        host = self.hosts.setdefault(name, Host())
        host.state, host.feeds = FAILED, False
        self.leases = {index: lease for index, lease in self.leases.items() if lease.host != name}

    def may_begin(self, now: float, at_once: int) -> bool:
        """Whether enough is known to send the first chunk: nothing that some host has already shall travel again.

        `at_once` is how many hosts are worked on at the same time.
        """
        known = [host for host in self.hosts.values() if host.state != STARTING]
        if len(known) >= min(at_once, len(self.hosts)):
            return True
        if any(host.have for host in known):
            return now - self.began >= RESUME_SECONDS
        return len(known) >= FRESH_HOSTS or now - self.began >= FRESH_SECONDS

    def may_start(self, name: str, now: float) -> bool:
        """Whether this host's part may be started: those of a few first, so that the wire is in use while others start."""
        known = sum(host.state != STARTING for host in self.hosts.values())
        first = list(self.hosts).index(name) < FRESH_HOSTS
        return first or known >= FRESH_HOSTS or now - self.began >= HEAD_START_SECONDS

    def take(self, name: str, now: float, alone: bool = False) -> list[int]:
        """The chunks to send to this host now; nothing if others do it. `alone`: the host has no peers to get any from."""
        host = self.hosts[name]
        lacking = self.everything & ~host.have
        if not alone:
            lacking &= ~self.held()
        open_chunks = [index for index in unmask(lacking) if self._open(index, name)]
        if not open_chunks:
            # A host that is slow, or silent, has its chunks in their order: those at the end are the last to come.
            open_chunks = [index for index in reversed(unmask(lacking)) if now >= self.leases[index].until]
        feeders = sum(other.feeds for other in self.hosts.values())
        if not open_chunks or (not alone and not host.feeds and feeders >= MOST_FEEDERS):
            return []
        host.feeds = True
        many = sum(other.state in (STARTING, RECEIVING) for other in self.hosts.values()) > 1
        most = MOST_BATCH if many else MOST_ALONE
        wanted = min(most, host.rate * BATCH_SECONDS if host.rate else FIRST_BATCH)
        if many:
            # Towards the end less and less, so that all feeders end at the same time.
            wanted = min(wanted, max(LAST_BATCH, sum(self.sizes[index] for index in open_chunks) / max(1, feeders)))
        taken: list[int] = []
        size = 0
        for index in open_chunks:
            if taken and size + self.sizes[index] > wanted:
                break
            taken.append(index)
            size += self.sizes[index]
        expected = size / host.rate if host.rate else 0.0
        until = now + max(LEAST_PATIENCE, PATIENCE * expected)
        self.leases.update({index: Lease(name, until) for index in taken})
        return taken

    def _open(self, index: int, name: str) -> bool:
        return index not in self.leases or self.leases[index].host == name

    def carried(self, name: str, size: int, seconds: float) -> None:
        """So many bytes went to the host in this time."""
        host = self.hosts[name]
        host.sent += size
        if seconds > 0:
            host.rate = size / seconds

    def rest(self, name: str) -> None:
        """The host's worker has nothing to send for now; another one may."""
        self.hosts[name].feeds = False

    def over(self) -> bool:
        """Whether no host takes part any more, or may still begin to."""
        return all(host.state in (DONE, FAILED) for host in self.hosts.values())

    def line(self, now: float) -> str:
        """How far all are, for a person; "" if that was told a moment ago."""
        if now - self.told < LINE_SECONDS:
            return ""
        self.told = now
        part = sum(self.bytes_of(host.have) for host in self.hosts.values() if host.state != FAILED)
        living = [host for host in self.hosts.values() if host.state != FAILED]
        percent = 100 * part // (self.total * len(living)) if self.total and living else 100
        rate = self.sent / max(now - self.began, 0.1)
        done = sum(host.state == DONE for host in living)
        failed = len(self.hosts) - len(living)
        return (
            f"{percent} % of all hosts' bytes, {megabytes(self.sent)} sent by the controller at {megabytes(rate)}/s, "
            f"{done} of {len(self.hosts)} hosts done" + (f", {failed} failed" if failed else "")
        )


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"
