"""Runs a recipe as `python RECIPE ...` does, then prints the names of the process's threads: RECIPE [FLAGS]"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
print("threads", *sorted(names), flush=True)
