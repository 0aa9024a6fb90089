#!/usr/bin/env bash
# Does a model as small as the story model learn from people's preferences? Its architecture and base, trained by HyperDPO on
# human scores of short answers (three objectives) and on HH-RLHF (two files, one objective each). About twenty minutes of one core.
#
#   SCORED="sfres_ratings.jsonl.xz sfhot_ratings.jsonl.xz" HARMLESS=harmless.jsonl.gz HELPFUL=helpful.jsonl.gz \
#       bash recipes/preferences.sh [WORK]
set -euo pipefail
work=${1:-runs/preferences}
hyperdpo=${HYPERDPO:-.venv/bin/hyperdpo}
common=(--model checkpoints/stories/base --device cpu --precision bf16 --seed 0 --epochs 3 --patience 2 --batch-size 8
    --conditioning prompt --learning-rate 0.0008 --rate 25 --map-rate 25 --alpha 0.5 --draw list)
"$hyperdpo" train text "${common[@]}" --data $SCORED --max-prompt 96 --max-response 64 --resume --out "$work/scored"
"$hyperdpo" evaluate "$work/scored" --points 6
"$hyperdpo" train text "${common[@]}" --data "harmless=$HARMLESS" "helpful=$HELPFUL" --limit 1600 --max-prompt 96 \
    --max-response 96 --resume --out "$work/hh"
# the test part of the whole files: more prompts than that of the 1,600, and none that was trained on
"$hyperdpo" evaluate "$work/hh" --points 5 --data "harmless=$HARMLESS" "helpful=$HELPFUL"
