"""Openings for stories, written by the story model itself: the first sentence of texts it begins, without repeats.

python recipes/stories_openings.py --model DIR --count 1000 --out openings.txt [--seed 0]
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from hyperdpo.files import write_atomic
from hyperdpo.text.generate import Row, Sampling, generate
from hyperdpo.text.model import TextModel, load_backbone, load_tokenizer

ROWS, TOKENS = 64, 28
SENTENCE = re.compile(r'^[A-Z][^"\n.!?]*[.!?]')
WORDS = (5, 16)


def beginnings(model: TextModel, tokenizer: PreTrainedTokenizerBase, count: int, sampling: Sampling) -> list[str]:
    """`count` different first sentences, in the order they were drawn."""
    found: dict[str, None] = {}
    first, stream = (int(tokenizer.bos_token_id),), 0
    while len(found) < count:
        rows = [Row(first, None, stream=stream + i) for i in range(ROWS)]
        stream += ROWS
        *_, last = generate(model, tokenizer, rows, sampling)
        for answer in last:
            sentence = SENTENCE.match(answer.text.strip())
            if sentence and WORDS[0] <= len(sentence[0].split()) <= WORDS[1]:
                found[sentence[0]] = None
    return list(found)[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    model = TextModel(load_backbone(args.model), 1, conditioned=False).eval()
    sampling = Sampling(max_new_tokens=TOKENS, temperature=1.0, top_p=0.98, seed=args.seed)
    found = beginnings(model, load_tokenizer(args.model), args.count, sampling)
    write_atomic(args.out, "".join(f"{text}\n" for text in found))
    print(f"{len(found):,} openings in {args.out}")


if __name__ == "__main__":
    main()
