"""Ctrl-C that keeps what was trained, and that leaves the host's (R's, Jupyter's) signal handling as it was."""

from __future__ import annotations

import ctypes
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_get_c_handler = ctypes.pythonapi.PyOS_getsig
_get_c_handler.restype, _get_c_handler.argtypes = ctypes.c_void_p, [ctypes.c_int]
_set_c_handler = ctypes.pythonapi.PyOS_setsig
_set_c_handler.restype, _set_c_handler.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]


class Stop:
    """Whether the user asked to stop, and asked again."""

    requested = abandoned = False


@contextmanager
def graceful_interrupt() -> Iterator[Stop]:
    """First Ctrl-C: ``stop.requested`` is set and training ends at the next minibatch. Second: ``KeyboardInterrupt``.

    Both Python's and the C handler are put back: R installs its own in C, which Python cannot see.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def on_interrupt(number: int, frame: Any) -> None:
        if stop.requested:
            stop.abandoned = True
            raise KeyboardInterrupt
        stop.requested = True

    in_c, in_python = _get_c_handler(signal.SIGINT), signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    except SystemExit:  # Lightning ends the program at a KeyboardInterrupt: R's or Jupyter's session, with all that it holds
        if not stop.abandoned:
            raise
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGINT, in_python if in_python is not None else signal.SIG_DFL)
        _set_c_handler(signal.SIGINT, in_c)
