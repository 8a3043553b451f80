# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks the API proxy of this host for its state.

This module util is PRIVATE to the collection.
"""

from __future__ import annotations

import socket

from ansible_collections.multinic.kubernetes.plugins.module_utils._balancer_modes import STATUS_SOCKET


def proxy_status(seconds: float) -> str:
    """What haproxy answers to `show stat`, as comma-separated lines; OSError if it does not within the seconds."""
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(seconds)
        stream.connect(STATUS_SOCKET)
        stream.sendall(b"show stat\n")
        return b"".join(iter(lambda: stream.recv(65536), b"")).decode(errors="replace")
