"""The clock's estimate is the sum of the longest path, and says which that is."""

import pytest
from test_synth import cell

from limbeck.fpga.timing import WIRES, estimate

REGISTERED = {f"{name}REG": "1" for name in "ABMP"}


def chain(luts):
    """Return a flip-flop, so many LUT2 one after the other, and a flip-flop."""
    cells = {"begin": cell("FDRE", C=[1], D=["0"], Q=(2,))}
    cells |= {f"lut {i}": cell("LUT2", I0=[2 + i], I1=["1"], O=(3 + i,)) for i in range(luts)}
    cells["end"] = cell("FDRE", C=[1], D=[2 + luts], Q=(3 + luts,))
    return cells


def ns(cells, name="typical"):
    return 1000 / getattr(estimate(cells), name)


@pytest.mark.parametrize("wires", WIRES)
def test_a_chain_takes_the_sum_of_its_parts(wires):
    one, _ = WIRES[wires]
    path = 77 + 20 * (one + 35) + 20 + 25  # a LUT with one input has its fast pin; the last LUT lies beside its FF
    assert ns(chain(20), wires) == pytest.approx(path / 1000)


def test_a_wire_with_more_sinks_is_slower():
    cells = chain(20)
    more = {f"more {i}": cell("FDRE", C=[1], D=["0"], CE=[10], Q=(100 + i,)) for i in range(15)}
    assert ns(cells | more) - ns(cells) == pytest.approx(0.050 * 4)  # 16 sinks


def test_the_longest_path_is_told():
    assert estimate(chain(20)).longest == "6.82 ns from begin through 20 LUT to end"


def test_no_clock_is_faster_than_a_dsp():
    assert estimate({"dsp": cell("DSP48E2", REGISTERED, CLK=[1], A=[2], B=[3], P=(4,))}).fast == pytest.approx(
        775, abs=1
    )


def test_a_multiplier_without_registers_is_a_path_of_its_own():
    def around(parameters):
        return {
            "a": cell("FDRE", C=[1], D=["0"], Q=(2,)),
            "dsp": cell("DSP48E2", parameters, CLK=[1], A=[2], B=["1"], P=(4,)),
            "p": cell("FDRE", C=[1], D=[4], Q=(5,)),
        }

    assert ns(around({}), "fast") == pytest.approx(2.440 + 2 * 0.150)  # 410 MHz, and two wires
    assert ns(around(REGISTERED), "fast") == pytest.approx(1.290, abs=0.001)


def test_cascades_cost_no_wire():
    cells = {
        "first": cell("DSP48E2", REGISTERED, CLK=[1], A=[2], B=["1"], PCOUT=(9,)),
        "second": cell("DSP48E2", REGISTERED, CLK=[1], A=["0"], B=["1"], PCIN=[9], P=(4,)),
    }
    assert estimate(cells).fast == pytest.approx(775, abs=1)


def test_a_memorys_output_register_is_as_slow_as_the_memorys_own():
    def behind(kind, pin):
        cells = {"memory": cell(kind, CLK=[1], **{pin: (2,)}), "q": cell("FDRE", C=[1], D=[2], Q=(3,))}
        return (
            cells
            | {f"lut {i}": cell("LUT2", I0=[3 + i], O=(4 + i,)) for i in range(20)}
            | {"end": cell("FDRE", C=[1], D=[23], Q=(24,))}
        )

    flop, block = ns(behind("LUT1", "O")), ns(behind("RAMB36E2", "DOUT"))
    assert block - flop == pytest.approx(0.229 - 0.077)


def test_a_carry_chain_has_no_wires_inside():
    def adder(carries):
        cells = {"begin": cell("FDRE", C=[1], D=["0"], Q=(2,)), "lut": cell("LUT2", I0=[2], O=(3,))}
        for i in range(carries):
            come = [100 * i + 3] if i else ["0"]
            cells[f"carry {i}"] = cell(
                "CARRY4", CI=come, CYINIT=["0"], S=[3 if not i else "0", "0", "0", "0"], DI=["0"] * 4,
                CO=tuple(100 * (i + 1) + k for k in range(4)), O=tuple(100 * (i + 1) + 50 + k for k in range(4)),
            )  # fmt: skip
        return cells | {"end": cell("FDRE", C=[1], D=[100 * carries + 53], Q=(99,))}

    assert ns(adder(30)) - ns(adder(29)) < 0.100


def test_a_loop_is_no_path():
    cells = chain(20) | {"a": cell("LUT2", I0=[200], O=(201,)), "b": cell("LUT2", I0=[201], O=(200,))}
    assert ns(cells) == ns(chain(20))
