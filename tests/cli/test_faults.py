"""``vdpasim faults`` and ``vdpasim run --fault`` as their users call them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from vdpasim.cli import faults, run
from vdpasim.sim.faults import GRAMMAR, OPS

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

STORY = '''
from vdpasim.scenario import scenario

@scenario(kernel="6.12")
async def opened(sim):
    """A device is opened."""
    path = sim.vdpa.dev_add("disk", mgmtdev="vdpasim_blk").path
    await sim.process("vmm").open(path)
'''


def tell(*words: str) -> Result:
    return CliRunner().invoke(faults.command, list(words))


class TestFaults:
    def test_lists_every_operation_in_one_line_under_its_place(self) -> None:
        shown = tell()
        assert shown.exit_code == 0
        assert GRAMMAR in shown.output
        lines = [line.split()[0] for line in shown.output.splitlines() if line.startswith("  ")]
        assert sorted(lines) == sorted(OPS)

    def test_says_in_words_what_a_fault_would_do(self) -> None:
        shown = tell("kick", "VHOST_SET_OWNER@foo:2-3:delay=5us")
        assert (shown.exit_code, shown.output.splitlines()) == (
            0,
            [
                "kick:1:drop: the 1st kick at each device is lost",
                "VHOST_SET_OWNER@foo:2-3:delay=5us: the 2nd to 3rd VHOST_SET_OWNER at foo happens 5us later",
            ],
        )

    @pytest.mark.parametrize("word", ["suspend", "kick:EIO", "kick:0", ""])
    def test_a_word_that_is_no_fault_exits_2_with_the_grammar(self, word: str) -> None:
        shown = tell(word)
        assert shown.exit_code == 2
        assert GRAMMAR in shown.output

    def test_names_the_nearest_operations(self) -> None:
        assert "nearest: VHOST_VDPA_SUSPEND" in tell("suspend").output

    def test_json(self) -> None:
        rows = json.loads(tell("--json").output)
        assert [row["op"] for row in rows] == list(OPS)
        assert json.loads(tell("--json", "kick").output) == [
            {"fault": "kick:1:drop", "does": "the 1st kick at each device is lost"}
        ]


class TestRun:
    @pytest.fixture
    def story(self, tmp_path: Path) -> str:
        path = tmp_path / "story.py"
        path.write_text(STORY, encoding="utf-8")
        return str(path)

    def play(self, story: str, *faults: str) -> Result:
        return CliRunner().invoke(run.command, [story, *[word for one in faults for word in ("--fault", one)]])

    def test_faults_strike_and_stand_in_the_command_that_does_it_again(self, story: str) -> None:
        shown = self.play(story, "open@disk:1:EMFILE")
        assert shown.exit_code == 1
        assert "oserror" in shown.output
        assert "*** fault open:EMFILE at vhost-vdpa-0" in shown.output
        assert "--seed 0 --fault open@disk:1:EMFILE\n" in shown.output

    def test_a_fault_that_never_fired_exits_1_and_is_named(self, story: str) -> None:
        shown = self.play(story, "open:1:delay=1us", "kick@disk")
        assert shown.exit_code == 1
        assert "fault kick@disk:1:drop never fired: kick came at no device" in shown.output
        assert "--fault open:1:delay=1us --fault kick@disk:1:drop\n" in shown.output

    def test_a_word_that_is_no_fault_exits_2(self, story: str) -> None:
        shown = self.play(story, "teleport")
        assert shown.exit_code == 2
        assert "there is no operation 'teleport'" in shown.output
