#!/usr/bin/env bash
# Encodes a packed corpus into the variants that the shipped weights are trained on: bench/variants.sh CORPUS DATA
# The paper's grid, seven mild levels without a cap (five for the photographs, too), and draws from many encoders; the
# photographs come as short moving clips. All cores are used. (Weights up to 0.1.0 had 17, 21 and 25 alone, and of the clips.)
set -euo pipefail
export OMP_NUM_THREADS=1
carfix dataset "$1/clips" "$2" --draw 12
carfix dataset "$1/clips" "$2" --draw 12 --crf 13,15,17,19,21,23,25 --maxrate none
carfix dataset "$1/photos" "$2" --stills --still-frames 9 --draw 6 --crf 13,15,17,20,23 --maxrate none
