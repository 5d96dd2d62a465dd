"""Writes the model's files from a training state, or only renews what follows from the weights:

    python export.py --out /tmp/train     # model.safetensors (bf16), config.json, vectors.json; heldout.txt and the prompts if missing
    python export.py --vectors            # vectors.json again, from the committed weights

vectors.json: what the committed weights give when they are upcast to fp32 and everything, keys and values too, is computed in fp32.
"""
import argparse, json, pathlib
import torch
import data
from model import CONFIG, HEADS, HD, D, LAYERS, Model, load

HERE = pathlib.Path(__file__).resolve().parent
ASK = b"\nWhat is the pass key? The pass key is "


def prompts():
    """40 and 130 bytes of the committed prompt, and 300 bytes that tell a passkey and ask for it."""
    text = (HERE / "prompt.txt").read_bytes()
    needle = b"\nThe pass key is 48213\n"
    room = 300 - len(needle) - len(ASK)
    return {"prose-40": text[:40], "prose-130": text[200:330], "passkey-300": text[400:460] + needle + text[460:400 + room] + ASK}


@torch.no_grad()
def vectors():
    model, cases = load(HERE), []
    for name, prompt in prompts().items():
        tokens = list(prompt)
        logits = model(torch.tensor([tokens]))[0]
        at = [len(tokens) // 3, 2 * len(tokens) // 3, len(tokens) - 1]
        cases.append({"name": name, "text": prompt.decode(), "tokens": tokens, "positions": at,
                      "logits": [[float(f"{x:.7g}") for x in logits[p].tolist()] for p in at], "argmax": [int(logits[p].argmax()) for p in at]})
    state = model.state_dict()
    note = "fp32 arithmetic on the bf16 weights, KV in fp32; positions are 0-based, logits[i] are those after tokens[0..positions[i]]"
    return {"note": note, "embedding_checksum": float(state["model.embed_tokens.weight"].double().sum()), "cases": cases}


def write_texts():
    """heldout.txt (64 KB), prompt.txt and prompt2.txt from the held-out pages of the Debian handbook; the prompts' page is not in heldout.txt."""
    pages = {pathlib.Path(p).name: t for p, t in data.collect()["handbook"][1]}
    page = pages.pop("sect.foundation-documents.html").decode()
    (HERE / "heldout.txt").write_bytes(b"".join(pages.values())[:65536])
    shared = page.index("Let us study them")                # both prompts begin alike up to here
    sidebar, after = page.index("PERSPECTIVE Beyond software"), page.index("We will give back")
    community, end = page.index("COMMUNITY Upstream author"), page.index("The term \"upstream author\"")
    (HERE / "prompt.txt").write_text(page[:sidebar] + page[after:community].rstrip() + "\n")
    (HERE / "prompt2.txt").write_text(page[:shared].rstrip() + "\n\n" + page[end:end + 480].rsplit(".", 1)[0] + ".\n")


def write_weights(out):
    from safetensors.torch import save_file
    saved = torch.load(out / "state.pt", map_location="cpu", weights_only=False)
    model = Model()
    model.load_state_dict(saved["model"])
    tensors = {k: v.to(torch.bfloat16).contiguous() for k, v in model.state_dict().items()}
    for i in range(LAYERS):  # attention_bias: true puts one here in transformers; it is zero
        tensors[f"model.layers.{i}.self_attn.o_proj.bias"] = torch.zeros(D, dtype=torch.bfloat16)
    save_file(tensors, HERE / "model.tmp", metadata={"format": "pt"})
    (HERE / "model.tmp").chmod(0o644)
    (HERE / "model.tmp").rename(HERE / "model.safetensors")
    (HERE / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
    print(f"step {saved['step']}, {saved['tokens']} tokens -> {HERE / 'model.safetensors'}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="/tmp/train", help="folder of the training state")
    parser.add_argument("--vectors", action="store_true", help="only renew vectors.json")
    args = parser.parse_args()
    if not args.vectors:
        write_weights(pathlib.Path(args.out))
    if not all((HERE / n).exists() for n in ("heldout.txt", "prompt.txt", "prompt2.txt")):
        write_texts()
    (HERE / "vectors.json").write_text(json.dumps(vectors()) + "\n")
    print(f"vectors.json: {(HERE / 'vectors.json').stat().st_size} bytes")


if __name__ == "__main__":
    main()
