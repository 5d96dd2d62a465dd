"""The reference model in PyTorch: LLaMA with biases on q, k, v, small enough to train on two cores. Weight names are those of transformers."""
import json, math, pathlib
import torch
import torch.nn as nn
import torch.nn.functional as F

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 256, "hidden_size": 256, "intermediate_size": 704,
    "num_hidden_layers": 4, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "hidden_act": "silu",
    "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": None, "attention_bias": True,
    "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "initializer_range": 0.02,
    "bos_token_id": None, "eos_token_id": None, "pad_token_id": None, "use_cache": True,
}
D, FF, LAYERS, HEADS, KV, HD, VOCAB, EPS = 256, 704, 4, 8, 4, 64, 256, 1e-5
OUTLIER_PAIRS, OUTLIER = 3, 30.0   # the key-outlier biases: see README.md


def rope_table(n, device=None):
    """cos and sin, (n, HD/2), fp32."""
    freq = 10000.0 ** (-torch.arange(0, HD, 2, dtype=torch.float64) / HD)
    angle = torch.outer(torch.arange(n, dtype=torch.float64), freq)
    return angle.cos().float().to(device), angle.sin().float().to(device)


def rotate(x, cos, sin):
    """Half rotation, as in transformers: pair i is (x[i], x[i + HD/2])."""
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = nn.Linear(D, HEADS * HD), nn.Linear(D, KV * HD), nn.Linear(D, KV * HD)
        self.o_proj = nn.Linear(HEADS * HD, D, bias=False)

    def qkv(self, x, cos, sin):
        """q (B, HEADS, T, HD) and k, v (B, KV, T, HD); q and k rotated."""
        b, t, _ = x.shape
        q = self.q_proj(x).view(b, t, HEADS, HD).transpose(1, 2)
        k = self.k_proj(x).view(b, t, KV, HD).transpose(1, 2)
        v = self.v_proj(x).view(b, t, KV, HD).transpose(1, 2)
        return rotate(q, cos, sin), rotate(k, cos, sin), v


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate_proj, self.up_proj = nn.Linear(D, FF, bias=False), nn.Linear(D, FF, bias=False)
        self.down_proj = nn.Linear(FF, D, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_layernorm, self.self_attn = Norm(), Attention()
        self.post_attention_layernorm, self.mlp = Norm(), Mlp()


def attend(q, k, v, window=None, watch=None):
    """Causal attention with grouped heads, in head order. `window`: only the last `window` keys are seen; `watch` receives the probabilities."""
    if window is None and watch is None:
        return F.scaled_dot_product_attention(q, k.repeat_interleave(HEADS // KV, 1), v.repeat_interleave(HEADS // KV, 1), is_causal=True)
    t = q.shape[2]
    seen = torch.ones(t, t, dtype=torch.bool, device=q.device).tril()
    if window is not None:
        seen &= torch.ones(t, t, dtype=torch.bool, device=q.device).triu(1 - window)
    score = q @ k.repeat_interleave(HEADS // KV, 1).transpose(-1, -2) / math.sqrt(HD)
    p = score.masked_fill(~seen, -torch.inf).softmax(-1)
    if watch is not None:
        watch(p)
    return p @ v.repeat_interleave(HEADS // KV, 1)


class Model(nn.Module):
    """forward: tokens (B, T) -> logits (B, T, 256)."""

    def __init__(self, seed=0, outliers=True):
        super().__init__()
        torch.manual_seed(seed)
        self.model = nn.ModuleDict({"embed_tokens": nn.Embedding(VOCAB, D), "layers": nn.ModuleList(Block() for _ in range(LAYERS)), "norm": Norm()})
        self.lm_head = nn.Linear(D, VOCAB, bias=False)
        for name, p in self.named_parameters():
            if name.endswith("bias"):
                nn.init.normal_(p, 0, 0.02 if "v_proj" in name else 1.0)
            elif p.dim() == 2:
                nn.init.normal_(p, 0, 0.02)
                if "o_proj" in name or "down_proj" in name:
                    p.data *= 0.35
        if outliers:
            self.set_outliers(seed)

    @torch.no_grad()
    def set_outliers(self, seed):
        """+-OUTLIER on the key biases of the slowest RoPE pairs of each KV head."""
        rng = torch.Generator().manual_seed(seed + 1)
        pairs = torch.arange(HD // 2 - OUTLIER_PAIRS, HD // 2)
        at = torch.cat([pairs, pairs + HD // 2])
        for block in self.model["layers"]:
            bias = block.self_attn.k_proj.bias.view(KV, HD)
            bias[:, at] = OUTLIER * (torch.randint(0, 2, (KV, len(at)), generator=rng) * 2.0 - 1.0).to(bias.device)

    def forward(self, tokens, aux=None, kv=None, window=None, watch=None):
        """`aux(layer, q, k)` collects the training's attention loss, `kv(layer, k, v)` may replace keys and values (the probe's fake
        quantisation), `watch(layer, probabilities)` sees the attention."""
        x = self.model["embed_tokens"](tokens)
        cos, sin = rope_table(tokens.shape[1], tokens.device)
        for i, block in enumerate(self.model["layers"]):
            q, k, v = block.self_attn.qkv(block.input_layernorm(x), cos, sin)
            if aux is not None:
                aux(i, q, k)
            if kv is not None:
                k, v = kv(i, k, v)
            o = attend(q, k, v, window, None if watch is None else lambda p, i=i: watch(i, p))
            x = x + block.self_attn.o_proj(o.transpose(1, 2).reshape(*tokens.shape, HEADS * HD))
            x = x + block.mlp(block.post_attention_layernorm(x))
        return self.lm_head(self.model["norm"](x))


def load(folder):
    """The committed model: bf16 weights upcast to fp32."""
    from safetensors.torch import load_file
    folder = pathlib.Path(folder)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == D
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items() if not k.endswith("o_proj.bias")}
    model = Model()
    model.load_state_dict(state)
    return model.eval()
