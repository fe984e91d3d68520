"""What stands in a line of QEMU's log, and in front of it."""

from __future__ import annotations

import pytest

from vdpasim.trace.import_qemu_lines import LINE_MAX, parse, read

OWNER = "vhost_vdpa_set_owner dev: 0x55d0"


@pytest.mark.parametrize(
    ("prefix", "pid", "time"),
    [
        ("", "", None),
        ("4242@1700000000.100002:", "4242", 1_700_000_000_100_002_000),
        ("2024-05-01T10:00:00.000001Z ", "", 1_714_557_600_000_001_000),
        ("2024-05-01 10:00:00,5 qemu[7]: ", "", 1_714_557_600_500_000_000),
        ("2024-05-01T10:00:00Z [my guest] qemu-system-x86_64: (4243:CPU 0/KVM): ", "4243", 1_714_557_600_000_000_000),
        ("2024-05-01T10:00:00Z 4242@1700000000.5:", "4242", 1_700_000_000_500_000_000),
        ("2024-13-41T10:00:00Z ", "", None),
        ("é \x00 @.: ", "", None),
    ],
)
def test_what_stands_in_front_tells_the_thread_and_the_time(prefix: str, pid: str, time: int | None) -> None:
    line = parse(prefix + OWNER)
    assert line is not None
    assert (line.name, line.pid, line.time, line.values) == ("set_owner", pid, time, {"dev": 0x55D0})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vhost_vdpa",
        "vhost_user_read req:1",
        "\0\x1b[2J",
        "qemu: vhost_vdpa_dma_unmap(0x1, 0x0, 0x1000) = -22 (Invalid argument)",
        "my_vhost_vdpa_set_owner dev: 0x1",
        "Dropped_Event 1.000 pid=5 num_events_dropped=0x3",
    ],
)
def test_other_lines_are_no_events(text: str) -> None:
    assert parse(text) is None


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("init dev: 0x1, common dev: 0x2 vdpa: 0x3", {"dev": 1, "shared": 2, "vdpa": 3}),
        ("dma_unmap vdpa_shared:0x2 fd: 9 msg_type: 2", {"shared": 2, "fd": 9, "msg_type": 2}),
        ("set_vring_enable_one dev: 0x1, idx: 3, enable: 0, r: -22", {"dev": 1, "index": 3, "enable": 0, "r": -22}),
        ("set_address_space_id vhost_vdpa: 0x3 vq_group: 1 asid: 2", {"vdpa": 3, "vq_group": 1, "asid": 2}),
        ("set_vring_kick dev: (nil) index: 0 fd: -1\r\n", {"dev": 0, "index": 0, "fd": -1}),
        ("memslots_limit dev: 0x1 = 0x7fffffff", {"dev": 1}),
        ("get_device_id dev: 0x1 device_id 2", {"dev": 1, "device_id": 2}),
    ],
)
def test_fields_have_one_name_whatever_a_version_calls_them(text: str, values: dict[str, int]) -> None:
    line = parse("vhost_vdpa_" + text)
    assert line is not None
    assert line.values == values


def test_times_of_simpletrace_add_up_over_all_lines() -> None:
    log = read(
        [
            "vhost_vdpa_set_owner 0.000 pid=4242 dev=0x55d0\n",
            "virtio_queue_notify 1000.250 pid=4242 vdev=0x1 n=0x0 vq=0x2\n",
            "vhost_vdpa_set_vring_call 1.500 pid=4242 dev=0x55d0 index=0x0 fd=0xffffffffffffffff\n",
            "vhost_vdpa_set_address_space_id -0.500 pid=4242 v=0x3 vq_group=0x1 asid_num=0x2\n",
        ]
    )
    assert [(line.time, line.pid) for line in log.lines] == [(0, "4242"), (1_001_750, "4242"), (1_001_250, "4242")]
    assert log.lines[1].signed("fd") == -1
    assert log.lines[2].values == {"vdpa": 3, "vq_group": 1, "asid": 2}
    assert (log.others, log.dropped) == (1, 0)


def test_a_simpletrace_that_lost_events_says_so() -> None:
    assert read(["Dropped_Event 1.000 pid=5 num_events_dropped=0x3"]).dropped == 3


@pytest.mark.parametrize("value", [0x80000000, 0xFFFFFFFF, (1 << 64) - (1 << 31), (1 << 64) - 1])
def test_negative_numbers_may_have_32_bits_or_64(value: int) -> None:
    line = parse(f"vhost_vdpa_x a={value:#x}")
    assert line is not None
    assert line.signed("a") in (-(1 << 31), -1)


@pytest.mark.parametrize("filler", ["7", "a", " ", "0x", "a:", "vhost_vdpa_", " vhost_vdpa_x", "(1:", "-"])
@pytest.mark.parametrize("start", ["", "vhost_vdpa_dma_map "])
def test_long_lines_take_no_time_and_are_not_believed(filler: str, start: str) -> None:
    line = parse(start + filler * (1 << 20))
    assert line is None or line.values == {}


def test_a_line_of_the_longest_length_is_read() -> None:
    line = parse(OWNER.rjust(LINE_MAX))
    assert line is not None
    assert line["dev"] == 0x55D0
