"""Golden GGUF files written as the Hugging Face directories that they would have come from, by rules written here and not
the library's tables: the directory must compute the golden logits, routing included.

    test_hf_twins.py CADRE GOLDEN
"""

import json
import os
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    import numpy as np
except ImportError:
    sys.exit(77)  # skipped

CADRE = GOLDEN = ""
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


class Gguf:
    """Keys and tensors (f32, or raw MXFP4 blocks) of a file."""

    def __init__(self, path):
        with open(path, "rb") as f:
            self.raw = f.read()
        self.at = 8
        n_tensors, n_keys = self.take("Q"), self.take("Q")
        self.keys, infos, self.t = {}, [], {}
        for _ in range(n_keys):
            name = self.text()
            self.keys[name] = self.value(self.take("I"))
        for _ in range(n_tensors):
            name, n = self.text(), self.take("I")
            dims = [self.take("Q") for _ in range(n)]
            infos.append((name, dims[::-1], self.take("I"), self.take("Q")))
        base = -(-self.at // 32) * 32
        for name, shape, kind, offset in infos:
            n = int(np.prod(shape))
            if kind == 0:
                self.t[name] = np.frombuffer(self.raw, "<f4", n, base + offset).reshape(shape)
            else:
                self.t[name] = np.frombuffer(self.raw, "u1", n // 32 * 17, base + offset).reshape(*shape[:-1], -1, 17)

    def take(self, kind):
        (v,) = struct.unpack_from("<" + kind, self.raw, self.at)
        self.at += struct.calcsize("<" + kind)
        return v

    def text(self):
        n = self.take("Q")
        self.at += n
        return self.raw[self.at - n : self.at].decode("utf-8", "replace")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            element, n = self.take("I"), self.take("Q")
            return [self.value(element) for _ in range(n)]
        return self.take(SCALARS[kind])

    def key(self, name, default=None):
        return self.keys.get(self.keys["general.architecture"] + "." + name, default)


def halves(w, heads):
    """Rows of each head from neighbouring pairs to halves."""
    n = w.shape[0] // heads
    return w.reshape(heads, n // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def save(folder, config, tensors):
    header, at, data = {}, 0, []
    for name, x in tensors.items():
        x = np.ascontiguousarray(x)
        kind = {"float32": "F32", "uint8": "U8"}[x.dtype.name]
        header[name] = {"dtype": kind, "shape": list(x.shape), "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
        data.append(x.tobytes())
    os.makedirs(folder)
    text = json.dumps(header).encode()
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(data))
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f)


def base_config(g, model_type):
    c = {"model_type": model_type, "hidden_act": "silu", "hidden_size": g.key("embedding_length"),
         "num_hidden_layers": g.key("block_count"), "num_attention_heads": g.key("attention.head_count"),
         "num_key_value_heads": g.key("attention.head_count_kv"), "intermediate_size": g.key("feed_forward_length"),
         "vocab_size": g.t["token_embd.weight"].shape[0], "max_position_embeddings": g.key("context_length"),
         "rms_norm_eps": g.key("attention.layer_norm_rms_epsilon"), "rope_theta": g.key("rope.freq_base"),
         "tie_word_embeddings": "output.weight" not in g.t}
    if g.key("attention.key_length") and not g.key("attention.kv_lora_rank"):
        c["head_dim"] = g.key("attention.key_length")
    return c


def experts(out, prefix, stack, end):
    for e in range(stack.shape[0]):
        out[f"{prefix}.{e}.{end}"] = stack[e]


def common(g, out, layer, mlp="mlp", names=("gate_proj", "up_proj", "down_proj"), norm="ffn_norm", attention=True):
    """What most families have in a layer."""
    b, l = f"blk.{layer}.", f"model.layers.{layer}."
    out[l + "input_layernorm.weight"] = g.t[b + "attn_norm.weight"]
    out[l + "post_attention_layernorm.weight"] = g.t[b + norm + ".weight"]
    if attention:
        for ours, theirs in (("attn_q", "q_proj"), ("attn_k", "k_proj"), ("attn_v", "v_proj"), ("attn_output", "o_proj"),
                             ("attn_q_norm", "q_norm"), ("attn_k_norm", "k_norm")):
            for end in (".weight", ".bias"):
                if b + ours + end in g.t:
                    out[f"{l}self_attn.{theirs}{end}"] = g.t[b + ours + end]
    for ours, theirs in zip(("gate", "up", "down"), names):
        if f"{b}ffn_{ours}.weight" in g.t:
            out[f"{l}{mlp}.{theirs}.weight"] = g.t[f"{b}ffn_{ours}.weight"]
        if f"{b}ffn_{ours}_exps.weight" in g.t and names:
            experts(out, f"{l}{mlp}.experts", g.t[f"{b}ffn_{ours}_exps.weight"], theirs + ".weight")
        if f"{b}ffn_{ours}_shexp.weight" in g.t:
            out[f"{l}{mlp}.shared_experts.{theirs}.weight"] = g.t[f"{b}ffn_{ours}_shexp.weight"]
    if b + "ffn_gate_inp.weight" in g.t:
        out[f"{l}{mlp}.gate.weight"] = g.t[b + "ffn_gate_inp.weight"]
    return b, l


def ends(g, out, embedding="model.embed_tokens.weight"):
    out[embedding] = g.t["token_embd.weight"]
    out["model.norm.weight"] = g.t["output_norm.weight"]
    if "output.weight" in g.t:
        out["lm_head.weight"] = g.t["output.weight"]


def rename(out, before, after):
    for name in [n for n in out if before in n]:
        out[name.replace(before, after)] = out.pop(name)


def deepseek_v3(g):
    c = base_config(g, "deepseek_v3")
    rope, mla_k, v = g.key("rope.dimension_count"), g.key("attention.key_length_mla"), g.key("attention.value_length_mla")
    heads, scaling = c["num_attention_heads"], g.key("rope.scaling.factor")
    c.update(num_key_value_heads=heads, kv_lora_rank=g.key("attention.kv_lora_rank"), qk_rope_head_dim=rope,
             q_lora_rank=g.key("attention.q_lora_rank"), qk_nope_head_dim=mla_k - rope, v_head_dim=v,
             n_routed_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             moe_intermediate_size=g.key("expert_feed_forward_length"), n_shared_experts=g.key("expert_shared_count"),
             first_k_dense_replace=g.key("leading_dense_block_count"), norm_topk_prob=g.key("expert_weights_norm"),
             routed_scaling_factor=g.key("expert_weights_scale"), n_group=g.key("expert_group_count"),
             topk_group=g.key("expert_group_used_count"), scoring_func="sigmoid", topk_method="noaux_tc",
             rope_scaling={"type": "yarn", "factor": scaling, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                           "mscale_all_dim": 1.0,
                           "original_max_position_embeddings": g.key("rope.scaling.original_context_length")})
    out = {}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i, attention=False)
        a = l + "self_attn."
        for ours, theirs in (("q_a", "q_a_proj"), ("q_a_norm", "q_a_layernorm"), ("q_b", "q_b_proj"),
                             ("kv_a_mqa", "kv_a_proj_with_mqa"), ("kv_a_norm", "kv_a_layernorm"),
                             ("output", "o_proj")):
            out[f"{a}{theirs}.weight"] = g.t[f"{b}attn_{ours}.weight"]
        k, value = g.t[b + "attn_k_b.weight"].swapaxes(1, 2), g.t[b + "attn_v_b.weight"]
        out[a + "kv_b_proj.weight"] = np.concatenate([k, value], 1).reshape(-1, c["kv_lora_rank"])
        if b + "exp_probs_b.bias" in g.t:
            out[l + "mlp.gate.e_score_correction_bias"] = g.t[b + "exp_probs_b.bias"]
    return c, out


def gpt_oss(g):
    c = base_config(g, "gpt_oss")
    c.update(num_local_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             sliding_window=g.key("attention.sliding_window"), swiglu_limit=7.0, attention_bias=True,
             layer_types=["full_attention" if i % 2 else "sliding_attention" for i in range(c["num_hidden_layers"])],
             rope_scaling={"rope_type": "yarn", "factor": g.key("rope.scaling.factor"), "beta_fast": 32.0,
                           "beta_slow": 1.0, "truncate": True,
                           "original_max_position_embeddings": g.key("rope.scaling.original_context_length")})
    out, blocks = {}, g.t["blk.0.ffn_gate_exps.weight"].dtype == np.uint8
    if blocks:
        c["quantization_config"] = {"quant_method": "mxfp4"}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i, names=(), norm="post_attention_norm")
        del out[l + "mlp.gate.weight"]
        m = l + "mlp."
        out[l + "self_attn.sinks"] = g.t[b + "attn_sinks.weight"]
        out[m + "router.weight"], out[m + "router.bias"] = g.t[b + "ffn_gate_inp.weight"], g.t[b + "ffn_gate_inp.bias"]
        stack = lambda end: np.stack([g.t[f"{b}ffn_{x}_exps.{end}"] for x in ("gate", "up")], 2)
        both, down = stack("weight"), g.t[b + "ffn_down_exps.weight"]
        both = both.reshape(both.shape[0], -1, *both.shape[3:])  # rows of gate and up in turn
        out[m + "experts.gate_up_proj_bias"] = stack("bias").reshape(both.shape[0], -1)
        out[m + "experts.down_proj_bias"] = g.t[b + "ffn_down_exps.bias"]
        for name, w in (("gate_up_proj", both), ("down_proj", down)):
            if not blocks:
                out[f"{m}experts.{name}"] = w.swapaxes(1, 2)
                continue
            # GGUF keeps number i and i + 16 of a block in one byte, checkpoints number 2 i and 2 i + 1
            low, high = w[..., 1:] & 15, w[..., 1:] >> 4
            codes = np.concatenate([low, high], -1)
            out[f"{m}experts.{name}_blocks"] = codes[..., 0::2] | codes[..., 1::2] << 4
            out[f"{m}experts.{name}_scales"] = w[..., 0]
    return c, out


def glm4_moe(g):
    c = base_config(g, "glm4_moe")
    c.update(n_routed_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             moe_intermediate_size=g.key("expert_feed_forward_length"), n_shared_experts=g.key("expert_shared_count"),
             first_k_dense_replace=g.key("leading_dense_block_count"), norm_topk_prob=g.key("expert_weights_norm"),
             routed_scaling_factor=g.key("expert_weights_scale"), n_group=1, topk_group=1, partial_rotary_factor=0.5,
             use_qk_norm=True, attention_bias=True, num_nextn_predict_layers=1)
    out = {}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i, norm="post_attention_norm")
        if b + "exp_probs_b.bias" in g.t:
            out[l + "mlp.gate.e_score_correction_bias"] = g.t[b + "exp_probs_b.bias"]
    out[f"model.layers.{c['num_hidden_layers']}.eh_proj.weight"] = np.zeros((4, 4), "f4")  # predicts further tokens
    return c, out


def granitemoe(g):
    c = base_config(g, "granitemoe")
    c.update(num_local_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             attention_multiplier=g.key("attention.scale"), embedding_multiplier=g.key("embedding_scale"),
             residual_multiplier=g.key("residual_scale"), logits_scaling=g.key("logit_scale"))
    out = {}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i, names=())
        for name, heads in (("q", c["num_attention_heads"]), ("k", c["num_key_value_heads"])):
            out[f"{l}self_attn.{name}_proj.weight"] = halves(g.t[f"{b}attn_{name}.weight"], heads)
        m = l + "block_sparse_moe."
        out[m + "router.layer.weight"] = out.pop(l + "mlp.gate.weight")
        both = [g.t[f"{b}ffn_{x}_exps.weight"] for x in ("gate", "up")]
        out[m + "input_linear.weight"] = np.concatenate(both, 1)
        out[m + "output_linear.weight"] = g.t[b + "ffn_down_exps.weight"]
    return c, out


def bailing_moe_v2(g):
    c = base_config(g, "bailing_moe_v2")
    c.update(num_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             moe_intermediate_size=g.key("expert_feed_forward_length"), num_shared_experts=g.key("expert_shared_count"),
             first_k_dense_replace=g.key("leading_dense_block_count"), norm_topk_prob=g.key("expert_weights_norm"),
             routed_scaling_factor=g.key("expert_weights_scale"), n_group=g.key("expert_group_count"),
             topk_group=g.key("expert_group_used_count"), score_function="sigmoid", use_qk_norm=True, use_bias=False,
             head_dim=16, partial_rotary_factor=g.key("rope.dimension_count") / 16)
    out = {}
    ends(g, out, "model.word_embeddings.weight")
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i)
        out[l + "attention.query_key_value.weight"] = g.t[b + "attn_qkv.weight"]
        if b + "exp_probs_b.bias" in g.t:
            out[l + "mlp.gate.expert_bias"] = g.t[b + "exp_probs_b.bias"]
    rename(out, "self_attn.o_proj", "attention.dense")
    rename(out, "self_attn.q_norm", "attention.query_layernorm")
    rename(out, "self_attn.k_norm", "attention.key_layernorm")
    return c, out


def ernie4_5_moe(g):
    c = base_config(g, "ernie4_5_moe")
    width = g.key("expert_feed_forward_length")
    c.update(moe_num_experts=g.key("expert_count"), moe_k=g.key("expert_used_count"), moe_intermediate_size=width,
             moe_num_shared_experts=g.key("expert_shared_feed_forward_length") // width,
             moe_layer_start_index=g.key("leading_dense_block_count"), moe_layer_interval=1, use_bias=False,
             moe_layer_end_index=c["num_hidden_layers"] - 1)
    out = {}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i)
        if b + "exp_probs_b.bias" in g.t:
            out[l + "mlp.moe_statics.e_score_correction_bias"] = g.t[b + "exp_probs_b.bias"][None]
    return c, out


def hunyuan_v1_moe(g):
    c = base_config(g, "hunyuan_v1_moe")
    n = c["num_hidden_layers"]
    c.update(num_experts=g.key("expert_count"), moe_topk=[g.key("expert_used_count")] * n, use_qk_norm=True,
             moe_intermediate_size=[g.key("expert_feed_forward_length")] * n,
             num_shared_expert=[g.key("expert_shared_feed_forward_length") // c["intermediate_size"]] * n)
    out = {}
    ends(g, out)
    for i in range(n):
        common(g, out, i)
    rename(out, "self_attn.q_norm", "self_attn.query_layernorm")
    rename(out, "self_attn.k_norm", "self_attn.key_layernorm")
    rename(out, "mlp.shared_experts", "mlp.shared_mlp")
    rename(out, "mlp.gate.weight", "mlp.gate.wg.weight")
    return c, out


def minimax_m2(g):
    c = base_config(g, "minimax_m2")
    c.update(num_local_experts=g.key("expert_count"), num_experts_per_tok=g.key("expert_used_count"),
             scoring_func="sigmoid", use_routing_bias=True, use_qk_norm=True, qk_norm_type="per_layer",
             rotary_dim=g.key("rope.dimension_count"))
    out = {}
    ends(g, out)
    for i in range(c["num_hidden_layers"]):
        b, l = common(g, out, i, mlp="block_sparse_moe", names=("w1", "w3", "w2"))
        out[l + "block_sparse_moe.e_score_correction_bias"] = g.t[b + "exp_probs_b.bias"]
    return c, out


TWINS = {"deepseek2-v3": deepseek_v3, "gpt-oss-f32": gpt_oss, "gpt-oss-mxfp4": gpt_oss, "glm4moe": glm4_moe,
         "granitemoe": granitemoe, "bailingmoe2": bailing_moe_v2, "ernie4_5-moe": ernie4_5_moe,
         "hunyuan-moe": hunyuan_v1_moe, "minimax-m2": minimax_m2}


def load(path):
    with open(path, "rb") as f:
        raw = f.read()
    (n,) = struct.unpack_from("<Q", raw)
    out = {}
    for name, t in json.loads(raw[8 : 8 + n]).items():
        if name != "__metadata__" and t["dtype"] in ("F32", "I32"):
            kind = {"F32": "<f4", "I32": "<i4"}[t["dtype"]]
            begin, end = t["data_offsets"]
            out[name] = np.frombuffer(raw[8 + n + begin : 8 + n + end], kind).reshape(t["shape"])
    return out


class Twins(unittest.TestCase):
    def compare(self, name, make):
        want = load(os.path.join(GOLDEN, "logits", name + ".safetensors"))
        with tempfile.TemporaryDirectory() as temp:
            folder, logits, routing = (os.path.join(temp, n) for n in ("twin", "logits", "routing"))
            save(folder, *make(Gguf(os.path.join(GOLDEN, "models", name + ".gguf"))))
            ids = ",".join(map(str, want["tokens"]))
            r = subprocess.run([CADRE, "run", folder, "--ids", ids, "-n", "8", "--temp", "0", "--json", "--act", "f32",
                                "--ignore-eos", "--logits", logits, "--routing", routing],
                               capture_output=True, timeout=60, check=False)
            self.assertEqual(r.returncode, 0, r.stderr)
            dequant = "_dequant" if "logits_dequant" in want else ""
            worst = np.abs(load(logits)["logits"] - want["logits" + dequant]).max()
            print(f"{name:16} logits differ by {worst:.1e}")
            self.assertLess(worst, 2e-4)
            greedy = list(want["greedy" + dequant if dequant else "greedy"][:8])
            self.assertEqual(json.loads(r.stdout)["ids"], [int(i) for i in greedy])
            chosen = np.sort(load(routing)["router_topk"], -1)
            self.assertTrue((chosen == np.sort(want["router_topk" + dequant], -1)).all())

    def test_there_and_back(self):
        """Golden files written as directories by the library compute the same bytes."""
        for name in [*TWINS, "mixtral", "qwen2moe", "qwen3moe", "olmoe", "deepseek", "deepseek2-lite"]:
            with self.subTest(name), tempfile.TemporaryDirectory() as temp:
                model = os.path.join(GOLDEN, "models", name + ".gguf")
                folder = os.path.join(temp, "m")
                subprocess.run([CADRE, "convert", model, "-o", folder, "-q"], check=True, timeout=60)
                logits = []
                for path in (model, folder):
                    out = os.path.join(temp, "l")
                    subprocess.run([CADRE, "run", path, "--ids", "5,6,7,8,9", "-n", "1", "--act", "f32", "-q", "--logits", out],
                                   check=True, timeout=60, stdout=subprocess.DEVNULL)
                    with open(out, "rb") as f:
                        logits.append(f.read())
                self.assertEqual(*logits)

    def test_twins(self):
        for name, make in TWINS.items():
            with self.subTest(name):
                self.compare(name, make)


if __name__ == "__main__":
    CADRE, GOLDEN = (os.path.abspath(p) for p in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1])
