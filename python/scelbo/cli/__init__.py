"""``scelbo``: models as commands, for pipelines. What a command takes follows from the model (``options.py``)."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

import torch

import scelbo
from scelbo import settings
from scelbo.cli.commands import COMMANDS, INTERRUPTED
from scelbo.cli.options import Parser
from scelbo.errors import ArgumentError, ScelboError, one_of, unknown

CODES = {"argument": 2, "setup": 3, "data": 4, "training": 5, "storage": 6, "backend": 7}
"""Kind of error -> exit status. 1 is an error of this program, 130 an interrupt (the model trained so far is saved)."""
LOGS = ("bar", "json", "none")


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    common = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    common.add_argument("--log", default="bar")
    common.add_argument("--threads", type=int)
    log = "bar"
    before = settings.progress, settings.on_event, warnings.showwarning
    try:
        try:
            own, rest = common.parse_known_args(sys.argv[1:] if words is None else list(words))
        except SystemExit:
            raise ArgumentError("--log and --threads need a value.", "--log bar, json or none; --threads 4.") from None
        log = own.log
        _listen(log, _speaks(rest))
        if own.threads:
            torch.set_num_threads(own.threads)
        return _command(rest)
    except ScelboError as error:
        _fail(error, log)
        return CODES.get(error.kind, 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    except SystemExit as end:  # of --help
        return int(end.code or 0)
    finally:
        settings.progress, settings.on_event, warnings.showwarning = before


def _command(words: list[str]) -> int:
    parser = Parser("scelbo", scelbo.__doc__, "COMMAND ... [--log {bar,json,none}] [--threads N]")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "commands:\n" + "\n".join(f"  {name:<11} {run.__doc__}" for name, run in COMMANDS.items())
    parser.add_argument("--version", action="version", version=scelbo.__version__)
    if not words or words[0].startswith("-"):
        parser.parse_args(words)
        parser.error("no command is given")
    if words[0] not in COMMANDS:
        raise ArgumentError(unknown("command", words[0], COMMANDS))
    return COMMANDS[words[0]](words[1:])


# ---------------------------------------------------------------------- what is said
def _speaks(words: list[str]) -> bool:
    """Of several processes the first, as torchrun, Lightning or SLURM count them; tasks of SLURM may each train a model of their own."""
    together = any(word.startswith(("--devices", "--num-nodes")) for word in words)
    ranks = ("RANK", "LOCAL_RANK", "NODE_RANK", *(["SLURM_PROCID"] if together else []))
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def _listen(log: str, speaks: bool) -> None:
    """A bar where somebody looks, events as lines of JSON, or nothing."""
    one_of("--log", log, LOGS)
    settings.progress, settings.on_event = log == "bar" and speaks and sys.stderr.isatty(), None
    if log == "json":
        say = _line if speaks else lambda event: None
        settings.on_event = say
        warnings.showwarning = lambda message, *about, **more: say({"event": "warning", "text": str(message)})


def _line(event: dict[str, Any]) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    settings.write(json.dumps({"time": now, **event}, default=float), error=True)


def _fail(error: ScelboError, log: str) -> None:
    if log == "json":
        _line({"event": "error", "kind": error.kind, "text": error.args[0], "hint": error.hint, "problems": list(error.problems)})
    else:
        settings.write(f"scelbo: {error}", error=True)
