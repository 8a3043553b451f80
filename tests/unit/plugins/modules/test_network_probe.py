# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module looks at by itself, on this machine."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import network_probe as module


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the card")
def test_an_open_and_a_refused_port_pass() -> None:
    with socket.create_server(("127.0.0.1", 0)) as open_one, socket.socket() as closed_one:
        closed_one.bind(("127.0.0.1", 0))  # taken, but nobody listens
        doors = [open_one.getsockname(), closed_one.getsockname()]
        answers = module.Pinger("127.0.0.1", "lo").knock(doors, 2)
    assert answers == {doors[0]: f"port {doors[0][1]} is open", doors[1]: f"port {doors[1][1]} is refused"}


class NoRoute(socket.socket):
    """A socket whose connection fails at once, as where there is no route; it is writable and without an error then."""

    def connect_ex(self, address: object) -> int:
        return errno.ENETUNREACH


def test_a_connection_that_cannot_begin_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.socket, "socket", NoRoute)
    monkeypatch.setattr(module.Pinger, "bind", lambda self, sock: None)
    assert module.Pinger("127.0.0.1", "lo").knock([("192.0.2.1", 6443)], 0.2) == {}


def test_only_files_of_others_are_told(tmp_path: Path) -> None:
    for name, text in (("ours", "# Written by multinic.kubernetes: x\n"), ("theirs", "version = 2\n"), ("empty", "\n")):
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path / name) for name in ("ours", "theirs", "empty", "absent")]
    assert module.foreign_files(paths) == [str(tmp_path / "theirs")]
