"""Trains both text encoders to tell what scene a caption describes; afterwards they are frozen.

T5's states are read by one query for each question, as the transformer's image tokens will read them; CLIP's pooled vector by one linear
layer. The left or upper thing comes first whatever the order of the words, so both learn who stands where.

    python3 train_text.py [steps]
"""
import random
import sys

import torch
import torch.nn.functional as F
from torch import nn

import world
from common import Log, cosine, save, start
from make_tokenizers import ClipTokenizer, T5Tokenizer
from text import D, Clip, T5, clip_batch

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 1200
BATCH = 128
NONE = None
QUESTIONS = {
    'relation': [NONE, *world.RELATIONS],
    'position': [NONE, *world.POSITIONS],
    'direction': [NONE, 'down', 'right'],
    'first background': [NONE, *world.BACKGROUNDS],
    'last background': [NONE, *world.BACKGROUNDS],
    **{f'{part} {i}': [NONE, *values] for i in range(2) for part, values in
       (('shape', world.SHAPES), ('color', world.COLORS), ('size', world.SIZES))},
}


def answers(scene):
    told = scene.background if scene.told_background else (NONE,)
    found = {
        'relation': scene.relation, 'position': scene.position, 'direction': scene.direction if scene.told_background else NONE,
        'first background': told[0], 'last background': told[-1],
    }
    for i in range(2):
        thing = scene.things[i] if i < len(scene.things) else None
        found |= {f'shape {i}': thing and thing.shape, f'color {i}': thing and thing.color, f'size {i}': thing and thing.size if thing and scene.told_sizes[i] else NONE}
    return [values.index(found[question]) for question, values in QUESTIONS.items()]


class Reader(nn.Module):
    """Answers from T5's states [b, n, D]."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), D) * D ** -0.5)
        self.key, self.value = nn.Linear(D, D, bias=False), nn.Linear(D, D, bias=False)
        self.heads = nn.ModuleList(nn.Linear(D, len(values)) for values in QUESTIONS.values())

    def forward(self, states):
        weights = (self.queries @ self.key(states).transpose(1, 2)).softmax(-1)  # [b, questions, n]
        found = weights @ self.value(states)
        return [head(found[:, i]) for i, head in enumerate(self.heads)]


def batch(rng, count, held=False):
    scenes = [world.random_scene(rng, held) for _ in range(count)]
    return [world.caption(rng, scene) for scene in scenes], torch.tensor([answers(scene) for scene in scenes])


def main():
    start(2)
    rng = random.Random('text')
    t5_tokens, clip_tokens = T5Tokenizer(), ClipTokenizer()
    t5, clip, reader = T5(t5_tokens.size), Clip(clip_tokens.size), Reader()
    heads = nn.ModuleList(nn.Linear(D, len(values)) for values in QUESTIONS.values())
    parameters = [p for module in (t5, clip, reader, heads) for p in module.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.01)
    log = Log('text')

    def predict(texts, length):
        states = t5(torch.tensor([t5_tokens(text, length) for text in texts]))
        pooled = clip(*clip_batch(clip_tokens, texts))
        return reader(states), [head(pooled) for head in heads]

    for step in range(STEPS):
        for group in optimizer.param_groups:
            group['lr'] = 2e-3 * cosine(step, STEPS)
        texts, truth = batch(rng, BATCH)
        length = 32 if rng.random() < 0.7 else rng.randrange(32, 68, 4)
        with torch.autocast('cpu', torch.bfloat16):
            by_t5, by_clip = predict(texts, length)
        losses = [sum(F.cross_entropy(guess.float(), truth[:, i]) for i, guess in enumerate(guesses)) for guesses in (by_t5, by_clip)]
        optimizer.zero_grad(set_to_none=True)
        sum(losses).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99:
            log(step=step + 1, t5=losses[0].item(), clip=losses[1].item())
        if step % 500 == 499 or step == STEPS - 1:
            save('text.pt', {'t5': t5.state_dict(), 'clip': clip.state_dict()})
            with torch.no_grad():
                texts, truth = batch(random.Random('held text'), 512, held=True)
                for name, guesses in zip(('t5', 'clip'), predict(texts, 32)):
                    right = torch.stack([guess.argmax(-1) == truth[:, i] for i, guess in enumerate(guesses)])
                    log(held=name, all=right.all(0).float().mean().item(), **{q: round(r, 3) for q, r in zip(QUESTIONS, right.float().mean(1).tolist()) if r < 0.995})


main()
