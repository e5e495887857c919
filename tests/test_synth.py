"""What Yosys counted is read right, and a design goes through it."""

import pytest

from limbeck.errors import InputError
from limbeck.fpga import synth

STAT = """
=== limbeck ===

   Number of wires:              32432
   Number of cells:              31000
     CARRY4                        933
     DSP48E2                        84
     FDRE                         9000
     FDSE                           10
     LUT2                         1000
     LUT6                          500
     MUXF7                         400
     RAM32M16                        3
     RAMB18E2                        5
     RAMB36E2                        7
     SRL16E                         20
     SRLC32E                         2
     URAM288                         5

   Estimated number of LCs:       9876
"""


def test_cells_are_counted_by_kind():
    found = synth.counted(STAT, "xczu7ev")
    assert found == synth.Synthesis("xczu7ev", dsps=84, brams=9.5, urams=5, luts=1000 + 500 + 24 + 22, ffs=9010)


def test_without_yosys_the_remedy_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(synth.shutil, "which", lambda _: None)
    with pytest.raises(InputError, match="yosys not found; apt-get install yosys"):
        synth.synthesise(tmp_path)
