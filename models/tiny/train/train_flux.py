"""Trains the transformer by flow matching on the latents, then distils classifier-free guidance into its guidance embedding.

    python3 train_flux.py [seconds of training] [seconds of distillation]

The velocity of x_t = (1 - t) x + t noise is noise - x. A tenth of the captions is left empty; while it is trained, the guidance it is
given is random and means nothing. Then a frozen copy teaches: for a random guidance g the student learns
uncaptioned + g (captioned - uncaptioned). With `--resume` it starts from `flux.pt`, and where only seconds of
distillation are given, that goes on with `guided.pt`.

Beside the velocity, one linear layer behind the double blocks has to tell which shape covers how much of a token; it is thrown away
afterwards. Without it, colours and places are learned long before outlines, which are a small part of the velocity.
"""
import copy
import os
import random
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import fast_flux
import world
from common import Average, Log, cosine, save, start, work
from flux import HIDDEN, Flux, pack
from latents import Basis
from make_tokenizers import ClipTokenizer, T5Tokenizer
from muon import Muon
from text import Clip, T5, clip_batch

TEXT = 32  # tokens of T5, mostly
TOKENS = 4608  # of a batch
# rows and columns of tokens; a fifth of all sizes is left out of training
HELD_SIZES = {(rows, columns) for rows in range(4, 17) for columns in range(4, 17) if (3 * rows + columns) % 5 == 0}
OTHERS = [(rows, columns) for rows in range(4, 17) for columns in range(4, 17) if (rows, columns) not in HELD_SIZES]
# share of the batches, and what their sizes are chosen from; an outline among many tokens is learned last
SHARES = [(0.2, [(8, 8)]), (0.12, [(4, 4)]), (0.33, [(16, 16)]), (0.15, [(rows, columns) for rows, columns in OTHERS if rows * columns >= 120]), (0.2, OTHERS)]
SHAPE_LOSS = 0.1
GUIDANCE = (1, 5)


class Captions:
    """Embeddings of captions by the frozen encoders."""

    def __init__(self):
        self.t5_tokens, self.clip_tokens = T5Tokenizer(), ClipTokenizer()
        state = torch.load(work('text.pt'))
        self.t5, self.clip = T5(self.t5_tokens.size), Clip(self.clip_tokens.size)
        self.t5.load_state_dict(state['t5'])
        self.clip.load_state_dict(state['clip'])

    def __call__(self, texts, length=TEXT):
        """txt [b, length, D], vec [b, D]"""
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            txt = self.t5(torch.tensor([self.t5_tokens(text, length) for text in texts]))
            vec = self.clip(*clip_batch(self.clip_tokens, texts))
        return txt.float(), vec.float()


class Data:
    """Pictures of the world, drawn as they are needed."""

    def __init__(self):
        self.basis = Basis()

    def batch(self, rng):
        """Latents as tokens, shares of every token that each shape covers, captions, rows, columns, text length; pictures of one size."""
        rows, columns = rng.choice(rng.choices([sizes for _, sizes in SHARES], [share for share, _ in SHARES])[0])
        height, width = 16 * rows, 16 * columns
        length = TEXT if rng.random() < 0.9 else rng.randrange(24, 68, 4)
        # small pictures cost little, but a batch of them should not be larger than the others by far
        scenes = [world.random_scene(rng) for _ in range(min(96, TOKENS // (rows * columns + length)))]
        drawn = [world.render_with_cover(rng, scene, width, height) for scene in scenes]
        shares = torch.zeros(len(scenes), rows * columns, 1 + len(world.SHAPES))
        for share, scene, (_, covers) in zip(shares, scenes, drawn):
            for thing, cover in zip(scene.things, covers):
                share[:, 1 + world.SHAPES.index(thing.shape)] += torch.from_numpy(cover.reshape(rows, 16, columns, 16).mean((1, 3)).reshape(-1))
        shares[..., 0] = (1 - shares.sum(-1)).clamp(min=0)
        latents = self.basis.encode(np.stack([picture for picture, _ in drawn]))
        return pack(latents), shares, [world.caption(rng, scene) for scene in scenes], rows, columns, length


def noised(rng, x):
    """Noise levels [b], mostly in the middle and towards noise, where the picture is decided; noisy tokens; velocity."""
    b = len(x)
    t = torch.sigmoid(torch.randn(b) * 1.1 + 0.35)
    t = torch.where(torch.rand(b) < 0.1, torch.rand(b), t)
    noise = torch.randn_like(x)
    return t, x + t[:, None, None] * (noise - x), noise - x


def optimizers(net, lr):
    """Muon for the matrices of the blocks, AdamW for the rest."""
    matrices, rest = [], []
    for name, parameter in net.named_parameters():
        inside = parameter.ndim == 2 and name.split('.')[0] in ('double_blocks', 'single_blocks')
        if inside and '.lin.' not in name:
            matrices.append(parameter)
        else:
            rest.append(parameter)
    return [(Muon(matrices, momentum=0.95), 0.02 * lr), (torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0), 1e-3 * lr)]


def train(net, rng, data, captions, seconds, name, lr, target=None, drop=0.1, average_decay=0.999):
    """`target(noisy, txt, vec, t, guidance, rows, columns)` gives the velocity to learn; without it the data's own."""
    shapes = nn.Linear(HIDDEN, 1 + len(world.SHAPES))
    pairs = optimizers(net, lr)
    pairs[1][0].add_param_group({'params': shapes.parameters()})
    average, log, step, seen, recent = Average(net, average_decay), Log(name), 0, 0, []
    share = 0.0
    while share < 1:
        share = log.seconds / seconds
        for optimizer, top in pairs:
            for group in optimizer.param_groups:
                group['lr'] = top * min(1, (step + 1) / 100) * cosine(int(share * 10000), 10000, warm=1)
        x, shares, texts, rows, columns, length = data.batch(rng)
        if drop:
            texts = ['' if rng.random() < drop else text for text in texts]
        txt, vec = captions(texts, length)
        t, noisy, velocity = noised(rng, x)
        guidance = torch.empty(len(x)).uniform_(*GUIDANCE)
        if target:
            velocity = target(noisy, txt, vec, t, guidance, rows, columns)
        features = []
        loss = (fast_flux.forward(net, noisy, txt, vec, t, guidance, rows, columns, features) - velocity).square().mean()
        told = F.cross_entropy(shapes(features[0]).flatten(0, 1), shares.flatten(0, 1))
        net.zero_grad(set_to_none=True)
        shapes.zero_grad(set_to_none=True)
        if not loss.isfinite():
            raise SystemExit(f'step {step}: the loss is no number')
        (loss + SHAPE_LOSS * told).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer, _ in pairs:
            optimizer.step()
        average.update(net)
        step += 1
        seen += len(x)
        recent.append((loss.item(), told.item()))
        if step % 100 == 0:
            log(step=step, seen=seen, loss=float(np.mean([a for a, _ in recent])), shapes=float(np.mean([b for _, b in recent])))
            recent = []
        if step % 500 == 0:
            save(name + '.pt', {**net.state_dict(), **average.values})
    save(name + '.pt', {**net.state_dict(), **average.values})
    log(step=step, seen=seen, done=True)
    net.load_state_dict({**net.state_dict(), **average.values})


def distil(net, rng, data, captions, seconds, student=None):
    """`student`: weights to go on from, instead of the teacher's."""
    teacher = copy.deepcopy(net)
    if student:
        net.load_state_dict(student)

    def target(noisy, txt, vec, t, guidance, rows, columns):
        with torch.no_grad():
            none_txt, none_vec = captions([''], txt.shape[1])
            b = len(noisy)
            args = (torch.cat([noisy] * 2), torch.cat([txt, none_txt.expand(b, -1, -1)]), torch.cat([vec, none_vec.expand(b, -1)]))
            both = fast_flux.forward(teacher, *args, torch.cat([t] * 2), torch.cat([guidance] * 2), rows, columns)
            with_caption, without = both.chunk(2)
            return without + guidance[:, None, None] * (with_caption - without)

    train(net, rng, data, captions, seconds, 'guided', lr=0.25 if student else 0.4, target=target, drop=0.05, average_decay=0.995)


def begin(net):
    for module in net.modules():
        if isinstance(module, nn.Linear) and module.weight.abs().sum() > 0:
            nn.init.normal_(module.weight, std=module.in_features ** -0.5 * 0.7)
            nn.init.zeros_(module.bias)


def finished_runs():
    """So that a training that goes on sees other pictures than before."""
    logs = [work(name) for name in ('flux.log', 'guided.log') if os.path.exists(work(name))]
    return sum(open(log).read().count('"done"') for log in logs)


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != '--resume']
    seconds, guided_seconds = (float(a) for a in (arguments + ['2700', '480'][len(arguments):])[:2])
    part = finished_runs() if '--resume' in sys.argv else 0
    start(4 + part)
    rng = random.Random(f'flux {part}')
    net = Flux()
    begin(net)
    if '--resume' in sys.argv:
        net.load_state_dict(torch.load(work('flux.pt')))
    data, captions = Data(), Captions()
    if seconds:
        train(net, rng, data, captions, seconds, 'flux', lr=0.3 if '--resume' in sys.argv else 1)
    if guided_seconds:
        resumed = not seconds and os.path.exists(work('guided.pt'))
        distil(net, rng, data, captions, guided_seconds, torch.load(work('guided.pt')) if resumed else None)


if __name__ == '__main__':
    main()
