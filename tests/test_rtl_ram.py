"""rtl/ram.sv is one memory, whatever slices it is cut into for an ECP5."""

import numpy as np
import pytest
from rtl import run_bench, words

BENCH = """
module bench;
  logic clk = 0, we;
  logic [15:0] waddr, raddr;
  logic [{width}-1:0] wdata, q;
  logic [{bits}-1:0] vectors [0:{count}-1];
  ram #(.Width({width}), .Depth({depth})) dut (
      .clk_i(clk), .we_i(we), .waddr_i(waddr), .raddr_i(raddr), .wdata_i(wdata), .q_o(q)
  );
  initial begin
    $readmemh("vectors.mem", vectors);
    for (int i = 0; i < {count}; i++) begin
      {{we, waddr, raddr, wdata}} = vectors[i];
      #1 clk = 1;
      #1 clk = 0;
      $display("%h", q);
    end
    $finish;
  end
endmodule
"""


@pytest.mark.parametrize("defines", [(), ("LIMBECK_MULT18",)], ids=["whole", "sliced"])
@pytest.mark.parametrize(
    ("width", "depth"), [(5, 2), (36, 64), (37, 512), (40, 1000), (37, 2048), (19, 4096), (5, 8192), (3, 9001)]
)
def test_a_word_read_is_the_last_written_and_garbage_while_it_is_written(tmp_path, width, depth, defines):
    rng = np.random.default_rng(depth + width)
    edges = [0, depth // 2 - 1, depth // 2, depth - 1]
    places = edges + [int(n) for n in rng.integers(0, depth, 20)]
    now: dict[int, int] = {}
    read, rows = [], []
    for i in range(400):
        write = i < len(places) or rng.random() < 0.5
        there = places[i] if i < len(places) else int(rng.choice(places))
        here = there if rng.random() < 0.3 else int(rng.choice(places))
        word = int.from_bytes(rng.bytes(8), "big") % (1 << width)
        rows.append(words(write << 32 + width | there << 16 + width | here << width | word, 33 + width))
        clash = (1 << width) - 1 if write and there == here else 0
        read.append(now[here] ^ clash if here in now else None)
        if write:
            now[there] = word
    bench = BENCH.format(width=width, depth=depth, bits=33 + width, count=len(rows))
    found = [line for (line,) in run_bench(tmp_path, bench, ["ram"], vectors=rows, defines=defines)]
    known = [(q, int(found[i + 1], 16)) for i, q in enumerate(read[:-1]) if q is not None]
    assert len(known) > 300
    assert all(wanted == got for wanted, got in known)
