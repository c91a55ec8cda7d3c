#!/usr/bin/env bash
# Trains the full networks on a rented GPU, some minutes at a time: bench/gpu_train.sh CORPUS DATA RUNS MINUTES [STEPS]
# The first call encodes the packed CORPUS (bench/corpus.sh) into DATA on all cores; each call goes on where the one
# before stopped, from checkpoints in RUNS (files of at most 10 MB), through three trainings:
#   car-cnn-mse   log MSE, from the shipped weights
#   car-cnn-ssim  and
#   car-cnn       (0.79 SSIM + 0.21 MSE), both fine-tuned from it
# STEPS (60000) is the length of the first; CARFIX_TRAIN adds options to all, e.g. "--device cpu --no-compile --batch 4".
set -euo pipefail
corpus=$1 data=$2 runs=$3 minutes=$4 steps=${5:-60000}
here=$(cd "$(dirname "$0")" && pwd)
weights=$here/../weights
deadline=$((SECONDS + minutes * 60))
[ -f "$data/.complete" ] || { "$here/variants.sh" "$corpus" "$data" && touch "$data/.complete"; }

train() { # name loss steps lr more...
  local name=$1 loss=$2 length=$3 lr=$4
  shift 4
  [ ! -f "$runs/$name/finished" ] || return 0
  local left=$((deadline - SECONDS))
  [ "$left" -gt 20 ] || { echo "the time is up before $name"; exit 0; }
  # shellcheck disable=SC2086 # options, not one word
  carfix train "$data" --arch car-cnn --name "$name" -o "$runs/$name" --loss "$loss" --steps "$length" --lr "$lr" \
    --batch 128 --compile --validate-every 1000 --minutes "$(awk "BEGIN {print $left / 60}")" "$@" ${CARFIX_TRAIN:-} |&
    tee "$runs/$name.out"
  grep -q "^finished" "$runs/$name.out" || { echo "call again to go on with $name"; exit 0; }
  touch "$runs/$name/finished"
}

mkdir -p "$runs"
start=()
[ ! -f "$weights/car-cnn-mse.safetensors" ] || start=(--init "$weights/car-cnn-mse.safetensors")
train car-cnn-mse psnr "$steps" 4e-4 "${start[@]}"
from=(--init "$runs/car-cnn-mse/car-cnn-mse.safetensors")
train car-cnn-ssim ssim $((steps / 6)) 1e-4 "${from[@]}"
train car-cnn both $((steps / 6)) 1e-4 "${from[@]}"
