# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The outside address on three hosts with real keepalived, seen by a client on the outside network."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://master1"]

Until = Callable[[Callable[[], bool], float], bool]
Shell = Callable[..., "subprocess.CompletedProcess[str]"]
Converge = Callable[..., "subprocess.CompletedProcess[str]"]

ADDRESS = "192.168.160.250"
HOSTS = ("master1", "master2", "node01")
LONGEST_GAP = 4.0  # seconds
NAMESPACE = "multinic-molecule"
UNITS = ("multinic-apiserver-outside", "multinic-apiserver-outside-check")
# What passes for an API server: it says who it is, and that it is not ready while a file is there.
SERVER = """
import http.server, os, socket, ssl
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if self.path == "/readyz" and os.path.exists("/run/molecule-unready") else 200)
        self.end_headers()
        self.wfile.write(socket.gethostname().encode())
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
server = Server(("::", 6443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/molecule-api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""
UNIT = """
[Service]
ExecStart=/usr/bin/python3 /run/molecule-api.py
"""
# Asks every 50 ms for so many seconds. Says how long it got no answer at most, who answered last, and how many do at the end.
CLIENT = """
import json, ssl, sys, time, urllib.request
url, end = sys.argv[1], time.monotonic() + float(sys.argv[2])
last, gap, who = time.monotonic(), 0.0, []
print("begun", flush=True)
while time.monotonic() < end:
    try:
        who.append(urllib.request.urlopen(url, timeout=0.4, context=ssl._create_unverified_context()).read().decode())
        gap, last = max(gap, time.monotonic() - last), time.monotonic()
    except OSError:
        pass
    time.sleep(0.05)
print(json.dumps({"gap": round(max(gap, time.monotonic() - last), 2), "first": who[:1], "last": who[-1:]}))
"""


class Client:
    """One on the outside network that uses the address all the time."""

    def __init__(self, seconds: float) -> None:
        command = [sys.executable, "-c", CLIENT, f"https://{ADDRESS}:6443/who", str(seconds)]
        inside = ["ip", "netns", "exec", NAMESPACE, *command]
        self.process = subprocess.Popen(inside, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "begun\n"

    def told(self) -> dict[str, Any]:
        out, _err = self.process.communicate(timeout=60)
        return dict(json.loads(out))


@pytest.fixture(scope="module")
def apis(reach: Callable[[str], Host], api_pem: str) -> Iterator[dict[str, Host]]:
    hosts = {name: reach(name) for name in HOSTS}
    for host in hosts.values():
        for path, content in (
            ("/run/molecule-api.pem", api_pem),
            ("/run/molecule-api.py", SERVER),
            ("/run/systemd/system/molecule-api.service", UNIT),
        ):
            host.check_output(f"umask 077; printf %s {shlex.quote(content)} > {path}")
        host.check_output("systemctl daemon-reload")
    yield hosts
    for host in hosts.values():
        host.run("systemctl stop molecule-api; rm -f /run/systemd/system/molecule-api.service; systemctl daemon-reload")


def holders(shell: Shell, names: tuple[str, ...] = HOSTS) -> list[str]:
    """Who has the address, of the hosts that can be asked."""
    return [name for name in names if ADDRESS in shell(name, f"ip -o address show to {ADDRESS}").stdout]


@pytest.fixture
def holder(apis: dict[str, Host], shell: Shell, until: Until) -> str:
    """The one that has the address, when every API server is ready."""
    for host in apis.values():
        host.check_output("rm -f /run/molecule-unready; systemctl start molecule-api")
    ready = "cat /run/multinic-apiserver-outside/priority"
    assert until(lambda: all(host.check_output(ready).strip() == "0" for host in apis.values()), 20)
    assert until(lambda: len(holders(shell)) == 1, 20)
    return holders(shell)[0]


def test_nobody_has_the_address_before_there_is_an_api_server(apis: dict[str, Host], shell: Shell) -> None:
    for host in apis.values():
        for unit in UNITS:
            assert host.service(unit).is_enabled
            assert host.service(unit).is_running, host.check_output(f"journalctl --no-pager -n 30 -u {unit}")
    assert holders(shell) == []


def test_the_address_is_alone_on_the_outer_card_and_no_source(holder: str, apis: dict[str, Host]) -> None:
    host = apis[holder]
    assert f"inet {ADDRESS}/32 scope global ens33" in host.check_output("ip address show ens33")
    for target in ("192.168.160.1", "203.0.113.1", "192.168.253.99"):
        assert f"src {ADDRESS} " not in host.check_output(f"ip route get {target}")
    assert Client(1).told()["last"] == [holder]


def break_frozen(holder: str, _apis: dict[str, Host], guest: Callable[..., None]) -> None:
    guest(guests=[holder], state="frozen")


def mend_frozen(holder: str, _apis: dict[str, Host], guest: Callable[..., None]) -> None:
    guest(guests=[holder], state="thawed")


def break_unplugged(holder: str, _apis: dict[str, Host], guest: Callable[..., None]) -> None:
    guest(guests=[holder], cards={"ens33": "unplugged"})


def mend_unplugged(holder: str, _apis: dict[str, Host], guest: Callable[..., None]) -> None:
    guest(guests=[holder], cards={"ens33": "plugged"})


def break_unready(holder: str, apis: dict[str, Host], _guest: Callable[..., None]) -> None:
    # It serves on, as one that has lost its etcd does, so this gap is that of the move alone.
    apis[holder].check_output("touch /run/molecule-unready")


def break_killed(holder: str, apis: dict[str, Host], _guest: Callable[..., None]) -> None:
    apis[holder].check_output("systemctl kill --signal=KILL molecule-api")


def break_hung(holder: str, apis: dict[str, Host], _guest: Callable[..., None]) -> None:
    apis[holder].check_output("systemctl kill --signal=STOP molecule-api")


def mend_hung(holder: str, apis: dict[str, Host], _guest: Callable[..., None]) -> None:
    apis[holder].check_output("systemctl kill --signal=CONT molecule-api")


FAULTS: dict[str, tuple[Callable[..., None], Callable[..., None] | None]] = {
    "frozen": (break_frozen, mend_frozen),
    "unplugged": (break_unplugged, mend_unplugged),
    "unready": (break_unready, None),
    "killed": (break_killed, None),
    "hung": (break_hung, mend_hung),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_one_takes_the_address(
    fault: str, holder: str, apis: dict[str, Host], shell: Shell, guest: Callable[..., None], until: Until
) -> None:
    happen, mend = FAULTS[fault]
    client = Client(14)
    try:
        happen(holder, apis, guest)
        told = client.told()
        left = tuple(name for name in HOSTS if fault not in ("frozen", "unplugged") or name != holder)
        taken = holders(shell, left)
    finally:
        if mend is not None:
            mend(holder, apis, guest)
    print(f"\n{fault}: {holder} to {taken}, longest gap {told['gap']} s")
    assert len(taken) == 1
    assert told["last"] == taken != [holder]
    assert told["gap"] <= LONGEST_GAP
    back = Client(8)
    for host in apis.values():
        host.check_output("rm -f /run/molecule-unready; systemctl start molecule-api")
    told = back.told()
    print(f"{fault} is over: longest gap {told['gap']} s, it is on {holders(shell)}")
    assert until(lambda: len(holders(shell)) == 1, 5)
    assert told["gap"] <= LONGEST_GAP


def test_a_keepalived_that_is_killed_leaves_no_second_holder(holder: str, apis: dict[str, Host], shell: Shell) -> None:
    client = Client(8)
    apis[holder].check_output("kill -9 $(cat /run/multinic-apiserver-outside/main.pid)")
    told = client.told()
    print(f"\nkeepalived killed: longest gap {told['gap']} s")
    assert told["gap"] <= LONGEST_GAP
    assert len(holders(shell)) == 1


def test_when_none_is_ready_one_keeps_it(holder: str, apis: dict[str, Host], shell: Shell, until: Until) -> None:
    for host in apis.values():
        host.check_output("touch /run/molecule-unready")
    read = "cat /run/multinic-apiserver-outside/priority"
    assert until(lambda: all(host.check_output(read).strip() == "-150" for host in apis.values()), 10)
    assert until(lambda: len(holders(shell)) == 1, 5)
    assert Client(2).told()["gap"] <= LONGEST_GAP, f"it was {holder}'s"


@pytest.mark.usefixtures("holder")
def test_a_second_run_changes_nothing_while_it_is_held(apis: dict[str, Host], shell: Shell, converge: Converge) -> None:
    for host in apis.values():
        host.check_output("systemctl stop molecule-api")  # preflight wants the port to be free
    before = holders(shell)
    done = converge("apiserver_outside")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout
    assert "virtual router id 250" in done.stdout
    assert len(before) == 1
    assert holders(shell) == before


def test_an_address_that_somebody_has_is_refused(apis: dict[str, Host], converge: Converge) -> None:
    """The lab's router is nobody of the inventory."""
    for host in apis.values():
        host.check_output("systemctl stop molecule-api")
    inside = ["ip", "-n", NAMESPACE, "-o", "-4", "address", "show", "to", "192.168.160.1"]
    card = subprocess.run(inside, check=True, capture_output=True, text=True).stdout.split()[1]
    change = ["ip", "-n", NAMESPACE, "address", "{}", "192.168.160.77/32", "dev", card]
    subprocess.run([word.format("add") for word in change], check=True)
    try:
        done = converge("apiserver_outside", "-e", "apiserver_outside_address=192.168.160.77")
    finally:
        subprocess.run([word.format("del") for word in change], check=True)
    assert done.returncode != 0
    assert "answers for 192.168.160.77 on ens33" in done.stdout
    assert set(re.findall(r"changed=(\d+)", done.stdout)) == {"0"}, done.stdout


def test_without_the_variable_nothing_is_left(
    apis: dict[str, Host], shell: Shell, converge: Converge, until: Until
) -> None:
    for host in apis.values():
        host.run("systemctl stop molecule-api")
    balancer = {
        name: host.check_output("systemctl show -P MainPID multinic-apiserver-balancer") for name, host in apis.items()
    }
    none = ("-e", "apiserver_outside_address=")
    done = converge("apiserver_outside", *none)
    assert done.returncode == 0, done.stdout + done.stderr
    try:
        for name, host in apis.items():
            left = "ls -d /etc/systemd/system/multinic-apiserver-outside* /etc/systemd/system/*/multinic-apiserver-outside* "
            left += "/etc/multinic/apiserver-outside* /usr/local/lib/multinic/apiserver_outside* /run/multinic-apiserver-outside*"
            assert host.run(f"bash -c {shlex.quote(left)}").stdout == ""
            assert (
                host.check_output("systemctl --all --plain --no-legend list-units 'multinic-apiserver-outside*'") == ""
            )
            assert host.check_output("systemctl show -P MainPID multinic-apiserver-balancer") == balancer[name]
        assert holders(shell) == []
        again = converge("apiserver_outside", *none)
        assert set(re.findall(r"changed=(\d+)", again.stdout)) == {"0"}, again.stdout
    finally:
        done = converge("apiserver_outside")
    assert done.returncode == 0, done.stdout + done.stderr
    for host in apis.values():
        host.check_output("systemctl start molecule-api")
    assert until(lambda: len(holders(shell)) == 1, 30)
