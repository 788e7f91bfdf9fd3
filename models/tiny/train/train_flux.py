"""Trains the transformer by flow matching on the latents, then distils classifier-free guidance into its guidance embedding.

    python3 train_flux.py [seconds of training] [seconds of distillation]

The velocity of x_t = (1 - t) x + t noise is noise - x. A tenth of the captions is left empty; while it is trained, the guidance it is
given is random and means nothing. Then a frozen copy teaches: for a random guidance g the student learns
uncaptioned + g (captioned - uncaptioned). Starts from `flux.pt`, where there is one, with `--resume`.
"""
import copy
import random
import sys

import torch
from torch import nn

import fast_flux
import world
from common import Average, Log, cosine, save, start, work
from flux import Flux, pack
from make_tokenizers import ClipTokenizer, T5Tokenizer
from muon import Muon
from text import Clip, T5, clip_batch

TEXT = 32  # tokens of T5, mostly
TOKENS = 4608  # of a batch
MAIN = (128, 128)
GUIDANCE = (1, 7)


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
    def __init__(self):
        self.latents = torch.load(work('latents.pt'))
        self.others = [size for size in self.latents if size != MAIN]
        self.scenes = {}

    def scene(self, seed):
        if seed not in self.scenes:
            self.scenes[seed] = world.random_scene(random.Random(seed))
        return self.scenes[seed]

    def batch(self, rng):
        """Latents as tokens, captions, rows, columns, text length; all pictures of one size."""
        size = MAIN if rng.random() < 0.75 else rng.choice(self.others)
        first, latents = self.latents[size]
        rows, columns = size[0] // 16, size[1] // 16
        length = TEXT if rng.random() < 0.9 else rng.randrange(24, 68, 4)
        # small pictures cost little, but a batch of them should not be larger than the others by far
        count = min(96, TOKENS // (rows * columns + length))
        chosen = [rng.randrange(len(latents)) for _ in range(count)]
        captions = [world.caption(rng, self.scene(first + i)) for i in chosen]
        return pack(latents[chosen].float()), captions, rows, columns, length


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
    pairs = optimizers(net, lr)
    average, log, step, seen, recent = Average(net, average_decay), Log(name), 0, 0, []
    share = 0.0
    while share < 1:
        share = log.seconds / seconds
        for optimizer, top in pairs:
            for group in optimizer.param_groups:
                group['lr'] = top * min(1, (step + 1) / 100) * cosine(int(share * 10000), 10000, warm=1)
        x, texts, rows, columns, length = data.batch(rng)
        if drop:
            texts = ['' if rng.random() < drop else text for text in texts]
        txt, vec = captions(texts, length)
        t, noisy, velocity = noised(rng, x)
        guidance = torch.empty(len(x)).uniform_(*GUIDANCE)
        if target:
            velocity = target(noisy, txt, vec, t, guidance, rows, columns)
        loss = (fast_flux.forward(net, noisy, txt, vec, t, guidance, rows, columns) - velocity).square().mean()
        net.zero_grad(set_to_none=True)
        if not loss.isfinite():
            raise SystemExit(f'step {step}: the loss is no number')
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimizer, _ in pairs:
            optimizer.step()
        average.update(net)
        step += 1
        seen += len(x)
        recent.append(loss.item())
        if step % 100 == 0:
            log(step=step, seen=seen, loss=sum(recent) / len(recent))
            recent = []
        if step % 500 == 0:
            save(name + '.pt', {**net.state_dict(), **average.values})
    save(name + '.pt', {**net.state_dict(), **average.values})
    log(step=step, seen=seen, done=True)
    net.load_state_dict({**net.state_dict(), **average.values})


def distil(net, rng, data, captions, seconds):
    teacher = copy.deepcopy(net)

    def target(noisy, txt, vec, t, guidance, rows, columns):
        with torch.no_grad():
            none_txt, none_vec = captions([''], txt.shape[1])
            b = len(noisy)
            args = (torch.cat([noisy] * 2), torch.cat([txt, none_txt.expand(b, -1, -1)]), torch.cat([vec, none_vec.expand(b, -1)]))
            both = fast_flux.forward(teacher, *args, torch.cat([t] * 2), torch.cat([guidance] * 2), rows, columns)
            with_caption, without = both.chunk(2)
            return without + guidance[:, None, None] * (with_caption - without)

    train(net, rng, data, captions, seconds, 'guided', lr=0.25, target=target, drop=0.05, average_decay=0.995)


def begin(net):
    for module in net.modules():
        if isinstance(module, nn.Linear) and module.weight.abs().sum() > 0:
            nn.init.normal_(module.weight, std=module.in_features ** -0.5 * 0.7)
            nn.init.zeros_(module.bias)


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != '--resume']
    seconds, guided_seconds = (float(a) for a in (arguments + ['2700', '480'][len(arguments):])[:2])
    start(4)
    rng = random.Random('flux again' if '--resume' in sys.argv else 'flux')
    net = Flux()
    begin(net)
    if '--resume' in sys.argv:
        net.load_state_dict(torch.load(work('flux.pt')))
    data, captions = Data(), Captions()
    if seconds:
        train(net, rng, data, captions, seconds, 'flux', lr=0.7 if '--resume' in sys.argv else 1)
    if guided_seconds:
        distil(net, rng, data, captions, guided_seconds)


if __name__ == '__main__':
    main()
