"""A decode step of Griffin on the CPU for little more than reading the weights once.

At one token a time a matrix product costs what reading its weights does; calls of operators, temporary tensors and the
shift of all keys by one come on top. Here a step is one numba function over flat arrays (`lab.language.packed`), on one
thread: it has 46 matrices of some 20 us each, and a second thread, to be waited for at each, saved 10 % of a story.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import cos, sin, sqrt

import numpy as np
import torch
from numba import njit
from torch import Tensor

from lab.language.griffin import GriffinState
from lab.language.layers import AttentionState, RecurrentState
from lab.language.packed import Packed
from lab.language.tokens import check_tokens
from lab.nn.rotary import rotation_rates
from lab.recurrence.compiled import KERNEL, SUMS, compiling, jit
from lab.recurrence.cpu import ONE, POWER, ZERO, decay_and_norm

GELU, CUBE = np.float32(2 * 0.7978845608), np.float32(0.044715)  # gelu_tanh(v) = v sigmoid(GELU (v + CUBE v^3))
EPS = np.float32(1e-6)


@njit(inline="always")
def _sigmoid(v):
    e, _ = decay_and_norm(-abs(v))
    return (ONE if v >= ZERO else e) / (ONE + e)


@njit(inline="always")
def _gelu(v):
    return v * _sigmoid(GELU * (v + CUBE * v * v * v))


@jit(**SUMS)
def _dot(row, x):
    total = ZERO
    for k in range(x.size):
        total += np.float32(row[k]) * x[k]
    return total


@jit(**SUMS)
def _norm(x, scale, y):
    for b in range(len(x)):
        x_b, y_b, total = x[b], y[b], ZERO
        for d in range(x_b.size):
            total += x_b[d] * x_b[d]
        over = ONE / sqrt(total / np.float32(x_b.size) + EPS)
        for d in range(x_b.size):
            y_b[d] = x_b[d] * over * scale[d]


@jit(**KERNEL)
def _product(matrix, scales, bias, x, y):
    """y (B, N) = W x + bias, x (B, K), W (N, K) flat."""
    (B, K), N = x.shape, bias.size
    for n in range(N):
        row = matrix[n * K : (n + 1) * K]
        for b in range(B):
            y[b, n] = _dot(row, x[b]) * scales[n] + bias[n]


@jit(**KERNEL)
def _geglu(matrix, scales, bias, x, gate, y):
    """y (B, N) = gelu(first half of W x + bias) times the second half."""
    (B, K), N = x.shape, y.shape[1]
    for n in range(N):
        row, other = matrix[n * K : (n + 1) * K], matrix[(N + n) * K : (N + n + 1) * K]
        for b in range(B):
            gate[b, n] = _dot(row, x[b]) * scales[n] + bias[n]
            y[b, n] = _dot(other, x[b]) * scales[N + n] + bias[N + n]
    for b in range(B):
        gate_b, y_b = gate[b], y[b]
        for n in range(N):
            y_b[n] *= _gelu(gate_b[n])


@jit(**KERNEL)
def _recur(block, matrix, scales, bias, decay, length, entered, branch, gates, hidden, y):
    """Gates, RG-LRU and the gelu branch. entered (B, 2 L), branch (B, L) after the convolution, gates (B, 2, L)."""
    B, L = branch.shape
    for c in range(L):
        of_input, of_recurrence = matrix[c * block : (c + 1) * block], matrix[(L + c) * block : (L + c + 1) * block]
        head = c // block * block
        for b in range(B):
            seen = branch[b, head : head + block]
            gates[b, 0, c] = _dot(of_input, seen) * scales[c] + bias[c]
            gates[b, 1, c] = _dot(of_recurrence, seen) * scales[L + c] + bias[L + c]
    for b in range(B):
        i, r, x, h, beside, y_b = gates[b, 0], gates[b, 1], branch[b], hidden[b], entered[b], y[b]
        if length[b] == 0:
            for c in range(L):
                h[c] = _sigmoid(i[c]) * x[c]
        else:
            for c in range(L):
                a, norm = decay_and_norm(-POWER * _sigmoid(r[c]) * decay[c])
                h[c] = a * h[c] + norm * _sigmoid(i[c]) * x[c]
        for c in range(L):
            y_b[c] = _gelu(beside[c]) * h[c]


@jit(**KERNEL)
def _attend(heads, newest, length, entered, keys, values, scores, y):
    """Multi-query attention of one query over the ring of keys (B, window + 1, head_dim), written up to `newest`."""
    B, slots, size = keys.shape
    scale = ONE / sqrt(np.float32(size))
    for task in range(B * heads):
        b, head = task // heads, task % heads
        query, shares = entered[b, head * size : (head + 1) * size], scores[task]
        seen, top = min(length[b] + 1, slots), np.float32(-np.inf)
        for slot in range(slots):
            if (newest - slot if slot <= newest else newest - slot + slots) < seen:
                shares[slot] = _dot(keys[b, slot], query) * scale
                top = max(top, shares[slot])
            else:
                shares[slot] = -np.inf
        total = ZERO
        for slot in range(slots):
            shares[slot], _ = decay_and_norm(shares[slot] - top)  # a slot that is not seen: 1e-38
            total += shares[slot]
        out = y[b, head * size : (head + 1) * size]
        for d in range(size):
            out[d] = ZERO
        for slot in range(slots):
            share, value = shares[slot] / total, values[b, slot]
            for d in range(size):
                out[d] += share * value[d]


@jit(**KERNEL)
def _convolve(length, entered, taps, conv, branch):
    """Convolution of conv (B, W - 1, L), oldest first, and the second half of entered (B, 2 L), to branch (B, L).

    taps: W rows of weights and the bias, flat. conv takes in the newest input.
    """
    B, W, L = len(branch), conv.shape[1] + 1, branch.shape[1]
    weight, bias = taps[: W * L].reshape(W, L), taps[W * L :]
    for b in range(B):
        x, y, seen = entered[b, L:], branch[b], conv[b]
        for c in range(L):
            y[c] = bias[c] + weight[W - 1, c] * x[c]
        for tap in range(W - 1):
            for c in range(L):
                before = seen[tap, c] if length[b] else ZERO
                y[c] += weight[tap, c] * before
                if tap:
                    seen[tap - 1, c] = before
        for c in range(L):
            seen[W - 2, c] = x[c]


@jit(**KERNEL)
def _rotate(part, length, rates):
    """Rotary embedding of the first 2 len(rates) of part (head_dim,), in place."""
    half = rates.size
    for d in range(half):
        angle = np.float32(length) * rates[d]
        c, s, one, other = np.float32(cos(angle)), np.float32(sin(angle)), part[d], part[half + d]
        part[d], part[half + d] = one * c - other * s, other * c + one * s


@jit(**KERNEL)
def _step(table, weights, scales, vectors, sizes, rates, tokens, newest, length, state, scratch, logits):
    """Tokens (B,) -> logits (B, V), not soft-capped; the state is updated in place.

    sizes: D, heads, head_dim, MLP width. state: hidden, conv, keys and values of all layers. scratch: see `Stepper`.
    """
    D, heads, size, wide = sizes
    hidden, conv, keys, values = state
    x, normed, branch, entered, gates, mixed, back, gate, inner, scores = scratch
    B, inside = len(tokens), heads * size
    for b in range(B):
        row = weights[tokens[b] * D : (tokens[b] + 1) * D]
        scale = scales[tokens[b]] * np.float32(sqrt(D))
        for d in range(D):
            x[b, d] = np.float32(row[d]) * scale
    for layer in table:
        nth = layer.nth
        _norm(x, vectors[layer.v_mix_norm : layer.v_mix_norm + D], normed)
        columns = 2 * D if layer.recurrent else inside + 2 * size
        bias = vectors[layer.v_enter : layer.v_enter + columns]
        _product(weights[layer.m_enter :], scales[layer.s_enter :], bias, normed, entered)
        if layer.recurrent:
            _convolve(length, entered, vectors[layer.v_conv :][: (conv.shape[2] + 2) * D], conv[nth], branch)
            _recur(
                D // heads,
                weights[layer.m_gates :],
                scales[layer.s_gates :],
                vectors[layer.v_gates :],
                vectors[layer.v_decay : layer.v_decay + D],
                length,
                entered,
                branch,
                gates,
                hidden[nth],
                mixed,
            )
            out = mixed[:, :D]
        else:
            for b in range(B):
                for head in range(heads + 1):  # the queries and the key
                    _rotate(entered[b, head * size : (head + 1) * size], length[b], rates)
                for d in range(size):
                    keys[nth, b, newest, d] = entered[b, inside + d]
                    values[nth, b, newest, d] = entered[b, inside + size + d]
            _attend(heads, newest, length, entered, keys[nth], values[nth], scores, mixed)
            out = mixed[:, :inside]
        bias = vectors[layer.v_leave : layer.v_leave + D]
        _product(weights[layer.m_leave :], scales[layer.s_leave :], bias, out, back)
        for b in range(B):
            for d in range(D):
                x[b, d] += back[b, d]
        _norm(x, vectors[layer.v_mlp_norm : layer.v_mlp_norm + D], normed)
        bias = vectors[layer.v_up : layer.v_up + 2 * wide]
        _geglu(weights[layer.m_up :], scales[layer.s_up :], bias, normed, gate, inner)
        bias = vectors[layer.v_down : layer.v_down + D]
        _product(weights[layer.m_down :], scales[layer.s_down :], bias, inner, back)
        for b in range(B):
            for d in range(D):
                x[b, d] += back[b, d]
    _norm(x, vectors[:D], normed)
    _product(weights, scales, vectors[D : D + logits.shape[1]], normed, logits)


class Stepper:
    """Decoding of a batch of sequences: the newest token of each in, the logits of the next out.

    state: of the model that was packed, after the tokens before; it is copied.
    """

    def __init__(self, packed: Packed, state: GriffinState):
        config, B = packed.config, len(state.length)
        D, inside, wide = config.width, config.heads * config.head_dim, config.mlp_expansion * config.width
        self.packed = packed
        self._length = state.length.numpy().copy()
        recurrent = [layer for layer in state.layers if isinstance(layer, RecurrentState)]
        local = [layer for layer in state.layers if isinstance(layer, AttentionState)]
        self._hidden = _stack([layer.hidden for layer in recurrent], (B, D))
        self._conv = _stack([layer.conv for layer in recurrent], (B, config.conv_width - 1, D))
        # A ring buffer of window + 1 keys, those that a query attends to
        ring = (B, config.window, config.head_dim)
        self._keys, self._values = (
            np.pad(_stack([getattr(layer, part) for layer in local], ring), ((0, 0), (0, 0), (0, 1), (0, 0)))
            for part in ("keys", "values")
        )
        self._newest = config.window - 1  # the slot of the newest key
        self._sizes = (D, config.heads, config.head_dim, wide)
        self._rates = rotation_rates(config.head_dim // 4).numpy() if config.rope else np.zeros(0, np.float32)
        shapes: tuple[tuple[int, ...], ...] = (
            *3 * [(B, D)],  # x, normed, branch
            (B, max(2 * D, inside + 2 * config.head_dim)),  # entered
            (B, 2, D),  # gates
            (B, max(D, inside)),  # mixed
            (B, D),  # back
            *2 * [(B, wide)],  # gate, inner
            (B * config.heads, config.window + 1),  # scores
        )
        self._scratch = tuple(np.zeros(shape, np.float32) for shape in shapes)
        self._logits = np.zeros((B, config.vocabulary), np.float32)
        self._begun = False

    def step(self, tokens: Tensor) -> Tensor:
        """(B,) int64 -> logits of the next token (B, V), soft-capped."""
        config = self.packed.config
        check_tokens(tokens[:, None], None, len(self._length), config.vocabulary)
        self._newest = (self._newest + 1) % (config.window + 1)
        state = self._hidden, self._conv, self._keys, self._values
        given = (self._sizes, self._rates, tokens.numpy(), self._newest, self._length)
        with nullcontext() if self._begun else compiling("the decode step"):
            _step(*self.packed[1:], *given, state, self._scratch, self._logits)
        self._begun = True
        self._length += 1
        return config.soft_cap * torch.tanh(torch.from_numpy(self._logits) / config.soft_cap)

    @property
    def state(self) -> GriffinState:
        """A copy, as `Griffin.forward` returns it."""
        window = self.packed.config.window
        order = (np.arange(window) + self._newest + 2) % (
            window + 1
        )  # oldest first, without the slot that is written next
        layers: list[AttentionState | RecurrentState] = []
        for recurrent, nth in self.packed.table[["recurrent", "nth"]].tolist():
            if recurrent:
                layers.append(
                    RecurrentState(*(torch.from_numpy(part[nth].copy()) for part in (self._conv, self._hidden)))
                )
            else:
                parts = (torch.from_numpy(part[nth][:, order]) for part in (self._keys, self._values))
                layers.append(AttentionState(*parts))
        return GriffinState(torch.from_numpy(self._length.copy()), tuple(layers))


def _stack(tensors: list[Tensor], shape: tuple[int, ...]) -> np.ndarray:
    """(layers, *shape) float32, also where there is no layer."""
    return np.stack([tensor.float().numpy() for tensor in tensors]) if tensors else np.zeros((0, *shape), np.float32)
