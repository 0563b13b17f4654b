#!/bin/sh
# The ways to a code, without a head: an encoder trained with the GAN (joint) and those of f-AnoGAN trained after it
# (ziz, izi, izi_f; Schlegl et al. 2019), each alone (one pass) and as the start of a search, and AnoGAN's search from
# a fixed code (Schlegl et al. 2017). A generator without a joint encoder learns at the rate and weight of Radford
# 2015, three times as long as with one. Stopped, it goes on where it was. From the top of the repository:
#
#     tests/benchmarks/encoder_modes.sh [DATA] [SEEDS] [FOLDER]
#
# About ten minutes of one CPU core for each seed; the report is FOLDER/compare.html.
set -eu
data=${1:-datasets/pcb} seeds=${2:-3} folder=${3:-runs/encoder-modes}
alone=gan.adversarial_weight=1,gan.generator_learning_rate=2e-4,gan.steps=1200
exec "${ANOGAN:-.venv/bin/anogan}" compare tests/benchmarks/ablation.yaml --data "$data" --seeds "$seeds" \
  --report "$folder" --set head.enabled=false --set encoder.remove_defects=false --set encoder.steps=1200 \
  --variant 'joint, one pass:search.steps=0' \
  --variant "ziz, one pass:encoder.mode=ziz,search.steps=0,$alone" \
  --variant "ziz, 20 steps:encoder.mode=ziz,search.steps=20,$alone" \
  --variant "izi, one pass:encoder.mode=izi,search.steps=0,$alone" \
  --variant "izi, 20 steps:encoder.mode=izi,search.steps=20,$alone" \
  --variant "izi_f, one pass:encoder.mode=izi_f,search.steps=0,$alone" \
  --variant "izi_f, 20 steps:encoder.mode=izi_f,search.steps=20,$alone" \
  --variant "no encoder, 200 steps:encoder.mode=none,search.steps=200,$alone"
