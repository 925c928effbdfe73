"""Models that no other engine here can run, written from their papers: weights, Hugging Face folder, float64 forward.

Pangu Pro MoE (Tang et al., arXiv 2505.21411). Nothing here knows how the library
computes; every function is the formula of the paper over whole sequences, without a cache.
"""

import json
import struct
from pathlib import Path

import numpy as np


class Weights:
    """Random matrices by their Hugging Face name; what is computed with is what the file holds."""

    def __init__(self, seed, bf16):
        self.rng, self.bf16, self.tensors = np.random.default_rng(seed), bf16, {}

    def _keep(self, name, values):
        values = values.astype(np.float32)
        if self.bf16:  # round to nearest even at bit 16
            bits = values.view(np.uint32)
            values = ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)
        self.tensors[name] = values
        return values.astype(np.float64)

    def matrix(self, name, *shape, gain=1.0):
        return self._keep(name, self.rng.standard_normal(shape) * gain / np.sqrt(shape[-1]))

    def vector(self, name, *shape, around=0.0, spread=0.2):
        return self._keep(name, around + spread * self.rng.standard_normal(shape))

    def norm(self, name, n):
        return self.vector(name, n, around=1.0)

    def save(self, folder, config):
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=1))
        header, data, at = {}, [], 0
        for name, values in self.tensors.items():
            raw = values.astype("<f4").tobytes()
            if self.bf16:
                raw = np.frombuffer(raw, "<u2")[1::2].tobytes()
            header[name] = {"dtype": "BF16" if self.bf16 else "F32", "shape": values.shape,
                            "data_offsets": [at, at + len(raw)]}
            data.append(raw)
            at += len(raw)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def rmsnorm(x, w, eps):
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w


def swiglu(x, gate, up, down):
    g = x @ gate.T
    return (g / (1 + np.exp(-g)) * (x @ up.T)) @ down.T


def rope(x, base):
    """x [n, heads, r] turned by its position: i and i + r / 2"""
    n, _, r = x.shape
    angle = np.arange(n)[:, None] * base ** (-np.arange(0, r, 2) / r)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = x[..., :r // 2], x[..., r // 2:]
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], axis=-1)


def attention(q, k, v, scale):
    """q, k [n, heads, d], v [n, heads, dv], causal -> [n, heads · dv]"""
    n = len(q)
    scores = np.einsum("ihd,jhd->hij", q, k) * scale
    scores[:, np.triu(np.ones((n, n), bool), 1)] = -np.inf
    return np.einsum("hij,jhd->ihd", softmax(scores), v).reshape(n, -1)


class Paper:
    """One tiny model. step(x) is a layer; ids and weights of its router land in self.routing."""

    def __init__(self, c, seed, bf16):
        self.c, self.w, self.routing = c, Weights(seed, bf16), []
        d, vocab = c["hidden_size"], c["vocab_size"]
        self.embed = self.w.matrix("model.embed_tokens.weight", vocab, d, gain=d ** 0.5)
        self.layers = [self.layer(f"model.layers.{i}.") for i in range(self.n_layers)]
        self.norm = self.w.norm("model.norm.weight", d)
        tied = c.get("tie_word_embeddings")
        self.head = self.embed if tied else self.w.matrix("lm_head.weight", vocab, d)

    def ffn(self, name, ff):
        d = self.c["hidden_size"]
        shapes = (("gate", ff, d), ("up", ff, d), ("down", d, ff))
        return [self.w.matrix(f"{name}.{which}_proj.weight", n, k) for which, n, k in shapes]

    def forward(self, ids):
        self.routing = []
        x = self.embed[ids]
        for layer in self.layers:
            x = self.step(x, layer)
        return rmsnorm(x, self.norm, self.c["rms_norm_eps"]) @ self.head.T

    def greedy(self, ids, n):
        ids = list(ids)
        for _ in range(n):
            ids.append(int(np.argmax(self.forward(ids)[-1])))
        return ids[-n:]


class Pangu(Paper):
    """Mixture of grouped experts (§2): scores are a softmax over all experts, every group gives its best
    K / M; each expert's weight is multiplied by a learned number; one shared expert; biases in attention."""

    def __init__(self, seed, bf16=False, **more):
        c = {"model_type": "PanguProMoE", "architectures": ["PanguProMoEForCausalLM"], "vocab_size": 96,
             "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
             "num_experts": 8, "num_experts_per_tok": 4, "moe_intermediate_size": 24,
             "shared_expert_intermediate_size": 40, "hidden_act": "silu", "rope_theta": 16000000.0,
             "rms_norm_eps": 1e-5, "max_position_embeddings": 256, "tie_word_embeddings": False,
             "torch_dtype": "bfloat16" if bf16 else "float32", **more}
        self.n_layers = c["num_hidden_layers"]
        super().__init__(c, seed, bf16)

    def layer(self, name):
        c, w, d = self.c, self.w, self.c["hidden_size"]
        head, n = d // c["num_attention_heads"], c["num_experts"]
        out = {"norm_in": w.norm(f"{name}input_layernorm.weight", d),
               "norm_post": w.norm(f"{name}post_attention_layernorm.weight", d)}
        rows = {"q": d, "k": c["num_key_value_heads"] * head, "v": c["num_key_value_heads"] * head, "o": d}
        for letter, size in rows.items():
            out[letter] = (w.matrix(f"{name}self_attn.{letter}_proj.weight", size, d),
                           w.vector(f"{name}self_attn.{letter}_proj.bias", size))
        out["gate"] = w.matrix(f"{name}mlp.gate.weight", n, d, gain=2.0)
        out["scale"] = w.vector(f"{name}mlp.router_scale", 1, n, around=1.5)[0]
        out["experts"] = [self.ffn(f"{name}mlp.experts.{e}", c["moe_intermediate_size"]) for e in range(n)]
        shared = c["shared_expert_intermediate_size"]
        out["shared"] = self.ffn(f"{name}mlp.shared_expert", shared) if shared else None
        return out

    def attend(self, x, w):
        c, n = self.c, len(x)
        heads, kv_heads = c["num_attention_heads"], c["num_key_value_heads"]
        head = c["hidden_size"] // heads
        q, k, v = ((x @ w[letter][0].T + w[letter][1]).reshape(n, -1, head) for letter in "qkv")
        q, k = (rope(t, c["rope_theta"]) for t in (q, k))
        k, v = (np.repeat(t, heads // kv_heads, axis=1) for t in (k, v))
        return attention(q, k, v, head ** -0.5) @ w["o"][0].T + w["o"][1]

    def moe(self, x, layer):
        c, y = self.c, np.zeros_like(x)
        k, n = c["num_experts_per_tok"], c["num_experts"]
        groups = c.get("num_expert_groups", k)
        scores = softmax(x @ layer["gate"].T)
        grouped = scores.reshape(len(x), groups, n // groups)
        best = np.argsort(-grouped, axis=-1, kind="stable")[..., :k // groups]
        chosen = (best + np.arange(groups)[:, None] * (n // groups)).reshape(len(x), k)
        chosen = np.take_along_axis(chosen, np.argsort(-np.take_along_axis(scores, chosen, 1), axis=1), 1)
        weight = np.take_along_axis(scores, chosen, axis=-1) * layer["scale"][chosen]
        self.routing.append((chosen, weight))
        for t in range(len(x)):
            for e, g in zip(chosen[t], weight[t]):
                y[t] += g * swiglu(x[t], *layer["experts"][e])
        return y + swiglu(x, *layer["shared"]) if layer["shared"] else y

    def step(self, x, layer):
        eps = self.c["rms_norm_eps"]
        x = x + self.attend(rmsnorm(x, layer["norm_in"], eps), layer)
        return x + self.moe(rmsnorm(x, layer["norm_post"], eps), layer)
