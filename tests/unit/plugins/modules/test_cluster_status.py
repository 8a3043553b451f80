# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the module measures itself, on this machine's own loopback; the rest is the end-to-end tests' to show."""

from __future__ import annotations

import os

import pytest

from ansible_collections.multinic.kubernetes.plugins.modules import cluster_status as module


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may send echo requests")
@pytest.mark.parametrize(("echo", "address"), list(zip(module.ECHOES, ["127.0.0.1", "::1"])))
def test_echo_of_each_family(echo: module.Echo, address: str) -> None:
    assert module.ping(echo, [address], 56) == {address}
    mtu = min(module.mtu_of("lo"), 65535)  # IPv4's largest packet
    assert module.ping(echo, [address], mtu - echo.overhead) == {address}
    assert module.ping(echo, [address], mtu - echo.overhead + 16) == set()
