"""Trains the outline ControlNet on top of the shipped transformer, whose weights do not change.

    python3 train_outline.py [seconds] [--resume]

The velocity is the data's, at guidance 1 to 3: the ControlNet also undoes what guidance would add, since caption and outline leave nothing open but shades.
"""
import random
import sys

import numpy as np
import torch

import world
from common import Average, Log, cosine, save, start, work
from flux import pack
from outline import OutlineControl, controlled, example
from shipped import shipped

SCENES = 20_000
SIZES = [((4, 4), 0.1), ((6, 6), 0.25), ((8, 8), 0.45), ((6, 8), 0.1), ((8, 6), 0.1)]
TOKENS = 2048  # of a batch


def scene_of(i, rows, columns):
    """Scene number i in a picture of this size: captions are embedded before, so they must not depend on the size."""
    return example(random.Random(f'outline {i} {rows} {columns}'), 16 * columns, 16 * rows)


def main():
    resumed = '--resume' in sys.argv
    seconds = float(([argument for argument in sys.argv[1:] if argument != '--resume'] + ['3600'])[0])
    start(20 + resumed)
    rng = random.Random('outline')
    sizes, shares = zip(*SIZES)
    # each scene has one size: places depend on it
    size_of = rng.choices(sizes, shares, k=SCENES)
    texts = [world.caption(random.Random(f'caption {i}'), scene_of(i, *size_of[i])[0]) for i in range(SCENES)]
    net, basis, all_txt, all_vec = shipped(texts)
    by_size = {size: [i for i in range(SCENES) if size_of[i] == size] for size in sizes}
    control = OutlineControl()
    control.begin(net)
    if resumed:
        control.load_state_dict(torch.load(work('outline.pt')))
        rng.random()  # other batches than before
    slow = [p for name, p in control.named_parameters() if not name.startswith(('input_hint_block', 'pos_embed_input', 'controlnet_blocks'))]
    fast = [p for name, p in control.named_parameters() if name.startswith(('input_hint_block', 'pos_embed_input', 'controlnet_blocks'))]
    optimizer = torch.optim.AdamW([{'params': slow, 'top': 4e-4}, {'params': fast, 'top': 2e-3}], betas=(0.9, 0.98), weight_decay=0.0)
    average, log, step, seen, recent, share = Average(control, 0.998), Log('outline'), 0, 0, [], 0.0
    while share < 1:
        share = log.seconds / seconds
        for group in optimizer.param_groups:
            group['lr'] = group['top'] * min(1, (step + 1) / 50) * cosine(int(share * 10000), 10000, warm=1)
        rows, columns = rng.choices(sizes, shares)[0]
        chosen = rng.choices(by_size[rows, columns], k=TOKENS // (rows * columns + 32))
        made = [scene_of(i, rows, columns) for i in chosen]
        x = pack(basis.encode(np.stack([picture for _, picture, _, _ in made])))
        lines = torch.from_numpy(np.stack([line for _, _, line, _ in made])).float() * 2 - 1
        txt, vec = (torch.from_numpy(part[chosen]) for part in (all_txt, all_vec))
        t = torch.sigmoid(torch.randn(len(x)) * 1.2 + 0.6)
        noise, guidance = torch.randn_like(x), torch.empty(len(x)).uniform_(1, 3)
        noisy = x + t[:, None, None] * (noise - x)
        residual = control(noisy, lines[:, None].expand(-1, 3, -1, -1), txt, vec, t, guidance, rows, columns)
        velocity = controlled(net, residual, noisy, txt, vec, t, guidance, rows, columns)
        loss = (velocity - (noise - x)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        if not loss.isfinite():
            raise SystemExit(f'step {step}: the loss is no number')
        loss.backward()
        torch.nn.utils.clip_grad_norm_(control.parameters(), 1.0)
        optimizer.step()
        average.update(control)
        step, seen = step + 1, seen + len(x)
        recent.append(loss.item())
        if step % 50 == 0:
            log(step=step, seen=seen, loss=float(np.mean(recent)))
            recent = []
        if step % 250 == 0:
            save('outline.pt', {**control.state_dict(), **average.values})
    save('outline.pt', {**control.state_dict(), **average.values})
    log(step=step, seen=seen, done=True)


main()
