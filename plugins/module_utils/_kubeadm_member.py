# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""What to do with a host that shall be a member of the cluster, judged from what was found on it.

Pure: the module looks and acts, this decides. The one thing that must never happen is that a host which already is an
etcd member is wiped: with two members the cluster would lose its quorum. And what this collection did not write it
does not delete.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

UNCHANGED = "unchanged"
RUN = "run"
ADOPT = "adopt"
FINISH = "finish"
RESET = "reset"
REFUSE = "refuse"

CONTROL_PLANE_MANIFESTS = frozenset({"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"})


@dataclass(frozen=True)
class Wanted:
    """The membership a host shall have."""

    operation: str
    node_name: str
    role: str
    kubernetes_version: str
    server: str
    fingerprint: str = ""

    def marker(self) -> dict[str, Any]:
        """What the marker file says of a finished member. It holds no time, so that it is the same on every run."""
        return {
            "schema": 1,
            "node_name": self.node_name,
            "role": self.role,
            "kubernetes_version": self.kubernetes_version,
        }

    def attempt(self) -> dict[str, Any]:
        """What is written down before kubeadm starts, so that the next run knows whose remains it finds."""
        return {
            "operation": self.operation,
            "node_name": self.node_name,
            "role": self.role,
            "fingerprint": self.fingerprint,
        }


@dataclass(frozen=True)
class Observed:
    """What is on the host."""

    marker: Mapping[str, Any] | None = None
    attempt: Mapping[str, Any] | None = None
    exit_code: int | None = None
    kubelet_conf: bool = False
    admin_conf: bool = False
    manifests: frozenset[str] = field(default_factory=frozenset)
    etcd_data: bool = False
    server: str = ""
    same_authority: bool = True
    answered: bool = True
    node_registered: bool = False
    node_marked: bool = False
    apiserver_healthy: bool = False
    addons: bool = False

    @property
    def traces(self) -> list[str]:
        """What of a Kubernetes is there, in words."""
        found = []
        if self.kubelet_conf:
            found.append("/etc/kubernetes/kubelet.conf")
        if self.admin_conf:
            found.append("/etc/kubernetes/admin.conf")
        if self.manifests:
            found.append("static pods " + ", ".join(sorted(self.manifests)))
        if self.etcd_data:
            found.append("/var/lib/etcd")
        return found


@dataclass(frozen=True)
class Decision:
    """What to do and why, in a sentence for a person."""

    action: str
    reason: str


def decide(wanted: Wanted, seen: Observed) -> Decision:
    """The one place that decides between running, adopting, finishing, resetting and refusing."""
    if seen.marker is not None:
        return _judge_marker(wanted, seen)
    if not seen.traces:
        return Decision(RUN, "the host is no member of any cluster")
    elsewhere = _belongs_elsewhere(wanted, seen)
    if seen.attempt is None:
        if elsewhere:
            return Decision(REFUSE, elsewhere)
        missing = _missing(wanted, seen)
        if not missing:
            return Decision(ADOPT, "the host already is a complete member of this cluster")
        if _untold(wanted, seen):
            return Decision(REFUSE, f"the host holds {'; '.join(seen.traces)}, but {_untold(wanted, seen)}")
        return Decision(
            REFUSE,
            f"the host holds {'; '.join(seen.traces)}, which this collection did not write, and is no complete member "
            f"of this cluster (missing: {', '.join(missing)}). If nothing on it is needed any more, run "
            "'kubeadm reset -f' and 'rm -rf /var/lib/etcd' on it, then run this again",
        )
    return _judge_attempt(wanted, seen, elsewhere)


def _judge_marker(wanted: Wanted, seen: Observed) -> Decision:
    marker = seen.marker or {}
    for name in ("node_name", "role"):
        if marker.get(name) != getattr(wanted, name):
            return Decision(
                REFUSE,
                f"the host is a member of the cluster as {marker.get('role')} '{marker.get('node_name')}', but the "
                f"plan says {wanted.role} '{wanted.node_name}'. Remove the node first, or put the inventory back",
            )
    version = str(marker.get("kubernetes_version") or "")
    if version and version != wanted.kubernetes_version:
        return Decision(
            REFUSE,
            f"the host is a member with {version}, but the plan says {wanted.kubernetes_version}. This would be an "
            f"upgrade, which this does not do. Use the bundle of {version}; or, if the cluster was upgraded by hand, "
            "write the new version into /var/lib/multinic/member.json on each of its hosts",
        )
    if not seen.kubelet_conf:
        return Decision(
            REFUSE,
            "/var/lib/multinic/member.json says that the host is a member, but /etc/kubernetes/kubelet.conf is gone: "
            "somebody reset it by hand. Delete /var/lib/multinic/member.json, and the node from the cluster, then "
            "run this again",
        )
    return Decision(UNCHANGED, "the host is a member of the cluster")


def _judge_attempt(wanted: Wanted, seen: Observed, elsewhere: str) -> Decision:
    if not elsewhere:
        other = _was_another(wanted, seen)
        joined_etcd = (seen.attempt or {}).get("operation") == "join" and "etcd" in seen.manifests
        if other and ((seen.exit_code == 0 and seen.kubelet_conf) or joined_etcd):
            return Decision(
                REFUSE,
                f"an interrupted run has made this host {other}, but the plan says {wanted.role} "
                f"'{wanted.node_name}'. Put the inventory back and run this again, or remove the node from the cluster "
                "(and from etcd, if it is a control plane) and run 'kubeadm reset -f' on this host",
            )
        if seen.exit_code == 0 and seen.kubelet_conf:
            return Decision(ADOPT, "kubeadm of an interrupted run has finished in the meantime")
        missing = _missing(wanted, seen)
        if not missing:
            return Decision(ADOPT, "an interrupted run got as far as a complete member")
        if wanted.operation == "join" and wanted.role == "control_plane" and "etcd" in seen.manifests:
            return Decision(
                FINISH,
                "an earlier join got as far as an etcd member, which must not be taken away from the others; "
                f"missing: {', '.join(missing)}",
            )
        if (
            wanted.operation == "init"
            and seen.apiserver_healthy
            and seen.admin_conf
            and not CONTROL_PLANE_MANIFESTS - seen.manifests
            and seen.attempt == wanted.attempt()
        ):
            return Decision(
                FINISH,
                f"an earlier init with the same configuration brought the control plane up; missing: {missing[0]}",
            )
        if _untold(wanted, seen):
            return Decision(REFUSE, f"an earlier join was not finished, and {_untold(wanted, seen)}")
    return Decision(RESET, f"an earlier {wanted.operation} was not finished ({'; '.join(seen.traces)})")


def _was_another(wanted: Wanted, seen: Observed) -> str:
    """As what an earlier attempt began to make the host a member, where that was not what is wanted now."""
    attempt = seen.attempt or {}
    if all(attempt.get(name) == getattr(wanted, name) for name in ("node_name", "role")):
        return ""
    return f"{attempt.get('role')} '{attempt.get('node_name')}'"


def _untold(wanted: Wanted, seen: Observed) -> str:
    """What is said where only the cluster knows whether the host is its member, and it did not answer; else ""."""
    if wanted.operation != "join" or not seen.kubelet_conf or seen.answered:
        return ""
    return (
        f"{wanted.server} does not tell whether the host's node is registered: it did not answer. Nothing was changed. "
        "See that the API server answers (kubectl get nodes on a control plane, systemctl status "
        "multinic-apiserver-balancer here), then run this again"
    )


def _belongs_elsewhere(wanted: Wanted, seen: Observed) -> str:
    if seen.server and seen.server != wanted.server:
        return (
            f"/etc/kubernetes/kubelet.conf belongs to a cluster whose API server is {seen.server}, "
            f"but this cluster's is {wanted.server}"
        )
    if not seen.same_authority:
        return "/etc/kubernetes/kubelet.conf was signed for another cluster: its certificate authority differs"
    return ""


def _missing(wanted: Wanted, seen: Observed) -> list[str]:
    """What a complete member of the wanted role would have and this host has not."""
    missing = []
    if not seen.kubelet_conf:
        missing.append("kubelet's credentials")
    if not seen.node_registered:
        missing.append("a registered node")
    if wanted.role == "control_plane":
        if CONTROL_PLANE_MANIFESTS - seen.manifests:
            missing.append("static pods " + ", ".join(sorted(CONTROL_PLANE_MANIFESTS - seen.manifests)))
        if not seen.apiserver_healthy:
            missing.append("a healthy API server")
        if not seen.node_marked:
            missing.append("the control plane's label")
    if wanted.operation == "init" and not seen.addons:
        missing.append("the cluster's configuration and addons")
    return missing


_REMEDIES: dict[str, str] = {
    r"failed to admit pod|ephemeral-storage": (
        "kubelet refused a static pod before it knew the disk; 'systemctl restart kubelet' makes it try again"
    ),
    r"timed out waiting for the condition": "look at the containers: 'crictl ps -a' and 'crictl logs ID'",
    (
        r"couldn't validate the identity of the API Server|connection refused|i/o timeout|no route to host"
        r"|context deadline exceeded"
    ): (
        "the API server could not be reached through its virtual address; check the route "
        "('ip route get ADDRESS'), keepalived ('systemctl status keepalived') and the real servers ('ipvsadm -Ln')"
    ),
    r"x509: certificate has expired or is not yet valid": (
        "the clocks of the hosts differ; check 'chronyc tracking' on each"
    ),
    r"kubeadm-certs\W.*not found|error decrypting": (
        "the uploaded certificates have expired; run the playbook again, which uploads them anew"
    ),
    r"a Node with name .* and status .*Ready.* already exists": (
        "a node of this name is alive in the cluster; remove it with 'kubectl delete node NAME' if it is a leftover"
    ),
    r"\[ERROR [A-Za-z0-9-]+\]": (
        "cure what the preflight checks name, or, if it is known to be harmless, list the check in "
        "kubeadm_ignore_preflight_errors"
    ),
    r"running with swap on is not supported": "swap is on; turn it off or set failSwapOn to false in kubelet_config",
    r"unable to determine runtime API version|container runtime is not running|connection error.*containerd": (
        "containerd does not answer; check 'systemctl status containerd'"
    ),
}

_NOISE = re.compile(
    r"^\s*$|^To see the stack trace|^[WI]\d{4} |^\s*(?:Unfortunately, an error has|Additionally, a control plane comp|"
    r"To troubleshoot, list|Here is one example|Once you have found|If you are on a systemd|"
    r"- '(?:systemctl|journalctl|crictl))"
    r"|kubelet\.go:\d+\] node \".*\" not found"
)
_STAMP = re.compile(r"^[IWEF]\d{4} [\d:.]+ +\d+ ")


def _last(lines: Iterable[str], count: int) -> list[str]:
    """The last lines that say something, each saying once, whatever numbers and times are in it."""
    kept: dict[str, str] = {}
    for line in lines:
        if not _NOISE.search(line):
            same = re.sub(r"\d+", "0", _STAMP.sub("", line))
            kept.pop(same, None)
            kept[same] = line.rstrip()
    return list(kept.values())[-count:]


def failure_message(headline: str, log: str, journal: Sequence[str]) -> str:
    """What kubeadm and kubelet said last, and what to do about it."""
    said, heard = _last(log.splitlines(), 15), _last(journal, 10)
    everything = "\n".join([log, *journal])
    remedies = [remedy for pattern, remedy in _REMEDIES.items() if re.search(pattern, everything, re.IGNORECASE)]
    parts = [headline]
    if remedies:
        parts.append("What to do: " + "; ".join(remedies[:3]))
    if said:
        parts.append("kubeadm said:\n  " + "\n  ".join(said))
    if heard:
        parts.append("kubelet said:\n  " + "\n  ".join(heard))
    return "\n".join(parts)


@dataclass(frozen=True)
class Credentials:
    """What a joining host needs, as the first control plane keeps it for the rest of the run."""

    token: str = ""
    token_expires: int = 0
    certificate_key: str = ""
    key_expires: int = 0
    upload: str = ""

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Credentials:
        """Read what as_mapping() wrote; anything else counts as no credentials."""
        kept = cls(**{name: data.get(name, default) for name, default in cls().as_mapping().items()})
        texts, numbers = (kept.token, kept.certificate_key, kept.upload), (kept.token_expires, kept.key_expires)
        good = all(isinstance(text, str) for text in texts) and all(isinstance(number, int) for number in numbers)
        return kept if good else cls()

    def as_mapping(self) -> dict[str, Any]:
        """The form that is kept in a file."""
        return {
            "token": self.token,
            "token_expires": self.token_expires,
            "certificate_key": self.certificate_key,
            "key_expires": self.key_expires,
            "upload": self.upload,
        }

    def confirmed(self, uploads: Mapping[str, str]) -> Credentials:
        """These credentials as far as the cluster still has them.

        uploads maps the names of the secrets that exist to their resource versions. Certificates that another control
        plane has uploaded since were encrypted with another key.
        """
        token_id = self.token.partition(".")[0]
        version = uploads.get("kubeadm-certs", "")
        mine = bool(version) and self.upload in ("", version)
        return dataclasses.replace(
            self,
            token_expires=self.token_expires if f"bootstrap-token-{token_id}" in uploads else 0,
            key_expires=self.key_expires if mine else 0,
            upload=version if mine else "",
        )

    def token_usable(self, now: float, margin: float) -> bool:
        """True while the token outlives the margin."""
        return bool(self.token) and self.token_expires > now + margin

    def key_usable(self, now: float, margin: float) -> bool:
        """True while the uploaded certificates outlive the margin."""
        return bool(self.certificate_key) and self.key_expires > now + margin


_FLAGS = re.compile(r"""^(\s*KUBELET_KUBEADM_ARGS=)(["']?)(.*?)\2[ \t]*$""", re.MULTILINE)


def with_node_ip(text: str, address: str) -> str:
    """kubeadm's file of kubelet's flags with this address of the node, and all else as it is."""
    flag = f"--node-ip={address}"
    found = _FLAGS.search(text)
    if found is None:
        return f'{text}KUBELET_KUBEADM_ARGS="{flag}"\n'
    having = re.findall(r"(?<!\S)--node-ip=\S*", found.group(3))
    if having == [flag]:
        return text
    kept = [word for word in found.group(3).split() if not word.startswith("--node-ip=")]
    return text[: found.start()] + f'{found.group(1)}"{" ".join([flag, *kept])}"' + text[found.end() :]


def advertised_address(manifest: str) -> str:
    """The address that an API server tells others, by the manifest of its static pod, or ""."""
    found = re.search(r"^\s*- [\"']?--advertise-address=([^\s\"']+)", manifest, re.MULTILINE)
    return found.group(1) if found else ""
