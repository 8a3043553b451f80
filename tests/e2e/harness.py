# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs playbooks and commands against one lab of real hosts, the way a person would.

Nothing here knows how a lab or a cluster is made: it calls ``ansible-playbook`` and ``ssh`` from outside.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("MULTINIC_CACHE") or "/var/cache/multinic-kubernetes")
LOGS = CACHE / "logs" / "e2e"

RECAP = re.compile(
    r"^(?P<host>\S+)\s+: ok=(?P<ok>\d+)\s+changed=(?P<changed>\d+)\s+unreachable=(?P<unreachable>\d+)\s+failed=(?P<failed>\d+)",
    re.MULTILINE,
)


@dataclass
class Run:
    """What one ``ansible-playbook`` run gave: exit status, output, seconds, and the recap of each host."""

    arguments: list[str]
    returncode: int
    output: str
    seconds: float
    recap: dict[str, dict[str, int]] = field(default_factory=dict)

    def changed(self) -> dict[str, int]:
        """Hosts that reported changes, and how many."""
        return {host: counts["changed"] for host, counts in self.recap.items() if counts["changed"]}

    def tail(self, lines: int = 60) -> str:
        return "\n".join(self.output.splitlines()[-lines:])


@dataclass
class Result:
    """What one command on a host gave."""

    returncode: int
    stdout: str
    stderr: str


class Lab:
    """One lab: an inventory and the name under which its hosts run."""

    def __init__(self, inventory: str, name: str) -> None:
        self.inventory = REPOSITORY / "inventories" / inventory
        self.name = name
        self.runs = 0
        self._hosts: dict[str, dict[str, str]] = {}

    # --- playbooks -----------------------------------------------------------------------------------------------

    def arguments(self, playbook: str, *arguments: str) -> list[str]:
        return [
            "ansible-playbook",
            str(REPOSITORY / "playbooks" / f"{playbook}.yml"),
            "-i",
            str(self.inventory),
            "-e",
            f"lab_name={self.name}",
            *arguments,
        ]

    def play(
        self,
        playbook: str,
        *arguments: str,
        expect: int | None = 0,
        kill_at: str | None = None,
        kill_after: float = 0.0,
    ) -> Run:
        """Run a playbook. With ``kill_at``, SIGKILL the whole run ``kill_after`` seconds after a line that holds it."""
        command = self.arguments(playbook, *arguments)
        self.runs += 1
        LOGS.mkdir(parents=True, exist_ok=True)
        log = LOGS / f"{self.name}-{self.runs:02d}-{playbook}.log"
        started = time.monotonic()
        output: list[str] = []
        with log.open("w", encoding="utf-8") as copy:
            copy.write(shlex.join(command) + "\n")
            process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            assert process.stdout is not None
            killed = False
            for line in process.stdout:
                copy.write(line)
                copy.flush()
                output.append(line)
                if kill_at and not killed and kill_at in line:
                    time.sleep(kill_after)
                    os.killpg(process.pid, signal.SIGKILL)
                    killed = True
            process.wait()
        run = Run(command, process.returncode, "".join(output), time.monotonic() - started)
        run.recap = {
            match["host"]: {key: int(match[key]) for key in ("ok", "changed", "unreachable", "failed")}
            for match in RECAP.finditer(run.output)
        }
        if kill_at:
            assert killed, f"the run ended before a line with {kill_at!r}:\n{run.tail()}"
        elif expect is not None:
            assert run.returncode == expect, f"{shlex.join(command)} ended with {run.returncode}:\n{run.tail(120)}"
        return run

    def fresh(self) -> None:
        """New hosts: disks as on the first day, all up and answering ssh."""
        self.play("lab", "-e", "lab_state=fresh")

    def remove(self) -> None:
        self.play("lab", "-e", "lab_state=absent")

    def guest(self, guests: list[str], state: str) -> None:
        """Do to guests what a power switch or their hypervisor would: ``guest(["master3"], "frozen")``."""
        self.module("lab_guest", {"lab": self.name, "cache": str(CACHE), "guests": guests, "state": state})

    def module(self, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """One module of the collection on the controller."""
        command = [
            "ansible",
            "localhost",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            "ansible_python_interpreter={{ ansible_playbook_python }}",
            "-m",
            f"multinic.kubernetes.{name}",
            "-a",
            json.dumps(parameters),
        ]
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return {"output": done.stdout}

    def ping(self) -> float:
        """Seconds of ``ansible all -m ping``: the least that anything Ansible does with these hosts takes."""
        command = [
            "ansible",
            "all",
            "-i",
            str(self.inventory),
            "-e",
            f"lab_name={self.name}",
            "-m",
            "ansible.builtin.ping",
        ]
        started = time.monotonic()
        done = subprocess.run(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return time.monotonic() - started

    # --- hosts ---------------------------------------------------------------------------------------------------

    @property
    def hosts(self) -> dict[str, dict[str, str]]:
        """Inventory name to how Ansible reaches the host: address, user, password, become_password, key, arguments."""
        if not self._hosts:
            wanted = (
                "{'address': ansible_host, 'user': ansible_user, 'password': ansible_password | default(''),"
                " 'become_password': ansible_become_password | default(''),"
                " 'key': ansible_ssh_private_key_file | default(''),"
                " 'arguments': ansible_ssh_common_args | default('')}"
            )
            done = subprocess.run(
                ["ansible", "kube_control_plane:kube_node", "-i", str(self.inventory), "-e", f"lab_name={self.name}"]
                + ["-m", "ansible.builtin.debug", "-a", "msg={{ " + wanted + " }}"],
                check=False,
                cwd=REPOSITORY,
                env={**os.environ, "ANSIBLE_CALLBACK_RESULT_FORMAT": "json"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout + done.stderr
            for match in re.finditer(r"^(\S+) \| SUCCESS => (\{.*?^\})", done.stdout, re.MULTILINE | re.DOTALL):
                self._hosts[match[1]] = json.loads(match[2])["msg"]
        return self._hosts

    def ssh(self, host: str, command: str, timeout: float = 60) -> Result:
        """Run a shell command on a host as root: over ssh as the inventory says, then sudo."""
        access = self.hosts[host]
        arguments = ["ssh", "-o", "ConnectTimeout=5", "-o", "LogLevel=ERROR", "-o", "ControlPath=none"]
        arguments += shlex.split(access["arguments"])
        if access["key"]:
            arguments += ["-i", access["key"]]
        environment = dict(os.environ)
        if access["password"]:
            environment["SSHPASS"] = access["password"]
            arguments = ["sshpass", "-e", *arguments, "-o", "PubkeyAuthentication=no"]
        else:
            arguments += ["-o", "BatchMode=yes"]
        arguments += [f"{access['user']}@{access['address']}", f"sudo -S -p '' -- sh -c {shlex.quote(command)}"]
        try:
            done = subprocess.run(
                arguments,
                check=False,
                input=access["become_password"] + "\n",
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired:
            return Result(124, "", f"no answer within {timeout} s")
        return Result(done.returncode, done.stdout, done.stderr)

    def run(self, host: str, command: str, timeout: float = 60) -> str:
        """Like :meth:`ssh`, but the command must succeed; returns its standard output."""
        result = self.ssh(host, command, timeout)
        assert result.returncode == 0, f"{host}: {command}\n{result.stdout}{result.stderr}"
        return result.stdout

    def everywhere(self, function: Callable[[str], Any], hosts: Iterable[str] | None = None) -> dict[str, Any]:
        """Call ``function(host)`` for all hosts at once."""
        names = list(hosts if hosts is not None else self.hosts)
        with ThreadPoolExecutor(len(names)) as pool:
            return dict(zip(names, pool.map(function, names), strict=True))

    def kubectl(self, arguments: str, host: str = "master1", timeout: float = 60) -> str:
        return self.run(host, f"kubectl --kubeconfig /etc/kubernetes/admin.conf {arguments}", timeout)

    def api_through_vip(self, host: str, timeout: float = 3) -> bool:
        """Does a host get an answer from the apiserver through the VIP, certificate checked?"""
        script = (
            "import ssl, urllib.request;"
            "context = ssl.create_default_context(cafile='/etc/kubernetes/pki/ca.crt');"
            f"print(urllib.request.urlopen('https://10.103.97.2:6443/readyz', context=context, timeout={timeout}).status)"
        )
        result = self.ssh(host, f"python3 -c {shlex.quote(script)}", timeout + 10)
        return result.returncode == 0 and result.stdout.strip() == "200"

    # --- snapshots -----------------------------------------------------------------------------------------------

    SNAPSHOT = r"""
set -e
# Files: name, type, mode, owner, size, change of content or links. What the running system itself writes is left out.
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /tmp -o -path /var/tmp -o -path /var/log \
  -o -path /var/lib/systemd -o -path /root/.ansible -o -path /home/lab/.ansible -o -path /var/lib/sudo \
  -o -path /var/cache/ldconfig \) -prune -o \( -type f -o -type l -o -type d \) ! -path / -printf '%p %y %m %u:%g %l ' \
  \( -type f -printf '%s %T@\n' -o -printf '\n' \) | sort
for directory in /run/systemd/system /run/multinic*; do [ ! -e "$directory" ] || find "$directory" | sort; done
ip -o link; ip -o addr; ip route show table all; ip -6 route show table main; ip rule
sysctl -a 2>/dev/null | grep -E '^(net\.ipv4|net\.ipv6|net\.bridge|net\.netfilter|vm|fs\.inotify|kernel\.(panic|pid_max))' \
  | grep -vE 'neigh|route.flush|tcp_fastopen_key|nf_conntrack_count|dirty|random|mtu_expires|stable_secret'
cut -d' ' -f1 /proc/modules | sort
swapon --show
systemctl list-units --all --plain --no-legend --type=service,timer,socket |
  awk '$1 !~ /^(session|user|systemd-|run-|apt-daily|e2scrub|fstrim|dpkg-db|modprobe@|ssh@)/ {print $1, $3}' | sort
dpkg-query -W -f '${Package} ${Version} ${Status}\n'
cat /proc/sys/kernel/hostname
"""

    def snapshot(self) -> dict[str, str]:
        """All that a playbook could have changed on the hosts, as text."""
        return self.everywhere(lambda host: re.sub(r"(valid_lft|preferred_lft) \S+", "", self.run(host, self.SNAPSHOT)))


def difference(before: dict[str, str], after: dict[str, str]) -> dict[str, list[str]]:
    """Lines that only one of two snapshots has, by host."""
    changes: dict[str, list[str]] = {}
    for host in before:
        old, new = set(before[host].splitlines()), set(after[host].splitlines())
        lines = [f"- {line}" for line in sorted(old - new)] + [f"+ {line}" for line in sorted(new - old)]
        if lines:
            changes[host] = lines
    return changes


def wait_until(condition: Callable[[], bool], seconds: float, what: str, every: float = 0.5) -> float:
    """Wait for a condition; returns how long it took, fails after ``seconds``."""
    started = time.monotonic()
    while not condition():
        waited = time.monotonic() - started
        assert waited < seconds, f"not within {seconds} s: {what}"
        time.sleep(every)
    return time.monotonic() - started
