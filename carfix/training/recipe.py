"""What a dataset is to be built of, and what a run of the building did."""

import dataclasses
from collections.abc import Sequence

from carfix.training.encoding import Encoding
from carfix.training.sources import Size
from carfix.video.manifest import Split


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How clips become variants."""

    encodings: Sequence[Encoding]
    drawn: int = 0  # further encodings a clip, drawn at random from all codecs and presets
    size: Size | None = None  # of the pristine clip, before encoding; None keeps the source's
    start: int = 0  # first frame taken
    frames: int = 100  # at most
    still_frames: int = 12  # length of a clip made from a photograph
    stills: bool = False  # pictures in folders are photographs, not consecutive frames
    scale_caps: bool = True
    licence: str = ""
    split: Split | None = None  # None: by the clip's name
    burn_in: bool = False  # text and screens are written into the clips
    pack: int | None = None  # instead of variants: pack the sources, x264's CRF for clips


@dataclasses.dataclass(frozen=True)
class BuildReport:
    """What a run of `build_dataset` did."""

    built: list[str]
    kept: list[str]
    failed: dict[str, str]  # source to reason
    #: Clip to variants of it as it was before.
    dropped: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    interlaced: list[str] = dataclasses.field(default_factory=list)  # of those built
    #: Of those built: the decoder has concealed damage in some of their frames.
    damaged: list[str] = dataclasses.field(default_factory=list)
