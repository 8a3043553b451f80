# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From IPVS to the proxy on localhost and back, under requests. The tests build on each other, in file order."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://node01"]
# Some minutes: for `make test-all`.
pytestmark = pytest.mark.skipif(not os.environ.get("SLOW"), reason="only with SLOW=yes")

Until = Callable[[Callable[[], bool], float], bool]
Converge = Callable[..., subprocess.CompletedProcess[str]]

VIP, VIP6, NAME = "10.103.97.2", "fd00:10:103:97::2", "apiserver.cluster.local"
MASTER1, NODE01 = "192.168.253.129", "192.168.253.131"
# By IPVS a host asks at the VIP of either family, by the proxy in the primary one.
IPV6 = {"master1": "fd00:253::129", "node01": "fd00:253::131"}

# As the API server does, it listens on all addresses and shares the port, and has its name in the list of processes.
SERVER = """
import http.server, os, socket, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        ready = self.path != "/readyz" or not os.path.exists("/run/molecule-unready")
        self.send_response(200 if ready else 500)
        text = f"{sys.argv[1]} {self.client_address[0].removeprefix('::ffff:')}".encode()
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_words):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
    address_family = socket.AF_INET6
    def server_bind(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()
server = Server(("::", 6443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/molecule-api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
"""
SERVER_UNIT = """
[Service]
ExecStartPre=/bin/ln -sf /usr/bin/python3 /run/kube-apiserver
ExecStart=/run/kube-apiserver /run/molecule-api.py {name}
"""
# A new connection every 50 ms, and beside it one that is kept, as kubelet's: it may break, but not twice in a row.
CLIENT = """
import http.client, json, signal, ssl, sys, time
context = ssl._create_unverified_context()
asked, failed, broken, longest, kept = 0, [], 0, 0.0, None
def connection():
    return http.client.HTTPSConnection("apiserver.cluster.local", 6443, timeout=3, context=context)
def ask(way):
    way.request("GET", "/who")
    answer = way.getresponse()
    text = answer.read().decode()
    assert answer.status == 200, answer.status
    return text
going = True
def end(*_words):
    global going
    going = False
signal.signal(signal.SIGTERM, end)
while going:
    began = time.monotonic()
    asked += 1
    try:
        way = connection()
        ask(way)
        way.close()
    except Exception as exc:
        failed.append(f"{time.time():.2f} {exc!r}")
    try:
        kept = kept or connection()
        ask(kept)
    except Exception:
        broken, kept = broken + 1, connection()
        try:
            ask(kept)
        except Exception as exc:
            failed.append(f"{time.time():.2f} kept {exc!r}")
            kept = None
    longest = max(longest, time.monotonic() - began)
    time.sleep(max(0, 0.05 - (time.monotonic() - began)))
with open("/run/molecule-client.json", "w") as stream:
    json.dump({"asked": asked, "failed": failed, "broken": broken, "longest": longest}, stream)
"""
CLIENT_UNIT = """
[Service]
ExecStart=/usr/bin/python3 /run/molecule-client.py
"""
WHO = """
import ssl, urllib.request
url = "https://apiserver.cluster.local:6443/who"
print(urllib.request.urlopen(url, timeout=3, context=ssl._create_unverified_context()).read().decode())
"""
ASK = f"python3 -c {shlex.quote(WHO)}"
# A connection to master1's server, by whatever way, that is asked once more when the file says so.
KEPT = """
import http.client, os, ssl, time
def ask(way):
    way.request("GET", "/who")
    return way.getresponse().read().decode()
def connection():
    return http.client.HTTPSConnection("apiserver.cluster.local", 6443, timeout=5, context=ssl._create_unverified_context())
way = connection()
while not ask(way).startswith("master1"):
    way = connection()
open("/run/molecule-kept", "w").close()
while os.path.exists("/run/molecule-kept"):
    time.sleep(0.1)
try:
    told = ask(way)
except Exception as exc:
    told = repr(exc)
with open("/run/molecule-kept.txt", "w") as stream:
    stream.write(told)
"""
# All that is in folders where a way has something, in the kernel, and in the list of units.
REMAINS = r"""
ls /etc/multinic /run /etc/modules-load.d /etc/sysctl.d | grep -E 'apiserver-(balancer|proxy)'
ls -R /etc/systemd/system /run/systemd/transient | grep -E 'multinic-(vip|apiserver)'
systemctl list-units --all --plain --no-legend 'multinic-vip*' 'multinic-apiserver*' | cut -d' ' -f1
ip route show table local | grep 10.103.97.2
ip -6 route show table local | grep fd00:10:103:97::2
grep -E '^TCP  (0A676102|\[fd00:0010:0103:0097:.*\]):192B' /proc/net/ip_vs
ss -Hltn 'sport = :6443' | grep -E '127.0.0.1|::1'
pgrep -a 'keepalived|haproxy'
true
"""
OF_IPVS, OF_PROXY = re.compile("balancer|vip|10.103.97.2|0A676102|fd00:|keepalived"), re.compile("proxy|127.0.0.1|::1]")


def put(host: Host, path: str, content: str) -> None:
    host.check_output(f"umask 077; mkdir -p {path.rpartition('/')[0]}; printf %s {shlex.quote(content)} > {path}")


@pytest.fixture(scope="module")
def both(reach: Callable[[str], Host], api_pem: str) -> Iterator[dict[str, Host]]:
    """On both hosts something that passes for an API server, and the client."""
    hosts = {name: reach(name) for name in ("master1", "node01")}
    for name, host in hosts.items():
        put(host, "/run/molecule-api.pem", api_pem)
        put(host, "/run/molecule-api.py", SERVER)
        put(host, "/run/molecule-client.py", CLIENT)
        put(host, "/run/systemd/system/molecule-api.service", SERVER_UNIT.format(name=name))
        put(host, "/run/systemd/system/molecule-client.service", CLIENT_UNIT)
        host.check_output("rm -f /run/molecule-unready; systemctl daemon-reload && systemctl restart molecule-api")
    yield hosts
    for host in hosts.values():
        host.run(
            "systemctl stop molecule-api molecule-client; rm -rf /run/systemd/system/molecule-*.service "
            "/run/molecule-* /run/kube-apiserver /etc/kubernetes/pki; systemctl daemon-reload"
        )


def answers(host: Host, turns: int = 8) -> set[str]:
    return {host.run(ASK).stdout.strip() for _turn in range(turns)}


def changed(converge: Converge, hosts: dict[str, Host], mode: str) -> dict[str, Any]:
    """What the clients tell after the hosts have changed their way under their requests."""
    for host in hosts.values():
        host.check_output("rm -f /run/molecule-client.json; systemctl restart molecule-client")
    run = converge("apiserver_balancer", "-e", f"apiserver_balancer={mode}")
    told = {}
    for name, host in hosts.items():
        host.check_output("sleep 1; systemctl stop molecule-client")
        told[name] = json.loads(host.check_output("cat /run/molecule-client.json"))
    assert run.returncode == 0, run.stdout + run.stderr
    return told


def lost(told: dict[str, Any]) -> dict[str, Any]:
    return {name: found["failed"] for name, found in told.items()}


@pytest.fixture(scope="module")
def before(both: dict[str, Host], until: Until) -> dict[str, list[str]]:
    """What IPVS has on each host, once both API servers answer by it."""
    for host in both.values():
        assert until(lambda host=host: len(answers(host)) == 2, 20)  # type: ignore[misc]
    return {name: host.check_output(REMAINS).splitlines() for name, host in both.items()}


@pytest.mark.usefixtures("before")
def test_hosts_change_to_the_proxy_without_a_lost_request(converge: Converge, both: dict[str, Host]) -> None:
    told = changed(converge, both, "localhost")
    assert lost(told) == {"master1": [], "node01": []}, told
    assert all(found["asked"] > 100 for found in told.values()), told
    for host in both.values():
        assert host.check_output(f"getent ahostsv4 {NAME} | cut -d' ' -f1 | sort -u") == "127.0.0.1"
        assert host.check_output(f"getent ahostsv6 {NAME} | cut -d' ' -f1 | sort -u") == "::1"


def test_nothing_is_left_of_ipvs(both: dict[str, Host]) -> None:
    for host in both.values():
        left = [line for line in host.check_output(REMAINS).splitlines() if OF_IPVS.search(line)]
        assert left == []


def test_both_servers_are_asked_from_the_cluster_address(both: dict[str, Host]) -> None:
    """On a control plane too, whose own API server has the port on all other addresses."""
    assert answers(both["node01"]) == {f"master1 {NODE01}", f"node01 {NODE01}"}
    assert answers(both["master1"]) == {f"master1 {MASTER1}", f"node01 {MASTER1}"}


def test_a_second_run_changes_nothing(converge: Converge) -> None:
    run = converge("apiserver_balancer", "-e", "apiserver_balancer=localhost")
    assert run.returncode == 0, run.stdout + run.stderr
    assert set(re.findall(r"changed=(\d+)", run.stdout)) == {"0"}, run.stdout


def test_a_server_that_is_not_ready_gets_no_new_request(host: Host, both: dict[str, Host], until: Until) -> None:
    both["master1"].check_output("touch /run/molecule-unready")
    assert until(lambda: answers(host) == {f"node01 {NODE01}"}, 5)
    host.check_output("touch /run/molecule-unready")
    # None is ready: better a doubtful answer than none.
    assert until(lambda: len(answers(host)) == 2, 5)
    for other in both.values():
        other.check_output("rm /run/molecule-unready")
    assert until(lambda: len(answers(host)) == 2, 5)


def test_a_frozen_server_is_out_within_seconds(host: Host, both: dict[str, Host], until: Until) -> None:
    both["master1"].check_output("systemctl kill --signal=SIGSTOP molecule-api")
    try:
        assert until(lambda: answers(host) == {f"node01 {NODE01}"}, 8)
    finally:
        both["master1"].check_output("systemctl kill --signal=SIGCONT molecule-api")
    assert until(lambda: len(answers(host)) == 2, 10)


def test_a_server_that_was_slow_has_kept_its_connections(host: Host, both: dict[str, Host], until: Until) -> None:
    """It accepts connections, as a busy one does, and is out for new requests, since no handshake comes to an end."""
    host.check_output("rm -f /run/molecule-kept /run/molecule-kept.txt")
    host.check_output(f"systemd-run -q --collect python3 -c {shlex.quote(KEPT)}")
    assert until(lambda: host.file("/run/molecule-kept").exists, 10)
    both["master1"].check_output("systemctl kill --signal=SIGSTOP molecule-api")
    try:
        assert until(lambda: answers(host) == {f"node01 {NODE01}"}, 8)
    finally:
        both["master1"].check_output("systemctl kill --signal=SIGCONT molecule-api")
    host.check_output("rm /run/molecule-kept")
    assert until(lambda: host.file("/run/molecule-kept.txt").exists, 10)
    assert host.check_output("cat /run/molecule-kept.txt") == f"master1 {NODE01}"
    assert until(lambda: len(answers(host)) == 2, 10)


def test_a_killed_proxy_is_back_within_seconds(host: Host, until: Until) -> None:
    host.check_output("systemctl kill --signal=SIGKILL multinic-apiserver-proxy")
    assert until(lambda: len(answers(host)) == 2 and "" not in answers(host), 5)


def test_the_clusters_ca_is_believed_as_soon_as_it_is_there(
    host: Host, api_pem: str, other_pem: str, until: Until
) -> None:
    def ready() -> str:
        ask = (
            "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/multinic-apiserver-proxy/status.sock'); "
        )
        ask += "s.sendall(b'show stat\\n'); print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
        rows = [line.split(",") for line in host.run(f"python3 -c {shlex.quote(ask)}").stdout.splitlines()]
        return " ".join(row[17] for row in rows if row[0] == "ready" and row[1].startswith("192"))

    own, other = (text[text.index("-----BEGIN CERTIFICATE") :] for text in (api_pem, other_pem))
    assert until(lambda: ready() == "UP UP", 10)
    put(host, "/etc/kubernetes/pki/ca.crt", own)
    assert until(lambda: "verify required" in host.check_output("cat /run/multinic-apiserver-proxy/haproxy.conf"), 10)
    assert until(lambda: ready() == "UP UP", 10)
    # Another cluster's CA: the servers are not ours then, and only the last resort is left.
    put(host, "/etc/kubernetes/pki/ca.crt", other)
    assert until(lambda: ready() == "DOWN DOWN", 10)
    assert len(answers(host)) == 2
    host.check_output("rm -r /etc/kubernetes/pki; systemctl reload multinic-apiserver-proxy")
    assert until(lambda: ready() == "UP UP", 10)


def test_hosts_change_back_to_ipvs_without_a_lost_request(
    converge: Converge, both: dict[str, Host], before: dict[str, list[str]]
) -> None:
    told = changed(converge, both, "ipvs")
    assert lost(told) == {"master1": [], "node01": []}, told
    for name, host in both.items():
        assert host.check_output(f"getent ahostsv4 {NAME} | cut -d' ' -f1 | sort -u") == VIP
        assert host.check_output(f"getent ahostsv6 {NAME} | cut -d' ' -f1 | sort -u") == VIP6
        now = host.check_output(REMAINS).splitlines()
        assert [line for line in now if OF_PROXY.search(line)] == []
        assert {line for line in now if "keepalived" not in line} == {
            line for line in before[name] if "keepalived" not in line
        }
        assert answers(host) in [
            {f"{server} {source}" for server in both} for source in (host_address(name), IPV6[name])
        ]


def host_address(name: str) -> str:
    return {"master1": MASTER1, "node01": NODE01}[name]
