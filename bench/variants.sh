#!/usr/bin/env bash
# Encodes a packed corpus into the variants that the shipped weights are trained on: bench/variants.sh CORPUS DATA
# The paper's grid, nine mild levels without a cap (four for the photographs), and draws from many encoders; the
# photographs come as short moving clips. All cores are used.
set -euo pipefail
export OMP_NUM_THREADS=1
carfix dataset "$1/clips" "$2" --draw 12
carfix dataset "$1/clips" "$2" --draw 12 --crf 8,11,13,15,17,19,21,23,25 --maxrate none
carfix dataset "$1/photos" "$2" --stills --still-frames 9 --draw 6 --crf 10,13,17,22 --maxrate none
