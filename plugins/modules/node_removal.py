#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_removal
short_description: Takes a node out of its cluster, from one of the control planes that stay
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - The cluster's side of removing a node, one operation at a time, so that what has to happen on other hosts can happen
    in between.
  - Runs on a control plane that stays. A node that the cluster no longer knows is no error; there is nothing to do then.
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
      - V(examine) changes nothing. It tells what the removal means, and fails where it would take the last control plane or
        etcd's quorum, or where the node is alive though Ansible cannot reach it.
      - V(drain) cordons the node and evicts its pods, as C(kubectl drain) does.
      - V(etcd) removes the node's member from etcd.
      - V(forget) deletes the node, and what kubeadm keeps of it.
    type: str
    choices: [examine, drain, etcd, forget]
    required: true
  node_name:
    description: The node's name in the cluster.
    type: str
    required: true
  reachable:
    description: Whether Ansible reaches the host. The pods of one that it does not reach are not waited for.
    type: bool
    default: true
  drain_timeout:
    description: Seconds in which all pods must have gone.
    type: int
    default: 300
  ungraceful:
    description: Go on though some pods have not gone in time, for example because a disruption budget protects them.
    type: bool
    default: false
  kubeconfig:
    description: Access to the cluster.
    type: path
    default: /etc/kubernetes/admin.conf
  bin_dir:
    description: Where kubectl is, before the usual folders are searched.
    type: path
    default: /usr/local/bin
"""

EXAMPLES = r"""
- name: What the removal means is known, and it may be done
  multinic.kubernetes.node_removal:
    operation: examine
    node_name: master3
  register: removal

- name: The node has no pods
  multinic.kubernetes.node_removal:
    operation: drain
    node_name: master3
    drain_timeout: 600
"""

RETURN = r"""
role:
  description: What the node is in the cluster.
  returned: O(operation=examine)
  type: str
  sample: control_plane
addresses:
  description: The node's addresses, one of each family, the primary one first. Empty where the cluster no longer knows them.
  returned: O(operation=examine)
  type: list
  elements: str
  sample: [192.168.253.130, "fd00:253::130"]
known:
  description: Whether the cluster knows the node, or etcd a member of its name.
  returned: O(operation=examine)
  type: bool
  sample: true
steps:
  description: What will be done, one sentence each, in order.
  returned: O(operation=examine)
  type: list
  elements: str
  sample: ["master3 is cordoned and its pods are evicted"]
"""

import json
import ssl
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multinic.kubernetes.plugins.module_utils import _node_removal as core
from ansible_collections.multinic.kubernetes.plugins.module_utils._etcd_member import PKI, Etcd, EtcdError, client_urls
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import (
    BIN_DIR,
    Answer,
    Kubectl,
    NoKubectlError,
    find_kubectl,
)

ARGUMENT_SPEC: dict[str, Any] = {
    "operation": {"type": "str", "choices": ["examine", "drain", "etcd", "forget"], "required": True},
    "node_name": {"type": "str", "required": True},
    "reachable": {"type": "bool", "default": True},
    "drain_timeout": {"type": "int", "default": 300},
    "ungraceful": {"type": "bool", "default": False},
    "kubeconfig": {"type": "path", "default": "/etc/kubernetes/admin.conf"},
    "bin_dir": {"type": "path", "default": BIN_DIR},
}
PATIENCE = 60
ETCD_PODS = ("-n", "kube-system", "-l", "component=etcd,tier=control-plane")
LOCAL_ETCD = "https://127.0.0.1:2379"


class RemovalError(Exception):
    """What keeps the node in the cluster, for the person who has to mend it."""


class Removal:
    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self.check_mode: bool = module.check_mode
        self.name: str = self.params["node_name"]
        self.warnings: list[str] = []
        bin_dir = self.params["bin_dir"]
        self.kubectl = Kubectl(find_kubectl(bin_dir), self.params["kubeconfig"], bin_dir)

    def ask(self, *words: str, **more: Any) -> Answer:
        return self.kubectl.ask(*words, patience=PATIENCE, **more)

    def read(self, *words: str) -> dict[str, Any]:
        answer = self.ask(*words, "-o", "json")
        if not answer.good:
            raise RemovalError(f"the cluster did not answer 'kubectl {' '.join(words)}': {answer.complaint}")
        found = json.loads(answer.out) if answer.out.strip() else {}
        return found if isinstance(found, dict) else {}

    def nodes(self) -> list[core.NodeSeen]:
        return core.nodes_of(self.read("get", "nodes"))

    def node(self) -> core.NodeSeen | None:
        return next((node for node in self.nodes() if node.name == self.name), None)

    # etcd

    def etcd(self) -> Etcd | None:
        """etcd as seen from here; nothing where it does not run on the control planes."""
        if not (PKI / "healthcheck-client.crt").exists():
            return None
        context = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
        context.load_cert_chain(PKI / "healthcheck-client.crt", PKI / "healthcheck-client.key")
        return Etcd([LOCAL_ETCD, *client_urls(self.read("get", "pods", *ETCD_PODS))], context)

    def members(self) -> list[core.Member]:
        etcd = self.etcd()
        if etcd is None:
            return []
        try:
            listing = etcd.members()
        except EtcdError as error:
            raise RemovalError(f"etcd does not tell its members: {error}") from error
        return core.members_of(listing, [str(entry["ID"]) for entry in listing if self.answers(etcd, entry)])

    def answers(self, etcd: Etcd, entry: dict[str, Any]) -> bool:
        """Whether a member itself answers at one of its own URLs."""
        for url in entry.get("clientURLs") or ():
            try:
                if Etcd([url], etcd.context, seconds=5).members():
                    return True
            except EtcdError:
                continue
        return False

    # Operations

    def examine(self) -> dict[str, Any]:
        judgement = core.judge(self.name, self.nodes(), self.members(), reachable=self.params["reachable"])
        if judgement.problems:
            raise RemovalError(f"{self.name} is not removed. " + ". ".join(judgement.problems) + ".")
        return {
            "changed": False,
            "role": judgement.role,
            "addresses": list(judgement.addresses),
            "known": judgement.known,
            "steps": judgement.steps,
        }

    def drain(self) -> dict[str, Any]:
        node = self.node()
        if node is None:
            return {"changed": False}
        if self.check_mode:
            return {"changed": True}
        if not self.params["reachable"]:
            return {"changed": self.cordon(node)}
        seconds = self.params["drain_timeout"]
        words = ["drain", self.name, "--ignore-daemonsets", "--force", f"--timeout={seconds}s"]
        # Kubernetes before 1.20 has another name for it.
        for flag in ("--delete-emptydir-data", "--delete-local-data"):
            answer = self.ask(*words, flag, request_seconds=0, seconds=seconds + 60)
            if answer.good or "unknown flag" not in answer.err:
                break
        if not answer.good and not self.params["ungraceful"]:
            raise RemovalError(
                f"{self.name} is cordoned, but not all its pods have gone within {seconds} s: "
                f"{core.pods_left(answer.complaint)}. End them, or give node_removal_drain_timeout more seconds, or "
                f"node_removal_ungraceful=true. 'kubectl uncordon {self.name}' takes it all back"
            )
        if not answer.good:
            self.warnings.append(f"not all pods of {self.name} have gone: {core.pods_left(answer.complaint)}")
        return {"changed": not node.unschedulable or "evict" in answer.out}

    def cordon(self, node: core.NodeSeen) -> bool:
        if node.unschedulable:
            return False
        answer = self.ask("cordon", self.name)
        if not answer.good:
            raise RemovalError(f"{self.name} could not be cordoned: {answer.complaint}")
        return True

    def leave_etcd(self) -> dict[str, Any]:
        judgement = core.judge(self.name, self.nodes(), self.members(), reachable=True)
        if judgement.member is None:
            return {"changed": False}
        # Looked at once more: another member may have died since the removal was examined.
        if judgement.problems:
            raise RemovalError(f"{self.name} stays in etcd. " + ". ".join(judgement.problems) + ".")
        if not self.check_mode:
            etcd = self.etcd()
            try:
                if etcd is not None:
                    etcd.call("remove", {"ID": judgement.member.id})
            except EtcdError as error:
                raise RemovalError(f"etcd did not let {self.name} go: {error}") from error
        return {"changed": True}

    def forget(self) -> dict[str, Any]:
        changed = self.forget_endpoint()
        if self.node() is None:
            return {"changed": changed}
        if not self.check_mode:
            answer = self.ask("delete", "node", self.name, "--ignore-not-found", "--wait=false")
            if not answer.good:
                raise RemovalError(f"the node {self.name} could not be deleted: {answer.complaint}")
        return {"changed": True}

    def forget_endpoint(self) -> bool:
        """Take the node's API endpoint out of what kubeadm before 1.22 keeps of the cluster."""
        words = ("get", "configmap", "kubeadm-config", "-n", "kube-system", "--ignore-not-found")
        data = self.read(*words).get("data") or {}
        before = str(data.get("ClusterStatus") or "")
        after = core.without_api_endpoint(before, self.name)
        if after == before:
            return False
        if not self.check_mode:
            patch = json.dumps({"data": {"ClusterStatus": after}})
            answer = self.ask("patch", "configmap", "kubeadm-config", "-n", "kube-system", "--type=merge", "-p", patch)
            if not answer.good:
                raise RemovalError(f"kubeadm's record of {self.name} could not be removed: {answer.complaint}")
        return True


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if not Path(module.params["kubeconfig"]).exists():
        module.fail_json(
            msg=f"{module.params['kubeconfig']} is not on this host: run this on a control plane that stays"
        )
    try:
        removal = Removal(module)
        operations = {
            "examine": removal.examine,
            "drain": removal.drain,
            "etcd": removal.leave_etcd,
            "forget": removal.forget,
        }
        result = operations[module.params["operation"]]()
    except (RemovalError, NoKubectlError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    for warning in removal.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
