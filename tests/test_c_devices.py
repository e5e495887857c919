"""The same scores on other processors: Cortex-M0+, M4 with its DSP instructions, M7, and aarch64 with NEON, in
emulators."""

import subprocess
from pathlib import Path

import pytest
from programs import random_program
from test_c import put
from tools import need

from limbeck.c.write import write

DEVICE = Path(__file__).parents[1] / "benchmarks" / "device"
BOARD = Path(__file__).parents[1] / "examples" / "stm32f405"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_cortex_m4_has_the_programs_scores(tmp_path, seed):
    """By the project in examples/: its Makefile, linker script and start-up."""
    need("make", "arm-none-eabi-gcc", "qemu-system-arm")
    source = put(tmp_path, write(random_program(seed, False)[0], "net"))
    command = ["make", "-C", str(BOARD), "-s", f"NET={source}", f"OUT={tmp_path}", "all", "test"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout.split()[-1:]) == (0, ["pass"]), done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("march", ["armv8-a", "armv8.2-a+dotprod"])
def test_aarch64_has_the_programs_scores(tmp_path, march):
    need("aarch64-linux-gnu-gcc", "qemu-aarch64")
    source = put(tmp_path, write(random_program(2, True)[0], "net"))
    program = str(tmp_path / "selftest")
    command = ["aarch64-linux-gnu-gcc", "-std=c99", "-O2", "-static", f"-march={march}", "-DLIMBECK_SELFTEST"]
    subprocess.run([*command, str(source), "-o", program], check=True)
    done = subprocess.run(["qemu-aarch64", "-cpu", "max", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "net: pass\n")


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "board"), [("cortex-m0plus", "mps2-an385"), ("cortex-m7", "mps2-an500")])
def test_a_cortex_m0_and_an_m7_have_the_programs_scores(tmp_path, cpu, board):
    """A Cortex-M3 runs the M0+'s code: qemu has no board with an M0+ and memory enough."""
    need("arm-none-eabi-gcc", "qemu-system-arm")
    source, binary = put(tmp_path, write(random_program(5, False)[0], "net")), str(tmp_path / "selftest")
    command = ["arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", "-std=gnu99", "-Os", "-DLIMBECK_SELFTEST"]
    command += ["--specs=nano.specs", "--specs=nosys.specs", "-nostartfiles", f"-Wl,-T,{DEVICE / 'mps2.ld'}"]
    subprocess.run([*command, str(source), str(DEVICE / "start.c"), "-o", binary], check=True, capture_output=True)
    emulator = ["qemu-system-arm", "-M", board, "-nographic", "-monitor", "none", "-serial", "null"]
    emulator += ["-semihosting-config", "enable=on,target=native", "-kernel", binary]
    done = subprocess.run(emulator, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "net: pass\n")
