# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The promises that the repository makes about itself: what is written down in two places agrees."""

from __future__ import annotations

import ast
import importlib
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
MODULES = sorted((ROOT / "plugins/modules").glob("*.py"))
ACTIONS = sorted((ROOT / "plugins/action").glob("*.py"))
FILTERS = sorted((ROOT / "plugins/filter").glob("*.py"))
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
ROLE_TASKS = {"ansible.builtin.import_role", "ansible.builtin.include_role"}
HEADER = [
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
]


def tracked(pattern: str) -> list[Path]:
    """The repository's files of a kind, committed or about to be."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", pattern],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(set(filter(None, listing.split("\0"))))
    return [ROOT / name for name in names if (ROOT / name).is_file() and not (ROOT / name).is_symlink()]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def constants(path: Path) -> dict[str, str]:
    """The module-level string constants of a Python file (DOCUMENTATION, EXAMPLES, RETURN…)."""
    found = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            found.update({target.id: node.value.value for target in node.targets if isinstance(target, ast.Name)})
    return found


def names(paths: list[Path]) -> list[str]:
    return [path.stem if path.suffix == ".py" else path.name for path in paths]


def test_there_is_something_to_check() -> None:
    assert ROLES
    assert MODULES
    assert PLAYBOOKS
    assert tracked("*.py")


# Roles


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_is_complete(role: Path) -> None:
    missing = [
        name
        for name in ("README.md", "meta/main.yml", "meta/argument_specs.yml", "defaults/main.yml", "tasks/main.yml")
        if not (role / name).is_file()
    ]
    assert not missing


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_defaults_are_what_its_specification_says(role: Path) -> None:
    specs: dict[str, Any] = load(role / "meta/argument_specs.yml")["argument_specs"]
    options: dict[str, Any] = {}
    for entry in specs.values():
        options.update(entry.get("options") or {})
    defaults = set(load(role / "defaults/main.yml") or {})
    required = {name for name, option in options.items() if option.get("required")}
    assert defaults - set(options) == set(), "defaults that the specification does not name"
    assert set(options) - defaults - required == set(), "options that are neither required nor have a default"
    assert defaults & required == set(), "required options that have a default"


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_variables_carry_its_name(role: Path) -> None:
    allowed = (f"{role.name}_", f"__{role.name}_")
    found = set(load(role / "defaults/main.yml") or {})
    for file in sorted((role / "vars").glob("*.yml")):
        found |= set(load(file) or {})
    assert not {name for name in found if not name.startswith(allowed)}


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_role_options_are_described(role: Path) -> None:
    for name, entry in load(role / "meta/argument_specs.yml")["argument_specs"].items():
        assert entry.get("short_description"), name
        assert entry.get("version_added"), f"{name}: the changelog lists only roles that say since when they are there"
        undescribed = [option for option, spec in (entry.get("options") or {}).items() if not spec.get("description")]
        assert not undescribed


# Plugins


@pytest.mark.parametrize("module", MODULES, ids=names(MODULES))
def test_module_is_documented(module: Path) -> None:
    text = constants(module)
    documentation = yaml.safe_load(text["DOCUMENTATION"])
    assert documentation["module"] == module.stem
    assert documentation["short_description"]
    assert documentation["version_added"]
    assert documentation["author"]
    assert "multinic.kubernetes._attributes" in documentation["extends_documentation_fragment"]
    assert {"check_mode", "diff_mode"} <= set(documentation["attributes"])
    assert yaml.safe_load(text["EXAMPLES"])
    assert yaml.safe_load(text["RETURN"])


@pytest.mark.parametrize("action", ACTIONS, ids=names(ACTIONS))
def test_action_is_documented(action: Path) -> None:
    modules = ROOT / "plugins/modules"
    assert any((modules / f"{action.stem}{suffix}").is_file() for suffix in (".py", ".yml"))


@pytest.mark.parametrize("plugin", FILTERS, ids=names(FILTERS))
def test_filters_are_documented(plugin: Path) -> None:
    code = importlib.import_module(f"ansible_collections.multinic.kubernetes.plugins.filter.{plugin.stem}")
    offered = code.FilterModule().filters()
    assert offered
    for name in offered:
        sidecar = plugin.with_name(f"{name}.yml")
        document = (
            load(sidecar)["DOCUMENTATION"] if sidecar.is_file() else yaml.safe_load(constants(plugin)["DOCUMENTATION"])
        )
        assert document["name"] == name
        assert document["short_description"]


def test_action_groups_hold_every_module_once() -> None:
    grouped = [name for group in load(ROOT / "meta/runtime.yml")["action_groups"].values() for name in group]
    offered = {path.stem for path in (ROOT / "plugins/modules").glob("*") if path.suffix in (".py", ".yml")}
    assert sorted(grouped) == sorted(offered)


def test_the_core_knows_neither_ansible_nor_the_host() -> None:
    """Files that begin with an underscore are the pure core: standard library only."""
    wrong = []
    for path in sorted((ROOT / "plugins/module_utils").glob("_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong += [
                f"{path.name}: {name}" for name in imported if re.match(r"ansible(\.|$)|netaddr|jmespath|yaml", name)
            ]
    assert not wrong


# Playbooks


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=names(PLAYBOOKS))
def test_playbook_can_be_called_by_its_full_name(playbook: Path) -> None:
    assert playbook.stem.isidentifier()


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=names(PLAYBOOKS))
def test_playbook_is_a_list_of_roles(playbook: Path) -> None:
    for play in load(playbook):
        if "import_playbook" in play or "ansible.builtin.import_playbook" in play:
            continue
        assert play["name"]
        assert play["gather_facts"] is False, play["name"]
        assert not {"handlers", "vars_prompt"} & set(play), play["name"]
        tasks = [task for key in ("pre_tasks", "tasks", "post_tasks") for task in play.get(key, [])]
        wrong = [task.get("name", task) for task in tasks if not ROLE_TASKS & set(task)]
        assert not wrong, f"{play['name']}: tasks that belong in a role"
        called = [entry if isinstance(entry, str) else entry.get("role") for entry in play.get("roles", [])]
        called += [task[key]["name"] for task in tasks for key in ROLE_TASKS & set(task)]
        assert called, play["name"]
        assert all(name.startswith(("multinic.kubernetes.", "{{")) for name in called), called


# Everything


def python_files() -> Iterator[Path]:
    for path in tracked("*.py"):
        if path.read_text(encoding="utf-8").strip():
            yield path


def test_python_files_carry_the_licence() -> None:
    wrong = []
    for path in python_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        start = 1 if lines[0].startswith("#!") else 0
        if lines[start : start + 2] != HEADER or "from __future__ import annotations" not in lines:
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_nothing_is_left_unfinished() -> None:
    marker = re.compile("|".join([r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bXX" + r"X\b", "NotImplemented" + "Error"]))
    kinds = [*tracked("*.py"), *tracked("*.yml"), *tracked("*.j2"), *tracked("*.md"), *tracked("*.sh")]
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in kinds
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marker.search(line)
    ]
    assert not found


def test_version_is_the_changelogs_newest() -> None:
    releases = load(ROOT / "changelogs/changelog.yaml")["releases"]
    newest = max(releases, key=lambda version: tuple(int(part) for part in version.split(".")))
    assert load(ROOT / "galaxy.yml")["version"] == newest
    assert f"v{newest}".replace(".", "\\.") in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_changelog_names_every_role_and_module() -> None:
    releases = load(ROOT / "changelogs/changelog.yaml")["releases"].values()
    roles = [entry["name"] for release in releases for entry in release.get("objects", {}).get("role", [])]
    modules = [entry["name"] for release in releases for entry in release.get("modules", [])]
    assert sorted(roles) == names(ROLES)
    assert sorted(modules) == names(MODULES)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_locks_are_hashed_and_name_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    pins = [line for line in text.splitlines() if re.match(r"[a-z0-9]", line)]
    assert pins
    assert all(re.fullmatch(r"[\w.-]+==\S+( ; .+)? \\", pin) for pin in pins), "a requirement without version or hash"
    assert "://" not in text
    assert not re.search(r"^\s*--(?!hash=sha256:)", text, re.M)


def test_the_runtime_lock_agrees_with_the_development_lock() -> None:
    def pinned(name: str) -> dict[str, str]:
        return dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(encoding="utf-8"), re.M))

    development = pinned("requirements-dev.txt")
    assert {name: development.get(name) for name in pinned("requirements.txt")} == pinned("requirements.txt")


def test_make_targets_stay_thin_and_are_documented() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipes = re.findall(r"^([\w-]+):(.*)\n((?:\t.*\n)*)", text, re.M)
    assert {"demo", "demo-down", "test", "cluster", "help"} <= {name for name, _rest, _recipe in recipes}
    assert not [name for name, _rest, recipe in recipes if recipe.count("\n") > 5]
    assert not [name for name, rest, _recipe in recipes if "## " not in rest and name not in ("packages", "root")]


@pytest.mark.parametrize(
    ("words", "environment"),
    [([], {}), ([], {"MULTINIC_CACHE": ""}), (["MULTINIC_CACHE="], {})],
    ids=["unset", "empty", "empty on the command line"],
)
def test_make_falls_back_to_the_default_cache(words: list[str], environment: dict[str, str]) -> None:
    others = {name: value for name, value in os.environ.items() if name not in ("MULTINIC_CACHE", "MAKEFLAGS")}
    told = subprocess.run(
        ["make", "help", *words], cwd=ROOT, env={**others, **environment}, check=True, capture_output=True, text=True
    ).stdout
    assert "Cache: /var/cache/multinic-kubernetes\n" in told


def test_checkout_mode_link_leads_to_the_checkout() -> None:
    link = ROOT / ".collections/ansible_collections/multinic/kubernetes"
    assert link.is_symlink()
    assert link.resolve() == ROOT


def test_variables_that_roles_read_are_documented() -> None:
    """A role's default such as "{{ cluster_network | default('auto') }}" offers a variable to the user."""
    offered = set()
    for role in ROLES:
        for value in (load(role / "defaults/main.yml") or {}).values():
            offered |= set(re.findall(r"\{\{\s*([a-z][a-z0-9_]*)\s*\|\s*default\(", str(value)))
    documented = set(re.findall(r"`(\w+)`", (ROOT / "docs/variables.md").read_text(encoding="utf-8")))
    assert offered
    assert not {name for name in offered - documented if not name.startswith("ansible_")}


def test_the_collection_works_installed(tmp_path: Path) -> None:
    """Built, installed elsewhere, and called by its full name, with nothing of the checkout in reach."""

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            check=False,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
                "ANSIBLE_HOME": str(tmp_path / "home"),
                "ANSIBLE_COLLECTIONS_PATH": str(tmp_path / "installed"),
            },
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    (tmp_path / "ansible.cfg").touch()
    run("ansible.cli.galaxy", "collection", "build", str(ROOT), "--output-path", str(tmp_path))
    [archive] = tmp_path.glob("multinic-kubernetes-*.tar.gz")
    with tarfile.open(archive) as packed:
        members = packed.getnames()
    hidden = {name for name in members if any(part.startswith((".", "__pycache__")) for part in Path(name).parts)}
    assert not hidden, "tools' settings and caches have no place in the collection"
    run("ansible.cli.galaxy", "collection", "install", str(archive), "--offline", "-p", str(tmp_path / "installed"))
    installed = tmp_path / "installed/ansible_collections/multinic/kubernetes"
    assert (installed / "meta/runtime.yml").is_file()
    assert not any((installed / name).exists() for name in (".collections", "molecule", "tests/e2e", "Makefile"))
    for playbook in names(PLAYBOOKS):
        run("ansible.cli.playbook", "--syntax-check", "-i", "localhost,", f"multinic.kubernetes.{Path(playbook).stem}")


def test_roles_find_the_cache_in_one_way() -> None:
    """An inventory's multinic_cache, else MULTINIC_CACHE unless it is empty, else the default."""
    ways = {
        role.name: value
        for role in ROLES
        for name, value in (load(role / "defaults/main.yml") or {}).items()
        if name == f"{role.name}_cache"
    }
    assert {"bundle_build", "lab"} <= set(ways)
    assert len(set(ways.values())) == 1, ways
    for name in ways:
        spec = load(ROOT / f"roles/{name}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
        assert spec[f"{name}_cache"]["default"] == ways[name]


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "roles").glob("*/README.md")]:
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken


def test_every_page_is_listed() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    assert [
        page.name for page in (ROOT / "docs").glob("*.md") if page.stem != "index" and f"({page.name})" not in index
    ] == []
