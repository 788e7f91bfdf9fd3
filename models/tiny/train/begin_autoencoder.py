"""The autoencoder before training: residual branches add nothing yet, and what is left of the networks is linear.

The encoder then computes the latents of latents.py but for what its 32 channels at a quarter of the size cannot carry; the decoder
gives every cell of 8 x 8 pixels its mean colour.
"""
import numpy as np
import torch
from torch import nn

import world
from autoencoder import SCALE, SHIFT, Z
from latents import CELL

# Group norm over 96 channels sees three in a group. Value, negative and a large constant: then mean and spread of the group are those of the
# constant, and the norm, with the right weight and bias, gives the value back. SiLU of the value less SiLU of the negative is the value.
LARGE = 30.0
VALUE, NEGATIVE, CONSTANT = slice(0, None, 3), slice(1, None, 3), slice(2, None, 3)


@torch.no_grad()
def begin(net, basis, log_variance):
    for name, module in net.named_modules():
        if name.endswith(('conv2', 'proj_out')):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        elif name.endswith(('sample.conv', 'nin_shortcut', 'conv_in', 'conv_out')):
            nn.init.normal_(module.weight, std=0.003)
            nn.init.zeros_(module.bias)
        elif name.endswith('norm_out'):
            # the spread of (0, 0, LARGE), and its mean
            module.weight.fill_(LARGE * 2 ** 0.5 / 3)
            module.bias.fill_(LARGE / 3)
            # the constants end here: what they would add to the next layer's steps is as large as they are
            module.weight[CONSTANT] = 0
            module.bias[CONSTANT] = 0
    begin_encoder(net.encoder, basis, log_variance)
    begin_decoder(net.decoder, basis)


def begin_encoder(encoder, basis, log_variance):
    put(encoder.conv_in, torch.eye(3), 1, 1)
    put(encoder.down[0].block[0].nin_shortcut, torch.eye(32))
    for part, (dy, dx) in enumerate(quarters()):  # 2 x 2 pixels of three colours stay as they are
        put(encoder.down[0].downsample.conv, torch.eye(3), dy, dx, row=3 * part)
    put(encoder.down[1].block[0].nin_shortcut, torch.eye(32))
    # of the 48 values of 4 x 4 pixels the 32 that say most; the basis lies nearly in what they span
    forward = torch.from_numpy(basis.forward).T.reshape(Z, CELL, CELL, 3)
    fours = torch.cat([forward[:, y:y + 4, x:x + 4].reshape(Z, 48) for y in (0, 4) for x in (0, 4)])
    kept = torch.linalg.svd(fours, full_matrices=False)[2][:32].view(32, 4, 4, 3)
    for dy, dx in quarters():  # [32, 2, 2, 3] -> [32, 12] as above
        put(encoder.down[1].downsample.conv, kept[:, 2 * dy:2 * dy + 2, 2 * dx:2 * dx + 2].reshape(32, 12), dy, dx)
    for dy, dx in quarters():
        part = forward[:, 4 * dy:4 * dy + 4, 4 * dx:4 * dx + 4].reshape(Z, 48) @ kept.reshape(32, 48).T
        put(encoder.down[2].downsample.conv, part, dy, dx)
    encoder.down[2].downsample.conv.bias[:Z] = -torch.from_numpy(basis.mean @ basis.forward)
    spread_out(encoder.down[3].block[0].nin_shortcut)
    # moments are latent / SCALE + SHIFT; the second half of the channels is the logarithm of their variance
    gather(encoder.conv_out, torch.eye(Z, 32) / SCALE)
    encoder.conv_out.bias[:Z] = SHIFT
    encoder.conv_out.bias[Z:] = log_variance


def begin_decoder(decoder, basis):
    put(decoder.conv_in, torch.eye(Z) * SCALE, 1, 1)
    decoder.conv_in.bias[:Z] = -SHIFT * SCALE
    for level in decoder.up[1:]:
        width = level.upsample.conv.weight.shape[0]
        put(level.upsample.conv, torch.eye(width), 1, 1)
    put(decoder.up[2].block[0].nin_shortcut, torch.eye(32, 96))
    spread_out(decoder.up[0].block[0].nin_shortcut)
    color = torch.from_numpy(basis.backward).view(Z, CELL * CELL, 3).mean(1).T
    gather(decoder.conv_out, torch.cat([color, torch.zeros(3, 32 - Z)], 1))
    decoder.conv_out.bias.copy_(torch.from_numpy(basis.mean.reshape(CELL * CELL, 3).mean(0)))


def quarters():
    return [(0, 0), (0, 1), (1, 0), (1, 1)]


def put(conv, matrix, dy=0, dx=0, row=0):
    """The matrix [out, in] at one place of the kernel."""
    rows, columns = matrix.shape
    conv.weight[row:row + rows, :, dy, dx] = 0
    conv.weight[row:row + rows, :columns, dy, dx] = matrix


def spread_out(shortcut):
    """32 channels -> 32 groups of value, negative, constant"""
    shortcut.weight.zero_()
    shortcut.weight[VALUE, :, 0, 0] = torch.eye(32)
    shortcut.weight[NEGATIVE, :, 0, 0] = -torch.eye(32)
    shortcut.bias[CONSTANT] = LARGE


def gather(conv, matrix):
    """`matrix` [out, 32] of what `spread_out` spread, behind norm and SiLU"""
    rows = len(matrix)
    conv.weight[:rows, CONSTANT] = 0
    conv.weight[:rows, VALUE, 1, 1] = matrix
    conv.weight[:rows, NEGATIVE, 1, 1] = -matrix
