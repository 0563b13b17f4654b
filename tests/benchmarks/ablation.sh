#!/bin/sh
# What each part of the method brings, on the sample boards: one config, one part taken out or put in at a time,
# beside the baselines. Stopped, it goes on where it was. From the top of the repository:
#
#     tests/benchmarks/ablation.sh [CONFIG] [DATA] [SEEDS] [FOLDER]
#
# 11 entrants x 3 seeds of ablation.yaml are about half an hour of one CPU core, of the demo config about two hours on
# two; the report is FOLDER/compare.html.
set -eu
config=${1:-tests/benchmarks/ablation.yaml} data=${2:-datasets/pcb} seeds=${3:-3} folder=${4:-runs/ablation}
exec "${ANOGAN:-.venv/bin/anogan}" compare "$config" --data "$data" --seeds "$seeds" --baselines --report "$folder" \
  --variant 'no adversarial term:gan.adversarial_weight=0' \
  --variant 'no search:search.steps=0' \
  --variant 'no head:head.enabled=false' \
  --variant 'no head, no search:head.enabled=false,search.steps=0' \
  --variant 'no head, no encoder:head.enabled=false,encoder.mode=none,search.steps=200' \
  --variant 'head learns from pixels alone:head.image_weight=0' \
  --variant 'encoder learns no repair:encoder.remove_defects=false' \
  --variant 'no layers of D:score.discrimination_weight=0' \
  --variant 'layers of D count fully:score.discrimination_weight=1' \
  --variant 'picked score settings:score.select=true'
