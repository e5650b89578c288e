"""A decode step of Griffin on the CPU for little more than reading the weights once.

At one token a time a matrix product costs what reading its weights does; calls of operators and temporary tensors come
on top. Here a step is one numba function over the arrays of `lab.language.packed`, on one thread: it has 46 matrices of
some 20 us each, and a second thread, to be waited for at each, saved 10 % of a story.
"""

from __future__ import annotations

from contextlib import nullcontext
from math import cos, sin, sqrt
from threading import Thread
from typing import Any

import numpy as np
import torch
from numba import njit, typeof, types
from numba.extending import overload
from torch import Tensor

from lab.language import floats, integers
from lab.language.fused import gelu, sigmoid
from lab.language.griffin import GriffinState
from lab.language.integers import LANES, ROWS
from lab.language.layers import AttentionState, RecurrentState
from lab.language.packed import Packed, stacked
from lab.language.tokens import check_tokens
from lab.nn.rotary import rotation_rates
from lab.recurrence.compiled import KERNEL, SUMS, compiling, jit
from lab.recurrence.cpu import ONE, POWER, TWO, ZERO, decay_and_norm

EPS = np.float32(1e-6)


@njit(inline="always")
def _new(rows, columns):
    return np.empty((rows, columns), np.float32)


@jit(**SUMS)
def _dot(row, x):
    total = ZERO
    for k in range(x.size):
        total += np.float32(row[k]) * x[k]
    return total


@jit(**SUMS)
def _sum(x):
    total = ZERO
    for k in range(x.size):
        total += x[k]
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
def _by_numbers(weight, scale, bias, x, y, add):
    (N, block), (B, K) = weight.shape, x.shape
    for n in range(N):
        row, first = weight[n], 0 if block == K else n % K // block * block
        for b in range(B):
            found = _dot(row, x[b, first : first + block]) * scale[n] + bias[n]
            y[b, n] = y[b, n] + found if add else found


@jit(**SUMS)
def _by_floats(weight, scale, bias, x, y, add):
    (N, block), (B, K) = weight.shape, x.shape
    if block % floats.BLOCK:
        _by_numbers(weight, scale, bias, x, y, add)
        return
    for n in range(N):
        first = 0 if block == K else n % K // block * block
        for b in range(B):
            found = floats.dot(weight, n, x, b, first) * scale[n] + bias[n]
            y[b, n] = y[b, n] + found if add else found


def _product(matrices, nth, x, y, add):
    """y (B, N) = W x + bias for x (B, K), or y + W x + bias to add.

    W is (N, K), or block-diagonal of rows (N, block), each of its blocks on its part of x.
    """


@overload(_product, jit_options=KERNEL)  # type: ignore[arg-type]
def _product_of(matrices, nth, x, y, add):
    def by_floats(matrices, nth, x, y, add):
        _by_floats(matrices.weight[nth], matrices.scale[nth], matrices.bias[nth], x, y, add)

    def by_integers(matrices, nth, x, y, add):
        weight, scale, bias = matrices.weight[nth], matrices.scale[nth], matrices.bias[nth]
        if weight.shape[0] % ROWS == 0 and weight.shape[1] % LANES == 0:
            integers.product(weight, scale, bias, x, y, add)
        else:
            _by_numbers(weight, scale, bias, x, y, add)

    def by_numbers(matrices, nth, x, y, add):
        _by_numbers(matrices.weight[nth], matrices.scale[nth], matrices.bias[nth], x, y, add)

    if matrices[0].dtype == types.float32:
        return by_floats
    return by_integers if integers.has_vnni() else by_numbers


@jit(**KERNEL)
def _convolve(length, entered, taps, conv, branch):
    """Convolution of conv (B, W - 1, L), oldest first, and the second half of entered (B, 2 L), to branch (B, L).

    taps (W + 1, L): the weights and the bias. conv takes in the newest input.
    """
    L, W = branch.shape[1], conv.shape[1] + 1
    for b in range(len(branch)):
        x, y, seen = entered[b, L:], branch[b], conv[b]
        for c in range(L):
            y[c] = taps[W, c] + taps[W - 1, c] * x[c]
        for tap in range(W - 1):
            for c in range(L):
                before = seen[tap, c] if length[b] else ZERO
                y[c] += taps[tap, c] * before
                if tap:
                    seen[tap - 1, c] = before
        for c in range(L):
            seen[W - 2, c] = x[c]


@jit(**KERNEL)
def _recur(length, gates, decay, entered, branch, hidden, y):
    """RG-LRU of branch (B, L), its gates (B, 2 L) not yet squashed, times the gelu branch, the first L of entered."""
    B, L = branch.shape
    for b in range(B):
        i, r, x, h, beside, y_b = gates[b, :L], gates[b, L:], branch[b], hidden[b], entered[b], y[b]
        if length[b] == 0:
            for c in range(L):
                h[c] = sigmoid(i[c]) * x[c]
        else:
            for c in range(L):
                a, norm = decay_and_norm(-POWER * sigmoid(r[c]) * decay[c])
                h[c] = a * h[c] + norm * sigmoid(i[c]) * x[c]
        for c in range(L):
            y_b[c] = gelu(beside[c]) * h[c]


@jit(**KERNEL)
def _gate(both, y):
    """gelu of the first half of both (B, 2 W), times the second, to y (B, W)."""
    W = y.shape[1]
    for b in range(len(y)):
        gate, value, y_b = both[b, :W], both[b, W:], y[b]
        for n in range(W):
            y_b[n] = gelu(gate[n]) * value[n]


@jit(**KERNEL)
def _rotate(part, length, rates):
    """Rotary embedding of the first 2 len(rates) of part (head_dim,), in place."""
    half = rates.size
    for d in range(half):
        angle = np.float32(length) * rates[d]
        c, s, one, other = np.float32(cos(angle)), np.float32(sin(angle)), part[d], part[half + d]
        part[d], part[half + d] = one * c - other * s, other * c + one * s


@jit(**KERNEL)
def _score(query, keys, scale, scores):
    """scores (slots,) of query (d,) with the first of keys (d, window). Slots lie beside each other, so that as many as
    a vector holds are scored at once, and none is summed over."""
    for slot in range(scores.size):
        scores[slot] = ZERO
    for d in range(query.size):
        q, row = query[d] * scale, keys[d]
        for slot in range(scores.size):
            scores[slot] += q * row[slot]


@jit(**KERNEL)
def _softmax(scores):
    """In place, not yet divided by the sum, which is returned."""
    top = scores[0]
    for slot in range(scores.size):
        top = max(top, scores[slot])
    for slot in range(scores.size):
        scores[slot], _ = decay_and_norm(scores[slot] - top)
    return _sum(scores)


@jit(**KERNEL)
def _attend(length, rates, qkv, keys, values, y):
    """Multi-query attention of one query to itself and to the ring buffer (B, head_dim, window), which takes it in.

    qkv (B, (H + 2) head_dim), y (B, H head_dim).
    """
    B, size, window = keys.shape
    shares, scale, inner = np.empty(window + 1, np.float32), ONE / sqrt(np.float32(size)), y.shape[1]
    for b in range(B):
        seen = min(length[b], window)
        key, value, before = qkv[b, inner : inner + size], qkv[b, inner + size :], shares[:seen]
        _rotate(key, length[b], rates)
        for first in range(0, inner, size):
            query, out = qkv[b, first : first + size], y[b, first : first + size]
            _rotate(query, length[b], rates)
            _score(query, keys[b], scale, before)
            shares[seen] = _dot(key, query) * scale
            total = _softmax(shares[: seen + 1])
            for d in range(size):
                out[d] = (_dot(values[b, d], before) + shares[seen] * value[d]) / total
        for d in range(size):
            keys[b, d, length[b] % window], values[b, d, length[b] % window] = key[d], value[d]


@jit(**KERNEL)
def _cap(logits, most):
    """most tanh(logits / most), (B, V), in place."""
    for b in range(len(logits)):
        row = logits[b]
        for v in range(row.size):
            row[v] = most * (TWO * sigmoid(TWO * row[v] / most) - ONE)


@jit(**KERNEL)
def _step(weights, heads, soft_cap, rates, tokens, length, state):
    """Tokens (B,) -> logits (B, V); the state is updated in place.

    weights: as `Packed`. state: hidden, conv, keys and values of all layers that have them.
    """
    recurrent, embedding, norm, norms, up, down, enter, taps, gates, decay, leave, qkv, out = weights
    hidden, conv, keys, values = state
    B, (_, V, D), wide, size = len(tokens), embedding.weight.shape, down.weight.shape[2], keys.shape[2]
    x, normed, branch, mixed = _new(B, D), _new(B, D), _new(B, D), _new(B, D)
    entered, gated, asked, attended = _new(B, 2 * D), _new(B, 2 * D), _new(B, (heads + 2) * size), _new(B, heads * size)
    both, inner, logits = _new(B, 2 * wide), _new(B, wide), _new(B, V)
    for b in range(B):
        row, scale = embedding.weight[0, tokens[b]], embedding.scale[0, tokens[b]] * np.float32(sqrt(D))
        for d in range(D):
            x[b, d] = np.float32(row[d]) * scale
    recurrences = attentions = 0
    for layer in range(len(recurrent)):
        _norm(x, norms[layer, 0], normed)
        if recurrent[layer]:
            nth = recurrences
            _product(enter, nth, normed, entered, False)
            _convolve(length, entered, taps[nth], conv[nth], branch)
            _product(gates, nth, branch, gated, False)
            _recur(length, gated, decay[nth], entered, branch, hidden[nth], mixed)
            _product(leave, nth, mixed, x, True)
            recurrences += 1
        else:
            nth = attentions
            _product(qkv, nth, normed, asked, False)
            _attend(length, rates, asked, keys[nth], values[nth], attended)
            _product(out, nth, attended, x, True)
            attentions += 1
        _norm(x, norms[layer, 1], normed)
        _product(up, layer, normed, both, False)
        _gate(both, inner)
        _product(down, layer, inner, x, True)
    _norm(x, norm, normed)
    _product(embedding, 0, normed, logits, False)
    _cap(logits, soft_cap)
    return logits


class Stepper:
    """Decoding of a batch of sequences: the newest token of each in, the logits of the next out.

    state: of the model that was packed, after the tokens before; it is copied.
    """

    def __init__(self, packed: Packed, state: GriffinState):
        config, B = packed.config, len(state.length)
        self.packed = packed
        self._length = state.length.numpy().copy()
        recurrent = [layer for layer in state.layers if isinstance(layer, RecurrentState)]
        local = [layer for layer in state.layers if isinstance(layer, AttentionState)]
        ring = (B, config.head_dim, config.window)
        self._state = (
            stacked([layer.hidden for layer in recurrent]),
            stacked([layer.conv for layer in recurrent]),
            stacked([layer.keys.mT.contiguous() for layer in local], ring),
            stacked([layer.values.mT.contiguous() for layer in local], ring),
        )
        self._rates = rotation_rates(config.head_dim // 4).numpy() if config.rope else np.zeros(0, np.float32)
        self._begun = False

    def step(self, tokens: Tensor) -> Tensor:
        """(B,) int64 -> logits of the next token (B, V), soft-capped."""
        check_tokens(tokens[:, None], None, len(self._length), self.packed.config.vocabulary)
        with nullcontext() if self._begun else compiling("the decode step"):
            logits = _step(*self._arguments(tokens.numpy()))
        self._begun = True
        self._length += 1
        return torch.from_numpy(logits)

    def _arguments(self, tokens: np.ndarray) -> tuple[Any, ...]:
        config = self.packed.config
        numbers = config.heads, np.float32(config.soft_cap)
        return self.packed[1:], *numbers, self._rates, tokens, self._length, self._state

    def compiler(self) -> Thread:
        """A thread, already started, that compiles the step or loads it from disk. A process waits for it to end: one
        that exits while LLVM is at work may crash."""
        arguments = self._arguments(np.zeros(len(self._length), np.int64))
        thread = Thread(target=_step.compile, args=(tuple(map(typeof, arguments)),))
        thread.start()
        return thread

    @property
    def state(self) -> GriffinState:
        """A copy, as `Griffin.forward` returns it."""
        hidden, conv, keys, values = ([torch.from_numpy(nth.copy()) for nth in part] for part in self._state)
        rings = ([nth.mT.contiguous() for nth in part] for part in (keys, values))
        recurrent, local = map(RecurrentState, conv, hidden), map(AttentionState, *rings)
        layers = (next(recurrent) if kind else next(local) for kind in self.packed.recurrent)
        return GriffinState(torch.from_numpy(self._length.copy()), tuple(layers))
