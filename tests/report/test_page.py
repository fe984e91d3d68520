"""The page: one file that fetches nothing, in which no name does anything, looked at in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import attrs
import pytest
from hypothesis import given

from tests.trace.support import (
    HEADER,
    HOSTILE,
    PING,
    events_of,
    every_kind,
    hostile,
    marks_of,
    reading_of,
    recorded,
    seqs,
    stale,
    trace_text,
    without_steps,
)
from vdpasim.core.events import Kind
from vdpasim.report import page as page_module
from vdpasim.report.page import EVENTS_MAX, SCRIPTS, embedded, page
from vdpasim.trace.file import Mark

if TYPE_CHECKING:
    from pathlib import Path

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Elements(HTMLParser):
    """What elements a page has, with their attributes, and the text of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside in self.raw:
            self.raw[self._inside].append(data)


def drawn(text: str, limit: int = EVENTS_MAX) -> str:
    return page(reading_of(text), limit)


def dma() -> int:
    """The first DMA that went wrong."""
    return marks_of(stale())[1].seq


def mean(name: str) -> str:
    """The page of a run in which everything is called so."""
    header = attrs.evolve(HEADER, scenario=name, kernel=name or "7.1", rerun=name, options={name: name})
    return drawn(trace_text(every_kind(name), [Mark(name, name, 9)], header))


class TestFile:
    def test_it_fetches_nothing(self) -> None:
        found = Elements(drawn(stale()))
        assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & set(found.tags)
        assert not {"src", "href", "srcset", "data", "style"} & {name for name, _ in found.attributes}
        assert not [name for name, _ in found.attributes if name.startswith("on")]
        assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttpRequest|WebSocket|innerHTML|eval\(", drawn(stale()))

    def test_the_policy_names_the_style_and_the_script_it_has(self) -> None:
        found = Elements(drawn(stale()))
        contents = [value or "" for name, value in found.attributes if name == "content"]
        (policy,) = (value for value in contents if "default-src" in value)
        hashes = re.findall(r"sha256-([^']+)", policy)
        inside = [found.raw["style"][0], found.raw["script"][-1]]
        assert hashes == [b64encode(sha256(text.encode()).digest()).decode() for text in inside]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    def test_without_scripts_it_has_the_text(self) -> None:
        shown = html.unescape(re.findall(r"<noscript>.*<pre>(.*)</pre></noscript>", drawn(stale()), re.DOTALL)[0])
        assert "VHOST_NEW_OWNER" in shown
        assert "!!! dma.stale-va" in shown

    def test_the_same_trace_gives_the_same_bytes(self) -> None:
        assert drawn(stale()) == drawn(stale())

    def test_the_data_is_json(self) -> None:
        found = json.loads(Elements(drawn(stale())).raw["script"][0])
        assert len(found["rows"]) == len(events_of(stale()))

    @pytest.mark.parametrize("table", ["COLOR", "GLYPHS"])
    def test_every_kind_is_drawn(self, table: str) -> None:
        script = Elements(drawn(stale())).raw["script"][-1]
        body = re.findall(rf"const {table} = {{(.*?)}};", script, re.DOTALL)[0]
        kinds = set(re.findall(r"([A-Z]+):", body)) | {"ENTER", "EXIT"}
        assert kinds == set(Kind.__members__)

    @pytest.mark.parametrize("name", SCRIPTS)
    def test_scripts_are_short_and_make_text_only(self, name: str) -> None:
        from importlib.resources import files

        text = files("vdpasim.report").joinpath(name).read_text("utf-8")
        assert len(text.splitlines()) <= 600
        assert max(map(len, text.splitlines())) <= 120
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval|Function\(", text)


class TestHostileNames:
    @given(hostile)
    def test_make_no_element_and_end_none(self, name: str) -> None:
        calm, found = Elements(mean("calm")), Elements(mean(name))
        assert found.tags == calm.tags
        assert len(found.attributes) == len(calm.attributes)
        assert len(found.raw["script"]) == len(calm.raw["script"])
        assert found.raw["script"][-1] == calm.raw["script"][-1]

    @given(hostile)
    def test_are_ascii_without_markup_in_the_data(self, name: str) -> None:
        text = embedded([name])
        assert text.isascii()
        assert not set("<>&") & set(text)
        assert json.loads(text) == [name]


HANDS = """
const said = [], say = (...values) => said.push(values.join(" "));
const key = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const kinds = () => [...document.querySelectorAll("#kinds button")];
say("begins", rows[picked].q);
for (const name of ["n", "n", "n", "p", "ArrowRight", "Home", "ArrowLeft", "End"]) {
  key(name);
  say(name, rows[picked].q);
}
key("0"); say("all", left, width);
key("+"); say("in", width);
key("-"); say("out", width);
const at = { deltaY: -1, clientX: 700, clientY: lanesCanvas.getBoundingClientRect().top + 60, cancelable: true };
lanesCanvas.dispatchEvent(new WheelEvent("wheel", at)); say("wheel", width < rows.length);
lanesCanvas.dispatchEvent(new WheelEvent("wheel", { ...at, clientX: 50 })); say("gutter", scroll);
kinds().find((one) => one.textContent === "DMA").click(); say("without", shown.length, $("count").textContent);
pick(bySeq.get(@FIRST@));
say("hidden", shown.length, rows[picked].q, kinds().every((one) => one.ariaPressed === "true"));
$("filter").value = text = "-exit unit:vmm kind:enter"; refilter(); say("filter", shown.length);
key("Escape"); say("escape", shown.length, $("filter").value === "");
document.querySelector(".finding .step").click(); say("step", rows[picked].q);
key("?"); say("keys", $("keys").hidden);
$("theme").click(); say("theme", document.documentElement.dataset.theme);
document.documentElement.dataset.said = said.join("|");
"""


@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome is installed")
class TestBrowser:
    def look(self, text: str, folder: Path, place: str = "") -> tuple[str, str]:
        """The document as the browser has it once scripts have run, and what it complained of."""
        path = folder / "page.html"
        path.write_text(text, encoding="utf-8")
        words = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        words += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--window-size=1400,900"]
        words += ["--virtual-time-budget=2000", "--dump-dom", f"{path.as_uri()}{place}"]
        done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=120)
        return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)

    def test_lanes_events_and_findings_are_in_the_document(self, tmp_path: Path) -> None:
        dom, complaints = self.look(drawn(stale()), tmp_path)
        assert complaints == ""
        events = events_of(stale())
        assert f'data-ready="{len(events)}"' in dom
        by_worker = [event for event in events if event[2] == "disk.worker"]
        at_disk = [event for event in by_worker if event[4] == "disk"]
        assert f"<li>workers: disk.worker, {len(by_worker)} events</li>" in dom
        assert f"<li>devices and queues: disk queue 0, {len(at_disk)} events</li>" in dom
        assert dom.count('class="finding"') == 3
        assert re.search(r'class="row +found" [^>]*aria-selected="true"', dom), "the first finding is picked"
        assert "iotlb.divergence: vhost-vdpa-0 asid 0" in dom

    def test_a_place_shows_promise_and_place_of_a_dma(self, tmp_path: Path) -> None:
        dom, complaints = self.look(drawn(without_steps(stale())), tmp_path, f"#seq={dma()}&theme=dark")
        assert complaints == ""
        assert 'data-theme="dark"' in dom
        assert "<h3>promised</h3><code>vmm/ram+0x9000 (512 bytes)</code>" in dom
        assert "<h3>place</h3><code>vmm/heap+0x9000 (512 bytes)</code>" in dom
        assert f"its map entry #{seqs(stale(), Kind.REMAP)[-1]}" in dom

    def test_a_filter_leaves_out_what_does_not_match(self, tmp_path: Path) -> None:
        dom, complaints = self.look(drawn(stale()), tmp_path, f"#filter=kind:dma&seq={dma()}")
        assert complaints == ""
        shown = len(seqs(stale(), Kind.DMA))
        assert f'data-ready="{shown}"' in dom
        assert f"{shown} of {len(events_of(stale()))} events" in dom

    def test_ten_thousand_events_are_only_drawn_where_one_looks(self, tmp_path: Path) -> None:
        text = recorded(PING, "6.1", "both_formats")
        dom, complaints = self.look(drawn(text), tmp_path)
        assert complaints == ""
        count = int(re.findall(r'data-ready="(\d+)"', dom)[0])
        assert count > 10_000
        assert 0 < dom.count('role="option"') < 200

    def test_hands_find_zoom_and_filter(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asset, hands = page_module._asset, HANDS.replace("@FIRST@", str(dma()))
        monkeypatch.setattr(page_module, "_asset", lambda name: asset(name) + (hands if name == SCRIPTS[-1] else ""))
        dom, complaints = self.look(drawn(stale()), tmp_path, "#theme=light")
        assert complaints == ""
        said = html.unescape(re.findall(r'data-said="([^"]*)"', dom)[0]).split("|")
        events = events_of(stale())
        count, rest = len(events), len([event for event in events if event[3] != Kind.DMA])
        calls = len([event for event in events if event[3] == Kind.ENTER and event[2] == "vmm"])
        tree, first, second = (mark.seq for mark in marks_of(stale()))
        assert said == [
            f"begins {tree}",
            *(f"n {first}", f"n {second}", f"n {tree}", f"p {second}", f"ArrowRight {second + 1}"),
            *("Home 1", "ArrowLeft 1", f"End {count}"),
            *(f"all 0 {count}", f"in {count / 2:g}", f"out {count}", "wheel true", "gutter 0"),
            f"without {rest} {rest} of {count} events",
            f"hidden {count} {first} true",
            f"filter {calls}",
            f"escape {count} true",
            *(f"step {marks_of(stale())[0].steps[0]}", "keys false", "theme dark"),
        ]

    def test_hostile_names_do_nothing(self, tmp_path: Path) -> None:
        calm, _ = self.look(mean("calm"), tmp_path)
        for name in (*HOSTILE[:3], "".join(HOSTILE)):
            dom, complaints = self.look(mean(name), tmp_path)
            assert complaints == ""
            assert f'data-ready="{len(every_kind())}"' in dom
            found, usual = Elements(dom).tags, Elements(calm).tags
            assert set(found) == set(usual)
            assert (found.count("script"), found.count("title")) == (2, 1)
            assert "<title>taken" not in dom

    def test_a_trace_without_events_is_a_page(self, tmp_path: Path) -> None:
        dom, complaints = self.look(drawn(trace_text([], end=False)), tmp_path)
        assert complaints == ""
        assert 'data-ready="0"' in dom
        assert "The trace was cut short" in dom
