"""What the committed model can do, and whether it is a yardstick for KV-cache codecs:

    python probe.py --out /tmp/train              # tables; also writes probe.json
    python probe.py --committed-text --json       # held-out text from heldout.txt only (no Debian documentation needed), JSON on stdout

Everything is computed in fp32 on the committed bf16 weights; the "bf16" row of the codec table rounds keys and values to bf16.
"""
import argparse, json, math, pathlib, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
import torch
import data, measure
from model import HD, KV, LAYERS, OUTLIER_PAIRS, load, rope_table, rotate

HERE = pathlib.Path(__file__).resolve().parent
CODECS = [  # name, key (bits, axis, group), value (bits, axis, group)
    ("bf16", None, None),
    ("int8, both per token (64)", (8, "token", 64), (8, "token", 64)),
    ("int4, K per channel (32), V per token (64)", (4, "channel", 32), (4, "token", 64)),
    ("int4, both per token (64)", (4, "token", 64), (4, "token", 64)),
    ("int3, K per channel (32), V per token (32)", (3, "channel", 32), (3, "token", 32)),
    ("int3, both per token (32)", (3, "token", 32), (3, "token", 32)),
    ("int2, K per channel (32), V per token (32)", (2, "channel", 32), (2, "token", 32)),
    ("int2, both per token (32)", (2, "token", 32), (2, "token", 32)),
]


def quantise(x, spec):
    """x (B, KV, T, HD) rounded to an asymmetric grid of 2^bits levels between the group's minimum and maximum; the last group of tokens may
    be short."""
    if spec is None:
        return x.to(torch.bfloat16).float()
    bits, axis, group = spec
    if axis == "channel":
        return torch.cat([_grid(part, bits, 2) for part in x.split(group, 2)], 2)
    return torch.cat([_grid(part, bits, 3) for part in x.split(group, 3)], 3)


def _grid(x, bits, dim):
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    step = ((high - low) / (2**bits - 1)).clamp_min(1e-8)
    return ((x - low) / step).round() * step + low


def codec_hook(model, key, value, outliers):
    """A kv hook for one codec. Without `outliers`, the slowest pairs' key biases are taken off (rotated, as they sit in the keys) before
    rounding and put back after it: the attention of the unrounded model stays exactly what it was."""
    at = [i for i in range(HD // 2 - OUTLIER_PAIRS, HD // 2)]
    at += [i + HD // 2 for i in at]
    offsets = []
    for block in model.model["layers"]:
        bias = torch.zeros(KV, HD)
        bias[:, at] = block.self_attn.k_proj.bias.detach().view(KV, HD)[:, at]
        offsets.append(bias)

    def hook(layer, k, v):
        if outliers:
            return quantise(k, key), quantise(v, value)
        c = rotate(offsets[layer][None, :, None].expand(-1, -1, k.shape[2], -1), *rope_table(k.shape[2]))
        return quantise(k - c, key) + c, quantise(v, value)
    return hook


@torch.no_grad()
def attention_shape(model, held, n=1024):
    """On held-out text: the mean attention on the first 4 bytes of queries from 64 on, by layer and head, and by layer and KV head the
    largest over the median of the channels' mean |k|."""
    text = torch.from_numpy(np.stack([t[:n].astype(np.int64) for t in held.values()]))
    sink, spread = {}, {}

    def kv(layer, k, v):
        size = k.abs().mean((0, 2))
        spread[layer] = (size.amax(-1) / size.median(-1).values).tolist()
        return k, v

    model(text, kv=kv, watch=lambda i, p: sink.update({i: p[:, :, 64:, :4].sum(-1).mean((0, 2)).tolist()}))
    return [sink[i] for i in sorted(sink)], [spread[i] for i in sorted(spread)]


def probe(model, held, args, log):
    """All the measurements, several at a time, one thread each."""
    pool, jobs, r = ThreadPoolExecutor(args.threads), {}, {}

    def start(name, work, *a, **k):
        def run():
            result = work(model, held, *a, **k)
            log(name)
            return result
        jobs[name] = pool.submit(run)

    start("text 1024", measure.text_loss, 1024, args.rows)
    start("text 2048", measure.text_loss, 2048, args.rows)
    for n in (256, 1024, 2048):
        start(f"passkey {n}", measure.passkey, n, args.count)
    start("repeat", lambda m, _: {n: measure.repeat(m, n) for n in (50, 100, 400, 1000)})
    start("heads", lambda m, _: measure.heads(m))
    start("attention", attention_shape)
    start("window text", measure.text_loss, 1024, args.rows, window=64)
    start("window passkey", measure.passkey, 1024, args.count, window=64)
    for name, k, v in CODECS:
        for label, outliers in (("with_key_outliers", True), ("without", False)):
            hook = codec_hook(model, k, v, outliers)
            start(f"{name} {label} text", measure.text_loss, 1024, args.codec_rows, kv=hook)
            start(f"{name} {label} passkey", measure.passkey, 1024, args.codec_count, kv=hook)
    got = {name: job.result() for name, job in jobs.items()}

    loss, by = got["text 1024"]
    r["text_1024"] = {"nats_per_byte": loss, "perplexity": math.exp(loss), "by_source": by}
    r["text_2048"] = {"nats_per_byte": got["text 2048"][0]}
    r["passkey"] = {n: dict(zip(("accuracy", "by_quarter_of_depth"), got[f"passkey {n}"])) for n in (256, 1024, 2048)}
    r["repeat"] = got["repeat"]
    r["heads"] = dict(zip(("previous_token", "induction", "sink_first_4", "key_channel_max_over_median"), (*got["heads"], *got["attention"])))
    lost, key = got["window text"][0], got["window passkey"][0]
    rise = math.exp(lost - loss) - 1
    r["gate_window_64"] = {"perplexity": math.exp(lost), "perplexity_rise": rise, "passkey_1024": key, "holds": rise >= 0.10 and key < 0.20}
    r["codecs"] = [{"name": name} | {label: {"perplexity": math.exp(got[f"{name} {label} text"][0]), "passkey_1024": got[f"{name} {label} passkey"][0]}
                                     for label in ("with_key_outliers", "without")} for name, _, _ in CODECS]
    return r


def show(r):
    t = r["text_1024"]
    print(f"held-out text, context 1,024   {t['nats_per_byte']:.4f} nats/byte   perplexity {t['perplexity']:.4f} per byte   (context 2,048: "
          f"{r['text_2048']['nats_per_byte']:.4f})")
    print("  by source                    " + "   ".join(f"{k} {v:.4f}" for k, v in t["by_source"].items()))
    print(f"\n{'passkey, context':18}{'accuracy':>10}   by quarter of depth")
    for n, row in r["passkey"].items():
        print(f"{n:<18}{row['accuracy']:10.3f}   " + "  ".join(f"{q:.2f}" for q in row["by_quarter_of_depth"]))
    print(f"\n{'repeat, bytes':18}{'accuracy':>10}")
    for n, a in r["repeat"].items():
        print(f"{n:<18}{a:10.3f}")
    for title, field in (("previous-token score", "previous_token"), ("induction score", "induction"), ("attention on the first 4 bytes", "sink_first_4"),
                         ("key channels, largest over median", "key_channel_max_over_median")):
        table = r["heads"][field]
        print(f"\n{title:34}" + "".join(f"{'h' + str(h):>7}" for h in range(len(table[0]))))
        for i, row in enumerate(table):
            print(f"  layer {i:<26}" + "".join(f"{x:7.2f}" for x in row))
    g = r["gate_window_64"]
    print(f"\nonly the last 64 bytes seen: perplexity {g['perplexity']:.4f} ({100 * g['perplexity_rise']:+.1f} %), passkey at 1,024 {g['passkey_1024']:.3f}: "
          f"the sensitivity gate {'holds' if g['holds'] else 'FAILS'}")
    print(f"\n{'':46}{'with key outliers':^24}{'outliers taken out':^24}")
    print(f"{'K and V (context 1,024)':46}{'perplexity':>12}{'passkey':>12}{'perplexity':>12}{'passkey':>12}")
    for row in r["codecs"]:
        a, b = row["with_key_outliers"], row["without"]
        print(f"{row['name']:46}{a['perplexity']:12.4f}{a['passkey_1024']:12.3f}{b['perplexity']:12.4f}{b['passkey_1024']:12.3f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="/tmp/train", help="folder of the collected text")
    parser.add_argument("--committed-text", action="store_true", help="held-out text from heldout.txt only; probe.json is not written")
    parser.add_argument("--count", type=int, default=40, help="passkeys a context")
    parser.add_argument("--rows", type=int, default=8, help="windows of held-out text a source")
    parser.add_argument("--codec-count", type=int, default=20, help="passkeys a cell of the codec table")
    parser.add_argument("--codec-rows", type=int, default=4, help="windows of held-out text a source in the codec table")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="JSON on stdout instead of tables")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.committed_text:
        held = {"handbook": np.frombuffer((HERE / "heldout.txt").read_bytes(), np.uint8)}
    else:
        held = data.load(args.out)[1]
    model = load(HERE)
    result = probe(model, held, args, lambda s: print(s, file=sys.stderr, flush=True))
    result["settings"] = {k: getattr(args, k) for k in ("count", "rows", "codec_count", "codec_rows")} | {"text": list(held), "layers": LAYERS}
    if not args.committed_text:
        (HERE / "probe.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1)) if args.json else show(result)


if __name__ == "__main__":
    main()
