# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Commands that outlive the module that started them.

AnsibleModule.run_command() waits for its command and takes it along when it dies. What must not be torn in the middle,
such as a member joining etcd, runs here instead: as the leader of its own session, with its output in a file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

# Whatever becomes of the module: the command's exit code is kept, and the folder with its secrets is deleted. The code
# is on the disk before it has its name, and its name before the lock is given back: it survives a power loss.
_SUPERVISOR = (
    '"$@"; rc=$?; rm -rf "$MULTINIC_SECRETS"; echo "$rc" >"$MULTINIC_RC.new"; sync "$MULTINIC_RC.new"; '
    'mv "$MULTINIC_RC.new" "$MULTINIC_RC"; sync "${MULTINIC_RC%/*}"; exit "$rc"'
)


class Detached:
    """A command that goes on without us."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        log: Path,
        exit_code: Path,
        secrets: Path,
        environment: Mapping[str, str],
        inherit: Sequence[int] = (),
    ) -> None:
        """Start it. Its output is appended to log; it inherits file descriptors, such as one that holds a lock."""
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w") as output:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _SUPERVISOR, "multinic", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**environment, "MULTINIC_SECRETS": str(secrets), "MULTINIC_RC": str(exit_code)},
                cwd="/",
                start_new_session=True,
                pass_fds=inherit,
            )

    def wait(self, seconds: float) -> Optional[int]:
        """Its exit code, or None when it is still at work after that many seconds."""
        try:
            return self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return None
