# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts of the benchmarks: a shell in network, name and mount namespaces of its own."""

from __future__ import annotations

import os
import subprocess
import time


def unshared(script: str) -> subprocess.Popen[bytes]:
    """Begin a host; returned as soon as its network namespace is there, so that cards can be put into it."""
    process = subprocess.Popen(
        ["unshare", "--net", "--uts", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
    )
    own = os.readlink("/proc/self/ns/net")
    while True:
        try:
            if os.readlink(f"/proc/{process.pid}/ns/net") != own:
                return process
        except OSError:  # it does not run yet
            pass
        assert process.poll() is None, "the host has ended before it had begun"
        time.sleep(0.01)
