"""Models on a device that is only pretended (``pretended_models.py``), in a process of its own: a device that was named once stays."""

import os
import subprocess
import sys
from pathlib import Path


def test_models_train_and_answer_there():
    here = Path(__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(here / "pretended_models.py")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=here.parents[1], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
