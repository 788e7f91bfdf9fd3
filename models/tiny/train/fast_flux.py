"""flux.py's forward pass on fused.py and bfloat16 products: the same function of the same parameters, for training."""
import torch
import torch.nn.functional as F

from flux import HEAD, HEADS, rotations, sinusoid
from fused import gate, gelu, modulate, split


def linear(layer, x):
    return F.linear(x.bfloat16(), layer.weight.bfloat16(), layer.bias.bfloat16())


def embed(mlp, x):
    return linear(mlp.out_layer, F.silu(linear(mlp.in_layer, x)))


def attend(q, k, v):
    """[b, heads, n, HEAD] -> [b, n, HIDDEN]"""
    b, heads, n, d = q.shape
    q, k, v = (part.reshape(b * heads, n, d) for part in (q, k, v))
    weights = (torch.bmm(q, k.transpose(1, 2)).float() * HEAD ** -0.5).softmax(-1).bfloat16()
    return torch.bmm(weights, v).view(b, heads, n, d).transpose(1, 2).reshape(b, n, heads * d)


def forward(net, img, txt, vec, t, guidance, rows, columns, features=None):
    """`features`, a list, gets the image tokens behind the double blocks, [b, rows * columns, HIDDEN]."""
    text = txt.shape[1]
    cos, sin = rotations(rows, columns, text)
    vec = F.silu((embed(net.time_in, sinusoid(t)) + embed(net.guidance_in, sinusoid(guidance)) + embed(net.vector_in, vec)).float())
    vec = vec.bfloat16()
    img, txt = linear(net.img_in, img).float(), linear(net.txt_in, txt).float()

    for block in net.double_blocks:
        streams = []
        for name, x, turn in (('txt', txt, slice(0, text)), ('img', img, slice(text, None))):
            mod = linear(getattr(block, name + '_mod').lin, vec).float().chunk(6, -1)
            attn = getattr(block, name + '_attn')
            scales = (attn.norm.query_norm.scale, attn.norm.key_norm.scale)
            parts = split(linear(attn.qkv, modulate(x, mod[0], mod[1])), *scales, cos[turn], sin[turn], HEADS)
            streams.append((x, mod, attn, getattr(block, name + '_mlp'), parts))
        attended = attend(*(torch.cat([streams[0][4][i], streams[1][4][i]], 2) for i in range(3)))
        results = []
        for (x, mod, attn, mlp, _), y in zip(streams, (attended[:, :text], attended[:, text:])):
            x = gate(x, linear(attn.proj, y), mod[2])
            y = linear(mlp[2], gelu(linear(mlp[0], modulate(x, mod[3], mod[4]))))
            results.append(gate(x, y, mod[5]))
        txt, img = results
    if features is not None:
        features.append(img)

    x = torch.cat([txt, img], 1)
    for block in net.single_blocks:
        shift, scale, strength = linear(block.modulation.lin, vec).float().chunk(3, -1)
        scales = (block.norm.query_norm.scale, block.norm.key_norm.scale)
        q, k, v, mlp = split(linear(block.linear1, modulate(x, shift, scale)), *scales, cos, sin, HEADS)
        x = gate(x, linear(block.linear2, torch.cat([attend(q, k, v), mlp], -1)), strength)

    shift, scale = linear(net.final_layer.adaLN_modulation[1], vec).float().chunk(2, -1)
    return linear(net.final_layer.linear, modulate(x[:, text:], shift, scale)).float()
