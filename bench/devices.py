"""Programs for GPUs and TPUs, compiled without one: launches, bytes moved and a modelled time.

Launches and bytes are counted in the compiled program: a fusion reads what it slices of its arguments, a loop
counts as often as it turns, or once if the data decide, a conditional with all of its branches. The time is
a model: each launch takes the longer of 3 µs and its bytes at the bandwidth of the data sheet.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, NamedTuple

import jax

BANDWIDTH = {"H200": 4.8e12, "H100": 3.35e12}  # bytes/s
MEMORY = {"H200": 151397597184, "H100": 84942979072}
LAUNCH = 3e-6  # s, of a kernel at least
TARGET = """gpu_device_info { threads_per_block_limit: 1024 threads_per_warp: 32
shared_memory_per_block: 49152 shared_memory_per_core: 233472 threads_per_core_limit: 2048 core_count: 132
fpus_per_core: 128 block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
memory_bandwidth: BANDWIDTH l2_cache_size: 52428800 clock_rate_ghz: 1.98 device_memory_size: MEMORY
shared_memory_per_block_optin: 232448
cuda_compute_capability { major: 9 feature_extension: ACCELERATED_FEATURES } registers_per_core_limit: 65536
registers_per_block_limit: 65536 thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
device_vendor: "NVIDIA Corporation" name: "CHIP" driver_version: "12.8.0" runtime_version: "12.8.0"
compile_time_toolkit_version: "12.8.0" dnn_version: "9.10.0" } platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 } device_description_str: "CHIP" """
WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
NO_KERNEL = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "iota"}


@dataclass(frozen=True)
class Launched:
    """A program on a chip.

    Attributes:
        path: what is computed.
        chip: "H200", "H100" or "v5e".
        launches: number of kernels that run; None on a TPU, whose programs are not listed.
        moved: bytes read and written, in units of the data.
        temporaries: memory beside arguments and results, in units of the data.
        share: the modelled share of the bandwidth, of one read of the data.
        target: in words.
        is_met: whether launches, bytes and share meet their targets; None without a target.
    """

    path: str
    chip: str
    launches: int | None
    moved: float | None
    temporaries: float
    share: float | None
    target: str
    is_met: bool | None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


class Op(NamedTuple):
    """An instruction of a compiled program."""

    name: str
    shape: str
    code: str
    operands: list[str]
    rest: str


Program = dict[str, list[Op]]


def can_compile(chip: str) -> bool:
    """Whether the packages of the extra `devices` that compile for this chip are installed."""
    needed = {"libtpu"} if chip == "v5e" else {"jax-cuda12-plugin", "nvidia-cuda-nvcc-cu12"}
    return needed <= {distribution.name for distribution in distributions()}


def compile_for(chip: str, function: Any, arguments: tuple[jax.ShapeDtypeStruct, ...]) -> Any:
    """The program of a function, compiled for a chip that need not be there."""
    from jax.experimental import topologies

    if chip in BANDWIDTH:
        target = TARGET.replace("CHIP", chip).replace("BANDWIDTH", str(int(BANDWIDTH[chip])))
        target = target.replace("MEMORY", str(MEMORY[chip]))
        topology = topologies.get_topology_desc(platform="cuda", target_config=target, topology="1x1x1")
    else:
        import libtpu  # pyright: ignore

        os.environ.setdefault("TPU_LIBRARY_PATH", libtpu.get_library_path())
        topology = topologies.get_topology_desc(f"{chip}:2x2", platform="tpu")
    device = jax.sharding.SingleDeviceSharding(topology.devices[0])
    arguments = tuple(jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device) for a in arguments)
    return jax.jit(function).lower(*arguments).compile()


def measure(name: str, chip: str) -> Launched:
    """Compile one of the paths for a chip and count."""
    from bench.device_paths import PATHS, M

    path = PATHS[name]
    m = M if chip in BANDWIDTH else M // 8  # a v5e has 16 GB
    shapes = (tuple(m if length == M else length for length in a.shape) for a in path.arguments)
    arguments = tuple(
        jax.ShapeDtypeStruct(shape, a.dtype) for shape, a in zip(shapes, path.arguments, strict=True)
    )
    program = compile_for(chip, path.function, arguments)
    data = sum(a.size * a.dtype.itemsize for a in arguments)
    temporaries = program.memory_analysis().temp_size_in_bytes / data
    if chip not in BANDWIDTH:
        return Launched(name, chip, None, None, temporaries, None, "compiles", True)
    kernels = list(_kernels(*_parse(program.as_text())))
    launches = sum(turns for turns, _ in kernels)
    moved = sum(turns * moved for turns, moved in kernels)
    seconds = sum(turns * max(LAUNCH, moved / BANDWIDTH[chip]) for turns, moved in kernels)
    share = data / BANDWIDTH[chip] / seconds
    is_met = path.is_met(launches, moved / data, share) if chip == "H200" else None
    return Launched(name, chip, launches, moved / data, temporaries, share, path.target, is_met)


def _parse(text: str) -> tuple[Program, str]:
    """The instructions of each computation of a program, and the name of its entry."""
    program: Program = {}
    entry, current = "", []
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line):
            current = program.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif op := re.match(r"  (?:ROOT )?%([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)", line):
            operands = re.findall(r"%([\w.\-]+)", op[4].split("), ")[0])
            shape = re.sub(r"/\*.*?\*/|\{[\d,]*\}", "", op[2])
            current.append(Op(op[1], shape, op[3], operands, op[4]))
    return program, entry


def _kernels(program: Program, name: str, turns: int = 1) -> Iterator[tuple[int, int]]:
    """How often each kernel of a computation runs, and its bytes."""
    shapes = {op.name: op.shape for op in program[name]}
    for op in program[name]:
        pattern = r"(?:body|to_apply|true_computation|false_computation)=%([\w.\-]+)"
        called = re.findall(pattern, op.rest)
        branches = re.search(r"branch_computations=\{(.*?)\}", op.rest)
        called += re.findall(r"%([\w.\-]+)", branches[1]) if branches else []
        if op.code == "while":
            count = re.search(r'known_trip_count":\{"n":"(\d+)"', op.rest)
            yield from _kernels(program, called[0], turns * int(count[1]) if count else turns)
        elif op.code in ("conditional", "call"):
            for branch in called:
                yield from _kernels(program, branch, turns)
        elif op.code not in NO_KERNEL and not op.code.endswith("-done"):
            yield turns, _bytes_moved(program, op, shapes)


def _bytes_moved(program: Program, op: Op, shapes: dict[str, str]) -> int:
    """Bytes that a kernel reads and writes; of an argument that it slices, those of the slices."""
    body = re.search(r"calls=%([\w.\-]+)", op.rest)
    if op.code != "fusion" or not body:
        return sum(_size(shapes[a]) for a in op.operands) + _size(op.shape)
    ops = {inner.name: inner for inner in program[body[1]]}
    read, written = 0, _size(op.shape)
    for parameter in ops.values():
        if parameter.code != "parameter":
            continue
        part, slices = 0, set()
        for use, operand in _uses(ops, parameter.name):
            if use.code in ("slice", "dynamic-slice", "gather") and operand == 0:
                place = (*use.operands[1:], re.sub(r", metadata=.*", "", use.rest.split("), ", 1)[-1]))
                if place not in slices:  # several sums take the same slice
                    part += _size(re.sub(r"^\w+", parameter.shape.split("[")[0], use.shape))
                slices.add(place)
            elif use.code == "dynamic-update-slice" and operand == 0:  # in place: the update alone is written
                written -= _size(use.shape) - _size(ops[use.operands[1]].shape)
            else:
                part += _size(parameter.shape)
        read += min(part, _size(parameter.shape))
    return read + max(written, 0)


def _uses(ops: dict[str, Op], name: str) -> Iterator[tuple[Op, int]]:
    """The instructions that read parts of a value or of elementwise functions of it, and as which operand."""
    dimensions = ops[name].shape.partition("[")[2]
    used = {operand for op in ops.values() for operand in op.operands}
    values = {name}
    for op in ops.values():  # in the order in which they are computed
        if not values.isdisjoint(op.operands):
            is_elementwise = op.shape.partition("[")[2] == dimensions and op.code != "dynamic-update-slice"
            if op.name in used and (op.code == "bitcast" or is_elementwise):
                values.add(op.name)
            else:
                yield op, next(i for i, operand in enumerate(op.operands) if operand in values)


def _size(shape: str) -> int:
    """Bytes of a shape as a program writes it, such as f32[300,1000], or of a tuple of them."""
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", shape)
    return sum(WIDTHS.get(kind, 0) * math.prod(int(k) for k in axes.split(",") if k) for kind, axes in arrays)


def main(chip: str, *names: str) -> None:
    """Print a line of JSON for each path."""
    from bench.device_paths import PATHS

    for name in names or PATHS:
        print(json.dumps(measure(name, chip).as_dict()), flush=True)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_gpu_autotune_level=0"
    if sys.argv[1] in BANDWIDTH:
        from nvidia import cuda_nvcc  # pyright: ignore

        os.environ["PATH"] = f"{Path(cuda_nvcc.__path__[0]) / 'bin'}:{os.environ['PATH']}"  # of ptxas
    main(*sys.argv[1:])
