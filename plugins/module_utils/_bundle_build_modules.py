# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This module util is **PRIVATE** to the collection.

"""Builds a bundle's programs from the modules of the Go module proxy. The shell around _bundle_modules."""

from __future__ import annotations

import json
import shutil
import subprocess
import typing as t
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_modules as modules
from ansible_collections.multinic.kubernetes.plugins.module_utils import _bundle_recipe as recipe
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle import BundleError
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_build import (
    RECORD,
    REVISION,
    DownloadError,
    Source,
    Workshop,
    read_json,
    write_json,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._bundle_write import timestamp
from ansible_collections.multinic.kubernetes.plugins.module_utils._versions import parse_supported


@dataclass(frozen=True)
class ModuleSource(Source):
    """The module that Kubernetes is built from."""

    # What Go's checksum database vouches for.
    checksum: str = ""
    wanted_go: tuple[int, int] = modules.OLDEST_GO

    @property
    def kubernetes_version(self) -> str:
        """The Kubernetes version that it holds: the module's own."""
        return self.version


class ModuleWorkshop(Workshop):
    """The folder in which a bundle is built of Go modules. Debian's packages are the same as in the other's."""

    tools = modules.TOOLS
    binaries = modules.BINARIES
    images = modules.IMAGES
    for_lab = False

    def __init__(
        self, directory: str | Path, progress: str | Path = "", extras: str | Path = "", version: str = ""
    ) -> None:
        super().__init__(directory, progress, extras)
        self.version = version
        self._go: tuple[str, str] | None = None

    # Go

    def _chosen_go(self) -> tuple[str, str]:
        if self._go is None:
            source = self.source()
            wanted = source.wanted_go if isinstance(source, ModuleSource) else modules.OLDEST_GO
            places = [
                shutil.which("go"),
                "/usr/local/go/bin/go",
                *map(str, sorted(Path("/usr/lib").glob("go-*/bin/go"))),
            ]
            answers = {}
            for place in dict.fromkeys(place for place in places if place and Path(place).is_file()):
                done = subprocess.run(
                    [place, "env", "GOVERSION"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
                )
                if done.returncode == 0:
                    answers[place] = done.stdout
            self._go = modules.choose_go(answers, wanted)
        return self._go

    def go(self) -> str:
        """The newest Go of this machine."""
        return self._chosen_go()[0]

    def go_name(self) -> str:
        """Its version, for another compiler makes other bytes."""
        return f"Go {self._chosen_go()[1].removeprefix('go')}"

    # Kubernetes' module

    def source(self) -> Source | None:
        """The module that was fetched."""
        data = read_json(self.directory / "source" / RECORD)
        if data is None or data.get("module_version") != self.version:
            return None
        return ModuleSource(
            version=self.version, epoch=data["epoch"], checksum=data["checksum"], wanted_go=tuple(data["go"])
        )

    def fetch_source(self, refresh: bool = False) -> tuple[Source, bool]:
        """Asks for Kubernetes' module. The answer stays the same, for a version of a module never changes."""
        have = self.source()
        if have is not None and not refresh:
            return have, False
        with self.step(f"Kubernetes' module {self.version}"):
            answer = self._fetched()
            go_mod = Path(answer["GoMod"]).read_text(encoding="utf-8")
            info = json.loads(Path(answer["Info"]).read_text(encoding="utf-8"))
            data = {
                "module_version": self.version,
                "epoch": modules.epoch_of(info["Time"]),
                "checksum": answer["Sum"],
                "go": modules.wanted_go(go_mod),
            }
            (self.directory / "source").mkdir(exist_ok=True)
            write_json(self.directory / "source" / RECORD, data)
        self._go = None  # now it is known which one it takes
        source = self.source()
        if source is None:
            raise BundleError(f"{self.directory / 'source' / RECORD} cannot be read")
        self.go()
        return source, True

    def _fetched(self) -> dict[str, t.Any]:
        arguments = ["mod", "download", "-json", f"{modules.MODULE}@{self.version}"]
        try:
            answer = self._download(arguments, self._modules(), self._module_environment(), 600)
        except DownloadError as exc:
            raise BundleError(
                f"the Go module proxy does not serve {modules.MODULE}@{self.version}, or cannot be reached"
                f" (see `go env GOPROXY`):\n{exc}"
            ) from exc
        return t.cast("dict[str, t.Any]", json.loads(answer))

    def _unpacked(self, source: Source) -> Path:
        """A copy of the module whose staging folders are replaced by the modules that they are published as."""
        tree = self._modules() / "kubernetes"
        stamp = tree / ".multinic-ready"
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == source.version:
            return tree
        shutil.rmtree(tree, ignore_errors=True)  # there may be none; what stays in the way fails the copy
        answer = self._fetched()
        environment = self._module_environment()
        with self.step("Kubernetes' modules"):
            shutil.copytree(answer["Dir"], tree)
            self.run(["chmod", "-R", "u+w", tree])
            for name in ("go.work", "go.work.sum"):
                (tree / name).unlink(missing_ok=True)
            version = modules.staging_version(source.version)
            replaced = [
                f"-replace={module}={module}@{version}"
                for module in modules.staging_modules((tree / "go.mod").read_text(encoding="utf-8"))
            ]
            self.run([self.go(), "mod", "edit", *replaced], cwd=tree, environment=environment)
            packages = [f"./cmd/{name}" for name in recipe.KUBERNETES_BINARIES]
            self._download(["list", "-deps", "-tags", recipe.GO_TAGS, *packages], tree, environment, 1800)
        stamp.write_text(source.version, encoding="utf-8")
        return tree

    # Programs

    def binary_key(self, name: str, source: Source) -> str:
        """A digest of all that a program is made of. What kubeadm's version decides is in Kubernetes' own."""
        inputs: list[t.Any] = [REVISION, "modules", name, asdict(source)]
        if name != "pause":
            inputs.append(self.go_name())
        if name in recipe.KUBERNETES_BINARIES:
            inputs += [recipe.GO_TAGS, modules.linker_flags("v1.2.3", "")]
        elif name == "coredns":
            inputs.append(asdict(modules.COREDNS))
        return recipe.digest(*inputs)

    def _binary_builder(self, name: str, source: Source) -> Callable[[Path], Mapping[str, t.Any]]:
        if name in recipe.KUBERNETES_BINARIES or name == "pause":
            return super()._binary_builder(name, source)
        return lambda target: self._build_module(name, source, target)

    def _build_kubernetes(self, package: str, source: Source, target: Path, ldflags: str = "") -> Mapping[str, t.Any]:
        flags = ldflags or modules.linker_flags(source.kubernetes_version, timestamp(source.epoch))
        tree = self._unpacked(source)
        self.run(
            [self.go(), "build", "-trimpath", "-tags", recipe.GO_TAGS, "-ldflags", flags, "-o", target, package],
            cwd=tree,
            environment={**self._module_environment(), "GOPROXY": "off"},
            limit=7200,
        )
        return {
            "version": source.kubernetes_version,
            "origin": f"{self._source_name(source)}, built with {self.go_name()}",
            "licence": "Apache-2.0",
        }

    def _pause_version(self, source: Source) -> str:
        return self.references(source)["pause"].rsplit(":", 1)[-1]

    def _source_name(self, source: Source) -> str:
        checksum = f" ({source.checksum})" if isinstance(source, ModuleSource) else ""
        return f"Go module {modules.MODULE}@{source.version}{checksum}"

    def module_recipe(self, name: str, source: Source) -> recipe.ModuleRecipe:
        """How a program beside Kubernetes' own is built for this version."""
        return modules.module_of(name, source.kubernetes_version, lambda: self.references(source))

    def module_edits(self, tree: Path, what: recipe.ModuleRecipe) -> list[str]:
        """Modules that were replaced by folders of the same repository are taken as they are published."""
        local = modules.local_replacements((tree / "go.mod").read_text(encoding="utf-8"))
        return [*super().module_edits(tree, what), *(f"-dropreplace={module}" for module in local)]

    def _module_environment(self) -> dict[str, str]:
        return {**super()._module_environment(), "GOWORK": "off"}


def workshop_of(params: Mapping[str, t.Any]) -> tuple[Workshop, list[str]]:
    """The build folder that a module was told, for the version that it was told, and the packages for the hosts.

    A BundleError if there is no recipe for the version.
    """
    arguments = (params["directory"], params["progress_log"] or "", params["extras"])
    version = params["kubernetes_version"] or ""
    workshop = (
        ModuleWorkshop(*arguments, version=str(parse_supported(version)))
        if modules.built_from_modules(version)
        else Workshop(*arguments)
    )
    return workshop, list(params["host_packages"] or recipe.HOST_PACKAGES)
