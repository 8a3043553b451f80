# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bundle of Go modules: which folder, which Go, and what a part is named by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import Workshop
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build_modules import (
    ModuleWorkshop,
    workshop_of,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_recipe import ModuleRecipe

GO_MOD = "module k8s.io/kubernetes\n\ngo 1.24.0\n\nreplace k8s.io/api => ./staging/src/k8s.io/api\n"


def params(folder: Path, version: str) -> dict[str, Any]:
    return {
        "directory": str(folder),
        "progress_log": None,
        "extras": str(folder),
        "host_packages": [],
        "kubernetes_version": version,
    }


class Modules:
    """What `go mod download` brings, from a folder instead of a proxy."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "fetched"
        (self.folder / "tree").mkdir(parents=True)
        (self.folder / "mod").write_text(GO_MOD, encoding="utf-8")
        (self.folder / "info").write_text(json.dumps({"Time": "2026-02-10T12:53:36Z"}), encoding="utf-8")
        self.asked: list[str] = []
        self.away = False

    def run(self, argv: Any, *_more: Any, **_options: Any) -> str:
        self.asked.append(" ".join(map(str, argv[1:])))
        if self.away:
            raise BundleError("404 Not Found")
        places = {"GoMod": "mod", "Info": "info", "Dir": "tree"}
        return json.dumps({"Sum": "h1:abc=", **{key: str(self.folder / name) for key, name in places.items()}})


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    return Modules(tmp_path)


@pytest.fixture
def workshop(tmp_path: Path, modules: Modules, monkeypatch: pytest.MonkeyPatch) -> ModuleWorkshop:
    (tmp_path / "build").mkdir()
    made = ModuleWorkshop(tmp_path / "build", version="v1.34.4")
    go = ("/usr/local/go/bin/go", "go1.26.8")
    monkeypatch.setattr(made, "_go", go)
    monkeypatch.setattr(made, "run", modules.run)
    # The machine that tests need not have such a Go.
    monkeypatch.setattr(made, "_chosen_go", lambda: made._go or go)
    return made


def test_the_version_chooses_the_builder(tmp_path: Path) -> None:
    made, _host = workshop_of(params(tmp_path, "1.34.4"))
    assert isinstance(made, ModuleWorkshop) and made.version == "v1.34.4"
    for version in ("", "v1.20.2"):
        made, _host = workshop_of(params(tmp_path, version))
        assert isinstance(made, Workshop) and not isinstance(made, ModuleWorkshop)
    with pytest.raises(BundleError, match=r"no recipe for a bundle of v1\.25\.0"):
        workshop_of(params(tmp_path, "v1.25.0"))


def test_the_module_is_asked_for_once(workshop: ModuleWorkshop, modules: Modules) -> None:
    source, changed = workshop.fetch_source()
    assert changed
    assert (source.kubernetes_version, source.epoch) == ("v1.34.4", 1770728016)
    assert workshop.fetch_source() == (source, False)
    assert modules.asked == ["mod download -json k8s.io/kubernetes@v1.34.4"]


def test_another_versions_source_is_not_this_ones(workshop: ModuleWorkshop, tmp_path: Path) -> None:
    workshop.fetch_source()
    assert ModuleWorkshop(tmp_path / "build", version="v1.35.4").source() is None


def test_a_version_that_is_not_served_is_told(workshop: ModuleWorkshop, modules: Modules) -> None:
    modules.away = True
    with pytest.raises(BundleError, match=r"does not serve k8s\.io/kubernetes@v1\.34\.4(.|\n)*404 Not Found"):
        workshop.fetch_source()
    assert workshop.source() is None


def test_another_go_makes_other_programs(workshop: ModuleWorkshop) -> None:
    source, _changed = workshop.fetch_source()
    before = {name: workshop.binary_key(name, source) for name in workshop.binaries}
    workshop._go = ("/usr/local/go/bin/go", "go1.27.3")
    same = {name for name in workshop.binaries if workshop.binary_key(name, source) == before[name]}
    assert same == {"pause"}  # gcc makes it
    assert len(set(before.values())) == len(before)


def test_folders_of_the_same_repository_are_taken_as_published(workshop: ModuleWorkshop, tmp_path: Path) -> None:
    text = "module go.etcd.io/etcd/server/v3\n\nreplace (\n\tgo.etcd.io/etcd/api/v3 => ../api\n\ta.b/c => d.e/f v1.0.0\n)\n"
    (tmp_path / "go.mod").write_text(text, encoding="utf-8")
    what = ModuleRecipe(module="go.etcd.io/etcd/server/v3", version="v3.6.5", require=("x.y/z@v1.0.0",))
    assert workshop.module_edits(tmp_path, what) == ["-require=x.y/z@v1.0.0", "-dropreplace=go.etcd.io/etcd/api/v3"]
