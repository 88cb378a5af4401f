"""Triton's kernels as a GPU would run them: compiled for one that need not be there."""

import importlib.util
import os
import subprocess
import sys

import pytest

PROGRAM = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from hiersearch.device import _triton_kernels as kernels

# A pointer to int32 where not said otherwise; numbers are int32.
POINTERS = {
    "codes": "u8", "pairs": "fp64", "spread": "fp64", "inverse": "fp64", "weights": "fp64",
    "units": "fp64", "sums": "i64", "region_edges": "i64", "regions": "i64",
    "query_numbers": "i64", "query_edges": "i64", "edges": "i64", "n_regions": "i64",
    "rows": "i64", "table_edges": "i64", "table": "i64", "prefix": "i64",
}
NUMBERS = {"n_rows", "n_queries", "n_items", "query_stride", "query_steps", "steps"}

def compiled(name, constants, **kinds):
    kernel = getattr(kernels, name)
    signature = {}
    for argument in kernel.arg_names:
        if argument in constants:
            signature[argument] = "constexpr"
        elif argument in NUMBERS:
            signature[argument] = "i32"
        else:
            signature[argument] = "*" + kinds.get(argument, POINTERS.get(argument, "i32"))
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]

tile = {"ROWS": kernels.ROWS, "WORDS": kernels.WORDS, "WIDTH": 76, "DIAGONAL": 6}
fused = compiled("_byte_distances", {**tile, "FUSED": True}, codes="i32")
assert "vabsdiff4.u32" in fused
soft = {"ROWS": kernels.SOFT_ROWS, "BYTES": 64, "WIDTH": 304}
compiled("_soft_bounds", soft, out="fp64")
gather = {"WIDTH": 24, "REGIONS": kernels.REGIONS, "RUNS": kernels.RUNS, "CHANNELS": 32}
compiled("_region_squares", gather, out="fp64")
for weighted in (True, False):
    ptx = compiled("_filled_tables", {"WEIGHTED": weighted, "PIECES": kernels.PIECES})
    assert "add.u64" in ptx
for whole, kind in ((True, "i64"), (False, "fp64")):
    compiled("_table_squares", {"WHOLE": whole, "PIECES": kernels.PIECES}, out=kind)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_kernels_compile_for_a_gpu(tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
