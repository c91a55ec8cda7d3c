"""One training in several processes, as torchrun starts them: a device each, and steps that they take together."""

import os

import torch
from torch import nn

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
        torch.distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")


def share_weights(net: nn.Module) -> None:
    """Give every process the weights of the first."""
    for parameter in net.parameters():
        torch.distributed.broadcast(parameter.data, 0)


def average_gradients(net: nn.Module) -> None:
    """Replace the gradients of `net` by their mean over the processes, in one exchange.

    (Not DistributedDataParallel: it hides the exchange behind the backward pass, which for a million weights saves
    nothing, and never lets go of the process group. Its threads then outlive the interpreter, and one that still
    holds a tensor of Python's ends the process with SIGABRT when all work is done.)
    """
    gradients = [parameter.grad for parameter in net.parameters() if parameter.grad is not None]
    mean = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(mean)
    mean /= torch.distributed.get_world_size()
    parts = torch.split(mean, [gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def any_process(late: bool, place: torch.device) -> bool:
    """True on every process if `late` is on any: all must leave the loop at the same step."""
    flag = torch.tensor(float(late), device=place)
    torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
    return bool(flag.item())
