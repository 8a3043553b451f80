# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.multinic.kubernetes.plugins.module_utils import _lab

NETWORKS: dict[str, Any] = {
    "external": {"cidr": "192.168.160.0/23", "gateway": "192.168.160.1", "default_route": True, "speed": "1gbit"},
    "internal": {"cidr": "192.168.253.0/24", "gateway": None, "speed": "10gbit", "mtu": 9000},
}
GUESTS: list[dict[str, Any]] = [
    {
        "name": "master1",
        "cards": [
            {"name": "ens33", "network": "external", "addresses": ["192.168.160.243"]},
            {"name": "ens32", "network": "internal", "addresses": ["192.168.253.129"]},
        ],
    },
    {
        "name": "node01",
        "memory": "1536M",
        "login": "password",
        "cards": [
            {"name": "ens33", "network": "external", "addresses": ["192.168.160.246"]},
            {"name": "ens32", "network": "internal", "addresses": ["192.168.253.131"], "mtu": 1500, "speed": "100mbit"},
        ],
    },
]
SECRETS = _lab.Secrets(host_key="HOST KEY\n", authorized_key="ssh-ed25519 AAAA lab\n", password="s3cret")

# The seed's table: name -> external address, internal address
SEED = {
    "master1": ("192.168.160.243/23", "192.168.253.129/24"),
    "master2": ("192.168.160.244/23", "192.168.253.128/24"),
    "master3": ("192.168.160.245/23", "192.168.253.130/24"),
    "node01": ("192.168.160.246/23", "192.168.253.131/24"),
}


@pytest.fixture
def lab() -> _lab.Lab:
    return _lab.plan("small", NETWORKS, GUESTS)


def test_cards_get_prefix_gateway_mtu_and_speed_from_their_network(lab: _lab.Lab) -> None:
    external, internal = lab.guest("master1").cards
    assert (external.addresses, external.gateway, external.mtu) == (("192.168.160.243/23",), "192.168.160.1", 1500)
    assert external.speed == 10**9
    assert (internal.addresses, internal.gateway, internal.mtu) == (("192.168.253.129/24",), "", 9000)
    slow = lab.guest("node01").cards[1]
    assert (slow.mtu, slow.speed) == (1500, 10**8)


def test_a_guest_is_reached_where_this_machine_has_an_address(lab: _lab.Lab) -> None:
    assert [guest.ssh_address for guest in lab.guests] == ["192.168.160.243", "192.168.160.246"]


def test_the_kept_plan_is_the_plan(lab: _lab.Lab) -> None:
    assert _lab.load(_lab.dump(lab)) == lab


def test_labs_do_not_share_hardware_addresses_or_machine_ids(lab: _lab.Lab) -> None:
    other = _lab.plan("other", NETWORKS, GUESTS)
    mine = {card.mac for guest in lab.guests for card in guest.cards} | {guest.machine_id for guest in lab.guests}
    theirs = {card.mac for guest in other.guests for card in guest.cards} | {g.machine_id for g in other.guests}
    assert len(mine) == 6 and not mine & theirs
    assert lab.namespace != other.namespace


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1), st.text("abcdefxyz0123456789.", min_size=1))
def test_device_names_fit_the_kernel(guest: str, card: str) -> None:
    assert len(_lab.device_name(guest, card)) <= 15


def test_device_names_that_are_cut_stay_apart() -> None:
    names = {_lab.device_name(f"a-very-long-host-name-{number}", "enp5s0f1") for number in range(100)}
    assert len(names) == 100


@given(st.text(), st.text(), st.text())
def test_hardware_addresses_are_local_and_of_one_host(lab: str, guest: str, card: str) -> None:
    octets = _lab.mac_address(lab, guest, card).split(":")
    assert len(octets) == 6 and octets[0] == "02"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n, g: n["external"].pop("cidr"), "network external: 'cidr' is missing"),
        (lambda n, g: n["external"].update(gateway="10.0.0.1"), "gateway 10.0.0.1 is not in 192.168.160.0/23"),
        (lambda n, g: n["internal"].update(default_route=True), "network internal: default_route needs a gateway"),
        (lambda n, g: n["internal"].update(speed="fast"), "speed 'fast' is not a number"),
        (lambda n, g: n["internal"].update(mtu=100), "mtu 100 is not between"),
        (lambda n, g: g[0].update(name="Master_1"), "guest 'Master_1': not a host name"),
        (lambda n, g: g[0].update(memory="lots"), "memory 'lots'"),
        (lambda n, g: g[0].update(login="none"), "login 'none' is not one of key, password"),
        (lambda n, g: g[1].update(name="master1"), "guest name master1 is used twice"),
        (lambda n, g: g[0]["cards"][0].update(network="lan"), "network 'lan' is not one of external, internal"),
        (lambda n, g: g[0]["cards"][0].update(name="a-name-of-16-char"), "is no name of a network card"),
        (lambda n, g: g[0]["cards"][1].update(name="ens33"), "two cards have the same name"),
        (lambda n, g: g[0]["cards"][1].update(mtu=9001), "mtu 9001 is larger than the 9000 of network internal"),
        (
            lambda n, g: g[0]["cards"][1].update(addresses=["10.1.1.1"]),
            "address 10.1.1.1/24 is not in network internal",
        ),
        (lambda n, g: g[1]["cards"][1].update(addresses=["192.168.253.129"]), "address 192.168.253.129 is used twice"),
        (lambda n, g: g[0]["cards"][0].update(addresses=["192.168.160.1"]), "address 192.168.160.1 is used twice"),
        (lambda n, g: n["internal"].update(path_mtu=9001), "path_mtu 9001 is larger than the cards' 9000"),
        (lambda n, g: n["internal"].update(path_mtu=100), "network internal: mtu 100 is not between"),
        (lambda n, g: g[0].update(units={"bond0": ""}), "guest master1: 'bond0' is no name of a systemd-networkd file"),
        (lambda n, g: g[0].update(units={"../x.network": ""}), "'../x.network' is no name of a systemd-networkd file"),
        (lambda n, g: g[0].update(units={"ens32.network": ""}), "ens32.network is the file of a card"),
        (lambda n, g: g[0].update(sysctls={"net.x y": 1}), "guest master1: 'net.x y' is no name"),
        (lambda n, g: g[0].update(sysctls={"net.x": "1\nnet.y = 2"}), "no value, of a kernel setting"),
        (lambda n, g: g[0].update(cards=[]), "guest master1: no card has an address on a network with a gateway"),
    ],
)
def test_a_wrong_description_is_named(change: Any, problem: str) -> None:
    networks, guests = copy.deepcopy(NETWORKS), copy.deepcopy(GUESTS)
    change(networks, guests)
    with pytest.raises(_lab.LabError) as caught:
        _lab.plan("small", networks, guests)
    assert problem in str(caught.value)


def test_all_problems_are_told_at_once() -> None:
    guests = copy.deepcopy(GUESTS)
    guests[0]["memory"] = "lots"
    guests[1]["cards"][0]["network"] = "lan"
    with pytest.raises(_lab.LabError) as caught:
        _lab.plan("Not A Name", NETWORKS, guests)
    assert len(caught.value.problems) == 3


def test_a_guest_has_what_only_systemd_networkd_can_say() -> None:
    guests = copy.deepcopy(GUESTS)
    guests[0]["cards"][1]["unit"] = "[Network]\nVLAN=ens32.5\n"
    guests[0]["units"] = {"five.netdev": "[NetDev]\nName=ens32.5\nKind=vlan\n"}
    guests[0]["sysctls"] = {"net.ipv4.conf.all.rp_filter": 2}
    lab = _lab.plan("small", NETWORKS, guests)
    assert _lab.load(_lab.dump(lab)) == lab
    files = {file.path: file.content for file in _lab.guest_files(lab.guest("master1"), SECRETS)}
    network = files["etc/systemd/network/10-lab-ens32.network"]
    assert "Address=192.168.253.129/24" in network and network.endswith("\n\n[Network]\nVLAN=ens32.5\n")
    assert files["etc/systemd/network/10-lab-five.netdev"] == "[NetDev]\nName=ens32.5\nKind=vlan\n"
    assert files["etc/sysctl.d/70-lab.conf"] == "net.ipv4.conf.all.rp_filter = 2\n"
    others = {file.path: file.content for file in _lab.guest_files(lab.guest("node01"), SECRETS)}
    assert others["etc/sysctl.d/70-lab.conf"] == "", "those of an earlier description must go"


def test_a_path_loses_what_is_larger_though_the_cards_send_it() -> None:
    networks = {**NETWORKS, "internal": {**NETWORKS["internal"], "path_mtu": 4000}}
    lab = _lab.plan("small", networks, GUESTS)
    assert [guest.cards[1].mtu for guest in lab.guests] == [9000, 1500]
    mtu = {device.name: device.mtu for device in _lab.devices(lab)}
    assert (mtu["br-internal"], mtu["master1-ens32"], mtu["node01-ens32"]) == (3996, 3996, 1500)
    words = _lab.kernel_arguments("small", lab.guest("master1"), "0123.img", "abc")
    assert any(word.startswith("vec1:") and ",mtu=9000," in word for word in words)


def test_the_topologies_are_labs(repository: Path) -> None:
    files = sorted((repository / "tests/topologies").glob("*.yml"))
    assert len(files) >= 12
    for file in files:
        inventory = yaml.safe_load(file.read_text(encoding="utf-8"))
        members = {**inventory["kube_control_plane"]["hosts"], **inventory["kube_node"]["hosts"]}
        guests = [
            {"name": name, **{key: data[f"lab_{key}"] for key in ("cards", "units", "sysctls") if f"lab_{key}" in data}}
            for name, data in members.items()
        ]
        lab = _lab.plan("topology", inventory["all"]["vars"]["lab_networks"], guests)
        assert {g.name: g.ssh_address for g in lab.guests} == {n: data["ansible_host"] for n, data in members.items()}


@pytest.mark.parametrize("inventory", ["lab", "lab-gateway", "lab-no-gateway"])
def test_the_inventories_are_the_seeds_situations(repository: Path, inventory: str) -> None:
    folder = repository / "inventories" / inventory
    hosts = yaml.safe_load((folder / "hosts.yml").read_text(encoding="utf-8"))
    variables = yaml.safe_load((folder / "group_vars/all/lab.yml").read_text(encoding="utf-8"))
    assert (folder / "group_vars/all/shared.yml").resolve() == repository / "inventories/shared/lab.yml"
    members = {**hosts["kube_control_plane"]["hosts"], **hosts["kube_node"]["hosts"]}
    guests = [{"name": name, "cards": data["lab_cards"]} for name, data in members.items()]
    lab = _lab.plan(variables["lab_name"], variables["lab_networks"], guests)
    assert {g.name: tuple(card.addresses[0] for card in g.cards) for g in lab.guests} == SEED
    assert all(guest.cards[0].gateway == "192.168.160.1" and not guest.cards[1].gateway for guest in lab.guests)
    assert [members[guest.name]["ansible_host"] for guest in lab.guests] == [g.ssh_address for g in lab.guests]
    internal = {network.name: network.gateway for network in lab.networks}["internal"]
    assert internal == ("192.168.253.1/24" if inventory == "lab-gateway" else "")
    names = {guest.cards[1].name for guest in lab.guests}
    assert len(names) == (1 if inventory == "lab" else 4)


def test_the_kernel_is_told_disk_cards_and_identity(lab: _lab.Lab) -> None:
    words = _lab.kernel_arguments("small", lab.guest("node01"), "0123.img", "abc")
    assert "ubda=/lab/guests/node01/disk.cow,/base/0123.img" in words
    assert "ubdbr=/lab/guests/node01/identity.tar" in words
    assert {"mem=1536M", "seccomp=on", "umid=node01", "lab.name=small", "lab.identity=abc"} <= set(words)
    cards = lab.guest("node01").cards
    assert words.count(f"vec1:transport=tap,ifname=node01-ens32,mac={cards[1].mac},mtu=1500,gro=1") == 1


def test_a_guest_finds_its_own_files(lab: _lab.Lab) -> None:
    files = {file.path: file for file in _lab.guest_files(lab.guest("master1"), SECRETS)}
    assert files["etc/hostname"].content == "master1\n"
    assert files["etc/ssh/ssh_host_ed25519_key"].mode == 0o600
    assert "NOPASSWD" in files["etc/sudoers.d/lab"].content
    assert "PasswordAuthentication no" in files["etc/ssh/sshd_config.d/lab.conf"].content
    assert files["home/lab/.ssh/authorized_keys"].content == SECRETS.authorized_key
    assert files["var/lib/multinic-lab/password"].content == ""
    card = lab.guest("master1").cards[1]
    link = files["etc/systemd/network/10-lab-ens32.link"].content
    # A VLAN on the card has the same hardware address: it must keep its own name.
    assert f"MACAddress={card.mac}\nType=ether\n" in link and "Name=ens32" in link and "MTUBytes=9000" in link
    network = files["etc/systemd/network/10-lab-ens32.network"].content
    assert "Address=192.168.253.129/24" in network and "Gateway" not in network
    assert "Gateway=192.168.160.1" in files["etc/systemd/network/10-lab-ens33.network"].content


def test_a_guest_by_password_takes_no_key_and_asks_in_sudo(lab: _lab.Lab) -> None:
    files = {file.path: file for file in _lab.guest_files(lab.guest("node01"), SECRETS)}
    assert files["var/lib/multinic-lab/password"].content == "lab:s3cret\n"
    assert files["var/lib/multinic-lab/password"].mode == 0o600
    assert files["home/lab/.ssh/authorized_keys"].content == ""
    assert "NOPASSWD" not in files["etc/sudoers.d/lab"].content
    assert "PasswordAuthentication yes" in files["etc/ssh/sshd_config.d/lab.conf"].content


def test_the_identity_changes_with_any_file(lab: _lab.Lab) -> None:
    files = _lab.guest_files(lab.guest("master1"), SECRETS)
    for index, file in enumerate(files):
        changed = [*files[:index], _lab.File(file.path, file.content + "x", file.mode, file.user), *files[index + 1 :]]
        assert _lab.identity(changed) != _lab.identity(files)


def test_processors_are_dealt_out_in_turn() -> None:
    guests = _lab.plan("many", NETWORKS, GUESTS).guests * 2
    assert list(_lab.processors(guests[:1], [3, 7]).values()) == [3]
    assert _lab.processors(guests[:2], [3, 7]) == {"master1": 3, "node01": 7}


@pytest.mark.parametrize(
    ("state", "fresh", "before", "otherwise", "expected"),
    [
        ("started", False, {"a": "running", "b": "frozen", "c": "stopped"}, [], {"b": "thaw", "c": "boot"}),
        ("started", False, {"a": "running", "b": "running"}, ["b"], {"b": "reboot"}),
        ("started", True, {"a": "running", "b": "stopped"}, [], dict.fromkeys("ab", "boot with a new disk")),
        ("stopped", False, {"a": "running", "b": "frozen", "c": "stopped"}, [], dict.fromkeys("ab", "shut down")),
        ("killed", False, {"a": "running", "c": "stopped", "d": "absent"}, [], {"a": "cut the power"}),
        ("frozen", False, {"a": "running", "b": "frozen"}, [], {"a": "freeze"}),
        ("thawed", False, {"a": "running", "b": "frozen"}, [], {"b": "thaw"}),
        ("rebooted", False, {"a": "running", "c": "stopped"}, [], {"a": "reboot", "c": "boot"}),
        ("power_cycled", False, {"a": "running", "c": "absent"}, [], {"a": "cut the power and boot", "c": "boot"}),
        ("absent", False, {"a": "running", "c": "stopped", "d": "absent"}, [], {"a": "remove", "c": "remove"}),
    ],
)
def test_what_is_done_to_guests(
    state: str, fresh: bool, before: dict[str, str], otherwise: list[str], expected: dict[str, str]
) -> None:
    assert _lab.actions(state, fresh, before, otherwise) == expected


@pytest.mark.parametrize("state", ["frozen", "thawed"])
@pytest.mark.parametrize("before", ["stopped", "absent"])
def test_what_is_off_can_be_neither_frozen_nor_thawed(state: str, before: str) -> None:
    with pytest.raises(_lab.LabError, match=f"node01 cannot be {state}, being off; start it first"):
        _lab.actions(state, False, {"node01": before, "master1": "running"}, [])


@pytest.mark.parametrize("state", [state for state in _lab.OUTCOME if state not in ("rebooted", "power_cycled")])
def test_a_state_that_was_reached_needs_nothing_more(state: str) -> None:
    assert _lab.actions(state, False, {"a": _lab.OUTCOME[state]}, []) == {}


# ---- networks


VERBS: list[tuple[str, Any]] = [
    (r"ip link delete (\S+)", lambda state, name: state.pop(name)),
    (r"ip link add (\S+) type bridge .*", lambda state, name: state.update(_new(state, name, "bridge"))),
    (r"ip tuntap add dev (\S+) mode tap", lambda state, name: state.update(_new(state, name, "tun"))),
    (r"ip link set dev (\S+) up", lambda state, name: state[name].update(up=True)),
    (r"ip link set dev (\S+) nomaster", lambda state, name: state[name].update(master="")),
    (r"ip link set dev (\S+) master (\S+)", lambda state, name, master: state[name].update(master=master)),
    (r"ip link set dev (\S+) mtu (\d+)", lambda state, name, mtu: state[name].update(mtu=int(mtu))),
    (r"ip address add (\S+) dev (\S+)", lambda state, address, name: state[name].update(address=address)),
    (r"ip address delete \S+ dev (\S+)", lambda state, name: state[name].update(address="")),
    (r"tc qdisc replace dev (\S+) root tbf rate (\d+)bit .*", lambda state, name, r: state[name].update(speed=int(r))),
    (r"tc qdisc delete dev (\S+) root", lambda state, name: state[name].update(speed=0)),
]


def _new(state: dict[str, dict[str, Any]], name: str, kind: str) -> dict[str, dict[str, Any]]:
    assert name not in state
    return {name: dict(vars(_lab.Device(name, kind, False, 1500)))}


def _apply(commands: list[list[str]], found: list[_lab.Device]) -> list[_lab.Device]:
    """What the kernel would have after the commands: the same few verbs, carried out on data."""
    state: dict[str, dict[str, Any]] = {device.name: dict(vars(device)) for device in found}
    for command in commands:
        matches = [(re.fullmatch(pattern, " ".join(command)), verb) for pattern, verb in VERBS]
        [(match, verb)] = [(match, verb) for match, verb in matches if match]
        verb(state, *match.groups())
    assert all(device["master"] in ("", *state) for device in state.values())
    return [_lab.Device(**device) for device in state.values()]


def _by_name(devices: list[_lab.Device]) -> list[_lab.Device]:
    return sorted(devices, key=lambda device: device.name)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [_lab.Device("left-over", "tun", True, 1500)],
        [_lab.Device("br-internal", "tun", True, 1500)],
        [_lab.Device("br-external", "bridge", False, 9000, "", "10.0.0.1/8")],
        [_lab.Device("br-internal", "bridge", True, 1500, "", "192.168.253.1/24")],
        [
            _lab.Device("br-external", "bridge", True, 1500, "", "192.168.160.1/23"),
            _lab.Device("master1-ens32", "tun", False, 1500, "br-external", "", 5000),
        ],
    ],
)
def test_networks_become_as_planned_from_whatever_was_there(lab: _lab.Lab, found: list[_lab.Device]) -> None:
    wanted = _lab.devices(lab)
    after = _apply(_lab.network_commands(wanted, found), found)
    assert _by_name(after) == _by_name(wanted)
    assert _lab.network_commands(wanted, after) == []


def test_a_speed_can_be_taken_away() -> None:
    networks = {**NETWORKS, "internal": {"cidr": "192.168.253.0/24", "mtu": 9000}}
    before = _lab.devices(_lab.plan("small", NETWORKS, GUESTS))
    wanted = _lab.devices(_lab.plan("small", networks, GUESTS))
    assert _by_name(_apply(_lab.network_commands(wanted, before), before)) == _by_name(wanted)


@given(st.integers(min_value=8, max_value=10**11))
def test_the_burst_lets_a_card_reach_its_speed(speed: int) -> None:
    sizes = _lab.bucket(speed)
    assert sizes["burst"] >= max(speed // 8 // 250, 2 * 65536)
    assert sizes["limit"] >= sizes["burst"] + 256 * 1024


def test_plugging_and_unplugging_leaves_alone_what_is_as_wanted(lab: _lab.Lab) -> None:
    guest, found = lab.guest("node01"), _lab.devices(lab)
    assert _lab.cabling(lab, guest, {"ens32": "plugged"}, found) == {}
    commands = _lab.cabling(lab, guest, {"ens32": "unplugged"}, found)
    assert commands == {"ens32": ["ip", "link", "set", "dev", "node01-ens32", "nomaster"]}
    after = _apply(list(commands.values()), found)
    assert _lab.cabling(lab, guest, {"ens32": "unplugged"}, after) == {}
    plugged = _lab.cabling(lab, guest, {"ens32": "plugged", "ens33": "plugged"}, after)
    assert _by_name(_apply(list(plugged.values()), after)) == _by_name(found)


def test_devices_are_read_as_the_tools_print_them() -> None:
    links = [
        {"ifname": "lo", "flags": ["LOOPBACK"], "mtu": 65536, "addr_info": []},
        {
            "ifname": "br-external",
            "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
            "mtu": 1500,
            "linkinfo": {"info_kind": "bridge"},
            "addr_info": [
                {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
                {"family": "inet", "local": "192.168.160.1", "prefixlen": 23, "scope": "global"},
            ],
        },
        {
            "ifname": "node01-ens33",
            "flags": ["BROADCAST", "MULTICAST"],
            "mtu": 1500,
            "master": "br-external",
            "linkinfo": {"info_kind": "tun", "info_slave_kind": "bridge"},
            "addr_info": [],
        },
    ]
    qdiscs = [
        {"kind": "noqueue", "handle": "0:", "dev": "lo", "root": True, "options": {}},
        {"kind": "tbf", "handle": "8001:", "dev": "node01-ens33", "root": True, "options": {"rate": 125000000}},
    ]
    assert _lab.observed(json.dumps(links), json.dumps(qdiscs)) == [
        _lab.Device("br-external", "bridge", True, 1500, "", "192.168.160.1/23"),
        _lab.Device("node01-ens33", "tun", False, 1500, "br-external", "", 10**9),
    ]
    assert _lab.observed("", "") == []


# ---- how to get in


def test_host_keys_are_known_by_every_address(lab: _lab.Lab) -> None:
    keys = {"master1": "ssh-ed25519 AAAA1 master1\n", "node01": "ssh-ed25519 AAAA2 node01\n"}
    assert _lab.known_hosts(lab, keys).splitlines() == [
        "master1,192.168.160.243,192.168.253.129 ssh-ed25519 AAAA1",
        "node01,192.168.160.246,192.168.253.131 ssh-ed25519 AAAA2",
    ]


def test_ssh_checks_keys_and_enters_the_namespace(lab: _lab.Lab) -> None:
    config = _lab.ssh_config(lab, "/labs/small")
    assert "ProxyCommand ip netns exec multinic-small nc -F %h %p\n  ProxyUseFdpass yes\n" in config
    assert "StrictHostKeyChecking yes" in config
    assert "Host master1\n  HostName 192.168.160.243\n  IdentityFile /labs/small/id_ed25519\n" in config
    assert _lab.ssh_command(lab.guest("master1"), "/labs/small") == "ssh -F /labs/small/ssh_config master1"
    assert _lab.ssh_command(lab.guest("node01"), "/labs/small").startswith("sshpass -f /labs/small/password ssh ")
