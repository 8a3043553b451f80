# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let these tests import the collection from a checkout; one Chromium for all of them, and a folder for screenshots."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / ".collections"))

from ansible_collections.multinic.kubernetes.tests.page.browser import Browser, chromium


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where the pages and their screenshots are left, to be looked at."""
    folder = Path(os.environ.get("MULTINIC_CACHE") or "/var/cache/multinic-kubernetes") / "page"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
