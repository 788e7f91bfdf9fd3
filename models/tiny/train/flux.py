"""The transformer with FLUX.1-dev's structure and tensor names (black-forest-labs/flux `src/flux/model.py`), small."""
import math

import torch
import torch.nn.functional as F
from torch import nn

HIDDEN, HEADS, HEAD = 256, 2, 128
DEPTH, DEPTH_SINGLE = 2, 4
CHANNELS, CONTEXT, VEC = 64, 128, 128
AXES = (16, 56, 56)


def gelu(x):
    """The tanh form; 0.5 (1 + tanh y) is sigmoid(2 y), which torch computes faster."""
    return x * torch.sigmoid(x * (1.5957691216 + 0.0713548162726 * x * x))


def sinusoid(t):
    """[b] in 0..1 -> [b, 256], cosines first"""
    angles = 1000 * t[:, None] * torch.exp(-math.log(10000) * torch.arange(128) / 128)
    return torch.cat([angles.cos(), angles.sin()], -1)


def rotations(rows, columns, text):
    """Cosines and sines [text + rows * columns, HEAD / 2] of every token's turn in every pair of channels; text stands at 0, 0, 0."""
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing='ij')
    ids = torch.stack([torch.zeros_like(y), y, x], -1).view(-1, 3).float()
    ids = torch.cat([torch.zeros(text, 3), ids])
    angles = torch.cat([ids[:, i, None] * 10000.0 ** (-torch.arange(0, d, 2) / d) for i, d in enumerate(AXES)], -1)
    return angles.cos(), angles.sin()


def rotate(x, pe):
    """[b, n, heads, HEAD]; pairs are neighbours"""
    cos, sin = (part[:, None] for part in pe)
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(HEAD))

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.scale


class QKNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.query_norm, self.key_norm = RMSNorm(), RMSNorm()

    def forward(self, q, k):
        return self.query_norm(q), self.key_norm(k)


class MLPEmbedder(nn.Module):
    def __init__(self, cin):
        super().__init__()
        self.in_layer, self.out_layer = nn.Linear(cin, HIDDEN), nn.Linear(HIDDEN, HIDDEN)

    def forward(self, x):
        return self.out_layer(F.silu(self.in_layer(x)))


class Modulation(nn.Module):
    def __init__(self, parts):
        super().__init__()
        self.parts, self.lin = parts, nn.Linear(HIDDEN, parts * HIDDEN)
        nn.init.zeros_(self.lin.weight)
        nn.init.zeros_(self.lin.bias)

    def forward(self, vec):
        return self.lin(vec)[:, None].float().chunk(self.parts, -1)


def modulate(x, shift, scale):
    """x [b, n, HIDDEN] is normed first, without weights"""
    return torch.addcmul(shift, F.layer_norm(x, (HIDDEN,), eps=1e-6), 1 + scale)


def attention(q, k, v, pe):
    """[b, n, heads, HEAD] -> [b, n, HIDDEN]"""
    q, k = (rotate(part, pe) for part in (q, k))
    q, k, v = (part.transpose(1, 2) for part in (q, k, v))
    weights = (q @ k.transpose(2, 3) * HEAD ** -0.5).float().softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


def heads(qkv):
    """[b, n, 3 HIDDEN] -> three times [b, n, heads, HEAD]"""
    return qkv.float().unflatten(-1, (3, HEADS, HEAD)).unbind(2)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.norm, self.proj = nn.Linear(HIDDEN, 3 * HIDDEN), QKNorm(), nn.Linear(HIDDEN, HIDDEN)


class DoubleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        for name in ('img', 'txt'):
            setattr(self, name + '_mod', Modulation(6))
            setattr(self, name + '_attn', Attention())
            setattr(self, name + '_mlp', nn.Sequential(nn.Linear(HIDDEN, 4 * HIDDEN), nn.Identity(), nn.Linear(4 * HIDDEN, HIDDEN)))

    def forward(self, img, txt, vec, pe):
        streams, parts = [], []
        for name, x in (('txt', txt), ('img', img)):
            mod = getattr(self, name + '_mod')(vec)
            attn = getattr(self, name + '_attn')
            q, k, v = heads(attn.qkv(modulate(x, mod[0], mod[1])))
            streams.append((x, mod, attn, getattr(self, name + '_mlp')))
            parts.append((*attn.norm(q, k), v))
        attended = attention(*(torch.cat(pair, 1) for pair in zip(*parts)), pe)
        results = []
        for (x, mod, attn, mlp), y in zip(streams, attended.split([txt.shape[1], img.shape[1]], 1)):
            x = x + mod[2] * attn.proj(y)
            y = mlp[2](gelu(mlp[0](modulate(x, mod[3], mod[4]))))
            results.append(x + mod[5] * y)
        return results[1], results[0]


class SingleBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.modulation = Modulation(3)
        self.linear1, self.linear2 = nn.Linear(HIDDEN, 7 * HIDDEN), nn.Linear(5 * HIDDEN, HIDDEN)
        self.norm = QKNorm()

    def forward(self, x, vec, pe):
        shift, scale, gate = self.modulation(vec)
        qkv, mlp = self.linear1(modulate(x, shift, scale)).split([3 * HIDDEN, 4 * HIDDEN], -1)
        q, k, v = heads(qkv)
        y = attention(*self.norm(q, k), v, pe)
        return x + gate * self.linear2(torch.cat([y, gelu(mlp)], -1))


class FinalLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(HIDDEN, CHANNELS)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(HIDDEN, 2 * HIDDEN))
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x, vec):
        shift, scale = self.adaLN_modulation[1](vec)[:, None].float().chunk(2, -1)
        return self.linear(modulate(x, shift, scale))


class Flux(nn.Module):
    def __init__(self):
        super().__init__()
        self.img_in, self.txt_in = nn.Linear(CHANNELS, HIDDEN), nn.Linear(CONTEXT, HIDDEN)
        self.time_in, self.guidance_in, self.vector_in = MLPEmbedder(256), MLPEmbedder(256), MLPEmbedder(VEC)
        self.double_blocks = nn.ModuleList(DoubleBlock() for _ in range(DEPTH))
        self.single_blocks = nn.ModuleList(SingleBlock() for _ in range(DEPTH_SINGLE))
        self.final_layer = FinalLayer()

    def forward(self, img, txt, vec, t, guidance, rows, columns):
        """img [b, rows * columns, 64], txt [b, n, CONTEXT], vec [b, VEC], t and guidance [b] -> velocity [b, rows * columns, 64]"""
        pe = rotations(rows, columns, txt.shape[1])
        vec = F.silu((self.time_in(sinusoid(t)) + self.guidance_in(sinusoid(guidance)) + self.vector_in(vec)).float())
        img, txt = self.img_in(img).float(), self.txt_in(txt).float()
        for block in self.double_blocks:
            img, txt = block(img, txt, vec, pe)
        x = torch.cat([txt, img], 1)
        for block in self.single_blocks:
            x = block(x, vec, pe)
        return self.final_layer(x[:, txt.shape[1]:], vec).float()


def pack(latents):
    """[b, 16, h, w] -> [b, h/2 * w/2, 64]"""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(tokens, rows, columns):
    b = tokens.shape[0]
    return tokens.view(b, rows, columns, 16, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, 16, 2 * rows, 2 * columns)
