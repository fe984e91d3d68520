"""What a replay says: agreement per topic, each first difference side by side, and the floor under the numbers.

Theory. Two reviewed files stand beside the traces. ``differences.toml`` lists the cases that may differ, each with its
reason: at most :data:`ACCEPTED_MAX`, and none about the IOTLB, where there is nothing to excuse. The agreement file
holds the number of agreeing cases per set; fewer is a failure, more is a request to raise it.
"""

from __future__ import annotations

import tomllib
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, cast

import attrs

from vdpasim.conform.replay import OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from vdpasim.conform.cases import Step, Value
    from vdpasim.conform.interpreter import StepResult
    from vdpasim.conform.replay import Outcome, Verdict

ACCEPTED_MAX = 5
"""How many reviewed differences there may be."""

VALUE_MAX = 160
"""Longer values are shortened when printed."""


class ReviewError(ValueError):
    """A reviewed file that breaks its own rules."""


def load_accepted(path: Path) -> dict[tuple[str, str], str]:
    """The accepted differences, (set, case) -> reason.

    Raises:
        ReviewError: more than :data:`ACCEPTED_MAX`, one without a reason, or one about the IOTLB.
    """
    accepted: dict[tuple[str, str], str] = {}
    for row in cast("list[dict[str, str]]", tomllib.loads(path.read_text("utf-8")).get("difference", [])):
        if set(row) != {"set", "case", "topic", "reason"} or not row["reason"].strip():
            raise ReviewError(f"{path}: a difference has set, topic, case and reason: {row}")
        if row["topic"].startswith("iotlb_"):
            raise ReviewError(f"{path}: {row['case']}: no difference in {row['topic']} is accepted")
        accepted[row["set"], row["case"]] = row["reason"]
    if len(accepted) > ACCEPTED_MAX:
        raise ReviewError(f"{path}: {len(accepted)} differences, at most {ACCEPTED_MAX} are accepted")
    return accepted


# ------------------------------------------------------------------------------------------------------------- counting


@attrs.define
class Tally:
    """Counts of verdicts."""

    topics: dict[tuple[str, str], Counter[Outcome]] = attrs.Factory(lambda: defaultdict(Counter))
    """(set, topic) -> outcome -> cases."""
    paths: dict[str, Counter[tuple[bool, Outcome]]] = attrs.Factory(lambda: defaultdict(Counter))
    """Set -> (needs the data path, outcome) -> cases."""

    def add(self, verdict: Verdict) -> None:
        """Count one."""
        self.topics[verdict.set, verdict.topic][verdict.outcome] += 1
        self.paths[verdict.set][verdict.data_path, verdict.outcome] += 1

    def count(self, collection: str, outcome: Outcome, *, data_path: bool | None = None) -> int:
        """Cases of a set with an outcome, of either kind or of one."""
        kinds = (False, True) if data_path is None else (data_path,)
        return sum(self.paths[collection][kind, outcome] for kind in kinds)

    def total(self, collection: str, *, data_path: bool | None = None) -> int:
        """Cases of a set, of either kind or of one."""
        return sum(self.count(collection, outcome, data_path=data_path) for outcome in OUTCOMES)


def tally(verdicts: Iterable[Verdict]) -> Tally:
    """Count verdicts."""
    counts = Tally()
    for verdict in verdicts:
        counts.add(verdict)
    return counts


def is_clean(verdicts: Iterable[Verdict]) -> bool:
    """Whether every difference is a listed one and every line could be read."""
    return not any(verdict.outcome in ("differs", "unreadable") for verdict in verdicts)


def table(counts: Tally) -> Iterator[str]:
    """The lines of the agreement table."""
    yield f"{'set':10} {'topic':20}" + "".join(f"{outcome:>14}" for outcome in OUTCOMES)
    for collection in counts.paths:
        for (owner, topic), outcomes in counts.topics.items():
            if owner == collection:
                yield f"{collection:10} {topic:20}" + "".join(f"{outcomes[o]:>14}" for o in OUTCOMES)
        yield f"{collection:10} {'all':20}" + "".join(f"{counts.count(collection, o):>14}" for o in OUTCOMES)
    for collection in counts.paths:
        for kind, name in ((False, "without the data path"), (True, "with the data path")):
            cases = counts.total(collection, data_path=kind)
            agreeing = counts.count(collection, "agrees", data_path=kind)
            yield f"{collection}: {agreeing} of {cases} cases {name} agree"


# ---------------------------------------------------------------------------------------------------------- differences


def describe(verdict: Verdict, *, verbose: bool = False) -> Iterator[str]:
    """The lines that show a case that does not agree; ``verbose`` also the steps before."""
    yield f"{verdict.set}/{verdict.topic}: {verdict.name or '(no case)'}  [{verdict.place}]  {verdict.outcome}"
    if verdict.reason:
        yield f"  {verdict.reason}"
    if verbose:
        for result in verdict.trail[:-1]:
            yield f"    {result.number:3} {step_line(result.step)} -> {_results(result.answer.outputs)}"
    if verdict.difference is not None:
        yield from _side_by_side(verdict.difference, verdict.steps)


def _side_by_side(result: StepResult, steps: int) -> Iterator[str]:
    yield f"  step {result.number} of {steps}: {step_line(result.step)}"
    yield f"    expected  {_results(result.step.outputs)}"
    yield f"    got       {_results(result.answer.outputs)}"
    if result.answer.rule:
        inside = f" (inside the kernel: {result.answer.handler_errno})" if result.answer.handler_errno else ""
        yield f"    rule      {result.answer.rule}{inside}"


def step_line(step: Step) -> str:
    """A step on one line."""
    who = f"[{step.proc}] " if step.proc else ""
    return f"{who}{step.op} {_values(step.inputs)}".rstrip()


def _values(values: Mapping[str, Value]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in values.items())


def _results(outputs: Mapping[str, Value]) -> str:
    # ret and errno first, whatever order the recording has
    return _values({key: outputs[key] for key in sorted(outputs, key=lambda key: key not in ("ret", "errno"))})


def _short(value: Value) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= VALUE_MAX else f"{text[:VALUE_MAX]}...({len(text)} characters)"


# ----------------------------------------------------------------------------------------------------------------- JSON


def as_json(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """The whole report as one JSON object."""
    counts = tally(verdicts)
    sets = {
        collection: {
            "cases": counts.total(collection),
            "outcomes": {outcome: counts.count(collection, outcome) for outcome in OUTCOMES},
            "without data path": _part(counts, collection, data_path=False),
            "with data path": _part(counts, collection, data_path=True),
            "topics": {topic: dict(seen) for (owner, topic), seen in counts.topics.items() if owner == collection},
        }
        for collection in counts.paths
    }
    others = [_case_json(verdict) for verdict in verdicts if verdict.outcome not in ("agrees", "not selected")]
    return {"clean": is_clean(verdicts), "sets": sets, "cases": others}


def _part(counts: Tally, collection: str, *, data_path: bool) -> dict[str, int]:
    agreeing = counts.count(collection, "agrees", data_path=data_path)
    return {"cases": counts.total(collection, data_path=data_path), "agrees": agreeing}


def _case_json(verdict: Verdict) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "set": verdict.set,
        "topic": verdict.topic,
        "case": verdict.name,
        "place": verdict.place,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
    }
    if verdict.difference is not None:
        result = verdict.difference
        entry["difference"] = {
            "step": result.number,
            "op": result.step.op,
            "inputs": dict(result.step.inputs),
            "expected": dict(result.step.outputs),
            "got": result.answer.outputs,
            "rule": result.answer.rule,
        }
    return entry


# ------------------------------------------------------------------------------------------------------------ agreement


@attrs.frozen
class AgreementCheck:
    """A replay against the agreement file."""

    fallen: list[str]
    """What is worse than the file says; each a line. A failure."""
    risen: list[str]
    """What is better: the file is to be raised."""


def check_agreement(path: Path, counts: Tally) -> AgreementCheck:
    """Compare counts with the numbers of the agreement file.

    Raises:
        ReviewError: the file is not of the form ``["set"] without_data_path = n, with_data_path = n``.
    """
    fallen: list[str] = []
    risen: list[str] = []
    for collection, row in cast("dict[str, dict[str, int]]", tomllib.loads(path.read_text("utf-8"))).items():
        if set(row) != {"without_data_path", "with_data_path"}:
            raise ReviewError(f"{path}: {collection}: wanted without_data_path and with_data_path")
        if collection not in counts.paths:
            continue
        for key, wanted in row.items():
            agreeing = counts.count(collection, "agrees", data_path=key == "with_data_path")
            line = f"{collection}: {key} = {agreeing}, the agreement file says {wanted}"
            if agreeing < wanted:
                fallen.append(line)
            elif agreeing > wanted:
                risen.append(line)
    return AgreementCheck(fallen, risen)
