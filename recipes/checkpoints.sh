#!/usr/bin/env bash
# Trains the run folders that ship in checkpoints/. Run from the repository root; takes about ten minutes on two cores.
#   recipes/checkpoints.sh                 checkpoints/marketplace, on the demo data
#   recipes/checkpoints.sh MSLR_FOLDER     and checkpoints/mslr-sample, on mslr_{train,vali,test}.txt.xz in that folder
set -euo pipefail
hyperdpo=${HYPERDPO:-.venv/bin/hyperdpo}
export OMP_NUM_THREADS=1  # seconds are then comparable, and small networks gain little from more threads

ship() { # NAME: train HyperDPO and its DPO-LS baseline on data/NAME; the baseline's fronts stay, its weights do not ship
  "$hyperdpo" train rank --data "data/$1" --seed 0 --device cpu --overwrite --out "checkpoints/$1"
  "$hyperdpo" train rank --data "data/$1" --seed 0 --device cpu --overwrite --method dpo-ls \
    --base "run:checkpoints/$1" --out "runs/$1-dpo-ls"
  "$hyperdpo" evaluate "checkpoints/$1" --data "data/$1" --baseline "runs/$1-dpo-ls" --save
  rm -f "checkpoints/$1/train.log"
}

[ -d data/marketplace ] || "$hyperdpo" data demo --out data/marketplace
ship marketplace
if [ $# -gt 0 ]; then
  [ -d data/mslr-sample ] || "$hyperdpo" data convert "$1"/mslr_{train,vali,test}.txt.xz --preset mslr --out data/mslr-sample
  ship mslr-sample
fi
