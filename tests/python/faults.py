"""Kills trainings at random, over and over: what was noted must open, and lead to the very weights of a training that nobody disturbed.

``make faults`` does it 100 times, ``make test`` a few. Kinds of kill: at a random moment; just before a random call to the file system (so
between the steps of a write); and by the kernel, in the middle of a file, when it grows past a random size. After each kill the checkpoint
must be the last one or the one being written, whole, and what ``resume=`` notes must not have gone back. Ends with a disk that is really
full, if this user may mount one.
"""

import contextlib
import hashlib
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cases import CASES

import scelbo
from scelbo import PEAKVI, SCANVI, SCVI, errors, settings
from scelbo.data.simulate import cite
from scelbo.train.state import _read

MODELS = [next(case for case in CASES if case.model is model) for model in (SCVI, SCANVI, PEAKVI)]
TRAINING = {"max_epochs": 20, "batch_size": 40, "check_val_every_n_epoch": 1, "early_stopping": False, "progress": False}
CALLS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "shutil.rmtree", "tempfile.mkdtemp", "fcntl.flock", "ctypes.dlsym"}
"""What Python says it is about to do when something is written; ``ctypes.dlsym`` comes before two folders are exchanged."""
CALLS_A_TRAINING, LARGEST_FILE = 600, 90_000
KINDS = ["at a random moment", "between two steps of a write", "in the middle of a file"]


def forked(work):
    """The process that does ``work`` in a copy of this one: its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        warnings.simplefilter("ignore")
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(pid):
    """How a process ended: 0, its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@contextlib.contextmanager
def files_of_at_most(n):
    """Inside, a write past ``n`` bytes of a file is an error, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def digest(model):
    """Of all its weights."""
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in model.module.state_dict().values())).hexdigest()


@dataclass
class Training:
    """One training, in a folder: ``best`` is its checkpoint, ``state`` what resume= notes, ``end`` the model."""

    case: object
    seed: int
    folder: Path

    def run(self):
        model = self.case.make(self.case.data(cite(120, 40, 5, seed=1)))
        model.train(**TRAINING, seed=self.seed, checkpoint=self.folder / "best", resume=self.folder / "state")
        model.save(self.folder / "end", overwrite=True)

    def undisturbed(self):
        """The checkpoints that it writes, epoch -> digest; and the digest of its end."""
        noted = {}
        save = self.case.model.save

        def saved(model, *args, **kwargs):
            noted[model.trained_epochs] = digest(model)
            save(model, *args, **kwargs)

        self.case.model.save = saved
        try:
            self.run()
        finally:
            self.case.model.save = save
        return noted, digest(scelbo.load(self.folder / "end"))

    def killed(self, kind, rng, seconds):
        """Whether it was killed before its end."""

        def work():
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            if kind == "in the middle of a file":
                signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            elif kind == "between two steps of a write":
                sys.addaudithook(hook)
            self.run()

        def hook(event, args):
            nonlocal calls
            if event in CALLS and (event in ("ctypes.dlsym", "fcntl.flock") or str(args[0]).startswith(str(self.folder))):
                calls -= 1
                if calls == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        calls, limit, wait = rng.integers(1, CALLS_A_TRAINING), int(rng.integers(1, LARGEST_FILE)), rng.uniform(0, seconds)
        pid, start = forked(work), time.perf_counter()
        if kind == "at a random moment":
            while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None and time.perf_counter() - start < wait:
                time.sleep(0.002)
            os.kill(pid, signal.SIGKILL)
        code = ended(pid)
        assert code in (0, -signal.SIGKILL, -signal.SIGXFSZ), f"the training ended with {code}"
        return code != 0


def faults(n, seed=0, models=MODELS):
    """What was found after ``n`` kills: (kind, what it left) -> how often. Anything half-written, lost or different is an error."""
    rng, found = np.random.default_rng(seed), Counter()
    kills = rounds = 0
    while kills < n:
        with tempfile.TemporaryDirectory() as place:
            training = Training(models[rounds % len(models)], rounds, Path(place) / "undisturbed")
            start = time.perf_counter()
            checkpoints, end = training.undisturbed()
            seconds = time.perf_counter() - start
            training.folder = Path(place) / "killed"
            training.folder.mkdir()
            epochs = best = 0
            going = True
            while going:
                kind = KINDS[rng.integers(len(KINDS))]
                going = training.killed(kind, rng, seconds)
                best_now, epochs_now = left(training, checkpoints)
                assert best_now >= best and epochs_now >= epochs, f"seed {seed}, kill {kills}: something that was noted is gone"
                if going:
                    kills += 1
                    moved = [word for word, now, was in (("checkpoint", best_now, best), ("state", epochs_now, epochs)) if now > was]
                    unfinished = len(unfinished_in(training.folder)) > 0
                    found[kind, " and ".join(moved) or "nothing", unfinished] += 1
                best, epochs = best_now, epochs_now
            rounds += 1
            assert digest(scelbo.load(training.folder / "end")) == end, f"seed {seed}, training {rounds}: it ended in other weights"
            assert best == max(checkpoints)
            assert sorted(p.name for p in training.folder.iterdir()) == ["best", "end", "state"], "something unfinished is left"
    return found, kills, rounds


def unfinished_in(folder):
    """What a kill left beside the places that were being written."""
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def left(training, checkpoints):
    """The epochs of the checkpoint and of the state that are there now, 0 for none; each must be whole, and as it was undisturbed."""
    best = epochs = 0
    if (training.folder / "best").exists():
        model = scelbo.load(training.folder / "best")
        best = model.trained_epochs
        assert digest(model) == checkpoints[best], f"the checkpoint of epoch {best} has other weights"
    if (training.folder / "state").exists():
        epochs = _read(training.folder / "state")["epochs"]
    return best, epochs


@contextlib.contextmanager
def small_disk(size):
    """A disk of its own; None where this user may mount none."""
    with tempfile.TemporaryDirectory() as place:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], capture_output=True, check=False)
        try:
            yield Path(place) if mounted.returncode == 0 else None
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", place], check=True)


def full_disks(n, seed=0):
    """What was found on ``n`` disks with little room: how the training ended -> how often; None where none can be mounted."""
    rng, found, page = np.random.default_rng(seed), Counter(), 4096
    with tempfile.TemporaryDirectory() as place:
        training = Training(MODELS[0], 0, Path(place))
        checkpoints, end = training.undisturbed()
    for _ in range(n):
        with small_disk(int(rng.integers(1, 64)) * page) as disk:
            if disk is None:
                return None
            training.folder, said, error = disk, "ended", None
            try:
                training.run()
            except errors.StorageError as came:
                error = str(came)
            if error is None:
                assert digest(scelbo.load(disk / "end")) == end, "it ended in other weights"
            else:
                assert "No space left on device. What was there is as it was." in error, error
                said = "could not be written " + ("during training" if "Training ended there" in error else "before training or after it")
            best, epochs = left(training, checkpoints)
            assert not unfinished_in(disk), "something unfinished is left"
            found[f"{said}, with {'a' if best else 'no'} checkpoint and {'a' if epochs else 'no'} state"] += 1
    return found


def main():
    n, seed = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    settings.progress = False
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    start = time.perf_counter()
    found, kills, rounds = faults(n, seed)
    say = sys.stdout.write
    for (kind, moved, unfinished), times in sorted(found.items()):
        say(f"{times:5,} x killed {kind}: {moved} moved on{', unfinished work beside it' if unfinished else ''}\n")
    say(f"{kills} kills of {rounds} trainings in {time.perf_counter() - start:.0f} s: every checkpoint whole, every end the same weights\n")
    found = full_disks(max(1, n // 5), seed)
    if found is None:
        say("not tried on a full disk: this user may mount none\n")
    for what, times in sorted((found or {}).items()):
        say(f"{times:5,} x small disk: {what}\n")


if __name__ == "__main__":
    main()
