#!/usr/bin/python3
"""Writes torch_softmax.safetensors and torch_sigmoid.safetensors: two tiny MoE transformers with random weights,
a batch of two sequences, and what PyTorch computes for them in float64: logits, losses, decisions, and the gradient
of every parameter. tests/model/test_torch_gradients.c holds cadre to them.

The models are written here from the definitions in the papers, token by token and expert by expert, so that they
share no structure with the code they check. Weights are rounded to float32 before use: both sides start from the
same numbers. A seed whose decisions are close calls is skipped, for there float32 may rightly choose otherwise.

Usage: make_torch_gradients.py [FOLDER]        (default: this file's folder)
"""
import json
import math
import os
import struct
import sys

import torch
import torch.nn.functional as F

SWITCH_WEIGHT, Z_WEIGHT = 0.01, 0.001
MIN_MARGIN = 2e-3
MIN_SUM = 2.0 ** -14
SEQUENCES = (7, 4)

# The family of the default model: softmax router whose weights are not renormalised, gated shared expert.
SOFTMAX = dict(
    family="qwen2moe", router="softmax", n_layer=2, d_model=16, n_vocab=24, n_head=4, n_kv_head=2, head_dim=8,
    v_dim=8, qkv_bias=1, n_rot=8, rope_pairs=0, rope_base=10000.0, norm_eps=1e-6, tied=1, n_dense_leading=0,
    dense_ff=0, n_expert=6, k=2, expert_ff=10, shared_ff=14, shared_gated=1, router_bias=0, n_groups=0, used_groups=0,
    best_of_group=0, normalize=0, scale=1.0)

# DeepSeek-V3's router on plain attention: bias and groups choose, normalised and scaled sigmoids weigh.
SIGMOID = dict(
    family="deepseek2", router="sigmoid", n_layer=3, d_model=16, n_vocab=24, n_head=4, n_kv_head=2, head_dim=8,
    v_dim=8, qkv_bias=0, n_rot=4, rope_pairs=1, rope_base=5000.0, norm_eps=1e-5, tied=0, n_dense_leading=1,
    dense_ff=20, n_expert=8, k=3, expert_ff=6, shared_ff=12, shared_gated=0, router_bias=1, n_groups=4, used_groups=2,
    best_of_group=2, normalize=1, scale=2.5)


class CloseCall(Exception):
    """A decision that rounding could turn."""


def new_weights(cfg, generator):
    """Random parameters under their GGUF names, row-major [out, in]."""
    weights = {}

    def normal(name, *shape, deviation, mean=0.0):
        value = torch.randn(*shape, generator=generator, dtype=torch.float64) * deviation + mean
        weights[name] = value.float().double()

    d, ff, n_expert = cfg["d_model"], cfg["expert_ff"], cfg["n_expert"]
    q_width = cfg["n_head"] * cfg["head_dim"]
    k_width, v_width = cfg["n_kv_head"] * cfg["head_dim"], cfg["n_kv_head"] * cfg["v_dim"]
    normal("token_embd.weight", cfg["n_vocab"], d, deviation=0.5)
    normal("output_norm.weight", d, deviation=0.2, mean=1)
    if not cfg["tied"]:
        normal("output.weight", cfg["n_vocab"], d, deviation=0.4)
    for i in range(cfg["n_layer"]):
        p = f"blk.{i}."
        normal(p + "attn_norm.weight", d, deviation=0.2, mean=1)
        for name, width in (("q", q_width), ("k", k_width), ("v", v_width)):
            normal(p + f"attn_{name}.weight", width, d, deviation=0.3)
            if cfg["qkv_bias"]:
                normal(p + f"attn_{name}.bias", width, deviation=0.2)
        normal(p + "attn_output.weight", d, cfg["n_head"] * cfg["v_dim"], deviation=0.2)
        normal(p + "ffn_norm.weight", d, deviation=0.2, mean=1)
        if i < cfg["n_dense_leading"]:
            normal(p + "ffn_gate.weight", cfg["dense_ff"], d, deviation=0.3)
            normal(p + "ffn_up.weight", cfg["dense_ff"], d, deviation=0.3)
            normal(p + "ffn_down.weight", d, cfg["dense_ff"], deviation=0.3)
            continue
        normal(p + "ffn_gate_inp.weight", n_expert, d, deviation=0.4)
        if cfg["router_bias"]:
            normal(p + "exp_probs_b.bias", n_expert, deviation=0.2)
        normal(p + "ffn_gate_exps.weight", n_expert, ff, d, deviation=0.3)
        normal(p + "ffn_up_exps.weight", n_expert, ff, d, deviation=0.3)
        normal(p + "ffn_down_exps.weight", n_expert, d, ff, deviation=0.3)
        normal(p + "ffn_gate_shexp.weight", cfg["shared_ff"], d, deviation=0.3)
        normal(p + "ffn_up_shexp.weight", cfg["shared_ff"], d, deviation=0.3)
        normal(p + "ffn_down_shexp.weight", d, cfg["shared_ff"], deviation=0.3)
        if cfg["shared_gated"]:
            normal(p + "ffn_gate_inp_shexp.weight", d, deviation=0.3)
    return weights


def rmsnorm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def swiglu(x, gate, up, down):
    return down @ (F.silu(gate @ x) * (up @ x))


def rotate(head, position, cfg):
    """Each pair of the first n_rot values is a point in the plane, turned by position * base^(-2i / n_rot)."""
    n = cfg["n_rot"]
    out = list(head)
    for i in range(n // 2):
        a, b = (2 * i, 2 * i + 1) if cfg["rope_pairs"] else (i, i + n // 2)
        angle = position * cfg["rope_base"] ** (-2.0 * i / n)
        out[a] = head[a] * math.cos(angle) - head[b] * math.sin(angle)
        out[b] = head[a] * math.sin(angle) + head[b] * math.cos(angle)
    return torch.stack(out)


def attention(x, w, p, cfg):
    """One sequence [n, d]."""
    def project(name, heads, width):
        y = x @ w[p + f"attn_{name}.weight"].T
        if cfg["qkv_bias"]:
            y = y + w[p + f"attn_{name}.bias"]
        return y.reshape(len(x), heads, width)

    q = project("q", cfg["n_head"], cfg["head_dim"])
    k = project("k", cfg["n_kv_head"], cfg["head_dim"])
    v = project("v", cfg["n_kv_head"], cfg["v_dim"])
    out = []
    for t in range(len(x)):
        heads = []
        for h in range(cfg["n_head"]):
            kv = h // (cfg["n_head"] // cfg["n_kv_head"])
            query = rotate(q[t, h], t, cfg)
            scores = torch.stack([query @ rotate(k[s, kv], s, cfg) for s in range(t + 1)]) / math.sqrt(cfg["head_dim"])
            heads.append(torch.softmax(scores, 0) @ v[: t + 1, kv])
        out.append(w[p + "attn_output.weight"] @ torch.cat(heads))
    return torch.stack(out)


def largest(values, n):
    """Indices of the n largest, in falling order; raises if the next one is close."""
    order = sorted(range(len(values)), key=lambda i: -values[i])
    for a, b in zip(order[:n], order[1:n + 1]):
        if values[a] - values[b] < MIN_MARGIN:
            raise CloseCall
    return order[:n]


def choose(score, bias, cfg):
    """Expert ids of one token (DeepSeek-V3 §2.1.2): the best groups by the sum of their best scores, then top-k."""
    selection = [s + b for s, b in zip(score.tolist(), bias)]
    if cfg["n_groups"]:
        size = cfg["n_expert"] // cfg["n_groups"]
        members = [sorted(selection[g * size:(g + 1) * size]) for g in range(cfg["n_groups"])]
        group = [sum(scores[-cfg["best_of_group"]:]) for scores in members]
        allowed = largest(group, cfg["used_groups"])
        selection = [s if e // size in allowed else -math.inf for e, s in enumerate(selection)]
    return largest(selection, cfg["k"])


def moe(x, w, p, cfg):
    """x [n, d] of the whole batch. Returns output, ids, switch loss and z loss."""
    logits = x @ w[p + "ffn_gate_inp.weight"].T
    score = torch.softmax(logits, 1) if cfg["router"] == "softmax" else torch.sigmoid(logits)
    bias = w[p + "exp_probs_b.bias"].tolist() if cfg["router_bias"] else [0.0] * cfg["n_expert"]
    out, ids = [], []
    load = torch.zeros(cfg["n_expert"], dtype=torch.float64)
    for t in range(len(x)):
        chosen = choose(score[t].detach(), bias, cfg)
        ids.append(chosen)
        weight = torch.stack([score[t, e] for e in chosen])
        if cfg["normalize"]:
            weight = weight / torch.clamp(weight.sum(), min=MIN_SUM)
        weight = weight * cfg["scale"]
        y = torch.zeros(cfg["d_model"], dtype=torch.float64)
        for j, e in enumerate(chosen):
            load[e] += 1
            y = y + weight[j] * swiglu(x[t], *(w[p + f"ffn_{m}_exps.weight"][e] for m in ("gate", "up", "down")))
        shared = swiglu(x[t], *(w[p + f"ffn_{m}_shexp.weight"] for m in ("gate", "up", "down")))
        if cfg["shared_gated"]:
            shared = shared * torch.sigmoid(w[p + "ffn_gate_inp_shexp.weight"] @ x[t])
        out.append(y + shared)
    share = load / load.sum()
    probability = (score / score.sum(1, keepdim=True)).mean(0)
    switch = cfg["n_expert"] * (share * probability).sum()
    z = (torch.logsumexp(logits, 1) ** 2).mean()
    return torch.stack(out), ids, switch, z


def forward(w, tokens, targets, cfg):
    """Both sequences side by side: attention sees one each, the router losses see the batch."""
    x = w["token_embd.weight"][tokens]
    routes, switch, z = {}, 0.0, 0.0
    for i in range(cfg["n_layer"]):
        p = f"blk.{i}."
        normed = rmsnorm(x, w[p + "attn_norm.weight"], cfg["norm_eps"])
        x = x + torch.cat([attention(part, w, p, cfg) for part in torch.split(normed, SEQUENCES)])
        normed = rmsnorm(x, w[p + "ffn_norm.weight"], cfg["norm_eps"])
        if i < cfg["n_dense_leading"]:
            ffn = [w[p + f"ffn_{m}.weight"] for m in ("gate", "up", "down")]
            x = x + torch.stack([swiglu(t, *ffn) for t in normed])
            continue
        y, routes[i], layer_switch, layer_z = moe(normed, w, p, cfg)
        x, switch, z = x + y, switch + layer_switch, z + layer_z
    x = rmsnorm(x, w["output_norm.weight"], cfg["norm_eps"])
    logits = x @ w["token_embd.weight" if cfg["tied"] else "output.weight"].T
    cross_entropy = F.cross_entropy(logits[targets >= 0], targets[targets >= 0])
    return logits, routes, cross_entropy, switch, z


def build(cfg, seed):
    generator = torch.Generator().manual_seed(seed)
    w = new_weights(cfg, generator)
    trained = {name: value.requires_grad_() for name, value in w.items() if "exp_probs_b" not in name}
    tokens = torch.randint(cfg["n_vocab"], (sum(SEQUENCES),), generator=generator)
    targets = torch.cat([torch.cat([part[1:], torch.tensor([-1])]) for part in torch.split(tokens, SEQUENCES)])
    logits, routes, cross_entropy, switch, z = forward(w, tokens, targets, cfg)
    loss = cross_entropy + SWITCH_WEIGHT * switch + Z_WEIGHT * z
    loss.backward()

    out = dict(tokens=tokens.int(), targets=targets.int(),
               row_start=torch.tensor([0, SEQUENCES[0], sum(SEQUENCES)]), logits=logits, loss=loss.reshape(1),
               cross_entropy=cross_entropy.reshape(1), switch=switch.reshape(1), z=z.reshape(1))
    out.update({f"ids.{i}": torch.tensor(ids, dtype=torch.int32) for i, ids in routes.items()})
    out.update(w)
    for name, value in trained.items():
        assert value.grad.abs().max() > 0, name  # a gradient of zeros would hold nobody to anything
        out["grad." + name] = value.grad
    return out


def write_safetensors(path, tensors, metadata):
    header, data = {"__metadata__": {k: str(v) for k, v in metadata.items()}}, b""
    for name, tensor in tensors.items():
        tensor = tensor.detach()
        if tensor.is_floating_point():
            tensor = tensor.float()
        kind = {torch.float32: "F32", torch.int32: "I32", torch.int64: "I64"}[tensor.dtype]
        raw = tensor.contiguous().numpy().tobytes()
        header[name] = dict(dtype=kind, shape=list(tensor.shape), data_offsets=[len(data), len(data) + len(raw)])
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.set_num_threads(1)
    for cfg in (SOFTMAX, SIGMOID):
        seed = 0
        while True:
            try:
                tensors = build(cfg, seed)
                break
            except CloseCall:
                seed += 1
        metadata = dict(cfg, seed=seed, switch_weight=SWITCH_WEIGHT, z_weight=Z_WEIGHT)
        path = os.path.join(folder, f"torch_{cfg['router']}.safetensors")
        write_safetensors(path, tensors, metadata)
        print(f"{path}: {os.path.getsize(path)} bytes, seed {seed}, loss {tensors['loss'].item():.6f}")


if __name__ == "__main__":
    main()
