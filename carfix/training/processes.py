"""One training in several processes, as torchrun starts them: a device each, and steps that they take together."""

import importlib
import os

import torch

from carfix.training.settings import pick_device


def rank_and_world() -> tuple[int, int]:
    """This process's number, and how many there are: (0, 1) where torchrun started none."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def place_of_process(device: str) -> torch.device:
    """The device called `device`; with `auto` each of several processes takes a GPU of its own."""
    local = os.environ.get("LOCAL_RANK")
    if local is not None and device == "auto" and torch.cuda.is_available():
        return torch.device("cuda", int(local))
    return pick_device(device)


def join_processes(place: torch.device, world: int) -> None:
    """Join the `world` processes that torchrun started; one alone has nobody to join."""
    if world > 1:
        if place.type == "cuda":
            torch.cuda.set_device(place)
        # Imported later (Adam does), it takes the group of that moment for a default and never lets go of it. The
        # group's threads then outlive Python, and one that still holds a tensor ends the process with SIGABRT.
        importlib.import_module("torch.distributed.nn.functional")
        torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")


def leave_processes(world: int) -> None:
    """Leave the group: when nothing refers to it any more (a network wrapped for it does), its threads end."""
    if world > 1:
        torch.distributed.destroy_process_group()


def any_process(late: bool, place: torch.device) -> bool:
    """True on every process if `late` is on any: all must leave the loop at the same step."""
    flag = torch.tensor(float(late), device=place)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
