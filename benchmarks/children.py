"""Programs that measure in processes of their own, one thread each: CPU seconds and the most memory held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


class Size(NamedTuple):
    """Simulated cells."""

    cells: int
    features: int
    stored: float

    def __str__(self) -> str:
        return f"{self.cells:,} x {self.features:,}, {self.stored:.1%} stored"

    @property
    def file(self) -> str:
        """Of these cells."""
        return f"{self.cells}x{self.features}x{self.stored:g}.h5ad"


SIZES = {
    "few": Size(500, 200, 0.2),
    "marked": Size(5_000, 200, 0.3),
    "spots": Size(3_000, 2_000, 0.3),
    "genes": Size(20_000, 4_000, 0.085),
    "whole": Size(50_000, 20_000, 0.03),
    "33k": Size(5_000, 33_000, 0.05),
    "115k": Size(5_000, 115_000, 0.05),
}


def simulate(size: Size, folder: str) -> None:
    """Write the cells of this size (and 14 proteins) into the folder, once."""
    from scelbo.data.simulate import cite

    path = Path(folder) / size.file
    if not path.exists():
        cite(size.cells, size.features, 14, stored=size.stored, seed=1).write_h5ad(path)


def read(size: Size, folder: str) -> Any:
    import anndata
    import torch

    torch.set_num_threads(1)
    return anndata.read_h5ad(Path(folder) / size.file)


def peak_gb() -> float:
    """The most memory that this process held, since it started or since :func:`forget_peak`."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage would count what the parent held when it started this process
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**30  # bytes on macOS


def forget_peak() -> None:
    """Count anew from what is held now (on Linux; elsewhere the peak stays that of the process)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def timed(call: Callable[[], Any]) -> float:
    """CPU seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def child(program: str, *arguments: Any) -> dict[str, Any]:
    """What ``program --child arguments`` prints as JSON on its last line."""
    command = [sys.executable, "-W", "ignore", program, "--child", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr[-2000:]}")
    lines = done.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines else {}


def load() -> str:
    """What else the machine was doing."""
    return f"load of the machine meanwhile: {os.getloadavg()[1]:.1f} on {os.cpu_count()} cores"
