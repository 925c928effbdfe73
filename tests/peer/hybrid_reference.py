"""The families with recurrent layers in float64, written from the definitions: Gated DeltaNet (Yang et al. 2024, arXiv
2412.06464), the model cards of Qwen3-Next, Qwen3.5 and LFM2. One token after the other, one head after the other, so
that it shares no structure with an engine."""

import numpy as np

from hybrid_models import is_moe, kv_heads, recurrent


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def silu(x):
    return x * sigmoid(x)


def rms(x, w, eps):
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * w


def unit(x, eps):
    return x / np.maximum(np.sqrt(np.sum(x * x, axis=-1, keepdims=True)), eps)


def convolve(x, taps):
    """y[t, c] = Σ_j taps[c, j] x[t - K + 1 + j, c], zeros before the beginning"""
    width = taps.shape[1]
    padded = np.concatenate([np.zeros((width - 1, x.shape[1])), x])
    return np.stack([np.sum(padded[t:t + width].T * taps, axis=1) for t in range(len(x))])


def turn(m, x, position):
    """Rotary embedding of [heads, size]: halves of the first n_rot numbers; with sections, pair i has the axis i mod 3
    (time, height, width: all of them the position in a text) as long as that axis has pairs left, else none."""
    half, out = m["n_rot"] // 2, x.copy()
    angle = position * m["rope_base"] ** (-np.arange(half) / half)
    if "sections" in m:
        sector = np.arange(half) % sum(m["sections"])
        for i in range(half):
            if sector[i] >= 3 * m["sections"][sector[i] % 3]:
                angle[i] = 0
    a, b = x[:, :half], x[:, half:m["n_rot"]]
    out[:, :half] = a * np.cos(angle) - b * np.sin(angle)
    out[:, half:m["n_rot"]] = a * np.sin(angle) + b * np.cos(angle)
    return out


def attention(m, w, x, layer):
    heads, kv, size, gated = m["n_head"], kv_heads(m, layer), m["head_dim"], m["arch"].startswith("qwen")
    q = (x @ w["attn_q.weight"].T).reshape(len(x), heads, -1)
    gate = q[:, :, size:].reshape(len(x), -1)
    q = rms(q[:, :, :size], w["attn_q_norm.weight"], m["eps"])
    k = rms((x @ w["attn_k.weight"].T).reshape(len(x), kv, size), w["attn_k_norm.weight"], m["eps"])
    v = (x @ w["attn_v.weight"].T).reshape(len(x), kv, size)
    q = np.stack([turn(m, q[t], t) for t in range(len(x))])
    k = np.stack([turn(m, k[t], t) for t in range(len(x))])
    out = np.zeros((len(x), heads, size))
    for t in range(len(x)):
        for h in range(heads):
            g = h // (heads // kv)
            score = k[:t + 1, g] @ q[t, h] / np.sqrt(size)
            p = np.exp(score - score.max())
            out[t, h] = p @ v[:t + 1, g] / p.sum()
    out = out.reshape(len(x), -1)
    return (out * sigmoid(gate) if gated else out) @ w["attn_output.weight"].T


def delta_net(m, w, x, _):
    n, nk, nv, size = len(x), m["k_heads"], m["v_heads"], m["state"]
    per = nv // nk
    if m.get("fused"):  # for every k head: q, k, its v heads, their z
        groups = (x @ w["ssm_in.weight"].T).reshape(n, nk, -1)
        q, k, v, z = np.split(groups, [size, 2 * size, (2 + per) * size], axis=2)
        qkv = np.concatenate([a.reshape(n, -1) for a in (q, k, v)], axis=1)
        z = z.reshape(n, nv, size)
    else:
        qkv = x @ w["attn_qkv.weight"].T
        z = (x @ w["attn_gate.weight"].T).reshape(n, nv, size)
    if m["arch"] == "qwen3next":  # for every k head: β of its v heads, then α
        groups = (x @ w["ssm_ba.weight"].T).reshape(n, nk, 2, per)
        b, a = groups[:, :, 0].reshape(n, nv), groups[:, :, 1].reshape(n, nv)
        key_of = [h // per for h in range(nv)]
    else:
        b, a = x @ w["ssm_beta.weight"].T, x @ w["ssm_alpha.weight"].T
        key_of = [h % nk for h in range(nv)]
    beta = sigmoid(b)
    decay = np.exp(w["ssm_a"] * np.log1p(np.exp(a + w["ssm_dt.bias"])))
    q, k, v = np.split(silu(convolve(qkv, w["ssm_conv1d.weight"])), [nk * size, 2 * nk * size], axis=1)
    q = unit(q.reshape(n, nk, size), m["eps"]) / np.sqrt(size)
    k = unit(k.reshape(n, nk, size), m["eps"])
    v = v.reshape(n, nv, size)
    out = np.zeros((n, nv, size))
    for h in range(nv):
        state = np.zeros((size, size))  # value by key
        for t in range(n):
            key = k[t, key_of[h]]
            state = decay[t, h] * state @ (np.eye(size) - beta[t, h] * np.outer(key, key))
            state += beta[t, h] * np.outer(v[t, h], key)
            out[t, h] = state @ q[t, key_of[h]]
    return (rms(out, w["ssm_norm.weight"], m["eps"]) * silu(z)).reshape(n, -1) @ w["ssm_out.weight"].T


def short_convolution(m, w, x, _):
    before, after, value = np.split(x @ w["shortconv.in_proj.weight"].T, 3, axis=1)
    return (after * convolve(before * value, w["shortconv.conv.weight"])) @ w["shortconv.out_proj.weight"].T


def swiglu(x, gate, up, down):
    return (silu(x @ gate.T) * (x @ up.T)) @ down.T


def experts(m, w, x):
    """(output, ids, weights, smallest gap between what was chosen and what was not)"""
    logits, k = x @ w["ffn_gate_inp.weight"].T, m["k"]
    if m["arch"] == "lfm2moe":
        score = sigmoid(logits)
        choose = score + w["exp_probs_b.bias"]
    else:
        score = np.exp(logits - logits.max(axis=1, keepdims=True))
        score /= score.sum(axis=1, keepdims=True)
        choose = score
    out, ids, weights, gap = np.zeros_like(x), [], [], np.inf
    for t in range(len(x)):
        order = np.argsort(-choose[t], kind="stable")
        gap = min(gap, choose[t][order[k - 1]] - choose[t][order[k]])
        weight = score[t][order[:k]] / max(score[t][order[:k]].sum(), 2.0 ** -14)
        for e, s in zip(order[:k], weight):
            out[t] += s * swiglu(x[t], w["ffn_gate_exps.weight"][e], w["ffn_up_exps.weight"][e],
                                 w["ffn_down_exps.weight"][e])
        ids.append(order[:k])
        weights.append(weight)
    if "ffn_up_shexp.weight" in w:
        shared = swiglu(x, w["ffn_gate_shexp.weight"], w["ffn_up_shexp.weight"], w["ffn_down_shexp.weight"])
        out += shared * sigmoid(x @ w["ffn_gate_inp_shexp.weight"])[:, None]
    return out, np.array(ids), np.array(weights), gap


def forward(m, tensors, ids):
    """(logits [n, vocabulary], {layer: (ids, weights)}, smallest gap of a routing decision)"""
    all_of = {name: a.astype(np.float64) for name, a in tensors.items()}
    qwen = m["arch"].startswith("qwen")
    x, routing, gap = all_of["token_embd.weight"][ids], {}, np.inf
    for i in range(m["n_layer"]):
        w = {name[len(f"blk.{i}."):]: a for name, a in all_of.items() if name.startswith(f"blk.{i}.")}
        mix = attention if not recurrent(m, i) else delta_net if qwen else short_convolution
        x = x + mix(m, w, rms(x, w["attn_norm.weight"], m["eps"]), i)
        h = rms(x, w["post_attention_norm.weight" if qwen else "ffn_norm.weight"], m["eps"])
        if is_moe(m, i):
            y, chosen, weight, close = experts(m, w, h)
            routing[i], gap = (chosen, weight), min(gap, close)
        else:
            y = swiglu(h, w["ffn_gate.weight"], w["ffn_up.weight"], w["ffn_down.weight"])
        x = x + y
    x = rms(x, all_of["output_norm.weight" if qwen else "token_embd_norm.weight"], m["eps"])
    return x @ all_of["token_embd.weight" if m["tied"] else "output.weight"].T, routing, gap
