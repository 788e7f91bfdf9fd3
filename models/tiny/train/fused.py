"""fused.cpp as differentiable functions. They compute what flux.py's `modulate`, `gelu`, `heads`, `QKNorm` and `rotate` say; test_fused.py
compares the two."""
import ctypes
import os
import subprocess

import torch

from common import HERE, work


def compiled():
    source, library = os.path.join(HERE, 'fused.cpp'), work('fused.so')
    if not os.path.exists(library) or os.path.getmtime(library) < os.path.getmtime(source):
        subprocess.run(['g++', '-Ofast', '-march=native', '-mprefer-vector-width=512', '-fopenmp', '-shared', '-fPIC', source, '-o', library], check=True)
    return ctypes.CDLL(library)


C = compiled()


def call(function, *args):
    function(*(ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor) else ctypes.c_int64(a) for a in args))


class Modulate(torch.autograd.Function):
    """x [b, n, h] float, shift and scale [b, h] float -> [b, n, h] bfloat16"""

    @staticmethod
    def forward(ctx, x, shift, scale):
        x, shift, scale = x.contiguous(), shift.contiguous(), scale.contiguous()
        b, n, h = x.shape
        y, mean, rstd = torch.empty(x.shape, dtype=torch.bfloat16), torch.empty(b, n), torch.empty(b, n)
        call(C.modulate_forward, x, shift, scale, y, mean, rstd, b, n, h, h)
        ctx.save_for_backward(x, scale, mean, rstd)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, scale, mean, rstd = ctx.saved_tensors
        b, n, h = x.shape
        dx, dshift, dscale = torch.empty_like(x), torch.empty_like(scale), torch.empty_like(scale)
        call(C.modulate_backward, dy.contiguous(), x, scale, mean, rstd, dx, dshift, dscale, b, n, h, h)
        return dx, dshift, dscale


class Gate(torch.autograd.Function):
    """x [b, n, h] float + gate [b, h] float * y [b, n, h] bfloat16"""

    @staticmethod
    def forward(ctx, x, y, gate):
        x, y, gate = x.contiguous(), y.contiguous(), gate.contiguous()
        z = torch.empty_like(x)
        call(C.gate_forward, x, y, gate, z, *x.shape, x.shape[2])
        ctx.save_for_backward(y, gate)
        return z

    @staticmethod
    def backward(ctx, dz):
        y, gate = ctx.saved_tensors
        dz = dz.contiguous()
        dy, dgate = torch.empty_like(y), torch.empty_like(gate)
        call(C.gate_backward, dz, y, gate, dy, dgate, *y.shape, y.shape[2])
        return dz, dy, dgate


class Gelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x = x.contiguous()
        y, width = torch.empty_like(x), x.shape[-1]
        call(C.gelu_forward, x, y, x.numel() // width, width, width, width)
        ctx.save_for_backward(x)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, = ctx.saved_tensors
        dy, dx, width = dy.contiguous(), torch.empty_like(x), x.shape[-1]
        call(C.gelu_backward, dy, x, dx, x.numel() // width, width, width, width, width)
        return dx


class Split(torch.autograd.Function):
    """p [b, n, 3 h + m] bfloat16 -> q, k (normed, turned), v [b, heads, n, 128], and gelu of the last m columns [b, n, m]"""

    @staticmethod
    def forward(ctx, p, query, key, cos, sin, heads):
        p, cos, sin = p.contiguous(), cos.contiguous(), sin.contiguous()
        b, n, stride = p.shape
        m = stride - 3 * heads * 128
        q, k, v = (torch.empty(b, heads, n, 128, dtype=torch.bfloat16) for _ in range(3))
        call(C.qkv_forward, p, query, key, cos, sin, q, k, v, b, n, heads, stride)
        y = torch.empty(b, n, m, dtype=torch.bfloat16)
        if m:
            call(C.gelu_forward, p[:, :, stride - m:], y, b * n, m, stride, m)
        ctx.save_for_backward(p, query, key, cos, sin)
        ctx.heads = heads
        return q, k, v, y

    @staticmethod
    def backward(ctx, dq, dk, dv, dy):
        p, query, key, cos, sin = ctx.saved_tensors
        b, n, stride = p.shape
        m = stride - 3 * ctx.heads * 128
        dp, dweight = torch.empty_like(p), torch.empty(b, 2, 128)
        call(C.qkv_backward, dq.contiguous(), dk.contiguous(), dv.contiguous(), p, query, key, cos, sin, dp, dweight, b, n, ctx.heads, stride)
        if m:
            call(C.gelu_backward, dy.contiguous(), p[:, :, stride - m:], dp[:, :, stride - m:], b * n, m, m, stride, stride)
        dquery, dkey = dweight.sum(0)
        return dp, dquery, dkey, None, None, None


modulate, gate, gelu, split = Modulate.apply, Gate.apply, Gelu.apply, Split.apply
