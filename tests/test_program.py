"""The integer program: run equals an interpreter of docs/numerics.md, files give back what was saved."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from interpreter import interpret
from programs import images_for, is_telling, random_program
from safetensors.numpy import load as tensors_of
from safetensors.numpy import save as serialise

from limbeck.errors import InputError
from limbeck.integer import file
from limbeck.integer.program import (
    Add,
    AveragePool,
    Border,
    Concat,
    Conv,
    GlobalAverage,
    Input,
    MaxPool,
    Node,
    Program,
    Requant,
    Scale,
    Shortcut,
    Table,
    predict,
    run,
    trace,
)
from limbeck.integer.survey import stored, survey
from limbeck.runs import SEAL

SEEDS = range(160)  # each twice: from the middle of all ranges, and from their ends
MANY = pytest.mark.parametrize("extreme", [False, True])


def small(**changes):
    """Return a program with an operation of each kind; `changes` by name replace a node's operation."""
    tensors = {
        "stem.weight": np.arange(-27, 27).reshape(3, 2, 3, 3),
        "stem.border": np.arange(-9, 9).reshape(3, 3, 2),
        "gate.table": np.arange(-128, 128),
        "fc.weight": np.arange(-9, 9).reshape(3, 6, 1, 1),
        "zeros": np.zeros(3, np.int64),
        "halves": np.full(3, 1 << 15),
    }

    def requant(shift, bits=8, **more):
        return Requant("zeros", "halves", shift, bits, **{"relu": False, **more})

    none, one = (0, 0, 0, 0), (1, 1, 1, 1)
    border = Border("stem.border", (0, 1, 1, 2), (0, 1, 1, 1, 0), 2)
    operations = {
        "stem": (Conv("stem.weight", 8, 1, 1, one, requant(15, 16, relu=True), border), "input"),
        "narrow": (Add((1,), 8, 8, False), "stem"),
        "pool": (MaxPool(3, 1, one), "narrow"),
        "average": (AveragePool(3, 1, one, True, requant(20)), "pool"),
        "mean": (GlobalAverage(requant(19)), "average"),
        "gate": (Table("gate.table", 8), "mean"),
        "gated": (Scale(requant(20)), "average", "gate"),
        "short": (Shortcut(2, 3), "stem"),
        "ends": (GlobalAverage(requant(24)), "short"),
        "sum": (GlobalAverage(requant(19)), "gated"),
        "both": (Concat(), "sum", "ends"),
        "fc": (Conv("fc.weight", 8, 1, 1, none, requant(12, 24)), "both"),
    }
    nodes = tuple(Node(name, tuple(ins), changes.get(name, op), (1.0,)) for name, (op, *ins) in operations.items())
    return Program(Input(2, 4, 5), tensors, nodes, ("a", "b", "c"))


def changed(program, name, **fields):
    """Return the program with other fields in one node's operation."""
    nodes = (replace(node, op=replace(node.op, **fields)) if node.name == name else node for node in program.nodes)
    return replace(program, nodes=tuple(nodes))


def with_tensor(program, key, table):
    return replace(program, tensors={**program.tensors, key: np.asarray(table)})


# --- what it means ---------------------------------------------------------------------------------------------------


@MANY
def test_run_is_the_arithmetic_of_the_text_on_every_map(extreme):
    for seed in SEEDS:
        program, images = random_program(seed, extreme)
        expected = [interpret(program, image) for image in images]
        found = dict(trace(program, images))
        assert found.keys() == expected[0].keys()
        for name, maps in found.items():
            for ours, theirs in zip(maps, expected, strict=True):
                np.testing.assert_array_equal(ours, theirs[name], err_msg=f"seed {seed}: {name}")
        np.testing.assert_array_equal(run(program, images), maps[:, :, 0, 0])


@MANY
def test_no_sum_exceeds_its_proved_bound(extreme):
    for seed in SEEDS:
        program, images = random_program(seed, extreme)
        bounds = {site.node.name: site.bound for site in survey(program)}
        seen = {}
        for image in images:
            interpret(program, image, seen)
        assert all(largest <= bounds[name] for name, largest in seen.items()), seed


def test_the_random_programs_have_all_operations_and_formats():
    found = Counter()
    for seed in SEEDS:
        for site in survey(random_program(seed, extreme=False)[0]):
            op = site.node.op
            found.update([type(op).__name__, site.out.bits])
            found.update({"wide sums": site.bound >= 1 << 24})
            if isinstance(op, Conv):
                depthwise = op.groups == site.ins[0].shape[0] == site.out.shape[0] > 1
                found.update({f"w{op.weight_bits}": 1, "border": op.border is not None, "depthwise": depthwise})
                found.update({"grouped": 1 < op.groups < site.ins[0].shape[0], "lopsided": len(set(op.padding)) > 1})
    operations = Conv, Add, Scale, Table, MaxPool, AveragePool, GlobalAverage, Concat, Shortcut
    formats = 8, 16, 24, "w4", "w8", "w16", "border", "depthwise", "grouped", "lopsided", "wide sums"
    assert all(found[what] >= 10 for what in (*(kind.__name__ for kind in operations), *formats)), found


def test_programs_whose_scores_ignore_the_image_are_not_tested_with():
    images = images_for(small(), 8, np.random.default_rng(0))
    assert is_telling(small(), images)
    assert not is_telling(with_tensor(small(), "fc.weight", np.zeros((3, 6, 1, 1), np.int64)), images)
    assert not is_telling(changed(small(), "fc", requant=Requant("zeros", "halves", 0, 8, False)), images)


@MANY
def test_another_topological_order_changes_nothing(extreme):
    moved, rng = 0, np.random.default_rng(0)
    for seed in SEEDS[:40]:
        program, images = random_program(seed, extreme)
        waiting, nodes, known = list(program.nodes), [], {"input"}
        while waiting:
            ready = [node for node in waiting if known.issuperset(node.inputs)]
            nodes.append(ready[rng.integers(len(ready))])
            waiting.remove(nodes[-1])
            known.add(nodes[-1].name)
        moved += tuple(nodes) != program.nodes
        other = replace(program, nodes=tuple(nodes))
        survey(other)
        np.testing.assert_array_equal(run(other, images), run(program, images))
    assert moved > 10


def test_equal_nodes_in_place_of_a_shared_one_change_nothing():
    program = small()
    again = tuple(replace(node, name=f"{node.name}[1]") for node in program.nodes[:2])
    last = replace(program.nodes[7], inputs=("stem[1]",))
    other = replace(program, nodes=(*program.nodes[:7], again[0], last, *program.nodes[8:]))
    images = images_for(program, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(run(other, images), run(program, images))
    assert stored(other) == stored(program)


def test_the_bound_is_reached_by_the_worst_image():
    tensors = {"w": np.array([[-127, 100]])[..., None, None], "o": np.array([-5]), "m": np.array([1])}
    last = Conv("w", 8, 1, 1, (0, 0, 0, 0), Requant("o", "m", 0, 24, False))
    program = Program(Input(2, 1, 1), tensors, (Node("fc", ("input",), last, (1.0,)),), ("only",))
    worst = np.array([255, 0], np.uint8).reshape(1, 2, 1, 1)  # 127 and -128
    assert survey(program)[0].bound == 227 * 128 + 5
    assert run(program, worst) == -127 * 127 - 100 * 128 - 5


def test_the_mean_of_the_places_inside_is_exact_at_every_border():
    """Of a map of one value every window's mean is that value, whatever its padding."""
    tensors = {"o": np.zeros(1, np.int64), "m": np.array([1 << 14])}
    pool = AveragePool(3, 1, (1, 1, 1, 1), True, Requant("o", "m", 14, 16, False))  # 9, 6 or 4 places, L is 36
    mean = MaxPool(5, 1, (0, 0, 0, 0))
    nodes = Node("pool", ("input",), pool, (1.0,)), Node("mean", ("pool",), mean, (1.0,))
    program = Program(Input(1, 5, 5), tensors, nodes, ("only",))
    survey(program)
    assert (dict(trace(program, np.full((1, 1, 5, 5), 130, np.uint8)))["pool"] == 2 * 36).all()


def test_scores_do_not_depend_on_the_batch():
    program = small()
    images = images_for(program, 70, np.random.default_rng(1))
    alone = np.concatenate([run(program, images[i : i + 1]) for i in range(70)])
    np.testing.assert_array_equal(run(program, images), alone)
    np.testing.assert_array_equal(predict(program, images), alone.argmax(1))
    assert run(program, images[:0]).shape == (0, 3)


def test_images_of_another_shape_or_type_are_refused():
    with pytest.raises(InputError, match=r"takes uint8 images \[N, 2, 4, 5\]; these are uint8 \[1, 2, 5, 5\]"):
        run(small(), np.zeros((1, 2, 5, 5), np.uint8))
    with pytest.raises(InputError, match="these are float64"):
        run(small(), np.zeros((1, 2, 4, 5)))


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("fc", {"weight": "elsewhere"}, "^fc: there is no tensor 'elsewhere' of int64 for its weights"),
        ("fc", {"weight": "stem.weight"}, r"^fc: weights \(3, 2, 3, 3\) don't fit 1 groups of 6 channels"),
        ("fc", {"groups": 2}, r"^fc: weights \(3, 6, 1, 1\) don't fit 2 groups"),
        ("fc", {"groups": 0}, "^fc: groups is 0"),
        ("fc", {"weight_bits": 9}, "^fc: weight bits is 9; it must be one of 4, 8, 16"),
        ("fc", {"weight_bits": 4}, "^smallest of fc: weights is -9; it must lie from -7 to 7"),
        ("fc", {"stride": 0}, "^fc: stride is 0; it must lie from 1"),
        ("stem", {"padding": (1, 1, 1, 3)}, "^stem: padding is 3; it must lie from 0 to 2"),
        (
            "stem",
            {"border": Border("stem.border", (0,) * 4, (2,) * 5, 1)},
            "^stem: smallest class of border columns is 2",
        ),
        (
            "stem",
            {"border": Border("stem.border", (0,) * 3, (0,) * 5, 1)},
            "^stem: a border .* of 3 rows and 5 columns",
        ),
        ("stem", {"border": Border("stem.border", (0,) * 4, (0,) * 5, 5000)}, "^stem: border ticks is 5000"),
        ("stem", {"requant": Requant("zeros", "halves", 99, 16, True)}, "^stem: shift is 99"),
        ("stem", {"requant": Requant("zeros", "halves", 22, 12, True)}, "^stem: bits is 12; it must be one of 8, 16"),
        (
            "stem",
            {"requant": Requant("zeros", "zeros", 22, 16, True)},
            "^stem: the tensor 'zeros' .* is used otherwise",
        ),
        ("narrow", {"factors": (1, 1)}, "^narrow: it takes 1 maps; it must take 2"),
        ("narrow", {"factors": (1 << 16,)}, "^narrow: smallest factor is 65536"),
        ("narrow", {"shift": -1}, "^narrow: shift is -1"),
        (
            "average",
            {"requant": Requant("zeros", "halves", 20, 24, False)},
            "^gated: it takes a map of 24 bits; at most 16",
        ),
        ("pool", {"size": 9}, "^pool: kernel is 9"),
        ("pool", {"size": 99}, "^pool: size is 99"),
        ("average", {"padding": (3, 0, 0, 0)}, "^average: padding is 3"),
        ("mean", {"requant": Requant("zeros", "halves", 19, 16, False)}, "^gate: it takes a map of 16 bits; at most 8"),
        ("gate", {"table": "zeros"}, r"^gate: a table \(3,\); it must have 256 values"),
        ("short", {"channels": 2}, "^short: channels is 2; it must lie from 3"),
        ("short", {"channels": 4}, r"^ends: offsets \(3,\) don't fit 4 channels"),
    ],
)
def test_a_program_that_breaks_a_limit_is_refused_by_name(name, fields, message):
    survey(small())
    with pytest.raises(InputError, match=message):
        survey(changed(small(), name, **fields))


def moved(program, which, /, **fields):
    """Return the program with other fields in one node."""
    nodes = (replace(node, **fields) if node.name == which else node for node in program.nodes)
    return replace(program, nodes=tuple(nodes))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (moved(small(), "pool", inputs=("gate",)), "^pool: it takes 'gate', which no node before it gives"),
        (moved(small(), "gated", inputs=("average",)), "^gated: it takes 1 maps; it must take 2"),
        (moved(small(), "gated", inputs=("average", "pool")), r"^gated: the maps \(3, 1, 1\) and \(3, 4, 5\)"),
        (moved(small(), "both", inputs=("average", "ends")), r"^both: the maps \(0, 4, 5\) and \(0, 1, 1\)"),
        (moved(small(), "both", inputs=()), "^both: it takes 0 maps"),
        (moved(small(), "pool", name="stem"), "^two maps have the name 'stem'"),
        (moved(small(), "stem", name="input"), "^two maps have the name 'input'"),
        (moved(small(), "stem", scale=(1.0, 2.0)), r"^stem: scales \(1.0, 2.0\) must be positive, one or 3"),
        (moved(small(), "fc", scale=(1.0, 2.0, 3.0)), "^fc: scores have one scale"),
        (moved(small(), "pool", inputs=("stem",)), "^narrow: no node takes its map; leave it out"),
        (replace(small(), classes=("a", "b")), r"^the program ends with a map \(3, 1, 1\); .* 2 scores, one per class"),
        (replace(small(), nodes=()), "^it holds a tensor that no node uses, stem.weight"),
        (replace(small(), nodes=(), tensors={}), r"^the program ends with a map \(2, 4, 5\)"),
        (replace(small(), input=Input(2, 1 << 20, 5)), "^input height is 1048576"),
        (with_tensor(small(), "extra", [1]), "^it holds a tensor that no node uses, extra"),
        (with_tensor(small(), "zeros", [1 << 44] * 3), "^smallest of stem: offsets is 17592186044416"),
        (with_tensor(small(), "halves", [-1, 0, 0]), "^smallest of stem: multipliers is -1"),
        (with_tensor(small(), "gate.table", np.full(256, 128)), "^smallest of gate: table is 128"),
        (with_tensor(small(), "stem.weight", np.full((3, 2, 3, 3), -128)), "^smallest of stem: weights is -128"),
        (with_tensor(small(), "stem.weight", np.ones((3, 2, 3, 3), np.int8)), "^stem: there is no tensor .* of int64"),
        (with_tensor(small(), "stem.border", np.full((3, 3, 2), 1 << 60)), "^smallest of stem: border table"),
    ],
)
def test_a_graph_that_does_not_fit_is_refused_by_name(program, message):
    with pytest.raises(InputError, match=message):
        survey(program)


def test_an_accumulator_too_wide_is_refused_with_the_remedy():
    tensors = {"w": np.full((1, 1 << 14, 1, 1), 32767), "o": np.array([0]), "m": np.array([1])}
    last = Conv("w", 16, 1, 1, (0, 0, 0, 0), Requant("o", "m", 0, 16, False))
    wide, cat = Add((1,), 0, 16, False), Concat()
    nodes = [Node("0", ("input",), wide, (1.0,))]
    nodes += [Node(str(n), (str(n - 1),) * 2, cat, (1.0,)) for n in range(1, 15)]
    program = Program(Input(1, 1, 1), tensors, (*nodes, Node("fc", ("14",), last, (1.0,))), ("only",))
    with pytest.raises(InputError, match="fc: its accumulators need 45 bits, the limit is 44; lower its weight bits"):
        survey(program)


# --- files -----------------------------------------------------------------------------------------------------------


@MANY
def test_a_saved_program_comes_back_the_same(tmp_path, extreme):
    path, again = tmp_path / "x.program", tmp_path / "again.program"
    for seed in SEEDS[:40]:
        program, images = random_program(seed, extreme)
        program = replace(program, lineage={"tag": "ünïcode", "teachers": [{"tag": "a"}]})
        file.save(program, path)
        loaded = file.load(path)
        assert (loaded.input, loaded.nodes, loaded.classes) == (program.input, program.nodes, program.classes)
        assert loaded.lineage == program.lineage
        assert loaded.tensors.keys() == program.tensors.keys()
        for key, table in program.tensors.items():
            np.testing.assert_array_equal(loaded.tensors[key], table)
        np.testing.assert_array_equal(run(loaded, images), run(program, images))
        file.save(loaded, again)
        assert again.read_bytes() == path.read_bytes()


@pytest.fixture
def parts(tmp_path):
    """A good file's header and tensors, and how to load them once changed."""
    path = tmp_path / "x.program"
    file.save(small(), path)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(json.loads(raw[8 : 8 + size])["__metadata__"]["limbeck.program"])
    header.pop(SEAL)  # else no change would be seen for what it is

    def reload(tensors, text=None):
        path.write_bytes(serialise(tensors, {"limbeck.program": json.dumps(header) if text is None else text}))
        return file.load(path)

    return header, tensors_of(raw), reload


def test_the_helper_alone_changes_nothing(parts):
    _, tensors, reload = parts
    assert reload(tensors).nodes == small().nodes


def four_bits(program):
    """Return the program with four-bit weights in its stem."""
    program = with_tensor(program, "stem.weight", np.arange(54).reshape(3, 2, 3, 3) % 15 - 7)
    return changed(program, "stem", weight_bits=4)


def test_four_bit_weights_take_half_a_byte_in_the_file_and_on_a_device(tmp_path):
    four = four_bits(small())
    eight = changed(four, "stem", weight_bits=8)
    for name, program in (("4", four), ("8", eight)):
        file.save(program, tmp_path / name)
    sizes = [tensors_of((tmp_path / name).read_bytes())["stem.weight"].nbytes for name in ("4", "8")]
    assert sizes == [27, 54]
    assert stored(eight) - stored(four) == 27


def test_what_a_device_stores_is_the_sum_of_its_tables():
    tensors = {"w": np.ones((2, 3, 1, 1), np.int64), "o": np.array([300, -2]), "m": np.array([1, 2])}  # 2 bytes each
    last = Conv("w", 4, 1, 1, (0, 0, 0, 0), Requant("o", "m", 0, 16, False))
    program = Program(Input(3, 1, 1), tensors, (Node("fc", ("input",), last, (1.0,)),), ("a", "b"))
    assert stored(program) == 3 + 2 * 2 + 2 * 2


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ({"elsewhere": [3, 2, 3, 3]}, "its tensor stem.weight is no table of integers"),
        ({"stem.weight": [3, 2, 3, 4]}, "there is no tensor stem.weight of 4-bit integers"),
        ({"stem.weight": [-3, -2, 3, 3]}, "there is no tensor stem.weight of 4-bit integers"),
        ({"stem.weight": [54, True]}, "there is no tensor stem.weight of 4-bit integers"),
        ({"stem.weight": []}, "there is no tensor stem.weight of 4-bit integers"),
        ({"stem.weight": 7}, "there is no tensor stem.weight of 4-bit integers"),
        ({"stem.weight": [3, 2, 3, 3], "fc.weight": [3, 6, 1, 1]}, "its tensor fc.weight is no table of integers"),
        ([], "its packed tensors are not named"),
        ({}, "its tensor stem.weight is no table of integers"),
    ],
)
def test_packed_weights_that_are_not_there_are_refused(parts, packed, message):
    header, tensors, reload = parts
    tensors["stem.weight"] = np.zeros(27, np.uint8)
    op_of(header, "stem").update(weight_bits=4)
    header["packed"] = {"stem.weight": [3, 2, 3, 3]}
    assert reload(tensors).nodes[0].op.weight_bits == 4
    header["packed"] = packed
    with pytest.raises(InputError, match=message):
        reload(tensors)


def test_weights_of_eight_bits_are_not_packed(parts):
    header, tensors, reload = parts
    header["packed"] = {"stem.weight": [3, 2, 3, 3]}
    with pytest.raises(InputError, match="its packed tensors must be its 4-bit weights"):
        reload(tensors | {"stem.weight": np.zeros(27, np.uint8)})


def test_the_lowest_code_is_refused_in_four_bits_too(parts):
    header, tensors, reload = parts
    op_of(header, "stem").update(weight_bits=4)
    header["packed"] = {"stem.weight": [3, 2, 3, 3]}
    with pytest.raises(InputError, match="smallest of stem: weights is -8; it must lie from -7 to 7"):
        reload(tensors | {"stem.weight": np.full(27, 0x88, np.uint8)})


def node_of(header, name):
    return next(node for node in header["program"]["nodes"] if node["name"] == name)


def op_of(header, name):
    return node_of(header, name)["op"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(version=3), "has version 3; this Limbeck reads version 2"),
        (lambda h: h.update(version=1), r"is of Limbeck 0.1 \(version 1\); quantize its run again with `limbeck quan"),
        (lambda h: h.pop("version"), "is not a program file"),
        (lambda h: h.pop("packed"), "is not a program file"),
        (lambda h: h.update(program=[]), "program must have exactly kind, input, nodes, classes, lineage"),
        (lambda h: op_of(h, "stem").update(kind="Popen"), "program.nodes.0.op is not Conv or"),
        (lambda h: op_of(h, "stem").update(kind="Requant"), "program.nodes.0.op is not Conv or"),
        (lambda h: op_of(h, "stem").update(extra=1), "program.nodes.0.op must have exactly"),
        (lambda h: op_of(h, "stem").pop("stride"), "program.nodes.0.op must have exactly"),
        (lambda h: op_of(h, "stem").update(stride=True), "program.nodes.0.op.stride is 'True'"),
        (lambda h: op_of(h, "stem").update(stride="1"), "program.nodes.0.op.stride is '1'"),
        (lambda h: op_of(h, "stem").update(stride=0), "stem: stride is 0; it must lie from 1"),
        (lambda h: op_of(h, "stem").update(padding=[1, 1, 1]), r"program.nodes.0.op.padding is '\[1, 1, 1\]'"),
        (lambda h: op_of(h, "stem").update(padding=[10**9] * 4), "stem: padding is 1000000000"),
        (lambda h: op_of(h, "stem").update(weight="elsewhere"), "stem: there is no tensor 'elsewhere'"),
        (lambda h: op_of(h, "stem")["requant"].update(shift=99), "stem: shift is 99"),
        (lambda h: op_of(h, "stem").update(border=3), "program.nodes.0.op.border is not Border"),
        (lambda h: op_of(h, "stem").update(border=None), "it holds a tensor that no node uses, stem.border"),
        (lambda h: node_of(h, "stem").update(scale=[float("nan")]), r"stem: scales \(nan,\) must be positive"),
        (lambda h: node_of(h, "stem").update(scale=[]), r"stem: scales \(\) must be positive"),
        (lambda h: node_of(h, "stem").update(inputs="input"), "program.nodes.0.inputs is 'input'"),
        (lambda h: h["program"]["classes"].pop(), r"the program ends with a map \(3, 1, 1\)"),
        (lambda h: h["program"].update(nodes=[]), "holds a tensor that no node uses"),
        (lambda h: h["program"]["input"].update(height=10**6), "input height is 1000000"),
        (lambda h: h["program"]["input"].update(interpolation="exec"), "program.input.interpolation is 'exec'"),
    ],
)
def test_a_changed_header_is_refused(parts, change, message):
    header, tensors, reload = parts
    change(header)
    with pytest.raises(InputError, match=message):
        reload(tensors)


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"version": 2, "program": ' + "[" * 50_000])
def test_a_header_that_is_no_program_is_refused(parts, text):
    _, tensors, reload = parts
    with pytest.raises(InputError, match="is not a"):
        reload(tensors, text)


@pytest.mark.parametrize(
    ("name", "table", "message"),
    [
        ("stem.weight", np.ones((3, 2, 3, 3), np.float32), "its tensor stem.weight is no table of integers"),
        ("stem.weight", np.ones((3, 2, 3, 3), np.uint8), "its tensor stem.weight is no table of integers"),
        ("stem.weight", np.ones((3, 2, 3, 0), np.int8), "its tensor stem.weight is no table of integers"),
        ("stem.weight", np.full((3, 2, 3, 3), -(2**63)), "weights is -9223372036854775808"),
        ("zeros", np.full(3, 2**62), "offsets is 4611686018427387904"),
        ("extra", np.ones(1, np.int8), "holds a tensor that no node uses, extra"),
    ],
)
def test_a_changed_table_is_refused(parts, name, table, message):
    _, tensors, reload = parts
    with pytest.raises(InputError, match=message):
        reload(tensors | {name: table})


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\xff" * 64, b"\x02\0\0\0\0\0\0\0{}"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "x.program"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not a program file"):
        file.load(path)
    with pytest.raises(InputError, match="is missing"):
        file.load(tmp_path / "none")
