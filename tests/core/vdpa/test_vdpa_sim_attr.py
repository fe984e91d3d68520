"""The constants of a kind of device."""

from __future__ import annotations

import attrs
import pytest

from vdpasim.core.vdpa.vdpa_sim_attr import QUEUE_MAX, U64_MAX, SimAttr


def test_what_is_left_alone_is_vdpa_sims() -> None:
    attr = SimAttr("kind", 1, 3, (0, 0, 1), 2, 0, 8)
    assert (attr.queue_size, attr.iova_range, attr.use_va) == (QUEUE_MAX, (0, U64_MAX), True)
    assert (attr.ops, attr.backend_features, attr.identity, attr.persist) == (None, None, None, None)


def test_a_kind_does_not_change() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        SimAttr("kind", 1, 1, (0,), 1, 0, 8).nvqs = 2  # type: ignore[misc]
