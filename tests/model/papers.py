"""Models that no other engine here can run, written from their papers: weights, Hugging Face folder, float64 forward.

LongCat-Flash (Meituan, arXiv 2509.01322) and Pangu Pro MoE (Tang et al., arXiv 2505.21411). Nothing here knows how the
library computes; every function is the formula of the paper over whole sequences, without a cache.
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


def rope(x, base, pairs):
    """x [n, heads, r] turned by its position; pairs: neighbours turn together, else i and i + r / 2"""
    n, _, r = x.shape
    angle = np.arange(n)[:, None] * base ** (-np.arange(0, r, 2) / r)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    a, b = (x[..., 0::2], x[..., 1::2]) if pairs else (x[..., :r // 2], x[..., r // 2:])
    a, b = a * cos - b * sin, a * sin + b * cos
    return np.stack([a, b], axis=-1).reshape(x.shape) if pairs else np.concatenate([a, b], axis=-1)


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


class LongCat(Paper):
    """Two attention and two dense blocks a layer, MoE beside the second half (shortcut-connected, §2.2); MLA with
    scale correction (§2.3.1); zero-computation experts, which return their input (§2.1)."""

    def __init__(self, seed, bf16=False, **more):
        c = {"model_type": "longcat_flash", "architectures": ["LongcatFlashForCausalLM"], "vocab_size": 96,
             "hidden_size": 32, "num_layers": 2, "num_attention_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 12,
             "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 10, "ffn_hidden_size": 40,
             "expert_ffn_hidden_size": 24, "n_routed_experts": 6, "zero_expert_num": 3, "zero_expert_type": "identity",
             "moe_topk": 3, "routed_scaling_factor": 2.0, "router_bias": False, "norm_topk_prob": False,
             "mla_scale_q_lora": True, "mla_scale_kv_lora": True, "attention_method": "MLA", "attention_bias": False,
             "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "max_position_embeddings": 256,
             "tie_word_embeddings": False, "torch_dtype": "bfloat16" if bf16 else "float32", **more}
        self.n_layers = c["num_layers"]
        super().__init__(c, seed, bf16)

    def attention_weights(self, name):
        c, w = self.c, self.w
        d, heads, rq, rkv = c["hidden_size"], c["num_attention_heads"], c["q_lora_rank"], c["kv_lora_rank"]
        nope, rot, v = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["v_head_dim"]
        return {"q_a": w.matrix(f"{name}.q_a_proj.weight", rq, d), "q_norm": w.norm(f"{name}.q_a_layernorm.weight", rq),
                "q_b": w.matrix(f"{name}.q_b_proj.weight", heads * (nope + rot), rq),
                "kv_a": w.matrix(f"{name}.kv_a_proj_with_mqa.weight", rkv + rot, d),
                "kv_norm": w.norm(f"{name}.kv_a_layernorm.weight", rkv),
                "kv_b": w.matrix(f"{name}.kv_b_proj.weight", heads * (nope + v), rkv),
                "o": w.matrix(f"{name}.o_proj.weight", d, heads * v)}

    def layer(self, name):
        c, w, d = self.c, self.w, self.c["hidden_size"]
        n = c["n_routed_experts"] + (c["zero_expert_num"] or 0)
        return {"attn": [self.attention_weights(f"{name}self_attn.{i}") for i in range(2)],
                "mlp": [self.ffn(f"{name}mlps.{i}", c["ffn_hidden_size"]) for i in range(2)],
                "norm_in": [w.norm(f"{name}input_layernorm.{i}.weight", d) for i in range(2)],
                "norm_post": [w.norm(f"{name}post_attention_layernorm.{i}.weight", d) for i in range(2)],
                "gate": w.matrix(f"{name}mlp.router.classifier.weight", n, d, gain=2.0),
                "bias": w.vector(f"{name}mlp.router.e_score_correction_bias", n, spread=0.1),
                "experts": [self.ffn(f"{name}mlp.experts.{e}", c["expert_ffn_hidden_size"])
                            for e in range(c["n_routed_experts"])]}

    def attend(self, x, w):
        c, n = self.c, len(x)
        d, heads, eps = c["hidden_size"], c["num_attention_heads"], c["rms_norm_eps"]
        nope, rot, rkv = c["qk_nope_head_dim"], c["qk_rope_head_dim"], c["kv_lora_rank"]
        alpha_q = np.sqrt(d / c["q_lora_rank"]) if c["mla_scale_q_lora"] else 1
        alpha_kv = np.sqrt(d / rkv) if c["mla_scale_kv_lora"] else 1
        q = (rmsnorm(x @ w["q_a"].T, w["q_norm"], eps) @ w["q_b"].T * alpha_q).reshape(n, heads, nope + rot)
        latent = x @ w["kv_a"].T
        kv = rmsnorm(latent[:, :rkv], w["kv_norm"], eps) * alpha_kv @ w["kv_b"].T
        kv = kv.reshape(n, heads, nope + c["v_head_dim"])
        k_rot = rope(latent[:, None, rkv:], c["rope_theta"], pairs=True)
        q = np.concatenate([q[..., :nope], rope(q[..., nope:], c["rope_theta"], pairs=True)], axis=-1)
        k = np.concatenate([kv[..., :nope], np.repeat(k_rot, heads, axis=1)], axis=-1)
        return attention(q, k, kv[..., nope:], (nope + rot) ** -0.5) @ w["o"].T

    def moe(self, x, layer):
        c, y = self.c, np.zeros_like(x)
        scores = softmax(x @ layer["gate"].T)
        chosen = np.argsort(-(scores + layer["bias"]), axis=-1, kind="stable")[:, :c["moe_topk"]]
        weight = np.take_along_axis(scores, chosen, axis=-1) * c["routed_scaling_factor"]
        self.routing.append((chosen, weight))
        for t in range(len(x)):
            for e, g in zip(chosen[t], weight[t]):
                y[t] += g * (swiglu(x[t], *layer["experts"][e]) if e < c["n_routed_experts"] else x[t])
        return y

    def step(self, x, layer):
        eps = self.c["rms_norm_eps"]
        x = x + self.attend(rmsnorm(x, layer["norm_in"][0], eps), layer["attn"][0])
        h = rmsnorm(x, layer["norm_post"][0], eps)
        shortcut = self.moe(h, layer)
        x = x + swiglu(h, *layer["mlp"][0])
        x = x + self.attend(rmsnorm(x, layer["norm_in"][1], eps), layer["attn"][1])
        return x + swiglu(rmsnorm(x, layer["norm_post"][1], eps), *layer["mlp"][1]) + shortcut


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
        q, k = (rope(t, c["rope_theta"], pairs=False) for t in (q, k))
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
