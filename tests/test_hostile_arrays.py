"""Nothing that is handed to a constructor can crash the process, or change what was made of it."""

import os
import subprocess
import sys
from pathlib import Path

from tests.hostile_arrays import CASES


def test_hostile_arrays_end_in_one_sentence_or_in_a_sound_object():
    ran = subprocess.run(
        [sys.executable, "-m", "tests.hostile_arrays"],
        cwd=Path(__file__).parents[1],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert ran.returncode == 0, f"exit {ran.returncode}: {ran.stderr[-4000:]}"
    assert ran.stdout.splitlines() == [f"sound: {name}" for name in CASES]
