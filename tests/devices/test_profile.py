"""Devices as data: reading, writing and refusing profiles, and the shipped ones held against what they mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdpasim.devices.profile import DeviceProfile, dumps, load, loads, nearest, shipped
from vdpasim.devices.profile_keys import KEY, U64_MAX, DeviceProfileError
from vdpasim.sim import Simulator
from vdpasim.vmm.capture import UNKNOWABLE, Captured, capture

if TYPE_CHECKING:
    from pathlib import Path

MINIMAL = "device_id = 1\nfeatures = 0x0\nqueues = 2\n"


def refusal(text: str) -> str:
    with pytest.raises(DeviceProfileError) as caught:
        loads(text, "some.toml")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("some.toml: ")
    return message.removeprefix("some.toml: ")


def captured(kernel: str, **what: Any) -> Captured:
    async def main(sim: Simulator) -> Captured:
        device = sim.vdpa.dev_add("dev", **what)
        file = await sim.process("vmm").open(device.path)
        return await capture(file, owner=True)

    found = Simulator(kernel).run(main)
    assert isinstance(found, Captured)
    return found


class TestReading:
    def test_what_is_left_out_has_its_default(self) -> None:
        profile = loads(MINIMAL)
        assert (profile.queue_size, profile.iova_range, profile.map, profile.addresses) == (
            256, (0, U64_MAX), "set_map", "pa",
        )  # fmt: skip

    @pytest.mark.parametrize("config", ['"01 02\\n0a"', '"01020A"', "[1, 2, 10]", '["0x01", "0x2", 0xa]'])
    def test_config_is_hexadecimal_or_integers(self, config: str) -> None:
        assert loads(MINIMAL + f"config = {config}").config == b"\x01\x02\x0a"

    def test_what_does_not_fit_toml_is_text(self) -> None:
        profile = loads(MINIMAL.replace("features = 0x0", 'features = "0xfffffffffffdffff"'))
        assert profile.features == U64_MAX - (1 << 17)

    def test_backend_features_are_names_or_numbers(self) -> None:
        text = MINIMAL + 'backend_features = ["ENABLE_AFTER_DRIVER_OK", 12]'
        assert loads(text).backend_features == 1 << 6 | 1 << 12

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("queus = 3", "queus: no such key; did you mean queues or queue_size?"),
            ("zzz = 3", "zzz: no such key; there are name, source, device_id"),
            ("queue_size = 100", "queue_size: 100 is not a power of two from 1 to 32768"),
            ("queue_size = 65536", "queue_size: 65536 is not a power of two"),
            ("queue_size = true", "queue_size: True is not a power of two"),
            ("queue_sizes = [1, 3]", "queue_sizes: [1, 3] is not a list of powers of two"),
            ('config = "123"', "config: '123' is not hexadecimal digits, or a list of integers from 0 to 255 (no even"),
            ("config = [256]", "config: [256] is not hexadecimal"),
            ("config = 7", "config: 7 is not hexadecimal digits, or a list of integers from 0 to 255 (no list)"),
            ("iova_range = [5, 4]", "iova_range: [5, 4] is not a pair [first, last] of 64-bit integers (first and"),
            ("iova_range = [0]", "iova_range: [0] is not a pair"),
            ("suspend = 1", "suspend: 1 is not true or false"),
            ("source = 1", "source: 1 is not text"),
            ('map = "setmap"', "map: 'setmap' is not \"set_map\" or \"dma_map\" or \"platform\""),
            ('backend_features = ["RESUME"]', "backend_features: ['RESUME'] is not a list of \"ENABLE_AFTER"),
            ("backend_features = [5]", "backend_features: [5] is not a list"),
            ("groups = 65", "groups: 65 is not an integer from 1 to 64"),
        ],
    )
    def test_a_refusal_names_the_key_and_what_it_may_be(self, line: str, message: str) -> None:
        assert refusal(MINIMAL + line).startswith(message)

    @pytest.mark.parametrize("queues", [0, 65, -1])
    def test_queues_are_bounded(self, queues: int) -> None:
        text = MINIMAL.replace("queues = 2", f"queues = {queues}")
        assert refusal(text) == f"queues: {queues} is not an integer from 1 to 64"

    @pytest.mark.parametrize("word", ["device_id", "features", "queues"])
    def test_some_keys_have_no_default(self, word: str) -> None:
        text = "\n".join(line for line in MINIMAL.splitlines() if not line.startswith(word))
        assert refusal(text).startswith(f"{word}: is missing; it is an integer")

    def test_what_is_no_toml_is_told_with_its_line(self) -> None:
        assert refusal("device_id = 1\nfeatures").startswith("not TOML: ")

    def test_a_word_that_is_near_nothing_gets_the_whole_list(self) -> None:
        assert nearest("qqq", ["one", "two"]) == "there are one, two"


class TestContradictions:
    @pytest.mark.parametrize(
        ("lines", "message"),
        [
            ("queue_sizes = [16]", "queue_sizes: names 1 queues of 2"),
            ("queue_groups = [0, 0, 0]", "queue_groups: names 3 queues of 2"),
            ("queue_groups = [0, 1]", "queue_groups: there is no group 1; groups is 1"),
            ("queue_sizes = [16, 512]", "queue_sizes: 512 is more than queue_size, which is 256"),
            ('config = "00"\nconfig_fixed = [[0, 1]]', "config_fixed: [0, 1] leaves the config space, which has 1"),
            ("notification_queues = 3", "notification_queues: is 3, but the device has 2 queues"),
            ('map = "platform"\nmap_persist = true\naddresses = "va"', 'addresses: must be "pa"'),
            ('map = "platform"\nmap_persist = true\nidentity = 1', "identity: must be 0"),
            ('map = "dma_map"\naddresses = "file"', 'map: must be "set_map"'),
            ('addresses = "file"\nidentity = 1', "identity: must be 0: an I/O address is no place in a file"),
            ("identity = 2", "identity: is 2, but address_spaces is 1"),
            ('map = "platform"', "map_persist: must be true"),
            ('map = "platform"\nmap_persist = true\naddress_spaces = 2', "address_spaces: must be 1"),
        ],
    )
    def test_are_refused(self, lines: str, message: str) -> None:
        assert refusal(MINIMAL + lines).startswith(message)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("device_id = 1\nfeatures = 0\nqueues = 1", "queues: a network device has at least 2"),
            ("device_id = 1\nfeatures = 0x20000\nqueues = 4", "queues: 4 leaves out the control queue"),
            ("device_id = 2\nfeatures = 0\nqueues = 1", "config: a block device begins with its capacity"),
        ],
    )
    def test_the_stock_models_find_what_they_need(self, text: str, message: str) -> None:
        assert refusal(text).startswith(message)

    def test_hold_for_profiles_made_in_python_too(self) -> None:
        with pytest.raises(DeviceProfileError):
            DeviceProfile(device_id=4, features=0, queues=1, queue_groups=(1,))


class TestFiles:
    def test_a_name_is_a_shipped_one(self) -> None:
        assert load("mlx5-like").name == "mlx5-like"

    def test_an_unknown_name_is_told_what_is_near(self) -> None:
        with pytest.raises(DeviceProfileError, match=r"mlx5: no such profile; did you mean mlx5-like"):
            load("mlx5")

    def test_a_path_is_read_and_gives_the_name(self, tmp_path: Path) -> None:
        path = tmp_path / "card.toml"
        path.write_text(MINIMAL)
        assert load(path).name == "card"
        assert load(str(path)) == load(path)

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(DeviceProfileError, match=r"absent\.toml: No such file"):
            load(tmp_path / "absent.toml")

    def test_a_file_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
        with pytest.raises(DeviceProfileError, match=r"not UTF-8"):
            load(tmp_path / "x.toml")


def profiles() -> st.SearchStrategy[DeviceProfile]:
    @st.composite
    def make(draw: st.DrawFn) -> DeviceProfile:
        queues = draw(st.integers(1, 64))
        groups = draw(st.integers(1, 64))
        config = draw(st.binary(max_size=100))
        addresses = st.integers(0, U64_MAX)
        in_groups = st.lists(st.integers(0, groups - 1), min_size=queues, max_size=queues)
        first, last = sorted(draw(st.tuples(addresses, addresses)))
        size = 1 << draw(st.integers(0, 15))
        return DeviceProfile(
            name=draw(st.text(st.characters(codec="utf-8"))),
            device_id=draw(st.integers(3, 0xFFFF_FFFF)),
            features=draw(addresses),
            backend_features=draw(st.sampled_from([0, 1 << 6, 1 << 9 | 1 << 10, 1 << 63 | 1 << 11])),
            config=config,
            config_fixed=((0, len(config) - 1),) if config and draw(st.booleans()) else (),
            queues=queues,
            queue_size=size,
            queue_sizes=draw(st.sampled_from([(), (size,) * queues])),
            groups=groups,
            queue_groups=tuple(draw(st.one_of(st.just([]), in_groups))),
            iova_range=(first, last),
            map=draw(st.sampled_from(["set_map", "dma_map"])),
            suspend=draw(st.booleans()),
            notification_queues=draw(st.integers(0, queues)),
        )

    return make()


class TestWriting:
    @given(profiles())
    def test_what_is_written_reads_back_the_same(self, profile: DeviceProfile) -> None:
        assert loads(dumps(profile)) == profile

    def test_defaults_are_not_written(self) -> None:
        assert dumps(loads(MINIMAL)) == MINIMAL

    def test_an_unknown_key_is_a_comment_with_the_reason(self) -> None:
        profile = loads(MINIMAL + "identity = 1")
        text = dumps(profile, {"identity": "nobody knows"})
        assert "# identity = unknown: nobody knows" in text.splitlines()
        assert loads(text) == attrs.evolve(profile, identity=0)


class TestShipped:
    def test_there_is_one_of_vdpa_sim_for_each_kernel_and_one_like_a_card(self) -> None:
        kernels = ("6.1", "6.12", "7.1")
        assert shipped() == sorted(["mlx5-like", *(f"vdpasim_{k}-{v}" for k in ("net", "blk") for v in kernels)])

    @pytest.mark.parametrize("name", shipped())
    def test_reads_back_the_same(self, name: str) -> None:
        assert loads(dumps(load(name))) == load(name)

    @pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1"])
    @pytest.mark.parametrize("kind", ["vdpasim_net", "vdpasim_blk"])
    def test_a_profile_of_vdpa_sim_is_what_the_built_in_device_answers(self, kind: str, kernel: str) -> None:
        built_in = captured(kernel, mgmtdev=kind)
        profile = load(f"{kind}-{kernel}")
        learnt = [f.name for f in attrs.fields(DeviceProfile) if f.name not in {*UNKNOWABLE, "name", "source"}]
        assert [getattr(built_in.profile, key) for key in learnt] == [getattr(profile, key) for key in learnt]
        assert captured(kernel, profile=profile) == built_in

    @pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.1"])
    @pytest.mark.parametrize("kind", ["vdpasim_net", "vdpasim_blk"])
    def test_and_what_no_request_tells_is_the_same_too(self, kind: str, kernel: str) -> None:
        sim = Simulator(kernel)
        built_in: Any = sim.vdpa.dev_add("a", mgmtdev=kind).device
        made: Any = sim.vdpa.dev_add("b", profile=f"{kind}-{kernel}").device
        assert (made.use_va, made.ops, made.ngroups, made.nas) == (
            built_in.use_va, built_in.ops, built_in.ngroups, built_in.nas,
        )  # fmt: skip
        assert [one.passthrough for one in made.maps] == [one.passthrough for one in built_in.maps]
        for device in (made, built_in):
            device.set_config(0, bytes(range(1, 21)))
        assert made.get_config(0, made.get_config_size()) == built_in.get_config(0, made.get_config_size())

    def test_the_one_like_a_card_says_that_it_is_not_from_one(self) -> None:
        assert load("mlx5-like").source == "public documents, not hardware"


def test_every_key_has_a_sentence() -> None:
    for field in attrs.fields(DeviceProfile):
        assert field.metadata[KEY].doc
        assert field.metadata[KEY].kind.allowed
