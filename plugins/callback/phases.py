# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: phases
type: aggregate
short_description: Shows what a long task is waiting for, and how long each phase took
version_added: "1.0.0"
author:
  - multinic.kubernetes contributors (@multinic)
description:
  - While one task runs longer than O(heartbeat_seconds), prints a short line now and then that names the task, how long
    it has run and the hosts that have not answered yet, and quotes the last line of O(progress_file) when the task
    writes one.
  - At the end it prints a table of the plays, which are the phases of a run, with the time each took.
  - It only watches. The run goes on as it would without it.
requirements:
  - enable in configuration (C(callbacks_enabled = multinic.kubernetes.phases))
options:
  heartbeat_seconds:
    description: How long a task runs before the first line about it. V(0) prints none.
    type: float
    default: 10
    env:
      - name: MULTINIC_HEARTBEAT_SECONDS
    ini:
      - section: callback_phases
        key: heartbeat_seconds
  progress_file:
    description:
      - A file on the controller that long tasks append their progress to.
      - Its last line is quoted if the file was written after the task began, and only localhost has not answered yet.
      - Empty means C(progress.log) in the collection's cache folder, E(MULTINIC_CACHE).
    type: str
    default: ""
    env:
      - name: MULTINIC_PROGRESS
    ini:
      - section: callback_phases
        key: progress_file
"""

EXAMPLES = r"""
# ansible.cfg
# [defaults]
# callbacks_enabled = multinic.kubernetes.phases
"""

import os
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from ansible.plugins.callback import CallbackBase

DEFAULT_CACHE = "/var/cache/multinic-kubernetes"
LONGEST_PAUSE = 60.0
LONGEST_QUOTE = 100
TAIL_BYTES = 4096
COLOURS = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


def duration(seconds: float) -> str:
    """A time as a person would say it: 0.4 s, 45 s, 3 min 05 s."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def last_line(path: str, not_before: float) -> str:
    """The last line of a file written at or after a moment; "" if there is none."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_mtime < not_before:
                return ""
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    lines = reversed(COLOURS.sub("", text).replace("\r", "\n").split("\n"))
    shown = ("".join(char for char in line if char.isprintable()).strip() for line in lines)
    return next((line[:LONGEST_QUOTE] for line in shown if line), "")


def listed(names: Iterable[str], most: int = 4) -> str:
    """The first few names, and how many more there are."""
    every = list(names)
    return ", ".join(every[:most]) + (f" and {len(every) - most} more" if len(every) > most else "")


@dataclass
class Heartbeat:
    """What runs now, since when, and when to speak of it next. Times are seconds of a clock that only goes forward."""

    first: float
    task: str = ""
    began: float = 0.0
    due: float = 0.0
    hosts: dict[str, None] = field(default_factory=dict)

    def start(self, task: str, now: float) -> None:
        self.task, self.began, self.due = task, now, now + self.first
        self.hosts = {}

    def stop(self) -> None:
        self.task = ""

    def line(self, now: float, quote: str = "") -> str:
        """The line to print now; "" if it is too early. The pauses grow with the time the task has taken."""
        if not self.task or self.first <= 0 or now < self.due:
            return ""
        elapsed = now - self.began
        self.due = now + min(LONGEST_PAUSE, max(self.first, elapsed / 3))
        far = [host for host in self.hosts if host != "localhost"]
        waiting = f", waiting for {listed(far)}" if far else ""
        quoted = f": {quote}" if quote and not far else ""  # the progress file tells of tasks on the controller
        return f"  … still: {self.task} ({duration(elapsed)}{waiting})" + quoted


@dataclass
class Phases:
    """The plays of a run in order, with the moment each began."""

    began: list[tuple[str, float]] = field(default_factory=list)

    def start(self, name: str, now: float) -> None:
        self.began.append((name, now))

    def table(self, now: float) -> list[str]:
        if not self.began:
            return []
        ends = [moment for _name, moment in self.began[1:]] + [now]
        rows = [(name, end - start) for (name, start), end in zip(self.began, ends)]
        if len(rows) > 1:
            rows.append(("total", now - self.began[0][1]))
        width = max(len(name) for name, _seconds in rows)
        return [f"  {name:<{width}}  {duration(seconds):>12}" for name, seconds in rows]


class Watcher(threading.Thread):
    """Asks for a line every tick until told to stop. Daemonic: it never keeps a finished run alive."""

    def __init__(self, speak: Callable[[], None], tick: float) -> None:
        super().__init__(name="multinic-phases", daemon=True)
        self.speak = speak
        self.tick = tick
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(self.tick):
            try:
                self.speak()
            except Exception:  # noqa: BLE001  a progress line is never worth a run
                return

    def stop(self) -> None:
        self.ended.set()
        if self.is_alive():
            self.join(timeout=5)


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "multinic.kubernetes.phases"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()
        self.phases = Phases()
        self.heartbeat = Heartbeat(first=10.0)
        self.task_wall_clock = 0.0
        self.progress_file = ""
        self.watcher: Watcher | None = None

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        cache = os.environ.get("MULTINIC_CACHE") or DEFAULT_CACHE
        self.heartbeat.first = float(self.get_option("heartbeat_seconds"))
        self.progress_file = self.get_option("progress_file") or os.path.join(cache, "progress.log")

    def speak(self) -> None:
        # Display is safe here: it takes its own lock, which Ansible also holds while it forks its workers.
        quote = last_line(self.progress_file, self.task_wall_clock)
        with self.lock:
            line = self.heartbeat.line(time.monotonic(), quote)
        if line:
            self._display.display(line, color="bright gray")

    def task_started(self, task: Any) -> None:
        with self.lock:
            self.heartbeat.start(task.get_name().strip(), time.monotonic())
            self.task_wall_clock = time.time()
        if self.watcher is None and self.heartbeat.first > 0:
            self.watcher = Watcher(self.speak, tick=min(1.0, self.heartbeat.first))
            self.watcher.start()

    def host_answered(self, result: Any) -> None:
        with self.lock:
            self.heartbeat.hosts.pop(result.host.get_name(), None)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        with self.lock:
            self.heartbeat.stop()
            self.phases.start(play.get_name().strip(), time.monotonic())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.task_started(task)

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self.task_started(task)

    def v2_playbook_on_cleanup_task_start(self, task: Any) -> None:
        self.task_started(task)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        with self.lock:
            self.heartbeat.hosts[host.get_name()] = None

    def v2_runner_on_ok(self, result: Any) -> None:
        self.host_answered(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self.host_answered(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self.host_answered(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self.host_answered(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        with self.lock:
            self.heartbeat.stop()
            table = self.phases.table(time.monotonic())
        if self.watcher is not None:
            self.watcher.stop()
            self.watcher = None
        if table:
            self._display.banner("PHASES")
            for row in table:
                self._display.display(row)
