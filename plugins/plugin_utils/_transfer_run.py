# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This plugin util is **PRIVATE** to the collection.

"""The controller's side of a transfer: what the workers of a task, one for each host, share and do.

Ansible runs each host's part of a task in a process of its own. What these have in common lies in a folder below
Ansible's own temporary one, which Ansible removes at its end: the list of chunks, the key, and the ledger.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shlex
import time
import typing as t
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ansible import constants as C  # noqa: N812  Ansible's own name for it
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.multinic.kubernetes.plugins.module_utils import _swarm
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import ChunkList, list_chunks, read_chunks
from ansible_collections.multinic.kubernetes.plugins.module_utils._peer import FEED
from ansible_collections.multinic.kubernetes.plugins.module_utils._transfer import Ledger, megabytes

MODULE = "multinic.kubernetes.bundle_peer"
PORT = 8475
READ = 4 << 20
KEY_BYTES = 32
WAIT_SECONDS = 60
POLL_SECONDS = 0.2
# A host that got nothing for so long, though others have it, is sent what it lacks by the controller.
ALONE_SECONDS = 12.0
TRIES = 2


class NoTransferError(Exception):
    """The host can't take part; the file has to come to it in another way."""


class Shared:
    """What the workers of one task share."""

    def __init__(self, name: str) -> None:
        self.folder = Path(C.DEFAULT_LOCAL_TMP) / f"multinic-transfer-{name}"
        self.folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def lock(self) -> Iterator[None]:
        with (self.folder / "lock").open("w", encoding="ascii") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def begin(self, source: Path, sha256: str, hosts: Sequence[str]) -> ChunkList:
        """The list of chunks. The first worker makes it, together with all else. BundleError: the file is not the one."""
        text = self.folder / "chunks"
        with self.lock():
            if text.exists():
                return read_chunks(sha256, text.read_text(encoding="ascii"))
            with source.open("rb", buffering=0) as stream:
                chunks = list_chunks(iter(lambda: stream.read(READ), b""))
            if chunks.sha256 != sha256:
                raise BundleError(
                    f"{source} has sha256 {chunks.sha256}, but {sha256} was expected: it is damaged or another file"
                )
            ledger = Ledger.new([chunk.size for chunk in chunks.chunks], hosts, time.monotonic())
            (self.folder / "ledger").write_text(ledger.text(), encoding="ascii")
            key = os.open(self.folder / "key", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            os.write(key, secrets.token_hex(KEY_BYTES).encode())
            os.close(key)
            text.write_text(chunks.text(), encoding="ascii")
        return chunks

    def key(self) -> str:
        return (self.folder / "key").read_text(encoding="ascii")

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger, for this worker alone; what is changed in it is kept."""
        with self.lock():
            ledger = self.read()
            yield ledger
            (self.folder / "ledger").write_text(ledger.text(), encoding="ascii")

    def read(self) -> Ledger:
        """The ledger, to look at; for whoever holds the lock."""
        return Ledger.read((self.folder / "ledger").read_text(encoding="ascii"))


@dataclass(frozen=True)
class Order:
    """One host's part: which file, where to, and with whom. `addresses` are those of all hosts, by name."""

    source: Path
    sha256: str
    target: str
    host: str
    addresses: t.Mapping[str, str]
    port: int = PORT
    earlier: Sequence[str] = ()
    reserve: int = 0
    at_once: int = 5


class Worker:
    """Sees to it that one host gets the file."""

    def __init__(
        self,
        action: ActionBase,
        order: Order,
        task_vars: t.Optional[dict[str, t.Any]],
        show: Callable[[str], None],
    ) -> None:
        self.action = action
        self.order = order
        self.task_vars = task_vars
        self.show = show
        self.shared = Shared(f"{order.sha256[:16]}-{action._task._uuid}")
        self.started: dict[str, t.Any] = {}
        self.fed = 0
        self.announced = False

    def check(self) -> dict[str, t.Any]:
        """For check mode: what would be done."""
        chunks = self.shared.begin(self.order.source, self.order.sha256, list(self.order.addresses))
        return self.module(chunks)

    def run(self) -> dict[str, t.Any]:
        """The file is on the host, or a NoTransferError; or what the host said if it can't take it at all."""
        host = self.order.host
        chunks = self.shared.begin(self.order.source, self.order.sha256, list(self.order.addresses))
        self.wait_until(lambda ledger, now: ledger.may_start(host, now))
        try:
            for number in range(1, TRIES + 1):
                result = self.module(chunks)
                if result.get("failed"):
                    self.fail()
                    return result
                self.report(result["have"])
                if result["complete"]:
                    return {**result, "fed": 0, "received": 0}
                self.started = result
                try:
                    return {**result, **self.feed(chunks)}
                except NoTransferError as problem:
                    if number == TRIES:
                        raise
                    self.show(f"{host}: {problem}; it is started again")
        except BaseException:
            self.fail()
            raise
        raise AssertionError("not reached")

    def module(self, chunks: ChunkList) -> dict[str, t.Any]:
        order = self.order
        arguments = {
            "path": order.target,
            "sha256": order.sha256,
            "chunks": chunks.text(),
            "addresses": list(order.addresses.values()),
            "place": list(order.addresses).index(order.host),
            "port": order.port,
            "key": self.shared.key(),
            "earlier": list(order.earlier),
            "reserve": order.reserve,
        }
        result = self.action._execute_module(module_name=MODULE, module_args=arguments, task_vars=self.task_vars)
        return t.cast("dict[str, t.Any]", result)

    def report(self, have: str) -> None:
        with self.shared.ledger() as ledger:
            ledger.report(self.order.host, int(have, 16))
            line = ledger.line(time.monotonic())
        if line:
            self.show(line)

    def fail(self) -> None:
        with self.shared.ledger() as ledger:
            ledger.fail(self.order.host)

    def wait_until(self, true: Callable[[Ledger, float], bool]) -> None:
        while True:
            with self.shared.lock():
                ledger = self.shared.read()
            if true(ledger, time.monotonic()):
                return
            time.sleep(POLL_SECONDS)

    def feed(self, chunks: ChunkList) -> dict[str, t.Any]:
        """Sends what nobody has, waits for the rest to come from the others."""
        host = self.order.host
        self.wait_until(lambda ledger, now: ledger.may_begin(now, self.order.at_once))
        moved, have, alone = time.monotonic(), int(self.started["have"], 16), False
        while True:
            with self.shared.ledger() as ledger:
                batch = ledger.take(host, time.monotonic(), alone)
                if not batch:
                    ledger.rest(host)
            began = time.monotonic()
            state = self.exchange(chunks, batch, 0 if batch else WAIT_SECONDS)
            if batch:
                size = sum(chunks.chunks[index].size for index in batch)
                self.fed += size
                with self.shared.ledger() as ledger:
                    ledger.carried(host, size, time.monotonic() - began)
            self.report(state["have"])
            if state["error"]:
                raise NoTransferError(state["error"])
            if state["complete"]:
                return {key: state[key] for key in ("fed", "fed_again", "received", "served", "damaged")}
            if int(state["have"], 16) != have:
                have, moved = int(state["have"], 16), time.monotonic()
            elif batch and state["damaged"]:
                raise NoTransferError(f"{self.order.source} changes while it is sent")
            alone = time.monotonic() - moved > ALONE_SECONDS or self.cut_off(state, began)
            if alone and not self.announced:
                self.announced = True
                self.show(
                    f"{host} gets nothing from the other hosts ({state['neighbours']} of {state['planned_neighbours']} "
                    f"are connected with it on port {self.order.port} of the cluster network): the controller sends it "
                    "all, by plain copy. Is the port open between the hosts?"
                )

    def cut_off(self, state: t.Mapping[str, t.Any], began: float) -> bool:
        """No other host is connected, though there are some, and none was for as long as one waits for that."""
        waited = time.monotonic() - began > _WAITED_FOR_NEIGHBOURS
        with self.shared.ledger() as ledger:
            others = [name for name, host in ledger.hosts.items() if name != self.order.host and host.have]
        return bool(others) and not state["neighbours"] and waited

    def exchange(self, chunks: ChunkList, batch: Sequence[int], wait: int) -> dict[str, t.Any]:
        """Sends chunks to the host's part and returns what it answers. NoTransferError: it does not."""
        data = bytearray()
        with self.order.source.open("rb", buffering=0) as stream:
            for index in batch:
                chunk = chunks.chunks[index]
                stream.seek(chunk.offset)
                data += _swarm.frame(_swarm.CHUNK, index, stream.read(chunk.size))
        data += _swarm.frame(_swarm.WAIT, wait)
        words = [self.started["python"], "-c", FEED, self.started["folder"], self.started["socket"]]
        answer = self.action._low_level_execute_command(shlex.join(words), sudoable=True, in_data=bytes(data))
        lines = str(answer.get("stdout", "")).strip().splitlines()
        if answer.get("rc") or not lines:
            said = (str(answer.get("stderr", "")).strip().splitlines() or ["no answer"])[-1]
            raise NoTransferError(f"its part in passing the file around ended ({said})")
        return t.cast("dict[str, t.Any]", json.loads(lines[-1]))


_WAITED_FOR_NEIGHBOURS = 2.5


def planned_addresses(variables: t.Mapping[str, t.Any]) -> dict[str, str]:
    """The cluster address of each host of the play that has one in the plan, in the plan's order."""
    plan = (variables.get("ansible_facts") or {}).get("cluster_plan") or {}
    play = set(variables.get("ansible_play_hosts") or ())
    return {str(name): str(node["address"]) for name, node in (plan.get("hosts") or {}).items() if name in play}


def summary(result: t.Mapping[str, t.Any]) -> str:
    return (
        f"{megabytes(result.get('fed', 0))} came from the controller, "
        f"{megabytes(result.get('received', 0))} from other hosts"
    )


def deliver(
    action: ActionBase,
    order: Order,
    task_vars: t.Optional[dict[str, t.Any]],
    show: Callable[[str], None],
    copy: Callable[[], dict[str, t.Any]],
) -> dict[str, t.Any]:
    """The file on the host: with the other hosts' help, or, which is announced, by plain copy."""
    if not getattr(action._connection, "has_pipelining", False):
        show(f"{order.host}: the connection can't pass data to a command, so the file is sent by plain copy")
        return copy()
    worker = Worker(action, order, task_vars, show)
    try:
        result = worker.run()
    except NoTransferError as problem:
        show(f"{order.host}: {problem}; the file is sent by plain copy")
        return copy()
    except OSError as problem:
        raise AnsibleError(f"{order.source} could not be sent: {problem}") from problem
    if result.get("failed") and "can't be listened on" in str(result.get("msg")):
        show(f"{order.host}: {result['msg']}; the file is sent by plain copy")
        return copy()
    return result
