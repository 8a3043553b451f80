# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module looks at by itself, on this machine."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _wire
from ansible_collections.multinic.kubernetes.plugins.modules import network_probe as module


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the card")
def test_open_refused_and_closed_ports_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.socket() as closed_one:
        closed_one.bind(("127.0.0.1", 0))  # taken, but nobody listens
        ports = [open_one.getsockname()[1], closed_one.getsockname()[1]]
        doors = [*(_wire.Door("127.0.0.1", port) for port in ports), _wire.Door("127.0.0.1", ports[1], "udp")]
        _wire.Pinger("127.0.0.1", "lo").run([], 2, doors)
    assert [door.answer for door in doors] == ["open", "refused", "closed"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the card")
def test_more_doors_than_files_are_tried_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire, "room_for_files", lambda: 3)
    doors = [_wire.Door("127.0.0.1", port, protocol) for port in range(40000, 40020) for protocol in ("tcp", "udp")]
    _wire.Pinger("127.0.0.1", "lo").run([], 5, doors)
    assert {(door.protocol, door.answer) for door in doors} == {("tcp", "refused"), ("udp", "closed")}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the card")
def test_what_a_busy_host_could_not_begin_in_time_is_begun_after_it() -> None:
    doors = [_wire.Door("127.0.0.1", port, "udp") for port in range(40000, 40100)]  # take at least 0.2 s
    _wire.Pinger("127.0.0.1", "lo").run([], 0.15, doors, rounds=(0.0,))
    assert {door.answer for door in doors} == {"closed"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the card")
def test_a_door_that_stayed_silent_may_be_tried_again() -> None:
    door = _wire.Door("127.0.0.1", 40000, "udp")
    pinger = _wire.Pinger("127.0.0.1", "lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 40000))
        pinger.run([], 0.2, [door])
    assert (door.answer, door.sock) == ("", None)
    pinger.run([], 2, [door])
    assert door.answer == "closed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send echo requests")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_both_families_are_echoed_and_refused(address: str) -> None:
    if address == "::1" and not os.path.exists("/proc/net/if_inet6"):
        pytest.skip("no IPv6 here")
    packets = [_wire.Packet(address, size) for size in (64, 9000)]
    doors = [_wire.Door(address, 40001), _wire.Door(address, 40001, "udp")]
    pinger = _wire.Pinger(address, "lo")
    pinger.run(packets, 3, doors)
    assert all(packet.milliseconds is not None for packet in packets)
    assert [door.answer for door in doors] == ["refused", "closed"]
    lost = _wire.Packet(address, 64)
    pinger.trace([lost], 1)
    assert lost.seen_on == "lo"


class NoRoute(socket.socket):
    """A socket whose connection fails at once, as where there is no route; it is writable and without an error then."""

    def connect_ex(self, address: object) -> int:
        return errno.ENETUNREACH


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send echo requests")
def test_a_connection_that_cannot_begin_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_wire.socket, "socket", NoRoute)
    door = _wire.Door("192.0.2.1", 6443)
    _wire.Pinger("127.0.0.1", "lo").run([], 0.2, [door])
    assert door.answer == ""


def test_the_disk_is_measured_and_nothing_is_left_on_it(tmp_path: Path) -> None:
    measured = module.fsync(str(tmp_path / "etcd" / "member"))
    assert list(tmp_path.iterdir()) == []
    if measured is None:
        pytest.skip("this file system has no files without a name")
    assert measured["path"] == str(tmp_path)
    assert 1 <= measured["writes"] <= module.WRITES
    assert 0 <= measured["median"] <= measured["p99"]


def test_only_files_of_others_are_told(tmp_path: Path) -> None:
    for name, text in (("ours", "# Written by multinic.kubernetes: x\n"), ("theirs", "version = 2\n"), ("empty", "\n")):
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("ours", "theirs", "empty", "absent")]
    assert module.foreign_files(paths) == [str(tmp_path / "theirs")]


def test_a_balancer_that_listens_and_one_that_refuses_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.socket() as closed_one:
        closed_one.bind(("127.0.0.1", 0))  # taken, but nobody listens
        ports = [open_one.getsockname()[1], closed_one.getsockname()[1]]
        assert [module.external("127.0.0.1", port)["answer"] for port in ports] == ["open", "refused"]
    assert module.external("127.0.0.1", ports[0])["addresses"] == ["127.0.0.1"]


def test_a_balancer_whose_name_nobody_knows_is_told() -> None:
    unknown = module.external("no-such-name.invalid", 6443)
    assert (unknown["answer"], unknown["addresses"]) == ("unknown", [])
    assert unknown["error"]
