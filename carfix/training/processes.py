"""One training in several processes, as torchrun starts them: a device each, and steps that they take together."""

import os

import torch

from carfix.training.settings import pick_device


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
        torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")


def any_process(late: bool, place: torch.device) -> bool:
    """True on every process if `late` is on any: all must leave the loop at the same step."""
    flag = torch.tensor(float(late), device=place)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
