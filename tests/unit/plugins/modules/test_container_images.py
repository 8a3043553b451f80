# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import subprocess
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._images import ImagesError
from ansible_collections.multinic.kubernetes.plugins.modules import container_images


def test_an_import_in_the_background_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = tmp_path / "unit"
    monkeypatch.setattr(container_images, "UNIT_FILE", unit)
    container_images.await_background(0)
    unit.touch()
    with pytest.raises(ImagesError, match=container_images.UNIT):
        container_images.await_background(0)
    end = threading.Timer(0.4, unit.unlink)
    began = time.monotonic()
    end.start()
    container_images.await_background(60)
    assert 0.3 < time.monotonic() - began < 30
    end.join()


def test_in_the_background_every_archive_is_tried_with_the_same_socket(tmp_path: Path) -> None:
    program, log = tmp_path / "ctr", tmp_path / "log"
    program.write_text(f'#!/bin/sh\necho "$*" >> {log}\nexit 1\n', encoding="utf-8")
    program.chmod(0o755)
    subprocess.run(
        ["/bin/sh", "-c", container_images.ONE_AFTER_THE_OTHER, str(program), "/a b.tar", "/c.tar"],
        env={"ADDRESS": "/run/c.sock", "NAMESPACE": "k8s.io"},
        check=False,
    )
    expected = "--address /run/c.sock --namespace k8s.io images import"
    assert log.read_text(encoding="utf-8").splitlines() == [f"{expected} /a b.tar", f"{expected} /c.tar"]
