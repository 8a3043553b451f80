# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Asking the cluster with kubectl: how the command is built, which failures may pass, and a thin runner.

kubectl is started by its absolute path, for sudo's secure_path may lack the folder it is in. What it answers and what it
complains of are kept apart, for a warning in between is no JSON.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable, Optional

BIN_DIR = "/usr/local/bin"
"""Where the role kubernetes puts its programs unless told otherwise."""

PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/bin")

REQUEST_SECONDS = 20
COMMAND_SECONDS = 60

_TRANSIENT = re.compile(
    r"connection refused|was refused - did you specify|Unable to connect to the server|connection reset|i/o timeout"
    r"|TLS handshake timeout|context deadline exceeded|unexpected EOF|server is currently unable to handle the request"
    r"|Client\.Timeout exceeded|etcdserver: (?:request timed out|leader changed|too many learner|unhealthy cluster"
    r"|re-configuration failed due to not enough started members)"
    r"|no route to host|etcd cluster is not healthy|timeout waiting for etcd cluster",
    re.IGNORECASE,
)
_COMPLAINT = re.compile(
    r"[Ee]rror|.*error execution phase|The connection to the server|Unable to connect to the server"
)
_NOISE = re.compile(r"[EWI]\d{4} |Warning: ")
_LASTING = re.compile(r"\bx509: ")


def is_transient(log: str) -> bool:
    """True when kubeadm or kubectl gave up because the API server or etcd did not answer in time, which may pass."""
    return any(
        _TRANSIENT.search(line) and not _LASTING.search(line) for line in log.splitlines() if _COMPLAINT.match(line)
    )


def search_path(bin_dir: str = "") -> str:
    """The folders that programs are looked for in, as PATH has them: the given one, then the usual ones."""
    return os.pathsep.join(dict.fromkeys(place for place in (bin_dir, *PLACES) if place))


def environment(bin_dir: str = "") -> dict[str, str]:
    """All that a program is told of its surroundings: no proxy, no language, no KUBECONFIG of somebody's session."""
    return {"PATH": search_path(bin_dir), "HOME": "/root", "LANG": "C.UTF-8"}


def command(program: str, kubeconfig: str, arguments: Sequence[str], request_seconds: int) -> list[str]:
    """The whole command; 0 seconds let a request take as long as the command may."""
    return [program, f"--kubeconfig={kubeconfig}", f"--request-timeout={request_seconds}s", *arguments]


def kubeconfig_server(text: str) -> str:
    """The API server a kubeconfig names, or ""."""
    found = re.search(r"""^\s*["']?server["']?:\s*["']?(https?://[^\s"',]+)""", text, re.MULTILINE)
    return found.group(1) if found else ""


def kubeconfig_authority(text: str) -> str:
    """The certificate authority data of a kubeconfig as it is written there, or ""."""
    found = re.search(r"""^\s*["']?certificate-authority-data["']?:\s*["']?([A-Za-z0-9+/=]+)""", text, re.MULTILINE)
    return found.group(1) if found else ""


class NoKubectlError(Exception):
    """There is no kubectl on the host."""


@dataclass(frozen=True)
class Answer:
    """What kubectl ended with."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def good(self) -> bool:
        return self.code == 0

    @property
    def silent(self) -> bool:
        """True when there was no answer of the cluster; a refusal is an answer."""
        return not self.good and is_transient(self.err)

    @property
    def complaint(self) -> str:
        """Why it failed, in kubectl's words."""
        lines = self.err.strip().splitlines()
        return (
            "\n".join(line for line in lines if not _NOISE.match(line))
            or self.err.strip()
            or self.out.strip()
            or f"kubectl ended with code {self.code} and said nothing"
        )


def run(words: Sequence[str], stdin: str, seconds: float, bin_dir: str) -> Answer:
    """Run a command, but not for ever."""
    try:
        done = subprocess.run(
            list(words),
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=seconds,
            env=environment(bin_dir),
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return Answer(1, err=f"error: i/o timeout, kubectl got no answer within {seconds:g} s")
    return Answer(done.returncode, done.stdout, done.stderr)


def find_program(name: str, bin_dir: str = "") -> Optional[str]:
    """The absolute path of an installed program, or nothing."""
    return shutil.which(name, path=search_path(bin_dir))


def find_kubectl(bin_dir: str = "") -> str:
    """The absolute path of kubectl, or a NoKubectlError that tells where it was looked for."""
    program = find_program("kubectl", bin_dir)
    if program is None:
        places = search_path(bin_dir).replace(os.pathsep, ", ")
        raise NoKubectlError(
            f"kubectl is not on this host (looked for in {places}). Run the roles bundle and kubernetes first; where "
            "kubernetes_bin_dir is set, it has to be so for all roles"
        )
    return program


class Kubectl:
    """kubectl with one kubeconfig."""

    def __init__(
        self,
        program: str,
        kubeconfig: str,
        bin_dir: str = "",
        *,
        runner: Callable[[Sequence[str], str, float, str], Answer] = run,
        pause: float = 1,
    ) -> None:
        self.program = program
        self.kubeconfig = kubeconfig
        self.bin_dir = bin_dir
        self._run = runner
        self._pause = pause

    def ask(
        self,
        *arguments: str,
        stdin: str = "",
        patience: float = 0,
        request_seconds: int = REQUEST_SECONDS,
        seconds: float = COMMAND_SECONDS,
    ) -> Answer:
        """Ask the cluster, again for so many seconds of patience while it does not answer."""
        give_up = time.monotonic() + patience
        words = command(self.program, self.kubeconfig, arguments, request_seconds)
        while True:
            answer = self._run(words, stdin, seconds, self.bin_dir)
            if not answer.silent or time.monotonic() >= give_up:
                return answer
            time.sleep(self._pause)
