#!/usr/bin/env bash
# Trains the full networks on a rented GPU, some minutes at a time: bench/gpu_train.sh CORPUS DATA RUNS MINUTES [STEPS]
# The first call encodes the packed CORPUS (bench/corpus.sh) into DATA on all cores, without mild levels but with text
# in a fifth of the frames; each call goes on where the one before stopped, from checkpoints in RUNS, through three trainings:
#   car-cnn-mse   log MSE, from the shipped weights
#   car-cnn       (0.79 SSIM + 0.21 MSE), from the mean of that and the shipped car-cnn
#   car-cnn-ssim  SSIM, from that one
# STEPS is the length of the first; an H200 does 43 a second, and needs a minute and a half to load the data and compile the
# network. CARFIX_TRAIN adds options to all, e.g. "--device cpu --no-compile --batch 4".
set -euo pipefail
corpus=$1 data=$2 runs=$3 minutes=$4 steps=${5:-20000}
here=$(cd "$(dirname "$0")" && pwd)
weights=$here/../weights
deadline=$((SECONDS + minutes * 60))
if [ ! -f "$data/.complete" ]; then
  export OMP_NUM_THREADS=1
  carfix dataset "$corpus/clips" "$data" --draw 12
  carfix dataset "$corpus/photos" "$data" --stills --still-frames 9 --draw 6 --crf 26,35 --maxrate none
  # A fifth of all frames has text in it.
  carfix dataset "$corpus/clips" "$data" --no-grid --draw 6 --burn-in
  carfix dataset "$corpus/photos" "$data" --stills --still-frames 9 --no-grid --draw 2 --burn-in
  touch "$data/.complete"
fi

train() { # name loss steps lr seed init
  [ ! -f "$runs/$1/finished" ] || return 0
  local left=$((deadline - SECONDS))
  [ "$left" -gt 20 ] || { echo "the time is up before $1"; exit 0; }
  # shellcheck disable=SC2086 # options, not one word
  carfix train "$data" --arch car-cnn --name "$1" -o "$runs/$1" --loss "$2" --steps "$3" --lr "$4" --seed "$5" \
    --init "$6" --batch 48 --patch 128 --warmup 100 --compile --validate-every 400 \
    --licence Apache-2.0 --minutes "$(awk "BEGIN {print $left / 60}")" ${CARFIX_TRAIN:-} |& tee "$runs/$1.out"
  grep -q "^finished" "$runs/$1.out" || { echo "call again to go on with $1"; exit 0; }
  touch "$runs/$1/finished"
}

mkdir -p "$runs"
train car-cnn-mse psnr "$steps" 6e-4 121 "$weights/car-cnn-mse.safetensors"
[ -f "$runs/mean.safetensors" ] || python3 "$here/mix.py" "$runs/car-cnn-mse/car-cnn-mse.safetensors" \
  "$weights/car-cnn.safetensors" 0.5 "$runs/mean.safetensors"
train car-cnn both "$steps" 4e-4 122 "$runs/mean.safetensors"
train car-cnn-ssim ssim $((steps / 4)) 2e-4 123 "$runs/car-cnn/car-cnn.safetensors"
