# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Makes a host a member of etcd without the others ever losing their quorum.

kubeadm before 1.29 adds a joining host as a voting member that is not there yet: from one to two members the cluster
stands still until it is. That is longer than it need be, for kubelet creates the mirror pod of a static pod before it
starts it, and so waits for the API server, which waits for etcd: 5 s and two election timeouts (etcd's
server/config.ReqTimeout). Leader elections are lost meanwhile, and a host that dies in that moment takes the cluster's
quorum along.

etcd 3.4 and newer know learners, members that do not vote: this adds the host as one, lets kubeadm write the static pod,
and promotes the learner once it has caught up. etcd allows one learner at a time, so several hosts take turns.

Standard library only, and no import of the collection: it also runs as a program, beside the kubeadm that is part of the
same join and outlives the module that started it.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Optional
from urllib.parse import urlsplit

PKI = Path("/etc/kubernetes/pki/etcd")
MANIFESTS = Path("/etc/kubernetes/manifests")
ADMIN = "/etc/kubernetes/admin.conf"
DATA = Path("/var/lib/etcd/member")
HEALTH_PORT = 2381
CLIENT_URLS = "kubeadm.kubernetes.io/etcd.advertise-client-urls"
REQUEST_SECONDS = 20.0
PAUSE = 0.5

# What etcd says while another member is joining, electing or catching up.
_TRANSIENT = re.compile(
    r"too many learner|unhealthy cluster|not enough started members|in sync with leader|leader changed|no leader"
    r"|request timed out|deadline exceeded|raft proposal dropped"
    # Another host's etcd that is still a learner: the next endpoint may know, and so may this one soon.
    r"|not supported for learner",
    re.IGNORECASE,
)


class EtcdError(Exception):
    """What etcd, kubeadm or kubectl said."""


def is_transient(message: str) -> bool:
    """Whether etcd's refusal may pass by itself."""
    return bool(_TRANSIENT.search(message))


def member_at(members: Iterable[Mapping[str, Any]], peer_url: str) -> Optional[Mapping[str, Any]]:
    """The member with this peer URL."""
    return next((member for member in members if peer_url in member.get("peerURLs", ())), None)


def client_urls(pods: Mapping[str, Any]) -> list[str]:
    """Where the cluster's etcds answer, by the annotation that kubeadm writes on their static pods."""
    found = {
        url
        for pod in pods.get("items") or ()
        for url in str(pod["metadata"].get("annotations", {}).get(CLIENT_URLS, "")).split(",")
        if url
    }
    return sorted(found)


def initial_cluster(members: Iterable[Mapping[str, Any]], name: str, peer_url: str) -> str:
    """The value of etcd's --initial-cluster. A member has no name before its first start, so ours is given."""
    urls = {
        url: name if url == peer_url else str(member.get("name") or member["ID"])
        for member in members
        for url in member.get("peerURLs", ())
    }
    return ",".join(f"{urls[url]}={url}" for url in sorted(urls))


def joining_manifest(manifest: str, cluster: str) -> str:
    """kubeadm's static pod of a first etcd, as that of one that joins: with all members, and for an existing cluster."""
    lines = [line for line in manifest.splitlines() if not re.match(r"\s*- --initial-cluster-state=", line)]
    for number, line in enumerate(lines):
        found = re.match(r"(\s*- )--initial-cluster=", line)
        if found:
            lines[number : number + 1] = [
                f"{found.group(1)}--initial-cluster={cluster}",
                f"{found.group(1)}--initial-cluster-state=existing",
            ]
            return "\n".join(lines) + "\n"
    raise EtcdError("kubeadm's static pod of etcd has no --initial-cluster")


class Etcd:
    """The cluster's etcd, by the JSON form of its own interface (etcd's grpc-gateway, /v3)."""

    def __init__(self, endpoints: Sequence[str], context: ssl.SSLContext, seconds: float = REQUEST_SECONDS) -> None:
        self.endpoints = list(endpoints)
        self.context = context
        self.seconds = seconds

    def call(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the first endpoint that answers; EtcdError with etcd's own words where it refuses."""
        trouble = "no etcd is known"
        for endpoint in self.endpoints:
            parts = urlsplit(endpoint)
            connection = http.client.HTTPSConnection(
                str(parts.hostname), parts.port or 2379, timeout=self.seconds, context=self.context
            )
            try:
                connection.request("POST", f"/v3/cluster/member/{path}", json.dumps(body))
                answer = connection.getresponse()
                text = answer.read().decode(errors="replace")
                told = json.loads(text)
            except (OSError, http.client.HTTPException, ValueError) as error:
                trouble = f"{endpoint}: {error}"
                continue
            finally:
                connection.close()
            if answer.status == 200 and isinstance(told, dict):
                return told
            trouble = f"{endpoint}: {told.get('message') or told.get('error') or text}"
            if not is_transient(trouble):
                break
        raise EtcdError(trouble)

    def members(self) -> list[dict[str, Any]]:
        return list(self.call("list", {}).get("members") or ())


class Joining:
    """One host on its way into etcd."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.give_up = time.monotonic() + options.timeout
        context = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
        context.load_cert_chain(PKI / "healthcheck-client.crt", PKI / "healthcheck-client.key")
        self.etcd = Etcd([], context)

    def patiently(self, what: str, act: Callable[[], Any]) -> Any:
        """Do it again while that may help, until the time is over."""
        while True:
            try:
                return act()
            except EtcdError as error:
                if time.monotonic() > self.give_up or not is_transient(str(error)):
                    raise EtcdError(f"{what}: {error}") from error
            time.sleep(PAUSE)

    def run(self) -> None:
        self.etcd.endpoints = self.find()
        manifest = MANIFESTS / "etcd.yaml"
        if not manifest.exists():
            members = self.patiently("the host was not added to etcd", self.add)
            say(f"[etcd] added {self.options.peer_url} to etcd as a learner; the others keep their quorum")
            text = joining_manifest(
                self.written_by_kubeadm(), initial_cluster(members, self.options.name, self.options.peer_url)
            )
            put(manifest, text)
        if self.patiently("the host's etcd did not become a voting member", self.promote):
            say("[etcd] the learner has caught up and was promoted to a voting member")
        loopback = loopback_beside(str(urlsplit(self.options.peer_url).hostname))
        while not healthy(loopback):
            if time.monotonic() > self.give_up:
                raise EtcdError("etcd of this host does not become healthy")
            time.sleep(PAUSE)

    def find(self) -> list[str]:
        """The endpoints of the other members."""
        words = ["get", "pods", "-n", "kube-system", "-l", "component=etcd,tier=control-plane", "-o", "json"]
        while True:
            try:
                found = client_urls(json.loads(self.kubectl(*words)))
                if found:
                    return found
                trouble = "the cluster tells of no etcd"
            except (EtcdError, ValueError) as error:
                trouble = str(error)
            if time.monotonic() > self.give_up:
                raise EtcdError(f"the cluster's etcd was not found: {trouble}")
            time.sleep(PAUSE)

    def add(self) -> list[dict[str, Any]]:
        """All members, with this host among them."""
        peer_url = self.options.peer_url
        members = self.etcd.members()
        mine = member_at(members, peer_url)
        if mine is not None and mine.get("name") and not DATA.exists():
            # It has run before and lost its data: under its old identity it may not come back.
            self.etcd.call("remove", {"ID": mine["ID"]})
            mine = None
        if mine is not None:
            return members
        return list(self.etcd.call("add", {"peerURLs": [peer_url], "isLearner": True})["members"])

    def promote(self) -> bool:
        """Make the learner a voting member; false where it is one."""
        mine = member_at(self.etcd.members(), self.options.peer_url)
        if mine is None:
            raise EtcdError(f"{self.options.peer_url} is no member, though this host runs an etcd that was one")
        if not mine.get("isLearner"):
            return False
        self.etcd.call("promote", {"ID": mine["ID"]})
        return True

    def written_by_kubeadm(self) -> str:
        """The static pod as kubeadm writes it for a first etcd, from the cluster's own configuration."""
        words = ["get", "configmap", "kubeadm-config", "-n", "kube-system", "-o", "json"]
        cluster = json.loads(self.kubectl(*words))["data"]["ClusterConfiguration"]
        with tempfile.TemporaryDirectory(prefix="etcd-", dir=Path(self.options.config).parent) as folder:
            configuration = Path(folder) / "kubeadm.yaml"
            own = Path(self.options.config).read_text(encoding="utf-8").rstrip("\n")
            configuration.write_text(f"{own}\n---\n{cluster}", encoding="utf-8")
            hidden = Path(folder) / "manifests"
            hidden.mkdir()
            # kubelet must not see the pod before it knows the other members: in a mount namespace of its own, kubeadm
            # writes it to a folder that only looks like that of the static pods.
            script = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            kubeadm = [self.options.kubeadm, "init", "phase", "etcd", "local", "--config", str(configuration)]
            command = ["unshare", "--mount", "/bin/sh", "-c", script, "sh", str(hidden), str(MANIFESTS)]
            ask([*command, *kubeadm, *self.options.argument])
            return (hidden / "etcd.yaml").read_text(encoding="utf-8")

    def kubectl(self, *words: str) -> str:
        return ask([self.options.kubectl, f"--kubeconfig={ADMIN}", "--request-timeout=20s", *words])


def ask(command: Sequence[str]) -> str:
    """What a program answers; EtcdError with what it complains of."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120)
    if done.returncode != 0:
        raise EtcdError(f"{' '.join(command)} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def loopback_beside(address: str) -> str:
    """Where kubeadm lets an etcd of this address tell of its health: on the loopback address of the same family."""
    return "::1" if ":" in address else "127.0.0.1"


def healthy(loopback: str) -> bool:
    """Whether this host's own etcd has a leader."""
    connection = http.client.HTTPConnection(loopback, HEALTH_PORT, timeout=5)
    try:
        connection.request("GET", "/health")
        return str(json.loads(connection.getresponse().read()).get("health")).lower() == "true"
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def put(path: Path, text: str) -> None:
    """A static pod, all at once: kubelet passes over names that begin with a dot."""
    new = path.with_name(f".{path.name}.new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(path)


def say(text: str) -> None:
    """A line in kubeadm's log, between those of kubeadm."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(description="Join this host's etcd as a learner, and promote it.")
    parser.add_argument("--name", required=True, help="the member's name")
    parser.add_argument("--peer-url", required=True, help="where the other members reach it")
    parser.add_argument("--config", required=True, help="an InitConfiguration for this host")
    parser.add_argument("--kubeadm", required=True)
    parser.add_argument("--kubectl", required=True)
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds")
    parser.add_argument("--argument", action="append", default=[], help="one more for kubeadm; may be repeated")
    try:
        Joining(parser.parse_args(arguments)).run()
    except (EtcdError, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
        say(f"error: {error}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
