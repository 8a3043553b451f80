# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's part in passing a file around: its sockets, and the file that the chunks are written to.

This module util is PRIVATE to the collection. What is said and who is asked for what is decided in _swarm. One process
with one thread does it all. It listens on the planned address only, speaks with planned addresses only, and only with
who has the transfer's key; it ends by itself, in order, when nobody asks for anything any more, or at its deadline.
The chunks are not encrypted: what protects them is that each one's sha256 came from the controller.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Optional, Union

from ansible_collections.multinic.kubernetes.plugins.module_utils import _swarm
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import ChunkList, Cutter, mask
from ansible_collections.multinic.kubernetes.plugins.module_utils._swarm import Header, ProtocolError, Swarm

READ = 1 << 20
HAVE_SECONDS = 0.1  # what arrived in so long is told at once
LOOK_SECONDS = 0.2
HANDSHAKE_SECONDS = 5.0
SILENT_SECONDS = 4.0  # somebody who was asked and sent nothing for so long is called anew
CALL_SECONDS = 2.0
CALL_AGAIN = (0.3, 1.0, 30.0)  # at first, later, and from when on
STUCK_SECONDS = 5.0
STRANGERS = 32  # connections that have not proved anything yet
SMALL, BUFFERS = 1 << 16, 4
STRIKES = 3  # damaged chunks from one host, after which it is asked no more
MOST_WANTED = 4 * _swarm.WINDOW
Data = Union[bytes, bytearray, memoryview]
Item = Union[bytes, tuple[int, int]]  # bytes to send, or a part of the file by offset and length
Queued = Union[memoryview, tuple[int, int]]
PEER_CREDENTIALS = struct.Struct("3i")
# Reaches the control socket of a host's part: copies what it is given, and prints the answer.
FEED = """import os,socket,sys
s=socket.socket(socket.AF_UNIX)
d=os.open(sys.argv[1],os.O_RDONLY)
s.connect("/proc/self/fd/%d/%s"%(d,sys.argv[2]))
while True:
    b=os.read(0,1<<20)
    if not b: break
    s.sendall(b)
s.shutdown(socket.SHUT_WR)
a=b""
while True:
    b=s.recv(1<<16)
    if not b: break
    a+=b
n=int.from_bytes(a[5:9],"big") if len(a)>=9 else 0
if len(a)!=9+n or not n: sys.exit("the host's part ended without an answer")
print(a[9:].decode())
"""


def partial_name(name: str) -> str:
    """The file while it is being put together, beside the place it shall have; _unpack.PARTIAL is one of them."""
    return f".{name}.partial"


def socket_name(name: str) -> str:
    return f".{name}.peer"


def log_name(name: str) -> str:
    return f".{name}.peer-log"


@dataclass(frozen=True)
class Settings:
    """What a host's part needs to know. Addresses are those of all hosts, its own at its place."""

    path: Path
    place: int
    addresses: tuple[str, ...]
    port: int
    key: bytes
    idle: float
    deadline: float


class Store:
    """The file that is being put together, and which chunks of it are there."""

    def __init__(self, path: Path, chunks: ChunkList) -> None:
        self.path = path
        self.partial = path.with_name(partial_name(path.name))
        self.list = chunks
        self.have: set[int] = set()
        self.handle = -1
        self._whole = hashlib.sha256()
        self._hashed = 0
        self.verified = False
        self._buffer = bytearray(max((chunk.size for chunk in chunks.chunks), default=0))

    def open(self) -> None:
        """The file in its full size. What lies there from an earlier run is looked through, not trusted."""
        try:
            self.handle = os.open(self.partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            self._look_through()
        except FileNotFoundError:
            self.handle = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(self.handle, self.list.size)
        if self.list.size:
            os.posix_fallocate(self.handle, 0, self.list.size)

    def _look_through(self) -> None:
        for index, chunk in enumerate(self.list.chunks):
            data = os.pread(self.handle, chunk.size, chunk.offset)
            if len(data) == chunk.size and hashlib.sha256(data).digest() == chunk.digest:
                self.have.add(index)

    def adopt(self, other: Path) -> int:
        """Copies the chunks that another file has, wherever they lie in it. How many those were."""
        places: dict[bytes, list[int]] = {}
        for index, chunk in enumerate(self.list.chunks):
            if index not in self.have:
                places.setdefault(chunk.digest, []).append(index)
        count = 0
        for piece in pieces(other):
            for index in places.pop(hashlib.sha256(piece).digest(), ()):
                self.write(index, piece)
                count += 1
        return count

    def write(self, index: int, data: Data) -> None:
        view, offset = memoryview(data), self.list.chunks[index].offset
        while view:
            done = os.pwrite(self.handle, view, offset)
            view, offset = view[done:], offset + done
        self.have.add(index)

    def right(self, index: int, data: Data) -> bool:
        return hashlib.sha256(data).digest() == self.list.chunks[index].digest

    def hash_some(self, most: int = 2) -> None:
        """Goes on with the sha256 of the whole, read back from the file, as far as its beginning is there."""
        while most and self._hashed in self.have:
            chunk = self.list.chunks[self._hashed]
            view = memoryview(self._buffer)[: chunk.size]
            if os.preadv(self.handle, [view], chunk.offset) != chunk.size:
                raise ValueError(f"{self.partial} has become shorter")
            self._whole.update(view)
            self._hashed += 1
            most -= 1

    def take_whole(self) -> bool:
        """Whether the file is there already; then it can be passed on as it is."""
        try:
            self.handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        whole = hashlib.sha256()
        if os.fstat(self.handle).st_size == self.list.size:
            for offset in range(0, self.list.size, READ):
                whole.update(os.pread(self.handle, READ, offset))
        if whole.hexdigest() != self.list.sha256:
            os.close(self.handle)
            return False
        self.have = set(range(len(self.list.chunks)))
        self.verified = True
        return True

    def finish(self) -> None:
        """Gives the whole file its name, once its sha256 is right. ValueError: it is not."""
        self.hash_some(len(self.list.chunks))
        if self._whole.hexdigest() != self.list.sha256:
            raise ValueError(
                f"{self.partial} has sha256 {self._whole.hexdigest()}, but {self.list.sha256} was expected"
            )
        os.fchmod(self.handle, 0o644)
        self.partial.replace(self.path)
        self.verified = True


def pieces(path: Path) -> Iterator[bytes]:
    """The chunks of a file on the disk."""
    cutter = Cutter()
    with path.open("rb", buffering=0) as stream:
        for block in iter(lambda: stream.read(4 * READ), b""):
            yield from cutter.feed(block)
    yield from cutter.finish()


@dataclass(eq=False)
class Link:
    """One connection: with a neighbour, with somebody who has yet to prove to be one, or with the controller."""

    socket: socket.socket
    place: int = -1
    called: bool = False  # we called
    connecting: bool = False
    ready: bool = False
    control: bool = False
    deaf: bool = False  # it has said all it had to say
    opened: float = 0.0
    heard: float = 0.0
    nonce: bytes = b""
    out: deque[Queued] = field(default_factory=deque)
    header: bytearray = field(default_factory=bytearray)
    body: Optional[memoryview] = None
    got: int = 0
    frame: Optional[Header] = None
    wanted: int = 0  # chunks that are queued for it
    until: Optional[float] = None  # it waits for an answer
    since: float = 0.0


class Peer:
    """The host's part, from start to end."""

    def __init__(self, settings: Settings, store: Store, control: socket.socket) -> None:
        self.settings = settings
        self.store = store
        self.sizes = [chunk.size for chunk in store.list.chunks]
        self.swarm = Swarm(len(self.sizes), store.have, settings.place)
        self.places = {str(ip_address(address)): place for place, address in enumerate(settings.addresses)}
        self.around = _swarm.neighbours(settings.place, len(settings.addresses))
        self.links: dict[int, Link] = {}  # of neighbours, by their place
        self.all: set[Link] = set()
        self.strikes: dict[int, int] = {}
        self.finished: set[int] = set()  # neighbours that have all, and need us no more
        self.call_at = {place: 0.0 for place in self.around if _swarm.calls(settings.place, place)}
        self.buffers: list[bytearray] = []
        self.news: list[int] = []
        self.news_at = self.look_at = 0.0
        self.now = self.began = self.used = self.arrived = time.monotonic()
        self.counts = {"fed": 0, "fed_again": 0, "received": 0, "served": 0, "damaged": 0}
        self.error = ""
        self.told = False
        self.stopped = False
        self.selector: selectors.BaseSelector
        self.control = control
        self.server: Optional[socket.socket] = None

    # --- life ---

    def listen(self) -> None:
        """The port, at the planned address only. OSError: it can't be had."""
        if not self.around:
            return
        address = self.settings.addresses[self.settings.place]
        server = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, self.settings.port))
        server.listen(STRANGERS)
        server.setblocking(False)
        self.server = server

    def run(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.control.setblocking(False)
        self.selector.register(self.control, selectors.EVENT_READ, self._accept_control)
        if self.server is not None:
            self.selector.register(self.server, selectors.EVENT_READ, self._accept)
        self._finish_if_complete()
        try:
            while not self._over():
                for key, events in self.selector.select(HAVE_SECONDS if self.news else 0.25):
                    self.now = time.monotonic()
                    if isinstance(key.data, Link):
                        self._serve(key.data, events)
                    else:
                        key.data(key.fileobj)
                self.now = time.monotonic()
                self._tell_news()
                if self.now >= self.look_at:
                    self.look_at = self.now + LOOK_SECONDS
                    self._call()
                    self._look_after()
                self._answer()
        finally:
            for link in list(self.all):
                self._close(link)
            for listener in (self.control, self.server):
                if listener is not None:
                    listener.close()

    def _over(self) -> bool:
        if self.stopped or self.now - self.began > self.settings.deadline:
            return True
        if any(link.control for link in self.all):
            return False
        if self.now - self.used > self.settings.idle or (self.error and self.told):
            return True
        return self.told and self.store.verified and self.finished.issuperset(self.around)

    # --- connections ---

    def _add(self, link: Link) -> None:
        link.socket.setblocking(False)
        link.opened = link.heard = self.now
        self.all.add(link)
        self.selector.register(link.socket, selectors.EVENT_READ, link)

    def _accept_control(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it hung up before it was answered
            sock, _address = server.accept()
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, PEER_CREDENTIALS.size)
            if PEER_CREDENTIALS.unpack(credentials)[1] not in (0, os.geteuid()):
                sock.close()
                return
            self._add(Link(sock, control=True, ready=True))

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it hung up before it was answered
            sock, address = server.accept()
            place = self.places.get(str(ip_address(address[0])), -1)
            strangers = sum(not link.ready for link in self.all)
            if place not in self.around or strangers >= STRANGERS or self._banned(place):
                sock.close()
                return
            link = Link(sock, place, nonce=secrets.token_bytes(_swarm.NONCE))
            self._tune(sock)
            self._add(link)
            self._send(link, _swarm.frame(_swarm.HELLO, self.settings.place, link.nonce))

    def _banned(self, place: int) -> bool:
        return self.strikes.get(place, 0) >= STRIKES

    def _tune(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 15000)

    def _call(self) -> None:
        """Calls the neighbours that are ours to call and not connected."""
        first, later, long = CALL_AGAIN
        for place, due in self.call_at.items():
            if self.now < due or self._banned(place) or any(link.place == place for link in self.all):
                continue
            self.call_at[place] = self.now + (first if self.now - self.began < long else later)
            own, other = self.settings.addresses[self.settings.place], self.settings.addresses[place]
            sock = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_STREAM)
            try:
                self._tune(sock)
                sock.setblocking(False)
                sock.bind((own, 0))
                code = sock.connect_ex((other, self.settings.port))
            except OSError:
                sock.close()
                continue
            if code not in (0, errno.EINPROGRESS):
                sock.close()
                continue
            link = Link(sock, place, called=True, connecting=True)
            self._add(link)
            self.selector.modify(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, link)

    def _close(self, link: Link) -> None:
        if link not in self.all:
            return
        self.all.discard(link)
        if not link.deaf:
            self.selector.unregister(link.socket)
        link.socket.close()
        if self.links.get(link.place) is link:
            del self.links[link.place]
            self.swarm.leave(link.place)
            self._ask_all()

    def _look_after(self) -> None:
        """Ends connections that lead nowhere."""
        for link in list(self.all):
            if link.control:
                continue
            limit = CALL_SECONDS if link.connecting else HANDSHAKE_SECONDS
            if not link.ready:
                if self.now - link.opened > limit:
                    self._close(link)
            elif self.swarm.neighbours[link.place].asked and self.now - link.heard > SILENT_SECONDS:
                self._close(link)
            else:
                self._ask(link)

    # --- bytes ---

    def _serve(self, link: Link, events: int) -> None:
        if link not in self.all:
            return
        try:
            if events & selectors.EVENT_WRITE:
                self._write(link)
            if events & selectors.EVENT_READ:
                self._read(link)
        except (OSError, ProtocolError):
            self._close(link)

    def _send(self, link: Link, *items: Item) -> None:
        """Queues bytes, or a part of the file given by offset and length."""
        empty = not link.out
        link.out.extend(memoryview(item) if isinstance(item, bytes) else item for item in items)
        if empty and link in self.all:
            self.selector.modify(link.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, link)

    def _write(self, link: Link) -> None:
        if link.connecting:
            code = link.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            link.connecting = False
            link.opened = self.now
        try:
            while link.out:
                item = link.out.popleft()
                if isinstance(item, tuple):
                    offset, left = item
                    done = os.sendfile(link.socket.fileno(), self.store.handle, offset, left)
                    self.counts["served"] += done
                    if done < left:
                        link.out.appendleft((offset + done, left - done))
                    else:
                        link.wanted -= 1
                else:
                    done = link.socket.send(item)
                    if done < len(item):
                        link.out.appendleft(item[done:])
        except BlockingIOError:
            link.out.appendleft(item)
        if not link.out:
            self.selector.modify(link.socket, selectors.EVENT_READ, link)

    def _read(self, link: Link) -> None:
        budget = READ
        while budget > 0 and link in self.all:
            try:
                if link.body is None:
                    data = link.socket.recv(_swarm.HEADER.size - len(link.header))
                    count = len(data)
                    link.header += data
                else:
                    count = link.socket.recv_into(link.body[link.got :])
                    link.got += count
            except BlockingIOError:
                return
            if count == 0:
                self._ended(link)
                return
            budget -= count
            link.heard = self.now
            if link.body is None and len(link.header) == _swarm.HEADER.size:
                link.frame = Header.read(bytes(link.header), self.sizes)
                link.header.clear()
                link.body, link.got = self._room(link.frame.length), 0
            if link.frame is not None and link.body is not None and link.got == len(link.body):
                frame, body = link.frame, link.body
                link.frame = link.body = None
                self._frame(link, frame, body)
                if frame.kind == _swarm.CHUNK:
                    self._give_back(body)

    def _room(self, length: int) -> memoryview:
        """A buffer for what comes. Those of chunks are used again: new memory costs as much as receiving into it."""
        if length > SMALL:
            whole = self.buffers.pop() if self.buffers else bytearray(max(self.sizes))
        else:
            whole = bytearray(length)
        return memoryview(whole)[:length]

    def _give_back(self, body: memoryview) -> None:
        whole = body.obj
        if isinstance(whole, bytearray) and len(body) > SMALL and len(self.buffers) < BUFFERS:
            self.buffers.append(whole)

    def _ended(self, link: Link) -> None:
        """The other end sends no more. The controller may still wait for its answer."""
        if link.control and link.until is not None:
            link.deaf = True
            self.selector.unregister(link.socket)
        else:
            self._close(link)

    # --- frames ---

    def _frame(self, link: Link, frame: Header, body: memoryview) -> None:
        if link.control:
            self._from_controller(link, frame, body)
        elif not link.ready:
            self._handshake(link, frame, bytes(body))
        else:
            self._from_neighbour(link, frame, body)

    def _from_controller(self, link: Link, frame: Header, body: memoryview) -> None:
        self.used = self.now
        if frame.kind == _swarm.CHUNK:
            self.counts["fed"] += frame.length
            if frame.number not in self.swarm.missing:
                self.counts["fed_again"] += frame.length
            self._chunk(frame.number, body)
        elif frame.kind == _swarm.WAIT:
            link.since = self.now
            link.until = self.now + frame.number
        elif frame.kind == _swarm.STOP:
            self.stopped = True
        else:
            raise ProtocolError(f"a frame of kind {frame.kind} from the controller")

    def _handshake(self, link: Link, frame: Header, body: bytes) -> None:
        own, key, sha256 = self.settings.place, self.settings.key, self.store.list.sha256

        def proof(role: bytes) -> bytes:
            caller, called = (own, link.place) if link.called else (link.place, own)
            return _swarm.proof(key, role, link.nonce, sha256, caller, called)

        if link.called and frame.kind == _swarm.HELLO and not link.nonce:
            if frame.number != link.place or len(body) != _swarm.NONCE:
                raise ProtocolError("somebody else")
            mine = secrets.token_bytes(_swarm.NONCE)
            link.nonce = body + mine
            self._send(link, _swarm.frame(_swarm.PROOF, own, mine + proof(b"caller")))
        elif link.called and frame.kind == _swarm.WELCOME and link.nonce:
            if not _swarm.proven(body, proof(b"called")):
                raise ProtocolError("no proof")
            self._ready(link)
        elif not link.called and frame.kind == _swarm.PROOF:
            link.nonce += body[: _swarm.NONCE]
            if frame.number != link.place or not _swarm.proven(body[_swarm.NONCE :], proof(b"caller")):
                raise ProtocolError("no proof")
            self._send(link, _swarm.frame(_swarm.WELCOME, own, proof(b"called")))
            self._ready(link)
        else:
            raise ProtocolError(f"a frame of kind {frame.kind} before it is known who sends it")

    def _ready(self, link: Link) -> None:
        before = self.links.get(link.place)
        if before is not None:
            self._close(before)
        link.ready = True
        self.links[link.place] = link
        self.swarm.join(link.place)
        told = self.swarm.have - set(self.news)
        self._send(link, _swarm.have_frame(sorted(told)))

    def _from_neighbour(self, link: Link, frame: Header, body: memoryview) -> None:
        if frame.kind == _swarm.HAVE:
            self.swarm.told(link.place, _swarm.read_have(bytes(body), len(self.sizes)))
            if self.swarm.has_all(link.place):
                self.finished.add(link.place)
        elif frame.kind == _swarm.ASK:
            self.used = self.now
            link.wanted += 1
            if link.wanted > MOST_WANTED:
                raise ProtocolError("asks for too much at once")
            chunk = self.store.list.chunks[frame.number]
            if frame.number in self.swarm.have:
                head = _swarm.HEADER.pack(_swarm.CHUNK, frame.number, chunk.size)
                self._send(link, head, (chunk.offset, chunk.size))
            else:
                link.wanted -= 1
                self._send(link, _swarm.frame(_swarm.NOT_HAD, frame.number))
        elif frame.kind == _swarm.CHUNK:
            self.used = self.now
            self.swarm.answered(link.place, frame.number)
            self.counts["received"] += frame.length
            if not self._chunk(frame.number, body):
                self.strikes[link.place] = self.strikes.get(link.place, 0) + 1
                raise ProtocolError(f"chunk {frame.number} is damaged")
        elif frame.kind == _swarm.NOT_HAD:
            self.swarm.answered(link.place, frame.number, useless=True)
        else:
            raise ProtocolError(f"a frame of kind {frame.kind} from a neighbour")
        self._ask(link)

    # --- chunks ---

    def _chunk(self, index: int, body: memoryview) -> bool:
        """Keeps a chunk if it is right; whether it is."""
        if index not in self.swarm.missing or self.error:
            return True
        if not self.store.right(index, body):
            self.counts["damaged"] += 1
            return False
        try:
            self.store.write(index, body)
            self.store.hash_some()
        except OSError as problem:
            self.error = f"{self.store.partial} can't be written: {problem.strerror or problem}"
            return True
        self.swarm.arrived(index)
        self.arrived = self.now
        if not self.news:
            self.news_at = self.now + HAVE_SECONDS
        self.news.append(index)
        self._finish_if_complete()
        return True

    def _finish_if_complete(self) -> None:
        if self.swarm.complete and not self.store.verified and not self.error:
            try:
                self.store.finish()
            except (OSError, ValueError) as problem:
                self.error = str(problem)

    def _tell_news(self) -> None:
        if not self.news or (self.now < self.news_at and not self.swarm.complete):
            return
        told = _swarm.have_frame(self.news)
        self.news = []
        for link in self.links.values():
            self._send(link, told)

    def _ask(self, link: Link) -> None:
        while link in self.all and not self.error:
            index = self.swarm.next(link.place, self.now)
            if index is None:
                return
            if len(self.swarm.neighbours[link.place].asked) == 1:
                link.heard = self.now
            self._send(link, _swarm.frame(_swarm.ASK, index))

    def _ask_all(self) -> None:
        for link in list(self.links.values()):
            self._ask(link)

    # --- the controller ---

    def _answer(self) -> None:
        for link in list(self.all):
            if link.until is not None:
                quiet = self.now - max(self.arrived, link.since) > STUCK_SECONDS
                if self.store.verified or self.error or self.now >= link.until or quiet:
                    self._tell_state(link)

    def _tell_state(self, link: Link) -> None:
        text = json.dumps(self.state()).encode()
        link.until = None
        self.used = self.now
        try:
            link.socket.setblocking(True)
            link.socket.settimeout(5)
            link.socket.sendall(_swarm.frame(_swarm.STATE, 0, text))
            self.told = self.told or self.store.verified or bool(self.error)
        except OSError:
            pass
        self._close(link)

    def state(self) -> dict[str, Any]:
        """How far this host is: `have` is a mask of chunks in hexadecimal, sizes are in bytes."""
        return {
            "have": f"{mask(self.swarm.have):x}",
            "complete": self.store.verified,
            "error": self.error,
            "neighbours": len(self.links),
            "planned_neighbours": len(self.around),
            "unavailable": f"{mask(self.swarm.unavailable()):x}",
            **self.counts,
        }


def control_socket(folder: Path, name: str) -> socket.socket:
    """The door for the controller, a file beside the one that is received. Long paths don't matter."""
    control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    (folder / name).unlink(missing_ok=True)
    with opened_folder(folder) as place:
        control.bind(f"{place}/{name}")
    (folder / name).chmod(0o600)
    control.listen(8)
    return control


@contextlib.contextmanager
def opened_folder(folder: Path) -> Iterator[str]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def stop_other(folder: Path, name: str, seconds: float = 5.0) -> bool:
    """Ends the part of an earlier run that still works there; false if it does not end."""
    if not (folder / name).exists():
        return True
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, opened_folder(folder) as place:
        door.settimeout(seconds)
        try:
            door.connect(f"{place}/{name}")
            door.sendall(_swarm.frame(_swarm.STOP))
            return door.recv(1) == b""
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError, FileNotFoundError):
            return True
        except OSError:
            return False


def detach(work: Callable[[], None], keep: Sequence[int] = ()) -> int:
    """Runs the work in a process of its own, with no terminal, no parent and no files but these. Its process id."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        with os.fdopen(reader, "rb") as stream:
            answer = stream.read()
        os.waitpid(child, 0)
        return int(answer)
    os.setsid()
    grandchild = os.fork()
    if grandchild:
        os.write(writer, str(grandchild).encode())
        os._exit(0)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    kept = sorted({0, 1, 2, *keep})
    for low, high in zip(kept, [*kept[1:], 1 << 16]):
        os.closerange(low + 1, high)
    try:
        work()
    finally:
        os._exit(0)
