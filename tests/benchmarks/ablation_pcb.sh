#!/bin/sh
# What the AnoGAN's parts bring on real boards: pcb-edge, one part taken out or put in at a time. A generator of one
# step knows nothing of boards, so its head has the picture alone to go by. Stopped, it goes on where it was. From the
# top of the repository:
#
#     tests/benchmarks/ablation_pcb.sh DATA [SEEDS] [FOLDER]
#
# Four entrants take about 45 minutes of one CPU core for each seed; the report is FOLDER/compare.html.
set -eu
data=$1 seeds=${2:-1} folder=${3:-runs/ablation-pcb}
exec "${ANOGAN:-.venv/bin/anogan}" compare configs/pcb-edge.yaml --data "$data" --seeds "$seeds" --report "$folder" \
  --variant 'no head:head.enabled=false,memory.patches=0,score.residual_weight=1,score.head_weight=0' \
  --variant 'generator of one step:gan.steps=1' \
  --variant 'no adversarial term:gan.adversarial_weight=0'
