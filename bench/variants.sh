#!/usr/bin/env bash
# Encodes a packed corpus into the variants that the shipped weights are trained on: bench/variants.sh CORPUS DATA
# The paper's grid, three mild levels without a cap, and draws from many encoders for the clips; draws alone for the
# photographs, which come as short moving clips. All cores are used.
set -euo pipefail
export OMP_NUM_THREADS=1
carfix dataset "$1/clips" "$2" --draw 12
carfix dataset "$1/clips" "$2" --draw 12 --crf 17,21,25 --maxrate none
carfix dataset "$1/photos" "$2" --stills --still-frames 9 --no-grid --draw 6
