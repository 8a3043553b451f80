# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Builds the parts of a bundle in a folder that keeps what is built. The shell around _bundle_recipe and _bundle_write.

Every part lies in `parts/<kind>/<name>-<digest of all its inputs>/`, so what is there need not be built again.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import typing as t
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import (
    BundleError,
    Manifest,
    Missing,
    Part,
    checksum_line,
    parse_manifest,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_write import (
    Entry,
    ImageConfig,
    file_sha256,
    image_config,
    timestamp,
    tree_entries,
    write_bundle,
    write_docker_archive,
    write_layer,
)

# Part of every digest: raise it when this file builds something else from the same recipe.
REVISION = 1
ARCHITECTURE = "amd64"

# What every module that builds is told; the documentation fragment _bundle_build describes it.
BUILD_ARGUMENTS: dict[str, t.Any] = {
    "directory": {"type": "path", "required": True},
    "progress_log": {"type": "path"},
    "extras": {"type": "path", "required": True},
    "host_packages": {"type": "list", "elements": "str", "default": []},
    "kubernetes_version": {"type": "str", "default": ""},
}
_FAILURE_LINES = 25
# The log keeps the end of what a command printed: package lists have tens of megabytes.
_LOGGED = 100_000
RECORD = "record.json"


class DownloadError(BundleError):
    """A Go module could not be had: nothing is wrong with the recipe, and a bundle may do without the program."""


@dataclass(frozen=True)
class Made:
    """A part that is there."""

    name: str
    path: str
    sha256: str
    size: int
    version: str = ""
    origin: str = ""
    licence: str = ""
    images: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Source:
    """The source package that Kubernetes is built from."""

    version: str
    epoch: int

    @property
    def kubernetes_version(self) -> str:
        """The Kubernetes version that it holds."""
        return recipe.upstream_version(self.version)


def read_json(path: Path) -> t.Any:
    """What a file of JSON holds; None if there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def write_json(path: Path, data: t.Any) -> None:
    """Writes a file of JSON at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    fresh.replace(path)


class Workshop:
    """The folder in which a bundle is built: here of Debian's source package, in a subclass of Go modules."""

    tools: Mapping[str, str] = recipe.TOOLS
    binaries: tuple[str, ...] = recipe.BINARIES
    images: Mapping[str, recipe.ImageRecipe] = recipe.IMAGES
    # Whether `lab.tar.gz` is to be this one.
    for_lab = True

    def __init__(self, directory: str | Path, progress: str | Path = "", extras: str | Path = "") -> None:
        self.directory = Path(directory)
        self.progress = Path(progress) if progress else None
        self.extras = Path(extras) if extras else None
        self.tree = self.directory / "go" / "src" / "k8s.io" / "kubernetes"
        self._step = "build"
        self._references: dict[str, dict[str, str]] = {}

    # Telling

    def tell(self, sentence: str) -> None:
        """Adds a line to the file in which a person can follow the build."""
        if self.progress is not None:
            self.progress.parent.mkdir(parents=True, exist_ok=True)
            with self.progress.open("a", encoding="utf-8") as stream:
                stream.write(f"{time.strftime('%H:%M:%S')} bundle: {sentence}\n")

    @contextmanager
    def step(self, sentence: str) -> Iterator[None]:
        """Tells when a step begins, and how long it took."""
        began = time.monotonic()
        self._step = sentence
        self.tell(f"{sentence} ...")
        try:
            yield
        except (BundleError, OSError):
            self.tell(f"{sentence}: failed after {time.monotonic() - began:.0f} s")
            raise
        self.tell(f"{sentence}: done in {time.monotonic() - began:.0f} s")

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Waits until no other run builds in this folder; what that one built is then found made."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.tell("waiting for another build in the same folder ...")
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def run(
        self,
        argv: Sequence[str | Path],
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        limit: int = 1800,
    ) -> str:
        """Runs a command at low priority, keeps its output in the log, and returns what it printed."""
        words = ["nice", "-n", "10", *map(str, argv)]
        where = cwd or self.directory
        try:
            result = subprocess.run(
                words,
                cwd=where,
                env={**os.environ, "LC_ALL": "C.UTF-8", "PWD": str(where), **(environment or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as exc:
            raise BundleError(f"{self._step}: '{' '.join(words[3:])}' did not end within {limit} s") from exc
        with (self.directory / "build.log").open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(words[3:])}\n{result.stdout[-_LOGGED:]}{result.stderr[-_LOGGED:]}")
        if result.returncode:
            tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-_FAILURE_LINES:])
            raise BundleError(
                f"{self._step}: '{' '.join(words[3:])}' ended with {result.returncode}; its last lines:\n{tail}"
            )
        return result.stdout

    # What is there

    def made(self, kind: str, name: str, key: str) -> Made | None:
        """The part that was built from exactly these inputs, if it is there."""
        data = read_json(self.directory / "parts" / kind / f"{name}-{key}" / RECORD)
        if data is None or not Path(data["path"]).is_file() or Path(data["path"]).stat().st_size != data["size"]:
            return None
        return Made(**{**data, "images": tuple(data["images"])})

    def keep(self, kind: str, name: str, key: str, build: Callable[[Path], Mapping[str, t.Any]]) -> Made:
        """Lets `build` write the part's file into a new folder, and puts the folder in place when it is whole."""
        place = self.directory / "parts" / kind
        place.mkdir(parents=True, exist_ok=True)
        for left in place.glob(".*"):
            shutil.rmtree(left)  # what a run that was killed has left
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place))
        final = place / f"{name}-{key}"
        try:
            facts = build(fresh / name)
            made = Made(
                name=name,
                path=str(final / name),
                sha256=file_sha256(fresh / name),
                size=(fresh / name).stat().st_size,
                **facts,
            )
            write_json(fresh / RECORD, asdict(made))
            for old in place.iterdir():
                if re.fullmatch(rf"{re.escape(name)}-[0-9a-f]{{16}}", old.name):
                    shutil.rmtree(old)
            fresh.rename(final)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return made

    # apt, with sources of its own

    @property
    def _apt(self) -> Path:
        return self.directory / "apt"

    def _apt_environment(self) -> dict[str, str]:
        return {"APT_CONFIG": str(self._apt / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}

    def prepare_apt(self, refresh: bool = False) -> bool:
        """Package lists of the machine's own mirrors, with sources, in the build folder. The machine's stay as they are."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lists = self._apt / "lists"
        if not refresh and any(lists.glob("*_Sources*")):
            return False
        release = dict(
            line.split("=", 1)
            for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
            if "=" in line
        )
        if release.get("VERSION_CODENAME", "").strip('"') != recipe.CODENAME:
            raise BundleError(
                f"this machine runs {release.get('PRETTY_NAME', 'an unknown system')}:"
                " the bundle is built from Debian 12's own packages, on Debian 12"
            )
        etc = Path("/etc/apt")
        files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*.*"))]
        texts = {
            path.name: path.read_text(encoding="utf-8")
            for path in files
            if path.suffix in (".list", ".sources") and path.is_file()
        }
        sources = recipe.private_sources(texts)
        for name in ("sources.list.d", "lists/partial", "cache/archives/partial", "packages"):
            (self._apt / name).mkdir(parents=True, exist_ok=True)
        (self._apt / "status").write_text("", encoding="utf-8")
        (self._apt / "sources.list.d" / "build.sources").write_text(sources, encoding="utf-8")
        (self._apt / "apt.conf").write_text(
            f"""Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "{self._apt}/sources.list.d";
Dir::State::lists "{lists}";
Dir::State::status "{self._apt}/status";
Dir::Cache "{self._apt}/cache";
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Acquire::Languages "none";
""",
            encoding="utf-8",
        )
        with self.step("the package lists"):
            self.run(["apt-get", "--quiet", "--error-on=any", "update"], environment=self._apt_environment())
        return True

    # Kubernetes' source

    def source(self) -> Source | None:
        """The source that was fetched."""
        data = read_json(self.directory / "source" / RECORD)
        if data is None or not (self.directory / "source" / data["dsc"]).is_file():
            return None
        return Source(version=data["version"], epoch=data["epoch"])

    def fetch_source(self, refresh: bool = False) -> tuple[Source, bool]:
        """Debian's source package of Kubernetes, in the build folder."""
        have = self.source()
        if have is not None and not refresh:
            return have, False
        place = self.directory / "source"
        fresh = self.directory / "source.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        with self.step("Debian's source of Kubernetes"):
            self.run(
                ["apt-get", "--quiet", "--only-source", "--download-only", "source", recipe.SOURCE_PACKAGE],
                cwd=fresh,
                environment=self._apt_environment(),
            )
            dsc = next(iter(fresh.glob("*.dsc")))
            found = re.search(r"^Version: (\S+)$", dsc.read_text(encoding="utf-8"), re.MULTILINE)
            if not found:
                raise BundleError(f"{dsc} names no version")
            changes = self.run(["dpkg-source", "--no-check", "--skip-patches", "-x", dsc, fresh / "tree"], cwd=fresh)
            changes = self.run(["dpkg-parsechangelog", "-l", fresh / "tree/debian/changelog", "-S", "Timestamp"])
            shutil.rmtree(fresh / "tree")
            source = Source(version=found.group(1), epoch=int(changes))
            write_json(fresh / RECORD, {"version": source.version, "epoch": source.epoch, "dsc": dsc.name})
        shutil.rmtree(place, ignore_errors=True)
        fresh.rename(place)
        return source, True

    def _unpacked(self, source: Source) -> Path:
        """The source tree, patched and with its generated files; a folder in which Go builds it without a network."""
        stamp = self.tree / ".multinic-ready"
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == source.version:
            return self.tree
        shutil.rmtree(self.directory / "go", ignore_errors=True)
        self.tree.parent.mkdir(parents=True)
        with self.step("Kubernetes' source tree"):
            data = read_json(self.directory / "source" / RECORD)
            self.run(["dpkg-source", "--no-check", "-x", self.directory / "source" / data["dsc"], self.tree])
            # With a Go newer than 1.17, the vendored reflect2 reads the wrong memory and kubeadm crashes.
            reflect2 = self.tree / "vendor/github.com/modern-go/reflect2"
            shutil.rmtree(reflect2)
            shutil.copytree(recipe.GO_PACKAGE_REFLECT2, reflect2)
        with self.step("Kubernetes' generated files"):
            self.run(
                ["make", "generated_files", "GOFLAGS=-mod=vendor"],
                cwd=self.tree,
                environment={
                    **self._version_environment(source),
                    "PATH": f"{Path(recipe.GO).parent}:/usr/sbin:/usr/bin:/sbin:/bin",
                    "GOENV": "off",
                    "GOPATH": "",
                    "CGO_ENABLED": "0",
                    "HOME": str(self.directory),
                },
            )
        stamp.write_text(source.version, encoding="utf-8")
        return self.tree

    @staticmethod
    def _version_environment(source: Source) -> dict[str, str]:
        major, minor = source.kubernetes_version.lstrip("v").split(".")[:2]
        return {
            "KUBE_GIT_VERSION": source.kubernetes_version,
            "KUBE_GIT_COMMIT": f"debian-{source.version}",
            "KUBE_GIT_TREE_STATE": "archive",
            "KUBE_GIT_MAJOR": major,
            "KUBE_GIT_MINOR": minor,
            "SOURCE_DATE_EPOCH": str(source.epoch),
        }

    # Programs

    def binary_key(self, name: str, source: Source) -> str:
        """A digest of all that a program is made of."""
        inputs: list[t.Any] = [REVISION, name, recipe.GO, recipe.version_ldflags("v1.2.3", "", "")]
        if name in recipe.KUBERNETES_BINARIES or name == "pause":
            inputs += [source.version, source.epoch, recipe.GO_TAGS]
        if name in recipe.MODULES:
            inputs.append(asdict(recipe.MODULES[name]))
        if name == "crictl":
            inputs.append(file_sha256(self._crictl_source()))
        return recipe.digest(*inputs)

    def _crictl_source(self) -> Path:
        if self.extras is None:
            raise BundleError("the folder with the source of the small crictl is not given")
        return self.extras / "crictl" / "main.go"

    def build_binary(self, name: str, source: Source) -> tuple[Made, bool]:
        """One program, built unless it is there."""
        key = self.binary_key(name, source)
        have = self.made("binary", name, key)
        if have is not None:
            return have, False
        with self.step(name):
            return self.keep("binary", name, key, self._binary_builder(name, source)), True

    def _binary_builder(self, name: str, source: Source) -> Callable[[Path], Mapping[str, t.Any]]:
        if name in recipe.KUBERNETES_BINARIES:
            return lambda target: self._build_kubernetes(f"./cmd/{name}", source, target)
        if name == "pause":
            return lambda target: self._build_pause(source, target)
        if name == "crictl":
            return lambda target: self._build_crictl(source, target)
        if name in recipe.MODULES:
            return lambda target: self._build_module(name, source, target)
        raise BundleError(f"there is no recipe for a program {name!r}; there is one for {', '.join(self.binaries)}")

    def _build_kubernetes(self, package: str, source: Source, target: Path, ldflags: str = "") -> Mapping[str, t.Any]:
        self._unpacked(source)
        gopath = self.tree / "_output/local/go"
        flags = ldflags or recipe.version_ldflags(source.kubernetes_version, source.version, timestamp(source.epoch))
        self.run(
            [recipe.GO, "build", "-trimpath", "-tags", recipe.GO_TAGS, "-ldflags", flags, "-o", target, package],
            cwd=gopath / "src/k8s.io/kubernetes",
            environment={
                "GOPATH": str(gopath),
                "GOCACHE": str(gopath / "cache"),
                "GO111MODULE": "off",
                "GOENV": "off",
                "GOFLAGS": "",
                "CGO_ENABLED": "0",
            },
        )
        return {
            "version": source.kubernetes_version,
            "origin": f"{self._source_name(source)}, built with {self.go_name()}",
            "licence": "Apache-2.0",
        }

    def _build_pause(self, source: Source, target: Path) -> Mapping[str, t.Any]:
        tree, version = self._unpacked(source), self._pause_version(source)
        self.run(
            [
                "gcc",
                "-Os",
                "-Wall",
                "-static",
                "-s",
                f"-DVERSION={version}",
                "-o",
                target,
                tree / "build/pause/linux/pause.c",
            ]
        )
        return {
            "version": version,
            "origin": f"build/pause of {self._source_name(source)}",
            "licence": "Apache-2.0",
        }

    def _pause_version(self, source: Source) -> str:  # noqa: ARG002 - for the subclass
        return "3.2"

    def _source_name(self, source: Source) -> str:
        return f"Debian source package kubernetes {source.version}"

    def _build_crictl(self, source: Source, target: Path) -> Mapping[str, t.Any]:
        """Upstream's crictl where the module proxy serves it, else a small one of Kubernetes' own CRI client."""
        try:
            facts = self._build_module("crictl", source, target)
        except DownloadError as exc:
            reason = str(exc).splitlines()[-1].strip()
            self.tell(f"crictl: not from the Go module proxy ({reason}); building the small one")
        else:
            self.run([target, "--version"])
            return facts
        package = self._unpacked(source) / "cmd/multinic-crictl"
        package.mkdir(exist_ok=True)
        shutil.copyfile(self._crictl_source(), package / "main.go")
        version = f"{source.kubernetes_version}-small"
        facts = self._build_kubernetes(
            "./cmd/multinic-crictl", source, target, ldflags=f"-s -w -buildid= -X main.version={version}"
        )
        return {
            **facts,
            "version": version,
            "origin": "a small CRI client of multinic.kubernetes with the commands that kubeadm runs,"
            f" on Kubernetes' own CRI client ({facts['origin']})",
            "licence": "GPL-3.0-or-later",
            "note": f"upstream's crictl could not be had: {reason}",
        }

    def go(self) -> str:
        """The Go command that builds."""
        return recipe.GO

    def go_name(self) -> str:
        """Which Go that is, as the manifest tells it."""
        return "Go 1.19"

    def module_recipe(self, name: str, source: Source) -> recipe.ModuleRecipe:  # noqa: ARG002 - for the subclass
        """How a program of the Go module proxy is built."""
        return recipe.MODULES[name]

    def module_edits(self, tree: Path, what: recipe.ModuleRecipe) -> list[str]:  # noqa: ARG002 - for the subclass
        """What `go mod edit` is told before a module is built."""
        return [f"-require={module}" for module in what.require]

    def _modules(self) -> Path:
        place = self.directory / "modules"
        place.mkdir(parents=True, exist_ok=True)
        return place

    def _module_environment(self) -> dict[str, str]:
        place = self._modules()
        return {
            "GOPATH": str(place / "path"),
            "GOCACHE": str(place / "cache"),
            "GO111MODULE": "on",
            "GOFLAGS": "-mod=mod -modcacherw -buildvcs=false",
            "GOTOOLCHAIN": "local",
            "CGO_ENABLED": "0",
        }

    def _build_module(self, name: str, source: Source, target: Path) -> Mapping[str, t.Any]:
        """A program of the Go module proxy, built from a copy: `go install` refuses modules that replace others.

        Downloads are steps of their own, so that one that fails is told apart from all that can be wrong here.
        """
        what = self.module_recipe(name, source)
        version = what.version or f"v{self._wanted_tag(name, source)}"
        place = self._modules()
        environment = self._module_environment()
        answer = self._download(["mod", "download", "-json", f"{what.module}@{version}"], place, environment, 180)
        offline = {**environment, "GOPROXY": "off"}
        tree = place / name
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(json.loads(answer)["Dir"], tree)
        self.run(["chmod", "-R", "u+w", tree])
        edits = self.module_edits(tree, what)
        if edits:
            self.run([self.go(), "mod", "edit", *edits], cwd=tree, environment=offline)
        self._download(["list", "-m", "all"], tree, environment, 600)
        if what.without_plugins:
            plugins = tree / "plugin.cfg"
            text = recipe.without_plugins(plugins.read_text(encoding="utf-8"), what.without_plugins)
            plugins.write_text(text, encoding="utf-8")
            self.run([self.go(), "run", "directives_generate.go"], cwd=tree, environment=offline)
        self._download(["list", "-deps", what.package], tree, environment, 900)
        flags = "-s -w -buildid="
        if what.version_variable:
            flags += f" -X {what.version_variable}={version}"
        self.run(
            [self.go(), "build", "-trimpath", "-ldflags", flags, "-o", target, what.package],
            cwd=tree,
            environment=offline,
        )
        without = f", without the plugins {' '.join(what.without_plugins)}" if what.without_plugins else ""
        return {
            "version": version,
            "origin": f"Go module {what.module}@{version}, built with {self.go_name()}{without}",
            "licence": what.licence,
        }

    def _download(self, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], limit: int) -> str:
        """A command of Go that fetches modules which are not there."""
        try:
            return self.run([self.go(), *arguments], cwd=cwd, environment=environment, limit=limit)
        except BundleError as exc:
            raise DownloadError(exc.problems) from exc

    def _wanted_tag(self, name: str, source: Source) -> str:
        return self.references(source)[name].rsplit(":", 1)[-1].lstrip("v")

    def references(self, source: Source) -> dict[str, str]:
        """The images that the kubeadm which was built wants, by the name of their recipe."""
        kubeadm = self.made("binary", "kubeadm", self.binary_key("kubeadm", source))
        if kubeadm is None:
            raise BundleError("kubeadm is not built yet, and only it knows which images it needs")
        if kubeadm.path not in self._references:
            argv = [kubeadm.path, "config", "images", "list", "--kubernetes-version", source.kubernetes_version]
            listed = self.run(argv, environment={"HOME": str(self.directory)})
            self._references[kubeadm.path] = recipe.image_references(listed)
        return self._references[kubeadm.path]

    # Debian packages

    def _packages_key(self, host: Sequence[str]) -> str:
        images = {name: (item.packages, item.closure) for name, item in self.images.items() if item.packages}
        return recipe.digest(REVISION, sorted(host), images)

    def packages(self, host: Sequence[str]) -> dict[str, list[recipe.Package]] | None:
        """The packages that were fetched: for the hosts under `host`, for each image under its name."""
        data = read_json(self._apt / "packages" / RECORD)
        if data is None or data["key"] != self._packages_key(host):
            return None
        found = {name: [recipe.Package(**item) for item in items] for name, items in data["sets"].items()}
        files = {package.file for items in found.values() for package in items}
        return found if all((self._apt / "packages" / file).is_file() for file in files) else None

    def fetch_packages(
        self, host: Sequence[str], refresh: bool = False
    ) -> tuple[dict[str, list[recipe.Package]], bool]:
        """The hosts' packages with all that they depend on and a bare Debian lacks, and the images' packages."""
        have = self.packages(host)
        if have is not None and not refresh:
            return have, False
        with self.step("Debian's packages"):
            base = self._closure(
                recipe.base_packages(self.run(["apt-cache", "dumpavail"], environment=self._apt_environment()))
            )
            known = {package.name for package in base}
            sets = {"host": [package for package in self._closure(host) if package.name not in known]}
            for name, image in self.images.items():
                if image.packages:
                    sets[name] = self._closure(image.packages) if image.closure else self._only(image.packages)
            wanted = {package.file: package for items in sets.values() for package in items}
            place = self._apt / "packages"
            for old in place.glob("*.deb"):
                if old.name not in wanted:
                    old.unlink()
            lacking = [p for p in wanted.values() if not (place / p.file).is_file()]
            if lacking:
                self.run(
                    ["apt-get", "--quiet", "download", *(f"{package.name}={package.version}" for package in lacking)],
                    cwd=place,
                    environment=self._apt_environment(),
                )
            data = {name: [asdict(package) for package in items] for name, items in sets.items()}
            write_json(place / RECORD, {"key": self._packages_key(host), "sets": data})
        return sets, True

    def _closure(self, names: Sequence[str]) -> list[recipe.Package]:
        argv = ["apt-get", "--quiet", "--yes", "--print-uris", "install", *names]
        return recipe.printed_packages(self.run(argv, environment=self._apt_environment()))

    def _only(self, names: Sequence[str]) -> list[recipe.Package]:
        argv = ["apt-get", "--quiet", "--print-uris", "download", *names]
        return recipe.printed_packages(self.run(argv, environment=self._apt_environment()))

    # Images

    def image_key(self, name: str, source: Source, host: Sequence[str]) -> str:
        """A digest of all that an image is made of."""
        what = self.images[name]
        packages = self.packages(host)
        if packages is None:
            raise BundleError("the packages are not fetched yet")
        inputs = [REVISION, asdict(what), self.references(source).get(name), source.epoch]
        inputs += [self.binary_key(binary, source) for binary, _place in what.binaries]
        inputs += [asdict(package) for package in packages.get(name, [])]
        return recipe.digest(*inputs)

    def build_image(self, name: str, source: Source, host: Sequence[str]) -> tuple[Made | None, bool]:
        """One image, packed unless it is there; None if a program that it needs could not be had."""
        if name not in self.images:
            raise BundleError(f"there is no recipe for an image {name!r}; there is one for {', '.join(self.images)}")
        what = self.images[name]
        binaries = {
            binary: self.made("binary", binary, self.binary_key(binary, source)) for binary, _place in what.binaries
        }
        if not all(binaries.values()):
            return None, False
        key = self.image_key(name, source, host)
        have = self.made("image", name, key)
        if have is not None:
            return have, False
        with self.step(f"the image {name}"):
            return self.keep("image", name, key, lambda target: self._pack_image(name, source, host, target)), True

    def _pack_image(self, name: str, source: Source, host: Sequence[str], target: Path) -> Mapping[str, t.Any]:
        what = self.images[name]
        reference = self.references(source)[name]
        packages = (self.packages(host) or {}).get(name, [])
        origins: list[str] = []
        versions: list[str] = []
        licences: list[str] = []
        with tempfile.TemporaryDirectory(dir=self.directory, prefix=f".image-{name}-") as folder:
            entries = [Entry("tmp", 0o1777), Entry("etc"), *(Entry(link, 0o777, target=to) for link, to in what.links)]
            for binary, place in what.binaries:
                made = self.made("binary", binary, self.binary_key(binary, source))
                if made is None:
                    raise BundleError(f"{binary} is not built yet")
                entries.append(Entry(place, source=Path(made.path)))
                origins.append(made.origin)
                versions.append(made.version)
                licences.append(made.licence)
            if packages:
                root = Path(folder, "root")
                for package in packages:
                    self.run(["dpkg-deb", "--extract", self._apt / "packages" / package.file, root])
                entries.extend(self._package_entries(what, root))
                shown = [package for package in packages if package.name in what.packages]
                origins.append(f"Debian 12 packages {', '.join(f'{p.name} {p.version}' for p in shown)}")
                versions.extend(package.version for package in shown[:1])
                licences.append("the packages' own, see Debian's copyright files")
            layer = Path(folder, "layer.tar")
            with layer.open("wb") as stream:
                diff_id = write_layer(stream, entries, source.epoch)
            origin = "; ".join(origins)
            config = image_config(
                ImageConfig(entrypoint=what.entrypoint, labels={"org.opencontainers.image.source": origin}),
                diff_id,
                ARCHITECTURE,
                source.epoch,
            )
            with target.open("wb") as stream:
                write_docker_archive(stream, layer, diff_id, config, [reference], source.epoch)
        return {"version": versions[0], "origin": origin, "licence": "; ".join(licences), "images": (reference,)}

    @staticmethod
    def _package_entries(what: recipe.ImageRecipe, root: Path) -> list[Entry]:
        found = {entry.name: entry for entry in tree_entries(root)}
        if what.closure:
            return [entry for name, entry in found.items() if not recipe.unused_in_image(name)]
        absent = [place for place, _name in what.keep if place not in found]
        if absent:
            raise BundleError(f"the packages {', '.join(what.packages)} no longer hold {', '.join(absent)}")
        return [
            Entry(name, found[place].mode, source=found[place].source, target=found[place].target)
            for place, name in what.keep
        ]

    # The bundle

    def manifest(self, host: Sequence[str], missing: Sequence[Missing] = ()) -> tuple[Manifest, dict[str, Path]]:
        """The manifest of all that is built, and where each part lies."""
        source = self.source()
        packages = self.packages(host)
        if source is None or packages is None:
            raise BundleError("the source and the packages are not fetched yet")
        references = self.references(source)
        sources: dict[str, Path] = {}
        parts: list[Part] = []
        lacking = list(missing)

        def add(part: Part, path: Path) -> None:
            parts.append(part)
            sources[part.path] = path

        for name in recipe.HOST_BINARIES:
            made = self.made("binary", name, self.binary_key(name, source))
            if made is not None:
                facts: dict[str, t.Any] = {"version": made.version, "origin": made.origin, "licence": made.licence}
                add(Part(f"bin/{name}", made.sha256, made.size, "0755", "binary", **facts), Path(made.path))
                if made.note:
                    lacking.append(Missing(f"{name} (upstream)", made.note))
            elif name in recipe.OPTIONAL_BINARIES and not any(item.name == name for item in lacking):
                lacking.append(Missing(name, "it is not built"))
        for name, reference in references.items():
            what = self.images[name]
            made = self.made("image", name, self.image_key(name, source, host))
            if made is not None:
                add(
                    Part(
                        f"images/{name}.tar",
                        made.sha256,
                        made.size,
                        "0644",
                        "image",
                        images=made.images,
                        roles=what.roles,
                        version=made.version,
                        origin=made.origin,
                        licence=made.licence,
                    ),
                    Path(made.path),
                )
            elif any(binary in recipe.OPTIONAL_BINARIES for binary, _place in what.binaries):
                reason = next((item.reason for item in lacking if item.name == name), "it is not built")
                lacking.append(Missing(reference, reason))
            else:
                raise BundleError(f"the image {reference} is not built yet")
        for package in packages["host"]:
            path = self._apt / "packages" / package.file
            add(
                Part(
                    f"packages/{recipe.DISTRIBUTION}/{package.plain_file}",
                    file_sha256(path),
                    path.stat().st_size,
                    "0644",
                    "package",
                    distribution=recipe.DISTRIBUTION,
                    package=package.name,
                    version=package.version,
                    origin="Debian 12",
                    licence=f"see /usr/share/doc/{package.name}/copyright",
                ),
                path,
            )
        manifest = Manifest(
            kubernetes_version=source.kubernetes_version,
            architecture=ARCHITECTURE,
            created=timestamp(source.epoch),
            image_repository=recipe.image_repository(references.values()),
            pause_image=references["pause"],
            images_required=tuple(references.values()),
            parts=tuple(sorted(parts, key=lambda part: part.path)),
            missing=tuple(lacking),
        )
        return parse_manifest(manifest.as_dict()), sources

    def write(
        self, destination: Path, host: Sequence[str], missing: Sequence[Missing], level: int, check: bool = False
    ) -> tuple[Manifest, Path, str, bool]:
        """The bundle, its checksum and the link to the newest, written unless the same bundle is there."""
        source = self.source()
        manifest, sources = self.manifest(host, missing)
        if source is None:
            raise BundleError("the source is not fetched yet")
        key = recipe.digest(REVISION, manifest.as_dict(), level)
        path = destination / f"kubernetes-{manifest.kubernetes_version}-debian12-{ARCHITECTURE}.tar.gz"
        record = self.directory / "bundle.json"
        have = read_json(record) or {}
        whole = path.is_file() and have.get("key") == key and path.stat().st_size == have.get("size")
        links = [destination / "lab.tar.gz", destination / "lab.tar.gz.sha256"] if self.for_lab else []
        if whole and all(link.is_file() for link in links):
            return manifest, path, t.cast("str", have["sha256"]), False
        if check:
            return manifest, path, "", True
        destination.mkdir(parents=True, exist_ok=True)
        if not whole:
            with self.step("the bundle"):
                fresh = path.with_name(f".{path.name}.new")
                with fresh.open("wb") as stream:
                    sha256, size = write_bundle(stream, manifest, sources, source.epoch, level)
                fresh.replace(path)
            have = {"key": key, "sha256": sha256, "size": size}
        beside = path.with_name(f"{path.name}.sha256")
        beside.write_text(checksum_line(have["sha256"], path.name), encoding="ascii")
        if links:
            _link(links[0], path.name)
            links[1].unlink(missing_ok=True)
            links[1].write_text(checksum_line(have["sha256"], links[0].name), encoding="ascii")
        write_json(record, have)
        return manifest, path, have["sha256"], True

    def bundle_sha256(self) -> str:
        """The sha256 of the bundle that was written last."""
        return str((read_json(self.directory / "bundle.json") or {}).get("sha256", ""))

    # Tools

    def lacking_tools(self) -> list[str]:
        """The Debian packages with tools of the build that this machine lacks."""
        return sorted(package for place, package in self.tools.items() if not Path(place).exists())

    def install_tools(self, packages: Sequence[str]) -> None:
        """Installs tools of the build from the machine's own package sources."""
        if not packages:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        environment = {"DEBIAN_FRONTEND": "noninteractive"}
        with self.step(f"tools of the build ({', '.join(packages)})"):
            self.run(["apt-get", "--quiet", "update"], environment=environment)
            argv = ["apt-get", "--quiet", "--yes", "--no-install-recommends", "install", *packages]
            self.run(argv, environment=environment)

    # What is left to do

    def plan(self, host: Sequence[str]) -> dict[str, t.Any]:
        """What of the bundle has still to be built; runs nothing but kubeadm, if that is there."""
        source = self.source()
        packages = self.packages(host)
        if source is None:
            binaries = list(self.binaries)
        else:
            binaries = [
                name for name in self.binaries if self.made("binary", name, self.binary_key(name, source)) is None
            ]
        images = list(self.images)
        if source is not None and packages is not None and "kubeadm" not in binaries:
            images = [name for name in images if self.made("image", name, self.image_key(name, source, host)) is None]
        something = bool(source is None or packages is None or binaries or images)
        return {
            "source": source is None,
            "packages": packages is None,
            "binaries": binaries,
            "images": images,
            "tools": self.lacking_tools() if something else [],
        }

    def unfinished(self, host: Sequence[str]) -> bool:
        """Whether a part is still to be built that a bundle can't do without."""
        plan = self.plan(host)
        optional = {
            name
            for name, image in self.images.items()
            if any(binary in recipe.OPTIONAL_BINARIES for binary, _place in image.binaries)
        }
        needed = [name for name in plan["binaries"] if name not in recipe.OPTIONAL_BINARIES]
        needed += [name for name in plan["images"] if name not in optional]
        return bool(plan["source"] or plan["packages"] or needed)

    def tidy(self) -> bool:
        """Removes what only building needs: the unpacked source, Go's caches. All that was built stays."""
        changed = False
        for name in ("go", "modules", "source.new", "apt/cache"):
            place = self.directory / name
            if place.exists():
                shutil.rmtree(place)
                changed = True
        return changed


def _link(path: Path, target: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
