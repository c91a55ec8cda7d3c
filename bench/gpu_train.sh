#!/usr/bin/env bash
# Trains the full networks on a rented GPU: bench/gpu_train.sh CORPUS DATA RUNS MINUTES
# Encodes the packed CORPUS (bench/corpus.sh) into DATA on all cores, what is missing there, without mild levels but with
# text in a fifth of the frames, and trains three networks into RUNS (bench/by_clock.py), so that all is over in MINUTES:
#   car-cnn-mse   log MSE, from the shipped weights
#   car-cnn       (0.79 SSIM + 0.21 MSE), from the mean of that and the shipped car-cnn
#   car-cnn-ssim  SSIM, from that one
# CARFIX_TRAIN adds options, e.g. "--device cpu --no-compile --batch 4".
set -euo pipefail
corpus=$1 data=$2 runs=$3 minutes=$4
here=$(cd "$(dirname "$0")" && pwd)
weights=$here/../weights
deadline=$((SECONDS + minutes * 60))
(
  export OMP_NUM_THREADS=1
  if [ -d "$corpus/clips" ]; then
    carfix dataset "$corpus/clips" "$data" --draw 12
    carfix dataset "$corpus/clips" "$data" --no-grid --draw 6 --burn-in
  fi
  if [ -d "$corpus/photos" ]; then
    carfix dataset "$corpus/photos" "$data" --stills --still-frames 9 --draw 6 --crf 26,35 --maxrate none
    carfix dataset "$corpus/photos" "$data" --stills --still-frames 9 --no-grid --draw 2 --burn-in
  fi
)
left=$((deadline - SECONDS))
# shellcheck disable=SC2086 # options, not one word
python3 "$here/by_clock.py" "$data" "$runs" --minutes "$(awk "BEGIN {print $left / 60}")" --seed 121 ${CARFIX_TRAIN:-} \
  "car-cnn-mse:psnr:0.52:6e-4:$weights/car-cnn-mse.safetensors" \
  "car-cnn:both:0.36:4e-4:$runs/car-cnn-mse/car-cnn-mse.safetensors+$weights/car-cnn.safetensors" \
  "car-cnn-ssim:ssim:0.12:2e-4:$runs/car-cnn/car-cnn.safetensors"
