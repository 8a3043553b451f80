# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer as balancer
from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer_modes as modes
from ansible_collections.multinic.kubernetes.plugins.module_utils import _host_state as host_state

VIP = "10.103.97.2"
MASTERS = ["192.168.253.129", "192.168.253.128", "192.168.253.130"]
NODE01 = "192.168.253.131"
NAME = "apiserver.cluster.local"
NODE = {
    "interface": "ens32",
    "vip_route": {"destination": f"{VIP}/32", "source": NODE01},
    "addresses": [NODE01],
}
PROGRAMS = dict.fromkeys((balancer.GUARD_PROGRAM, balancer.CERTIFICATES_PROGRAM), "# Written by multinic.kubernetes\n")


def plan(mode: str = "localhost", **apiserver: Any) -> dict[str, Any]:
    addresses = modes.name_addresses(mode, [VIP], "192.0.2.10", [4])
    return {
        "first_control_plane": "master1",
        "control_plane": ["master1", "master2", "master3"],
        "hosts": {f"master{number}": {"address": address} for number, address in enumerate(MASTERS, 1)},
        "apiserver": {
            "name": NAME,
            "vip": VIP,
            "port": 6443,
            "real_servers": MASTERS,
            "balancer": mode,
            "addresses": addresses,
            "changing": {},
            **apiserver,
        },
        "hosts_file": [
            {"address": NODE01, "names": ["node01"]},
            *({"address": address, "names": [NAME]} for address in addresses),
        ],
    }


def content(state: dict[str, Any], path: str) -> str:
    return next(str(entry["content"]) for entry in state["files"] if entry["path"] == path)


@pytest.mark.parametrize(
    ("mode", "external", "families", "addresses"),
    [
        ("ipvs", "", [4], [VIP]),
        ("localhost", "", [4, 4], ["127.0.0.1"]),
        ("localhost", "", [4, 6], ["127.0.0.1", "::1"]),
        ("localhost", "", [6], ["::1", "127.0.0.1"]),
        ("external", "192.0.2.10", [4], ["192.0.2.10"]),
        ("external", "", [4], []),
    ],
)
def test_where_the_name_leads(mode: str, external: str, families: list[int], addresses: list[str]) -> None:
    assert modes.name_addresses(mode, [VIP], external, families) == addresses


# --- the proxy --------------------------------------------------------------------------------------------------------


def test_every_control_plane_is_asked_from_the_cluster_address() -> None:
    config = modes.proxy_config(plan()["apiserver"], [NODE01])
    ready, reachable = config.split("\nbackend ready\n")[1].split("\nbackend reachable\n")
    for part in (ready, reachable):
        assert re.findall(r"server (\S+) (\S+) source (\S+)", part) == [
            (address, f"{address}:6443", NODE01) for address in MASTERS
        ]
    assert re.findall(r"^    bind (.*)$", config, re.MULTILINE) == ["127.0.0.1:6443"]
    assert ready.count(f"verify required ca-file {modes.CA} verifyhost {NAME}\n") == len(MASTERS)
    assert "verify" not in reachable


def test_two_families_have_two_listeners_and_a_source_each() -> None:
    """haproxy takes what stands behind an address's last colon for a port, unless the address is in brackets."""
    apiserver = plan(addresses=["127.0.0.1", "::1"], real_servers=["192.168.253.129", "fd00::129"])["apiserver"]
    config = modes.proxy_config(apiserver, [NODE01, "fd00::131"])
    assert re.findall(r"^    bind (.*)$", config, re.MULTILINE) == ["127.0.0.1:6443", "[::1]:6443"]
    assert re.findall(r"server (\S+) (\S+) source (\S+)$", config, re.MULTILINE) == [
        ("192.168.253.129", "192.168.253.129:6443", NODE01),
        ("fd00::129", "[fd00::129]:6443", "[fd00::131]"),
    ]


@pytest.mark.parametrize("check", [balancer.Check(), balancer.Check(interval=2, timeout=0.4)])
def test_a_dead_server_is_out_as_fast_as_with_ipvs(check: balancer.Check) -> None:
    """A check begins every interval, gives up after the timeout, and is repeated once after a tenth of a second."""
    config = modes.proxy_config(plan()["apiserver"], [NODE01], check)
    inter, fast, fall = re.findall(r"inter (\d+)ms fastinter (\d+)ms .*fall (\d)", config)[0]
    (connect,) = re.findall(r"timeout connect (\d+)ms", config)
    seconds = (int(inter) + int(fall) * int(connect) + (int(fall) - 1) * int(fast)) / 1000
    assert seconds == pytest.approx(check.slowest_detection())
    assert seconds <= balancer.DETECTION_LIMIT


def test_a_slow_server_keeps_its_connections() -> None:
    """A busy one may take longer for a TLS handshake than a host takes to accept a connection; only a dead one loses them.

    A check that is a bare connection knows the difference. Otherwise the kernel does.
    """
    config = modes.proxy_config(plan()["apiserver"], [NODE01])
    sections = {text.partition("\n")[0]: text for text in re.split(r"^(?=\S)", config, flags=re.MULTILINE)}
    ending = {name for name, text in sections.items() if "on-marked-down shutdown-sessions" in text}
    assert ending == {"backend reachable"}
    assert "tcp-ut" in sections["defaults"]


def test_connections_that_outlive_a_reload_end_with_their_host() -> None:
    config = modes.proxy_config(plan()["apiserver"], [NODE01])
    idle, interval, count = (int(re.findall(rf"srvtcpka-{word} (\d+)", config)[0]) for word in ("idle", "intvl", "cnt"))
    assert "option srvtcpka\n" in config
    assert f"tcp-ut {idle + interval * count}s" in config
    assert "hard-stop-after" in config


@pytest.mark.parametrize(
    ("apiserver", "sources", "check", "message"),
    [
        ({"real_servers": []}, [NODE01], balancer.Check(), "no control plane"),
        ({"real_servers": [MASTERS[0]] * 2}, [NODE01], balancer.Check(), "not unique"),
        (
            {"real_servers": ["fd00::1"]},
            [NODE01],
            balancer.Check(),
            r"192\.168\.253\.131\) is of the family of fd00::1",
        ),
        ({}, [NODE01], balancer.Check(interval=2, timeout=0.9), r"up to 3\.9 s"),
        ({}, [NODE01], balancer.Check(path="/readyz }"), "begins with /"),
    ],
)
def test_bad_settings_are_told(
    apiserver: dict[str, Any], sources: list[str], check: balancer.Check, message: str
) -> None:
    with pytest.raises(balancer.BalancerError, match=message):
        modes.proxy_config(plan(**apiserver)["apiserver"], sources, check)


def test_a_host_without_a_ca_checks_nothing_else_differently() -> None:
    """What the unit cuts off the lines is the trust and nothing else."""
    config = modes.proxy_config(plan()["apiserver"], [NODE01])
    cut = re.sub(r"verify required.*", "verify none", config)
    different = [(old, new) for old, new in zip(config.splitlines(), cut.splitlines()) if old != new]
    assert [new for _old, new in different] == [
        f"    server {address} {address}:6443 source {NODE01} verify none" for address in MASTERS
    ]
    unit = modes.proxy_unit(["127.0.0.1"], 6443)
    assert (
        unit.count("s|verify required.*|verify none|") == unit.count(f"if grep -qs 'END CERTIFICATE' {modes.CA}") == 2
    )


@pytest.mark.parametrize(
    ("authority", "trust"),
    [
        (None, "none"),
        ("", "none"),
        ("\0" * 1099, "none"),
        ("-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n", "required ca-file"),
    ],
    ids=["absent", "empty", "zeros", "there"],
)
def test_a_ca_without_a_certificate_is_none(tmp_path: Path, authority: str | None, trust: str) -> None:
    """By the words of the unit themselves."""
    config = tmp_path / "proxy.conf"
    config.write_text(modes.proxy_config(plan()["apiserver"], [NODE01]))
    if authority is not None:
        (tmp_path / "ca.crt").write_text(authority)
    unit = modes.proxy_unit(["127.0.0.1"], 6443)
    for old, new in (
        (modes.CA, "ca.crt"),
        (modes.PROXY_CONFIG, "proxy.conf"),
        (f"{modes.RUN_FOLDER}/haproxy.conf", "haproxy.conf"),
    ):
        unit = unit.replace(old, str(tmp_path / new))
    (prepare,) = re.findall(r"^ExecStartPre=(.*)$", unit, re.M)
    done = subprocess.run(shlex.split(prepare), capture_output=True, text=True, check=True)
    assert done.stderr == ""
    written = (tmp_path / "haproxy.conf").read_text()
    assert re.findall(r"verify (none|required ca-file)", written) == [trust] * len(MASTERS)


def test_a_new_control_plane_restarts_nothing() -> None:
    """The proxy reads its configuration again, which costs no connection; for the CA, which kubeadm brings, by itself."""
    before = modes.localhost_state(plan(real_servers=MASTERS[:1]), NODE)
    after = modes.localhost_state(plan(), NODE)
    changed = [old for old, new in zip(before["files"], after["files"]) if old != new]
    assert [(entry["path"], entry.get("restart"), entry["reload"]) for entry in changed] == [
        (modes.PROXY_CONFIG, None, [modes.PROXY_UNIT])
    ]
    assert f"PathChanged={modes.CA}\n" in modes.reload_path_unit()
    assert f"reload-or-restart {modes.PROXY_UNIT}\n" in modes.reload_unit()


def test_what_the_proxy_tells_has_the_shape_of_a_virtual_server() -> None:
    told = (
        "# pxname,svname,qcur,status,weight,\n"
        "apiserver,FRONTEND,,OPEN,,\n"
        "ready,192.168.253.129,0,UP,1,\n"
        "ready,192.168.253.131,0,UP 1/2,1,\n"
        "ready,192.168.253.132,0,UP,0,\n"
        "ready,192.168.253.128,0,DOWN,1,\n"
        "ready,192.168.253.130,0,NOLB,1,\n"
        "ready,BACKEND,0,UP,1,\n"
        "reachable,192.168.253.128,0,UP,1,\n\n"
    )
    found = modes.proxy_as_virtual_server("127.0.0.1", 6443, told)
    assert (found["address"], found["port"]) == ("127.0.0.1", 6443)
    assert {server["address"]: server["weight"] for server in found["real_servers"]} == {
        "192.168.253.129": 1,
        "192.168.253.131": 1,
        "192.168.253.132": 0,
    }
    assert modes.proxy_as_virtual_server("127.0.0.1", 6443, "")["real_servers"] == []


# --- from one way to another ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ipvs", "localhost"])
def test_all_that_a_way_has_on_a_host_goes_with_it(mode: str) -> None:
    there = modes.mode_state(plan(mode), NODE, PROGRAMS)
    gone = modes.way_removal(mode)
    assert gone["name"] == there["name"]
    assert [unit["name"] for unit in gone["units"]] == [unit["name"] for unit in reversed(there["units"])]
    assert all(unit["state"] == "stopped" and unit["enabled"] is False for unit in gone["units"])
    assert {entry["path"] for entry in gone["files"]} == {entry["path"] for entry in there["files"]}
    assert all(entry["state"] == "absent" for entry in gone["files"])
    # Empty, they take away the files that repeat them at boot.
    boot = host_state.boot_files({"name": gone["name"], "kernel_modules": [], "sysctls": {}})
    assert {entry["state"] for entry in boot} == {"absent"}
    assert (gone["kernel_modules"], gone["sysctls"]) == ([], {})


def test_two_ways_share_nothing_so_they_can_stand_beside_each_other() -> None:
    ways = [modes.mode_state(plan(mode), NODE, PROGRAMS) for mode in ("ipvs", "localhost")]
    for key, name in (("files", "path"), ("units", "name")):
        first, second = ({entry[name] for entry in way[key]} for way in ways)
        assert not first & second
    assert ways[0]["name"] != ways[1]["name"]


def test_of_an_external_balancer_nothing_is_on_the_host() -> None:
    state = modes.mode_state(plan("external"), NODE, PROGRAMS)
    assert not any(state.values())
    with pytest.raises(balancer.BalancerError, match="'external' is none of ipvs, localhost"):
        modes.way_removal("external")


# --- drained control planes -------------------------------------------------------------------------------------------


def test_a_proxy_sends_a_drained_control_plane_no_new_connections() -> None:
    state = modes.mode_state(plan(), NODE, PROGRAMS, drained=["master2"])
    config = content(state, modes.PROXY_CONFIG)
    ready, reachable = config.split("\nbackend ready\n")[1].split("\nbackend reachable\n")
    for part in (ready, reachable):
        assert re.findall(r"server (\S+) .*weight 0", part) == [MASTERS[1]]
    # Before the trust, which is cut off up to the line's end.
    assert "weight 0 verify required" in ready
    assert "weight" not in content(modes.mode_state(plan(), NODE, PROGRAMS), modes.PROXY_CONFIG)


def test_a_node_that_leaves_is_drained_by_its_address() -> None:
    """It is no longer in the plan. Addresses of a family that is not balanced are nothing to the proxy."""
    state = modes.localhost_state(plan(real_servers=MASTERS[:2]), NODE, drained=[MASTERS[2], "fd00:253::130"])
    servers = re.findall(r"server (\S+) .*?source \S+( weight 0|)", content(state, modes.PROXY_CONFIG))
    assert servers == [(MASTERS[0], ""), (MASTERS[1], ""), (MASTERS[2], " weight 0")] * 2


def test_an_external_balancer_is_drained_by_whoever_runs_it() -> None:
    with pytest.raises(
        balancer.BalancerError, match="master2 cannot be drained from here, for the balancer is external"
    ):
        modes.mode_state(plan("external"), NODE, PROGRAMS, drained=["master2"])


def test_the_name_keeps_the_old_way_until_the_new_one_is_proved() -> None:
    cluster = plan("localhost", changing={"node01": [VIP]})
    assert modes.hosts_block(cluster, "node01") == f"{NODE01} node01\n{VIP} {NAME}\n"
    assert modes.hosts_block(cluster, "node01", changed=True) == f"{NODE01} node01\n127.0.0.1 {NAME}\n"
    assert modes.hosts_block(cluster, "master1") == f"{NODE01} node01\n127.0.0.1 {NAME}\n"


def test_a_name_that_dns_tells_is_in_no_hosts_file() -> None:
    assert modes.hosts_block(plan("external", addresses=[]) | {"hosts_file": []}, "node01") == ""


@pytest.mark.parametrize(
    ("line", "shares"),
    [
        ("    - --permit-port-sharing=true", True),
        ('    - "--permit-port-sharing=true"', True),
        ("    - --permit-port-sharing", True),
        ("    - --permit-port-sharing=false", False),
        ("    - --secure-port=6443", False),
    ],
)
def test_whether_an_api_server_shares_its_port(line: str, shares: bool) -> None:
    assert modes.shares_port(f"spec:\n  containers:\n  - command:\n    - kube-apiserver\n{line}\n") is shares


@pytest.mark.parametrize(("version", "arguments"), [((1, 19), {}), ((1, 20), {"permit-port-sharing": "true"})])
def test_api_servers_share_their_port_as_soon_as_they_can(version: tuple[int, ...], arguments: dict[str, str]) -> None:
    assert modes.sharing_arguments(version) == arguments


def test_kubeadm_does_not_mind_the_proxy_on_the_port() -> None:
    assert modes.taken_port(plan("localhost")["apiserver"]) == ["Port-6443"]
    assert modes.taken_port(plan("ipvs")["apiserver"]) == []
