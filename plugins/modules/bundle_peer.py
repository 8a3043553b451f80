#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle_peer
short_description: Starts a host's part in passing a file around among the hosts
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Makes room for the file, looks which of its chunks the host has already, and starts the host's part, which goes on when
    the module has ended. It receives chunks from the controller and from other hosts, passes them on to those that
    ask, and ends by itself.
  - It listens on the planned address of the host only, and speaks only with the other planned addresses, and only if they
    prove to have O(key). Each chunk is checked before it is kept, and the file gets its name once its sha256 is right.
  - M(multinic.kubernetes.bundle_transfer) calls it.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
seealso:
  - module: multinic.kubernetes.bundle_transfer
options:
  path:
    description: Where the file shall be. Its folder is there.
    type: path
    required: true
  sha256:
    description: The sha256 of the file.
    type: str
    required: true
  chunks:
    description: The sha256 and size of each of its chunks.
    type: str
    required: true
  addresses:
    description: The planned addresses of all hosts that take part, in the same order on each of them.
    type: list
    elements: str
    required: true
  place:
    description: Which of O(addresses) is this host's.
    type: int
    required: true
  port:
    description: The TCP port on which the hosts listen for each other.
    type: int
    required: true
  key:
    description: The key of this transfer, in hexadecimal.
    type: str
    required: true
  earlier:
    description: Patterns of files that an interrupted transfer may have left. The chunks that they hold are not sent again.
    type: list
    elements: str
    default: []
  idle:
    description: Seconds after which the host's part ends if nobody asked it for anything.
    type: float
    default: 60
  deadline:
    description: Seconds after which it ends in any case.
    type: float
    default: 7200
  reserve:
    description: Bytes that have to stay free on the file system.
    type: int
    default: 0
"""

EXAMPLES = r"""
- name: Two hosts take part
  multinic.kubernetes.bundle_peer:
    path: /var/tmp/kubernetes.tar.gz
    sha256: 0f343b0931126a20f133d67c2b018a3b5e0a7c1f2a7d6b8f8a7a5c1d3b2e4f60
    chunks: "{{ chunks }}"
    addresses: [192.168.253.128, 192.168.253.129]
    place: 0
    port: 8475
    key: "{{ key }}"
"""

RETURN = r"""
have:
  description: The chunks that the host has, as a mask in hexadecimal.
  returned: success
  type: str
  sample: 3fff
complete:
  description: Whether the file was there already.
  returned: success
  type: bool
  sample: false
folder:
  description: Where the control socket of the host's part is.
  returned: success
  type: str
  sample: /var/tmp
socket:
  description: Its name.
  returned: success
  type: str
  sample: .kubernetes.tar.gz.peer
python:
  description: The Python that runs on the host.
  returned: success
  type: str
  sample: /usr/bin/python3
pid:
  description: The process id of the host's part.
  returned: when it was started
  type: int
  sample: 4711
"""

import contextlib
import glob
import os
import sys
import traceback
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _peer
from ansible_collections.multinic.kubernetes.plugins.module_utils._chunks import ChunkError, mask, read_chunks

ARGUMENT_SPEC: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "sha256": {"type": "str", "required": True},
    "chunks": {"type": "str", "required": True},
    "addresses": {"type": "list", "elements": "str", "required": True},
    "place": {"type": "int", "required": True},
    "port": {"type": "int", "required": True},
    "key": {"type": "str", "required": True, "no_log": True},
    "earlier": {"type": "list", "elements": "str", "default": []},
    "idle": {"type": "float", "default": 60},
    "deadline": {"type": "float", "default": 7200},
    "reserve": {"type": "int", "default": 0},
}
MIB = 1 << 20


class PeerError(ValueError):
    """The host can't take part; the message says why."""


def take_over(path: Path, earlier: list[str]) -> None:
    """Ends what an earlier run left at work, and takes over what it had received."""
    if not _peer.stop_other(path.parent, _peer.socket_name(path.name)):
        raise PeerError(f"another run is bringing {path} to this host and does not end: wait for it")
    partial = path.with_name(_peer.partial_name(path.name))
    for found in sorted(name for pattern in earlier for name in glob.glob(pattern)):
        other = Path(found)
        if other == partial or not other.is_file() or other.is_symlink():
            continue
        name = other.name[1:].rsplit(".partial", 1)[0]
        if not _peer.stop_other(other.parent, _peer.socket_name(name)):
            continue
        # By a rename: it is on the same file system, and nothing lies there twice.
        if not partial.exists() and other.exists() and other.stat().st_dev == path.parent.stat().st_dev:
            other.replace(partial)
            with contextlib.suppress(OSError):  # something else is in it
                other.parent.rmdir()


def check_space(path: Path, size: int, reserve: int) -> None:
    partial = path.with_name(_peer.partial_name(path.name))
    there = partial.stat().st_blocks * 512 if partial.exists() else 0
    status = os.statvfs(path.parent)
    free, needed = status.f_bavail * status.f_frsize, max(0, size - there) + reserve
    if free < needed:
        raise PeerError(
            f"{path} needs {needed // MIB} MiB on the file system of {path.parent}, found {free // MIB} MiB free. "
            "Free some space there, or choose another place."
        )


def prepare(given: dict[str, Any], path: Path, store: _peer.Store) -> None:
    """The file in its full size, with the chunks that are to be had on this host."""
    take_over(path, given["earlier"])
    check_space(path, store.list.size, given["reserve"])
    store.open()
    if path.is_file():
        store.adopt(path)


def start(given: dict[str, Any], path: Path, store: _peer.Store) -> int:
    """The host's part, at work; its process id."""
    settings = _peer.Settings(
        path,
        given["place"],
        tuple(given["addresses"]),
        given["port"],
        bytes.fromhex(given["key"]),
        given["idle"],
        given["deadline"],
    )
    name = _peer.socket_name(path.name)
    control = _peer.control_socket(path.parent, name)
    peer = _peer.Peer(settings, store, control)
    try:
        peer.listen()
    except OSError as exc:
        (path.parent / name).unlink(missing_ok=True)
        address = settings.addresses[settings.place]
        raise PeerError(f"{address} port {settings.port} can't be listened on: {exc.strerror or exc}") from exc
    keep = [store.handle, control.fileno(), *([peer.server.fileno()] if peer.server is not None else [])]

    def work() -> None:
        log = path.with_name(_peer.log_name(path.name))
        try:
            peer.run()
        except BaseException:  # noqa: BLE001  nobody else is there to tell
            log.write_text(traceback.format_exc(), encoding="utf-8")
        finally:
            (path.parent / name).unlink(missing_ok=True)

    return _peer.detach(work, keep)


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    given = module.params
    path = Path(given["path"])
    result: dict[str, Any] = {
        "changed": False,
        "complete": False,
        "have": "0",
        "folder": str(path.parent),
        "socket": _peer.socket_name(path.name),
        "python": sys.executable,
    }
    try:
        if not 0 <= given["place"] < len(given["addresses"]):
            raise PeerError(f"place is {given['place']}, but there are {len(given['addresses'])} addresses")
        store = _peer.Store(path, read_chunks(given["sha256"], given["chunks"]))
        if not path.parent.is_dir():
            raise PeerError(f"{path.parent} is no folder on the host")
        result["complete"] = store.take_whole()
        result["changed"] = not result["complete"]
        if not module.check_mode:
            if not result["complete"]:
                prepare(given, path, store)
            elif not _peer.stop_other(path.parent, result["socket"]):
                raise PeerError(f"another run is passing {path} on from this host and does not end: wait for it")
            if not result["complete"] or len(given["addresses"]) > 1:
                result["pid"] = start(given, path, store)
        result["have"] = f"{mask(store.have):x}"
    except (PeerError, ChunkError) as exc:
        module.fail_json(msg=str(exc))
    except (OSError, ValueError) as exc:
        module.fail_json(msg=f"the host can't take part in passing {path} around: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
