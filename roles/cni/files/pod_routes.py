# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pod network of `cni: bridge` on one host, kept by multinic-pod-routes.service.

From the API it learns, with the host's own kubelet certificate, which node has which pod CIDR and which address.
From that it keeps: a route to each other node's pods over the cluster network, the CNI configuration with the host's
own pod CIDR, and the rules that forward pod traffic and masquerade what leaves the cluster. The kernel tells it of every
change of a link, an address or a route, so a flapping link or a restarted network manager is repaired at once. The last
known nodes are remembered on disk: after a reboot the routes are there before the API is.
"""

from __future__ import annotations

import base64
import contextlib
import ipaddress
import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, NamedTuple

PROTOCOL = "201"  # marks our routes, so that we never touch a route of others
NAT_CHAIN = "MULTINIC-PODS-NAT"
FORWARD_CHAIN = "MULTINIC-PODS-FWD"
SETTLE_SECONDS = 0.05
REVIEW_SECONDS = 30.0
WATCH_SECONDS = 240
RTM_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400  # links; addresses and routes of IPv4; those of IPv6


class Node(NamedTuple):
    name: str
    addresses: tuple[str, ...]  # in the API's order, the primary family first
    pod_cidrs: tuple[str, ...]


Route = tuple[str, str, str, str]  # destination, gateway, device, source


# --- what is wanted: pure ---------------------------------------------------------------------------------------------


def node_of(item: Mapping[str, Any]) -> Node:
    """A node of the API, without addresses and pod CIDRs while it has none."""
    status, spec = item.get("status") or {}, item.get("spec") or {}
    addresses = [entry["address"] for entry in status.get("addresses") or () if entry.get("type") == "InternalIP"]
    cidrs = spec.get("podCIDRs") or [spec.get("podCIDR") or ""]
    return Node(item["metadata"]["name"], tuple(addresses), tuple(filter(None, cidrs)))


def remembered(entry: Any) -> Node:
    """A node as it was written to the disk. TypeError or ValueError: it is none."""
    name, addresses, cidrs = entry
    if not (isinstance(addresses, list) and isinstance(cidrs, list)):
        raise TypeError(f"{entry!r} is no node")
    return Node(str(name), tuple(map(str, addresses)), tuple(map(str, cidrs)))


def of_family(values: Iterable[str], like: str) -> str:
    """The first address or network of the family that another has, or empty."""
    return next((value for value in values if (":" in value) == (":" in like)), "")


def wanted_routes(nodes: Iterable[Node], me: str, device: str, source: str) -> dict[str, Route]:
    """A route to the pods of each other node, by destination, in the family of the source."""
    ways = ((node.name, of_family(node.pod_cidrs, source), of_family(node.addresses, source)) for node in nodes)
    return {
        cidr: (cidr, address, device, source)
        for name, cidr, address in ways
        if name != me and cidr and address and address != source
    }


def found_routes(listing: Iterable[Mapping[str, Any]]) -> dict[str, Route]:
    """Our routes, of `ip -j route show proto 201`."""
    return {
        str(ipaddress.ip_network(route["dst"])): (
            str(ipaddress.ip_network(route["dst"])),
            str(route.get("gateway", "")),
            str(route.get("dev", "")),
            str(route.get("prefsrc", "")),
        )
        for route in listing
        if route.get("dst") not in (None, "default")
    }


def route_commands(wanted: Mapping[str, Route], found: Mapping[str, Route]) -> list[list[str]]:
    """The `ip` commands that lead from the routes found to those wanted."""
    commands = [
        ["route", "del", cidr, "via", route[1], "dev", route[2], "proto", PROTOCOL]
        for cidr, route in sorted(found.items())
        if cidr not in wanted
    ]
    commands += [
        ["route", "replace", cidr, "via", gateway, "dev", device, "src", source, "proto", PROTOCOL]
        for cidr, (_cidr, gateway, device, source) in sorted(wanted.items())
        if found.get(cidr) != wanted[cidr]
    ]
    return commands


def conflist(pod_cidrs: Iterable[str], mtu: int, bridge: str) -> str:
    """The CNI configuration of this host: pods get an address of each family."""
    subnets = list(pod_cidrs)
    chain: dict[str, Any] = {
        "cniVersion": "0.4.0",
        "name": "multinic-bridge",
        "plugins": [
            {
                "type": "bridge",
                "bridge": bridge,
                "isGateway": True,
                "forceAddress": True,
                "ipMasq": False,
                "hairpinMode": True,
                "mtu": mtu,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": subnet}] for subnet in subnets],
                    "routes": [{"dst": "::/0" if ":" in subnet else "0.0.0.0/0"} for subnet in subnets],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
        ],
    }
    return json.dumps(chain, indent=2) + "\n"


def chain_rules(pod_cidr: str, service_cidr: str, node_addresses: Iterable[str]) -> dict[str, list[str]]:
    """Our two chains of one family. Pods are seen by their own address inside the cluster, by the host's outside.

    Pods with public IPv6 addresses are seen by their own outside, too: nobody needs to be hidden there.
    """
    nodes = sorted(set(node_addresses), key=ipaddress.ip_address)
    pods = ipaddress.ip_network(pod_cidr)
    public = pods.version == 6 and pods.is_global
    return {
        NAT_CHAIN: [
            f"-A {NAT_CHAIN} -d {pod_cidr} -j RETURN",
            *(f"-A {NAT_CHAIN} -d {address}/{pods.max_prefixlen} -j RETURN" for address in nodes),
            f"-A {NAT_CHAIN} -d {'ff00::/8' if pods.version == 6 else '224.0.0.0/4'} -j RETURN",
            f"-A {NAT_CHAIN} -j {'RETURN' if public else 'MASQUERADE'}",
        ],
        FORWARD_CHAIN: [
            f"-A {FORWARD_CHAIN} -m conntrack --ctstate INVALID -j RETURN",
            # A service without endpoints is refused by kube-proxy's own rules, which come after ours.
            f"-A {FORWARD_CHAIN} -d {service_cidr} -j RETURN",
            f"-A {FORWARD_CHAIN} -s {pod_cidr} -j ACCEPT",
            f"-A {FORWARD_CHAIN} -d {pod_cidr} -j ACCEPT",
        ],
    }


def restore_input(table: str, chain: str, rules: list[str]) -> str:
    """Input of `iptables-restore --noflush`, which replaces one chain of ours in one step and no other."""
    return f"*{table}\n:{chain} - [0:0]\n" + "".join(f"{rule}\n" for rule in rules) + "COMMIT\n"


def entries(pod_cidr: str) -> dict[str, tuple[str, str, str, list[str]]]:
    """How each of our chains is entered: table, -A or -I, from which chain, by which rule."""
    return {
        NAT_CHAIN: ("nat", "-A", "POSTROUTING", ["-s", pod_cidr, "-j", NAT_CHAIN]),
        FORWARD_CHAIN: ("filter", "-I", "FORWARD", ["-j", FORWARD_CHAIN]),
    }


def kubeconfig_values(text: str) -> dict[str, str]:
    """The scalars we need of a kubeconfig with one cluster and one user, as kubeadm writes it for kubelet."""
    keys = (
        "server|certificate-authority-data|certificate-authority|client-certificate-data|client-certificate|"
        "client-key-data|client-key"
    )
    found = re.findall(rf"^\s*(?:- )?({keys}):\s*[\"']?([^\s\"']+)", text, re.MULTILINE)
    return dict(reversed(found))


# --- the API ----------------------------------------------------------------------------------------------------------


class Api:
    """Nodes as the API server tells them, with kubelet's own certificate."""

    def __init__(self, kubeconfig: str) -> None:
        self.kubeconfig = Path(kubeconfig)

    def connect(self) -> HTTPSConnection:
        values = kubeconfig_values(self.kubeconfig.read_text(encoding="utf-8"))
        if "certificate-authority-data" in values:
            data = base64.b64decode(values["certificate-authority-data"]).decode()
            context = ssl.create_default_context(cadata=data)
        else:
            context = ssl.create_default_context(cafile=values["certificate-authority"])
        with contextlib.ExitStack() as stack:
            certificate = values.get("client-certificate") or stack.enter_context(
                memory_file(values["client-certificate-data"])
            )
            key = values.get("client-key") or stack.enter_context(memory_file(values["client-key-data"]))
            context.load_cert_chain(certificate, key)
        server = urllib.parse.urlsplit(values["server"])
        connection = HTTPSConnection(str(server.hostname), server.port or 443, timeout=10, context=context)
        connection.connect()
        assert connection.sock is not None  # noqa: S101  connect() has just made it
        for option, value in (
            (socket.TCP_KEEPIDLE, 10),
            (socket.TCP_KEEPINTVL, 5),
            (socket.TCP_KEEPCNT, 3),
        ):
            connection.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def node_lists(self) -> Iterator[dict[str, Node]]:
        """All nodes, once now and again after each change, until the API server ends the watch."""
        connection = self.connect()
        try:
            listing = json.load(request(connection, "/api/v1/nodes"))
            nodes = {item["metadata"]["name"]: node_of(item) for item in listing.get("items") or ()}
            version = listing["metadata"]["resourceVersion"]
            yield dict(nodes)
            assert connection.sock is not None  # noqa: S101  the listing came through it
            connection.sock.settimeout(WATCH_SECONDS + 30)
            query = f"watch=true&resourceVersion={version}&timeoutSeconds={WATCH_SECONDS}"
            for line in request(connection, f"/api/v1/nodes?{query}"):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                node = node_of(event["object"])
                before = nodes.get(node.name)
                if event["type"] == "DELETED":
                    nodes.pop(node.name, None)
                else:
                    nodes[node.name] = node
                if nodes.get(node.name) != before:
                    yield dict(nodes)
        finally:
            connection.close()


@contextlib.contextmanager
def memory_file(data: str) -> Iterator[str]:
    """A path that holds decoded data without its ever being on a disk."""
    handle = os.memfd_create("kubeconfig")
    try:
        os.write(handle, base64.b64decode(data))
        yield f"/proc/self/fd/{handle}"
    finally:
        os.close(handle)


def request(connection: HTTPSConnection, path: str) -> Any:
    connection.request("GET", path, headers={"Accept": "application/json", "User-Agent": "multinic-pod-routes"})
    response = connection.getresponse()
    if response.status != 200:
        raise OSError(f"the API server answers {response.status} to GET {path}: {response.read(300)!r}")
    return response


# --- the host ---------------------------------------------------------------------------------------------------------


class Log:
    """Prints a message when it is new for its subject, not each time round."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}

    def say(self, subject: str, message: str) -> None:
        if message and self.last.get(subject) != message:
            print(message, flush=True)  # noqa: T201  the journal reads it
        self.last[subject] = message


def run(*command: str, stdin: str = "") -> tuple[int, str]:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout if done.returncode == 0 else done.stderr.strip()


def write(path: Path, text: str) -> bool:
    """Whether the file had to be written. It is renamed into place, so that nobody reads half of it."""
    with contextlib.suppress(OSError):
        if path.read_text(encoding="utf-8") == text:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
    return True


class PodNetwork:
    """The host's part of the pod network, brought into the wanted state as often as it takes."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.log = Log()
        self.state = Path(config["state_path"])
        self.nodes: dict[str, Node] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            nodes = [remembered(entry) for entry in json.loads(self.state.read_text(encoding="utf-8"))]
            self.nodes = {node.name: node for node in nodes}

    def learn(self, nodes: dict[str, Node]) -> None:
        self.nodes = nodes
        write(self.state, json.dumps(sorted(nodes.values()), indent=1) + "\n")

    def reconcile(self, rules: bool) -> None:
        if not self.nodes:
            return
        for family in self.config["families"]:
            self.keep_routes(str(family["address"]))
        self.keep_conflist()
        for family in self.config["families"] if rules else ():
            self.keep_rules(family)

    def keep_routes(self, source: str) -> None:
        """The routes of the family that the host's address has."""
        me, device, flag = str(self.config["node_name"]), str(self.config["interface"]), "-6" if ":" in source else "-4"
        status, listing = run("ip", "-j", flag, "route", "show", "proto", PROTOCOL)
        if status != 0:
            self.log.say(f"routes {flag}", f"cannot read the routes: {listing}")
            return
        wanted = wanted_routes(self.nodes.values(), me, device, source)
        for command in route_commands(wanted, found_routes(json.loads(listing or "[]"))):
            status, message = run("ip", flag, *command)
            told = " ".join([flag, *command])
            self.log.say(command[2], f"ip {told}" if status == 0 else f"ip {told}: {message}; waiting for the network")
            if status == 0:
                self.log.last.pop(command[2], None)

    def keep_conflist(self) -> None:
        mine = self.nodes.get(str(self.config["node_name"]))
        held = mine.pod_cidrs if mine else ()
        cidrs = [of_family(held, str(family["pod_cidr"])) for family in self.config["families"]]
        if not all(cidrs):
            self.log.say("conflist", f"node {self.config['node_name']} has no pod CIDR of each family yet")
            return
        path = Path(self.config["conflist_path"])
        if write(path, conflist(cidrs, int(self.config["mtu"]), str(self.config["bridge"]))):
            self.log.say("conflist", f"{path}: pods of this node are in {', '.join(cidrs)}")

    def keep_rules(self, family: Mapping[str, Any]) -> None:
        pod_cidr = str(family["pod_cidr"])
        iptables = "ip6tables" if ":" in pod_cidr else "iptables"
        addresses = [address for node in self.nodes.values() if (address := of_family(node.addresses, pod_cidr))]
        rules = chain_rules(pod_cidr, str(family["service_cidr"]), addresses)
        for chain, (table, how, start, rule) in entries(pod_cidr).items():
            about = f"{iptables} {chain}"
            found = run(iptables, "-w", "-t", table, "-S", chain)[1].splitlines()
            if [line for line in found if line.startswith("-A")] != rules[chain]:
                text = restore_input(table, chain, rules[chain])
                status, message = run(f"{iptables}-restore", "-w", "--noflush", stdin=text)
                if status != 0:
                    self.log.say(about, f"{iptables}: cannot set {chain} in table {table}: {first_line(message)}")
                    continue
                self.log.say(about, f"{iptables}: {chain} is set in table {table}: {len(rules[chain])} rules")
                self.log.last.pop(about, None)
            if run(iptables, "-w", "-t", table, "-C", start, *rule)[0] != 0:
                status, message = run(iptables, "-w", "-t", table, how, start, *rule)
                told = (
                    f"cannot enter {chain} from {start}: {first_line(message)}" if status else f"{start} enters {chain}"
                )
                self.log.say(f"{iptables} {start}", f"{iptables}: {told}")
                if status == 0:
                    self.log.last.pop(f"{iptables} {start}", None)


def first_line(text: str) -> str:
    return text.splitlines()[0] if text else "no reason given"


def follow_nodes(api: Api, inbox: list[dict[str, Node]], wake: int, log: Log) -> None:
    """Put each new list of nodes into the inbox and wake the main loop. Never ends."""
    pause = 1.0
    while True:
        try:
            for nodes in api.node_lists():
                inbox.append(nodes)
                os.write(wake, b".")
                pause = 1.0
        except FileNotFoundError as exc:
            # The host is no member yet, and asking a file again costs nothing.
            log.say("api", f"no certificate of kubelet yet ({exc}); looking again")
            time.sleep(1.0)
        except (OSError, HTTPException, ValueError, KeyError) as exc:
            log.say("api", f"no list of nodes yet ({exc}); asking again")
            time.sleep(pause)
            pause = min(pause * 1.5, 10.0)


def main(path: str) -> None:
    config = json.loads(Path(path).read_text(encoding="utf-8"))
    network = PodNetwork(config)
    kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    kernel.bind((0, RTM_GROUPS))
    kernel.setblocking(False)
    woken, wake = os.pipe()
    inbox: list[dict[str, Node]] = []
    threading.Thread(target=follow_nodes, args=(Api(config["kubeconfig"]), inbox, wake, Log()), daemon=True).start()
    reviewed: float | None = None
    while True:
        news = [inbox.pop(0) for _turn in range(len(inbox))]
        if news:
            network.learn(news[-1])
        due = bool(news) or reviewed is None or time.monotonic() - reviewed >= REVIEW_SECONDS
        network.reconcile(rules=due)
        if due:
            reviewed = time.monotonic()
        ready = select.select([kernel.fileno(), woken], [], [], REVIEW_SECONDS)[0]
        time.sleep(SETTLE_SECONDS)
        if kernel.fileno() in ready:
            drain(kernel)
        if woken in ready:
            os.read(woken, 4096)


def drain(kernel: socket.socket) -> None:
    """Forget queued messages: that something changed is all we need to know. An overrun means the same."""
    while True:
        try:
            kernel.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            continue


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    main(sys.argv[1])
