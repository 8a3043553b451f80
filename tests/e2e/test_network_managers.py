# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way to the API under each of the five ways in which a host's network is run.

One cluster of two hosts is handed from one network manager to the next. Under each of them both hosts are rebooted, their
links flap, the manager is started anew, and a DHCP server renews their addresses: with the same one, and with another one.
A program on each host asks the API through the VIP all the while, ten times a second.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import managers
import pytest
from harness import CACHE, REPOSITORY, Lab, wait_until
from managers import WAYS, Network, Way
from outage import Request, copied, outage, parsed

pytestmark = pytest.mark.slow

MASTER, WORKER = HOSTS = ("master1", "node01")
VIP = "10.103.97.2"
NETWORKS = {
    MASTER: Network("eno1", "192.168.160.243/23", "192.168.160.1", "eno2", "192.168.253.129/24"),
    WORKER: Network("enp3s0", "192.168.160.246/23", "192.168.160.1", "enp5s0f1", "192.168.253.131/24"),
}
PLANNED = {host: network.inner_address.partition("/")[0] for host, network in NETWORKS.items()}
OTHERS = {MASTER: "192.168.253.209", WORKER: "192.168.253.211"}
MOST_SECONDS = 3.0
LINK_DOWN = 8  # seconds: NetworkManager gives a card without a link up after six
MEMORY = """lab_memory={{ '2G' if inventory_hostname in groups['kube_control_plane'] else '1G' }}"""
GUARD = "multinic-apiserver-guard"
FOLDER = "/var/lib/network-watch"  # what the watching program writes; lost with each boot's beginning
PROGRAMS = "/usr/local/lib/network-watch"
UNIT = "network-watch.service"


def unit(host: str) -> str:
    """The program runs from before the network on."""
    targets = f"vip={VIP} direct={PLANNED[MASTER]}"
    return f"""\
[Unit]
DefaultDependencies=no
After=local-fs.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
ExecStart=/usr/bin/python3 {PROGRAMS}/network_watch.py {NETWORKS[host].inner} {FOLDER} {targets}
TimeoutStopSec=3

[Install]
WantedBy=sysinit.target
"""


# --- a DHCP server on the internal network ------------------------------------------------------------------------


class Dhcp:
    """dnsmasq on the internal network's bridge. Clients are told to renew after 5 s, so each does on its own.

    A client whose server refuses asks for another address, but systemd-networkd not before it may ask any server: after 8 s.
    """

    def __init__(self, lab: Lab, folder: Path, macs: dict[str, str]) -> None:
        self.macs, self.hosts, self.log = macs, folder / "hosts", folder / "dnsmasq.log"
        self.give(PLANNED, tell=False)
        namespace = f"multinic-{lab.name}"
        told = subprocess.run(
            ["ip", "-n", namespace, "-j", "address", "show", "to", "192.168.253.0/24"],
            check=True,
            capture_output=True,
            text=True,
        )
        bridge = next(link["ifname"] for link in json.loads(told.stdout) if link)
        command = ["ip", "netns", "exec", namespace, "dnsmasq", "--keep-in-foreground", "--log-facility=-"]
        command += ["--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file=", f"--interface={bridge}"]
        command += ["--bind-interfaces", "--dhcp-authoritative", f"--dhcp-leasefile={folder / 'leases'}"]
        command += ["--dhcp-range=192.168.253.0,static,255.255.255.0,2m", f"--dhcp-hostsfile={self.hosts}"]
        # No router and no name server: the default route is the other card's.
        command += ["--dhcp-option=3", "--dhcp-option=6", "--dhcp-option=option:T1,5", "--dhcp-option=option:T2,8"]
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def give(self, addresses: dict[str, str], tell: bool = True) -> None:
        """From its next renewal on, each host gets this address."""
        self.hosts.write_text(
            "".join(f"{mac},{addresses[host]}\n" for host, mac in self.macs.items()), encoding="utf-8"
        )
        if tell:
            self.process.send_signal(signal.SIGHUP)

    def acknowledged(self, host: str) -> int:
        """How often the host has got its address until now."""
        lines = self.log.read_text(encoding="utf-8").splitlines()
        return sum("DHCPACK" in line and self.macs[host] in line for line in lines)

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)


# --- the cluster --------------------------------------------------------------------------------------------------


def packages(status: str, folder: Path) -> list[Path]:
    """The managers' packages, and what of their dependencies a host with this dpkg status lacks, from Debian's archive."""
    (folder / "status").write_text(status, encoding="utf-8")
    archives = CACHE / "downloads" / "network-managers"
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    apt = ["apt-get", "-q", "-y", "--no-install-recommends", "-o", f"Dir::State::status={folder / 'status'}"]
    apt += ["-o", f"Dir::Cache::archives={archives}", "-o", f"Dir::Cache::pkgcache={folder / 'pkgcache'}"]
    apt += ["-o", f"Dir::Cache::srcpkgcache={folder / 'srcpkgcache'}", "-o", "APT::Sandbox::User=root"]
    subprocess.run(
        [*apt, "--download-only", "install", *managers.PACKAGES], check=True, stdout=subprocess.PIPE, text=True
    )
    printed = subprocess.run(
        [*apt, "-o", "Dir::Cache::archives=/nonexistent", "--print-uris", "install", *managers.PACKAGES],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    names = [line.split()[1] for line in printed.stdout.splitlines() if line.startswith("'")]
    return [archives / name for name in names]


def send(lab: Lab, host: str, files: list[Path]) -> None:
    """A folder of files onto a host, where dpkg finds it."""
    access = lab.hosts[host]
    command = ["ssh", "-o", "BatchMode=yes", *shlex.split(access["arguments"]), "-i", access["key"]]
    command += [f"{access['user']}@{access['address']}", "mkdir -p /tmp/packages && tar -x -C /tmp/packages"]
    names = [path.name for path in files]
    with subprocess.Popen(["tar", "-c", "-C", str(files[0].parent), *names], stdout=subprocess.PIPE) as archive:
        subprocess.run(command, check=True, stdin=archive.stdout)
    assert archive.returncode == 0


def prepare(lab: Lab, host: str, files: list[Path]) -> str:
    """All managers on a host, none of them running but the one that did; and the watching program. Returns its MAC."""
    send(lab, host, files)
    lab.run(host, f"systemctl mask -q {' '.join(managers.UNITS[2:])}")
    lab.run(host, "DEBIAN_FRONTEND=noninteractive dpkg -i /tmp/packages/*.deb && rm -r /tmp/packages", 300)
    lab.run(host, f"systemctl mask -q {' '.join(managers.WAIT_ONLINE)}; mkdir -p {PROGRAMS}")
    for name in ("network_watch.py", "outage_client.py"):
        lab.run(host, f"mv {copied(lab, host, Path(__file__).with_name(name))} {PROGRAMS}")
    lab.run(host, f"cat > /etc/systemd/system/{UNIT} <<'END'\n{unit(host)}END\nsystemctl enable -q {UNIT}")
    return lab.run(host, f"cat /sys/class/net/{NETWORKS[host].inner}/address").strip()


@dataclass(frozen=True)
class Cluster:
    lab: Lab
    macs: dict[str, str]
    folder: Path


ROWS: dict[tuple[str, str], dict[str, float]] = {}  # (way, host) -> event -> seconds


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    lab = Lab(str(REPOSITORY / "tests" / "topologies" / "names-gateway.yml"), "netmgr")
    try:
        lab.play("lab", "-e", "lab_state=fresh", "-e", MEMORY)
        lab.play("cluster", "-e", "verify_pod_network=false")
        folder = tmp_path_factory.mktemp("managers")
        files = packages(lab.run(MASTER, "cat /var/lib/dpkg/status"), folder)
        yield Cluster(lab, lab.everywhere(lambda host: prepare(lab, host, files)), folder)
    finally:
        table()
        if not os.environ.get("MULTINIC_KEEP_LAB"):
            lab.remove()


def table() -> None:
    """What was measured, in seconds."""
    events = list(dict.fromkeys(event for row in ROWS.values() for event in row))
    print("\n| network run by | host | " + " | ".join(events) + " |\n|" + "---|" * (len(events) + 2))
    for (way, host), row in ROWS.items():
        print(f"| {way} | {host} | " + " | ".join(f"{row[e]:.1f}" if e in row else "" for e in events) + " |")


# --- what is seen -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What a host's program wrote since a moment of the host's clock, or since its boot."""

    requests: list[Request]
    direct: list[Request]
    card: list[tuple[float, str, str]]  # when, carrier, address

    def link_returned(self) -> float:
        """When the card's link came last; 0 where it never went."""
        moments = [self.card[n][0] for n in range(len(self.card)) if self.came(n)]
        return moments[-1] if moments else 0.0

    def came(self, number: int) -> bool:
        return self.card[number][1] == "1" and number > 0 and self.card[number - 1][1] != "1"

    def address_came(self, address: str) -> float:
        """When the card got this address last; 0 where it had it all the time."""
        had = [told == address for _when, _carrier, told in self.card]
        return max((self.card[n][0] for n in range(1, len(had)) if had[n] and not had[n - 1]), default=0.0)


class Bench:
    """One way on both hosts, and what came of it."""

    def __init__(self, cluster: Cluster, way: Way, dhcp: Dhcp) -> None:
        self.lab, self.way, self.dhcp = cluster.lab, way, dhcp
        self.wrong: list[str] = []

    def clock(self, host: str) -> float:
        return float(self.lab.run(host, "date +%s.%N"))

    def seen(self, host: str, since: float = 0.0) -> Seen:
        # Of the card's changes also the last one before, to tell what changed.
        text = self.lab.run(
            host, f"cd {FOLDER}; cat card; for f in vip direct; do echo --; awk '$1 >= {since:.3f}' $f; done"
        )
        card, vip, direct = text.split("--\n")
        rows = [(float(words[0]), words[1], words[2]) for words in map(str.split, card.splitlines())]
        earlier = [row for row in rows if row[0] < since]
        return Seen(parsed(vip), parsed(direct), earlier[-1:] + [row for row in rows if row[0] >= since])

    def whole(self, seconds: float = 120) -> None:
        """Both hosts get answers through the VIP, and have for two seconds."""

        def answered(host: str) -> bool:
            text = self.lab.ssh(host, f"tail -n 25 {FOLDER}/vip; date +%s.%N").stdout.splitlines()
            if not text or self.lab.ssh(host, "true").returncode:
                return False
            requests, now = parsed("\n".join(text[:-1])), float(text[-1])
            return len(requests) > 15 and now - requests[-1].began < 3 and not any(r.trouble for r in requests)

        wait_until(lambda: all(self.lab.everywhere(answered).values()), seconds, "both hosts get answers by the VIP", 1)

    def note(self, host: str, event: str, seconds: float, limit: float = MOST_SECONDS) -> None:
        ROWS.setdefault((self.way.name, host), {})[event] = round(seconds, 2)
        if seconds > limit:
            self.wrong.append(f"{event}, {host}: {seconds:.2f} s, and {limit:g} s is the most")

    def judge(self, host: str, event: str, seen: Seen, since: float) -> None:
        """How long requests failed since a moment, and that they succeed at the end."""
        found = outage(seen.requests, since)
        if not found["over"]:
            self.wrong.append(f"{event}, {host}: no answers at the end: {found.get('troubles')}")
        self.note(host, event, found["gap_seconds"])

    # --- the events ----------------------------------------------------------------------------------------------

    def reboot(self, hosts: tuple[str, ...]) -> None:
        """Reboot from inside, and wait until both get answers."""
        before = {host: self.lab.run(host, "cat /proc/sys/kernel/random/boot_id") for host in hosts}
        for host in hosts:
            self.lab.ssh(host, "sync; systemctl reboot", 20)

        def again(host: str) -> bool:
            told = self.lab.ssh(host, "cat /proc/sys/kernel/random/boot_id", 15)
            return told.returncode == 0 and told.stdout not in ("", before[host])

        for host in hosts:
            wait_until(lambda host=host: again(host), 90, f"{host} is up again", 1)  # type: ignore[misc]
        self.whole()

    def switched(self) -> None:
        """Both hosts' networks are handed over, and both boot. The master's API server has to start first."""
        for host in HOSTS:
            self.lab.run(host, managers.switch(self.way, NETWORKS[host]))
        self.reboot(HOSTS)
        for host in HOSTS:
            running = self.lab.run(
                host,
                f"systemctl list-units --plain --no-legend --state=active {' '.join(managers.UNITS)} | cut -d' ' -f1",
            ).split()
            assert sorted(running) == sorted(set(self.way.units) & set(managers.UNITS)), (host, running)
        self.booted(MASTER, "reboot of both")

    def booted(self, host: str, event: str) -> None:
        """Counted from when the link is there and the API server answers the host at its own address."""
        seen = self.seen(host)
        direct = next(request for request in seen.direct if not request.trouble)
        since = direct.began + direct.took
        self.judge(host, event, seen, since)
        answered = next(r.began + r.took for r in seen.requests if not r.trouble)
        print(
            f"{self.way.name}: {host} booted: link {seen.link_returned() or seen.card[0][0]:.2f}, direct {since:.2f}, "
            f"VIP {answered:.2f}"
        )

    def flapped(self, host: str) -> None:
        self.whole()
        card, begin = NETWORKS[host].inner, {name: self.clock(name) for name in HOSTS}
        flap = f"ip link set {card} down; sleep {LINK_DOWN}; ip link set {card} up"
        self.lab.run(host, f"systemd-run -q --collect sh -c '{flap}'")
        time.sleep(LINK_DOWN + 7)
        seen = {name: self.seen(name, begin[name]) for name in HOSTS}
        returned = seen[host].link_returned()
        assert returned, f"the link of {host} never went: {seen[host].card}"
        for name in HOSTS:
            event = f"link flap of {'its own' if name == host else 'the other'}"
            self.judge(name, event, seen[name], returned)

    def restarted(self, host: str) -> None:
        self.whole()
        begin = self.clock(host)
        self.lab.run(host, f"systemd-run -q --collect --unit=anew sh -c {shlex.quote(self.way.restart)}")
        time.sleep(10)
        assert self.lab.ssh(host, "systemctl is-active anew").stdout.strip() == "inactive"
        seen = self.seen(host, begin)
        self.judge(host, "manager restart", seen, seen.link_returned())

    def renewed(self) -> None:
        """By DHCP: at least two renewals each. By hand: the same address once more."""
        self.whole()
        begin = {host: self.clock(host) for host in HOSTS}
        if self.way.dhcp:
            before = {host: self.dhcp.acknowledged(host) for host in HOSTS}
            wait_until(
                lambda: all(self.dhcp.acknowledged(host) >= before[host] + 2 for host in HOSTS),
                60,
                f"two renewals of each host:\n{self.dhcp.log.read_text(encoding='utf-8')[-3000:]}",
                1,
            )
        else:
            self.give(PLANNED, PLANNED)
        time.sleep(4)
        for host in HOSTS:
            self.judge(host, "renewal, same address", self.seen(host, begin[host]), 0.0)

    def give(self, old: dict[str, str], new: dict[str, str]) -> None:
        """Other addresses for both hosts: by DHCP, or by hand."""
        if self.way.dhcp:
            self.dhcp.give(new)
            return
        for host in HOSTS:
            card = NETWORKS[host].inner
            self.lab.run(host, f"ip address del {old[host]}/24 dev {card}; ip address add {new[host]}/24 dev {card}")

    def have(self, addresses: dict[str, str]) -> None:
        def has(host: str) -> bool:
            last = self.lab.run(host, f"tail -n 1 {FOLDER}/card").split()
            return last[2] == addresses[host]

        wait_until(lambda: all(map(has, HOSTS)), 60, f"the addresses {addresses}", 0.5)

    def told(self, host: str, begin: float) -> list[str]:
        """What the guard says since a moment, without what it repairs."""
        return self.lab.run(host, f"journalctl -o cat -u {GUARD} --since @{begin:.0f}").splitlines()

    def moved(self, doctor: Path) -> None:
        """Another address is noticed and said; with the planned one back, all is as before."""
        self.whole()
        begin = {host: self.clock(host) for host in HOSTS}
        self.give(PLANNED, OTHERS)
        self.have(OTHERS)
        gone = "the cluster address {} is on no card of this host any more; {} has {}"
        for host in HOSTS:
            says = gone.format(PLANNED[host], NETWORKS[host].inner, OTHERS[host])
            wait_until(
                lambda host=host, says=says: any(says in line for line in self.told(host, begin[host])),  # type: ignore[misc]
                10,
                f"{host}'s journal says: {says}",
                1,
            )
            status = json.loads(self.lab.run(host, f"cat /run/{GUARD}/{VIP}.json"))
            assert any(says in line for line in status["open"]), status
        if self.way is WAYS[0]:  # it asks the guard, which tells the same whoever took the address away
            self.doctor_tells(doctor, gone)
        back = {host: self.clock(host) for host in HOSTS}
        self.give(OTHERS, PLANNED)
        self.have(PLANNED)
        self.whole()
        # The master's API server is the one that both ask, so both have to have their addresses.
        seen = {host: self.seen(host, back[host]) for host in HOSTS}
        since = max(seen[host].address_came(PLANNED[host]) for host in HOSTS)
        for host in HOSTS:
            self.judge(host, "planned address back", seen[host], since)
            assert f"the cluster address {PLANNED[host]} is back" in self.told(host, begin[host])

    def doctor_tells(self, path: Path, gone: str) -> None:
        run = self.lab.play("doctor", "-e", f"doctor_report_path={path}", expect=2)
        report = json.loads(path.read_text(encoding="utf-8"))
        for host in HOSTS:
            found = [finding["found"] for finding in report["findings"] if finding["host"] == host]
            says = gone.format(PLANNED[host], NETWORKS[host].inner, OTHERS[host])
            assert any(says in told for told in found), run.tail(120)


@pytest.mark.parametrize("way", WAYS, ids=[way.name for way in WAYS])
def test_the_api_answers_within_three_seconds(cluster: Cluster, way: Way, tmp_path: Path) -> None:
    dhcp = Dhcp(cluster.lab, tmp_path, cluster.macs)
    try:
        bench = Bench(cluster, way, dhcp)
        bench.switched()
        bench.reboot((WORKER,))
        bench.booted(WORKER, "reboot")
        for host in HOSTS:
            bench.flapped(host)
        for host in HOSTS:
            bench.restarted(host)
        bench.renewed()
        bench.moved(tmp_path / "doctor.json")
    finally:
        dhcp.end()
    assert bench.wrong == []
