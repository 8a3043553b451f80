# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The page's drawing: networks are rails from top to bottom, hosts are boxes across them, cards are plugs on the rails.

A rail runs through the boxes of hosts that are on its network and behind those that are not. The drawing is four SVGs in
a grid, so that the names of hosts and networks stay in sight while it is scrolled.

This module util is PRIVATE to the collection. It is pure: no I/O, no Ansible, standard library only.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape as _escape
from typing import Any, Optional

from ansible_collections.multinic.kubernetes.plugins.module_utils._net import in_url
from ansible_collections.multinic.kubernetes.plugins.module_utils._page_model import (
    Card,
    Host,
    Lane,
    Seen,
    dig,
    labels_of,
    lanes_of,
    sequence,
)
from ansible_collections.multinic.kubernetes.plugins.module_utils._seen import api_addresses

MONO, BOLD, SANS = 7.3, 7.0, 6.3  # pixels that a character takes, in the widest of the fonts that the style names
WIDTHS = {"b": MONO, "m": MONO, "s": SANS}
FEW = 12  # more hosts than these are drawn compactly
MOST = 250  # hosts that are drawn; the table holds them all
LINE, PAD, STEM = 16, 8, 14
LANE_LEFT, LANE_RIGHT = 26, 12
NAME_CHARS, LABEL_CHARS = 22, 44
TWO_LINES = 2 * NAME_CHARS - 2
HEAD_LINES, CAP = 4, 10  # of a head: the lines that each has, and the place of the rail below them
KINDS = {"cluster": "Cluster network", "default": "Default route", "other": "Other network", "vip": "API address (VIP)"}

BALANCED = {
    "ipvs": "IPVS on each host, on no wire",
    "localhost": "a proxy on each host, on no wire",
    "external": "outside of the cluster",
}

# Nothing of these has a place in XML, or it turns around what stands beside it.
_UNFIT = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def esc(value: Any) -> str:
    """Text as it may stand in HTML and SVG, also between quotes."""
    return _escape(_UNFIT.sub("\ufffd", str(value)), quote=True)


def middle_cut(text: str, most: int) -> str:
    """Both ends of a long text: where hosts differ is often at its end."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"


def name_lines(name: str, most: int = NAME_CHARS) -> list[str]:
    """A name in at most two lines, broken behind a dot or dash where there is one."""
    if len(name) <= most:
        return [name]
    name = middle_cut(name, 2 * most - 2)
    places = [place + 1 for place in range(len(name)) if name[place] in ".-_…" and len(name) - most - 1 <= place < most]
    place = places[-1] if places else most
    return [name[:place], name[place:]]


@dataclass(frozen=True)
class Line:
    """A line of a label: parts of (class, text)."""

    parts: tuple[tuple[str, str], ...]

    @property
    def width(self) -> float:
        return sum(len(text) * WIDTHS.get(style, BOLD) for style, text in self.parts)

    def svg(self, x: float, y: float) -> str:
        spans = "".join(f'<tspan class="{style}">{esc(text)}</tspan>' for style, text in self.parts)
        return f'<text x="{_n(x)}" y="{_n(y)}">{spans}</text>'


@dataclass
class Plug:
    style: str
    lines: list[Line]
    title: str
    network: str = ""

    @property
    def height(self) -> float:
        return len(self.lines) * LINE + PAD

    @property
    def width(self) -> float:
        return max((line.width for line in self.lines), default=0) + 2 * PAD


@dataclass
class Column:
    """A lane with its plugs laid out."""

    kind: str
    head: list[Line]
    plugs: dict[str, list[Plug]] = field(default_factory=dict)
    x: float = 0

    @property
    def label_width(self) -> float:
        return max((plug.width for plugs in self.plugs.values() for plug in plugs), default=0)

    @property
    def width(self) -> float:
        head = max((line.width for line in self.head), default=0) + 4
        return max(LANE_LEFT + STEM + self.label_width + LANE_RIGHT, head + LANE_RIGHT + PAD, 150)

    @property
    def rail(self) -> float:
        return self.x + LANE_LEFT


def _n(value: float) -> str:
    return f"{value:.1f}".rstrip("0").rstrip(".")


# --- what is told -----------------------------------------------------------------------------------------------------


def _range(values: Iterable[int]) -> str:
    known = sorted({value for value in values if value})
    if not known:
        return ""
    return f"MTU {known[0]}" if len(known) == 1 else f"MTU {known[0]} to {known[-1]}"


def _measures(mtu: int, speed: str) -> str:
    return " · ".join(part for part in (f"MTU {mtu}" if mtu else "", speed) if part)


def _usual(values: Iterable[Any]) -> Any:
    """What more than half of them have."""
    numbers: dict[Any, int] = {}
    for value in values:
        numbers[value] = numbers.get(value, 0) + 1
    return next((value for value, times in numbers.items() if times * 2 > sum(numbers.values())), None)


def _title(host: Host, card: Card) -> str:
    told = [f"{host.name}: {card.name}", *([card.kind] if card.kind else []), ", ".join((card.address, *card.more))]
    told.append(_measures(card.mtu, card.speed or "speed not told"))
    told += [f"default route by {', '.join(card.gateways)}"] if card.gateways else []
    told += [card.fault] if card.fault else []
    told += ["the cluster's card"] if card.cluster else []
    return ", ".join(told)


def _style(card: Card) -> str:
    return " ".join(name for name, on in (("own", card.cluster), ("fault", bool(card.fault))) if on)


def _plug(host: Host, card: Card, usual: Optional[tuple[int, str]], compact: bool) -> Plug:
    """A card's label: all of it, or, where the hosts are many, its name, address, and what is unusual."""
    address = middle_cut(card.address, LABEL_CHARS)
    name = middle_cut(card.name, 20)
    fault = [Line((("e", f"✕ {card.fault}"),))] if card.fault else []
    more = [Line((("s", f"also {middle_cut(', '.join(card.more), LABEL_CHARS)}"),))] if card.more else []
    measures = _measures(card.mtu, card.speed)
    odd = bool(measures) and usual is not None and (card.mtu, card.speed) != usual
    if compact:
        arrow = (("d", " →"),) if card.gateways else ()
        lines = [Line((("b", name), ("m", f" {address}"), *arrow)), *more, *fault]
        lines += [Line((("w", f"▲ {measures}"),))] if odd else []
        return Plug(_style(card), lines, _title(host, card), card.network)
    kind = (("s", f"  {middle_cut(card.kind, 30)}"),) if card.kind else ()
    lines = [Line((("b", name), *kind)), Line((("m", address),)), *more]
    if measures:
        lines.append(Line((("w", f"▲ {measures}"),) if odd else (("s", measures),)))
    if card.gateways:
        lines.append(Line((("d", f"→ default route, {middle_cut(', '.join(card.gateways), 34)}"),)))
    return Plug(_style(card), [*lines, *fault], _title(host, card), card.network)


def _column(lane: Lane, hosts: Mapping[str, Host], compact: bool) -> Column:
    cards = list(lane.all())
    networks = lane.networks
    told = networks[0] if len(networks) == 1 else f"{len(networks)} networks"
    usual = _usual((card.mtu, card.speed) for card in cards)
    speeds = {card.speed for card in cards}
    measures = " · ".join(
        part for part in (_range(card.mtu for card in cards), *(speeds if len(speeds) == 1 else ())) if part
    )
    gateways = lane.gateways
    everywhere = len(lane.cards) == len(hosts) > 1
    fourth = f"all {len(hosts)} hosts" if everywhere else f"{len(lane.cards)} of {len(hosts)} hosts"
    if gateways:
        fourth = f"→ by {gateways[0]}" if len(gateways) == 1 else f"→ by {len(gateways)} gateways"
    head = [
        Line((("k", KINDS[lane.kind].upper()),)),
        Line((("b", middle_cut(told, LABEL_CHARS)),)),
        Line((("s", measures),)),
        Line((("d" if gateways else "s", middle_cut(fourth, LABEL_CHARS)),)),
    ]
    plugs = {
        name: [_plug(hosts[name], card, usual, compact) for card in cards]
        for name, cards in lane.cards.items()
        if name in hosts
    }
    return Column(lane.kind, head, plugs)


def _vip_column(
    plan: Mapping[str, Any], hosts: Mapping[str, Host], ways: Mapping[str, Seen], compact: bool
) -> Optional[Column]:
    balancer = str(dig(plan, "apiserver", "balancer") or "")
    if balancer in ("", "ipvs"):
        ends = api_addresses(plan)
    else:
        ends = [str(item) for item in sequence(dig(plan, "apiserver", "addresses"))]
        ends = ends or [str(name) for name in [dig(plan, "apiserver", "name")] if name]
    if not ends:
        return None
    reached = " and ".join(ends)
    plugs = {}
    for name, host in hosts.items():
        if not host.sources:
            continue
        serves = host.control_plane and host.planned
        lines = [Line((("s", "from "), ("m", source))) for source in host.sources]
        if serves and compact:
            lines[0] = Line((*lines[0].parts, ("v", " ◆")))
        if serves and not compact:
            lines.append(Line((("v", "◆ its API server is behind it"),)))
        sources = " and ".join(host.sources)
        title = f"{name}: reaches {reached} from {sources}" + (", and its API server is behind it" if serves else "")
        way = ways.get(name)
        wrong = way is not None and way.seen is not None and not way.right
        if way is not None and wrong:
            told = middle_cut(", ".join([*(way.seen or ()), *filter(None, [way.trouble])]) or "none", LABEL_CHARS)
            lines.append(Line((("e", f"✕ seen {told}"),)))
            title = f"{name}: should reach {reached} from {sources}, seen {told}"
        plugs[name] = [Plug("vip fault" if wrong else "vip", lines, title, ends[0])]
    head = [
        Line((("k", KINDS["vip"].upper()),)),
        *(Line((("b", f"{in_url(end)}:{dig(plan, 'apiserver', 'port')}"),)) for end in ends),
        Line((("s", BALANCED.get(balancer, f"{balancer} on each host, on no wire")),)),
        Line((("v", "◆ API server behind it"),)),
    ]
    return Column("vip", head, plugs) if plugs else None


def _host_lines(host: Host, name: str, compact: bool, rest: Sequence[Card]) -> list[Line]:
    lines = [Line((("b", part),)) for part in name_lines(name)]
    marks: list[tuple[str, str]] = []
    if host.errors:
        marks.append(("e", f"✕ {host.errors} error{'s' if host.errors > 1 else ''}  "))
    if host.warnings:
        marks.append(("w", f"▲ {host.warnings} warning{'s' if host.warnings > 1 else ''}"))
    if compact:
        short = [("e", f"✕{host.errors} ")] if host.errors else []
        short += [("w", f"▲{host.warnings} ")] if host.warnings else []
        return (
            [*lines, Line((*short, ("s", host.role.removesuffix(", first") or "not planned")))]
            if short or host.control_plane
            else lines
        )
    lines.append(Line((("s", host.role if host.planned else "not planned"),)))
    if marks:
        lines.append(Line(tuple(marks)))
    also = [*(f"{card.name} {card.address}" for card in rest), *host.minor]
    if also:
        lines.append(Line((("s", middle_cut(f"also {', '.join(also)}", 30)),)))
    return lines


# --- how it is laid out -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    host: Host
    lines: list[Line]
    top: float
    height: float

    @property
    def bottom(self) -> float:
        return self.top + self.height


def drawing(all_hosts: Sequence[Host], plan: Mapping[str, Any], ways: Mapping[str, Seen]) -> str:
    """The drawing, empty where there is nothing to draw. Ways are the VIP's routes that were seen."""
    order: dict[str, int] = {}
    for host in all_hosts:
        if host.cluster_card:
            order.setdefault(host.cluster_card.network, len(order))
    # Hosts of one cluster network lie together, so that its rail is in one piece.
    hosts = sorted(
        all_hosts, key=lambda host: order.get(host.cluster_card.network, 0) if host.cluster_card else len(order)
    )[:MOST]
    named = {host.name: host for host in hosts}
    lanes, rest = lanes_of(hosts)
    compact = len(hosts) > FEW
    columns = [_column(lane, named, compact) for lane in lanes]
    vip = _vip_column(plan, named, ways, compact)
    columns += [vip] if vip else []
    if not columns:
        return ""
    rows, side = _rows(hosts, columns, compact, rest)
    gap = rows[0].top
    width = _place(columns)
    height = rows[-1].bottom + gap
    classes = "drawing tall" if compact else "drawing"
    return (
        f'<div class="{classes}" role="region" aria-label="Drawing of hosts, cards and networks" tabindex="0">'
        f'<div class="corner"></div>{_heads(columns, width)}'
        f"{_names(rows, side, height)}{_rails(rows, columns, width, height)}</div>"
    )


def _rows(
    hosts: Sequence[Host], columns: Sequence[Column], compact: bool, rest: Mapping[str, Sequence[Card]]
) -> tuple[list[Row], float]:
    gap = 6 if compact else 14
    inner = 4 if compact else 10
    top, rows, side = float(gap), [], 0.0
    short, _left = labels_of([host.name for host in hosts], TWO_LINES)
    for host in hosts:
        lines = _host_lines(host, short[host.name], compact, rest.get(host.name, ()))
        stacks = [column.plugs.get(host.name, []) for column in columns]
        tall = max((sum(plug.height for plug in plugs) + 6 * (len(plugs) - 1) for plugs in stacks if plugs), default=0)
        height = max(tall, len(lines) * LINE + 4) + 2 * inner
        rows.append(Row(host, lines, top, height))
        top += height + gap
        side = max(side, *(line.width for line in lines))
    return rows, max(math.ceil(side) + 2 * PAD + 12, 130)


def _place(columns: Sequence[Column]) -> float:
    x = 0.0
    for column in columns:
        column.x = x
        x += column.width
    return x + 4


def _svg(kind: str, width: float, height: float, content: Iterable[str]) -> str:
    w, h = _n(width), _n(height)
    body = "".join(content)
    return f'<svg class="{kind}" width="{w}" height="{h}" viewBox="0 0 {w} {h}" aria-hidden="true">{body}</svg>'


def _heads(columns: Sequence[Column], width: float) -> str:
    parts = []
    shown = [[line for line in column.head if any(text for _style_, text in line.parts)] for column in columns]
    height = max(HEAD_LINES, *map(len, shown)) * LINE + 2 * CAP
    for column, lines in zip(columns, shown):
        texts = "".join(line.svg(column.rail - 10, 16 + LINE * number) for number, line in enumerate(lines))
        rail = f'<path class="rail {column.kind}" d="M{_n(column.rail)} {height - CAP}V{height}"/>'
        cap = f'<path class="cap {column.kind}" d="M{_n(column.rail - 9)} {height - CAP}h18"/>'
        parts.append(f'<g class="head {column.kind}">{texts}{rail}{cap}</g>')
    return _svg("heads", width, height, parts)


def _names(rows: Sequence[Row], side: float, height: float) -> str:
    parts = []
    for row in rows:
        w, r = _n(side - 2), 8
        box = (
            f'<path class="{_box(row)}" d="M{w} {_n(row.top)}H{2 + r}a{r} {r} 0 0 0 -{r} {r}'
            f'V{_n(row.bottom - r)}a{r} {r} 0 0 0 {r} {r}H{w}"/>'
        )
        first = row.top + (row.height - len(row.lines) * LINE) / 2 + 12
        texts = "".join(line.svg(2 + PAD + 4, first + LINE * number) for number, line in enumerate(row.lines))
        parts.append(f'<g class="host"><title>{esc(_host_title(row.host))}</title>{box}{texts}</g>')
    return _svg("names", side - 2, height, parts)


def _host_title(host: Host) -> str:
    also = f"; also {', '.join(host.minor)}" if host.minor else ""
    return f"{host.name}: {host.role or 'not planned'}{also}"


def _box(row: Row) -> str:
    return "box" + (" bad" if row.host.errors else "") + ("" if row.host.planned else " unplanned")


def _rails(rows: Sequence[Row], columns: Sequence[Column], width: float, height: float) -> str:
    behind, boxes, before = [], [], []
    for column in columns:
        for start, end in _segments(rows, column):
            behind.append(f'<path class="rail {column.kind}" d="M{_n(column.rail)} {_n(start)}V{_n(end)}"/>')
            for row in rows:
                low, high = max(start, row.top), min(end, row.bottom)
                if row.host.name in column.plugs and low < high:
                    before.append(f'<path class="rail {column.kind}" d="M{_n(column.rail)} {_n(low)}V{_n(high)}"/>')
    for row in rows:
        right, r = width - 2, 8
        boxes.append(
            f'<path class="{_box(row)}" d="M0 {_n(row.top)}H{_n(right - r)}a{r} {r} 0 0 1 {r} {r}'
            f'V{_n(row.bottom - r)}a{r} {r} 0 0 1 -{r} {r}H0"/>'
        )
    plugs = [text for row in rows for column in columns for text in _plugs(row, column)]
    return _svg("rails", width, height, [*behind, *boxes, *before, *plugs])


def _centers(row: Row, plugs: Sequence[Plug]) -> list[float]:
    y = row.top + (row.height - sum(plug.height for plug in plugs) - 6 * (len(plugs) - 1)) / 2
    centers = []
    for plug in plugs:
        centers.append(y + plug.height / 2)
        y += plug.height + 6
    return centers


def _segments(rows: Sequence[Row], column: Column) -> list[tuple[float, float]]:
    """From the head to the last plug, broken where the next host is on another network."""
    points = [
        (center, plug.network)
        for row in rows
        if row.host.name in column.plugs
        for plug, center in zip(column.plugs[row.host.name], _centers(row, column.plugs[row.host.name]))
    ]
    segments: list[tuple[float, float]] = []
    start, network = 0.0, points[0][1] if points else ""
    last = 0.0
    for center, mine in points:
        if mine != network:
            segments.append((start, last))
            start, network = center, mine
        last = center
    segments.append((start, last))
    return [segment for segment in segments if segment[1] > segment[0]]


def _plugs(row: Row, column: Column) -> Iterable[str]:
    plugs = column.plugs.get(row.host.name, [])
    for plug, center in zip(plugs, _centers(row, plugs)):
        x, left = column.rail, column.rail + STEM
        top = center - plug.height / 2
        box = (
            f'<rect class="label" x="{_n(left)}" y="{_n(top)}" width="{_n(column.label_width)}" '
            f'height="{_n(plug.height)}" rx="5"/>'
        )
        stem = f'<path class="stem" d="M{_n(x)} {_n(center)}H{_n(left)}"/>'
        shape = (
            f'<path class="dot" d="M{_n(x)} {_n(center - 6)}l6 6l-6 6l-6 -6z"/>'
            if column.kind == "vip"
            else f'<circle class="dot" cx="{_n(x)}" cy="{_n(center)}" r="{6 if "own" in plug.style else 5}"/>'
        )
        texts = "".join(line.svg(left + PAD, top + 15 + LINE * number) for number, line in enumerate(plug.lines))
        yield (
            f'<g class="plug {column.kind} {plug.style}"><title>{esc(plug.title)}</title>{stem}{box}{shape}{texts}</g>'
        )
