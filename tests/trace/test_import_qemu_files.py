"""Which file a line of QEMU's log is about."""

from __future__ import annotations

import pytest

from tests.trace.qemu_log import UADDR, VERSIONS, Nic, stamped
from vdpasim.trace.import_qemu_files import Files, processes
from vdpasim.trace.import_qemu_lines import read


def files(log: list[str]) -> Files:
    return Files(read(log).lines)


def names(log: list[str]) -> list[str]:
    """In the order in which they come."""
    found = files(log)
    return list(dict.fromkeys(found.of(number).name for number in range(len(log))))


@pytest.mark.parametrize("version", VERSIONS)
def test_all_objects_of_a_nic_are_one_file(version: str) -> None:
    nic = Nic(version, pairs=3, cvq=True).boot().start().stop()
    assert names(nic.log) == ["vhost-vdpa-fd12"]
    assert files(nic.log).of(0).whole
    assert files(nic.log).notes == []


@pytest.mark.parametrize("version", VERSIONS)
def test_nics_are_told_apart(version: str) -> None:
    one, other = Nic(version, pairs=2, cvq=True), Nic(version, fd=13, at=0x66D0_0000, pairs=2)
    log = one.boot().log + other.boot().log
    assert names(log) == ["vhost-vdpa-0x55d00000", "vhost-vdpa-0x66d00000"]
    for nic in (one, other):
        booted = len(nic.log)
        log += nic.start().log[booted:]
    assert names(log) == ["vhost-vdpa-fd12", "vhost-vdpa-fd13"]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_plugged_in_where_something_was_is_another_device(version: str) -> None:
    nic = Nic(version, pairs=2, cvq=True).boot().start().stop().unplug()
    nic.unmap()  # the listener goes behind the cleanup
    nic.boot().start()
    assert names(nic.log) == ["vhost-vdpa-fd12", "vhost-vdpa-fd12.2"]
    assert files(nic.log).of(len(nic.log) - 1).whole


def test_an_object_without_messages_that_is_made_again_is_another_device() -> None:
    life = [
        "vhost_vdpa_init dev: 0x1, common dev: 0x10 vdpa: 0x100",
        "vhost_vdpa_set_owner dev: 0x1",
        "vhost_vdpa_suspend dev: 0x1",
        "vhost_vdpa_cleanup dev: 0x1 vdpa: 0x100",
    ]
    assert names(life * 3) == ["vhost-vdpa-0x1", "vhost-vdpa-0x1.2", "vhost-vdpa-0x1.3"]


def test_one_that_was_made_again_is_another_though_the_log_lacks_its_cleanup() -> None:
    log = Nic("7.2").boot().log
    assert files(log + log).of(0) is not files(log + log).of(len(log))


@pytest.mark.parametrize("version", VERSIONS)
def test_in_a_log_that_begins_later_the_only_file_is_meant(version: str) -> None:
    nic = Nic(version, pairs=2).boot().start()
    late = len(nic.log)
    log = nic.stop().start().log[late:]
    assert names(log) == ["vhost-vdpa-fd12"]
    found = files(log)
    assert not found.of(0).whole
    assert found.notes == [
        "vhost-vdpa-fd12 is taken for the file of 0x55d00000, 0x55d00100, for there is no other",
        "vhost-vdpa-fd12 is older than the log: what was mapped before is unknown",
    ]


def test_what_names_neither_a_request_nor_a_descriptor_is_of_the_only_file() -> None:
    log = ["vhost_vdpa_set_address_space_id vhost_vdpa: 0x9 vq_group: 1 asid: 1", "vhost_vdpa_skipped is_ram=1"]
    assert names(Nic().boot().start().log + log) == ["vhost-vdpa-fd12", "vhost-vdpa-0x0"]


def test_of_several_files_none_is_guessed() -> None:
    one, other = Nic("9.2").boot(), Nic("9.2", fd=13, at=0x66D0_0000).boot()
    booted = len(one.log)
    log = one.start().log[booted:] + other.start().log[booted:]
    found = ["vhost-vdpa-0x55d00000", "vhost-vdpa-fd12", "vhost-vdpa-0x66d00000", "vhost-vdpa-fd13"]
    assert names(log) == found
    (note,) = files(log).notes
    assert note == "the messages of fd 12, 13 and the requests of 0x55d00000, 0x66d00000 may be of one device"


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_that_are_missing_are_said(version: str) -> None:
    nic = Nic(version).boot().start()
    cut = [line[:50] if "dma_map" in line else line for line in nic.log]
    found = files(cut)
    assert not found.of(0).whole
    assert found.notes[-1] == "messages are missing: what was mapped is unknown"
    assert Files(read(nic.log).lines, torn=True).of(0).whole is False


def test_a_log_without_messages_is_not_whole() -> None:
    log = [line for line in Nic().boot().start().log if "dma_map" not in line]
    assert not files(log).of(0).whole


def test_threads_of_a_process_are_one() -> None:
    nic = Nic().boot()
    late = len(nic.log)
    nic.start()
    log = [*stamped(nic.log[:late], 100), *stamped(nic.log[late:], 107), "5@1.5:vhost_vdpa_set_owner dev: 0x9", "", "x"]
    assert processes(read([*log, nic.log[0], "vhost_vdpa_set_owner oops"]).lines) == {
        "100": "100", "107": "100", "5": "5", "": "100"
    }  # fmt: skip


def test_a_line_without_a_thread_is_of_the_only_process() -> None:
    log = [*stamped(Nic().boot().start().log, 100), "vhost_vdpa_dma_map oops"]
    assert processes(read(log).lines) == {"100": "100", "": "100"}
    assert names(log)[0] == "vhost-vdpa-fd12"


def test_processes_have_files_of_their_own() -> None:
    log = stamped(Nic().boot().start().log, 100) + stamped(Nic(at=0x77D0_0000).boot().start().log, 200)
    assert names(log) == ["vhost-vdpa-100-fd12", "vhost-vdpa-200-fd12"]


def test_memory_of_a_process_is_what_it_ever_maps() -> None:
    found = files(Nic().boot().start().stop().log)
    assert found.inside("", (UADDR, UADDR + 0x9FFFF, UADDR + 0xA0000, 0x1000)) == 2
    assert found.inside("7", (UADDR,)) == 0
