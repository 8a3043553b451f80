#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_reset
short_description: Makes a host that leaves its cluster what it was before it joined
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - The host's side of removing a node. M(multinic.kubernetes.node_removal) is the cluster's side.
  - Nothing is asked of the cluster, so it also cleans a host whose cluster is gone.
  - What this collection put on the host goes, and what kubeadm, kubelet, kube-proxy and the pod network made. Files that
    this collection replaced come back as they were, and so do the kernel parameters that it set. Packages stay, and so
    do images of a namespace of containerd other than Kubernetes'.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
options:
  operation:
    description:
      - V(stop_apiserver) takes the API server's static pod away and waits until it no longer listens. It ends in order,
        and the cluster's Service V(kubernetes) forgets its address.
      - V(reset) does all the rest.
    type: str
    choices: [stop_apiserver, reset]
    required: true
  node_name:
    description: The node's name in the cluster. A host that was another one is left alone.
    type: str
    required: true
  address:
    description:
      - Address at which the API server listens. The default is the one that it advertises. At a loopback address a proxy may
        answer for the others.
    type: str
    default: ""
  port:
    description: Port at which the API server listens.
    type: int
    default: 6443
  vips:
    description: The API server's virtual addresses, whose virtual servers and routes go.
    type: list
    elements: str
    default: []
  cri_socket:
    description: The container runtime's socket.
    type: str
    default: unix:///run/containerd/containerd.sock
  bin_dir:
    description: Where the programs of Kubernetes are.
    type: path
    default: /usr/local/bin
  timeout:
    description: Seconds that the API server may take to end, and kubeadm to reset.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: The API server has ended in order
  multinic.kubernetes.node_reset:
    operation: stop_apiserver
    node_name: master3

- name: Nothing of the cluster is left on the host
  multinic.kubernetes.node_reset:
    operation: reset
    node_name: master3
    vips: [10.103.97.2]
"""

RETURN = r"""
changes:
  description: What was done, or in check mode would be done, one sentence each, in order.
  returned: success
  type: list
  elements: str
  sample: ["kubeadm has reset the host", "remove /etc/kubernetes"]
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _node_reset as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._host_state import (
    FSTAB,
    SAVED,
    SYSCTLS_BEFORE,
    sysctl_path,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import BIN_DIR, environment, find_program
from ansible_collections.multinic.kubernetes.plugins.module_utils._verify import flags_of

ARGUMENT_SPEC: dict[str, Any] = {
    "operation": {"type": "str", "choices": ["stop_apiserver", "reset"], "required": True},
    "node_name": {"type": "str", "required": True},
    "address": {"type": "str", "default": ""},
    "port": {"type": "int", "default": 6443},
    "vips": {"type": "list", "elements": "str", "default": []},
    "cri_socket": {"type": "str", "default": "unix:///run/containerd/containerd.sock"},
    "bin_dir": {"type": "path", "default": BIN_DIR},
    "timeout": {"type": "int", "default": 120},
}
KUBERNETES = Path("/etc/kubernetes")
APISERVER = KUBERNETES / "manifests" / "kube-apiserver.yaml"
STOPPED = KUBERNETES / "kube-apiserver.yaml.stopped"
UNITS = Path("/etc/systemd/system")
BUNDLE_BIN = Path("/var/lib/multinic/bundle/current/bin")
SYSCTLS_KEPT = Path(SYSCTLS_BEFORE)
MARKER = Path("/var/lib/multinic/member.json")
SWAP_MASK = UNITS / "swap.target"
TRACES = (
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/admin.conf",
    "/etc/kubernetes/manifests/etcd.yaml",
    "/var/lib/etcd/member",
)


class ResetError(Exception):
    """What is left on the host, for the person who has to remove it."""


class Reset:
    """One host that leaves. Each step looks first, and does nothing where nothing is left."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self.check_mode: bool = module.check_mode
        self.changes: list[str] = []
        self.warnings: list[str] = []
        self.reread: list[str] = []
        self.had_etcd = (KUBERNETES / "pki" / "etcd").exists() or marked().get("role") == "control_plane"
        self.before: dict[str, str] = kept_sysctls()

    def check_name(self) -> None:
        """The cluster's side of the removal was done under one name; a host of another one is still a member."""
        held = str(marked().get("node_name") or self.params["node_name"])
        if held != self.params["node_name"]:
            raise ResetError(
                f"this host is the node {held}, not {self.params['node_name']}: it is still a member of its cluster. "
                f"Run again with -e node_removal_node_name={held}"
            )

    def do(self, sentence: str, act: Callable[..., Any], *arguments: Any, **options: Any) -> None:
        """Note a change, and make it unless this is check mode."""
        self.changes.append(sentence)
        if not self.check_mode:
            act(*arguments, **options)

    def run(self, *words: str, stdin: str = "", seconds: float = 60) -> tuple[int, str]:
        """Run a program; its code and all that it said. One that is not there has nothing to undo."""
        program = find_program(words[0], self.params["bin_dir"])
        if program is None:
            return 127, ""
        try:
            done = subprocess.run(
                [program, *words[1:]],
                input=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
                timeout=seconds,
                env=environment(self.params["bin_dir"]),
                cwd="/",
            )
        except subprocess.TimeoutExpired:
            return 124, f"{words[0]} did not end within {seconds:g} s"
        return done.returncode, done.stdout

    def finish(self, *words: str, **options: Any) -> None:
        """Run a program that has to succeed for the host to be clean; a failure is told, and the rest is done."""
        code, said = self.run(*words, **options)
        if code != 0:
            self.warnings.append(
                f"'{' '.join(words)}' ended with {code}: {said.strip()[-300:]}; see what holds it, run again"
            )

    # The API server

    def stop_apiserver(self) -> None:
        manifest = read(APISERVER) or read(STOPPED) or ""
        address = self.params["address"] or flags_of(manifest).get("advertise-address", "127.0.0.1")
        if APISERVER.exists():
            self.do("take the API server's static pod away", APISERVER.replace, STOPPED)
        # Also where an earlier run was interrupted while it waited.
        if self.check_mode or not STOPPED.exists():
            return
        give_up = time.monotonic() + self.params["timeout"]
        while self.listens(address):
            if time.monotonic() > give_up:
                raise ResetError(
                    f"the API server still listens {self.params['timeout']} s after its static pod was taken away; "
                    f"see 'journalctl -u kubelet'. To take it back: mv {STOPPED} {APISERVER}"
                )
            time.sleep(0.5)

    def listens(self, address: str) -> bool:
        try:
            socket.create_connection((address, self.params["port"]), timeout=2).close()
        except OSError:
            return False
        return True

    # All the rest

    def reset(self) -> None:
        self.kubeadm()
        self.units()
        self.containers()
        self.network()
        # Before the files, which tell what the parameters were: after an interruption they are set all the same.
        self.kernel()
        self.files()
        self.shared_files()
        self.settle()

    def kubeadm(self) -> None:
        if not any(Path(path).exists() for path in TRACES) or find_program("kubeadm", self.params["bin_dir"]) is None:
            return
        self.do("reset the host with kubeadm", self.run_kubeadm)

    def run_kubeadm(self) -> None:
        code, said = self.run(
            "kubeadm", "reset", "-f", "--cri-socket", self.params["cri_socket"], seconds=self.params["timeout"]
        )
        if code != 0:
            words = said.strip().splitlines()[-1:]
            self.warnings.append(f"kubeadm reset ended with {code}: {' '.join(words)}; the rest was done without it")

    def units(self) -> None:
        ours = sorted(path.name for path in UNITS.glob("multinic-*") if not path.is_dir())
        kubelet = [] if not (UNITS / "kubelet.service").exists() else ["kubelet.service"]
        names = [*kubelet, *reversed(ours)]
        if names:
            # With their files: a unit that stops needs its own ExecStop, as that of the route.
            self.do(f"stop and disable {', '.join(names)}", self.stop, names)

    def stop(self, names: list[str]) -> None:
        for verb in ("stop", "disable"):
            code, said = self.run("systemctl", verb, *names, seconds=120)
            if code != 0:
                raise ResetError(f"systemctl {verb} {' '.join(names)} ended with {code}: {said.strip()}")

    def containers(self) -> None:
        """What kubeadm could not end, for example because crictl is not there."""
        containerd = ["ctr", "--namespace", "k8s.io"]
        tasks, found = (
            self.run(*containerd, "tasks", "list", "-q")[1],
            self.run(*containerd, "containers", "list", "-q"),
        )
        names = found[1].split() if found[0] == 0 else []
        if names:
            self.do(f"remove {len(names)} containers", self.remove_containers, tasks.split(), names)
        code, images = self.run(*containerd, "images", "list", "-q")
        if code == 0 and images.split():
            every = images.split()
            self.do(f"remove {len(every)} images", self.run, *containerd, "images", "remove", *every, seconds=300)
        mounts = Path("/proc/mounts").read_text(encoding="utf-8")
        for point in core.mounts_below(mounts, "/var/lib/kubelet"):
            self.do(f"unmount {point}", self.finish, "umount", "--lazy", point)

    def remove_containers(self, tasks: list[str], containers: list[str]) -> None:
        containerd = ["ctr", "--namespace", "k8s.io"]
        for task in tasks:
            self.run(*containerd, "tasks", "kill", "--signal", "SIGKILL", task)
            self.run(*containerd, "tasks", "delete", "--force", task)
        for container in containers:
            self.run(*containerd, "containers", "delete", container)

    # -- network --

    def network(self) -> None:
        links = sorted(path.name for path in Path("/sys/class/net").iterdir())
        vips = self.params["vips"]
        table = self.run("ipvsadm", "-Sn")[1] if Path("/proc/net/ip_vs").exists() else ""
        for service in core.services_to_remove(
            table, self.addresses("kube-ipvs0") if "kube-ipvs0" in links else [], vips
        ):
            words = ("ipvsadm", "-D", service.kind, service.address)
            self.do(f"remove the virtual server {service.address}", self.finish, *words)
        for vip in vips:
            self.route(vip)
        for name in core.links_to_remove(links):
            self.do(f"remove the interface {name}", self.finish, "ip", "link", "delete", name)
        for family in ("iptables", "ip6tables"):
            code, saved = self.run(f"{family}-save", "-c")
            if code == 0 and core.chains_in(saved):
                kept = core.without_chains(saved)
                self.do(
                    f"remove the cluster's rules of {family}",
                    self.finish,
                    f"{family}-restore",
                    "-c",
                    stdin=kept,
                )
        for name in core.sets_to_remove(self.run("ipset", "list", "-n")[1]):
            self.do(f"remove the set {name}", self.finish, "ipset", "destroy", name)
        self.tables()

    def tables(self) -> None:
        """kube-proxy's own tables in its mode nftables."""
        code, listing = self.run("nft", "list", "tables")
        for line in listing.splitlines() if code == 0 else ():
            words = line.split()
            if len(words) == 3 and words[2] in core.TABLES:
                self.do(f"remove the {line}", self.finish, "nft", "delete", *words)

    def addresses(self, link: str) -> list[str]:
        listing = self.run("ip", "-j", "address", "show", "dev", link)[1]
        try:
            return [entry["local"] for item in json.loads(listing) for entry in item.get("addr_info", ())]
        except (ValueError, KeyError, TypeError):
            return []

    def route(self, vip: str) -> None:
        family = ["-6"] if ":" in vip else []
        words = ["ip", *family, "route", "show", "table", "local", "type", "local", vip]
        if self.run(*words)[1].strip():
            delete = ("ip", *family, "route", "del", "local", vip, "dev", "lo", "table", "local")
            self.do(f"remove the route to {vip}", self.finish, *delete)

    # -- files --

    def files(self) -> None:
        for name in core.BINARIES:
            path, original = Path(self.params["bin_dir"]) / name, BUNDLE_BIN / name
            if path.exists() and original.exists() and path.samefile(original):
                self.remove(path)
        for pattern in core.MARKED:
            for name in sorted(glob(pattern)):
                path = Path(name)
                if path.is_file() and core.is_marked(path.read_bytes()):
                    self.remove(path)
        for path in map(Path, core.OURS_BY_NAME):
            if path.exists():
                self.remove(path)
        for path in sorted(Path("/opt/cni/bin").glob("*")):
            if path.is_symlink() and str(path.readlink()).startswith(("/usr/lib/cni/", "/usr/libexec/cni/")):
                self.remove(path)
        config = Path("/root/.kube/config")
        if config.is_symlink() and str(config.readlink()).startswith("/etc/kubernetes/"):
            self.remove(config)
        # First, since it is the others that tell whether it is the cluster's.
        for folder in map(Path, [core.ETCD_FOLDER] * self.had_etcd + [*core.FOLDERS]):
            if folder.is_symlink() or (folder.exists() and not is_empty_mount(folder)):
                self.remove(folder)
        for folder in map(Path, core.EMPTY):
            if folder.is_dir() and not any(folder.iterdir()):
                self.do(f"remove {folder}", folder.rmdir)

    def remove(self, path: Path) -> None:
        self.do(f"remove {path}", remove, path)

    def shared_files(self) -> None:
        for name, unit in core.REPLACED.items():
            path, saved = Path(name), Path(name + SAVED)
            ours = path.is_file() and core.is_marked(path.read_bytes())
            if saved.exists():
                self.do(f"put back {path} as it was", saved.replace, path)
                self.reread.append(unit)
            elif ours:
                self.remove(path)
                self.reread.append(unit)
        for path in map(Path, core.SHARED):
            self.edit(path, core.without_blocks)
        if self.edit(Path(FSTAB), core.with_swap) or (
            SWAP_MASK.is_symlink() and str(SWAP_MASK.readlink()) == os.devnull
        ):
            self.do("turn swap on again", self.swap_on)

    def edit(self, path: Path, change: Callable[[str], str]) -> bool:
        if not path.is_file():
            return False
        before = path.read_text(encoding="utf-8", errors="surrogateescape")
        after = change(before)
        if after == before:
            return False
        self.do(f"take what is ours out of {path}", rewrite, path, after)
        return True

    def swap_on(self) -> None:
        self.run("systemctl", "unmask", "swap.target")
        self.run("swapon", "--all")

    # -- kernel --

    def kernel(self) -> None:
        now = {key: read(Path("/proc/sys") / sysctl_path(key)) for key in self.before}
        for key, value in core.sysctls_to_restore(self.before, now).items():
            place = Path("/proc/sys") / sysctl_path(key)
            self.do(f"set sysctl {key} = {value.strip()} again", write, place, value)
        table = read(Path("/proc/net/ip_vs"))
        if self.before and table is not None and not core.services(self.run("ipvsadm", "-Sn")[1]):
            # They take their parameters with them. A module that is built in or in use stays.
            self.do("unload IPVS", self.run, "modprobe", "-r", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "ip_vs")

    def settle(self) -> None:
        if not self.changes or self.check_mode:
            return
        self.run("systemctl", "daemon-reload", seconds=120)
        self.run("systemctl", "reset-failed", "multinic-*", "kubelet.service")
        for unit in self.reread:
            code, said = self.run("systemctl", "try-restart", unit, seconds=120)
            if code != 0:
                self.warnings.append(f"{unit} could not be restarted with its old configuration: {said.strip()}")


def marked() -> dict[str, Any]:
    """What this collection wrote down of the member; nothing where it is none."""
    try:
        found = json.loads(read(MARKER) or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def kept_sysctls() -> dict[str, str]:
    """What the kernel parameters were before us; nothing where that was never written or cannot be read."""
    try:
        kept = json.loads(read(SYSCTLS_KEPT) or "{}")
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in kept.items()}


def read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return None


def write(path: Path, value: str) -> None:
    path.write_text(f"{value.strip()}\n", encoding="utf-8")


def rewrite(path: Path, text: str) -> None:
    """A file of others, all at once, with its owner and mode; in its place where it is a mount point."""
    new = path.with_name(f".multinic-{os.getpid()}-{path.name}")
    new.write_text(text, encoding="utf-8", errors="surrogateescape")
    shutil.copystat(path, new)
    os.chown(new, path.stat().st_uid, path.stat().st_gid)
    try:
        new.replace(path)
    except OSError:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")
        new.unlink()


def remove(path: Path) -> None:
    """A file or a folder. A folder that is a disk of its own, as etcd's may be, is emptied and stays."""
    if not path.is_dir() or path.is_symlink():
        path.unlink()
    elif path.is_mount():
        for inner in path.iterdir():
            remove(inner)
    else:
        shutil.rmtree(path)


def is_empty_mount(folder: Path) -> bool:
    return folder.is_mount() and not any(folder.iterdir())


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    reset = Reset(module)
    try:
        reset.check_name()
        if module.params["operation"] == "reset":
            reset.reset()
        else:
            reset.stop_apiserver()
    except (ResetError, OSError, ValueError) as error:
        module.fail_json(msg=f"{error}. What was done: {'; '.join(reset.changes) or 'nothing'}", changes=reset.changes)
    for warning in reset.warnings:
        module.warn(warning)
    module.exit_json(changed=bool(reset.changes), changes=reset.changes)


if __name__ == "__main__":
    main()
