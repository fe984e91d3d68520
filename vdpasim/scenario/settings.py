"""``--set NAME=VALUE``: the keyword parameters of a scenario from outside (no kernel file).

Theory. A value has the type of the parameter's default. For which values the verdict holds the story says by its
domain, and how it says it makes the difference. A range, words and yes or no are all the values there are: another one
is refused, for the story tells something else with it, or nothing. A tuple of numbers is a sample: any other is played
and judged as they are, and the verdict says that it is none of them.

Several stories need not have the same parameters. A setting comes to those that take it, the others are played as they
are, and it is a mistake only if none takes it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

from vdpasim.scenario.loader import ScenarioError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from vdpasim.scenario import Scenario


WORDS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
"""What yes and no are called."""


class NotTakenError(ScenarioError):
    """A story does not take a setting."""

    why = ""
    """In a few words, behind a number of stories."""


class NoSuchSettingError(NotTakenError):
    """It has none of this name."""

    why = "without such a setting"


class WrongTypeError(NotTakenError):
    """Its setting of this name is of another type."""

    why = "with such a setting of another type"


class OutsideDomainError(NotTakenError):
    """Its verdict is stated for other values, all of which are known."""

    why = "told for other values only"


def values(story: Scenario, given: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of a story's body.

    Raises:
        NoSuchSettingError: the story has no parameter of this name.
        WrongTypeError: a value of another type than the default.
        OutsideDomainError: the story says all the values it can be told with, and this is none of them.
    """
    return {name: _value(story, name, text) for name, text in given.items()}


def strayed(story: Scenario, chosen: Mapping[str, Any]) -> str:
    """The values that are none of a sample for which the verdict holds, in words; empty if there is none."""
    beyond = [name for name, value in chosen.items() if value not in story.domain.get(name, (value,))]
    named = "; ".join(f"{name}={chosen[name]} is none of {told(story.domain[name])}" for name in beyond)
    return f"{named}, for which the verdict holds" if named else ""


def shared(stories: Sequence[Scenario], given: Mapping[str, str]) -> tuple[list[dict[str, str]], str]:
    """The settings that each story takes, and a line about those that some do not take; empty if all do.

    Raises:
        ScenarioError: no story takes a setting.
    """
    taken: list[dict[str, str]] = [{} for _ in stories]
    lines: list[str] = []
    for name, text in given.items():
        refused: list[NotTakenError] = []
        for story, mine in zip(stories, taken, strict=True):
            try:
                values(story, {name: text})
            except NotTakenError as error:
                refused.append(error)
            else:
                mine[name] = text
        if len(refused) == len(stories):
            raise _by_none(name, text, refused)
        if refused:
            lines.append(_left_out(f"{name}={text}", len(stories), refused))
    return taken, "; ".join(lines)


def _by_none(name: str, text: str, refused: Sequence[NotTakenError]) -> ScenarioError:
    # a story that has the setting tells more than those that have not
    telling = [error for error in refused if not isinstance(error, NoSuchSettingError)]
    if len(refused) == 1 or telling:
        return (telling or refused)[0]
    return ScenarioError(f"--set {name}={text}: none of {len(refused)} stories has a setting {name!r}")


def _left_out(setting: str, stories: int, refused: Sequence[NotTakenError]) -> str:
    why = ", ".join(f"{number} {why}" for why, number in Counter(error.why for error in refused).items())
    return f"{setting} is set in {stories - len(refused)} of {stories} stories; played as they are: {why}"


def _value(story: Scenario, name: str, text: str) -> object:
    known = {
        parameter.name: parameter.default
        for parameter in inspect.signature(story.body).parameters.values()
        if parameter.default is not inspect.Parameter.empty
    }
    if name not in known:
        raise NoSuchSettingError(f"{story.name} has no setting {name!r}; it has {', '.join(known) or 'none'}")
    try:
        value = _typed(text, known[name])
    except ValueError as error:
        raise WrongTypeError(f"{name}={text!r} is {error}; it is a setting of {story.name}") from None
    domain = story.domain.get(name, ())
    complete = isinstance(domain, range) or isinstance(value, bool | str)
    if complete and domain and value not in domain:
        raise OutsideDomainError(f"{name}={text!r} is outside the domain of {story.name}: {told(domain)}")
    return value


def _typed(text: str, default: object) -> object:
    # a setting has the type of its default
    if isinstance(default, bool):
        if text.lower() not in WORDS:
            raise ValueError("neither yes nor no")
        return WORDS[text.lower()]
    if not isinstance(default, int | float):
        return text
    try:
        return float(text) if isinstance(default, float) else int(text, 0)
    except ValueError:
        raise ValueError("no number") from None


def told(domain: Sequence[Any]) -> str:
    """A domain in words."""
    if isinstance(domain, range) and domain.step == 1 and len(domain) > 1:
        return f"{domain[0]} to {domain[-1]}"
    words = {True: "yes", False: "no"}
    return ", ".join(words[one] if isinstance(one, bool) else str(one) for one in domain)
