# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://node01"]

Until = Callable[[Callable[[], bool], float], bool]

MASTER1, NODE01 = "192.168.253.129:6443", "192.168.253.131:6443"

SERVER = """
import http.server, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path in ("/readyz", "/who") else 404)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())
server = http.server.ThreadingHTTPServer((sys.argv[1], 6443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/molecule-api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
UNIT = """
[Service]
ExecStart=/usr/bin/python3 /run/molecule-api.py {address}
"""
CLIENT = """
import ssl, urllib.request
url = "https://10.103.97.2:6443/who"
print(urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context()).read().decode())
"""
ASK = f"python3 -c {shlex.quote(CLIENT)}"


def servers(host: Host) -> set[str]:
    """The real servers in the kernel's table that may have requests."""
    lines = [line.split() for line in host.check_output("ipvsadm -Sn").splitlines()]
    return {
        line[line.index("-r") + 1]
        for line in lines
        if line[0] == "-a" and "10.103.97.2:6443" in line and line[line.index("-w") + 1] != "0"
    }


@pytest.fixture(scope="module")
def apis(reach: Callable[[str], Host], api_pem: str) -> Iterator[dict[str, Host]]:
    """On both hosts, something that answers over TLS as a healthy API server does, and tells who asked."""
    hosts = {name: reach(name) for name in ("master1", "node01")}
    for name, host in hosts.items():
        address = {"master1": MASTER1, "node01": NODE01}[name].partition(":")[0]
        for path, content in (
            ("/run/molecule-api.pem", api_pem),
            ("/run/molecule-api.py", SERVER),
            ("/run/systemd/system/molecule-api.service", UNIT.format(address=address)),
        ):
            host.check_output(f"umask 077; printf %s {shlex.quote(content)} > {path}")
        host.check_output("systemctl daemon-reload")
    yield hosts
    for host in hosts.values():
        host.run("systemctl stop molecule-api; rm -f /run/systemd/system/molecule-api.service; systemctl daemon-reload")


@pytest.fixture
def both(apis: dict[str, Host], host: Host, until: Until) -> dict[str, Host]:
    for other in apis.values():
        other.check_output("systemctl start molecule-api")
    assert until(lambda: servers(host) == {MASTER1, NODE01}, 15)
    return apis


def test_route_to_the_vip_is_local_with_the_cluster_address_as_source(host: Host) -> None:
    route = host.check_output("ip route get 10.103.97.2")
    assert route.startswith("local 10.103.97.2 dev lo")
    assert "src 192.168.253.131" in route
    assert "10.103.97.2" not in host.check_output("ip -o addr")


@pytest.mark.parametrize("unit", ["multinic-vip-route", "multinic-apiserver-balancer"])
def test_unit_runs_and_starts_at_boot(host: Host, unit: str) -> None:
    service = host.service(unit)
    assert service.is_enabled
    assert service.is_running, host.check_output(f"journalctl --no-pager -n 30 -u {unit}")


def test_server_that_does_not_answer_is_not_offered(host: Host, apis: dict[str, Host], until: Until) -> None:
    apis["master1"].check_output("systemctl stop molecule-api")
    apis["node01"].check_output("systemctl start molecule-api")
    assert until(lambda: servers(host) == {NODE01}, 15)


@pytest.mark.usefixtures("both")
def test_servers_are_asked_with_the_cluster_address(host: Host) -> None:
    assert {host.check_output(ASK) for _turn in range(4)} == {"192.168.253.131"}


def test_control_plane_reaches_itself_too(both: dict[str, Host], until: Until) -> None:
    master = both["master1"]
    assert until(lambda: servers(master) == {MASTER1, NODE01}, 15)
    assert {master.check_output(ASK) for _turn in range(4)} == {"192.168.253.129"}


@pytest.mark.usefixtures("both")
def test_without_the_route_the_api_is_out_of_reach(host: Host) -> None:
    """The seed's failure: this shows that the lab is honest and that the route matters."""
    host.check_output("ip route del local 10.103.97.2/32 dev lo table local")
    try:
        assert host.run(ASK).rc != 0
    finally:
        host.check_output("systemctl restart multinic-vip-route")
    assert host.check_output(ASK) == "192.168.253.131"


@pytest.mark.usefixtures("both")
def test_flap_of_the_card_takes_nothing_away(host: Host, until: Until) -> None:
    host.check_output("ip link set ens32 down && ip link set ens32 up")
    assert until(lambda: servers(host) == {MASTER1, NODE01} and host.run(ASK).stdout.strip() == "192.168.253.131", 20)


def test_frozen_server_is_out_within_seconds(host: Host, both: dict[str, Host], until: Until) -> None:
    both["master1"].check_output("systemctl kill --signal=SIGSTOP molecule-api")
    try:
        assert until(lambda: servers(host) == {NODE01}, 5)
        assert host.check_output(ASK) == "192.168.253.131"
    finally:
        both["master1"].check_output("systemctl kill --signal=SIGCONT molecule-api")
    assert until(lambda: servers(host) == {MASTER1, NODE01}, 15)


@pytest.mark.usefixtures("both")
def test_all_of_it_is_back_after_a_power_loss(
    guest: Callable[..., None], reach: Callable[[str], Host], until: Until
) -> None:
    guest(guests=["node01"], state="power_cycled")
    back = reach("node01")
    assert until(lambda: back.run(ASK).stdout.strip() == "192.168.253.131", 30)
    assert until(lambda: servers(back) == {MASTER1}, 15)
