#!/bin/sh
# What each part of the method brings, on the sample boards: one config, one part taken out or put in at a time,
# beside the baselines. Without an encoder the generator learns at the rate and weight of Radford 2015, since the
# config's are for both together. A generator of one step knows no boards: its head has the picture alone to go by.
# Stopped, it goes on where it was. From the top of the repository:
#
#     tests/benchmarks/ablation.sh [CONFIG] [DATA] [SEEDS] [FOLDER]
#
# 16 entrants and 5 baselines with 3 seeds of ablation.yaml take about an hour of one CPU core, of the demo config about
# four; the report is FOLDER/compare.html.
set -eu
config=${1:-tests/benchmarks/ablation.yaml} data=${2:-datasets/pcb} seeds=${3:-3} folder=${4:-runs/ablation}
exec "${ANOGAN:-.venv/bin/anogan}" compare "$config" --data "$data" --seeds "$seeds" --baselines --report "$folder" \
  --variant 'no structure in the loss:encoder.structure_weight=0' \
  --variant 'no adversarial term:gan.adversarial_weight=0' \
  --variant 'generator of one step, head alone scores:gan.steps=1,score.residual_weight=0,score.discrimination_weight=0' \
  --variant 'no search:search.steps=0' \
  --variant 'four times the search:search.steps=20' \
  --variant 'no head:head.enabled=false' \
  --variant 'no head, no search:head.enabled=false,search.steps=0' \
  --variant 'no head, encoder learns no repair:head.enabled=false,encoder.remove_defects=false' \
  --variant 'no head, no encoder:head.enabled=false,encoder.mode=none,search.steps=200,gan.adversarial_weight=1,gan.generator_learning_rate=2e-4' \
  --variant 'head learns from pixels alone:head.image_weight=0' \
  --variant 'encoder learns no repair:encoder.remove_defects=false' \
  --variant 'head alone scores:score.residual_weight=0,score.discrimination_weight=0' \
  --variant 'no layers of D:score.discrimination_weight=0' \
  --variant 'layers of D count fully:score.discrimination_weight=1' \
  --variant 'picked score settings:score.select=true'
