"""Hugging Face models as their classes in transformers (or their authors' own code) define them: weights, folder, float64
forward. Written from those definitions; nothing here knows how the library computes.
"""

import numpy as np

from papers import Weights, attention, rmsnorm, softmax, swiglu


def layernorm(x, w, b=0.0, eps=1e-5):
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps) * w + b


def rope(x, base):
    """x [n, heads, r] turned by its position: i and i + r / 2"""
    size = x.shape[-1]
    angle = np.arange(len(x))[:, None, None] * base ** (-np.arange(0, size, 2) / size)
    z = (x[..., : size // 2] + 1j * x[..., size // 2:]) * np.exp(1j * angle)
    return np.concatenate([z.real, z.imag], -1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def reglu(x, gate, up, down):
    return (np.maximum(x @ gate.T, 0) * (x @ up.T)) @ down.T


def best(scores, k):
    """Ids of the k largest of each row, falling."""
    return np.argsort(-scores, axis=-1, kind="stable")[:, :k]


def take(scores, ids):
    return np.take_along_axis(scores, ids, axis=-1)


class Model:
    """One tiny model: `step(x, layer)` is a layer; ids and weights of its router land in self.routing."""

    names = ("model.embed_tokens.weight", "model.norm", "lm_head")
    layer_name = "model.layers.{}."
    common = {"vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
              "num_key_value_heads": 2, "intermediate_size": 40, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
              "max_position_embeddings": 256, "hidden_act": "silu", "tie_word_embeddings": False}
    own = {}

    def __init__(self, seed, bf16=False, **more):
        self.c = {**self.common, **self.own, **more, "torch_dtype": "bfloat16" if bf16 else "float32"}
        self.w, self.routing = Weights(seed, bf16), []
        self.read_config(self.c)
        embed, norm, head = self.names
        self.embed = self.w.matrix(embed, self.vocab, self.d, gain=self.d ** 0.5)
        self.layers = [self.layer(self.layer_name.format(i), i) for i in range(self.n)]
        self.norm = self.w.norm(f"{norm}.weight", self.d)
        tied = self.c.get("tie_word_embeddings")
        self.head = self.embed if tied else self.w.matrix(f"{head}.weight", self.vocab, self.d)

    def read_config(self, c):
        self.vocab, self.d, self.n = c["vocab_size"], c["hidden_size"], c["num_hidden_layers"]
        self.heads, self.kv = c["num_attention_heads"], c["num_key_value_heads"]
        self.hd = c.get("head_dim", self.d // self.heads)

    def ffn(self, name, ff, ends=("gate_proj", "up_proj", "down_proj")):
        shapes = ((ff, self.d), (ff, self.d), (self.d, ff))
        return [self.w.matrix(f"{name}.{end}.weight", *shape) for end, shape in zip(ends, shapes)]

    def projections(self, name, bias=False):
        rows = {"q": (self.heads * self.hd, self.d), "k": (self.kv * self.hd, self.d),
                "v": (self.kv * self.hd, self.d), "o": (self.d, self.heads * self.hd)}
        out = {}
        for letter, shape in rows.items():
            out[letter] = self.w.matrix(f"{name}{letter}_proj.weight", *shape)
            out[letter + "_bias"] = self.w.vector(f"{name}{letter}_proj.bias", shape[0]) if bias else 0.0
        return out

    def turn(self, x):
        return rope(x, self.c["rope_theta"])

    def attend(self, x, w, turns=True):
        q, k, v = ((x @ w[a].T + w[a + "_bias"]).reshape(len(x), -1, self.hd) for a in "qkv")
        if "q_norm" in w:
            q, k = rmsnorm(q, w["q_norm"], self.c["rms_norm_eps"]), rmsnorm(k, w["k_norm"], self.c["rms_norm_eps"])
        if turns:
            q, k = self.turn(q), self.turn(k)
        k, v = (np.repeat(t, self.heads // self.kv, axis=1) for t in (k, v))
        return attention(q, k, v, self.hd ** -0.5) @ w["o"].T + w["o_bias"]

    def mix(self, x, ids, weights, experts, ffn=swiglu):
        self.routing.append((ids, weights))
        y = np.zeros_like(x)
        for t in range(len(x)):
            for e, g in zip(ids[t], weights[t]):
                y[t] += g * ffn(x[t], *experts[e])
        return y

    def last(self, x):
        return rmsnorm(x, self.norm, self.c["rms_norm_eps"]) @ self.head.T

    def forward(self, ids):
        self.routing = []
        x = self.embed[ids]
        for layer in self.layers:
            x = self.step(x, layer)
        return self.last(x)

    def greedy(self, ids, n):
        ids = list(ids)
        for _ in range(n):
            ids.append(int(np.argmax(self.forward(ids)[-1])))
        return ids[-n:]


class Phimoe(Model):
    """LayerNorm with a bias, SparseMixer, LongRoPE."""

    own = {"model_type": "phimoe", "architectures": ["PhimoeForCausalLM"], "num_local_experts": 6,
           "num_experts_per_tok": 2, "attention_bias": True, "lm_head_bias": True, "router_jitter_noise": 0.2,
           "sliding_window": 262144}

    def __init__(self, seed, bf16=False, **more):
        super().__init__(seed, bf16, **more)
        self.norm_bias = self.w.vector("model.norm.bias", self.d)
        self.head_bias = self.w.vector("lm_head.bias", self.vocab) if self.c["lm_head_bias"] else 0.0

    def layer(self, name, i):
        w, c = self.w, self.c
        moe = name + "block_sparse_moe."
        out = self.projections(name + "self_attn.", c["attention_bias"])
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[norm] = (w.norm(f"{name}{norm}.weight", self.d), w.vector(f"{name}{norm}.bias", self.d))
        out["gate"] = w.matrix(moe + "gate.weight", c["num_local_experts"], self.d)
        out["experts"] = [self.ffn(f"{moe}experts.{e}", c["intermediate_size"], ("w1", "w3", "w2"))
                          for e in range(c["num_local_experts"])]
        return out

    def turn(self, x):
        r = self.c.get("rope_scaling")
        if not r:
            return super().turn(x)
        n, _, size = x.shape
        which = "long" if n > r["original_max_position_embeddings"] else "short"
        inv = 1 / (np.array(r[which + "_factor"]) * self.c["rope_theta"] ** (np.arange(0, size, 2) / size))
        angle = np.arange(n)[:, None] * inv
        cos, sin = (f(np.concatenate([angle, angle], -1))[:, None] * r[which + "_mscale"] for f in (np.cos, np.sin))
        half = np.concatenate([-x[..., size // 2:], x[..., : size // 2]], -1)
        return x * cos + half * sin

    def sparse_mixer(self, scores):
        eps, at = self.c["router_jitter_noise"], np.arange(len(scores))
        left, ids, weights = scores.copy(), [], []
        for _ in range(2):
            top = left.max(axis=-1, keepdims=True)
            far = (top - scores) / np.maximum(np.abs(scores), top) > 2 * eps
            ids.append(left.argmax(axis=-1))
            weights.append(softmax(np.where(far, -np.inf, left))[at, ids[-1]])
            left[at, ids[-1]] = -np.inf
        return np.stack(ids, 1), np.stack(weights, 1)

    def step(self, x, w):
        eps = self.c["rms_norm_eps"]
        x = x + self.attend(layernorm(x, *w["input_layernorm"], eps), w)
        h = layernorm(x, *w["post_attention_layernorm"], eps)
        return x + self.mix(h, *self.sparse_mixer(h @ w["gate"].T), w["experts"])

    def last(self, x):
        return layernorm(x, self.norm, self.norm_bias, self.c["rms_norm_eps"]) @ self.head.T + self.head_bias


class Dots1(Model):
    """Norms of queries and keys, sigmoid routing with a selection bias, shared experts, leading dense layers."""

    own = {"model_type": "dots1", "architectures": ["Dots1ForCausalLM"], "num_key_value_heads": 4, "head_dim": 16,
           "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "n_shared_experts": 2,
           "first_k_dense_replace": 1, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_group": 1,
           "topk_group": 1, "max_window_layers": 3, "sliding_window": None}

    def layer(self, name, i):
        w, c, mlp = self.w, self.c, name + "mlp"
        out = self.projections(name + "self_attn.")
        for norm, size in (("self_attn.q_norm", self.hd), ("self_attn.k_norm", self.hd),
                           ("input_layernorm", self.d), ("post_attention_layernorm", self.d)):
            out[norm.split(".")[-1]] = w.norm(f"{name}{norm}.weight", size)
        if i < c["first_k_dense_replace"]:
            out["dense"] = self.ffn(mlp, c["intermediate_size"])
            return out
        n, ff = c["n_routed_experts"], c["moe_intermediate_size"]
        out["gate"] = w.matrix(mlp + ".gate.weight", n, self.d)
        out["bias"] = w.vector(mlp + ".gate.e_score_correction_bias", n)
        out["experts"] = [self.ffn(f"{mlp}.experts.{e}", ff) for e in range(n)]
        out["shared"] = self.ffn(mlp + ".shared_experts", ff * c["n_shared_experts"])
        return out

    def moe(self, x, w):
        c = self.c
        scores = sigmoid(x @ w["gate"].T)
        biased = scores + w["bias"]
        if c["n_group"] > 1:
            grouped = biased.reshape(len(x), c["n_group"], -1)
            rank = np.sort(grouped, axis=-1)[..., -2:].sum(-1)
            keep = np.zeros_like(rank, bool)
            np.put_along_axis(keep, best(rank, c["topk_group"]), True, 1)
            biased = np.where(np.repeat(keep, grouped.shape[-1], 1), biased, -np.inf)
        ids = best(biased, c["num_experts_per_tok"])
        weights = take(scores, ids)
        if c["norm_topk_prob"]:
            weights = weights / weights.sum(-1, keepdims=True)
        return self.mix(x, ids, weights * c["routed_scaling_factor"], w["experts"]) + swiglu(x, *w["shared"])

    def step(self, x, w):
        eps = self.c["rms_norm_eps"]
        x = x + self.attend(rmsnorm(x, w["input_layernorm"], eps), w)
        h = rmsnorm(x, w["post_attention_layernorm"], eps)
        return x + (swiglu(h, *w["dense"]) if "dense" in w else self.moe(h, w))


class Dbrx(Model):
    """One matrix for queries, keys and values, clipped; LayerNorm without bias; experts' matrices below each other."""

    names = ("transformer.wte.weight", "transformer.norm_f", "lm_head")
    layer_name = "transformer.blocks.{}."
    common = {}
    own = {"model_type": "dbrx", "architectures": ["DbrxForCausalLM"], "d_model": 48, "n_heads": 4, "n_layers": 3,
           "max_seq_len": 256, "vocab_size": 96, "tie_word_embeddings": False,
           "attn_config": {"kv_n_heads": 2, "clip_qkv": 0.9, "rope_theta": 500000.0},
           "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 6, "moe_top_k": 3, "moe_loss_weight": 0.05,
                          "moe_jitter_eps": 0.01, "ffn_act_fn": {"name": "silu"}, "moe_normalize_expert_weights": 1}}

    def read_config(self, c):
        self.vocab, self.d, self.n = c["vocab_size"], c["d_model"], c["n_layers"]
        self.heads, self.kv = c["n_heads"], c["attn_config"]["kv_n_heads"]
        self.hd, self.a, self.f = self.d // self.heads, c["attn_config"], c["ffn_config"]

    def layer(self, name, i):
        w, attn, n, ff = self.w, name + "norm_attn_norm.", self.f["moe_num_experts"], self.f["ffn_hidden_size"]
        return {"norm_1": w.norm(attn + "norm_1.weight", self.d), "norm_2": w.norm(attn + "norm_2.weight", self.d),
                "qkv": w.matrix(attn + "attn.Wqkv.weight", self.d + 2 * self.kv * self.hd, self.d),
                "o": w.matrix(attn + "attn.out_proj.weight", self.d, self.d),
                "gate": w.matrix(name + "ffn.router.layer.weight", n, self.d),
                **{x: w.matrix(f"{name}ffn.experts.mlp.{x}", n * ff, self.d) for x in ("w1", "v1", "w2")}}

    def step(self, x, w):
        qkv, clip, n = layernorm(x, w["norm_1"]) @ w["qkv"].T, self.a["clip_qkv"], self.f["moe_num_experts"]
        if clip is not None:
            qkv = np.clip(qkv, -clip, clip)
        q, k, v = (t.reshape(len(x), -1, self.hd)
                   for t in np.split(qkv, [self.d, self.d + self.kv * self.hd], axis=-1))
        q, k = (rope(t, self.a["rope_theta"]) for t in (q, k))
        k, v = (np.repeat(t, self.heads // self.kv, axis=1) for t in (k, v))
        x = x + attention(q, k, v, self.hd ** -0.5) @ w["o"].T
        h = layernorm(x, w["norm_2"])
        scores = softmax(h @ w["gate"].T)
        ids = best(scores, self.f["moe_top_k"])
        weights = take(scores, ids)
        w1, v1, w2 = (w[name].reshape(n, -1, self.d) for name in ("w1", "v1", "w2"))
        experts = [(w1[e], v1[e], w2[e].T) for e in range(n)]
        return x + self.mix(h, ids, weights / weights.sum(-1, keepdims=True), experts)

    def last(self, x):
        return layernorm(x, self.norm) @ self.head.T


class Arctic(Model):
    """A dense part as wide as the model beside experts that read the layer's input."""

    own = {"model_type": "arctic", "architectures": ["ArcticForCausalLM"], "num_local_experts": 6,
           "num_experts_per_tok": 2, "moe_layer_frequency": 1, "parallel_attn_mlp_res": True, "sliding_window": None,
           "attention_bias": False, "use_residual": True}

    def layer(self, name, i):
        w, c, moe, w123 = self.w, self.c, name + "block_sparse_moe.", ("w1", "w3", "w2")
        out = self.projections(name + "self_attn.")
        for norm in ("input_layernorm", "post_attention_layernorm", "residual_layernorm"):
            out[norm] = w.norm(f"{name}{norm}.weight", self.d)
        out["residual"] = self.ffn(name + "residual_mlp", self.d, w123)
        out["gate"] = w.matrix(moe + "gate.weight", c["num_local_experts"], self.d)
        out["experts"] = [self.ffn(f"{moe}experts.{e}", c["intermediate_size"], w123)
                          for e in range(c["num_local_experts"])]
        return out

    def step(self, x, w):
        eps = self.c["rms_norm_eps"]
        after = x + self.attend(rmsnorm(x, w["input_layernorm"], eps), w)
        dense = after + swiglu(rmsnorm(after, w["residual_layernorm"], eps), *w["residual"])
        h = rmsnorm(x, w["post_attention_layernorm"], eps)
        scores = softmax(h @ w["gate"].T)
        ids = best(scores, self.c["num_experts_per_tok"])
        weights = take(scores, ids)
        return dense + self.mix(h, ids, weights / weights.sum(-1, keepdims=True), w["experts"])


class SmallThinker(Model):
    """Gates read the layer's input; ReLU-gated experts; layers that see everything may have no rotary embedding."""

    own = {"model_type": "smallthinker", "architectures": ["SmallThinkerForCausalLM"], "num_hidden_layers": 5,
           "hidden_act": "relu", "head_dim": 16, "moe_num_primary_experts": 6, "moe_num_active_primary_experts": 2,
           "moe_ffn_hidden_size": 24, "moe_enable_early_router": True, "moe_enable_secondary_experts": False,
           "use_qk_norm": False, "sliding_window_size": 4096, "sliding_window_layout": [0] * 5, "rope_layout": [1] * 5,
           "moe_primary_router_apply_softmax": False}

    def layer(self, name, i):
        w, c, moe = self.w, self.c, name + "block_sparse_moe."
        out = self.projections(name + "self_attn.")
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[norm] = w.norm(f"{name}{norm}.weight", self.d)
        out["turns"] = bool(c["rope_layout"][i])
        out["gate"] = w.matrix(moe + "primary_router.weight", c["moe_num_primary_experts"], self.d)
        out["experts"] = [self.ffn(f"{moe}experts.{e}", c["moe_ffn_hidden_size"], ("gate", "up", "down"))
                          for e in range(c["moe_num_primary_experts"])]
        return out

    def step(self, x, w):
        eps, logits = self.c["rms_norm_eps"], x @ w["gate"].T
        ids = best(logits, self.c["moe_num_active_primary_experts"])
        if self.c["moe_primary_router_apply_softmax"]:
            weights = softmax(take(logits, ids))
        else:
            weights = sigmoid(take(logits, ids))
            weights = weights / weights.sum(-1, keepdims=True)
        x = x + self.attend(rmsnorm(x, w["input_layernorm"], eps), w, w["turns"])
        return x + self.mix(rmsnorm(x, w["post_attention_layernorm"], eps), ids, weights, w["experts"], reglu)


class DeepseekV2(Model):
    """Latent attention whose rotated part turns in neighbours, YaRN with two mscales, groups ranked by their best."""

    own = {"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"], "num_key_value_heads": 4,
           "q_lora_rank": 20, "kv_lora_rank": 24, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10,
           "n_routed_experts": 12, "num_experts_per_tok": 3, "moe_intermediate_size": 16, "n_shared_experts": 1,
           "first_k_dense_replace": 1, "norm_topk_prob": False, "routed_scaling_factor": 4.0, "n_group": 4,
           "topk_group": 2, "topk_method": "group_limited_greedy", "scoring_func": "softmax"}

    def layer(self, name, i):
        w, c, mlp, attn = self.w, self.c, name + "mlp", name + "self_attn."
        qk = c["qk_nope_head_dim"] + c["qk_rope_head_dim"]
        out = {"q_a": w.matrix(attn + "q_a_proj.weight", c["q_lora_rank"], self.d),
               "q_norm": w.norm(attn + "q_a_layernorm.weight", c["q_lora_rank"]),
               "q_b": w.matrix(attn + "q_b_proj.weight", self.heads * qk, c["q_lora_rank"]),
               "kv_a": w.matrix(attn + "kv_a_proj_with_mqa.weight", c["kv_lora_rank"] + c["qk_rope_head_dim"], self.d),
               "kv_norm": w.norm(attn + "kv_a_layernorm.weight", c["kv_lora_rank"]),
               "kv_b": w.matrix(attn + "kv_b_proj.weight", self.heads * (c["qk_nope_head_dim"] + c["v_head_dim"]),
                                c["kv_lora_rank"]),
               "o": w.matrix(attn + "o_proj.weight", self.d, self.heads * c["v_head_dim"])}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[norm] = w.norm(f"{name}{norm}.weight", self.d)
        if i < c["first_k_dense_replace"]:
            out["dense"] = self.ffn(mlp, c["intermediate_size"])
            return out
        n, ff = c["n_routed_experts"], c["moe_intermediate_size"]
        out["gate"] = w.matrix(mlp + ".gate.weight", n, self.d, gain=2.0)
        out["experts"] = [self.ffn(f"{mlp}.experts.{e}", ff) for e in range(n)]
        out["shared"] = self.ffn(mlp + ".shared_experts", ff * c["n_shared_experts"])
        return out

    def scaling(self):
        """inverse frequencies, factor of cos and sin, factor of scores"""
        n, base, r = self.c["qk_rope_head_dim"], self.c["rope_theta"], self.c.get("rope_scaling")
        inv = base ** (-np.arange(0, n, 2) / n)
        if not r:
            return inv, 1.0, 1.0
        factor = r["factor"]

        def pair(turns):
            return n * np.log(r["original_max_position_embeddings"] / (turns * 2 * np.pi)) / (2 * np.log(base))

        def magnitude(m):
            return 0.1 * m * np.log(factor) + 1

        low, high = max(np.floor(pair(r["beta_fast"])), 0), min(np.ceil(pair(r["beta_slow"])), n - 1)
        ramp = np.clip((np.arange(n // 2) - low) / max(high - low, 0.001), 0, 1)
        of_all = magnitude(r["mscale_all_dim"])
        return inv / factor * ramp + inv * (1 - ramp), magnitude(r["mscale"]) / of_all, of_all ** 2

    def attend_latent(self, x, w):
        c, n, h, eps = self.c, len(x), self.heads, self.c["rms_norm_eps"]
        nope, rank = c["qk_nope_head_dim"], c["kv_lora_rank"]
        inv, turned, scored = self.scaling()
        turn = turned * np.exp(1j * np.arange(n)[:, None, None] * inv)

        def rotate(t):
            z = (t[..., 0::2] + 1j * t[..., 1::2]) * turn
            return np.stack([z.real, z.imag], -1).reshape(t.shape)

        q = (rmsnorm(x @ w["q_a"].T, w["q_norm"], eps) @ w["q_b"].T).reshape(n, h, -1)
        latent = x @ w["kv_a"].T
        kv = (rmsnorm(latent[:, :rank], w["kv_norm"], eps) @ w["kv_b"].T).reshape(n, h, -1)
        shared = np.repeat(rotate(latent[:, None, rank:]), h, axis=1)
        q = np.concatenate([q[..., :nope], rotate(q[..., nope:])], -1)
        k = np.concatenate([kv[..., :nope], shared], -1)
        return attention(q, k, kv[..., nope:], q.shape[-1] ** -0.5 * scored) @ w["o"].T

    def moe(self, x, w):
        c = self.c
        scores = softmax(x @ w["gate"].T)
        kept = scores
        if c["topk_method"] == "group_limited_greedy":
            grouped = scores.reshape(len(x), c["n_group"], -1)
            keep = np.zeros(grouped.shape[:2], bool)
            np.put_along_axis(keep, best(grouped.max(-1), c["topk_group"]), True, 1)
            kept = np.where(np.repeat(keep, grouped.shape[-1], 1), scores, 0.0)
        ids = best(kept, c["num_experts_per_tok"])
        weights = take(scores, ids) * c["routed_scaling_factor"]
        return self.mix(x, ids, weights, w["experts"]) + swiglu(x, *w["shared"])

    def step(self, x, w):
        eps = self.c["rms_norm_eps"]
        x = x + self.attend_latent(rmsnorm(x, w["input_layernorm"], eps), w)
        h = rmsnorm(x, w["post_attention_layernorm"], eps)
        return x + (swiglu(h, *w["dense"]) if "dense" in w else self.moe(h, w))


def longrope(original, short, long, size=12, seed=5):
    rng = np.random.default_rng(seed)
    factors = [np.round(rng.uniform(1, most, size // 2), 3).tolist() for most in (1.5, 6)]
    return {"type": "longrope", "short_factor": factors[0], "long_factor": factors[1], "short_mscale": short,
            "long_mscale": long, "original_max_position_embeddings": original}


DBRX, NO_WINDOW = Dbrx.own, {"attn_config": {"kv_n_heads": 4, "clip_qkv": None, "rope_theta": 10000.0}}
YARN = {"type": "yarn", "factor": 8.0, "beta_fast": 32, "beta_slow": 1, "original_max_position_embeddings": 32}
CASES = (
    (Phimoe, {}),
    (Phimoe, {"router_jitter_noise": 0.01, "attention_bias": False, "lm_head_bias": False, "num_local_experts": 4}),
    (Phimoe, {"rope_scaling": longrope(64, 1.2, 1.2)}),
    (Phimoe, {"rope_scaling": longrope(16, 1.1, 1.3), "num_local_experts": 16, "router_jitter_noise": 0.1}),
    (Dots1, {}),
    (Dots1, {"n_group": 4, "topk_group": 2, "first_k_dense_replace": 0, "norm_topk_prob": False, "head_dim": 12}),
    (Dbrx, {}),
    (Dbrx, {**NO_WINDOW, "ffn_config": {**DBRX["ffn_config"], "moe_num_experts": 4, "moe_top_k": 1}}),
    (Arctic, {}),
    (Arctic, {"num_experts_per_tok": 1, "num_local_experts": 3, "num_key_value_heads": 4}),
    (SmallThinker, {}),
    (SmallThinker, {"sliding_window_layout": [0, 1, 1, 1, 0], "rope_layout": [0, 1, 1, 1, 0],
                    "moe_primary_router_apply_softmax": True, "tie_word_embeddings": True}),
    (DeepseekV2, {}),
    (DeepseekV2, {"n_group": 6, "topk_group": 3, "rope_scaling": {**YARN, "mscale": 0.7, "mscale_all_dim": 1.0}}),
    (DeepseekV2, {"topk_method": "greedy", "rope_scaling": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}),
)

FFN, YARN_V2 = DBRX["ffn_config"], {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}
# What a config may not say, and a piece of the error.
REFUSED = (
    (Phimoe, {"num_experts_per_tok": 3}, "num_experts_per_tok"), (Phimoe, {"sliding_window": 100}, "sliding_window"),
    (Phimoe, {"router_jitter_noise": 0.0}, "threshold"), (Phimoe, {"hidden_act": "gelu"}, "hidden_act"),
    (Phimoe, {"rope_scaling": longrope(64, 1.2, 1.2, size=10)}, "short_factor"),
    (Phimoe, {"rope_scaling": {**longrope(64, 1.2, 1.2), "long_mscale": None}}, "long_mscale"),
    (Phimoe, {"rope_scaling": {**longrope(64, 1.2, 1.2), "long_factor": [0] * 6}}, "long_factor"),
    (Dots1, {"sliding_window": 64, "max_window_layers": 1}, "slide"), (Dots1, {"attention_bias": True}, "attention_bias"),
    (Dots1, {"sliding_window": 64, "layer_types": ["sliding_attention"] * 3}, "slide"),
    (Dbrx, {"ffn_config": {**FFN, "moe_normalize_expert_weights": None}}, "moe_normalize_expert_weights"),
    (Dbrx, {"ffn_config": {**FFN, "moe_normalize_expert_weights": 2}}, "moe_normalize_expert_weights"),
    (Dbrx, {"ffn_config": {**FFN, "ffn_act_fn": {"name": "gelu"}}}, "ffn_act_fn"),
    (Dbrx, {"ffn_config": {**FFN, "moe_num_experts": 7}}, "w1"), (Dbrx, {"ffn_config": 3}, "ffn_config"),
    (Dbrx, {"attn_config": {"kv_n_heads": "2"}}, "kv_n_heads"),
    (Arctic, {"moe_layer_frequency": 2}, "moe_layer_frequency"), (Arctic, {"moe_layer_frequency": None}, "moe_layer_freq"),
    (Arctic, {"parallel_attn_mlp_res": False}, "parallel_attn_mlp_res"), (Arctic, {"sliding_window": 9}, "sliding_window"),
    (SmallThinker, {"rope_layout": [1, 1, 1, 1, 0]}, "rope_layout"), (SmallThinker, {"rope_layout": [1]}, "rope_layout"),
    (SmallThinker, {"rope_layout": [0, 1, 1, 1, 0]}, "sliding_window_layout"),
    (SmallThinker, {"use_qk_norm": True}, "use_qk_norm"),
    (SmallThinker, {"moe_enable_secondary_experts": True}, "moe_enable_secondary_experts"),
    (DeepseekV2, {"topk_method": "random"}, "topk_method"),
    (DeepseekV2, {"rope_scaling": {**YARN_V2, "attention_factor": 2.0}}, "attention_factor"),
)
