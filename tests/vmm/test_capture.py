"""Writing a device down by reading from it; what the shipped profiles prove is in tests/devices/test_profile.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from vdpasim.devices.profile import loads
from vdpasim.sim import Simulator
from vdpasim.uapi import errno as E
from vdpasim.uapi import vhost as uapi
from vdpasim.uapi.abi import S390X
from vdpasim.vmm.capture import NOT_ASKED, UNKNOWABLE, Captured, CaptureError, capture

if TYPE_CHECKING:
    from vdpasim.sim import File
    from vdpasim.uapi.ioctl import Ioctl


class Watched:
    """A file whose requests are written down; some are answered with an errno, or a number, instead."""

    def __init__(self, file: File, instead: dict[Ioctl, int] | None = None) -> None:
        self.file = file
        self.seen: list[int] = []
        self.instead = {one.request(): answer for one, answer in (instead or {}).items()}

    async def read(self, size: int) -> bytes:
        raise AssertionError("a capture reads nothing")

    async def write(self, data: bytes) -> int:
        raise AssertionError("a capture writes nothing")

    async def ioctl(self, request: int, arg: int | bytes | bytearray | None = None) -> Any:
        self.seen.append(request)
        answer = self.instead.get(request)
        if answer is not None and answer < 0:
            raise OSError(-answer, E.strerror(-answer))
        if answer is not None:
            return answer.to_bytes(len(arg) if isinstance(arg, bytes) else 4, "little")
        return await self.file.ioctl(request, arg)

    async def mmap(self, length: int, prot: int, flags: int, offset: int = 0) -> Any:
        raise AssertionError("a capture maps nothing")


def ask(
    kernel: str = "6.12", *, instead: dict[Ioctl, int] | None = None, owner: bool = False, **what: Any
) -> tuple[Captured, Watched]:
    async def main(sim: Simulator) -> tuple[Captured, Watched]:
        device = sim.vdpa.dev_add("dev", **(what or {"mgmtdev": "vdpasim_net"}))
        watched = Watched(await sim.process("vmm").open(device.path), instead)
        return await capture(watched, name="it", source="here", owner=owner), watched

    found: tuple[Captured, Watched] = Simulator(kernel).run(main)
    return found


READING = (
    uapi.VHOST_GET_FEATURES,
    uapi.VHOST_GET_BACKEND_FEATURES,
    uapi.VHOST_VDPA_GET_DEVICE_ID,
    uapi.VHOST_VDPA_GET_CONFIG,
    uapi.VHOST_VDPA_GET_CONFIG_SIZE,
    uapi.VHOST_VDPA_GET_VRING_NUM,
    uapi.VHOST_VDPA_GET_VQS_COUNT,
    uapi.VHOST_VDPA_GET_GROUP_NUM,
    uapi.VHOST_VDPA_GET_AS_NUM,
    uapi.VHOST_VDPA_GET_IOVA_RANGE,
)
OF_THE_OWNER = (uapi.VHOST_SET_OWNER, uapi.VHOST_VDPA_GET_VRING_GROUP, uapi.VHOST_VDPA_GET_VRING_SIZE)


class TestRequests:
    def test_only_read(self) -> None:
        _, watched = ask()
        assert set(watched.seen) == {one.request() for one in READING}

    def test_of_an_owner_are_made_when_allowed(self) -> None:
        _, watched = ask(owner=True)
        assert set(watched.seen) == {one.request() for one in (*READING, *OF_THE_OWNER)}

    def test_leave_the_device_as_it_was(self) -> None:
        async def main(sim: Simulator) -> Any:
            device: Any = sim.vdpa.dev_add("dev", mgmtdev="vdpasim_net").device
            file = await sim.process("vmm").open("/dev/vhost-vdpa-0")
            before = bytes(device.config), device.resets, device.status, device.features
            await capture(file)
            # what GET_CONFIG itself does to this device's config space is vdpa_sim's
            return before[1:], (device.resets, device.status, device.features)

        before, after = Simulator("6.12").run(main)
        assert before == after


class TestWhatIsUnknown:
    def test_is_what_no_request_tells_and_what_only_owners_are_told(self) -> None:
        found, _ = ask()
        assert set(found.unknown) == {*UNKNOWABLE, "queue_groups", "queue_sizes"}
        assert found.profile.queue_groups == ()

    def test_stands_in_the_file_as_comments(self) -> None:
        found, _ = ask()
        lines = found.toml().splitlines()
        assert "# map = unknown: no ioctl tells set_map, dma_map or platform" in lines
        assert f"# queue_groups = unknown: {NOT_ASKED}" in lines
        assert loads(found.toml()) == found.profile
        assert (found.profile.name, found.profile.source) == ("it", "here")

    def test_a_device_that_does_not_tell_has_no_such_operation(self) -> None:
        found, _ = ask(owner=True)
        assert found.profile.queue_sizes == ()
        assert "queue_sizes" not in found.unknown

    def test_sizes_of_a_device_that_tells(self) -> None:
        found, _ = ask(owner=True, mgmtdev="vdpasim_net", batch_mapping=0)
        assert found.profile.queue_sizes == (256, 256, 256)

    def test_a_kernel_without_the_request_leaves_it_unknown(self) -> None:
        found, _ = ask("6.1", owner=True)
        assert found.unknown["queue_sizes"] == "this kernel has no GET_VRING_SIZE"

    def test_no_groups_at_all_is_an_answer_of_old_that_is_none(self) -> None:
        found, _ = ask(instead={uapi.VHOST_VDPA_GET_GROUP_NUM: 0, uapi.VHOST_VDPA_GET_AS_NUM: 0})
        assert (found.profile.groups, found.unknown["groups"]) == (1, "GET_GROUP_NUM says 0")


class TestBackendFeatures:
    def test_those_of_the_layer_and_of_operations_are_left_out(self) -> None:
        found, _ = ask()
        profile = found.profile
        assert profile.backend_features == 1 << 6
        assert (profile.suspend, profile.resume, profile.map_persist) == (True, True, True)

    def test_bits_nobody_knows_are_kept(self) -> None:
        found, _ = ask(instead={uapi.VHOST_GET_BACKEND_FEATURES: 1 << 40 | 0xE})
        assert found.profile.backend_features == 1 << 40
        assert loads(found.toml()).backend_features == 1 << 40


class TestErrors:
    def test_a_file_of_another_kind(self) -> None:
        async def main(sim: Simulator) -> None:
            await capture(await sim.process("vmm").open("/dev/vhost-net"))

        with pytest.raises(CaptureError, match=r"GET_DEVICE_ID: .*is it a vhost-vdpa device"):
            Simulator().run(main)

    def test_a_request_that_is_missing_is_named(self) -> None:
        with pytest.raises(CaptureError, match=r"^GET_VQS_COUNT: .*6\.1 or newer"):
            ask(instead={uapi.VHOST_VDPA_GET_VQS_COUNT: -E.ENOTTY})

    def test_another_refusal_is_told_as_it_is(self) -> None:
        with pytest.raises(CaptureError, match=r"^GET_CONFIG: Input/output error$"):
            ask(instead={uapi.VHOST_VDPA_GET_CONFIG: -E.EIO})
        with pytest.raises(CaptureError, match=r"^GET_VRING_GROUP: Input/output error$"):
            ask(owner=True, instead={uapi.VHOST_VDPA_GET_VRING_GROUP: -E.EIO})

    def test_answers_that_make_no_profile(self) -> None:
        with pytest.raises(CaptureError, match="no profile: queues: 2 leaves out the control queue"):
            ask(instead={uapi.VHOST_VDPA_GET_VQS_COUNT: 2})

    def test_more_queues_than_a_profile_has(self) -> None:
        with pytest.raises(CaptureError, match="the device has 1000 queues; a profile has at most 64"):
            ask(instead={uapi.VHOST_VDPA_GET_VQS_COUNT: 1000})


def test_a_machine_of_another_byte_order() -> None:
    async def main(sim: Simulator) -> Captured:
        device = sim.vdpa.dev_add("dev", mgmtdev="vdpasim_net")
        return await capture(await sim.process("vmm").open(device.path), abi=S390X, owner=True)

    found: Captured = Simulator("6.12", abi="s390x").run(main)
    assert (found.profile.queues, found.profile.queue_groups) == (3, (0, 0, 1))
