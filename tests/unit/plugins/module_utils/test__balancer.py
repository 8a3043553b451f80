# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _apiserver_guard as guard
from ansible_collections.multinic.kubernetes.plugins.module_utils import _balancer as balancer

VIP = "10.103.97.2"
MASTERS = ["192.168.253.129", "192.168.253.128", "192.168.253.130"]
NODE01 = "192.168.253.131"


def plan(**apiserver: Any) -> dict[str, Any]:
    return {
        "first_control_plane": "master1",
        "hosts": {"master1": {"address": "192.168.253.129"}},
        "apiserver": {
            "name": "apiserver.cluster.local",
            "vip": VIP,
            "port": 6443,
            "real_servers": MASTERS,
            **apiserver,
        },
    }


def node(source: str = NODE01) -> dict[str, Any]:
    return {"interface": "ens32", "vip_route": {"destination": f"{VIP}/32", "source": source}}


PROGRAMS = {balancer.GUARD_PROGRAM: "# guard\n", balancer.CERTIFICATES_PROGRAM: "# certificates\n"}


def state(**apiserver: Any) -> dict[str, Any]:
    return balancer.balancer_state(plan(**apiserver), node(), PROGRAMS)


def ways(servers: Sequence[str] = tuple(MASTERS), source: str = NODE01) -> list[balancer.Balanced]:
    return [balancer.Balanced(VIP, source, tuple(servers), MASTERS[0])]


def config_of(servers: Sequence[str] = tuple(MASTERS), check: balancer.Check | None = None) -> str:
    return balancer.keepalived_config(ways(servers), "apiserver.cluster.local", 6443, check or balancer.Check())


VIP6, SIX, NODE01_SIX = "fd00:10:103:97::2", ["fd00:253::129", "fd00:253::128"], "fd00:253::131"


def dual_stack() -> tuple[dict[str, Any], dict[str, Any]]:
    """The plan of a cluster with both families, and its worker."""
    cluster = plan(
        virtual_servers=[{"vip": VIP, "real_servers": MASTERS[:2]}, {"vip": VIP6, "real_servers": SIX}],
    )
    cluster["hosts"]["master1"]["addresses"] = [MASTERS[0], SIX[0]]
    routes = [
        {"destination": f"{VIP}/32", "source": NODE01},
        {"destination": f"{VIP6}/128", "source": NODE01_SIX},
    ]
    return cluster, {"interface": "ens32.100", "vip_route": routes[0], "vip_routes": routes}


def content(state: dict[str, Any], path: str) -> str:
    return next(str(entry["content"]) for entry in state["files"] if entry["path"] == path)


@pytest.mark.parametrize(
    ("vip", "source", "replace", "delete"),
    [
        (
            VIP,
            NODE01,
            f"route replace local {VIP}/32 dev lo table local src {NODE01}",
            f"route del local {VIP}/32 dev lo table local",
        ),
        (
            "fd00:103::2",
            "fd00:253::131",
            "-6 route replace local fd00:103::2/128 dev lo table local src fd00:253::131",
            "-6 route del local fd00:103::2/128 dev lo table local",
        ),
    ],
)
def test_route_is_local_with_the_planned_source(vip: str, source: str, replace: str, delete: str) -> None:
    assert balancer.route_words(vip, source) == (replace, delete)


def test_route_of_two_families_is_refused() -> None:
    with pytest.raises(balancer.BalancerError, match=r"VIP 10\.103\.97\.2 is IPv4 .* fd00::1 is IPv6"):
        balancer.route_words(VIP, "fd00::1")


def test_route_unit_comes_before_kubelet_and_retries() -> None:
    unit = balancer.route_unit(ways())
    before = re.search(r"^Before=(.*)$", unit, re.MULTILINE)
    assert before is not None
    assert before.group(1).split() == [balancer.BALANCER_UNIT, "kubelet.service"]
    for line in ("Type=oneshot", "RemainAfterExit=yes", "Restart=on-failure", "StartLimitIntervalSec=0"):
        assert line in unit.splitlines()


def test_all_control_planes_are_real_servers_in_order() -> None:
    config = config_of()
    assert re.findall(r"real_server (\S+) (\d+)", config) == [(address, "6443") for address in MASTERS]
    assert re.findall(r"sorry_server (\S+) (\d+)", config) == [(MASTERS[0], "6443")]
    assert re.findall(r"bindto (\S+)", config) == [NODE01] * 3 * len(MASTERS)
    assert config.count("{") == config.count("}")


def test_a_slow_server_has_more_time_than_a_dead_host() -> None:
    config = config_of()
    timeouts = re.findall(r"(TCP_CHECK|SSL_GET) \{\n\s+connect_timeout (\S+)\n", config)
    assert timeouts == [("TCP_CHECK", "0.9"), ("SSL_GET", "10"), ("SSL_GET", "5")] * len(MASTERS)


def test_a_killed_server_has_to_answer_before_it_gets_requests_again() -> None:
    """It listens again within a second, serves nobody for five more, and then says 403 to everybody for a moment."""
    checks = re.findall(r"SSL_GET \{(.*?)status_code ([0-9 ]+)\n", config_of(), re.DOTALL)
    assert [codes for _before, codes in checks] == ["200 500", "200"] * len(MASTERS)
    retries = [re.findall(r"retry (\d+)", before) for before, _codes in checks]
    assert retries == [[], ["3", "1"]] * len(MASTERS), "the first as often as the connection, the second may be unready"


def test_a_server_that_fails_is_left_in_the_table_unless_it_is_the_only_one() -> None:
    assert config_of().count("inhibit_on_failure") == len(MASTERS)
    assert config_of().count("sorry_server_inhibit") == 1
    assert "inhibit" not in config_of(MASTERS[:1])


@pytest.mark.parametrize(
    ("servers", "check", "message"),
    [
        ([], balancer.Check(), "no control plane"),
        (["192.168.253.129", "192.168.253.129"], balancer.Check(), "not unique"),
        (MASTERS, balancer.Check(interval=2, timeout=0.9), r"up to 3\.9 s"),
        (MASTERS, balancer.Check(interval=0, timeout=0.5), "at least 0.1 s"),
        (MASTERS, balancer.Check(answer_timeout=0), "at least 0.1 s"),
        (MASTERS, balancer.Check(path="readyz"), "begins with /"),
        (MASTERS, balancer.Check(path="/readyz }"), "begins with /"),
    ],
)
def test_bad_settings_are_told(servers: list[str], check: balancer.Check, message: str) -> None:
    with pytest.raises(balancer.BalancerError, match=message):
        config_of(servers, check)


@given(interval=st.floats(0.1, 5), timeout=st.floats(0.1, 5))
def test_accepted_settings_detect_a_dead_server_in_time(interval: float, timeout: float) -> None:
    check = balancer.Check(interval=interval, timeout=timeout)
    refused = bool(check.problems())
    assert refused == (interval + 2 * timeout + 0.1 > 3 + 1e-9) or abs(interval + 2 * timeout - 2.9) < 1e-6


def test_state_holds_modules_sysctls_and_started_units() -> None:
    wanted = state()
    assert wanted["kernel_modules"] == ["ip_vs", "ip_vs_rr"]
    assert wanted["sysctls"] == {
        "net.ipv4.vs.expire_nodest_conn": "1",
        "net.ipv4.vs.expire_quiescent_template": "1",
    }
    assert [unit["name"] for unit in wanted["units"]] == [*balancer.UNITS]
    assert balancer.UNITS == (balancer.ROUTE_UNIT, balancer.BALANCER_UNIT, balancer.GUARD_UNIT)
    assert all(unit["enabled"] and unit["state"] == "started" for unit in wanted["units"])
    assert f"src {NODE01}\n" in content(wanted, f"/etc/systemd/system/{balancer.ROUTE_UNIT}")


def test_a_new_control_plane_changes_only_the_configuration() -> None:
    """So that adding a master touches neither the route nor the unit."""
    before, after = state(real_servers=MASTERS[:1]), state()
    changed = [old["path"] for old, new in zip(before["files"], after["files"]) if old != new]
    assert changed == [balancer.CONFIG_PATH]


def test_keepalived_tells_by_files_which_servers_are_healthy() -> None:
    """So that the guard knows what belongs into the table: keepalived takes dead servers out of it."""
    config = config_of()
    files = [f"{balancer.BALANCER_FOLDER}/{guard.UP}{address}" for address in MASTERS]
    assert re.findall(r'notify_up "/usr/bin/touch (\S+)"', config) == files
    assert re.findall(r'notify_down "/usr/bin/rm -f (\S+)"', config) == files
    # keepalived refuses scripts for whose user there is no account, and warns of each without the second.
    assert re.search(r"global_defs \{[^}]*script_user root\n[^}]*enable_script_security\n", config)
    # systemd empties it at each stop, also before it starts a killed keepalived again.
    assert f"RuntimeDirectory={balancer.BALANCER_FOLDER[5:]}\n" in balancer.balancer_unit([VIP], 6443)


def guarded(wanted: dict[str, Any]) -> list[guard.Settings]:
    settings = json.loads(content(wanted, balancer.GUARD_CONFIG))
    ways = settings.pop("ways")
    return [guard.Settings(**settings, **way) for way in ways]


def test_guard_has_all_that_it_asks_for() -> None:
    (settings,) = guarded(state())
    assert (settings.at, settings.source, settings.interface) == (f"{VIP}:6443", NODE01, "ens32")
    assert settings.last_resort == MASTERS[0]
    assert settings.sysctls == balancer.SYSCTLS
    assert content(state(), balancer.GUARD_PROGRAM) == "# guard\n"
    assert content(state(), settings.certificates) == "# certificates\n"


def test_guard_starts_last_and_so_stops_first() -> None:
    unit = balancer.guard_unit([VIP], 6443)
    after = re.search(r"^After=(.*)$", unit, re.MULTILINE)
    assert after is not None
    assert {balancer.ROUTE_UNIT, balancer.BALANCER_UNIT} <= set(after.group(1).split())
    # It must not start what an operator has stopped.
    assert not re.search(r"^(Wants|Requires|BindsTo)=", unit, re.MULTILINE)
    assert f"ExecStart=/usr/bin/python3 -I -S -E {balancer.GUARD_PROGRAM} {balancer.GUARD_CONFIG}\n" in unit


def weights(config: str) -> dict[str, str]:
    return dict(re.findall(r"real_server (\S+) \d+ \{\n\s+weight (\d+)\n", config))


def masters_plan(**apiserver: Any) -> dict[str, Any]:
    names = [f"master{number}" for number in (1, 2, 3)]
    hosts = {name: {"address": address} for name, address in zip(names, MASTERS)}
    return {**plan(**apiserver), "control_plane": names, "hosts": hosts}


def drained(*names: str, **apiserver: Any) -> str:
    wanted = balancer.balancer_state(masters_plan(**apiserver), node(), PROGRAMS, drained=names)
    return content(wanted, balancer.CONFIG_PATH)


def test_a_drained_master_takes_no_new_connections_and_keeps_its_old_ones() -> None:
    """Weight 0 keeps it in the table; without it the kernel would reset what is established."""
    assert weights(drained("master2")) == {MASTERS[0]: "1", MASTERS[1]: "0", MASTERS[2]: "1"}
    assert drained() == content(state(), balancer.CONFIG_PATH)


def test_the_last_resort_is_no_drained_master() -> None:
    assert re.findall(r"sorry_server (\S+)", drained("master1")) == [MASTERS[1]]
    assert re.findall(r"sorry_server (\S+)", drained("master2")) == [MASTERS[0]]


def test_a_master_that_is_being_removed_stays_in_the_table_until_it_has_none_left() -> None:
    config = drained(MASTERS[2], real_servers=MASTERS[:2])
    assert weights(config) == {MASTERS[0]: "1", MASTERS[1]: "1", MASTERS[2]: "0"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["master9"],
            r"master9 cannot be drained: no control plane has this name; there are master1, master2, master3",
        ),
        (["node01", "nix"], r"node01, nix cannot be drained"),
        (["master1", "master2", "master3"], r"none would be left"),
        ([*MASTERS], r"none would be left"),
    ],
)
def test_what_cannot_be_drained_is_told(names: list[str], message: str) -> None:
    with pytest.raises(balancer.BalancerError, match=message):
        drained(*names)


def test_another_set_of_servers_is_a_reload_and_no_restart() -> None:
    """A restart takes the virtual server away for a moment, and every request of that moment fails."""
    (entry,) = [file for file in state()["files"] if file["path"] == balancer.CONFIG_PATH]
    assert entry["reload"] == [balancer.BALANCER_UNIT]
    assert not entry.get("restart")


def test_ipv6_is_written_as_people_write_it() -> None:
    assert balancer.at("fd00::2", 6443) == "[fd00::2]:6443"
    assert "[fd00::2]:6443" in balancer.balancer_unit(["fd00::2"], 6443)


def test_two_families_have_two_routes_and_two_virtual_servers() -> None:
    state = balancer.balancer_state(*dual_stack(), PROGRAMS)
    unit = content(state, f"/etc/systemd/system/{balancer.ROUTE_UNIT}")
    assert re.findall(r"^Exec(\w+)=-?/sbin/ip (.*)$", unit, re.MULTILINE) == [
        ("Start", f"route replace local {VIP}/32 dev lo table local src {NODE01}"),
        ("Start", f"-6 route replace local {VIP6}/128 dev lo table local src {NODE01_SIX}"),
        ("Stop", f"route del local {VIP}/32 dev lo table local"),
        ("Stop", f"-6 route del local {VIP6}/128 dev lo table local"),
    ]
    config = content(state, balancer.CONFIG_PATH)
    assert re.findall(r"(virtual|real|sorry)_server (\S+) 6443", config) == [
        *(("virtual", VIP), ("sorry", MASTERS[0]), ("real", MASTERS[0]), ("real", MASTERS[1])),
        *(("virtual", VIP6), ("sorry", SIX[0]), ("real", SIX[0]), ("real", SIX[1])),
    ]
    assert re.findall(r"bindto (\S+)", config) == [NODE01] * 6 + [NODE01_SIX] * 6
    assert config.count("{") == config.count("}")
    unit = content(state, f"/etc/systemd/system/{balancer.BALANCER_UNIT}")
    assert re.findall(r"--tcp-service (\S+)", unit) == [f"{VIP}:6443", f"[{VIP6}]:6443"]
    four, six = guarded(state)
    assert (four.source, four.last_resort, four.first, four.sysctls) == (NODE01, MASTERS[0], True, balancer.SYSCTLS)
    assert (six.source, six.last_resort, six.first, six.sysctls) == (NODE01_SIX, SIX[0], False, {})
    assert four.status != six.status


def test_a_link_that_goes_down_takes_no_ipv6_address_along() -> None:
    key = "net/ipv6/conf/ens32.100/keep_addr_on_down"
    assert balancer.balancer_state(*dual_stack(), PROGRAMS)["sysctls"][key] == "1"
    assert key not in balancer.balancer_state(plan(), {**node(), "interface": "ens32.100"}, PROGRAMS)["sysctls"]


def test_a_reload_forgets_servers_that_are_no_longer_balanced(tmp_path: Path) -> None:
    """By the words of the unit themselves, as systemd reads them."""
    unit = balancer.balancer_unit([VIP], 6443)
    unit = unit.replace(balancer.BALANCER_FOLDER, str(tmp_path)).replace(balancer.CONFIG_PATH, str(tmp_path / "conf"))
    (command,) = re.findall(r"^ExecReload=-(.*)$", unit, re.MULTILINE)
    words = shlex.split(command.replace("$$", "$"))
    (tmp_path / "conf").write_text("    real_server 192.168.253.13 6443 {\n    real_server fd00:253::129 6443 {\n")
    for server in ("192.168.253.13", "192.168.253.130", "192.168.253.1", "fd00:253::129", "fd00:253::12"):
        (tmp_path / f"up-{server}").touch()
    for _time in range(2):
        subprocess.run(words, check=True)
        assert {path.name for path in tmp_path.glob("up-*")} == {"up-192.168.253.13", "up-fd00:253::129"}
    for path in tmp_path.glob("up-*"):
        path.unlink()
    subprocess.run(words, check=True)
