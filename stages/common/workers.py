"""Threads that share a computation, each on a core of its own."""

import ctypes
import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from stages.common.console import StageError

WORKERS_SETTING = "FASHION_MNIST_WORKERS"


def map_in_order(function: Callable, *arguments: Iterable) -> list[Any]:
    """Call a function for each part of a computation; return the results in the parts' order.

    As many parts at once as there are cores, each in one thread, whose own operations torch doesn't
    split any further: so no result depends on the number of cores.
    """
    return list(_pool().map(function, *arguments))


@functools.cache
def _pool() -> ThreadPoolExecutor:
    _keep_freed_memory()
    return ThreadPoolExecutor(
        count_workers(), initializer=torch.set_flush_denormal, initargs=(True,)
    )


def count_workers() -> int:
    """Return the number of cores that this process may use, or what the user has set instead.

    Raises
    ------
    StageError
        If that is no number above zero.
    """
    wanted = os.environ.get(WORKERS_SETTING)
    if not wanted:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    if not wanted.isdecimal() or not int(wanted):
        raise StageError(f"{WORKERS_SETTING}={wanted}: should be a number of cores, such as 1")
    return int(wanted)


def _keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks, which every step needs again.

    By default it hands them back to the kernel and pays with page faults at the next step. Each
    thread has a heap of its own: in one for all, they would wait for each other.
    """
    m_trim_threshold, m_mmap_threshold = -1, -3  # from glibc's malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(m_mmap_threshold, 2**25)  # the most that glibc takes
    mallopt(m_trim_threshold, 2**31 - 1)
