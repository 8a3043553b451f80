# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle can do without a program whose modules could not be had, not without one that failed to build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import DownloadError, Source, Workshop
from ansible_collections.multinic.kubernetes.plugins.modules import bundle_build_binary


class EndError(Exception):
    """What the module said last."""

    def __init__(self, failed: bool, result: dict[str, Any]) -> None:
        super().__init__(str(result))
        self.failed = failed
        self.result = result


def build(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str, problem: Exception) -> EndError:
    class Module:
        check_mode = False

        def __init__(self, **_specification: Any) -> None:
            self.params = {
                "directory": str(folder),
                "progress_log": "",
                "extras": str(folder),
                "host_packages": [],
                "kubernetes_version": "",
                "name": name,
            }

        def warn(self, text: str) -> None:
            assert name in text

        def fail_json(self, **result: Any) -> None:
            raise EndError(True, result)

        def exit_json(self, **result: Any) -> None:
            raise EndError(False, result)

    def fails(self: Workshop, name: str, source: Source) -> None:
        raise problem

    monkeypatch.setattr(bundle_build_binary, "AnsibleModule", Module)
    monkeypatch.setattr(Workshop, "source", lambda self: Source("1.20.5+really1.20.2-1", 1))
    monkeypatch.setattr(Workshop, "build_binary", fails)
    with pytest.raises(EndError) as ended:
        bundle_build_binary.main()
    return ended.value


def test_a_module_that_cannot_be_had_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended = build(monkeypatch, tmp_path, "coredns", DownloadError("the proxy is\n away"))
    assert not ended.failed
    assert ended.result["missing"] == {"name": "coredns", "reason": "the proxy is away"}


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("coredns", BundleError("it does not compile")),
        ("crictl", OSError("no space left")),
        ("kubeadm", DownloadError("the proxy is away")),
    ],
)
def test_whatever_else_goes_wrong_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, problem: Exception
) -> None:
    ended = build(monkeypatch, tmp_path, name, problem)
    assert ended.failed
    assert str(problem) in ended.result["msg"]
