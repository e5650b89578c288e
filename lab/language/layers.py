"""The layers of Griffin (paper section 5.2): local attention, the recurrent block, GeGLU.

`position` (B, T) is the number of tokens since the document began. At 0, its first token, all state is dropped, and a
query attends to `min(window, position)` tokens before itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lab.language.config import GriffinConfig, TransformerConfig
from lab.language.fused import gated
from lab.nn.attention import attend
from lab.nn.rotary import rotate
from lab.recurrence import causal_conv1d, rg_lru
from lab.recurrence.reference import DECAY_POWER

BLOCK = 128  # queries that share one span of keys: window + BLOCK, of which a query needs window + 1


class AttentionState(NamedTuple):
    """A ring buffer of the last `window` keys and values, (B, window, head_dim) each.

    Position p of a document is in slot p % window: of the slots those below the next position are in use.
    """

    keys: Tensor
    values: Tensor

    def put(self, slot: Tensor, keys: Tensor, values: Tensor) -> AttentionState:
        """One token's, (B, 1, head_dim), in slot (B, 1)."""
        here = (torch.arange(self.keys.shape[1], device=slot.device) == slot)[..., None]  # (B, window, 1)
        return AttentionState(torch.where(here, keys, self.keys), torch.where(here, values, self.values))


class RecurrentState(NamedTuple):
    """What the convolution saw last, (B, W - 1, L), and h of the RG-LRU, (B, L) float32."""

    conv: Tensor
    hidden: Tensor


def linear(fan_in: int, fan_out: int, bias: bool = True, gain: float = 1.0) -> nn.Linear:
    """A Linear with LeCun's normal init, variance gain / fan_in, and a bias of 0."""
    layer = nn.Linear(fan_in, fan_out, bias)
    nn.init.normal_(layer.weight, std=math.sqrt(gain / fan_in))
    if bias:
        nn.init.zeros_(layer.bias)
    return layer


class GeGLU(nn.Module):
    """W3 (gelu_tanh(W1 x) * (W2 x)), (..., D) to (..., D) (Shazeer 2002.05202); W1 and W2 are the halves of `up`.

    layers: of the model, whose residual branches start with variance 2 / layers.
    """

    def __init__(self, width: int, hidden: int, layers: int, bias: bool):
        super().__init__()
        self.up = linear(width, 2 * hidden, bias)
        self.down = linear(hidden, width, bias, gain=2 / layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(gated(*self.up(x).chunk(2, -1)))


class BlockDiagonal(nn.Module):
    """Block-diagonal linear layers, a block for each head: (B, T, L) to two (B, T, L).

    They are the logits of the input gate and of the recurrence gate.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        block = width // heads
        self.weight = nn.Parameter(torch.randn(2, heads, block, block) / math.sqrt(block))
        self.bias = nn.Parameter(torch.zeros(2, heads, block))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        blocks = x.unflatten(-1, self.bias.shape[1:])  # (B, T, H, L / H)
        input_gate, recurrence_gate = (
            (torch.einsum("bthi,hij->bthj", blocks, weight) + bias).flatten(-2)
            for weight, bias in zip(self.weight, self.bias, strict=True)
        )
        return input_gate, recurrence_gate


SLOW = 4  # one channel in so many is slow with "minutes"; its half-life at half-open gates, in tokens, is
MINUTES = (250.0, 6000.0)  # 10 s to 4 min, the longest piece that a language model learns from


def lambda_of(radius: Tensor) -> Tensor:
    """Lambda with exp(-softplus(Lambda)) the radius."""
    return torch.log(torch.expm1(-torch.log(radius)))  # the inverse of softplus


def slow_lambda(count: int) -> Tensor:
    """Lambda (count,) of slow channels: log half-life uniform within MINUTES (as Tallec & Ollivier, arXiv 1804.11188,
    have gates begin with the time scales of the data)."""
    low, high = (math.log(tokens) for tokens in MINUTES)
    half_life = torch.empty(count, dtype=torch.float64).uniform_(low, high).exp()
    return lambda_of(torch.exp(-math.log(2) / (DECAY_POWER / 2 * half_life))).float()


def initial_lambda(width: int, kind: str) -> Tensor:
    """Lambda (L,), with exp(-softplus(Lambda)) the radius a.

    "paper": a^8 uniform in [0.9, 0.999] (Griffin, section 2.4). "recurrentgemma": a^2 uniform in [0.9^2,
    0.999^2]. "minutes": as "paper", and every fourth as `slow_lambda`.
    """
    if kind == "recurrentgemma":
        return lambda_of(torch.empty(width).uniform_(0.9**2, 0.999**2).sqrt())
    found = lambda_of(torch.empty(width).uniform_(0.9, 0.999) ** (1 / DECAY_POWER))
    if kind == "minutes":
        found[::SLOW] = slow_lambda(len(found[::SLOW]))
    return found


class RecurrentBlock(nn.Module):
    """out(gelu(y(x)) * RG-LRU(convolution(x(x)))), (B, T, D) to (B, T, D) (Griffin, section 2.3).

    Lambda stays in float32 when the model is cast: bfloat16 rounds decays near 1 to 1.
    """

    def __init__(self, config: GriffinConfig):
        super().__init__()
        D = config.width
        self.y = linear(D, D)
        self.x = linear(D, D)
        self.out = linear(D, D, gain=2 / config.layers)
        self.conv_weight = nn.Parameter(torch.randn(D, config.conv_width) * math.sqrt(0.01 / config.conv_width))
        self.conv_bias = nn.Parameter(torch.zeros(D))
        self.gates = BlockDiagonal(D, config.heads)
        self.lambda_ = nn.Parameter(initial_lambda(D, config.lambda_init))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> RecurrentBlock:
        before = self.lambda_.detach()
        super()._apply(fn, recurse)
        if self.lambda_.dtype.itemsize < before.dtype.itemsize == 4:
            self.lambda_.data = before.to(self.lambda_.device)
        return self

    def forward(self, x: Tensor, state: RecurrentState | None, position: Tensor) -> tuple[Tensor, RecurrentState]:
        """x (B, T, D), position (B, T)."""
        reset = position == 0
        conv, hidden = state if state is not None else (None, None)
        branch, conv = causal_conv1d(self.x(x), self.conv_weight, self.conv_bias, conv, reset)  # (B, T, L)
        input_gate, recurrence_gate = (logits.float().sigmoid() for logits in self.gates(branch))
        decay = F.softplus(self.lambda_.float())
        h, hidden = rg_lru(branch, input_gate, recurrence_gate, decay, hidden, reset)
        return self.out(gated(self.y(x), h)), RecurrentState(conv, hidden)


class MultiQueryAttention(nn.Module):
    """The projections of attention whose H query heads share one head of keys and values (Shazeer 1911.02150).

    rotary: dimensions of a head, its first, with a rotary embedding. bias: of the output.
    """

    def __init__(self, config: GriffinConfig | TransformerConfig, rotary: int, bias: bool):
        super().__init__()
        self.heads, self.head_dim, self.rotary = config.heads, config.head_dim, rotary
        inner = config.heads * config.head_dim
        self.qkv = linear(config.width, inner + 2 * config.head_dim, bias=False)
        self.out = linear(inner, config.width, bias, gain=2 / config.layers)

    def project(self, x: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, T, D), position (B, T) -> queries (B, T, H, head_dim), keys and values (B, T, head_dim)."""
        q, k, v = self.qkv(x).split([self.heads * self.head_dim, self.head_dim, self.head_dim], -1)
        q = q.unflatten(-1, (self.heads, self.head_dim))
        if self.rotary:
            q, k = rotate(q, position, self.rotary), rotate(k[:, :, None], position, self.rotary)[:, :, 0]
        return q, k, v


class LocalAttention(MultiQueryAttention):
    """Attention to a token and the `window` before it, (B, T, D) to (B, T, D); time and memory linear in T.

    reach: tokens of the window that sequences (T > 1) look back, set for a while by `looking_back`.
    """

    def __init__(self, config: GriffinConfig):
        super().__init__(config, config.head_dim // 2 if config.rope else 0, bias=True)
        self.window = self.reach = config.window

    def forward(self, x: Tensor, state: AttentionState | None, position: Tensor) -> tuple[Tensor, AttentionState]:
        """x (B, T, D), position (B, T)."""
        (B, T, _), W = x.shape, self.window
        q, k, v = self.project(x, position)
        if state is None:
            empty = k.new_zeros(B, W, self.head_dim)
            state = AttentionState(empty, empty)
        if T == 1:
            y, state = self._step(q, k, v, state, position), state.put(position % W, k, v)
        else:
            slots = torch.arange(W, device=x.device)
            before = (position[:, :1] + slots) % W  # (B, W), the slots from the oldest to the newest
            keys, values = (
                torch.cat([ring.take_along_dim(before[..., None], 1), new], 1)  # (B, W + T, head_dim)
                for ring, new in ((state.keys, k), (state.values, v))
            )
            y = self._blocks(q, keys, values, position)
            newest = W + T - 1 - (position[:, -1:] - slots) % W  # (B, W), of W + T the token for each slot
            state = AttentionState(*(kv.take_along_dim(newest[..., None], 1) for kv in (keys, values)))
        return self.out(y.flatten(-2)), state

    def _step(self, q: Tensor, k: Tensor, v: Tensor, state: AttentionState, position: Tensor) -> Tensor:
        """One query, q (B, 1, H, head_dim) -> same; products of matrices cost less than a call of torch's SDPA."""
        keys, values = state
        if position.device.type == "cpu" and not torch.compiler.is_compiling():  # a GPU would be waited for
            filled = min(int(position.max()), self.window)
            keys, values = keys[:, :filled], values[:, :filled]
        unseen = torch.arange(keys.shape[1], device=position.device) >= position  # (B, slots)
        before = (q[:, 0] @ keys.mT).masked_fill(unseen[:, None], -math.inf)  # (B, H, slots)
        scores = torch.cat([before, q[:, 0] @ k.mT], -1) * self.head_dim**-0.5
        shares = scores.softmax(-1, dtype=torch.float32).to(v.dtype)
        return (shares[..., :-1] @ values + shares[..., -1:] @ v)[:, None]

    def _blocks(self, q: Tensor, keys: Tensor, values: Tensor, position: Tensor) -> Tensor:
        """Blocks of queries, each over its own keys and the `window` before: q (B, T, H, head_dim) -> same."""
        B, T = position.shape
        size = min(T, self.window, BLOCK)
        count = -(-T // size)
        missing = count * size - T
        q, position = F.pad(q, (0, 0, 0, 0, 0, missing)), F.pad(position, (0, missing))
        spans = [  # (B, count, window + size, head_dim)
            F.pad(kv, (0, 0, 0, missing)).unfold(1, self.window + size, size).transpose(2, 3) for kv in (keys, values)
        ]
        k, v = (kv.flatten(0, 1)[:, None] for kv in spans)
        q = q.unflatten(1, (count, size)).flatten(0, 1).transpose(1, 2)  # (B count, H, size, head_dim)
        distance = torch.arange(size, device=q.device)[:, None] - torch.arange(-self.window, size, device=q.device)
        seen = position.view(B * count, 1, size, 1).clamp(max=self.reach)
        mask = (distance >= 0) & (distance <= seen)  # (B count, 1, size, window + size)
        y = attend(q, k, v, mask)
        return y.transpose(1, 2).reshape(B, count * size, self.heads, self.head_dim)[:, :T]


@contextmanager
def looking_back(model: nn.Module, tokens: int) -> Iterator[None]:
    """Local attention to sequences looks back so many tokens at most: of what was before, only the recurrence knows."""
    layers = [module for module in model.modules() if isinstance(module, LocalAttention)]
    for layer in layers:
        layer.reach = min(tokens, layer.window)
    try:
        yield
    finally:
        for layer in layers:
            layer.reach = layer.window
