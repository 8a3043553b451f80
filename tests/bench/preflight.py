# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long facts, plan and proof of a hundred hosts take: ``make bench-preflight``.

Each host is a network, host name and mount namespace of this machine with an sshd of its own and two cards, the
external one with the default route, the internal one the cluster's. The controller is a namespace on the external
network. All of it, processes and networks, is gone when the run ends, also after a failure: the first process of a
PID namespace takes the others with it. What is timed is one ``playbooks/preflight.yml`` with an inventory of those hosts.
The last line printed is JSON: hosts, seconds, ssh_operations_per_host (sessions that the hosts' sshd counted), and the
ratio to ``ansible all -m ping`` of the same hosts, which connects and runs one module.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from namespaces import unshared

ROOT = Path(__file__).resolve().parents[2]
INSIDE = "MULTINIC_BENCH_INSIDE"
INTERNAL, EXTERNAL = IPv4Address("10.20.0.10"), IPv4Address("10.21.0.10")
MACVLAN = ("type", "macvlan", "mode", "bridge")
CONTROLLER, GATEWAY = "10.21.255.1", "10.21.255.254"

SSHD = """Port 22
ListenAddress {address}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
MaxStartups 100
ForceCommand printf x >> {folder}/{name}.sessions; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
"""

# In its own namespaces: its name and ids, its own view of /sys, then its cards, which the controller has moved here.
HOST = """set -eu
hostname {name}
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo {machine_id} > {folder}/{name}.machine-id
mount --bind {folder}/{name}.machine-id /etc/machine-id
if [ -e /sys/class/dmi/id/product_uuid ]; then
  echo {uuid} > {folder}/{name}.uuid
  mount --bind {folder}/{name}.uuid "$(readlink -f /sys/class/dmi/id/product_uuid)"
fi
printf '127.0.0.1 localhost\\n' > {folder}/{name}.hosts
mount --bind {folder}/{name}.hosts /etc/hosts
while ! ip link show ens33 > /dev/null 2>&1 || ! ip link show ens32 > /dev/null 2>&1; do sleep 0.1; done
ip -batch - <<'END'
link set lo up
link set ens32 up
link set ens33 up
address add {internal}/16 dev ens32
address add {external}/16 dev ens33
route add default via {gateway}
END
exec env LD_LIBRARY_PATH={folder}/lib {sshd} -D -f {folder}/{name}.conf
"""


@contextmanager
def room_for_neighbours(hosts: int) -> Iterator[None]:
    """Namespaces share one kernel, and with it one neighbour table: it must hold all pairs, as it need not on a real host."""
    limits = {}
    for number in (3, 2, 1):
        path = Path(f"/proc/sys/net/ipv4/neigh/default/gc_thresh{number}")
        if path.exists():
            limits[path] = path.read_text(encoding="ascii")
            path.write_text(f"{max(int(limits[path]), 4 * hosts * hosts)}\n", encoding="ascii")
    try:
        yield
    finally:
        for path, before in reversed(limits.items()):
            path.write_text(before, encoding="ascii")


def run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def sshd(folder: Path) -> Path:
    """This machine's sshd; where it has none, the distribution's, unpacked here, for installing it would start it."""
    installed = Path("/usr/sbin/sshd")
    if not installed.exists():
        packages = folder / "packages"
        packages.mkdir()
        done = subprocess.run(
            ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", "openssh-server", "libwrap0"],
            cwd=packages,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            sys.exit(f"This machine has no sshd, and its package cannot be had:\n{done.stderr}")
        for package in packages.glob("*.deb"):
            run("dpkg-deb", "--extract", str(package), str(packages))
        (folder / "lib").mkdir()
        for library in packages.glob("**/*.so*"):
            library.rename(folder / "lib" / library.name)
        installed = packages / "usr/sbin/sshd"
    users = Path("/etc/passwd").read_text(encoding="utf-8")
    if "\nsshd:" not in users:
        known = folder / "passwd"
        known.write_text(f"{users}sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n", encoding="utf-8")
        run("mount", "--bind", str(known), "/etc/passwd")
    return installed


def boot(folder: Path, name: str, number: int, server: Path) -> None:
    """One host, and its two cards in the two networks."""
    values = {
        "sshd": server,
        "name": name,
        "folder": folder,
        "machine_id": f"{number:032x}",
        "uuid": f"00000000-0000-4000-8000-{number:012x}",
        "internal": INTERNAL + number,
        "external": EXTERNAL + number,
        "gateway": GATEWAY,
    }
    (folder / f"{name}.conf").write_text(SSHD.format(address=values["external"], **values), encoding="utf-8")
    process = unshared(HOST.format(**values))
    for card, network in (("ens32", "internal"), ("ens33", "external")):
        run("ip", "link", "add", "link", network, "name", card, "netns", str(process.pid), *MACVLAN)


def inventory(folder: Path, names: list[str]) -> Path:
    access = (
        f"ansible_user=root ansible_ssh_private_key_file={folder}/key ansible_python_interpreter=/usr/bin/python3 "
        f"ansible_ssh_common_args='-o UserKnownHostsFile={folder}/known_hosts'"
    )
    lines = [f"{name} ansible_host={EXTERNAL + number}" for number, name in enumerate(names)]
    groups = ["[kube_control_plane]", *lines[:3], "[kube_node]", *lines[3:]]
    variables = ["[all:vars]", access, "cluster_network=10.20.0.0/16", "kubernetes_version=v1.31.0", "cni=none"]
    variables[1:2] = access.replace(" ansible_", "\nansible_").splitlines()
    path = folder / "hosts.ini"
    path.write_text("\n".join([*groups, *variables]) + "\n", encoding="utf-8")
    key = (folder / "host_key.pub").read_text(encoding="utf-8")
    known = [f"{EXTERNAL + number} {' '.join(key.split()[:2])}" for number in range(len(names))]
    (folder / "known_hosts").write_text("\n".join(known) + "\n", encoding="utf-8")
    return path


def ansible(*command: str) -> tuple[float, int, str]:
    environment = {**os.environ, "ANSIBLE_SSH_CONTROL_PATH_DIR": tempfile.mkdtemp(prefix="cp")}
    started = time.monotonic()
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    taken = time.monotonic() - started
    shutil.rmtree(environment["ANSIBLE_SSH_CONTROL_PATH_DIR"], ignore_errors=True)
    return taken, done.returncode, done.stdout + done.stderr


def sessions(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.sessions"))


def measure(hosts: int, folder: Path) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/sshd").mkdir()
    for name in ("key", "host_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name))
    run(
        "ip",
        "-batch",
        "-",
        text="link set lo up\n"
        + "".join(
            f"link add {network} type veth peer name {network}-end\nlink set {network} up\nlink set {network}-end up\n"
            for network in ("internal", "external")
        )
        + f"link add link external name ens33 {' '.join(MACVLAN)}\nlink set ens33 up\n"
        f"address add {CONTROLLER}/16 dev ens33\naddress add {GATEWAY}/16 dev ens33\n",
    )
    names = [f"host{number:03d}" for number in range(hosts)]
    server = sshd(folder)
    for number, name in enumerate(names):
        boot(folder, name, number, server)
    hosts_file = inventory(folder, names)
    print(f"{hosts} hosts run", flush=True)
    ping, code, output = ansible("ansible", "all", "-i", str(hosts_file), "-m", "ansible.builtin.ping")
    assert code == 0 and output.count("pong") == hosts, output[-3000:]
    print(f"ansible all -m ping: {ping:.1f} s", flush=True)
    before = sessions(folder)
    report = folder / "report.json"
    taken, code, output = ansible(
        "ansible-playbook", "playbooks/preflight.yml", "-i", str(hosts_file), "-e", f"preflight_report_path={report}"
    )
    operations = sessions(folder) - before
    print(output[output.find("PHASES") :], flush=True)
    assert code in (0, 2), code
    proved(json.loads(report.read_text(encoding="utf-8")), names)
    print(
        json.dumps(
            {
                "hosts": hosts,
                "seconds": round(taken, 1),
                "ssh_operations_per_host": round(operations / hosts, 2),
                "ping_seconds": round(ping, 1),
                "ratio_to_ping": round(taken / ping, 2),
            }
        )
    )


def proved(report: dict[str, Any], names: list[str]) -> None:
    """The run did its work: all hosts are planned, all paths proved, and nothing is wrong but what this machine lacks.

    The hosts share this machine's kernel and init, which need not be those of a node; both are errors of each host.
    """
    assert sorted(report["plan"]["hosts"]) == names, "not all hosts are planned"
    found = [finding for finding in report["findings"] if finding["severity"] == "error"]
    errors = [finding["found"] for finding in found if finding["variable"] != "bundle"]  # none is given
    unexpected = [found for found in errors if not found.startswith(("the kernel ", "its init is "))]
    assert not unexpected, unexpected[:5]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, default=100)
    hosts = parser.parse_args().hosts
    if not os.environ.get(INSIDE):
        with tempfile.TemporaryDirectory(prefix="multinic-bench-") as folder, room_for_neighbours(hosts):
            command = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
            done = subprocess.run(
                [*command, sys.executable, *sys.argv], env={**os.environ, INSIDE: folder}, check=False
            )
        sys.exit(done.returncode)
    measure(hosts, Path(os.environ[INSIDE]))


if __name__ == "__main__":
    main()
