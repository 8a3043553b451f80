# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""The plan of one lab: names, cards, files and command lines from inventory data. Pure: no I/O, no Ansible."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional, Union

Interface = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

LAB_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
GUEST_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
DEVICE_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,14}")
SPEED = re.compile(r"([0-9]+)(kbit|mbit|gbit)")
MEMORY = re.compile(r"[0-9]+[MG]")
UNIT_NAME = re.compile(r"[a-zA-Z0-9_.-]+\.(netdev|network|link)")
SYSCTL_NAME = re.compile(r"[a-zA-Z0-9_*/.-]+")
SPEED_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
DEFAULT_MTU = 1500
VLAN_TAG = 4
LOGINS = ("key", "password")


class LabError(ValueError):
    """The lab's description cannot be carried out; says all that is wrong with it at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Network:
    """One network: a bridge in the lab's namespace."""

    name: str
    bridge: str
    cidr: str
    gateway: str  # with prefix, as the bridge's own address; "" = the network has none
    default_route: bool
    speed: int  # bits per second; 0 = as fast as this machine
    mtu: int
    path_mtu: int = 0  # the largest packet that gets through; 0 = any that the cards send


@dataclass(frozen=True)
class Card:
    """One network card of a guest: a tap on a bridge."""

    name: str
    network: str
    tap: str
    mac: str
    addresses: tuple[str, ...]  # each with prefix
    gateway: str  # of the default route; "" = none through this card
    mtu: int
    speed: int
    unit: str = ""  # what is added to its systemd-networkd file


@dataclass(frozen=True)
class Guest:
    """One host of the lab."""

    name: str
    memory: str
    login: str
    cards: tuple[Card, ...]
    ssh_address: str
    machine_id: str
    units: tuple[tuple[str, str], ...] = ()  # more systemd-networkd files: name, content
    sysctls: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Lab:
    """All that one lab consists of."""

    name: str
    networks: tuple[Network, ...]
    guests: tuple[Guest, ...]

    @property
    def namespace(self) -> str:
        return namespace(self.name)

    def guest(self, name: str) -> Guest:
        for guest in self.guests:
            if guest.name == name:
                return guest
        known = ", ".join(guest.name for guest in self.guests)
        raise LabError([f"lab {self.name} has no guest {name}; it has {known}"])


def namespace(lab: str) -> str:
    """The network namespace of a lab."""
    return f"multinic-{lab}"


def _digest(*words: str) -> str:
    return hashlib.sha256("/".join(words).encode()).hexdigest()


def device_name(*words: str) -> str:
    """A name for a device of the lab: readable where the kernel's 15 characters allow it."""
    name = "-".join(words)
    return name if len(name) <= 15 and DEVICE_NAME.fullmatch(name) else f"{name[:6]}-{_digest(*words)[:8]}"


def mac_address(lab: str, guest: str, card: str) -> str:
    """A locally administered address that stays the same for as long as the names do."""
    digest = _digest(lab, guest, card, "mac")
    return ":".join(["02", *(digest[at : at + 2] for at in range(0, 10, 2))])


def bits_per_second(speed: str) -> int:
    """V(10gbit) and the like; an empty string is no limit."""
    if not speed:
        return 0
    match = SPEED.fullmatch(speed)
    if not match or int(match[1]) == 0:
        raise ValueError(f"speed {speed!r} is not a number with kbit, mbit or gbit, such as 10gbit")
    return int(match[1]) * SPEED_UNITS[match[2]]


def _mtu(value: Any, fallback: int) -> int:
    mtu = fallback if value is None else int(value)
    if not 576 <= mtu <= 65521:
        raise ValueError(f"mtu {mtu} is not between 576 and 65521")
    return mtu


def _network(name: str, data: Mapping[str, Any]) -> Network:
    cidr = ipaddress.ip_network(str(data["cidr"]))
    gateway = ""
    if data.get("gateway"):
        address = ipaddress.ip_address(str(data["gateway"]))
        if address not in cidr:
            raise ValueError(f"gateway {address} is not in {cidr}")
        gateway = f"{address}/{cidr.prefixlen}"
    if data.get("default_route") and not gateway:
        raise ValueError("default_route needs a gateway")
    mtu = _mtu(data.get("mtu"), DEFAULT_MTU)
    path_mtu = _mtu(data["path_mtu"], 0) if data.get("path_mtu") else 0
    if path_mtu > mtu:
        raise ValueError(f"path_mtu {path_mtu} is larger than the cards' {mtu}")
    return Network(
        name=name,
        bridge=device_name("br", name),
        cidr=str(cidr),
        gateway=gateway,
        default_route=bool(data.get("default_route")),
        speed=bits_per_second(str(data.get("speed") or "")),
        mtu=mtu,
        path_mtu=path_mtu,
    )


def _addresses(data: Mapping[str, Any], network: Network) -> tuple[str, ...]:
    cidr = ipaddress.ip_network(network.cidr)
    result = []
    for text in data.get("addresses") or []:
        address: Interface = ipaddress.ip_interface(text if "/" in text else f"{text}/{cidr.prefixlen}")
        if address.version == cidr.version and address.ip not in cidr:
            raise ValueError(f"address {address} is not in network {network.name} ({cidr})")
        result.append(str(address))
    return tuple(result)


def _card(lab: str, guest: str, data: Mapping[str, Any], networks: Mapping[str, Network]) -> Card:
    name = str(data["name"])
    if not DEVICE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a network card (at most 15 letters, digits, '_', '.', '-')")
    network = networks.get(str(data["network"]))
    if network is None:
        raise ValueError(f"network {data['network']!r} is not one of {', '.join(networks)}")
    mtu = _mtu(data.get("mtu"), network.mtu)
    if mtu > network.mtu:
        raise ValueError(f"mtu {mtu} is larger than the {network.mtu} of network {network.name}")
    speed = str(data.get("speed") or "")
    return Card(
        name=name,
        network=network.name,
        tap=device_name(guest, name),
        mac=mac_address(lab, guest, name),
        addresses=_addresses(data, network),
        gateway=network.gateway.partition("/")[0] if network.default_route else "",
        mtu=mtu,
        speed=bits_per_second(speed) if speed else network.speed,
        unit=str(data.get("unit") or ""),
    )


def _units(data: Mapping[str, Any], cards: Sequence[Card]) -> tuple[tuple[str, str], ...]:
    own = {f"{card.name}.{kind}" for card in cards for kind in ("link", "network")}
    for name in data:
        if not UNIT_NAME.fullmatch(str(name)):
            raise ValueError(f"{name!r} is no name of a systemd-networkd file, such as bond0.netdev")
        if name in own:
            raise ValueError(f"{name} is the file of a card; write the lines as the card's unit")
    return tuple((str(name), str(text)) for name, text in data.items())


def _sysctls(data: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    settings = tuple((str(name), str(value)) for name, value in data.items())
    for name, value in settings:
        if not SYSCTL_NAME.fullmatch(name) or "\n" in value:
            raise ValueError(f"{name!r} is no name, or {value!r} no value, of a kernel setting")
    return settings


def _guest(lab: str, data: Mapping[str, Any], networks: Mapping[str, Network], problems: list[str]) -> Optional[Guest]:
    name = str(data.get("name") or "")
    before = len(problems)
    if not GUEST_NAME.fullmatch(name):
        problems.append(f"guest {name!r}: not a host name (lower case letters, digits and '-')")
    memory = str(data.get("memory") or "2G")
    if not MEMORY.fullmatch(memory):
        problems.append(f"guest {name}: memory {memory!r} is not a number with M or G, such as 2G")
    login = str(data.get("login") or "key")
    if login not in LOGINS:
        problems.append(f"guest {name}: login {login!r} is not one of {', '.join(LOGINS)}")
    cards = []
    for index, card in enumerate(data.get("cards") or []):
        try:
            cards.append(_card(lab, name, card, networks))
        except (ValueError, KeyError, TypeError) as exc:
            problems.append(f"guest {name}: card {card.get('name', index + 1)}: {_text(exc)}")
    units: tuple[tuple[str, str], ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    try:
        units, sysctls = _units(data.get("units") or {}, cards), _sysctls(data.get("sysctls") or {})
    except (ValueError, AttributeError) as exc:
        problems.append(f"guest {name}: {exc}")
    if len({card.name for card in cards}) != len(cards):
        problems.append(f"guest {name}: two cards have the same name")
    reachable = [
        card.addresses[0].partition("/")[0] for card in cards if card.addresses and networks[card.network].gateway
    ]
    if len(problems) == before and not reachable:
        problems.append(
            f"guest {name}: no card has an address on a network with a gateway, so this machine could not reach it"
        )
    if len(problems) != before:
        return None
    machine_id = _digest(lab, name, "machine-id")[:32]
    return Guest(name, memory, login, tuple(cards), reachable[0], machine_id, units, sysctls)


def _text(exc: Exception) -> str:
    return f"{exc.args[0]!r} is missing" if isinstance(exc, KeyError) else str(exc)


def _duplicates(kind: str, names: Iterable[str]) -> list[str]:
    seen: set[str] = set()
    twice = []
    for name in names:
        if name in seen and name not in twice:
            twice.append(name)
        seen.add(name)
    return [f"{kind} {name} is used twice" for name in twice]


def plan(name: str, networks: Mapping[str, Mapping[str, Any]], guests: Sequence[Mapping[str, Any]]) -> Lab:
    """The whole lab, or LabError with all that is wrong in the description."""
    problems: list[str] = []
    if not LAB_NAME.fullmatch(name):
        problems.append(f"lab name {name!r}: lower case letters, digits and '-', at most 32, a letter first")
    planned: dict[str, Network] = {}
    for key, data in networks.items():
        try:
            planned[str(key)] = _network(str(key), data)
        except (ValueError, KeyError, TypeError) as exc:
            problems.append(f"network {key}: {_text(exc)}")
    members = []
    if len(planned) == len(networks):
        members = [guest for guest in (_guest(name, data, planned, problems) for data in guests) if guest]
    cards = [card for guest in members for card in guest.cards]
    problems += _duplicates("guest name", [guest.name for guest in members])
    problems += _duplicates("device", [n.bridge for n in planned.values()] + [card.tap for card in cards])
    problems += _duplicates("hardware address", [card.mac for card in cards])
    used = [address.partition("/")[0] for card in cards for address in card.addresses]
    used += [network.gateway.partition("/")[0] for network in planned.values() if network.gateway]
    problems += _duplicates("address", used)
    if problems:
        raise LabError(problems)
    return Lab(name, tuple(planned.values()), tuple(members))


def dump(lab: Lab) -> str:
    """The plan as it is kept in the lab's folder."""
    return json.dumps(asdict(lab), indent=2, sort_keys=True) + "\n"


def load(text: str) -> Lab:
    """The plan as it was kept by C(dump)."""
    data = json.loads(text)
    guests = []
    for guest in data["guests"]:
        cards = tuple(Card(**{**card, "addresses": tuple(card["addresses"])}) for card in guest["cards"])
        pairs = {key: tuple((name, text) for name, text in guest.get(key) or ()) for key in ("units", "sysctls")}
        guests.append(Guest(**{**guest, **pairs, "cards": cards}))
    return Lab(data["name"], tuple(Network(**network) for network in data["networks"]), tuple(guests))


# ---- what a guest finds on its second disk


@dataclass(frozen=True)
class Secrets:
    """What the controller makes for a guest before its first boot."""

    host_key: str
    authorized_key: str
    password: str


@dataclass(frozen=True)
class File:
    """One file of a guest."""

    path: str
    content: str
    mode: int = 0o644
    user: int = 0


def link_unit(card: Card) -> str:
    # A VLAN on the card has the card's hardware address, but is of another type.
    return f"[Match]\nMACAddress={card.mac}\nType=ether\n\n[Link]\nName={card.name}\nMTUBytes={card.mtu}\n"


def network_unit(card: Card) -> str:
    lines = ["[Match]", f"Name={card.name}", "", "[Network]", "LinkLocalAddressing=ipv6", "IPv6AcceptRA=no"]
    lines += [f"Address={address}" for address in card.addresses]
    if card.gateway:
        lines.append(f"Gateway={card.gateway}")
    # A section may come twice in a file, so what is added need not know the lines before it.
    return "\n".join(lines) + "\n" + (f"\n{card.unit.strip()}\n" if card.unit.strip() else "")


def guest_files(guest: Guest, secrets: Secrets, user_id: int = 1000) -> list[File]:
    """The files that make the shared image this guest."""
    by_password = guest.login == "password"
    sudo = "lab ALL=(ALL:ALL) ALL\n" if by_password else "lab ALL=(ALL:ALL) NOPASSWD: ALL\n"
    sshd = f"PasswordAuthentication {'yes' if by_password else 'no'}\nPermitRootLogin no\nUseDNS no\n"
    files = [
        File("etc/hostname", f"{guest.name}\n"),
        File("etc/hosts", f"127.0.0.1\tlocalhost\n127.0.1.1\t{guest.name}\n::1\tlocalhost ip6-localhost\n"),
        File("etc/machine-id", f"{guest.machine_id}\n", 0o444),
        File("etc/ssh/ssh_host_ed25519_key", secrets.host_key, 0o600),
        File("etc/ssh/sshd_config.d/lab.conf", sshd),
        File("etc/sudoers.d/lab", sudo, 0o440),
        File("var/lib/multinic-lab/password", f"lab:{secrets.password}\n" if by_password else "", 0o600),
        File("home/lab/.ssh/authorized_keys", "" if by_password else secrets.authorized_key, 0o600, user_id),
    ]
    for card in guest.cards:
        files.append(File(f"etc/systemd/network/10-lab-{card.name}.link", link_unit(card)))
        files.append(File(f"etc/systemd/network/10-lab-{card.name}.network", network_unit(card)))
    files += [File(f"etc/systemd/network/10-lab-{name}", text) for name, text in guest.units]
    # Also when there is none, so that those of an earlier description are gone.
    files.append(File("etc/sysctl.d/70-lab.conf", "".join(f"{name} = {value}\n" for name, value in guest.sysctls)))
    return files


def identity(files: Sequence[File]) -> str:
    """Changes as soon as any file of the guest does."""
    return hashlib.sha256(json.dumps([asdict(file) for file in files]).encode()).hexdigest()[:32]


# ---- how a guest is started


def kernel_arguments(lab: str, guest: Guest, base_image: str, identity_: str) -> list[str]:
    """The command line of the guest's kernel; paths are those inside the kernel's private root."""
    words = [
        f"mem={guest.memory}",
        f"ubda=/lab/guests/{guest.name}/disk.cow,/base/{base_image}",
        f"ubdbr=/lab/guests/{guest.name}/identity.tar",
        "root=/dev/ubda",
        "rw",
        "rootfstype=ext4",
    ]
    for index, card in enumerate(guest.cards):
        words.append(f"vec{index}:transport=tap,ifname={card.tap},mac={card.mac},mtu={card.mtu},gro=1")
    words += [
        "con=null",
        "con0=null,fd:1",
        "systemd.unified_cgroup_hierarchy=1",
        "seccomp=on",
        f"umid={guest.name}",
        "uml_dir=/lab/umid",
        f"lab.name={lab}",
        f"lab.identity={identity_}",
        "init=/usr/lib/multinic-lab/init",
    ]
    return words


# Runs in the guest's own mount namespace, so that nothing stays mounted when the guest ends.
LAUNCHER = """set -e
root=$1 lab=$2 base=$3 memory=$4 processor=$5
shift 5
mount --bind "$lab" "$root/lab"
mount --bind "$base" "$root/base"
mount -o remount,bind,ro "$root/base"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs -o "size=$memory,mode=0700" lab-memory "$root/tmp"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/ TMPDIR=/tmp taskset -c "$processor" chroot "$root" /lab/kernel "$@"
"""

# The guest's program. A guest that reboots by itself replaces its process by the program of the same name, and would
# then find its own taps busy, since nothing closed them: so this program, not the bare kernel, has that name.
KERNEL = """#!/bin/bash
for descriptor in /proc/self/fd/*; do
  number=${descriptor##*/}
  test "$number" -le 2 || exec {number}>&-
done
exec -a "$0" /usr/bin/linux.uml "$@"
"""


def memory_bytes(memory: str) -> int:
    return int(memory[:-1]) * {"M": 2**20, "G": 2**30}[memory[-1]]


def start_command(
    lab: Lab, guest: Guest, processor: int, kernel_root: str, lab_folder: str, base_folder: str, arguments: list[str]
) -> list[str]:
    """One process from first to last: every step replaces the one before it."""
    # The tmpfs is the guest's memory; the rest is room for the stub programs the kernel puts there.
    size = str(memory_bytes(guest.memory) + 64 * 2**20)
    return [
        "nsenter",
        f"--net=/run/netns/{lab.namespace}",
        "--",
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        "/bin/sh",
        "-c",
        LAUNCHER,
        "lab",
        kernel_root,
        lab_folder,
        base_folder,
        size,
        str(processor),
        *arguments,
    ]


def processors(guests: Sequence[Guest], available: Sequence[int]) -> dict[str, int]:
    """Each guest's one processor, dealt out in turn."""
    return {guest.name: available[index % len(available)] for index, guest in enumerate(guests)}


# ---- what is to be done with guests

# state -> what a guest is like afterwards
OUTCOME = {
    "started": "running",
    "stopped": "stopped",
    "killed": "stopped",
    "frozen": "frozen",
    "thawed": "running",
    "rebooted": "running",
    "power_cycled": "running",
    "absent": "absent",
}

# state -> what is done to a guest that is running, frozen, stopped or absent; None is nothing to do
ACTIONS: dict[str, dict[str, Optional[str]]] = {
    "started": {"running": None, "frozen": "thaw", "stopped": "boot", "absent": "boot"},
    "stopped": {"running": "shut down", "frozen": "shut down", "stopped": None, "absent": None},
    "killed": {"running": "cut the power", "frozen": "cut the power", "stopped": None, "absent": None},
    "frozen": {"running": "freeze", "frozen": None},
    "thawed": {"running": None, "frozen": "thaw"},
    "rebooted": {"running": "reboot", "frozen": "reboot", "stopped": "boot", "absent": "boot"},
    "power_cycled": {
        "running": "cut the power and boot",
        "frozen": "cut the power and boot",
        "stopped": "boot",
        "absent": "boot",
    },
    "absent": {"running": "remove", "frozen": "remove", "stopped": "remove", "absent": None},
}


def actions(state: str, fresh: bool, before: Mapping[str, str], otherwise: Sequence[str]) -> dict[str, str]:
    """By guest, what to do; guests that need nothing are left out.

    C(otherwise) names the guests that run from another description than the present one.
    """
    if fresh and state == "started":
        return dict.fromkeys(before, "boot with a new disk")
    table = ACTIONS[state]
    impossible = sorted(name for name, current in before.items() if current not in table)
    if impossible:
        raise LabError([f"{', '.join(impossible)} cannot be {state}, being off; start it first"])
    result = {}
    for name, current in before.items():
        action = "reboot" if state == "started" and name in otherwise else table[current]
        if action:
            result[name] = action
    return result


# ---- the networks as this machine has them


def bucket(speed: int) -> dict[str, int]:
    """Burst and limit in bytes for a token bucket that does not slow a guest below its card's speed."""
    rate = speed // 8
    burst = max(rate // 250, 128 * 1024)
    return {"burst": burst, "limit": burst + max(rate // 20, 256 * 1024)}


@dataclass(frozen=True)
class Device:
    """A bridge or tap as it is or should be."""

    name: str
    kind: str
    up: bool
    mtu: int
    master: str = ""
    address: str = ""
    speed: int = 0


def devices(lab: Lab) -> list[Device]:
    """All devices of the lab's namespace, bridges first.

    A bridge drops without a word what is larger than the MTU of the tap it would leave by: so does a switch. It lets
    the length of a VLAN's tag more through.
    """
    result = [
        Device(n.bridge, "bridge", True, n.path_mtu - VLAN_TAG if n.path_mtu else n.mtu, "", n.gateway)
        for n in lab.networks
    ]
    networks = {network.name: network for network in lab.networks}
    for guest in lab.guests:
        for card in guest.cards:
            network = networks[card.network]
            mtu = min(card.mtu, network.path_mtu - VLAN_TAG) if network.path_mtu else card.mtu
            result.append(Device(card.tap, "tun", True, mtu, network.bridge, "", card.speed // 8 * 8))
    return result


def observed(links: str, qdiscs: str) -> list[Device]:
    """What C(ip -json -details address) and C(tc -json qdisc) say about the namespace."""
    speeds = {
        qdisc["dev"]: int(qdisc["options"]["rate"]) * 8
        for qdisc in json.loads(qdiscs or "[]")
        if qdisc.get("kind") == "tbf" and qdisc.get("root")
    }
    found = []
    for link in json.loads(links or "[]"):
        kind = link.get("linkinfo", {}).get("info_kind", "")
        if not kind:
            continue
        addresses = [
            f"{entry['local']}/{entry['prefixlen']}"
            for entry in link.get("addr_info", [])
            if entry.get("scope") == "global"
        ]
        found.append(
            Device(
                name=link["ifname"],
                kind=kind,
                up="UP" in link.get("flags", []),
                mtu=link["mtu"],
                master=link.get("master", ""),
                address=addresses[0] if addresses else "",
                speed=speeds.get(link["ifname"], 0),
            )
        )
    return found


Commands = list[list[str]]


def network_commands(wanted: Sequence[Device], found: Sequence[Device]) -> Commands:
    """C(ip) and C(tc) commands, without the namespace, that turn what is into what should be."""
    commands: Commands = []
    want = {device.name: device for device in wanted}
    have: dict[str, Device] = {}
    for device in found:
        if device.name in want and want[device.name].kind == device.kind:
            have[device.name] = device
        else:
            commands.append(["ip", "link", "delete", device.name])
    for name, device in want.items():
        current = have.get(name)
        if current is None:
            commands.append(
                ["ip", "link", "add", name, "type", "bridge", "mcast_snooping", "0"]
                if device.kind == "bridge"
                else ["ip", "tuntap", "add", "dev", name, "mode", "tap"]
            )
            current = Device(name, device.kind, False, DEFAULT_MTU)
        commands += _device_commands(device, current)
    return commands


def _device_commands(device: Device, current: Device) -> Commands:
    commands: Commands = []
    setting = ["ip", "link", "set", "dev", device.name]
    if current.mtu != device.mtu:
        commands.append([*setting, "mtu", str(device.mtu)])
    if current.master != device.master:
        commands.append([*setting, "master", device.master] if device.master else [*setting, "nomaster"])
    if current.address and current.address != device.address:
        commands.append(["ip", "address", "delete", current.address, "dev", device.name])
    if device.address and current.address != device.address:
        once = ["nodad"] if ":" in device.address else []
        commands.append(["ip", "address", "add", device.address, "dev", device.name, *once])
    if current.speed != device.speed:
        commands.append(_speed_command(device))
    if device.up and not current.up:
        commands.append([*setting, "up"])
    return commands


def cabling(lab: Lab, guest: Guest, cards: Mapping[str, str], found: Sequence[Device]) -> dict[str, list[str]]:
    """By card, the command that plugs or unplugs it; cards that are as wanted are left out.

    To unplug is to take the tap off its bridge. Setting it down would break the guest's driver, which counts each
    frame that its tap refuses as one still to be sent and does not recover when the tap is up again.
    """
    bridges = {network.name: network.bridge for network in lab.networks}
    masters = {device.name: device.master for device in found}
    commands = {}
    for card in guest.cards:
        wanted = bridges[card.network] if cards.get(card.name) == "plugged" else ""
        if card.name in cards and masters.get(card.tap) != wanted:
            setting = ["ip", "link", "set", "dev", card.tap]
            commands[card.name] = [*setting, "master", wanted] if wanted else [*setting, "nomaster"]
    return commands


def _speed_command(device: Device) -> list[str]:
    if not device.speed:
        return ["tc", "qdisc", "delete", "dev", device.name, "root"]
    sizes = bucket(device.speed)
    words = ["rate", f"{device.speed}bit", "burst", str(sizes["burst"]), "limit", str(sizes["limit"])]
    return ["tc", "qdisc", "replace", "dev", device.name, "root", "tbf", *words]


# A fresh namespace takes some of these from the machine, and the lab must not depend on the machine. The
# gateways are routers that lead nowhere. Those that a machine does not have are left out.
NAMESPACE_SYSCTLS = {
    "net/ipv4/ip_forward": "0",
    "net/ipv4/conf/all/arp_ignore": "1",
    "net/ipv6/conf/default/addr_gen_mode": "1",
    "net/bridge/bridge-nf-call-iptables": "0",
    "net/bridge/bridge-nf-call-ip6tables": "0",
    "net/bridge/bridge-nf-call-arptables": "0",
}


def known_hosts(lab: Lab, public_keys: Mapping[str, str]) -> str:
    """One line per guest with all its addresses, for strict host key checking."""
    lines = []
    for guest in lab.guests:
        addresses = [address.partition("/")[0] for card in guest.cards for address in card.addresses]
        lines.append(f"{','.join([guest.name, *addresses])} {' '.join(public_keys[guest.name].split()[:2])}\n")
    return "".join(lines)


def ssh_config(lab: Lab, folder: str) -> str:
    """A configuration with which C(ssh -F) finds every guest by its name."""
    blocks = []
    for guest in lab.guests:
        key = "PubkeyAuthentication no" if guest.login == "password" else f"IdentityFile {folder}/id_ed25519"
        blocks.append(f"Host {guest.name}\n  HostName {guest.ssh_address}\n  {key}\n")
    common = (
        f"Host *\n  User lab\n  ProxyCommand ip netns exec {lab.namespace} nc -F %h %p\n  ProxyUseFdpass yes\n"
        f"  UserKnownHostsFile {folder}/known_hosts\n  GlobalKnownHostsFile /dev/null\n"
        "  StrictHostKeyChecking yes\n  IdentitiesOnly yes\n"
    )
    return "\n".join([*blocks, common])


def ssh_command(guest: Guest, folder: str) -> str:
    """How a person gets into a guest."""
    command = f"ssh -F {folder}/ssh_config {guest.name}"
    return f"sshpass -f {folder}/password {command}" if guest.login == "password" else command
