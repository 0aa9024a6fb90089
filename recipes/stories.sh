#!/usr/bin/env bash
# Make checkpoints/stories again: the story model, openings, lists of continuations with real scores, HyperDPO over three
# objectives, and the fronts of a soup, of DPO-LS and of MO-DPO beside it. STORIES names JSON lines of stories; about three
# hours on two cores, half of them the model.
#
#   STORIES=tinystories.jsonl.xz bash recipes/stories.sh [WORK]
set -euo pipefail
work=${1:-runs/stories}
out=checkpoints/stories
mkdir -p "$work"
[ -f "$work/base/README.md" ] || python recipes/stories_base.py --stories $STORIES --out "$work/base" --epochs 4
[ -f "$work/openings.txt" ] || python recipes/stories_openings.py --model "$work/base" --count 1000 --out "$work/openings.txt"
[ -f "$work/raw.jsonl" ] || hyperdpo sample "$work/base" --prompts "$work/openings.txt" --n 4 --max-new-tokens 48 \
    --temperature 1.0 --top-p 0.95 --out "$work/raw.jsonl"
[ -f "$work/lists.jsonl.xz" ] || hyperdpo label "$work/raw.jsonl" --scorers upbeat,concise,talkative,vivid \
    --out "$work/lists.jsonl.xz"
common=(--model "$work/base" --data "$work/lists.jsonl.xz" --resume --max-prompt 40 --max-response 64 --end False
    --objective upbeat:softmax:0.5 --objective concise:softmax:0.5 --objective talkative:softmax:0.5
    --precision bf16 --epochs 2 --patience 2 --batch-size 2 --learning-rate 0.0015 --beta 0.08 --anchor 0.07)
# a list of four is too short to be split over three objectives: each of them sees all of it
hyperdpo train text "${common[@]}" --draw corners --distil 3 --out "$work/run"
for method in dpo-soup dpo-ls mo-dpo; do # what the dashboard draws beside it
    hyperdpo train text "${common[@]}" --method $method --out "$work/$method"
done
rm -rf "$out"
cp -r "$work/run" "$out"
rm -f "$out/train.log"
cp -r "$work/base" "$out/base"
chmod -R a+r "$out"
cp "$work/lists.jsonl.xz" "$work/openings.txt" "$out/"
cp recipes/stories_examples.txt "$out/examples.txt"
hyperdpo evaluate "$out" --baseline "$work/dpo-soup" "$work/dpo-ls" "$work/mo-dpo" --points 11 --save
