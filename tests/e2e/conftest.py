# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab per inventory; its hosts are stopped and their state removed at the end, also after a failure.

``MULTINIC_KEEP_LAB=1`` leaves them running to be looked at; ``playbooks/lab.yml -e lab_state=absent`` removes them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest
from harness import REPOSITORY, Lab

# What a test builds itself is built by the collection's own code.
sys.path.insert(0, str(REPOSITORY / ".collections"))


def _lab(inventory: str, name: str) -> Iterator[Lab]:
    lab = Lab(inventory, name)
    try:
        lab.fresh()
        yield lab
    finally:
        if not os.environ.get("MULTINIC_KEEP_LAB"):
            lab.remove()


@pytest.fixture(scope="module")
def seed_lab() -> Iterator[Lab]:
    """The seed's situation 1: same card names, no gateway on the cluster network."""
    yield from _lab("lab", "e2e")


@pytest.fixture
def gateway_lab() -> Iterator[Lab]:
    """The seed's situation 2: card names differ, the cluster network has a gateway."""
    yield from _lab("lab-gateway", "e2e-gateway")


@pytest.fixture
def no_gateway_lab() -> Iterator[Lab]:
    """The seed's situation 3: card names differ, no gateway."""
    yield from _lab("lab-no-gateway", "e2e-no-gateway")
