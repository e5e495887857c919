"""The design's ports in cocotb, with cocotbext-axi's masters: tests/test_axi.py runs this in a simulator.

The folder in which it runs holds a design, images.npy and scores.npy.
"""

import json
from itertools import cycle
from pathlib import Path

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import (
    AxiLiteBus,
    AxiLiteMaster,
    AxiResp,
    AxiStreamBus,
    AxiStreamFrame,
    AxiStreamSink,
    AxiStreamSource,
)

from limbeck.fpga import driver
from limbeck.fpga.driver import Error, Register

MANIFEST = json.loads(Path("design/design.json").read_text())
IMAGES, SCORES = (np.load(f"{name}.npy", allow_pickle=False) for name in ("images", "scores"))
CHANNELS = {
    "b": ("s_axi_b", ("resp",)),
    "r": ("s_axi_r", ("data", "resp")),
    "answers": ("m_axis_t", ("data", "last")),
}
TIMEOUT = 400  # microseconds: 40,000 cycles


class Bench:
    """A design just reset, its masters, and checkers on all that it sends."""

    def __init__(self, dut):
        self.dut = dut
        self.accepted = {"aw": 0, "w": 0, "b": 0, "ar": 0, "r": 0}
        cocotb.start_soon(Clock(dut.aclk, 10, unit="ns").start())
        for name, (prefix, payload) in CHANNELS.items():
            cocotb.start_soon(self._held(name, prefix, payload))
        cocotb.start_soon(self._answered())
        self.axi = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.aclk, dut.aresetn, reset_active_level=False)
        self.pixels = AxiStreamSource(
            AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, dut.aresetn, reset_active_level=False, byte_lanes=4
        )
        self.answers = AxiStreamSink(
            AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, dut.aresetn, reset_active_level=False, byte_lanes=4
        )

    async def _held(self, name, prefix, payload):
        """Fail where something is withdrawn or changed before it is taken, undefined, or sent in reset."""

        def pin(what):
            return getattr(self.dut, f"{prefix}{what}").value

        offered = None
        while True:
            await RisingEdge(self.dut.aclk)
            if self.dut.aresetn.value == 0:
                offered = None
                await RisingEdge(self.dut.aclk)
                assert self.dut.aresetn.value == 1 or pin("valid") == 0, f"{name}: valid in reset"
                continue
            assert pin("valid").is_resolvable, f"{name}: valid is undefined"
            now = tuple(pin(what) for what in payload) if pin("valid") else None
            assert now is None or all(value.is_resolvable for value in now), f"{name}: its payload is undefined"
            assert offered is None or now is not None, f"{name}: withdrawn before it was taken"
            assert offered in (None, now), f"{name}: changed before it was taken"
            offered = now if not pin("ready") else None

    async def _answered(self):
        """Fail at an answer without a question: a B before its AW and W, an R before its AR."""
        while True:
            await RisingEdge(self.dut.aclk)
            if self.dut.aresetn.value == 0:
                self.accepted = dict.fromkeys(self.accepted, 0)
                continue
            seen = {
                name: getattr(self.dut, f"s_axi_{name}valid").value == 1
                and getattr(self.dut, f"s_axi_{name}ready").value == 1
                for name in self.accepted
            }
            count = self.accepted
            assert not seen["b"] or count["b"] < min(count["aw"], count["w"]), "b: without its write"
            assert not seen["r"] or count["r"] < count["ar"], "r: without its address"
            for name, came in seen.items():
                count[name] += came

    async def reset(self):
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 80)  # what is in the pipelines passes
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 2)

    async def write(self, address, value):
        got = await with_timeout(self.axi.write(address, int(value).to_bytes(4, "little")), TIMEOUT, "us")
        assert got.resp == AxiResp.OKAY

    async def read(self, address):
        got = await with_timeout(self.axi.read(address, 4), TIMEOUT, "us")
        assert got.resp == AxiResp.OKAY
        return int.from_bytes(got.data, "little")

    async def load(self):
        """Load the memories and run, as driver.Accelerator.load does."""
        await self.write(Register.RUN, 0)
        await self.write(Register.ERRORS, (1 << len(Error)) - 1)
        await self.write(Register.LAST_OP, MANIFEST["ops"] - 1)
        for memory in MANIFEST["memories"]:
            words = driver.read_memory(Path("design") / memory["file"], memory["width"])
            await self.write(Register.MEMORY, memory["select"] | words.shape[1] << 8)
            await self.write(Register.ADDRESS, 0)
            for piece in words.ravel():
                await self.write(Register.DATA, piece)
        await self.write(Register.RUN, 1)

    async def send(self, beats):
        """Queue beats as one frame: TLAST with the last."""
        await self.pixels.send(AxiStreamFrame(np.asarray(beats, "<u4").tobytes()))

    async def answer(self):
        """Return the words up to TLAST."""
        frame = await with_timeout(self.answers.recv(), TIMEOUT, "us")
        return np.frombuffer(bytes(frame.tdata), "<i4").tolist()

    async def check(self, image):
        """Assert that the next answer is that image's scores and class."""
        assert await self.answer() == [*SCORES[image].tolist(), int(SCORES[image].argmax())]


async def begun(dut):
    bench = Bench(dut)
    dut.aresetn.value = 0
    await bench.reset()
    return bench


def frame(image):
    return driver.pixels(IMAGES[image : image + 1])


def pauses(seed, share):
    return cycle((np.random.default_rng(seed).random(997) < share).tolist())


@cocotb.test()
async def stalls_on_every_channel_change_nothing(dut):
    bench = await begun(dut)
    axi = bench.axi
    channels = (axi.write_if.aw_channel, axi.write_if.w_channel, axi.write_if.b_channel, axi.read_if.ar_channel,
                axi.read_if.r_channel, bench.pixels, bench.answers)  # fmt: skip
    for seed, channel in enumerate(channels):
        channel.set_pause_generator(pauses(seed, 0.4))
    await bench.load()
    for image in range(len(IMAGES)):
        await bench.send(frame(image))
    for image in range(len(IMAGES)):
        await bench.check(image)
    assert await bench.read(Register.IMAGES) == len(IMAGES)
    assert await bench.read(Register.ERRORS) == 0


@cocotb.test()
async def registers_read_back_and_tell_of_wrong_writes(dut):
    bench = await begun(dut)
    assert await bench.read(Register.IDENTITY) == MANIFEST["identity"]
    for address, value in (
        (Register.LAST_OP, 0x5A),
        (Register.MEMORY, 0x0312),
        (Register.ADDRESS, 0xBEEF),
        (Register.RUN, 1),
    ):
        await bench.write(address, value)
        assert await bench.read(address) == value
    assert await bench.read(Register.ERRORS) == 0
    for register in (Register.DATA, Register.LAST_OP):  # while it runs
        await bench.write(register, 1)
        assert await bench.read(Register.ERRORS) == 1 << Error.REGISTER
        await bench.write(Register.ERRORS, 1 << Error.REGISTER)
    assert await bench.read(Register.LAST_OP) == 0x5A  # as it was
    await bench.write(Register.DATA, 1)
    await bench.write(Register.ERRORS, 3)
    assert await bench.read(Register.ERRORS) == 4  # only a 1 clears
    for wrong in ((0xFC, b"\1\2\3\4"), (Register.LAST_OP, b"\1"), (Register.LAST_OP + 2, b"\1\2")):
        await bench.write(Register.ERRORS, 4)
        assert await bench.read(Register.ERRORS) == 0
        await with_timeout(bench.axi.write(*wrong), TIMEOUT, "us")
        assert await bench.read(Register.ERRORS) == 4
    assert await bench.read(Register.LAST_OP) == 0x5A  # no byte of it was written
    assert await bench.read(0xFC) == 0


@cocotb.test()
async def what_the_engine_does_not_have_is_not_loaded_and_reported(dut):
    bench = await begun(dut)
    await bench.load()
    await bench.write(Register.RUN, 0)
    memory = MANIFEST["memories"][0]
    words = driver.read_memory(Path("design") / memory["file"], memory["width"])
    right = memory["select"] | words.shape[1] << 8
    for select, address in ((7 | 1 << 8, 0), (right, 0xFFFF), (right, 0x8000), (right + (1 << 8), 0)):
        await bench.write(Register.MEMORY, select)
        await bench.write(Register.ADDRESS, address)
        for _ in range(words.shape[1] + 1):
            await bench.write(Register.DATA, 0xFFFFFFFF)
        assert await bench.read(Register.ERRORS) == 1 << Error.LOAD
        assert await bench.read(Register.ADDRESS) == address  # no word was written
        await bench.write(Register.ERRORS, 1 << Error.LOAD)
    await bench.write(Register.RUN, 1)
    await bench.send(frame(0))
    await bench.check(0)


@cocotb.test()
async def address_and_data_may_come_in_any_order(dut):
    bench = await begun(dut)
    aw, w = bench.axi.write_if.aw_channel, bench.axi.write_if.w_channel
    for late in (aw, w):
        late.pause = True
        write = cocotb.start_soon(bench.write(Register.LAST_OP, 17))
        await ClockCycles(dut.aclk, 20)
        assert not write.done()
        late.pause = False
        await write
        assert await bench.read(Register.LAST_OP) == 17
        await bench.write(Register.LAST_OP, 3)


@cocotb.test()
async def an_answer_waits_until_it_is_taken(dut):
    bench = await begun(dut)
    await bench.load()
    bench.answers.pause = True
    for image in range(4):
        await bench.send(frame(image))
    await ClockCycles(dut.aclk, 8 * MANIFEST["cycles"]["latency"])
    assert dut.m_axis_tvalid.value == 1  # valid does not wait for ready
    assert await bench.read(Register.IMAGES) == 2  # what there is room for
    assert await bench.read(Register.WAIT_SCORES) > 0
    bench.answers.pause = False
    for image in range(4):
        await bench.check(image)


@cocotb.test()
async def an_answer_that_is_offered_is_finished_when_the_run_stops(dut):
    bench = await begun(dut)
    await bench.load()
    bench.answers.pause = True
    for image in range(2):
        await bench.send(frame(image))
    while await bench.read(Register.IMAGES) < 2:
        pass
    await bench.write(Register.RUN, 0)
    bench.answers.pause = False
    await bench.check(0)
    await ClockCycles(dut.aclk, 200)
    assert bench.answers.empty()  # the second was dropped with the run
    await bench.load()
    await bench.send(frame(3))
    await bench.check(3)


@cocotb.test()
async def broken_frames_are_told_and_dropped_and_nothing_hangs(dut):
    bench = await begun(dut)
    await bench.load()
    whole = frame(0)
    cases = (
        (whole[:1], 1),  # TLAST at once
        (whole[:-1], 1),
        (np.concatenate([whole, whole[:1]]), 2),
        (np.concatenate([whole, whole, whole]), 2),  # TLAST of two frames missing
    )
    for beats, error in cases:
        await bench.send(beats)
        await bench.send(frame(1))
        await bench.check(1)
        assert await bench.read(Register.ERRORS) == error
        await bench.write(Register.ERRORS, error)
    assert bench.answers.empty()
    assert await bench.read(Register.IMAGES) == len(cases)


async def restarted(bench):
    """Reset, and assert that nothing of before is left."""
    await bench.reset()
    bench.answers.clear()
    bench.pixels.clear()
    for register in (Register.RUN, Register.ERRORS, Register.IMAGES, Register.STATUS):
        assert await bench.read(register) == 0
    await bench.load()
    await bench.send(frame(2))
    await bench.check(2)


@cocotb.test()
async def a_reset_at_any_time_leaves_nothing(dut):
    bench = await begun(dut)
    await bench.load()
    await bench.send(np.concatenate([frame(0), frame(1)])[:-3])
    await ClockCycles(dut.aclk, 5)
    await restarted(bench)  # in a frame
    await bench.send(frame(0))
    await ClockCycles(dut.aclk, MANIFEST["cycles"]["latency"] // 2)
    await restarted(bench)  # in an image
    bench.answers.pause = True
    await bench.send(frame(0))
    while not dut.m_axis_tvalid.value:
        await RisingEdge(dut.aclk)
    await ClockCycles(dut.aclk, 3)
    bench.answers.pause = False
    await restarted(bench)  # in an answer
    bench.axi.write_if.b_channel.pause = bench.axi.read_if.r_channel.pause = True
    pending = [
        cocotb.start_soon(bench.axi.write(Register.LAST_OP, b"\1\0\0\0")),
        cocotb.start_soon(bench.axi.read(0, 4)),
    ]
    await ClockCycles(dut.aclk, 10)
    bench.axi.write_if.b_channel.pause = bench.axi.read_if.r_channel.pause = False
    await restarted(bench)  # with a write and a read under way
    for task in pending:
        task.cancel()
