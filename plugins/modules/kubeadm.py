#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeadm
short_description: Makes a host a member of a Kubernetes cluster with kubeadm
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - Initialises the cluster on its first control plane, joins further control planes and workers, and makes the
    credentials that joining hosts need.
  - kubeadm runs in a session of its own. A connection that breaks, or a playbook that is killed, does not disturb it.
    The next run waits for it and takes over what it did.
  - A finished member is recognised by C(/var/lib/multinic/member.json). A half-done earlier attempt of this module is
    finished where it got as far as an etcd member, and is reset and begun again where not. Files of a Kubernetes that
    this module did not write are never deleted; they are an error that says what to do.
  - Tokens and keys are written to files that only root can read, never to the command line, and deleted when kubeadm
    has ended.
extends_documentation_fragment:
  - multinic.kubernetes._attributes
attributes:
  check_mode:
    support: full
    details:
      - It does not wait for a kubeadm that an interrupted run left at work.
  diff_mode:
    support: full
    details:
      - Shows the marker and kubeadm's configuration, without credentials.
options:
  operation:
    description:
      - V(init) creates the cluster.
      - V(join) joins a control plane or a worker, as O(configuration) says.
      - V(await) waits for the join that an earlier task began with O(wait=false), and brings it to its end.
      - V(credentials) returns what joining hosts need. Those that are still good are returned again; new ones are
        made, and the certificates uploaded anew, only when they have expired. Give the task C(no_log).
    type: str
    choices: [init, join, await, credentials]
    required: true
  configuration:
    description:
      - kubeadm's configuration documents, without credentials, as the filters
        P(multinic.kubernetes.kubeadm_init_configuration#filter) and
        P(multinic.kubernetes.kubeadm_join_configuration#filter) make them.
      - O(operation=credentials) takes those of the init.
    type: list
    elements: dict
    required: true
  kubernetes_version:
    description: The version that is installed.
    type: str
    required: true
  endpoint:
    description: Name and port at which every node reaches the API server.
    type: str
    required: true
  token:
    description: The bootstrap token to join with.
    type: str
  certificate_key:
    description: The key of the uploaded certificates. Only control planes need it to join.
    type: str
  ca_certificate:
    description: The cluster's certificate authority in PEM form, which a joining host trusts.
    type: str
  patches:
    description:
      - Patches of the static pods, file name to content, as kubeadm reads them from a directory.
    type: dict
    default: {}
  patches_directory:
    description: Where O(patches) are kept on the host. An upgrade needs them again.
    type: path
    default: /var/lib/multinic/patches
  for_control_plane:
    description: Whether O(operation=credentials) must hold good for joining control planes too.
    type: bool
    default: true
  bundle_manifest:
    description:
      - The manifest of the bundle on the host. It names the repository of the images where O(configuration) does not.
      - Where it says that the bundle lacks CoreDNS, the cluster is made without it.
    type: path
    default: /var/lib/multinic/bundle/current/manifest.json
  bin_dir:
    description: Where the programs of Kubernetes are, before the usual folders are searched.
    type: path
    default: /usr/local/bin
  wait:
    description:
      - V(false) returns as soon as the join runs. A task with O(operation=await) must follow. So control planes and
        workers join at the same time though they are different tasks.
    type: bool
    default: true
  timeout:
    description:
      - Seconds that kubeadm may take before the task fails. kubeadm itself is not stopped then.
      - Also the seconds that etcd and the API server of a control plane that is finished may take to become healthy,
        and that O(operation=await) waits for the join. Give more than kubeadm's own timeouts, so that it has the word.
    type: int
    default: 900
  lock_timeout:
    description: Seconds to wait for the kubeadm of an earlier, interrupted run. As O(timeout) unless given.
    type: int
"""

EXAMPLES = r"""
- name: The cluster exists
  multinic.kubernetes.kubeadm:
    operation: init
    configuration: "{{ ansible_facts['cluster_plan']
      | multinic.kubernetes.kubeadm_init_configuration(ansible_facts['node_plan'], {}) }}"
    kubernetes_version: v1.20.2
    endpoint: apiserver.cluster.local:6443
    patches: "{{ {} | multinic.kubernetes.kubeadm_patches }}"

- name: Credentials are at hand for the hosts that join
  multinic.kubernetes.kubeadm:
    operation: credentials
    configuration: "{{ ansible_facts['cluster_plan']
      | multinic.kubernetes.kubeadm_init_configuration(ansible_facts['node_plan'], {}) }}"
    kubernetes_version: v1.20.2
    endpoint: apiserver.cluster.local:6443
  register: credentials
  no_log: true
"""

RETURN = r"""
node_name:
  description: The name of the node.
  returned: success
  type: str
  sample: master1
role:
  description: What the host is in the cluster.
  returned: success
  type: str
  sample: control_plane
decision:
  description: What was done, one of unchanged, run, adopt, finish, reset. Reset means that it ran again after that.
  returned: O(operation) is not V(credentials)
  type: str
  sample: run
reason:
  description: Why that was done.
  returned: O(operation) is not V(credentials)
  type: str
  sample: the host is no member of any cluster
seconds:
  description: How long kubeadm ran.
  returned: when kubeadm ran
  type: float
  sample: 27.4
token:
  description: A bootstrap token.
  returned: O(operation=credentials)
  type: str
certificate_key:
  description: The key of the uploaded certificates.
  returned: O(operation=credentials)
  type: str
ca_certificate:
  description: The cluster's certificate authority in PEM form.
  returned: O(operation=credentials)
  type: str
"""

import base64
import dataclasses
import fcntl
import hashlib
import inspect
import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from datetime import datetime, timezone
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import SSLValidationError, open_url

from ansible_collections.multinic.kubernetes.plugins.module_utils import _etcd_member
from ansible_collections.multinic.kubernetes.plugins.module_utils._detached import Detached
from ansible_collections.multinic.kubernetes.plugins.module_utils._dns import missing_dns
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm import (
    check,
    discovery_kubeconfig,
    render,
    with_image_repository,
    with_init_secrets,
    with_join_secrets,
    without_image_check,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubeadm_member import (
    ADOPT,
    FINISH,
    REFUSE,
    RESET,
    RUN,
    UNCHANGED,
    Credentials,
    Decision,
    Observed,
    Wanted,
    advertised_address,
    decide,
    failure_message,
    with_node_ip,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._kubectl import (
    BIN_DIR,
    Answer,
    Kubectl,
    environment,
    find_program,
    is_transient,
    kubeconfig_authority,
    kubeconfig_server,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import (
    Version,
    VersionError,
    finishing_phases,
    joins_etcd_as_voter,
    needs_crictl,
    parse_supported,
    patches_flag,
    writes_apiserver_before_etcd,
)

KUBERNETES = Path("/etc/kubernetes")
STATE = Path("/var/lib/multinic")
MARKER = STATE / "member.json"
ATTEMPT = STATE / "kubeadm-attempt.json"
EXIT_CODE = STATE / "kubeadm-attempt.rc"
PHASE_EXIT_CODE = STATE / "kubeadm-phase.rc"
PKI_BEFORE = STATE / "pki-before"
CREDENTIALS = STATE / "kubeadm-credentials.json"
RUNTIME = Path("/run/multinic-kubeadm")
LOCK = Path("/run/multinic-kubeadm.lock")
LOG = Path("/var/log/multinic-kubeadm.log")
ETCD = Path("/var/lib/etcd")
KUBELET_FLAGS = Path("/var/lib/kubelet/kubeadm-flags.env")
PATIENCE = 60

STATIC_PODS_PHASE = "control-plane-prepare control-plane"

LIFETIME = 2 * 3600
MARGIN = 20 * 60


class KubeadmError(Exception):
    """What went wrong, for the person who has to mend it."""


class Kubeadm:
    """One member on one host."""

    def __init__(self, module: AnsibleModule) -> None:
        self.params: dict[str, Any] = module.params
        self.check_mode: bool = module.check_mode
        self.warnings: list[str] = []
        try:
            self.version: Version = parse_supported(self.params["kubernetes_version"])
        except VersionError as error:
            raise KubeadmError(str(error)) from error
        self.documents: list[dict[str, Any]] = self.with_bundle(self.params["configuration"])
        problems = check(self.documents, self.version)
        if problems:
            raise KubeadmError("kubeadm's configuration is not valid: " + "; ".join(str(item) for item in problems))
        operation: str = self.params["operation"]
        kind = "JoinConfiguration" if operation in ("join", "await") else "InitConfiguration"
        own = [document for document in self.documents if document["kind"] == kind]
        if len(own) != 1:
            raise KubeadmError(f"configuration: exactly one {kind} is needed for this operation, found {len(own)}")
        self.own = own[0]
        registration = self.own["nodeRegistration"]
        self.cri_socket: str = registration["criSocket"]
        self.wanted = Wanted(
            operation="join" if operation == "await" else operation,
            node_name=registration["name"],
            role="worker" if kind == "JoinConfiguration" and "controlPlane" not in self.own else "control_plane",
            kubernetes_version=str(self.version),
            server="https://" + self.params["endpoint"],
            fingerprint=hashlib.sha256(render(self.documents).encode()).hexdigest(),
        )
        self.lock_file: int | None = None

    # The three operations

    def membership(self) -> dict[str, Any]:
        """Make the host a member."""
        result: dict[str, Any] = {"changed": False, "node_name": self.wanted.node_name, "role": self.wanted.role}
        if not self.check_mode and not MARKER.exists():
            self.lock()
        decision = decide(self.wanted, self.observe())
        begun = self.params["operation"] == "await" and not self.check_mode
        if decision.action == REFUSE:
            raise KubeadmError(
                failure_message(decision.reason, self.log(), self.journal())
                if begun and ATTEMPT.exists()
                else decision.reason
            )
        result.update(decision=decision.action, reason=decision.reason)
        if decision.action == UNCHANGED:
            enabled = self.enable_kubelet()
            result["changed"] = self.repair_node_ip(result) or enabled
            return result
        if begun and decision.action in (RUN, RESET) and not is_transient(self.log()):
            raise KubeadmError(
                failure_message(
                    f"kubeadm join did not make this host a member: it ended with code {self.exit_code()} "
                    f"(all of it: {LOG})",
                    self.log(),
                    self.journal(),
                )
            )
        result["changed"] = True
        result["diff"] = self.diff()
        if not self.check_mode:
            result["seconds"] = self.carry_out(decision)
        return result

    def carry_out(self, decision: Decision) -> float:
        """Do what was decided, and write the marker once the host is a member."""
        started = time.monotonic()
        self.need_credentials(decision)
        if decision.action == RESET:
            self.reset()
        if decision.action in (RUN, RESET) and not self.run_kubeadm():
            return 0.0
        if decision.action == FINISH:
            self.finish()
        if decision.action == ADOPT:
            self.enable_kubelet()
            if self.exit_code() != 0:
                self.annotate()
        self.write(MARKER, json.dumps(self.wanted.marker(), indent=2, sort_keys=True) + "\n", 0o644)
        for path in (ATTEMPT, EXIT_CODE, PHASE_EXIT_CODE):
            path.unlink(missing_ok=True)
        try:
            clear(PKI_BEFORE)
        except KubeadmError as error:
            self.warnings.append(f"{error}. It holds keys")
        return round(time.monotonic() - started, 1)

    def credentials(self) -> dict[str, Any]:
        """Return good credentials for joining, and make new ones where there are none."""
        result: dict[str, Any] = {
            "changed": False,
            "node_name": self.wanted.node_name,
            "role": self.wanted.role,
            "token": "",
            "certificate_key": "",
            "ca_certificate": "",
        }
        if not (KUBERNETES / "admin.conf").exists():
            if self.check_mode:
                return {**result, "changed": True}
            raise KubeadmError("this host has no /etc/kubernetes/admin.conf, so it cannot make credentials")
        if not self.check_mode:
            self.lock()
        stored = kept = Credentials.from_mapping(self.read_json(CREDENTIALS) or {})
        now = time.time()
        if not self.check_mode and kept.token_usable(now, MARGIN):
            token_id = kept.token.partition(".")[0]
            kept = kept.confirmed(self.uploads([f"bootstrap-token-{token_id}", "kubeadm-certs"]))
        new_token = not kept.token_usable(now, MARGIN)
        new_key = self.params["for_control_plane"] and not kept.key_usable(now, MARGIN)
        if (new_token or new_key) and not self.check_mode:
            kept = self.renew(kept, new_token, new_key)
        if kept != stored:
            self.write(CREDENTIALS, json.dumps(kept.as_mapping()) + "\n", 0o600)
        authority = (KUBERNETES / "pki" / "ca.crt").read_text()
        return {
            **result,
            "changed": new_token or new_key,
            "token": kept.token,
            "certificate_key": kept.certificate_key,
            "ca_certificate": authority,
        }

    # Looking

    def observe(self) -> Observed:
        """What is on the host, and what the cluster says of it where the marker does not tell."""
        kubelet_conf = KUBERNETES / "kubelet.conf"
        manifests = frozenset(Path(name).stem for name in glob(str(KUBERNETES / "manifests" / "*.yaml")))
        text = kubelet_conf.read_text() if kubelet_conf.exists() else ""
        asked: dict[str, Any] = {}
        marker = self.read_json(MARKER)
        exit_code = self.exit_code()
        if text and marker is None and exit_code != 0 and self.of_this_cluster(text):
            asked = self.ask_cluster(manifests)
        return Observed(
            marker=marker,
            attempt=self.read_json(ATTEMPT),
            exit_code=exit_code,
            kubelet_conf=bool(text),
            admin_conf=(KUBERNETES / "admin.conf").exists(),
            manifests=manifests,
            etcd_data=(ETCD / "member").exists(),
            server=kubeconfig_server(text),
            same_authority=self.same_authority(text),
            **asked,
        )

    def of_this_cluster(self, kubeconfig: str) -> bool:
        """False when a kubeconfig leads to another cluster."""
        return kubeconfig_server(kubeconfig) in ("", self.wanted.server) and self.same_authority(kubeconfig)

    def same_authority(self, kubeconfig: str) -> bool:
        """False when a kubeconfig trusts another authority than the one the join was given."""
        theirs, ours = kubeconfig_authority(kubeconfig), self.params["ca_certificate"]
        if not theirs or not ours:
            return True
        try:
            decoded = base64.b64decode(theirs).decode(errors="replace")
        except ValueError:  # cut short by a power loss: nobody's
            return False
        return decoded.strip() == ours.strip()

    def ask_cluster(self, manifests: frozenset[str]) -> dict[str, Any]:
        """What the cluster knows of this node."""
        admin = KUBERNETES / "admin.conf"
        kubeconfig = admin if admin.exists() else KUBERNETES / "kubelet.conf"
        # The API server of an init is its own, and silent until the init has got that far.
        patience = PATIENCE if self.wanted.operation == "join" and not self.check_mode else 0
        answer = self.kubectl(kubeconfig, ["get", "node", self.wanted.node_name, "-o", "json"], patience=patience)
        node = self.read_answer(answer.out) if answer.good else {}
        labels = node.get("metadata", {}).get("labels", {})
        addons = False
        if self.wanted.operation == "init" and admin.exists():
            names = ["configmap/kubeadm-config", "daemonset/kube-proxy"]
            addons = self.kubectl(admin, ["get", "-n", "kube-system", "-o", "name", *names]).good
        return {
            "answered": not answer.silent,
            "node_registered": bool(node),
            "node_marked": any(f"node-role.kubernetes.io/{name}" in labels for name in ("control-plane", "master")),
            "apiserver_healthy": "kube-apiserver" in manifests and self.apiserver_healthy(),
            "addons": addons,
        }

    @property
    def endpoint(self) -> dict[str, Any]:
        """Where this host's own API server answers."""
        join: dict[str, Any] = self.own.get("controlPlane", {})
        endpoint: dict[str, Any] = self.own.get("localAPIEndpoint") or join.get("localAPIEndpoint", {})
        return endpoint

    def apiserver_healthy(self) -> bool:
        """True when this host's own API server says that it is ready."""
        endpoint = self.endpoint
        try:
            url = f"https://{in_url(endpoint.get('advertiseAddress', '127.0.0.1'))}:{endpoint.get('bindPort', 6443)}/readyz"
            authority = str(KUBERNETES / "pki" / "ca.crt")
            return bool(open_url(url, timeout=20, ca_path=authority, use_proxy=False).status == 200)
        except (OSError, ValueError, SSLValidationError):
            return False

    def etcd_healthy(self) -> bool:
        """True when this host's etcd has a leader."""
        try:
            loopback = _etcd_member.loopback_beside(self.endpoint.get("advertiseAddress", ""))
            url = f"http://{in_url(loopback)}:{_etcd_member.HEALTH_PORT}/health"
            answer = open_url(url, timeout=10, use_proxy=False)
            return str(json.load(answer).get("health")) in ("true", "True")
        except (OSError, ValueError):
            return False

    def uploads(self, names: list[str]) -> dict[str, str]:
        """The resource versions of those secrets of kubeadm's that exist. What is in them is not asked for."""
        columns = "custom-columns=NAME:.metadata.name,VERSION:.metadata.resourceVersion"
        arguments = ["get", "secrets", "-n", "kube-system", "--no-headers", "--ignore-not-found", "-o", columns, *names]
        answer = self.kubectl(KUBERNETES / "admin.conf", arguments, patience=120)
        if not answer.good:
            raise KubeadmError(f"the cluster did not tell which credentials it has: {answer.complaint}")
        return dict(line.split() for line in answer.out.splitlines() if len(line.split()) == 2)

    # Acting

    def lock(self) -> None:
        """Wait until no kubeadm of an earlier run is at work on this host."""
        self.lock_file = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        own = self.params["operation"] == "await"
        given = self.params["lock_timeout"]
        seconds = self.params["timeout"] if own or given is None else given
        give_up = time.monotonic() + seconds
        while True:
            try:
                fcntl.flock(self.lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > give_up:
                    raise KubeadmError(self.at_work(own, seconds)) from None
                time.sleep(0.2)

    def at_work(self, own: bool, seconds: int) -> str:
        """What is told of a kubeadm that does not end."""
        if own:
            return failure_message(
                f"kubeadm join, begun by this run, is still at work after {seconds} s more; it was left alone, and the "
                f"next run waits for it (all of it: {LOG})",
                self.log(),
                self.journal(),
            )
        return (
            f"kubeadm of an earlier run is still at work after {seconds} s; "
            f"see {LOG} on the host, and run this again when it has ended"
        )

    def need_credentials(self, decision: Decision) -> None:
        """A join needs a token; say so before anything is touched."""
        if self.wanted.operation != "join" or decision.action == ADOPT:
            return
        names = ["token", "ca_certificate"] + (["certificate_key"] if self.wanted.role == "control_plane" else [])
        missing = [name for name in names if not self.params[name]]
        if missing:
            raise KubeadmError(
                f"{', '.join(missing)} missing: the first control plane makes them when it takes part in the run. "
                "Limit the run to the joining host and a control plane, not to the joining host alone"
            )

    def run_kubeadm(self, again: bool = True) -> bool:
        """Run init or join; false when it was only begun."""
        operation = self.wanted.operation
        self.keep_pki()
        for path in (EXIT_CODE, PHASE_EXIT_CODE, LOG):
            path.unlink(missing_ok=True)
        self.write(ATTEMPT, json.dumps(self.wanted.attempt(), sort_keys=True) + "\n", 0o600)
        self.write_patches()
        arguments = self.arguments()
        if needs_crictl(self.version) and find_program("crictl", self.params["bin_dir"]) is None:
            self.warnings.append("crictl is not installed, so kubeadm's preflight checks are left out")
            arguments += ["--skip-phases", "preflight"]
        self.enable_kubelet()
        process = self.detached(self.with_etcd_first(arguments) if self.joins_etcd_first() else arguments)
        if not self.params["wait"]:
            return False
        code = self.wait_for(process)
        if code == 0:
            return True
        decision = decide(self.wanted, self.observe())
        if decision.action in (FINISH, ADOPT):
            self.finish()
            return True
        if decision.action != REFUSE and again and operation == "join" and is_transient(self.log()):
            self.warnings.append(f"the first kubeadm join gave up: {self.last_words()}; it was done again")
            self.reset()
            return self.run_kubeadm(again=False)
        raise KubeadmError(
            failure_message(
                f"kubeadm {operation} failed with code {code} (all of it: {LOG})"
                + (f"; {decision.reason}" if decision.action == REFUSE else ""),
                self.log(),
                self.journal(),
            )
        )

    def arguments(self) -> list[str]:
        """The whole command of the init or join."""
        operation = self.wanted.operation
        arguments = [self.program("kubeadm"), operation, "--config", str(self.write_configuration())]
        if operation == "init":
            arguments += ["--upload-certs", "--skip-token-print", "--skip-certificate-key-print"]
            if self.no_dns:
                arguments += ["--skip-phases", "addon/coredns"]
                self.warn(f"the cluster gets no DNS of its own: the bundle holds no CoreDNS ({self.no_dns})")
        return arguments + self.patches_arguments()

    def patches_arguments(self) -> list[str]:
        """Where kubeadm finds its patches, for versions whose configuration does not say it."""
        flag = patches_flag(self.version)
        return [flag, self.params["patches_directory"]] if flag and self.params["patches"] else []

    def joins_etcd_first(self) -> bool:
        """Whether the static pods that need etcd are written by a phase of their own, after etcd has joined."""
        joins = self.wanted.operation == "join" and self.wanted.role == "control_plane"
        return joins and writes_apiserver_before_etcd(self.version)

    def with_etcd_first(self, arguments: list[str]) -> list[str]:
        """The join without the static pods that need etcd, then those."""
        # kubelet watches this folder only if it is there when kubelet starts; otherwise it looks every 20 s.
        (KUBERNETES / "manifests").mkdir(parents=True, exist_ok=True)
        left_out = [STATIC_PODS_PHASE.replace(" ", "/")]
        then = [self.static_pods_arguments()]
        if joins_etcd_as_voter(self.version):
            left_out.append("control-plane-join")
            phases = [self.phase_arguments(phase) for phase in finishing_phases(self.version)]
            then = [self.etcd_member_arguments(), *then, *phases]
        join = [*arguments, "--skip-phases", ",".join(left_out)]
        return ["/bin/sh", "-c", " && ".join(shlex.join(command) for command in (join, *then))]

    def etcd_member_arguments(self) -> list[str]:
        """The command that makes this host's etcd a member, first without a vote. It goes on where it was left."""
        host = in_url(self.own["controlPlane"]["localAPIEndpoint"]["advertiseAddress"])
        document = {
            "apiVersion": self.own["apiVersion"],
            "kind": "InitConfiguration",
            "localAPIEndpoint": self.own["controlPlane"]["localAPIEndpoint"],
            "nodeRegistration": {"name": self.wanted.node_name, "criSocket": self.cri_socket},
            **({"patches": self.own["patches"]} if self.own.get("patches") else {}),
        }
        options = {
            "name": self.wanted.node_name,
            "peer-url": f"https://{host}:2380",
            "config": str(self.write_runtime("etcd.yaml", render([document]))),
            "kubeadm": self.program("kubeadm"),
            "kubectl": self.program("kubectl"),
            "timeout": str(self.params["timeout"]),
        }
        program = self.write_runtime("etcd_member.py", inspect.getsource(_etcd_member))
        return [
            sys.executable,
            str(program),
            *(f"--{name}={value}" for name, value in options.items()),
            *(f"--argument={word}" for word in self.patches_arguments()),
        ]

    def static_pods_arguments(self) -> list[str]:
        """The command that writes the API server's, controller manager's and scheduler's static pods."""
        return [*self.phase_arguments(STATIC_PODS_PHASE), *self.patches_arguments()]

    def phase_arguments(self, phase: str) -> list[str]:
        """The command of one phase of a join."""
        configuration = str(self.write_configuration())
        return [self.program("kubeadm"), "join", "phase", *phase.split(), "--config", configuration]

    def warn(self, text: str) -> None:
        """Tell it with the result, once."""
        if text not in self.warnings:
            self.warnings.append(text)

    def last_words(self) -> str:
        """Why kubeadm gave up, in its own words."""
        errors = [line for line in self.log().splitlines() if line.startswith("error")]
        return errors[-1] if errors else "it said nothing"

    def detached(self, arguments: list[str], exit_code: Path | None = None) -> Detached:
        """Run a command in a session of its own that holds the lock; its code is the whole attempt's unless told."""
        return Detached(
            arguments,
            log=LOG,
            exit_code=exit_code or EXIT_CODE,
            secrets=RUNTIME,
            environment=environment(self.params["bin_dir"]),
            inherit=[self.lock_file] if self.lock_file is not None else [],
        )

    def wait_for(self, process: Detached) -> int:
        """Wait for a detached command, but not for ever."""
        code = process.wait(self.params["timeout"])
        if code is None:
            raise KubeadmError(
                failure_message(
                    f"kubeadm is still at work after {self.params['timeout']} s; it was left alone, and the next run "
                    f"waits for it (all of it: {LOG})",
                    self.log(),
                    self.journal(),
                )
            )
        return code

    def finish(self) -> None:
        """Bring a control plane that is up, or whose etcd already is a member, to its end."""
        self.enable_kubelet()
        if self.joins_etcd_first() and joins_etcd_as_voter(self.version):
            self.finishing("join's etcd member", self.etcd_member_arguments)
        if self.joins_etcd_first() and not (KUBERNETES / "manifests" / "kube-apiserver.yaml").exists():
            self.finishing(f"join phase {STATIC_PODS_PHASE}", self.static_pods_arguments)
        self.wait_until_healthy()
        if self.wanted.operation == "init":
            done = "preflight,certs,kubeconfig,kubelet-start,control-plane,etcd"
            self.finishing("init", lambda: [*self.arguments(), "--skip-phases", done])
        else:
            for phase in finishing_phases(self.version):
                self.finishing(f"join phase {phase}", partial(self.phase_arguments, phase))
        self.annotate()

    def finishing(self, name: str, command: Callable[[], list[str]]) -> None:
        """Run what is left of an init or join, a second and third time where the API server did not answer."""
        for attempt in (1, 2, 3):
            # Not the attempt's code: one phase that ended well makes no whole member.
            code = self.wait_for(self.detached(command(), PHASE_EXIT_CODE))
            if code == 0:
                return
            if attempt == 3 or not is_transient(self.last_words()):
                raise KubeadmError(
                    failure_message(f"kubeadm {name} failed with code {code}", self.log(), self.journal())
                )
            self.wait_until_healthy()

    def wait_until_healthy(self) -> None:
        """Wait for this host's etcd and API server, and help where kubelet refused a static pod."""
        started = time.monotonic()
        restarted = False
        while not (self.etcd_healthy() and self.apiserver_healthy()):
            waited = time.monotonic() - started
            if waited > self.params["timeout"]:
                raise KubeadmError(
                    failure_message(
                        "the first control plane's etcd or API server does not become healthy"
                        if self.wanted.operation == "init"
                        else "this host is an etcd member of the cluster, but its etcd or API server does not become "
                        "healthy. Its etcd was not wiped, for the other members may need it. When they are healthy "
                        "without it, remove the member and run 'kubeadm reset -f' on this host",
                        self.log(),
                        self.journal(),
                    )
                )
            if waited > 30 and not restarted and not self.etcd_healthy():
                # kubelet may have refused the static pod for ever; a restart makes it look again.
                self.command(["systemctl", "restart", "kubelet"])
                restarted = True
            time.sleep(1)

    def annotate(self) -> None:
        """Write down the runtime's socket, which is the last thing a join does and which upgrades read."""
        admin = KUBERNETES / "admin.conf"
        self.kubectl(
            admin if admin.exists() else KUBERNETES / "kubelet.conf",
            [
                "annotate",
                "--overwrite",
                "node",
                self.wanted.node_name,
                f"kubeadm.alpha.kubernetes.io/cri-socket={self.cri_socket}",
            ],
        )

    def reset(self) -> None:
        """Clean up what an earlier attempt of this module left."""
        admin = KUBERNETES / "admin.conf"
        if self.wanted.operation == "join" and admin.exists() and self.of_this_cluster(admin.read_text()):
            # kubeadm refuses to join under the name of a node that still counts as ready.
            words = ["delete", "node", self.wanted.node_name, "--ignore-not-found", "--wait=false"]
            answer = self.kubectl(admin, words, patience=PATIENCE)
            if answer.silent:
                raise KubeadmError(
                    f"what an earlier join left was not cleaned up: {self.wanted.server} did not answer when the node "
                    f"'{self.wanted.node_name}' was to be removed ({answer.complaint}). Nothing was changed; run this "
                    "again when the API server answers"
                )
        try:
            self.command([self.program("kubeadm"), "reset", "-f", "--cri-socket", self.cri_socket], timeout=180)
        except subprocess.TimeoutExpired:
            self.warnings.append("kubeadm reset did not end within 180 s; the rest was cleaned up without it")
        self.command(["systemctl", "stop", "kubelet"])
        if find_program("crictl", self.params["bin_dir"]) is None:
            self.remove_containers()
        for name in (
            "admin.conf",
            "kubelet.conf",
            "bootstrap-kubelet.conf",
            "controller-manager.conf",
            "scheduler.conf",
        ):
            (KUBERNETES / name).unlink(missing_ok=True)
        for manifest in glob(str(KUBERNETES / "manifests" / "*.yaml")):
            Path(manifest).unlink()
        clear(KUBERNETES / "pki")
        clear(ETCD / "member")
        CREDENTIALS.unlink(missing_ok=True)
        if PKI_BEFORE.exists():
            shutil.copytree(PKI_BEFORE, KUBERNETES / "pki", dirs_exist_ok=True)

    def remove_containers(self) -> None:
        """Without crictl kubeadm leaves the static pods' containers running."""
        if find_program("ctr") is None:
            return
        containerd = ["ctr", "--namespace", "k8s.io"]
        for task in self.command([*containerd, "tasks", "list", "-q"])[1].split():
            self.command([*containerd, "tasks", "kill", "--signal", "SIGKILL", task])
            self.command([*containerd, "tasks", "delete", "--force", task])
        for container in self.command([*containerd, "containers", "list", "-q"])[1].split():
            self.command([*containerd, "containers", "delete", container])

    def keep_pki(self) -> None:
        """Keep the certificates the user brought, so that a reset does not lose them."""
        pki = KUBERNETES / "pki"
        if pki.exists() and any(pki.iterdir()) and not PKI_BEFORE.exists() and not ATTEMPT.exists():
            PKI_BEFORE.parent.mkdir(parents=True, exist_ok=True)
            # All or nothing: of a copy that was interrupted a reset would bring back a part.
            copy = PKI_BEFORE.with_name(f"{PKI_BEFORE.name}.new")
            shutil.rmtree(copy, ignore_errors=True)  # there may be none; what stays in the way fails the copy
            shutil.copytree(pki, copy)
            copy.chmod(0o700)
            copy.rename(PKI_BEFORE)

    def renew(self, kept: Credentials, new_token: bool, new_key: bool) -> Credentials:
        """Make what is no longer good."""
        expires = int(time.time()) + LIFETIME
        if new_token:
            kept = dataclasses.replace(kept, token=self.create_token(expires), token_expires=expires)
        if new_key:
            key = secrets.token_hex(32)
            self.upload_certificates(key)
            upload = self.uploads(["kubeadm-certs"]).get("kubeadm-certs", "")
            kept = dataclasses.replace(kept, certificate_key=key, key_expires=expires, upload=upload)
        return kept

    def create_token(self, expires: int) -> str:
        """Make a bootstrap token in the form kubeadm uses, without it ever being on a command line."""
        token = new_token()
        token_id, _dot, secret = token.partition(".")
        manifest = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": f"bootstrap-token-{token_id}", "namespace": "kube-system"},
            "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "description": "Lets hosts of the inventory join.",
                "token-id": token_id,
                "token-secret": secret,
                "expiration": datetime.fromtimestamp(expires, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "usage-bootstrap-authentication": "true",
                "usage-bootstrap-signing": "true",
                "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
            },
        }
        answer = self.kubectl(KUBERNETES / "admin.conf", ["create", "-f", "-"], json.dumps(manifest), patience=120)
        if not answer.good and "already exists" not in answer.err:  # which is so when the first answer got lost
            raise KubeadmError(f"no bootstrap token could be made: {answer.complaint}")
        return token

    def upload_certificates(self, key: str) -> None:
        """Upload the control plane's certificates, encrypted with the key."""
        documents = [
            {**document, "certificateKey": key} if document["kind"] == "InitConfiguration" else document
            for document in self.documents
        ]
        configuration = self.write_runtime("kubeadm.yaml", render(documents))
        code, out = self.command(
            [
                self.program("kubeadm"),
                "init",
                "phase",
                "upload-certs",
                "--upload-certs",
                "--skip-certificate-key-print",
                "--config",
                str(configuration),
            ],
            timeout=120,
        )
        shutil.rmtree(RUNTIME, ignore_errors=True)
        if code != 0:
            raise KubeadmError(failure_message("the certificates could not be uploaded", out, []))

    def write_configuration(self) -> Path:
        """The configuration with its credentials, where only root can read it."""
        if self.wanted.operation == "init":
            now = int(time.time())
            made = Credentials(new_token(), now + LIFETIME, secrets.token_hex(32), now + LIFETIME)
            self.write(CREDENTIALS, json.dumps(made.as_mapping()) + "\n", 0o600)
            hours = f"{LIFETIME // 3600}h0m0s"
            documents = with_init_secrets(self.documents, made.token, hours, made.certificate_key)
        else:
            kubeconfig = self.write_runtime(
                "discovery.conf", discovery_kubeconfig(self.wanted.server, self.params["ca_certificate"])
            )
            documents = with_join_secrets(
                self.documents, self.params["token"], self.params["certificate_key"] or "", str(kubeconfig)
            )
        problems = check(documents, self.version)
        if problems:
            raise KubeadmError("kubeadm's configuration is not valid: " + "; ".join(str(item) for item in problems))
        return self.write_runtime("kubeadm.yaml", render(documents))

    def write_patches(self) -> None:
        """Bring the directory of patches into the wanted state."""
        directory = Path(self.params["patches_directory"])
        patches: dict[str, str] = self.params["patches"]
        if not patches and not directory.exists():
            return
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.iterdir():
            if path.name not in patches and path.is_file():
                path.unlink()
        for name, content in patches.items():
            self.write(directory / Path(name).name, content, 0o644)

    def enable_kubelet(self) -> bool:
        """kubelet starts at boot; returns True when that was not so."""
        if glob("/etc/systemd/system/*.wants/kubelet.service"):
            return False
        if self.check_mode:
            return True
        code, out = self.command(["systemctl", "enable", "kubelet"])
        if code != 0:
            raise KubeadmError(f"kubelet could not be enabled: {out.strip()}")
        return True

    def repair_node_ip(self, result: dict[str, Any]) -> bool:
        """kubelet of a member registers the planned address; returns True when its flags said another."""
        extra = self.own["nodeRegistration"].get("kubeletExtraArgs") or {}
        flags = extra if isinstance(extra, dict) else {item["name"]: item["value"] for item in extra}
        address = flags.get("node-ip")
        if not address or not KUBELET_FLAGS.exists():
            return False
        before = KUBELET_FLAGS.read_text()
        after = with_node_ip(before, address)
        if after == before:
            return False
        manifest = KUBERNETES / "manifests" / "kube-apiserver.yaml"
        advertised = advertised_address(manifest.read_text()) if manifest.exists() else ""
        primary = address.split(",")[0]
        if advertised and advertised != primary:
            self.warn(
                f"the API server of this host advertises {advertised}, the plan says {primary}: kubelet's address was "
                "left as it is, for moving a control plane to another network is not done here"
            )
            return False
        header = str(KUBELET_FLAGS)
        result["diff"] = {"before_header": header, "after_header": header, "before": before, "after": after}
        if not self.check_mode:
            self.write(KUBELET_FLAGS, after, 0o644)
            code, out = self.command(["systemctl", "restart", "kubelet"])
            if code != 0:
                raise KubeadmError(f"kubelet could not be restarted with the address {address}: {out.strip()}")
        return True

    # Small tools

    def diff(self) -> dict[str, str]:
        """The marker and the configuration, neither of which holds a secret."""
        marker = json.dumps(self.wanted.marker(), indent=2, sort_keys=True) + "\n"
        return {
            "before_header": str(MARKER),
            "after_header": f"{MARKER} and kubeadm {self.wanted.operation}",
            "before": "",
            "after": marker + "---\n" + render(self.documents),
        }

    def program(self, name: str) -> str:
        """The path of an installed program."""
        path = find_program(name, self.params["bin_dir"])
        if path is None:
            raise KubeadmError(f"{name} is not installed: run the roles 'bundle' and 'kubernetes' first")
        return path

    def command(self, arguments: list[str], stdin: str = "", timeout: float = 60) -> tuple[int, str]:
        """Run a short command; returns its code and all it said."""
        done = subprocess.run(
            arguments,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout,
            env=environment(self.params["bin_dir"]),
            cwd="/",
        )
        return done.returncode, done.stdout

    def kubectl(self, kubeconfig: Path, arguments: list[str], stdin: str = "", patience: float = 0) -> Answer:
        """Ask the cluster, for so many seconds again while it does not answer."""
        tool = Kubectl(self.program("kubectl"), str(kubeconfig), self.params["bin_dir"])
        return tool.ask(*arguments, stdin=stdin, patience=patience)

    def read_answer(self, text: str) -> dict[str, Any]:
        """An object of the cluster as kubectl tells it."""
        try:
            found = json.loads(text)
        except ValueError as error:
            raise KubeadmError(f"kubectl's answer is no JSON ({error}): {text[:200]!r}") from error
        return found if isinstance(found, dict) else {}

    def exit_code(self) -> int | None:
        """With what kubeadm of the last attempt ended, if it has."""
        text = EXIT_CODE.read_text().strip() if EXIT_CODE.exists() else ""
        return int(text) if text.isdigit() else None

    def with_bundle(self, documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The configuration for the images that the bundle has, and for those that it lacks."""
        manifest = self.read_json(Path(self.params["bundle_manifest"])) or {}
        repository = str(manifest.get("image_repository") or "")
        # Another repository than the bundle's may have what the bundle lacks.
        elsewhere = any(document.get("imageRepository") not in (None, "", repository) for document in documents)
        self.no_dns = "" if elsewhere else missing_dns(manifest)
        documents = with_image_repository(documents, repository)
        return without_image_check(documents) if self.no_dns else documents

    def log(self) -> str:
        """What kubeadm said."""
        return LOG.read_text(errors="replace") if LOG.exists() else ""

    def journal(self) -> list[str]:
        """What kubelet said last."""
        try:
            return self.command(["journalctl", "-u", "kubelet", "-n", "300", "--no-pager", "-o", "cat"], timeout=20)[
                1
            ].splitlines()
        except (OSError, subprocess.TimeoutExpired):
            return []

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """A file of ours; one that cannot be read as such counts as absent, except the marker."""
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except ValueError:
            data = None
        if isinstance(data, dict):
            return data
        if path == MARKER:
            raise KubeadmError(f"{path} is damaged: it holds no JSON object. Delete it and run this again")
        return None

    def write(self, path: Path, content: str, mode: int) -> None:
        """Write a file so that it is either the old or the new one, even after a power loss."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(path.name + ".new")
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        new.chmod(mode)
        new.replace(path)
        sync_folder(path.parent)

    def write_runtime(self, name: str, content: str) -> Path:
        """Write a file into the directory that is deleted when kubeadm has ended."""
        RUNTIME.mkdir(mode=0o700, exist_ok=True)
        RUNTIME.chmod(0o700)
        path = RUNTIME / name
        self.write(path, content, 0o600)
        return path


def sync_folder(folder: Path) -> None:
    """A name in a folder is there after a power loss only if the folder was written too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def new_token() -> str:
    """A random bootstrap token: six and sixteen characters of a-z and 0-9."""
    alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
    text = "".join(secrets.choice(alphabet) for _position in range(22))
    return f"{text[:6]}.{text[6:]}"


def clear(folder: Path) -> None:
    """Remove a folder; one that is a mount point stays, empty. KubeadmError where something is left in it."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if folder.exists() and any(folder.iterdir()):
            raise KubeadmError(
                f"{folder} could not be cleared of what an earlier attempt left: {error}. See what holds it (findmnt, "
                "lsattr, fuser), remove what is in it and run again"
            ) from error


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "operation": {"type": "str", "choices": ["init", "join", "await", "credentials"], "required": True},
            "configuration": {"type": "list", "elements": "dict", "required": True},
            "kubernetes_version": {"type": "str", "required": True},
            "endpoint": {"type": "str", "required": True},
            "token": {"type": "str", "no_log": True},
            "certificate_key": {"type": "str", "no_log": True},
            "ca_certificate": {"type": "str"},
            "patches": {"type": "dict", "default": {}},
            "patches_directory": {"type": "path", "default": "/var/lib/multinic/patches"},
            "for_control_plane": {"type": "bool", "default": True},
            "bundle_manifest": {"type": "path", "default": "/var/lib/multinic/bundle/current/manifest.json"},
            "bin_dir": {"type": "path", "default": BIN_DIR},
            "wait": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 900},
            "lock_timeout": {"type": "int"},
        },
        supports_check_mode=True,
    )
    try:
        member = Kubeadm(module)
        result = member.credentials() if module.params["operation"] == "credentials" else member.membership()
    except KubeadmError as error:
        module.fail_json(msg=str(error))
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(msg=f"kubeadm could not be run: {error}")
    except ValueError as error:
        module.fail_json(msg=f"a file of this host, or an answer of the cluster, could not be read: {error}")
    for warning in member.warnings:
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
