"""Harmed weights of every kind: they load to the very same network, or are refused in one line."""

import json
import os
import random
import struct
from pathlib import Path

import pytest
import torch
from faults import mutated
from networks import awake_model, describe, save_awake

from carfix.net.checkpoint import CheckpointError, load_checkpoint, read_description, save_checkpoint
from carfix.net.config import FastConfig

#: More in the nightly run: CARFIX_MUTANTS=1000.
MUTANTS = int(os.environ.get("CARFIX_MUTANTS", "200"))
#: Bytes of the header's length, which stand first in the file.
LENGTH = 8

TINY = FastConfig(scale=2, features=4, blocks=1)
PICTURE = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_awake(tmp_path_factory.mktemp("whole") / "whole.safetensors", TINY).read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "harmed.safetensors"


def refused(path: Path, data: bytes) -> bool:
    """Whether these weights are refused, by one line that names the file; else they must be the network's."""
    path.write_bytes(data)
    try:
        model = load_checkpoint(path)
    except CheckpointError as error:
        assert path.name in str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < len(str(path)) + 500
        return True
    assert torch.equal(model.net(PICTURE), awake_model(TINY).net(PICTURE))
    assert (model.description.config, model.description.name) == (TINY, "awake")
    return False


def described(path: Path) -> None:
    """The description alone is read from what may be harmed elsewhere: that, or a refusal."""
    try:
        assert read_description(path).name == "awake"
    except CheckpointError as error:
        assert path.name in str(error)


@pytest.mark.parametrize("part", ["file", "header"])
def test_mutants(part: str, path: Path, whole: bytes) -> None:
    """The header is a small part of a file, and has most of what can go wrong: half of the mutants are of it."""
    header = LENGTH + struct.unpack("<Q", whole[:LENGTH])[0]
    end = header if part == "header" else len(whole)
    loaded = 0
    for seed in range(MUTANTS // 2):
        loaded += not refused(path, mutated(whole[:end], seed) + whole[end:])
        described(path)
    assert loaded < MUTANTS // 20  # only those whose harm left the bytes as they were


def test_the_head_of_one_file_and_the_tail_of_another(path: Path, whole: bytes) -> None:
    other = awake_model(TINY, seed=1)
    save_checkpoint(path, other.net, describe(TINY, "other"))
    tail = path.read_bytes()
    chance = random.Random(0)
    for _ in range(MUTANTS // 4):
        cut, resume = chance.randrange(1, len(whole)), chance.randrange(len(tail))
        for spliced in (whole[:cut] + tail[cut:], whole[:cut] + tail[resume:]):
            assert spliced in (whole, tail) or refused(path, spliced)  # ends of the files may be alike


@pytest.mark.parametrize("length", [0, 1, 7, 10**8, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
def test_absurd_header_lengths(length: int, path: Path, whole: bytes) -> None:
    assert refused(path, struct.pack("<Q", length) + whole[LENGTH:])


@pytest.mark.parametrize("change", [-1, 1, -100, 8])
def test_header_lengths_that_are_a_little_wrong(change: int, path: Path, whole: bytes) -> None:
    length = struct.unpack("<Q", whole[:LENGTH])[0] + change
    assert refused(path, struct.pack("<Q", length) + whole[LENGTH:])


def packed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'"' + b"x" * 1000 + b'"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"__metadata__": 5}',
        b'{"__metadata__": {"carfix": {}}}',
        b"\xff\xfe{}",
        b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 4]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}}',
        b'{"w": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
    ],
    ids=lambda header: header[:24].decode(errors="replace"),
)
def test_absurd_headers(header: bytes, path: Path) -> None:
    assert refused(path, packed(header, bytes(4)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "7",
        '"' + "x" * 1000 + '"',
        "{}",
        "[" * 100_000,
        '{"format":' * 100_000,
        '{"format": 1e999}',
        '{"format": "line\\nline"}',
        '{"format": ' + "9" * 5000 + "}",
        '{"format": 1, "x' + "y" * 10_000 + '": 1}',
        '{"format": 1, "name": "\\ud800"}',
        " " * 2_000_000,
    ],
    ids=lambda text: text[:24],
)
def test_absurd_descriptions(text: str, path: Path) -> None:
    assert refused(path, packed(json.dumps({"__metadata__": {"carfix": text}}).encode()))


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": []},
        {"architecture": "x\n" * 1000},
        {"config": {"x\n" * 1000: 1}},
        {"config": {"negative_slope": 10**400}},
        {"config": {"scale": 1024, "features": 1024, "blocks": 1024}},
        {"config": {"scale": 0}},
        {"config": []},
        {"gains": {"psnr": "x" * 10_000}},
        {"gains": {"psnr": None}},
        {"steps": 1e999},
        {"sha256": "\ud800"},
    ],
    ids=lambda changes: str(changes)[:32],
)
def test_absurd_fields(changes: dict[str, object], path: Path, whole: bytes) -> None:
    """Each alone wrong in a description that is otherwise right and has no digest of its own."""
    length = struct.unpack("<Q", whole[:LENGTH])[0]
    header = json.loads(whole[LENGTH : LENGTH + length])
    fields = json.loads(header["__metadata__"]["carfix"])
    del fields["description_sha256"]
    header["__metadata__"]["carfix"] = json.dumps(fields | changes)
    assert refused(path, packed(json.dumps(header).encode(), whole[LENGTH + length :]))
