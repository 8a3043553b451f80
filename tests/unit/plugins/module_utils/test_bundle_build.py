# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError, Missing
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import DownloadError, Made, Workshop
from ansible_collections.multinic.kubernetes.plugins.plugin_utils._bundle_file import check_sha256, read_manifest

ONE, TWO = "1" * 16, "2" * 16
HOST = ["ipvsadm"]


@pytest.fixture
def workshop(tmp_path: Path, repository: Path) -> Workshop:
    (tmp_path / "build").mkdir()
    return Workshop(tmp_path / "build", tmp_path / "progress.log", repository / "roles/bundle_build/files")


def writes(text: str, **facts: Any) -> Any:
    def build(target: Path) -> Mapping[str, Any]:
        target.write_text(text, encoding="utf-8")
        return facts

    return build


def test_what_is_kept_is_there_under_its_inputs(workshop: Workshop) -> None:
    made = workshop.keep("binary", "tool", ONE, writes("x", version="1", images=("a:b",)))
    assert workshop.made("binary", "tool", ONE) == made
    assert (made.sha256, made.size) == (hashlib.sha256(b"x").hexdigest(), 1)
    assert Path(made.path).read_text(encoding="utf-8") == "x"
    assert workshop.made("binary", "tool", TWO) is None
    assert workshop.made("image", "tool", ONE) is None


def test_only_the_newest_is_kept(workshop: Workshop) -> None:
    workshop.keep("binary", "tool", ONE, writes("x"))
    workshop.keep("binary", "tool-two", ONE, writes("x"))
    workshop.keep("binary", "tool", TWO, writes("y"))
    names = sorted(path.name for path in (workshop.directory / "parts/binary").iterdir())
    assert names == [f"tool-{TWO}", f"tool-two-{ONE}"]


def test_a_damaged_part_is_not_there(workshop: Workshop) -> None:
    made = workshop.keep("binary", "tool", ONE, writes("x"))
    Path(made.path).write_text("longer", encoding="utf-8")
    assert workshop.made("binary", "tool", ONE) is None


def test_a_failed_build_leaves_nothing_but_the_old(workshop: Workshop) -> None:
    def fails(target: Path) -> Mapping[str, Any]:
        target.write_text("half", encoding="utf-8")
        raise BundleError("no")

    workshop.keep("binary", "tool", ONE, writes("x"))
    (workshop.directory / "parts/binary/.tool-killed").mkdir()
    with pytest.raises(BundleError):
        workshop.keep("binary", "tool", TWO, fails)
    assert [path.name for path in (workshop.directory / "parts/binary").iterdir()] == [f"tool-{ONE}"]


def test_a_command_that_fails_shows_its_last_lines(workshop: Workshop) -> None:
    with pytest.raises(BundleError) as caught, workshop.step("a step"):
        workshop.run(["sh", "-c", "seq 100; echo why >&2; exit 3"])
    told = str(caught.value)
    assert told.startswith("a step: 'sh -c")
    assert "ended with 3" in told
    assert told.endswith("100\nwhy")
    assert "\n1\n" not in told
    assert "\n1\n" in (workshop.directory / "build.log").read_text(encoding="utf-8")
    assert workshop.progress is not None
    assert "a step: failed after 0 s" in workshop.progress.read_text(encoding="utf-8")


def test_a_command_that_hangs_is_told(workshop: Workshop) -> None:
    with pytest.raises(BundleError, match="did not end within 1 s"):
        workshop.run(["sleep", "20"], limit=1)


def test_commands_are_run_where_and_with_what_they_are_told(workshop: Workshop, tmp_path: Path) -> None:
    assert workshop.run(["sh", "-c", "echo $PWD $X; nice"], cwd=tmp_path, environment={"X": "y"}).split() == [
        str(tmp_path),
        "y",
        str(min(19, os.nice(0) + 10)),
    ]


def test_in_an_empty_folder_all_is_still_to_be_built(workshop: Workshop) -> None:
    plan = workshop.plan(HOST)
    assert plan["source"] is True
    assert plan["packages"] is True
    assert plan["binaries"] == list(recipe.BINARIES)
    assert plan["images"] == list(recipe.IMAGES)
    assert workshop.unfinished(HOST)


def test_nothing_is_built_without_kubeadms_word(workshop: Workshop) -> None:
    with pytest.raises(BundleError, match="not fetched yet"):
        workshop.manifest(HOST)


# A whole bundle, of programs of which only kubeadm does something: print its list, as the real one does.
KUBEADM = "#!/bin/sh\nprintf 'k8s.gcr.io/%s\\n' kube-proxy:v1.20.2 pause:3.2 coredns:1.7.0\n"


@pytest.fixture
def stocked(workshop: Workshop) -> Workshop:
    place = workshop.directory / "source"
    place.mkdir()
    (place / "kubernetes.dsc").write_text("", encoding="utf-8")
    facts = {"version": "1.20.5+really1.20.2-1", "epoch": 1610544489, "dsc": "kubernetes.dsc"}
    (place / "record.json").write_text(json.dumps(facts), encoding="utf-8")
    packages = workshop.directory / "apt/packages"
    packages.mkdir(parents=True)
    (packages / "ipvsadm_1%3a1.31-1_amd64.deb").write_text("deb", encoding="utf-8")
    package = {
        "name": "ipvsadm",
        "version": "1:1.31-1",
        "architecture": "amd64",
        "file": "ipvsadm_1%3a1.31-1_amd64.deb",
    }
    record = {"key": workshop._packages_key(HOST), "sets": {"host": [package]}}
    (packages / "record.json").write_text(json.dumps(record), encoding="utf-8")
    for name in ("kubeadm", "kubelet", "kubectl", "kube-proxy", "pause"):
        store(workshop, name, KUBEADM if name == "kubeadm" else name)
    return workshop


def store(workshop: Workshop, name: str, text: str) -> Made:
    source = workshop.source()
    assert source is not None
    made = workshop.keep("binary", name, workshop.binary_key(name, source), writes(text, version="1", origin=name))
    Path(made.path).chmod(0o755)
    return made


def build_images(workshop: Workshop) -> dict[str, bool]:
    source = workshop.source()
    assert source is not None
    return {name: workshop.build_image(name, source, HOST)[1] for name in ("kube-proxy", "pause", "coredns")}


def test_a_bundle_is_written_once_and_can_be_read(stocked: Workshop, tmp_path: Path) -> None:
    assert build_images(stocked) == {"kube-proxy": True, "pause": True, "coredns": False}
    assert build_images(stocked) == {"kube-proxy": False, "pause": False, "coredns": False}
    missing = [Missing("coredns", "the proxy is away"), Missing("calico", "not in Debian")]
    shelf = tmp_path / "bundle"
    assert stocked.write(shelf, HOST, missing, 1, check=True)[3] is True
    assert not shelf.exists()
    manifest, path, sha256, changed = stocked.write(shelf, HOST, missing, 1)
    assert changed
    assert path == shelf / "kubernetes-v1.20.2-debian12-amd64.tar.gz"
    assert check_sha256(path) == check_sha256(shelf / "lab.tar.gz") == sha256
    assert read_manifest(shelf / "lab.tar.gz") == manifest.as_dict()
    assert {item.name: item.reason for item in manifest.missing} == {
        "coredns": "the proxy is away",
        "calico": "not in Debian",
        "k8s.gcr.io/coredns:1.7.0": "the proxy is away",
        "crictl": "it is not built",
    }
    paths = [part.path for part in manifest.parts]
    assert paths == [
        "bin/kubeadm",
        "bin/kubectl",
        "bin/kubelet",
        "images/kube-proxy.tar",
        "images/pause.tar",
        "packages/debian-12/ipvsadm_1.31-1_amd64.deb",
    ]
    with tarfile.open(path) as archive:
        assert archive.getnames() == ["manifest.json", *paths]
    before = path.read_bytes()
    assert stocked.write(shelf, HOST, missing, 1)[2:] == (sha256, False)
    path.unlink()
    assert stocked.write(shelf, HOST, missing, 1)[2:] == (sha256, True)
    assert path.read_bytes() == before


def test_another_program_makes_another_image(stocked: Workshop) -> None:
    build_images(stocked)
    crictl_less = stocked.plan(HOST)
    assert "kube-proxy" not in crictl_less["images"]
    store(stocked, "coredns", "coredns")
    assert build_images(stocked) == {"kube-proxy": False, "pause": False, "coredns": True}


def test_a_bundle_is_not_written_without_a_needed_image(stocked: Workshop, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"the image k8s\.gcr\.io/kube-proxy:v1\.20\.2 is not built yet"):
        stocked.write(tmp_path / "bundle", HOST, [], 1)
    assert not (tmp_path / "bundle").exists()


class Go:
    """Go, of which one command fails: `go mod download` brings a module that has a plugin.cfg."""

    def __init__(self, folder: Path, failing: str) -> None:
        self.failing = failing
        self.ran: list[tuple[str, bool]] = []
        self.module = folder / "module"
        self.module.mkdir()
        names = [*recipe.MODULES["coredns"].without_plugins, "hosts"]
        (self.module / "plugin.cfg").write_text("".join(f"{name}:{name}\n" for name in names), encoding="utf-8")

    def run(self, argv: Any, environment: Mapping[str, str]) -> str:
        words = " ".join(map(str, argv[1:]))
        self.ran.append((words, environment.get("GOPROXY") == "off"))
        if self.failing and words.startswith(self.failing):
            raise BundleError(f"go {words} ended with 1")
        if words.startswith("build"):
            Path(argv[argv.index("-o") + 1]).write_text("coredns", encoding="utf-8")
        return json.dumps({"Dir": str(self.module)})


@pytest.fixture
def go(stocked: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Go:
    fake = Go(tmp_path, "")
    real = stocked.run

    def run(argv: Any, cwd: Any = None, environment: Any = None, limit: int = 1800) -> str:
        return fake.run(argv, environment) if argv[0] == recipe.GO else real(argv, cwd, environment, limit)

    monkeypatch.setattr(stocked, "run", run)
    return fake


def build_coredns(workshop: Workshop) -> Made:
    source = workshop.source()
    assert source is not None
    return workshop.build_binary("coredns", source)[0]


def test_after_the_modules_are_there_nothing_asks_the_network(stocked: Workshop, go: Go) -> None:
    assert build_coredns(stocked).version == "v1.7.0"
    asking = [words.split(" -")[0] for words, offline in go.ran if not offline]
    assert asking == ["mod download", "list", "list"]
    assert go.ran[-1][0].startswith("build")


@pytest.mark.parametrize("failing", ["mod download", "list -m all", "list -deps"])
def test_modules_that_cannot_be_had_are_told_apart(stocked: Workshop, go: Go, failing: str) -> None:
    go.failing = failing
    with pytest.raises(DownloadError, match=failing):
        build_coredns(stocked)


@pytest.mark.parametrize("failing", ["mod edit", "run directives_generate.go", "build"])
def test_what_fails_with_all_modules_there_is_no_download(stocked: Workshop, go: Go, failing: str) -> None:
    go.failing = failing
    with pytest.raises(BundleError, match=failing) as caught:
        build_coredns(stocked)
    assert not isinstance(caught.value, DownloadError)


def test_a_changed_plugin_list_is_no_download(stocked: Workshop, go: Go) -> None:
    (go.module / "plugin.cfg").write_text("hosts:hosts\n", encoding="utf-8")
    with pytest.raises(BundleError) as caught:
        build_coredns(stocked)
    assert not isinstance(caught.value, DownloadError)


def test_what_only_building_needs_is_removed(stocked: Workshop) -> None:
    stocked.tree.mkdir(parents=True)
    assert stocked.tidy()
    assert not stocked.tidy()
    assert not (stocked.directory / "go").exists()
    assert stocked.source() is not None
    assert stocked.packages(HOST) is not None


def test_a_bundle_that_is_not_the_labs_leaves_its_link(stocked: Workshop, tmp_path: Path) -> None:
    store(stocked, "coredns", "coredns")
    build_images(stocked)
    destination = tmp_path / "bundle"
    destination.mkdir()
    (destination / "lab.tar.gz").write_text("the lab's", encoding="utf-8")
    stocked.for_lab = False
    _manifest, path, _sha256, changed = stocked.write(destination, HOST, [], 1)
    assert changed and path.is_file()
    assert (destination / "lab.tar.gz").read_text(encoding="utf-8") == "the lab's"
    assert stocked.write(destination, HOST, [], 1)[3] is False
