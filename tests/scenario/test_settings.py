"""``--set``: what a story takes, and what comes to which of several."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from vdpasim.scenario import scenario
from vdpasim.scenario.loader import ScenarioError
from vdpasim.scenario.settings import (
    NoSuchSettingError,
    OutsideDomainError,
    WrongTypeError,
    shared,
    strayed,
    told,
    values,
)

if TYPE_CHECKING:
    from vdpasim.sim import Simulator


@scenario(domain={"regions": range(1, 65), "limit": (4, 16), "order": ("forward", "reverse"), "batched": (True,)})
async def stated(
    sim: Simulator, *, regions: int = 3, limit: int = 4, order: str = "forward", batched: bool = True, free: int = 0
) -> None:
    """A domain of each kind, and a parameter without one."""


@scenario(domain={"regions": range(1, 5)})
async def narrow(sim: Simulator, *, regions: int = 3) -> None:
    """Fewer of them."""


@scenario(domain={"regions": ("few", "many"), "share": (1.5,)})
async def worded(sim: Simulator, *, regions: str = "few", share: float = 1.5) -> None:
    """The same name, and words; and a fraction."""


@scenario()
async def plain(sim: Simulator) -> None:
    """Nothing to set."""


def test_values_are_of_the_type_of_the_default() -> None:
    given = {"regions": "0x7", "order": "reverse", "batched": "yes", "free": "-3"}
    assert values(stated, given) == {"regions": 7, "order": "reverse", "batched": True, "free": -3}


def test_a_name_may_be_a_number_here_and_a_word_there() -> None:
    taken, left_out = shared([stated, worded], {"regions": "many"})
    assert taken == [{}, {"regions": "many"}]
    assert left_out.endswith("played as they are: 1 with such a setting of another type")


def test_a_fraction_is_one_of_a_sample() -> None:
    assert strayed(worded, values(worded, {"share": "1.5"})) == ""
    assert strayed(worded, values(worded, {"share": "2.5"})).startswith("share=2.5 is none of 1.5")
    with pytest.raises(WrongTypeError, match="share='much' is no number"):
        values(worded, {"share": "much"})


@pytest.mark.parametrize(
    ("name", "text", "domain"),
    [
        ("regions", "0", "1 to 64"),
        ("regions", "-1", "1 to 64"),
        ("regions", "65", "1 to 64"),
        ("order", "sideways", "forward, reverse"),
        ("batched", "no", "yes"),
    ],
)
def test_what_is_outside_of_all_the_values_is_refused(name: str, text: str, domain: str) -> None:
    with pytest.raises(OutsideDomainError, match=f"^{name}='{text}' is outside the domain of stated: {domain}$"):
        values(stated, {name: text})


def test_a_sample_is_no_limit_but_is_told() -> None:
    assert strayed(stated, values(stated, {"limit": "5"})) == "limit=5 is none of 4, 16, for which the verdict holds"
    assert strayed(stated, values(stated, {"limit": "16", "regions": "64", "free": "9"})) == ""


def test_a_setting_there_is_not_is_told_with_those_there_are() -> None:
    with pytest.raises(NoSuchSettingError, match="stated has no setting 'asid'; it has regions, limit, order, batched"):
        values(stated, {"asid": "1"})
    with pytest.raises(NoSuchSettingError, match="plain has no setting 'asid'; it has none"):
        values(plain, {"asid": "1"})


def test_a_setting_comes_to_the_stories_that_take_it() -> None:
    taken, left_out = shared([stated, narrow, plain], {"regions": "2", "order": "reverse"})
    assert taken == [{"regions": "2", "order": "reverse"}, {"regions": "2"}, {}]
    assert left_out.split("; ") == [
        "regions=2 is set in 2 of 3 stories",
        "played as they are: 1 without such a setting",
        "order=reverse is set in 1 of 3 stories",
        "played as they are: 2 without such a setting",
    ]
    assert shared([stated, narrow], {"regions": "2"}) == ([{"regions": "2"}] * 2, "")
    assert shared([plain], {}) == ([{}], "")


def test_a_value_for_some_stories_only_is_set_there() -> None:
    taken, left_out = shared([stated, narrow, plain], {"regions": "7"})
    assert taken == [{"regions": "7"}, {}, {}]
    why = "1 told for other values only, 1 without such a setting"
    assert left_out == f"regions=7 is set in 1 of 3 stories; played as they are: {why}"


@pytest.mark.parametrize(
    ("stories", "given", "said"),
    [
        ([stated, plain], {"asid": "1"}, "--set asid=1: none of 2 stories has a setting 'asid'"),
        ([plain], {"asid": "1"}, "plain has no setting 'asid'"),
        ([plain, narrow], {"regions": "7"}, "regions='7' is outside the domain of narrow: 1 to 4"),
        ([plain, narrow], {"regions": "many"}, "regions='many' is no number; it is a setting of narrow"),
        ([plain, stated], {"batched": "perhaps"}, "batched='perhaps' is neither yes nor no; it is a setting of stated"),
    ],
)
def test_what_no_story_takes_is_a_mistake(stories: list, given: dict[str, str], said: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(ScenarioError, match=re.escape(said)):
        shared(stories, given)


def test_domains_in_words() -> None:
    assert [told(one) for one in (range(1, 65), range(2), range(1, 2), range(0, 9, 4), (1, 2), (False, True))] == [
        "1 to 64",
        "0 to 1",
        "1",
        "0, 4, 8",
        "1, 2",
        "no, yes",
    ]
