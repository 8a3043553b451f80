# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

testinfra_hosts = ["ssh://node01"]

Until = Callable[[Callable[[], bool], float], bool]

SERVER = """
import http.server, ssl
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        healthy = self.path == "/readyz" or self.path == "/who"
        self.send_response(200 if healthy else 404)
        self.end_headers()
        self.wfile.write(self.client_address[0].encode())
server = http.server.ThreadingHTTPServer(("192.168.253.129", 6443), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/run/molecule-api.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
START = (
    "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=apiserver.cluster.local"
    " -keyout /run/molecule-api.key -out /run/molecule-api.crt 2>/dev/null"
    " && cat /run/molecule-api.key /run/molecule-api.crt > /run/molecule-api.pem"
    " && systemd-run --quiet --unit=molecule-api --collect python3 /run/molecule-api.py"
)
CLIENT = """
import ssl, urllib.request
url = "https://10.103.97.2:6443/who"
print(urllib.request.urlopen(url, timeout=2, context=ssl._create_unverified_context()).read().decode())
"""
ASK = f"python3 -c {shlex.quote(CLIENT)}"


def servers(host: Host) -> list[str]:
    """The real servers in the kernel's table."""
    lines = [line.split() for line in host.check_output("ipvsadm -Sn").splitlines()]
    return [line[line.index("-r") + 1] for line in lines if line[0] == "-a" and "10.103.97.2:6443" in line]


@pytest.fixture(scope="module")
def api(reach: Callable[[str], Host]) -> Iterator[Host]:
    """On master1, something that answers over TLS as a healthy API server does, and tells who asked."""
    master = reach("master1")
    master.check_output(f"printf %s {shlex.quote(SERVER)} > /run/molecule-api.py")
    master.check_output(START)
    yield master
    master.run("systemctl stop molecule-api")


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


def test_server_that_does_not_answer_is_not_offered(host: Host) -> None:
    assert "-A -t 10.103.97.2:6443" in host.check_output("ipvsadm -Sn")
    assert servers(host) == []


@pytest.mark.usefixtures("api")
def test_server_that_answers_is_reached_over_the_cluster_network(host: Host, until: Until) -> None:
    assert until(lambda: servers(host) == ["192.168.253.129:6443"], 10)
    assert host.check_output(ASK) == "192.168.253.131"


def test_control_plane_reaches_itself(api: Host, until: Until) -> None:
    assert until(lambda: servers(api) == ["192.168.253.129:6443"], 10)
    assert api.check_output(ASK) == "192.168.253.129"


@pytest.mark.usefixtures("api")
def test_without_the_route_the_api_is_out_of_reach(host: Host, until: Until) -> None:
    """The seed's failure: this shows that the lab is honest and that the route matters."""
    assert until(lambda: servers(host) == ["192.168.253.129:6443"], 10)
    host.check_output("ip route del local 10.103.97.2/32 dev lo table local")
    try:
        assert host.run(ASK).rc != 0
    finally:
        host.check_output("systemctl restart multinic-vip-route")
    assert host.check_output(ASK) == "192.168.253.131"


@pytest.mark.usefixtures("api")
def test_flap_of_the_card_takes_nothing_away(host: Host, until: Until) -> None:
    host.check_output("ip link set ens32 down && ip link set ens32 up")
    assert until(lambda: host.run(ASK).stdout.strip() == "192.168.253.131", 15)


def test_frozen_server_is_out_within_seconds(host: Host, api: Host, until: Until) -> None:
    assert until(lambda: servers(host) == ["192.168.253.129:6443"], 10)
    api.check_output("systemctl kill --signal=SIGSTOP molecule-api")
    try:
        assert until(lambda: servers(host) == [], 5)
    finally:
        api.check_output("systemctl kill --signal=SIGCONT molecule-api")
    assert until(lambda: servers(host) == ["192.168.253.129:6443"], 10)


@pytest.mark.usefixtures("api")
def test_all_of_it_is_back_after_a_power_loss(
    guest: Callable[..., None], reach: Callable[[str], Host], until: Until
) -> None:
    guest(guests=["node01"], state="power_cycled")
    back = reach("node01")
    assert until(lambda: back.run(ASK).stdout.strip() == "192.168.253.131", 30)
