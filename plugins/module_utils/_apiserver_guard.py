# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Keeps a host's way to the API server as it was planned: the VIP's route, the virtual server, its sysctls, keepalived.

keepalived looks at the API servers, and never again at the table that it has filled; nobody looks at the route. This does,
once a second and whenever the kernel tells of a changed route or address. What is wrong is put back, and what is somebody's
wish is left alone: a unit that was stopped by systemctl, a VIP that somebody has given to a card.

What is decided is decided by pure functions: `find_faults` and `decide`. `Kernel` and `Guard` see and act. No process is
begun while all is well, but one that looks at the API servers' certificates once a minute and then ends, so that its
libraries take no memory meanwhile.

Standard library only, and no import of the collection: it is installed as a program, and runs on every host for ever.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Optional

TICK = 1.0  # seconds between two looks
DOUBT = 0.4  # seconds for which a difference in the table must last: keepalived may be changing it at this moment
ABSENT = 0.7  # seconds without a keepalived after which systemd is asked: it starts a killed one at once
SETTLE = 0.05  # seconds in which the kernel's messages that belong together arrive
SAID_AFTER = 3.0  # seconds after which something that cannot be put back is told: a flap is over by then
STARTING = 10.0  # seconds after which a keepalived that systemd keeps starting is told
FIGHT, MINUTE = 10, 60.0  # repairs of the same thing within a minute, after which somebody else wants it otherwise
FIRST_WAIT, LONGEST_WAIT = 2.0, 30.0  # seconds between two repairs then; doubled each time
CALM = 300.0  # seconds without a repair after which a clash is over
LINES, HOUR = 12, 3600.0  # lines about the same thing within an hour
ASK_AGAIN = 5.0  # seconds between two questions to systemd about a unit that is not as it should be
CERTIFICATES = 60.0  # seconds between two looks at the certificates
PATIENCE = 30.0  # seconds for a process of ours
CONNECT = 0.9  # seconds in which a server that lives takes a connection

# What systemd calls a unit that is not to run, and one that is about to stop.
STOPPED, STOPPING = frozenset(("inactive", "not-found", "masked")), "deactivating"

NOTICE, WARNING = 5, 4  # of syslog
SCHEDULER, MASQUERADE, LOCAL_NODE, WEIGHT = "rr", 0, 1, 1
UP = "up-"  # a file of this name and a server's address: keepalived holds the server for healthy

# --- what is known ----------------------------------------------------------------------------------------------------


class Settings(NamedTuple):
    """What the plan wants of this host."""

    vip: str
    port: int
    source: str  # the cluster address
    interface: str  # its card
    name: str  # the API server's, that its certificate is for
    last_resort: str  # the server that has the requests while none is healthy
    sysctls: Mapping[str, str]
    balancer_unit: str
    route_unit: str
    folder: str  # of the balancer's keepalived
    status: str  # what doctor reads
    ca: str  # of the cluster
    certificates: str  # the program that looks at certificates
    config: str  # keepalived's configuration
    first: bool = True  # of the host's VIPs, one for each family: it looks after what they share

    @property
    def at(self) -> str:
        return where(self.vip, self.port)


class Route(NamedTuple):
    """What the kernel would do with a packet to an address."""

    local: bool
    source: str
    card: str
    of_an_address: bool = False  # the kernel made it, for an address of a card


class Service(NamedTuple):
    """A virtual server in the kernel's table."""

    scheduler: str
    persistent: bool
    servers: Mapping[str, tuple[int, int]]  # address, or "address port" of another port -> forwarding method, weight


class Seen(NamedTuple):
    """One look at the host."""

    now: float  # seconds, of a clock that only goes on
    route: Optional[Route] = None
    card: str = ""  # that holds the cluster address
    others: Sequence[str] = ()  # the addresses of the planned card; only where it has lost the planned one
    process: int = 0  # keepalived's, 0: it does not run
    healthy: frozenset[str] = frozenset()  # the servers that keepalived holds for healthy
    drained: frozenset[str] = frozenset()  # the servers that shall take no new connections
    known: frozenset[str] = frozenset()  # the servers that keepalived is told of
    dead: frozenset[str] = frozenset()  # those of them that have the weight 0 and answer no connection
    probing: bool = False  # whether an answer of one of them is still awaited
    halted: Sequence[int] = ()  # processes of keepalived that were stopped by a signal
    service: Optional[Service] = None
    sysctls: Mapping[str, str] = {}
    units: Mapping[str, str] = {}  # what systemd says; only where something is missing
    failures: Mapping[str, str] = {}  # what could not be put back, and why
    certificates: Mapping[str, str] = {}  # server -> what is wrong with its certificate


class Action(NamedTuple):
    """One thing to do; `kind` is the name of the method of Kernel or Guard that does it."""

    kind: str
    words: tuple[Any, ...] = ()


class Fault(NamedTuple):
    """Something that is not as planned and can be put back."""

    thing: str
    told: str  # what is done and why
    actions: tuple[Action, ...]
    doubt: float = 0.0
    mark: tuple[Any, ...] = ()  # what exactly is wrong; the doubt begins anew when that changes


class Note(NamedTuple):
    """Something that is not put back. It is said once, and once when it is over."""

    told: str
    over: str
    after: float = SAID_AFTER


class History(NamedTuple):
    """The repairs of one thing."""

    times: tuple[float, ...] = ()  # of the last minute
    last: float = 0.0
    wait: float = 0.0  # seconds to the next repair, while somebody else wants it otherwise
    lines: int = 0
    lines_since: float = 0.0


class Memory(NamedTuple):
    """What is remembered from one look to the next; no longer than an hour, so it does not grow."""

    doubts: Mapping[str, tuple[tuple[Any, ...], float]] = {}
    histories: Mapping[str, History] = {}
    pending: Mapping[str, float] = {}  # subject of a note -> since when
    said: Mapping[str, Note] = {}


class Message(NamedTuple):
    level: int
    text: str


class Decision(NamedTuple):
    faults: tuple[Fault, ...]  # those to be put back now
    messages: tuple[Message, ...]
    memory: Memory
    doubtful: bool  # look again soon


# --- decisions --------------------------------------------------------------------------------------------------------

WHO = {
    "route": "see `ip monitor route`; a script or a daemon on this host may set a route of its own",
    "virtual server": (
        "kube-proxy in ipvs mode without the VIP in excludeCIDRs, kube-proxy in nftables mode that starts over and over, or "
        "a job that runs ipvsadm -C may do that"
    ),
    "servers": "another program that balances the same address, such as lvscare or a second keepalived, may do that",
    "sysctl": "another program sets it too; see grep -r net.ipv4.vs /etc/sysctl.d /etc/sysctl.conf /usr/lib/sysctl.d",
    "keepalived": "see who sends it signals, and journalctl",
}


def where(address: str, port: int) -> str:
    """Address and port as people write them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def end_of(server: str, port: int) -> tuple[str, int]:
    """Address and port of a server in the table; those of the plan all have one port."""
    address, _space, other = server.partition(" ")
    return address, int(other or port)


def find_faults(settings: Settings, seen: Seen) -> tuple[list[Fault], dict[str, Note]]:
    """What can be put back, and what can only be told."""
    faults: list[Fault] = []
    notes: dict[str, Note] = {}
    _judge_route(settings, seen, faults, notes)
    _judge_keepalived(settings, seen, faults, notes)
    for key, wanted in settings.sysctls.items():
        found = seen.sysctls.get(key)
        if found is not None and found != wanted:
            told = f"set {key} to {wanted}: it was {found}"
            faults.append(Fault(f"sysctl {key}", told, (Action("set_sysctl", (key, wanted)),)))
    for server, trouble in seen.certificates.items():
        notes[f"certificate {server}"] = Note(
            f"the certificate of the API server at {where(server, settings.port)} is not good for {settings.name}: "
            f"{trouble}. Clients refuse it. On its host see kubeadm certs check-expiration and the clock; kubeadm certs renew "
            "apiserver makes a new one, which kube-apiserver takes when it is restarted",
            f"the certificate of the API server at {where(server, settings.port)} is no trouble any more",
            after=0.0,
        )
    return faults, notes


def _judge_route(settings: Settings, seen: Seen, faults: list[Fault], notes: dict[str, Note]) -> None:
    vip, source, route = settings.vip, settings.source, seen.route
    if not seen.card:
        others = f"; {settings.interface} has {', '.join(seen.others)}" if seen.others else ""
        notes["address"] = Note(
            f"the cluster address {source} is on no card of this host any more{others}. The way to the API server is lost "
            "until it is back: kubelet, etcd and the certificates hold it too. If DHCP gave another one, give the card the "
            "planned one there, or let the host join anew",
            f"the cluster address {source} is back",
        )
    elif seen.card != settings.interface:
        notes["address"] = Note(
            f"the cluster address {source} is on {seen.card} now, planned {settings.interface}; the route to {vip} does not "
            "depend on the card",
            f"the cluster address {source} is on {settings.interface} again",
        )
    right = route is not None and route.local and route.card == "lo" and route.source == source
    if right or not seen.card:
        return
    if route is not None and route.of_an_address:
        notes["owner"] = Note(
            f"{vip} is an address of {route.card} now, so its route is not touched: requests have {route.source} as source "
            f"instead of {source}. If nobody wants that, remove it: ip address del {vip} dev {route.card}; a Service with this "
            "address, or a virtual IP of keepalived or kube-vip, would put it there",
            f"{vip} is on no card any more",
        )
        return
    state = seen.units.get(settings.route_unit)
    if state in STOPPED:
        notes["route unit"] = _stopped(settings.route_unit, f"the route to {vip} is not put back")
        return
    if state == STOPPING:
        return
    if route is not None and route.local and route.card == "lo":
        told = f"set the source of the route to {vip} to {source}: it was {route.source or 'none'}"
        thing = "route source"
    else:
        told = f"put the route to {vip} with the source {source} back: it was gone"
        thing = "route"
    faults.append(Fault(thing, told, (Action("set_route"),)))


def _stopped(unit: str, meanwhile: str) -> Note:
    return Note(
        f"{unit} was stopped, so {meanwhile}. It is left as somebody wanted it: systemctl start {unit} ends that",
        f"{unit} runs again",
    )


def _judge_keepalived(settings: Settings, seen: Seen, faults: list[Fault], notes: dict[str, Note]) -> None:
    unit = settings.balancer_unit
    if not settings.first and (seen.halted or not seen.process):
        return
    if not seen.process:
        state = seen.units.get(unit, "")
        if state == "failed":
            told = f"started {unit}: it had failed"
            faults.append(Fault("keepalived", told, (Action("start_unit", (unit,)),)))
        elif state in STOPPED:
            notes["balancer unit"] = _stopped(unit, f"nobody looks after {settings.at}")
        elif state:
            notes["balancer unit"] = Note(
                f"{unit} has not come up for {STARTING:g} seconds; see journalctl -u {unit}",
                f"{unit} runs again",
                after=STARTING,
            )
        return
    if seen.halted:
        told = "let keepalived go on: a signal had halted it"
        faults.append(Fault("keepalived halted", told, (Action("go_on", tuple(seen.halted)),), doubt=DOUBT))
        return
    _judge_table(settings, seen, faults, notes)


def _judge_table(settings: Settings, seen: Seen, faults: list[Fault], notes: dict[str, Note]) -> None:
    """The table against what keepalived knows. It takes out dead servers itself, so only that tells what belongs there."""
    at, service = settings.at, seen.service
    expected = seen.healthy or frozenset((settings.last_resort,))

    def fault(thing: str, told: str, *actions: Action) -> None:
        mark = (seen.process, *actions)
        faults.append(Fault(thing, told, actions, doubt=DOUBT, mark=mark))

    def named(servers: Iterable[str]) -> str:
        return ", ".join(where(*end_of(server, settings.port)) for server in sorted(servers))

    def weight(server: str) -> int:
        return 0 if server in seen.drained else WEIGHT

    if service is None:
        fault(
            "virtual server",
            f"put the virtual server {at} back, with {named(expected)}: it was gone",
            Action("add_service"),
            *(Action("add_server", (server, weight(server))) for server in sorted(expected)),
        )
        return
    if service.scheduler != SCHEDULER or service.persistent:
        was = service.scheduler + (", persistent" if service.persistent else "")
        fault(
            "virtual server settings",
            f"set the virtual server {at} to {SCHEDULER}: it was {was}",
            Action("set_service"),
        )
    # keepalived leaves an unhealthy server with the weight 0, so that requests that are under way end in peace.
    resting = {
        server
        for server, (_method, found) in service.servers.items()
        if not found and server in seen.known and server not in expected
    }
    ended = resting & seen.dead
    if ended and seen.healthy:
        faults.append(
            Fault(
                "servers dead",
                f"took {named(ended)} out of {at}: it answers no connection, and those that it had would hang",
                tuple(Action("remove_server", (server,)) for server in sorted(ended)),
            )
        )
    missing = expected - service.servers.keys()
    if missing:
        why = "keepalived holds it for healthy" if seen.healthy else "no server is healthy, and it is the last resort"
        fault(
            "servers missing",
            f"put {named(missing)} back into {at}: {why}",
            *(Action("add_server", (server, weight(server))) for server in sorted(missing)),
        )
    foreign = service.servers.keys() - expected - resting
    if foreign and seen.healthy:
        fault(
            "servers foreign",
            f"took {named(foreign)} out of {at}: keepalived does not hold it for a healthy API server",
            *(Action("remove_server", (server,)) for server in sorted(foreign)),
        )
    elif foreign:
        notes["foreign servers"] = Note(
            f"keepalived knows of no healthy server, but {named(foreign)} is in {at}; it is left there, since something is "
            "better than nothing",
            f"the servers in {at} are those that keepalived knows",
        )
    altered = [
        server
        for server, (method, found) in sorted(service.servers.items())
        if server in expected and (method not in (MASQUERADE, LOCAL_NODE) or found != weight(server))
    ]
    if altered:
        weights = " and ".join(str(some) for some in sorted({weight(server) for server in altered}))
        fault(
            "servers altered",
            f"set {named(altered)} in {at} to masquerading with the weight {weights}: somebody had altered it",
            *(Action("set_server", (server, weight(server))) for server in altered),
        )


def decide(settings: Settings, seen: Seen, memory: Memory) -> Decision:
    """What is done and said now. A thing that is changed back again and again is left alone for longer and longer."""
    faults, notes = find_faults(settings, seen)
    now = seen.now
    messages: list[Message] = []
    doubts: dict[str, tuple[tuple[Any, ...], float]] = {}
    histories = dict(memory.histories)
    act: list[Fault] = []
    doubtful = False
    for fault in faults:
        known = memory.doubts.get(fault.thing)
        since = known[1] if known is not None and known[0] == fault.mark else now
        doubts[fault.thing] = (fault.mark, since)
        if now - since < fault.doubt:
            doubtful = True
            continue
        history = histories.get(fault.thing, History(lines_since=now))
        trouble = seen.failures.get(fault.thing)
        if trouble:
            notes[f"failure {fault.thing}"] = Note(
                f"could not do this: {fault.told}. {trouble}; it is tried again",
                f"it could be done at last: {fault.told}",
            )
        if now - history.last < max(history.wait, TICK if trouble else 0.0):
            continue
        act.append(fault)
        histories[fault.thing], said = _remember(history, fault, now, bool(trouble))
        messages += said
    for thing, history in memory.histories.items():
        if thing in doubts:
            continue
        if history.wait and now - history.last > CALM:
            messages.append(Message(NOTICE, f"{thing}: it has stayed as planned for {CALM / MINUTE:g} minutes"))
            histories[thing] = history._replace(wait=0.0, times=())
        elif not history.wait and now - history.last > HOUR:
            del histories[thing]
    pending, said_now, more = _tell(notes, memory, now)
    messages += more
    unknown = not seen.process and settings.balancer_unit not in seen.units
    doubtful = doubtful or unknown or seen.probing or STOPPING in seen.units.values()
    return Decision(tuple(act), tuple(messages), Memory(doubts, histories, pending, said_now), doubtful)


def _remember(history: History, fault: Fault, now: float, failing: bool) -> tuple[History, list[Message]]:
    """The history with one more repair, and what is said of it."""
    if failing:  # nobody else is to blame, and a note tells of it
        return history._replace(last=now), []
    times = (*(moment for moment in history.times if now - moment < MINUTE), now)[-FIGHT:]
    lines, since = (0, now) if now - history.lines_since > HOUR else (history.lines, history.lines_since)
    if history.wait:
        return History(times, now, min(history.wait * 2, LONGEST_WAIT), lines, since), []
    who = next((hint for start, hint in WHO.items() if fault.thing.startswith(start)), "")
    if len(times) >= FIGHT:
        text = (
            f"{fault.told}. That was the {FIGHT}th time within a minute: somebody else wants it otherwise. From now on it is put "
            f"back less and less often, every {LONGEST_WAIT:g} seconds at last, without another word; {who}"
        )
        return History(times, now, FIRST_WAIT, lines, since), [Message(WARNING, text)]
    said = []
    if lines + 1 < LINES:
        said = [Message(NOTICE, fault.told)]
    elif lines + 1 == LINES:
        said = [Message(WARNING, f"{fault.told}. That was the {LINES}th time; no more of it for an hour; {who}")]
    return History(times, now, 0.0, lines + 1, since), said


def _tell(
    notes: Mapping[str, Note], memory: Memory, now: float
) -> tuple[dict[str, float], dict[str, Note], list[Message]]:
    """Since when each note holds, those that were said, and what is said now."""
    messages = []
    pending = {subject: memory.pending.get(subject, now) for subject in notes}
    said = {}
    for subject, note in notes.items():
        before = memory.said.get(subject)
        if before is not None and before.told == note.told:
            said[subject] = note
        elif before is not None or now - pending[subject] >= note.after:
            said[subject] = note
            messages.append(Message(WARNING, note.told))
    for subject, note in memory.said.items():
        if subject not in notes:
            messages.append(Message(NOTICE, note.over))
    return pending, said, messages


# --- the kernel, by netlink -------------------------------------------------------------------------------------------

REQUEST, ACK, DUMP, REPLACE, CREATE = 0x1, 0x4, 0x300, 0x100, 0x400
ERROR, DONE = 2, 3
GETADDR, NEWROUTE, DELROUTE, GETROUTE = 22, 24, 25, 26
RTA_DST, RTA_OIF, RTA_PREFSRC = 1, 4, 7
IFA_ADDRESS, IFA_LOCAL = 1, 2
FIB_MATCH = 0x2000  # the entry of the routing table itself, not what was made of it
TABLE_LOCAL, TYPE_LOCAL, PROTOCOL_KERNEL, PROTOCOL_BOOT, SCOPE_HOST, SCOPE_NOWHERE = 255, 2, 2, 3, 254, 255
# Changed routes and addresses of IPv4 and IPv6.
GROUPS = 0x10 | 0x40 | 0x100 | 0x400
NETLINK_GENERIC = 16
CONTROL, GET_FAMILY, FAMILY_ID, FAMILY_NAME = 16, 3, 1, 2
# linux/ip_vs.h: IPVS_CMD_*, IPVS_CMD_ATTR_*, IPVS_SVC_ATTR_*, IPVS_DEST_ATTR_*
NEW_SERVICE, SET_SERVICE, GET_SERVICE, NEW_DEST, SET_DEST, DEL_DEST, GET_DEST = 1, 2, 4, 5, 6, 7, 8
SERVICE, DEST = 1, 2
AF, PROTOCOL, ADDR, PORT, SCHED_NAME, FLAGS, TIMEOUT, NETMASK = 1, 2, 3, 4, 6, 7, 8, 9
DEST_ADDR, DEST_PORT, FWD_METHOD, DEST_WEIGHT, UPPER, LOWER = 1, 2, 3, 4, 5, 6
PERSISTENT, FORWARD_MASK, NESTED = 0x1, 0x7, 0x8000


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", len(data) + 4, kind) + data + bytes(-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """Kind to content; the flags of the kind are dropped."""
    found = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return found


class RefusedError(OSError):
    """The kernel's answer to a request."""


class Netlink:
    """Requests to one family of the kernel's, one after the other."""

    def __init__(self, protocol: int) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self.socket.bind((0, 0))
        self.socket.settimeout(2.0)
        self.sequence = 0

    def ask(self, kind: int, flags: int, payload: bytes) -> list[bytes]:
        """The payloads of the answer; RefusedError with the kernel's errno."""
        self.sequence += 1
        self.socket.send(struct.pack("=IHHII", 16 + len(payload), kind, flags | REQUEST, self.sequence, 0) + payload)
        answers: list[bytes] = []
        while True:
            data = self.socket.recv(65536)
            at = 0
            while at + 16 <= len(data):
                length, answer, _flags, sequence, _port = struct.unpack_from("=IHHII", data, at)
                body = data[at + 16 : at + length]
                at += max(16, (length + 3) & ~3)
                if sequence != self.sequence:
                    continue  # of a request that was given up
                if answer == ERROR:
                    code = -struct.unpack_from("=i", body)[0]
                    if code:
                        raise RefusedError(code, os.strerror(code))
                    return answers
                if answer == DONE:
                    return answers
                answers.append(body)
            if answers and not flags & (DUMP | ACK):
                return answers


class Kernel:
    """Sees and sets routes and the table of virtual servers, of one VIP. It begins no process."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.family = socket.AF_INET6 if ":" in settings.vip else socket.AF_INET
        self.vip = self.packed(settings.vip)
        self.routes = Netlink(socket.NETLINK_ROUTE)
        self.tables = Netlink(NETLINK_GENERIC)
        self.ipvs = 0

    def packed(self, address: str) -> bytes:
        return socket.inet_pton(self.family, address)

    def text(self, address: bytes) -> str:
        return socket.inet_ntop(self.family, address[: 16 if self.family == socket.AF_INET6 else 4])

    # -- routes and addresses --

    def route_message(self, table: int, protocol: int, scope: int, kind: int, flags: int, address: bytes) -> bytes:
        head = struct.pack("=BBBBBBBBI", self.family, len(address) * 8, 0, 0, table, protocol, scope, kind, flags)
        return head + attribute(RTA_DST, address)

    def route(self, address: str) -> Optional[Route]:
        """The entry of the routing tables by which a packet to the address would go."""
        message = self.route_message(0, 0, 0, 0, FIB_MATCH, self.packed(address))
        try:
            answer = self.routes.ask(GETROUTE, 0, message)[0]
        except RefusedError:
            return None
        protocol, kind = answer[5], answer[7]
        found = attributes(answer[12:])
        source = self.text(found[RTA_PREFSRC]) if RTA_PREFSRC in found else ""
        card = ""
        if RTA_OIF in found:
            try:
                card = socket.if_indextoname(struct.unpack("=I", found[RTA_OIF])[0])
            except OSError:
                card = "a card that is going"
        local = kind == TYPE_LOCAL
        return Route(local, source, card, local and protocol == PROTOCOL_KERNEL)

    def set_route(self) -> None:
        """Put the VIP's route in the place of whatever local route it has."""
        lo = struct.pack("=I", socket.if_nametoindex("lo"))
        wanted = attribute(RTA_OIF, lo) + attribute(RTA_PREFSRC, self.packed(self.settings.source))
        message = self.route_message(TABLE_LOCAL, PROTOCOL_BOOT, SCOPE_HOST, TYPE_LOCAL, 0, self.vip) + wanted
        try:
            self.routes.ask(NEWROUTE, ACK | CREATE | REPLACE, message)
        except RefusedError as refused:
            if refused.errno != errno.EEXIST:
                raise
        found = self.route(self.settings.vip)
        if found is not None and found.local and found.source == self.settings.source:
            return
        # Another route stands before ours.
        for _route in range(8):
            try:
                nowhere = self.route_message(TABLE_LOCAL, 0, SCOPE_NOWHERE, TYPE_LOCAL, 0, self.vip)
                self.routes.ask(DELROUTE, ACK, nowhere)
            except RefusedError:
                break
        self.routes.ask(NEWROUTE, ACK | CREATE | REPLACE, message)

    def addresses(self, card: str) -> list[str]:
        """The addresses of a card, in the VIP's family."""
        try:
            index = socket.if_nametoindex(card)
        except OSError:
            return []
        found = []
        for answer in self.routes.ask(GETADDR, DUMP, struct.pack("=BBBBI", self.family, 0, 0, 0, 0)):
            family, _prefix, _flags, scope, number = struct.unpack_from("=BBBBI", answer)
            values = attributes(answer[8:])
            address = values.get(IFA_LOCAL) or values.get(IFA_ADDRESS)
            if family == self.family and number == index and scope == 0 and address:
                found.append(self.text(address))
        return found

    # -- virtual servers --

    def control(self, command: int, flags: int, payload: bytes) -> list[dict[int, bytes]]:
        """Ask IPVS; FileNotFoundError where the kernel has none."""
        if not self.ipvs:
            message = struct.pack("=BBH", GET_FAMILY, 1, 0) + attribute(FAMILY_NAME, b"IPVS\0")
            answer = self.tables.ask(CONTROL, 0, message)[0]
            self.ipvs = struct.unpack("=H", attributes(answer[4:])[FAMILY_ID])[0]
        try:
            answers = self.tables.ask(self.ipvs, flags, struct.pack("=BBH", command, 1, 0) + payload)
        except RefusedError as refused:
            if refused.errno in (errno.EOPNOTSUPP, errno.EPROTONOSUPPORT):
                self.ipvs = 0
            raise
        return [attributes(answer[4:]) for answer in answers]

    def name_of_service(self) -> bytes:
        return (
            attribute(AF, struct.pack("=H", self.family))
            + attribute(PROTOCOL, struct.pack("=H", socket.IPPROTO_TCP))
            + attribute(ADDR, self.vip.ljust(16, b"\0"))
            + attribute(PORT, struct.pack("!H", self.settings.port))
        )

    def service(self) -> Optional[Service]:
        """The virtual server; nothing where there is none. It costs the same however many others there are."""
        named = attribute(NESTED | SERVICE, self.name_of_service())
        try:
            told = attributes(self.control(GET_SERVICE, 0, named)[0][SERVICE])
            answers = self.control(GET_DEST, DUMP, named)
        except RefusedError as refused:
            if refused.errno in (errno.ESRCH, errno.ENOENT):
                return None
            raise
        servers = {}
        for answer in answers:
            values = attributes(answer[DEST])
            method, weight = (struct.unpack("=I", values[key])[0] for key in (FWD_METHOD, DEST_WEIGHT))
            address, port = self.text(values[DEST_ADDR]), struct.unpack("!H", values[DEST_PORT])[0]
            server = address if port == self.settings.port else f"{address} {port}"
            servers[server] = (method & FORWARD_MASK, weight)
        flags = struct.unpack("=II", told[FLAGS])[0]
        return Service(told[SCHED_NAME].rstrip(b"\0").decode(), bool(flags & PERSISTENT), servers)

    def service_message(self) -> bytes:
        netmask = 128 if self.family == socket.AF_INET6 else 0xFFFFFFFF
        wanted = (
            self.name_of_service()
            + attribute(SCHED_NAME, SCHEDULER.encode() + b"\0")
            + attribute(FLAGS, struct.pack("=II", 0, 0xFFFFFFFF))
            + attribute(TIMEOUT, struct.pack("=I", 0))
            + attribute(NETMASK, struct.pack("=I", netmask))
        )
        return attribute(NESTED | SERVICE, wanted)

    def server_message(self, server: str, weight: int = WEIGHT) -> bytes:
        address, port = end_of(server, self.settings.port)
        wanted = attribute(DEST_ADDR, self.packed(address).ljust(16, b"\0"))
        wanted += attribute(DEST_PORT, struct.pack("!H", port))
        for kind, value in ((FWD_METHOD, MASQUERADE), (DEST_WEIGHT, weight), (UPPER, 0), (LOWER, 0)):
            wanted += attribute(kind, struct.pack("=I", value))
        return attribute(NESTED | SERVICE, self.name_of_service()) + attribute(NESTED | DEST, wanted)

    def add_service(self) -> None:
        self.change(NEW_SERVICE, self.service_message(), errno.EEXIST)

    def set_service(self) -> None:
        self.change(SET_SERVICE, self.service_message())

    def add_server(self, server: str, weight: int) -> None:
        self.change(NEW_DEST, self.server_message(server, weight), errno.EEXIST)

    def set_server(self, server: str, weight: int) -> None:
        self.change(SET_DEST, self.server_message(server, weight))

    def remove_server(self, server: str) -> None:
        self.change(DEL_DEST, self.server_message(server), errno.ENOENT)

    def change(self, command: int, payload: bytes, done: int = 0) -> None:
        """Change the table; `done` is the errno that says that it is so already."""
        try:
            self.control(command, ACK, payload)
        except RefusedError as refused:
            if refused.errno != done:
                raise


# --- the host ---------------------------------------------------------------------------------------------------------


class Child:
    """A process of ours whose output is awaited."""

    def __init__(self, words: Sequence[str]) -> None:
        self.output, end = os.pipe()
        null = (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)
        ours = (os.POSIX_SPAWN_DUP2, end, 1)
        silent = (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0)
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
        try:
            self.pid = os.posix_spawn(words[0], list(words), environment, file_actions=[null, ours, silent])
        except OSError:
            os.close(self.output)
            raise
        finally:
            os.close(end)
        self.give_up = time.monotonic() + PATIENCE
        self.text = b""

    def read(self) -> bool:
        """Take what there is; whether that was the end."""
        part = os.read(self.output, 65536)
        self.text += part
        return not part

    def end(self) -> int:
        """The exit code; a process that has not ended is ended."""
        os.close(self.output)
        if time.monotonic() >= self.give_up:
            os.kill(self.pid, signal.SIGKILL)
        return os.waitpid(self.pid, 0)[1]


def run(*words: str) -> str:
    """What a program says; OSError where it fails."""
    child = Child(words)
    done = False
    while not done and time.monotonic() < child.give_up:
        if select.select([child.output], [], [], 1.0)[0]:
            done = child.read()
    status = child.end()
    if status != 0:
        raise OSError(errno.EIO, f"{' '.join(words)} ended with {status >> 8 or -status}")
    return child.text.decode(errors="replace")


def read(path: str) -> str:
    """A small file; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def process_state(pid: str) -> str:
    """R, S, T, …; empty where there is no such process."""
    return read(f"/proc/{pid}/stat").rpartition(")")[2][1:2] if pid.isdigit() else ""


def unit_states(text: str) -> dict[str, str]:
    """Unit to state, of what `systemctl show` says."""
    states = {}
    for block in text.split("\n\n"):
        values = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        load, active = values.get("LoadState", ""), values.get("ActiveState", "")
        states[values.get("Id", "")] = load if load in ("not-found", "masked") and active == "inactive" else active
    return states


def weights_of(config: str) -> dict[str, int]:
    """The weights of the real servers in keepalived's configuration, by their addresses."""
    found, server = {}, ""
    for words in map(str.split, config.splitlines()):
        if words[:1] == ["real_server"]:
            server = "".join(words[1:2])
        elif words[:1] == ["weight"] and server and words[1:2] and words[1].isdecimal():
            found[server] = int(words[1])
    return found


class Probes:
    """Connections to servers that have the weight 0, of which it is asked whether they live. Nothing waits for them."""

    def __init__(self, source: str, port: int) -> None:
        self.source, self.port = source, port
        self.open: dict[str, tuple[socket.socket, float]] = {}

    def dead(self, servers: Iterable[str], now: float) -> frozenset[str]:
        """Those that refused or left the connection unanswered which was begun at an earlier look."""
        wanted = frozenset(servers)
        for server in self.open.keys() - wanted:
            self.open.pop(server)[0].close()
        found = set()
        for server in wanted:
            answer = self.answer(server, now)
            if answer is None:
                continue
            if not answer or (server not in self.open and not self.begin(server, now)):
                found.add(server)
        return frozenset(found)

    def answer(self, server: str, now: float) -> Optional[bool]:
        """Whether a server took its connection, or None while that is open; one that was not asked gets the benefit."""
        if server not in self.open:
            return True
        probe, since = self.open[server]
        if not select.select([], [probe], [], 0)[1]:
            if now - since < CONNECT:
                return None
            refused = errno.ETIMEDOUT
        else:
            refused = probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        del self.open[server]
        probe.close()
        return not refused

    def begin(self, server: str, now: float) -> bool:
        """Ask a server from the cluster address; False where it is refused at once."""
        probe = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_STREAM)
        try:
            probe.setblocking(False)
            probe.bind((self.source, 0))
            done = probe.connect_ex((server, self.port))
        except OSError:
            probe.close()
            return True  # it is this host that lacks something: no word on the server
        if done not in (0, errno.EINPROGRESS):
            probe.close()
            return False
        self.open[server] = (probe, now)
        return True


def sysctl_path(key: str) -> str:
    return "/proc/sys/" + key.replace(".", "/")


class Guard:
    """The host as it is, and what is done about it."""

    def __init__(self, settings: Settings, config: str) -> None:
        self.settings = settings
        self.config = config
        self.kernel = Kernel(settings)
        self.events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self.events.bind((0, GROUPS))
        self.events.setblocking(False)
        self.probes = Probes(settings.source, settings.port)
        self.memory = Memory()
        self.failures: dict[str, str] = {}
        self.config_seen = (0, 0)
        self.config_weights: Mapping[str, int] = {}
        self.units: dict[str, str] = {}
        self.units_asked = -ASK_AGAIN
        self.absent_since: Optional[float] = None
        self.certificates: dict[str, str] = {}
        self.child: Optional[Child] = None
        self.child_next = time.monotonic() + TICK
        self.status: dict[str, Any] = {"since": int(time.time()), "source": settings.source, "repairs": 0}
        self.say(Message(NOTICE, f"looks after {settings.at} and its route with the source {settings.source}"))

    # -- seeing --

    def see(self) -> Seen:
        now = time.monotonic()
        route = self.kernel.route(self.settings.vip)
        address = self.kernel.route(self.settings.source)
        card = self.holder(address)
        main = read(f"{self.settings.folder}/main.pid").strip()
        checkers = read(f"{self.settings.folder}/checkers.pid").strip()
        states = {pid: process_state(pid) for pid in (main, checkers) if pid}
        process = int(main) if states.get(main, "Z") not in ("", "Z") else 0
        right = route is not None and route.local and route.source == self.settings.source
        self.ask_systemd(now, right, bool(process))
        healthy = self.healthy() if process else frozenset()
        service = self.table() if process else None
        known = frozenset(self.weights())
        tabled = service.servers.items() if service is not None else ()
        dead = self.probes.dead(
            (one for one, (_method, weight) in tabled if not weight and one in known - healthy), now
        )
        return Seen(
            now=now,
            route=route,
            card=card,
            others=() if card else tuple(self.kernel.addresses(self.settings.interface)),
            process=process,
            healthy=healthy,
            known=known,
            dead=dead,
            probing=bool(self.probes.open),
            drained=frozenset(server for server, weight in self.weights().items() if not weight),
            halted=tuple(int(pid) for pid, state in states.items() if state == "T"),
            service=service,
            sysctls={
                key: read(sysctl_path(key)).strip() for key in self.settings.sysctls if os.path.exists(sysctl_path(key))
            },
            units=self.units,
            failures=self.failures,
            certificates=self.certificates,
        )

    def holder(self, route: Optional[Route]) -> str:
        """The card of a local address. Of IPv6 ones the kernel names lo in some versions, so they are looked for."""
        if route is None or not route.local:
            return ""
        if route.card == "lo" and self.settings.source in self.kernel.addresses(self.settings.interface):
            return self.settings.interface
        return route.card

    def healthy(self) -> frozenset[str]:
        try:
            names = os.listdir(self.settings.folder)
        except OSError:
            return frozenset()
        servers = (name[len(UP) :] for name in names if name.startswith(UP))
        # The file of a server that is no longer balanced stays: keepalived forgets it without a word.
        known = self.weights()
        return frozenset(
            server
            for server in servers
            if (":" in server) == (":" in self.settings.vip) and (server in known or not known)
        )

    def weights(self) -> Mapping[str, int]:
        """The real servers that keepalived is told of. Its configuration is read again when it is another file."""
        try:
            told = os.stat(self.settings.config)
        except OSError:
            return {}
        if (told.st_ino, told.st_mtime_ns) != self.config_seen:
            self.config_seen = (told.st_ino, told.st_mtime_ns)
            self.config_weights = weights_of(read(self.settings.config))
        return self.config_weights

    def table(self) -> Optional[Service]:
        try:
            return self.kernel.service()
        except OSError:
            return None  # the kernel has no IPVS: to put the virtual server back fails then, and says so

    def ask_systemd(self, now: float, route_is_right: bool, keepalived_runs: bool) -> None:
        """Whether what is missing is meant to be missing. Asked only where something is."""
        self.absent_since = None if keepalived_runs else (now if self.absent_since is None else self.absent_since)
        gone = self.absent_since is not None and now - self.absent_since > ABSENT
        if route_is_right and not gone:
            self.units = {}
            self.units_asked = -ASK_AGAIN
        elif now - self.units_asked >= ASK_AGAIN or STOPPING in self.units.values():
            self.units_asked = now
            units = (self.settings.route_unit, self.settings.balancer_unit)
            try:
                self.units = unit_states(run("/bin/systemctl", "show", "--property=Id,LoadState,ActiveState", *units))
            except OSError:
                self.units = {}

    # -- acting --

    def look(self) -> float:
        """One look, and what follows from it; returns the seconds to the next one."""
        decision = decide(self.settings, self.see(), self.memory)
        self.memory = decision.memory
        self.failures = {thing: text for thing, text in self.failures.items() if thing in decision.memory.doubts}
        messages = list(decision.messages)
        for fault in decision.faults:
            try:
                for action in fault.actions:
                    self.act(action)
            except OSError as error:
                self.failures[fault.thing] = str(error.strerror or error)
                messages = [message for message in messages if not message.text.startswith(fault.told)]
            else:
                self.failures.pop(fault.thing, None)
                self.status["repairs"] += 1
                self.status["last"] = {"at": int(time.time()), "told": fault.told}
        for message in messages:
            self.say(message)
        if messages or decision.faults:
            self.write_status()
        return DOUBT if decision.doubtful else TICK

    def act(self, action: Action) -> None:
        owner: Any = self if hasattr(self, action.kind) else self.kernel
        getattr(owner, action.kind)(*action.words)

    def set_sysctl(self, key: str, value: str) -> None:
        with open(sysctl_path(key), "w", encoding="ascii") as stream:
            stream.write(value)

    def go_on(self, *pids: int) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def start_unit(self, unit: str) -> None:
        self.units = {}
        self.units_asked = -ASK_AGAIN
        run("/bin/systemctl", "start", "--no-block", unit)

    def say(self, message: Message) -> None:
        """A line in the journal."""
        sys.stdout.write(f"<{message.level}>{message.text}\n")
        sys.stdout.flush()

    def write_status(self) -> None:
        self.status["open"] = sorted(note.told for note in self.memory.said.values())
        self.status["clashes"] = sorted(thing for thing, history in self.memory.histories.items() if history.wait)
        new = f"{self.settings.status}.new"
        try:
            with open(new, "w", encoding="utf-8") as stream:
                json.dump(self.status, stream)
            os.replace(new, self.settings.status)
        except OSError as error:
            self.say(Message(WARNING, f"{self.settings.status} could not be written: {error}"))

    # -- certificates --

    def certificates_due(self) -> None:
        """keepalived looks at no certificate, so a process of ours does, for those servers that it holds for healthy."""
        now = time.monotonic()
        if self.child is not None:
            if now >= self.child.give_up:
                self.child.end()
                self.child = None
            return
        if now < self.child_next:
            return
        servers = self.healthy()
        if servers and os.path.exists(self.settings.ca):
            self.child_next = now + CERTIFICATES
            words = [sys.executable, "-I", "-S", "-E", self.settings.certificates, self.config]
            words += [self.settings.vip, *sorted(servers)]
            try:
                self.child = Child(words)
            except OSError as error:
                self.say(Message(WARNING, f"the certificates could not be looked at: {error}"))

    def certificates_seen(self) -> None:
        if self.child is None or not self.child.read():
            return
        try:
            if self.child.end() == 0:
                self.certificates = {str(key): str(value) for key, value in json.loads(self.child.text).items()}
                self.status["certificates"] = int(time.time())
        except ValueError:
            pass
        self.child = None

    def ready(self, readable: Iterable[int]) -> None:
        """Take what has come."""
        if self.child is not None and self.child.output in readable:
            self.certificates_seen()
        if self.events.fileno() in readable:
            drain(self.events)


def wait(guards: Sequence[Guard], seconds: float) -> None:
    """Until something changes, at most so long."""
    watched = [guard.events.fileno() for guard in guards]
    children = [guard.child.output for guard in guards if guard.child is not None]
    readable = select.select([*watched, *children], [], [], seconds)[0]
    if any(number in readable for number in watched):
        time.sleep(SETTLE)
    for guard in guards:
        guard.ready(readable)


def run_for_ever(guards: Sequence[Guard]) -> None:
    for guard in guards:
        guard.write_status()
    while True:
        pauses = []
        for guard in guards:
            try:
                pause = guard.look()
                # One process at a time: the unit has memory for no more.
                if not any(other.child for other in guards if other is not guard):
                    guard.certificates_due()
            # The kernel did not answer in time, has no memory, or answers what is not understood: the next look may do better.
            except (OSError, ValueError, LookupError, struct.error) as error:
                guard.say(Message(WARNING, f"could not look: {error!r}"))
                pause = LONGEST_WAIT
            pauses.append(pause)
        wait(guards, min(pauses))


def drain(events: socket.socket) -> None:
    """Forget queued messages: that something changed is all we need to know. An overrun means the same."""
    while True:
        try:
            events.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            continue


def main(words: Sequence[str]) -> None:
    """The path of the configuration."""
    with open(words[1], encoding="utf-8") as stream:
        wanted = json.load(stream)
    ways = wanted.pop("ways")
    run_for_ever([Guard(Settings(**wanted, **way), words[1]) for way in ways])


if __name__ == "__main__":
    main(sys.argv)
