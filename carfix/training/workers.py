"""Processes that decode and encode beside each other: Python's threads would wait for one another between frames."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import torch


@contextlib.contextmanager
def workers(jobs: int) -> Iterator[Callable[..., Future[Any]]]:
    """A `submit`: to a pool of processes, or to a thread of this one if only one job runs at a time."""
    if jobs == 1:
        with ThreadPoolExecutor(1) as pool:
            yield pool.submit
        return
    context = get_context("spawn")  # torch and FFmpeg hold threads that a fork would break
    with ProcessPoolExecutor(
        jobs, mp_context=context, initializer=torch.set_num_threads, initargs=(1,)
    ) as processes:
        yield processes.submit
