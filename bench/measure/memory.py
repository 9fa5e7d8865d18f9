"""Peak memory, and processes of their own to measure it in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench import ROOT


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    From ``VmHWM`` where there is one: on Linux ``ru_maxrss`` of a fresh process begins at the peak of its parent.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def in_fresh_process(module: str, *arguments: object, **environment: str) -> dict[str, Any]:
    """Run ``python -m module arguments`` and return the JSON object that it prints last."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])
