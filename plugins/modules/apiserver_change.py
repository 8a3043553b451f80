#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: apiserver_change
short_description: Steps of a host's change from one way to the API server to another
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - C(prove) asks the API server by the new way. It fails if the old one answers and the new one does not.
  - C(settle) is for the time after the name has changed in C(/etc/hosts). A pod in the host's network has a copy of that
    file from when its container was started, so kube-proxy is ended, and kubelet starts it again; and programs that
    remember the old address for some seconds are waited for.
  - C(clear) removes a virtual server that is still in the kernel after its balancer has ended.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details:
      - Nothing is asked and nothing waited for, since the new way is not there yet.
  diff_mode:
    support: none
options:
  operation:
    description: The step.
    type: str
    required: true
    choices: [prove, settle, clear]
  old:
    description: The addresses by which the host has reached the API server.
    type: list
    elements: str
    default: []
  new:
    description: Those by which it is to reach it. Empty means that the name is resolved by DNS, and that is then asked.
    type: list
    elements: str
    default: []
  port:
    description: The API server's port.
    type: int
    default: 6443
  server_name:
    description: The API server's name, which its certificate holds.
    type: str
    default: apiserver.cluster.local
  path:
    description: What the API server is asked for.
    type: str
    default: /readyz
  wait:
    description: Seconds to wait for the new way, and for kube-proxy.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: The API server answers by the new way
  multinic.kubernetes.apiserver_change:
    operation: prove
    old: [10.103.97.2]
    new: [127.0.0.1]
"""

RETURN = r"""
proved:
  description: Whether the new way has answered. False where the old one does not either, so there is nothing to lose.
  returned: for C(prove)
  type: bool
ended:
  description: The processes that were ended because they knew the old address.
  returned: for C(settle)
  type: list
  elements: str
  sample: [kube-proxy]
stale:
  description: Other processes in the host's network that still know it.
  returned: for C(settle)
  type: list
  elements: str
removed:
  description: The virtual servers that were removed.
  returned: for C(clear)
  type: list
  elements: str
"""

import contextlib
import os
import signal
import socket
import ssl
import time
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer import at
from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import (
    CA,
    CA_REMEDY,
    LOOPBACK,
    NAME_REMEMBERED,
    STATUS_SOCKET,
    found_addresses,
    proxy_servers,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._facts import parse_hosts_file
from ansible_collections.multinic.kubernetes.plugins.module_utils._proxy_status import proxy_status
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify import parse_ip_vs

PROC = Path("/proc")
HOSTS = Path("/etc/hosts")
IP_VS = Path("/proc/net/ip_vs")
RESTARTED = ("kube-proxy",)
# Static pods of kubeadm that ask their own API server by address, or nobody. A process has 15 characters of its name.
BY_ADDRESS = ("etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "pause")
ANSWER_SECONDS = 5
PAUSE = 0.3

ARGUMENT_SPEC: dict[str, Any] = {
    "operation": {"type": "str", "required": True, "choices": ["prove", "settle", "clear"]},
    "old": {"type": "list", "elements": "str", "default": []},
    "new": {"type": "list", "elements": "str", "default": []},
    "port": {"type": "int", "default": 6443},
    "server_name": {"type": "str", "default": "apiserver.cluster.local"},
    "path": {"type": "str", "default": "/readyz"},
    "wait": {"type": "int", "default": 60},
}


def ask(address: str, port: int, name: str, path: str) -> str:
    """Empty if the API server answers there with 200; else why not. The certificate is checked where there is a CA."""
    context = ssl.create_default_context()
    if os.path.exists(CA):
        try:
            context.load_verify_locations(CA)
        except ssl.SSLError:
            return f"{CA} on this host holds no certificate. {CA_REMEDY}"
    else:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        with socket.create_connection((address, port), timeout=ANSWER_SECONDS) as plain:
            with context.wrap_socket(plain, server_hostname=name) as stream:
                stream.sendall(f"GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n".encode())
                head = stream.recv(200).decode(errors="replace").splitlines()[:1]
    except OSError as exc:
        return str(exc) or type(exc).__name__
    status = head[0] if head else "an empty answer"
    return "" if " 200 " in f"{status} " else status


def proxy_trouble() -> str:
    """Empty if the proxy runs and has a server that is ready; else what is wrong."""
    try:
        told = proxy_status(ANSWER_SECONDS)
    except OSError as exc:
        return f"the proxy does not tell its state at {STATUS_SOCKET}: {exc}"
    return "" if any(proxy_servers(told).values()) else "the proxy has no server that is ready"


def stale(name: str, old: set[str]) -> dict[int, str]:
    """The processes, by number, whose own /etc/hosts gives the name an old address."""
    found = {}
    mine = HOSTS.stat()
    for folder in PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            theirs = folder / "root" / "etc" / "hosts"
            if os.path.samestat(theirs.stat(), mine):
                continue
            text = theirs.read_text(encoding="utf-8", errors="replace")
            command = (folder / "comm").read_text(encoding="utf-8").strip()
        except OSError:
            continue
        if old & set(found_addresses(parse_hosts_file(text), name)):
            found[int(folder.name)] = command
    return found


def time_left(changed: float, now: float) -> float:
    """Seconds until nobody remembers the name from before the change. A clock that was put back does not prolong them."""
    return max(0.0, min(NAME_REMEMBERED, changed + NAME_REMEMBERED - now))


class Step:
    """One operation on this host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.params: dict[str, Any] = module.params
        self.deadline = time.monotonic() + module.params["wait"]

    def answer(self, address: str) -> str:
        trouble = ask(address, self.params["port"], self.params["server_name"], self.params["path"])
        # On a control plane its own API server answers there too, so that says nothing of the proxy.
        return trouble or (proxy_trouble() if address in LOOPBACK.values() else "")

    def prove(self) -> dict[str, Any]:
        if not any(self.answer(address) == "" for address in self.params["old"]):
            return {"changed": False, "proved": False}
        for address in self.params["new"]:
            trouble = self.answer(address)
            while trouble and time.monotonic() < self.deadline:
                time.sleep(PAUSE)
                trouble = self.answer(address)
            if trouble:
                self.module.fail_json(
                    msg=f"GET {self.params['path']} at {at(address, self.params['port'])}: {trouble}. The API server "
                    f"answers at {', '.join(self.params['old'])}, so this host keeps that, and "
                    "nothing was taken away. Put it right (systemctl status 'multinic-*', journalctl -u 'multinic-*'), "
                    "or set apiserver_balancer back, and run again."
                )
        return {"changed": False, "proved": True}

    def settle(self) -> dict[str, Any]:
        old = set(self.params["old"]) - set(self.params["new"])
        ended: dict[int, str] = {}
        while True:
            known = stale(self.params["server_name"], old)
            waiting = {process: command for process, command in known.items() if command in RESTARTED}
            for process, command in waiting.items():
                if process not in ended:
                    ended[process] = command
                    with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                        os.kill(process, signal.SIGTERM)
            if not waiting:
                break
            if time.monotonic() > self.deadline:
                self.module.fail_json(
                    msg=f"{', '.join(sorted(set(waiting.values())))} did not end, and knows "
                    f"{self.params['server_name']} by an address that is to go. Restart its pod on this "
                    "host (kubectl -n kube-system get pods -o wide), then run again."
                )
            time.sleep(PAUSE)
        self.come_back(set(ended.values()))
        time.sleep(time_left(HOSTS.stat().st_mtime, time.time()))
        others = sorted(set(known.values()) - {*RESTARTED, *BY_ADDRESS})
        if others:
            self.module.warn(
                f"{', '.join(others)} have a hosts file of their own, in which {self.params['server_name']} has an "
                f"address that goes now. If they use the API by that name, restart their pods."
            )
        return {"changed": bool(ended), "ended": sorted(set(ended.values())), "stale": others}

    def come_back(self, commands: set[str]) -> None:
        """Wait until what was ended runs again."""
        while time.monotonic() < self.deadline:
            running = set()
            for folder in PROC.iterdir():
                if folder.name.isdigit():
                    try:
                        running.add((folder / "comm").read_text(encoding="utf-8").strip())
                    except OSError:
                        continue
            if commands <= running:
                return
            time.sleep(PAUSE)
        self.module.fail_json(
            msg=f"{', '.join(sorted(commands))} was ended so that it learns the API server's new address, and kubelet has "
            f"not started it again within {self.params['wait']} s. See crictl ps -a and journalctl -u kubelet, then run "
            "again; the old way to the API server is still there."
        )

    def clear(self) -> dict[str, Any]:
        try:
            text = IP_VS.read_text(encoding="utf-8")
        except OSError:
            return {"changed": False, "removed": []}
        removed = []
        for server in parse_ip_vs(text):
            if server["address"] in self.params["old"] and server["port"] == self.params["port"]:
                where = at(server["address"], server["port"])
                if not self.module.check_mode:
                    self.module.run_command(["ipvsadm", "--delete-service", "--tcp-service", where], check_rc=True)
                removed.append(where)
        return {"changed": bool(removed), "removed": removed}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    step = Step(module)
    operation = module.params["operation"]
    if module.check_mode and operation != "clear":
        empty: dict[str, Any] = {"proved": False} if operation == "prove" else {"ended": [], "stale": []}
        module.exit_json(changed=False, **empty)
    result: dict[str, Any] = getattr(step, operation)()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
