#!/bin/sh
# What options bring that no shipped config uses, each by itself, on the sample boards as in ablation.sh. Stopped, it
# goes on where it was. From the top of the repository:
#
#     tests/benchmarks/options.sh [DATA] [SEEDS] [FOLDER]
#
# About half an hour of one CPU core with 3 seeds; the report is FOLDER/compare.html.
set -eu
data=${1:-datasets/pcb} seeds=${2:-3} folder=${3:-runs/options}
exec "${ANOGAN:-.venv/bin/anogan}" compare tests/benchmarks/ablation.yaml --data "$data" --seeds "$seeds" \
  --report "$folder" \
  --variant 'classic vector of 128 numbers:network.latent_grid=1,network.latent_dim=128' \
  --variant 'boards in four tiles:tiles.size=32' \
  --variant 'four tiles, their place known:tiles.size=32,network.condition=tile-position' \
  --variant 'boards laid on each other:images.registration=euclidean' \
  --variant 'trimmed residual:search.residual=trimmed' \
  --variant 'mask searched with z:search.mask=0.2' \
  --variant 'four starts:search.restarts=4' \
  --variant 'no prior on z:search.prior_weight=0' \
  --variant 'variance per pixel as measured:calibration.prior_images=0'
