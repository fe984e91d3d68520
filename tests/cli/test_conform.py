"""``vdpasim conform`` as its users call it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from vdpasim.cli.conform import command

if TYPE_CHECKING:
    from pathlib import Path


def line(name: str, value: int, **keys: Any) -> str:
    steps = [
        {"op": "eventfd", "fd": "e", "init": 3, "ret": 0, "errno": 0},
        {"op": "eventfd_read", "fd": "e", "timeout_ms": 0, "ret": 8, "errno": 0, "value": value},
        {"op": "open", "fd": "dev", "dev": "vhost-vdpa-net", "flags": "rw", "ret": 0, "errno": 0},
        {"op": "read", "fd": "dev", "size": 72, "ret": -1, "errno": "EINVAL"},
    ]
    data = {"case": name, "topic": "misc", "dev": "vhost-vdpa-net", "kernel": "6.12.117", "steps": steps, **keys}
    return json.dumps(data) + "\n"


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    folder = tmp_path / "6.12"
    folder.mkdir()
    (folder / "misc.jsonl").write_text(line("right", 3))
    return folder


def conform(*words: str | Path) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words])


def test_agreement_is_success(traces: Path) -> None:
    result = conform(traces)
    assert result.exit_code == 0
    assert "6.12: 1 of 1 cases with the data path agree" in result.output


def test_a_difference_is_shown_and_fails(traces: Path) -> None:
    (traces / "misc.jsonl").write_text(line("right", 3) + line("wrong", 4))
    result = conform(traces)
    assert result.exit_code == 1
    assert "6.12/misc: wrong" in result.output
    assert "expected  ret=8 errno=0 value=4" in result.output
    assert "got       ret=8 errno=0 value=3" in result.output


def test_a_line_that_is_no_case_is_shown_and_fails(traces: Path) -> None:
    (traces / "misc.jsonl").write_text(line("right", 3) + "nonsense\n")
    result = conform(traces)
    assert result.exit_code == 1
    assert "misc.jsonl:2: no JSON" in result.output


def test_what_is_not_selected_is_counted(traces: Path) -> None:
    for words in (["--no-data-path"], ["--topic", "blk"], ["--case", "left"]):
        result = conform(traces, *words, "--json")
        assert result.exit_code == 0
        outcomes = json.loads(result.output)["sets"]["6.12"]["outcomes"]
        assert (outcomes["agrees"], outcomes["not selected"]) == (0, 1)


def test_json_is_one_object(traces: Path) -> None:
    report = json.loads(conform(traces, "--json").output)
    assert report["clean"] is True
    assert report["sets"]["6.12"]["cases"] == 1


def test_the_kernel_can_be_another(traces: Path) -> None:
    assert conform(traces, "--kernel", "6.1").exit_code == 0


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--kernel", "5.4"], "5.4"),
        (["--record", "x"], "--record goes with --live"),
        (["--destructive"], "--destructive goes with --live"),
        (["--live", "vhost-vdpa-gpu=/dev/x"], "vhost-vdpa-gpu"),
        (["--live", "/dev/vhost-vdpa-999"], "/dev/vhost-vdpa-999"),
    ],
)
def test_wrong_usage_exits_2(traces: Path, words: list[str], complaint: str) -> None:
    result = conform(traces, *words)
    assert result.exit_code == 2
    assert complaint in result.output


def test_no_cases_is_wrong_usage(tmp_path: Path) -> None:
    assert conform(tmp_path).exit_code == 2
    assert conform(tmp_path / "nowhere").exit_code == 2


def test_evidence_is_written_sorted(traces: Path, tmp_path: Path) -> None:
    conform(traces, "--evidence", tmp_path / "evidence.json")
    evidence = json.loads((tmp_path / "evidence.json").read_text())
    assert evidence["vfs.no-read"] == {"cases": ["6.12/right"], "count": 1}
    assert list(evidence) == sorted(evidence)


class TestAgreementFile:
    def conform(self, traces: Path, agreeing: int) -> Result:
        path = traces / "agreement.toml"
        path.write_text(f'["6.12"]\nwithout_data_path = 0\nwith_data_path = {agreeing}\n')
        return conform(traces, "--agreement", path)

    def test_decides_instead_of_the_single_difference(self, traces: Path) -> None:
        (traces / "misc.jsonl").write_text(line("right", 3) + line("wrong", 4))
        assert self.conform(traces, 1).exit_code == 0

    def test_fails_when_fewer_agree(self, traces: Path) -> None:
        result = self.conform(traces, 2)
        assert result.exit_code == 1
        assert "FALLEN: 6.12: with_data_path = 1" in result.output

    def test_asks_to_be_raised_when_more_do(self, traces: Path) -> None:
        result = self.conform(traces, 0)
        assert result.exit_code == 0
        assert "please raise it" in result.output

    def test_that_is_malformed_is_wrong_usage(self, traces: Path) -> None:
        (traces / "agreement.toml").write_text('["6.12"]\nall = 1\n')
        assert conform(traces, "--agreement", traces / "agreement.toml").exit_code == 2


class TestLive:
    def test_cases_that_cannot_run_are_listed_with_the_reason(self, traces: Path) -> None:
        result = conform(traces, "--live", "vhost-vdpa-blk=/dev/null", "--destructive")
        assert result.exit_code == 0
        assert "not run: 1 cases: needs a device of kind vhost-vdpa-net" in result.output

    def test_hazards_are_named_and_keep_cases_from_running(self, traces: Path) -> None:
        result = conform(traces, "--live", "vhost-vdpa-net=/dev/null", "-v")
        assert "destructive on a production card: misc: sends frames" in result.output
        assert "6.12/misc: right" in result.output
        assert "not run" in result.output

    def test_a_run_is_recorded(self, traces: Path, tmp_path: Path) -> None:
        record = tmp_path / "mine.jsonl"
        result = conform(traces, "--live", "vhost-vdpa-net=/dev/null", "--destructive", "--record", record)
        assert result.exit_code == 1
        assert "expected  ret=-1 errno=EINVAL" in result.output
        assert json.loads(record.read_text())["steps"][3]["ret"] == 0
