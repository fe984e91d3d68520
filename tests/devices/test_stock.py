"""The stock models behind profiles: the one like a card, platform IOMMUs, many queues, doorbells, config interrupts."""

from __future__ import annotations

import struct
from typing import Any

import attrs
import pytest

from tests.devices.machine import DATA, IOVA, NUM, PAGE, RING, Machine
from vdpasim.core.events import Kind
from vdpasim.devices.profile import DeviceProfile, load, loads
from vdpasim.devices.stock import operations
from vdpasim.sim import Simulator, UsageError
from vdpasim.uapi import errno as E
from vdpasim.vmm.guest import Buffer, Used
from vdpasim.vmm.transport import run_sync

NET_FEATURES = 1 << 32 | 1 << 33 | 1 << 17 | 1 << 22
CTRL_MAC_SET = bytes([1, 1])
BLK = load("vdpasim_blk-6.12")
FRAME = bytes(12) + bytes.fromhex("02000000000102000000000288b5") + b"payload".ljust(46, b".")
CARD_MAC = bytes.fromhex("0200006d6c78")


def card(*, kernel: str = "tip", queues: int = 2, **how: Any) -> Machine:
    return Machine(kernel, profile="mlx5-like", queues=queues, **how)


def frame_to(mac: bytes) -> bytes:
    return FRAME[:12] + mac + FRAME[18:]


def send(made: Machine, pair: int, frame: bytes) -> list[Used]:
    """One frame on a pair of queues; what came back into its RX queue."""
    rx, tx = 2 * pair, 2 * pair + 1
    made.ram.write(made.data(tx), frame)
    made.vqs[rx].add(Buffer(made.at(rx), PAGE, writable=True))
    made.vqs[tx].add(Buffer(made.at(tx), len(frame)))
    made.kick(tx)
    return made.vqs[rx].used()


def blk_chain(made: Machine, *, kind: int = 0, sector: int = 0, length: int = 512, queue: int = 0) -> int:
    """A block request in a queue: header, data, status; the head."""
    made.ram.write(made.data(queue), struct.pack("<IIQ", kind, 0, sector))
    return made.vqs[queue].add(
        Buffer(made.at(queue), 16),
        Buffer(made.at(queue, 1), length, writable=kind == 0),
        Buffer(made.at(queue, 2), 1, writable=True),
    )


def status(made: Machine, queue: int = 0) -> int:
    return made.ram.read(made.data(queue, 2), 1)[0]


class TestAdding:
    def test_by_name_path_object_or_line(self, tmp_path: Any) -> None:
        sim = Simulator()
        path = tmp_path / "mine.toml"
        path.write_text("device_id = 1\nfeatures = 0x300000000\nqueues = 2\n")
        sim.vdpa.dev_add("a", profile="mlx5-like")
        sim.vdpa.dev_add("b", profile=path)
        sim.vdpa.dev_add("c", profile=load(path))
        sim.vdpa.command("dev add name d profile mlx5-like mac 02:00:00:00:00:09")
        shown = sim.vdpa.dev_show()
        assert [one["mgmtdev"] for one in shown.values()] == ["mlx5-like", "mine", "mine", "mlx5-like"]
        assert [one["max_vqs"] for one in shown.values()] == [33, 2, 2, 33]
        assert sim.vdpa.bus.devices["d"].get_config(0, 6) == bytes.fromhex("020000000009")

    @pytest.mark.parametrize(
        ("what", "message"),
        [
            ({"profile": "mlx5"}, "mlx5: no such profile; did you mean mlx5-like?"),
            ({"profile": DeviceProfile(device_id=4, features=0, queues=1)}, "no stock model of 4"),
            ({"profile": "mlx5-like", "mgmtdev": "vdpasim_net"}, "made of a mgmtdev, or else"),
            ({}, "made of a mgmtdev, or else"),
        ],
    )
    def test_what_cannot_be_made_is_wrong_usage(self, what: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Simulator().vdpa.dev_add("dev", **what)

    def test_a_name_that_exists_is_refused_as_ever(self) -> None:
        sim = Simulator()
        sim.vdpa.dev_add("dev", profile="mlx5-like")
        with pytest.raises(FileExistsError):
            sim.vdpa.dev_add("dev", profile="mlx5-like")

    def test_module_options_are_not_a_profile_s(self) -> None:
        with pytest.raises(OSError, match="Operation not supported"):
            Simulator().vdpa.dev_add("dev", profile="mlx5-like", use_va=0)
        Simulator(options={"use_va": 0}).vdpa.dev_add("dev", profile="mlx5-like")


class TestLikeACard:
    def test_answers_what_the_profile_says(self) -> None:
        made = card()
        assert run_sync(made.vdpa.get_vqs_count()) == 33
        assert [run_sync(made.vdpa.get_vring_group(index)) for index in (0, 31, 32)] == [0, 0, 1]
        assert (run_sync(made.vdpa.get_group_num()), run_sync(made.vdpa.get_as_num())) == (2, 2)
        assert run_sync(made.vdpa.get_backend_features()) == 0x17E
        assert made.device.ops == operations(load("mlx5-like"))

    def test_maps_physical_pages_and_counts_them(self) -> None:
        made = card()
        assert made.process.mm.pinned_vm == made.ram.size // PAGE

    def test_is_the_identity_over_physical_addresses_until_the_first_set_map(self) -> None:
        made = card(map_memory=False)
        run = made.process.mm.pin(made.ram.addr, 1, write=True)[0]
        made.start(NET_FEATURES, base=run.paddr)
        assert [one.passthrough for one in made.device.maps] == [True, False]
        assert made.device.maps[0].table.translate(run.paddr, 8, 3).pieces[0][1] == run.paddr
        run_sync(made.vdpa.iotlb_update(IOVA, PAGE, made.ram.addr))
        assert [one.passthrough for one in made.device.maps] == [False, False]

    def test_loops_frames_back_on_every_pair_once_mq_is_negotiated(self) -> None:
        made = card(queues=6)
        made.start(NET_FEATURES)
        for pair in range(3):
            assert send(made, pair, frame_to(CARD_MAC)) == [Used(0, len(FRAME))]
            assert made.ram.read(made.data(2 * pair), len(FRAME)) == frame_to(CARD_MAC)

    def test_uses_one_pair_and_queue_2_for_control_without_mq(self) -> None:
        made = card(queues=4)
        made.start(NET_FEATURES & ~(1 << 22))
        made.ram.write(made.data(2), CTRL_MAC_SET + bytes.fromhex("0200000000aa"))
        head = made.vqs[2].add(Buffer(made.at(2), 8), Buffer(made.at(2, 1), 1, writable=True))
        made.kick(2)
        assert made.vqs[2].used() == [Used(head, 1)]
        assert (made.ram.read(made.data(2, 1), 1), made.device.config[5]) == (b"\0", 0xAA)

    def test_config_interrupts(self) -> None:
        made = card()
        event = made.process.eventfd()
        run_sync(made.vdpa.set_config_call(event.fd))
        made.device.change_config(6, b"\0\0")
        assert event.read_nowait(8) == (1).to_bytes(8, "little")
        assert run_sync(made.vdpa.get_config(6, 2)) == b"\0\0"

    def test_on_an_old_kernel_it_has_what_that_knows(self) -> None:
        made = card(kernel="6.1")
        assert not made.device.supports("resume")
        assert not made.device.supports("reset_map")
        assert run_sync(made.vdpa.get_backend_features()) & 1 << 5 == 0


class TestConfigFixed:
    def test_ranges_are_put_back_at_every_read_and_the_rest_stays(self) -> None:
        profile = loads('device_id = 1\nfeatures = 0x300000000\nqueues = 2\nconfig = "010203"\nconfig_fixed = [[1, 1]]')
        made = Machine(profile=profile)
        run_sync(made.vdpa.set_config(0, b"\xaa\xbb\xcc"))
        assert run_sync(made.vdpa.get_config(0, 3)) == b"\xaa\x02\xcc"

    def test_the_device_s_own_change_is_what_is_put_back(self) -> None:
        made = Machine(profile="vdpasim_net-6.12")
        made.device.change_config(6, b"\0\0")
        run_sync(made.vdpa.set_config(6, b"\1\0"))
        assert run_sync(made.vdpa.get_config(6, 2)) == b"\0\0"


class TestBlock:
    def test_a_disk_has_the_capacity_of_its_config(self) -> None:
        made = Machine("6.12", profile=attrs.evolve(BLK, config=(64).to_bytes(8, "little") + BLK.config[8:]))
        made.start()
        answers = []
        for sector in (63, 64):
            blk_chain(made, sector=sector)
            made.kick()
            answers.append(status(made))
        assert answers == [0, 1]

    def test_a_disk_may_have_a_backing(self) -> None:
        content = bytes(range(256)) * 2
        memfd = Simulator().process("x").memfd("disk", 1 << 20)
        assert memfd.memory is not None
        memfd.memory.pwrite(512, content)
        made = Machine("6.12", profile=BLK, backing=memfd.memory)
        made.start()
        blk_chain(made, sector=1)
        made.kick()
        assert made.ram.read(made.data(0, 1), 512) == content

    def test_every_queue_is_served(self) -> None:
        made = Machine("6.12", profile=attrs.evolve(BLK, queues=3, queue_groups=()), queues=3)
        made.start()
        heads = [blk_chain(made, queue=queue) for queue in range(3)]
        made.kick(2)
        assert [made.vqs[queue].used()[0].head for queue in range(3)] == heads

    def test_without_groups_nobody_is_told_one(self) -> None:
        made = Machine(profile=attrs.evolve(BLK, queue_groups=()))
        with pytest.raises(OSError) as caught:
            run_sync(made.vdpa.get_vring_group(0))
        assert caught.value.errno == E.EOPNOTSUPP

    def test_queue_sizes_are_told_until_a_driver_runs(self) -> None:
        made = Machine(profile=attrs.evolve(BLK, queue_size=64, queue_sizes=(32,)))
        assert run_sync(made.vdpa.get_vring_num()) == 64
        assert run_sync(made.vdpa.get_vring_size(0)) == 32
        made.start()
        assert run_sync(made.vdpa.get_vring_size(0)) == NUM

    def test_an_update_outside_the_range_is_refused(self) -> None:
        made = Machine(profile=attrs.evolve(BLK, iova_range=(IOVA, IOVA + RING - 1)))
        with pytest.raises(OSError) as caught:
            run_sync(made.vdpa.iotlb_update(IOVA + RING, PAGE, made.ram.addr))
        assert caught.value.rule == "vdpa.iotlb.update-range"  # type: ignore[attr-defined]

    def test_features_need_not_have_access_platform_if_it_is_not_offered(self) -> None:
        made = Machine(profile=attrs.evolve(BLK, features=1 << 32))
        run_sync(made.vdpa.set_features(1 << 32))


PLATFORM = attrs.evolve(BLK, map="platform", addresses="pa", identity=0)


class TestPlatformIommu:
    def test_an_update_maps_in_the_domain_the_device_reads(self) -> None:
        made = Machine(profile=PLATFORM)
        made.start()
        head = blk_chain(made)
        made.kick()
        assert made.vqs[0].used() == [Used(head, 513)]
        assert made.process.mm.pinned_vm == made.ram.size // PAGE

    def test_starts_empty(self) -> None:
        made = Machine(profile=PLATFORM, map_memory=False)
        assert (list(made.device.maps[0].table), made.device.maps[0].passthrough) == ([], False)

    def test_each_entry_at_once_inside_a_batch_too(self) -> None:
        made = Machine(profile=PLATFORM, map_memory=False)
        run_sync(made.vdpa.batch_begin())
        run_sync(made.vdpa.iotlb_update(IOVA, PAGE, made.ram.addr))
        assert len(list(made.device.maps[0].table)) == 1
        run_sync(made.vdpa.iotlb_invalidate(IOVA, PAGE))
        assert list(made.device.maps[0].table) == []

    def test_no_reset_touches_the_domain(self) -> None:
        made = Machine(profile=PLATFORM)
        before = len(list(made.device.maps[0].table))
        run_sync(made.vdpa.set_status(0))
        assert len(list(made.device.maps[0].table)) == before

    def test_says_that_maps_persist(self) -> None:
        made = Machine(profile=PLATFORM)
        assert run_sync(made.vdpa.get_backend_features()) >> 8 & 1
        assert not made.device.supports("reset_map")

    def test_close_empties_it_and_unpins(self) -> None:
        made = Machine(profile=PLATFORM)
        made.file.close_nowait()
        assert (list(made.device.maps[0].table), made.process.mm.pinned_vm) == ([], 0)

    def test_remap_is_refused(self) -> None:
        made = Machine("7.1+live-update-v2+lu-advertise", profile=attrs.evolve(PLATFORM, backend_features=1 << 10))
        (entry,) = [one for one in made.device.maps[0].table if one.start == IOVA]
        with pytest.raises(OSError) as caught:
            run_sync(made.vdpa.iotlb_remap(IOVA, entry.last - IOVA + 1, made.ram.addr))
        error: Any = caught.value
        assert (error.rule, error.handler_errno) == ("vdpa.remap.no-set-map", E.EINVAL)


MAP_SHARED, PROT_READ, PROT_WRITE = 1, 1, 2


def mapped(made: Machine, index: int, *, prot: int = PROT_WRITE) -> int:
    return made.file.mmap_nowait(PAGE, prot, MAP_SHARED, index * PAGE)


def mmap_refusal(made: Machine, index: int) -> tuple[int | None, str]:
    with pytest.raises(OSError) as caught:
        mapped(made, index)
    return caught.value.errno, caught.value.rule  # type: ignore[attr-defined]


class TestDoorbells:
    def test_a_store_is_a_kick(self) -> None:
        made = card(queues=2)
        made.start(NET_FEATURES)
        made.ram.write(made.data(1), frame_to(CARD_MAC))
        made.vqs[0].add(Buffer(made.at(0), PAGE, writable=True))
        made.vqs[1].add(Buffer(made.at(1), len(FRAME)))
        made.process.write(mapped(made, 1), (1).to_bytes(2, "little"))
        made.sim.run_idle()
        assert made.vqs[0].used() == [Used(0, len(FRAME))]

    def test_a_store_is_in_the_trace(self) -> None:
        made = card()
        made.sim.listen(made.events.append)
        made.process.write(mapped(made, 5), b"\5\0")
        assert [event[5] for event in made.events if event[3] == Kind.KICK] == [5]

    def test_the_control_queue_has_none(self) -> None:
        assert mmap_refusal(card(), 32) == (E.ENOTSUPP, "vdpa.mmap.unsupported")

    def test_there_is_none_beyond_the_queues(self) -> None:
        assert mmap_refusal(card(), 33) == (E.EINVAL, "vdpa.mmap.index")

    def test_of_old_a_device_was_asked_about_a_queue_it_has_not(self) -> None:
        made = card(kernel="tip-F15")
        assert mmap_refusal(made, 33)[0] == E.EINVAL
        assert [ident for ident, _ in made.sim.kernel.violations] == ["kernel.oops"]

    @pytest.mark.parametrize(
        ("change", "answer"),
        [
            ({"notification_queues": 0}, (E.ENOTSUPP, "vdpa.mmap.unsupported")),
            ({"notification_size": 8192}, (E.ENOTSUPP, "vdpa.mmap.unsupported")),
            ({"notification_offset": 64}, (E.EINVAL, "vdpa.mmap.align")),
        ],
    )
    def test_mmap_wants_exactly_a_page(self, change: dict[str, Any], answer: tuple[int, str]) -> None:
        made = Machine(profile=attrs.evolve(load("mlx5-like"), **change))
        assert mmap_refusal(made, 0) == answer

    def test_a_mapping_holds_the_device_after_close(self) -> None:
        made = card()
        address = mapped(made, 0)
        made.file.close_nowait()
        with pytest.raises(OSError) as caught:
            made.process.open_nowait(made.added.path)
        assert caught.value.errno == E.EBUSY
        made.process.munmap(address, PAGE)
        made.process.open_nowait(made.added.path)

    def test_exec_lets_go_of_it(self) -> None:
        made = card()
        mapped(made, 0)
        made.file.close_nowait()
        made.process.exec_nowait()
        made.sim.run_idle()
        made.process.open_nowait(made.added.path)


def test_data_lies_behind_the_ring() -> None:
    made = Machine(profile="vdpasim_blk-6.12")
    assert made.vqs[0].last_offset < DATA
