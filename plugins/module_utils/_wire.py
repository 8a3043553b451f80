# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending the proof's packets from one card and one address, and waiting for what comes back, but not for ever.

This module util is PRIVATE to the collection. It is what the module network_probe does with sockets; what the packets
look like is in _packets.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils import _packets

ROUNDS = (0.0, 0.3, 1.0)
# Names that Python's socket module lacks. "Probe": don't fragment, and ignore what the kernel believes of the path.
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER = 10, 23
PMTUDISC_PROBE = 3
IP_RECVERR, IPV6_RECVERR = 11, 25
SO_ATTACH_FILTER = 26
MSG_ERRQUEUE = 0x2000
IPPROTO_ICMPV6 = 58
ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ETHERNET_CARD = "1"
GREETING = b"multinic"
SPARE = 64  # files that the module itself and its Python have open
MOST = 4096  # connections at once
PATIENCE = 1.5  # seconds for a connection, while others wait for their turn
OVERTIME = 2  # times the time to wait, at most, for attempts that have not been begun when it is over
PAUSE = 0.002  # seconds between datagrams: Linux tells of at most 1000 closed ports a second
STRIDE = 16  # packets or connections that are begun before answers are looked for


@dataclass
class Packet:
    """One size to one peer: when it was sent last, how long the first answer took, and what stood in the way."""

    address: str
    size: int
    sent: float = 0.0
    milliseconds: Optional[float] = None
    problem: str = ""
    told_by: str = ""
    told_mtu: int = 0
    seen_on: str = ""


@dataclass
class Door:
    """A TCP or UDP port of a peer.

    The answer is open, refused, closed or answered, all of which prove the way; rejected, which a firewall did; forbidden,
    which this host's own firewall did; or nothing.
    """

    address: str
    port: int
    protocol: str = "tcp"
    answer: str = ""
    sock: Optional[socket.socket] = None
    started: float = 0.0


@dataclass
class Pinger:
    """Packets from one address and one card only."""

    source: str
    interface: str
    identifier: int = field(default_factory=lambda: os.getpid() & 0xFFFF)

    def __post_init__(self) -> None:
        self.family = ip_address(self.source).version

    def open(self) -> socket.socket:
        if self.family == 4:
            sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_PROBE)
        else:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW, IPPROTO_ICMPV6)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_PROBE)
        self.bind(sock)
        sock.setblocking(False)
        return sock

    def bind(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode() + b"\0")
        sock.bind((self.source, 0))

    def run(
        self, packets: Sequence[Packet], wait: float, doors: Sequence[Door] = (), rounds: Sequence[float] = ROUNDS
    ) -> None:
        """Send every packet as often as there are rounds, and try the doors, until all answer or the time is over."""
        Exchange(self, packets, doors).run(wait, rounds)

    def trace(self, packets: Sequence[Packet], wait: float, doors: Sequence[Door] = ()) -> None:
        """Send again what stayed silent, and look on all cards for the answers, also those that the kernel drops."""
        watch = self.watch()
        exchange = Exchange(self, packets, doors)
        try:
            exchange.run(wait, (0.0, wait / 2))
            while watch is not None:
                data, sender = watch.recvfrom(65535)
                message = data if self.family == 4 else data[_packets.IP_HEADER[6] :]
                sequence = _packets.echo_sequence(self.family, exchange.identifier, message)
                if sequence is not None and sequence < len(packets) and sender[2] != socket.PACKET_OUTGOING:
                    packets[sequence].seen_on = packets[sequence].seen_on or sender[0]
        except BlockingIOError:
            return
        finally:
            if watch is not None:
                watch.close()

    def watch(self) -> Optional[socket.socket]:
        """What all cards receive, before the kernel drops any of it; nothing where the kernel has no packet sockets."""
        try:
            sock = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP if self.family == 4 else ETH_P_IPV6)
            )
            attach(sock, _packets.only_icmp(self.family))
        except OSError:
            return None
        sock.setblocking(False)
        return sock


class Exchange:
    """One exchange of packets with the peers."""

    def __init__(self, pinger: Pinger, packets: Sequence[Packet], doors: Sequence[Door]) -> None:
        # Late answers to an earlier exchange are no answers to this one.
        pinger.identifier = (pinger.identifier + 1) & 0xFFFF
        self.pinger = pinger
        self.identifier = pinger.identifier
        self.family = pinger.family
        self.packets = packets
        self.doors = doors
        # Everyone begins with its own successor: a host is tried by all others, but by one after another.
        mine = ip_address(pinger.source).packed
        self.queue = deque(door for door in doors if door.protocol == "tcp")
        self.datagrams = deque(
            sorted(
                (door for door in doors if door.protocol == "udp"),
                key=lambda door: (ip_address(door.address).packed < mine, ip_address(door.address).packed),
            )
        )
        self.next_datagram = 0.0
        self.open_doors: dict[int, Door] = {}
        self.room = room_for_files() if doors else 0
        self.missing = len(packets)
        self.poll = select.poll()

    def run(self, wait: float, rounds: Sequence[float]) -> None:
        icmp = self.pinger.open()
        self.poll.register(icmp, select.POLLIN)
        self.icmp = icmp
        start = time.monotonic()
        try:
            for number, moment in enumerate(rounds):
                if moment >= wait and number:
                    return
                for sequence, packet in enumerate(self.packets):
                    if packet.milliseconds is None:
                        self.send(sequence, packet)
                    if sequence % STRIDE == STRIDE - 1:
                        self.read_icmp()
                self.datagrams += [door for door in self.open_doors.values() if door.protocol == "udp"]
                last = number + 1 == len(rounds)
                self.collect(
                    start + (wait if last else min(wait, rounds[number + 1])), start + wait * OVERTIME if last else 0
                )
                if self.done():
                    return
        finally:
            icmp.close()
            for door in list(self.open_doors.values()):
                self.close(door)

    def done(self) -> bool:
        return not (self.missing or self.open_doors or self.queue or self.datagrams)

    def send(self, sequence: int, packet: Packet) -> None:
        packet.sent = time.monotonic()
        message = _packets.echo_request(self.family, self.identifier, sequence, packet.size)
        try:
            self.icmp.sendto(message, (packet.address, 0))
        except OSError as problem:
            # Larger than the card's MTU, no such neighbour, a full queue, a firewall: none of it is an answer.
            packet.problem = errno.errorcode.get(problem.errno or 0, str(problem))

    def collect(self, until: float, overtime: float = 0.0) -> None:
        """Wait for answers until that time, and into the overtime while some attempts could not even be begun.

        On a busy host this process may wait longer for its turn than an answer takes: what has come meanwhile counts.
        """
        end = max(until, overtime)
        while True:
            self.open_next()
            left = until - time.monotonic()
            if self.done():
                return
            waiting = bool(self.queue or self.datagrams)
            events = self.poll.poll(1000 * max(min(left, PAUSE) if waiting else left, 0))
            for number, _event in events:
                if number == self.icmp.fileno():
                    self.read_icmp()
                elif number in self.open_doors:
                    self.read_door(self.open_doors[number])
            self.give_up()
            if left <= 0 and not events:
                if not waiting or time.monotonic() >= end:
                    return
                until = min(time.monotonic() + PATIENCE, end)
            elif time.monotonic() >= end:
                return

    def read_icmp(self) -> None:
        for _number in range(100):
            try:
                data, sender = self.icmp.recvfrom(65535)
            except OSError:
                return
            found = sender[0].split("%")[0]
            complaint = _packets.too_big(self.family, self.identifier, data)
            if complaint is not None and complaint.sequence < len(self.packets):
                packet = self.packets[complaint.sequence]
                packet.told_by, packet.told_mtu = found, complaint.mtu
            sequence = _packets.echo_sequence(self.family, self.identifier, data)
            if sequence is None or sequence >= len(self.packets):
                continue
            packet = self.packets[sequence]
            if packet.milliseconds is None and ip_address(found) == ip_address(packet.address):
                packet.milliseconds = round((time.monotonic() - packet.sent) * 1000, 3)
                self.missing -= 1

    def open_next(self) -> None:
        """Begin with some connections, at most as many as there may be files open, and send a datagram if it is time."""
        for _number in range(STRIDE):
            if not self.queue or len(self.open_doors) >= self.room:
                break
            self.begin(self.queue.popleft())
        now = time.monotonic()
        if not self.datagrams or now < self.next_datagram:
            return
        door = self.datagrams[0]
        if door.sock is None and len(self.open_doors) >= self.room:
            return
        self.datagrams.popleft()
        self.next_datagram = now + PAUSE
        if door.sock is None:
            self.begin(door)
        elif door.sock.fileno() in self.open_doors:
            self.knock_again(door)

    def begin(self, door: Door) -> None:
        kind = socket.SOCK_STREAM if door.protocol == "tcp" else socket.SOCK_DGRAM
        sock = socket.socket(socket.AF_INET if self.family == 4 else socket.AF_INET6, kind)
        self.pinger.bind(sock)
        sock.setblocking(False)
        if self.family == 4:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        door.sock, door.started = sock, time.monotonic()
        code = sock.connect_ex((door.address, door.port))
        waiting = code == errno.EINPROGRESS or (code == 0 and door.protocol == "udp")
        if not waiting:
            door.answer = answer(door, code)
            sock.close()
            door.sock = None
            return
        self.open_doors[sock.fileno()] = door
        self.poll.register(sock, select.POLLIN if door.protocol == "udp" else select.POLLOUT)
        self.knock_again(door)

    def knock_again(self, door: Door) -> None:
        """A datagram; a connection is repeated by the kernel itself."""
        if door.protocol != "udp" or door.sock is None:
            return
        try:
            door.sock.send(_packets.NTP_REQUEST if door.port == _packets.NTP_PORT else GREETING)
        except OSError as problem:
            self.settle(door, answer(door, problem.errno or 0))

    def read_door(self, door: Door) -> None:
        if door.sock is None:
            return
        if door.protocol == "tcp":
            self.settle(door, answer(door, door.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
            return
        try:
            door.sock.recv(65535)
            self.settle(door, "answered")
        except BlockingIOError:
            return
        except OSError as problem:
            self.settle(door, answer(door, problem.errno or 0))

    def settle(self, door: Door, text: str) -> None:
        """The door has its answer. What broke a datagram without one may pass, so it is repeated."""
        if text or door.protocol == "tcp":
            door.answer = text
            self.close(door)

    def close(self, door: Door) -> None:
        if door.sock is not None:
            del self.open_doors[door.sock.fileno()]
            self.poll.unregister(door.sock)
            door.sock.close()
            door.sock = None

    def give_up(self) -> None:
        """Doors that stay silent make room for those that wait."""
        if (self.queue or self.datagrams) and len(self.open_doors) >= self.room:
            old = time.monotonic() - PATIENCE
            for door in [door for door in self.open_doors.values() if door.started < old]:
                self.close(door)


def answer(door: Door, code: int) -> str:
    """What an attempt's result means."""
    told = complaints(door.sock)
    if code == 0:
        return "open"
    if code == errno.EPERM:
        return "forbidden"
    if any(complaint.of_a_firewall for complaint in told):
        return "rejected"
    if code == errno.ECONNREFUSED:
        # A closed TCP port is refused by TCP itself: ICMP's "port unreachable" is the way of firewalls.
        return "closed" if door.protocol == "udp" else "rejected" if told else "refused"
    return ""


def complaints(sock: Optional[socket.socket]) -> list[_packets.Complaint]:
    """The ICMP messages that broke the attempt."""
    told: list[_packets.Complaint] = []
    while sock is not None:
        try:
            _data, ancillary, _flags, _sender = sock.recvmsg(512, 512, MSG_ERRQUEUE)
        except OSError:
            break
        told += [_packets.complaint(data) for _level, kind, data in ancillary if kind in {IP_RECVERR, IPV6_RECVERR}]
    return [complaint for complaint in told if complaint.icmp]


def room_for_files() -> int:
    """How many sockets may be open at once; as many as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + SPARE if hard == resource.RLIM_INFINITY else min(hard, MOST + SPARE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    return max(min(MOST, MOST if soft == resource.RLIM_INFINITY else soft - SPARE), 1)


def search(pinger: Pinger, full: Sequence[Packet], pause: float, until: float) -> dict[str, int]:
    """The largest size that passes to each peer whose full packet did not: usual ones first, then what lies between.

    Each round lasts this pause, which answers to small packets must not need.
    """
    passes = {packet.address: _packets.SMALL for packet in full}
    fails = {packet.address: packet.size for packet in full}
    sizes = {address: _packets.smaller_steps(size) for address, size in fails.items()}
    while any(sizes.values()) and (left := until - time.monotonic()) > pause / 2:
        tried = [Packet(address, size) for address, some in sizes.items() for size in some]
        pinger.run(tried, min(left, pause), rounds=(0.0, pause / 2))
        for packet in tried:
            if packet.milliseconds is not None:
                passes[packet.address] = max(passes[packet.address], packet.size)
        for packet in tried:
            if packet.milliseconds is None and packet.size > passes[packet.address]:
                fails[packet.address] = min(fails[packet.address], packet.size)
        sizes = {address: _packets.between(passes[address], fails[address]) for address in fails}
    return passes


class Arp:
    """Asks whether somebody else has the host's address, and listens to who answers for whom."""

    def __init__(self, source: str, interface: str) -> None:
        self.source, self.interface = source, interface
        self.answers: dict[str, list[str]] = {}
        self.began = 0.0
        self.sock: Optional[socket.socket] = None
        folder = Path("/sys/class/net") / interface
        try:
            self.mac = (folder / "address").read_text(encoding="ascii").strip()
            kind = (folder / "type").read_text(encoding="ascii").strip()
        except OSError:
            return
        if kind != ETHERNET_CARD or ip_address(source).version != 4:
            return
        try:
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_packets.ARP))
            attach(sock, _packets.only_arp_answers())
            sock.bind((interface, _packets.ARP))
        except OSError:
            return  # this kernel has no packet sockets
        sock.setblocking(False)
        self.sock = sock

    def ask(self) -> None:
        if self.sock is None:
            return
        self.began = self.began or time.monotonic()
        try:
            self.sock.send(_packets.arp_probe(self.mac, self.source))
        except OSError:
            return

    def finish(self, patience: float) -> dict[str, list[str]]:
        """The hardware addresses that answered for each address, once so many seconds have passed since the question."""
        if self.sock is None:
            return {}
        self.ask()
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        while True:
            left = self.began + patience - time.monotonic()
            if not poll.poll(max(left * 1000, 0)) and left <= 0:
                break
            try:
                frame = self.sock.recv(2048)
            except OSError:
                continue
            found = _packets.arp_answer(frame)
            if found is not None and found.mac not in self.answers.setdefault(found.address, []):
                self.answers[found.address].append(found.mac)
        self.sock.close()
        return self.answers


def attach(sock: socket.socket, program: bytes) -> None:
    """Let the kernel sort out what a socket is not asked for."""

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_void_p))

    steps = ctypes.create_string_buffer(program, len(program))
    described = Program(len(program) // 8, ctypes.addressof(steps))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(described))
