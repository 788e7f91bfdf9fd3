"""Trains the autoencoder on pictures of the world, a third of them in colours that it does not have.

    python3 train_autoencoder.py [seconds]
"""
import math
import random
import sys

import numpy as np
import torch
from PIL import Image
from torch import nn
import torch.nn.functional as F

import world
from autoencoder import Autoencoder
from common import Average, Log, cosine, save, start, work

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 900
# pictures of a batch by size; large ones show the attention and the norms what they will meet
BATCHES = [(12, 64, 64)] * 5 + [(6, 96, 96), (6, 64, 128), (3, 128, 128), (6, 128, 64)]
NOISE = 0.15  # of the latents in training, so that small errors of the transformer do not show
SMALL = 3e-4  # weight of the latents' square


def pictures(rng, count, height, width):
    """[count, 3, height, width] in -1..1"""
    batch = []
    for _ in range(count):
        scene = world.random_scene(rng)
        free = rng.random() < 0.35
        colors = [tuple(rng.randrange(256) for _ in range(3)) for _ in range(4)] if free else None
        batch.append(world.render(rng, scene, width, height, colors))
    return torch.from_numpy(np.stack(batch)).permute(0, 3, 1, 2).div(127.5).sub(1).contiguous(memory_format=torch.channels_last)


def main():
    start(1)
    rng = random.Random('autoencoder')
    held = pictures(random.Random('held'), 12, 128, 128)
    net = Autoencoder().to(memory_format=torch.channels_last)
    begin(net)
    average = Average(net, 0.998)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0)
    log = Log('autoencoder')
    step = 0
    while log.seconds < SECONDS:
        for group in optimizer.param_groups:
            share = min(1, log.seconds / SECONDS)
            group['lr'] = 2e-3 * min((step + 1) / 50, cosine(int(share * 10000), 10000, warm=1))
        x = pictures(rng, *BATCHES[step % len(BATCHES)])
        with torch.autocast('cpu', torch.bfloat16):
            mean, logvar = net.encode(x)
            y = net.decode(mean + torch.randn_like(mean) * NOISE)
        square = F.mse_loss(y, x)
        absolute = F.l1_loss(y, x)
        spread = (logvar - 2 * math.log(NOISE)).square().mean()
        loss = square + 0.2 * absolute + SMALL * mean.square().mean() + 1e-4 * spread
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update(net)
        step += 1
        if step % 25 == 0:
            log(step=step, square=square.item(), absolute=absolute.item(), std=mean.std().item())
        if step % 250 == 0:
            save('autoencoder.pt', {**net.state_dict(), **average.values})
            sheet(net, average, held, log)
    save('autoencoder.pt', {**net.state_dict(), **average.values})
    sheet(net, average, held, log)


def begin(net):
    """The net begins as one that scales the picture down and up again: residual branches do nothing, the trunk passes colours on.

    Where the trunk is 96 wide, a normalisation group holds one channel of the picture between a constant and its negative: so large that
    they alone decide the group's mean and spread, and the norm leaves the picture as it is.
    """
    large = 3.0
    picture, above, below = slice(0, None, 3), slice(1, None, 3), slice(2, None, 3)
    for name, module in net.named_modules():
        if name.endswith(('conv2', 'proj_out')):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith('norm_out'):
            module.weight.data.fill_(large * (2 / 3) ** 0.5)
            module.bias.data[above] = -large
            module.bias.data[below] = large
        elif name.endswith(('sample.conv', 'nin_shortcut', 'decoder.conv_in', 'encoder.conv_in', 'encoder.conv_out')):
            cout, cin, kernel, _ = module.weight.shape
            nn.init.normal_(module.weight, std=0.02 * (kernel * kernel * cin) ** -0.5)
            nn.init.zeros_(module.bias)
            mixed = torch.zeros(cout, cin)
            if 'sample' in name:
                mixed = torch.eye(cout)
            elif name.endswith('nin_shortcut'):
                mixed[(picture, slice(None)) if cout > cin else (slice(None), picture)] = torch.eye(32)
            elif name == 'encoder.conv_in':
                mixed = torch.randn(cout, cin) * cin ** -0.5
            elif name == 'encoder.conv_out':
                mixed[:, picture] = 1.8 * torch.randn(cout, 32)
            else:
                mixed[picture] = 0.35 * torch.randn(32, cin) * cin ** -0.5
            if cout == 96 and 'sample' not in name:
                module.bias.data[above] = large
                module.bias.data[below] = -large
            if 'downsample' in name:  # the mean of 2 x 2
                module.weight.data[:, :, :2, :2] += mixed[:, :, None, None] / 4
            else:
                module.weight.data[:, :, kernel // 2, kernel // 2] += mixed


def sheet(net, average, held, log):
    twin = Autoencoder()
    twin.load_state_dict({**net.state_dict(), **average.values})
    with torch.no_grad():
        mean, _ = twin.encode(held)
        y = twin.decode(mean).clamp(-1, 1)
        log(held_square=F.mse_loss(y, held).item(), held_absolute=F.l1_loss(y, held).item(), channel_std=[round(s, 2) for s in mean.std((0, 2, 3)).tolist()])
    rows = torch.cat([held, y]).permute(0, 2, 3, 1).add(1).mul(127.5).clamp(0, 255).byte().numpy()
    rows = rows.reshape(2, 12, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(256, 12 * 128, 3)
    Image.fromarray(rows).save(work('autoencoder.png'))


main()
