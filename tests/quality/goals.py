# SPDX-License-Identifier: Apache-2.0
"""What the codecs of methods.txt shall reach on the reference model, and the one that comes nearest."""
RAW_BITS = 16
FIXED, ENTROPY = 1.31, 1.40  # raw bytes over stored bytes, lossless; the bound of 4-bit exponents is 4/3
BITS, CHANGE, POINTS = 3.2, 0.01, 0.01  # lossy: bits per value, relative change of perplexity, share of passkeys


def check(head: dict, rows: list[dict]) -> list[dict]:
    """One dict a goal: goal, by (a method's name), figures in words, held. Nothing where no codecs were measured."""
    measured = [row for row in rows if row["ok"] and "planes" not in row]
    goals = []
    for goal, least, specs in ((f"lossless, fixed width, at least {FIXED:g} to 1", FIXED, ("splitexp",)),
                               (f"lossless, entropy-coded, at least {ENTROPY:.2f} to 1", ENTROPY, ("splitexp(ans)",))):
        for row in measured:
            if row["spec"] in specs:
                ratio = RAW_BITS / row["bits"]
                goals.append({"goal": goal, "by": row["name"], "figures": f"{ratio:.3f} to 1", "held": ratio >= least and row["change"] == 0})
    # No spec of this build reads an artefact: all are calibration-free. The least change among those of few enough bits.
    frugal = [row for row in measured if row["bits"] <= BITS and row["passkey"] >= head["passkey"] - POINTS]
    if frugal:
        best = min(frugal, key=lambda row: row["change"])
        goals.append({"goal": f"no calibration, at most {BITS:g} bits, {CHANGE:.0%} of perplexity, {POINTS:.0%} of passkeys", "by": best["name"],
                      "figures": f"{best['bits']:.2f} bits, {best['change']:+.2%}, passkey {best['passkey']:.2f}", "held": best["change"] <= CHANGE})
    return goals


def page(goals: list[dict]) -> list[str]:
    return ["", "## Goals", "", "| goal | reached by | figures | held |", "|---|---|---|---|"] + [
        f"| {g['goal']} | {g['by']} | {g['figures']} | {'yes' if g['held'] else 'no'} |" for g in goals]


def print_table(goals: list[dict]) -> None:
    print()
    for g in goals:
        print(f"  {'yes' if g['held'] else 'no ':<4}{g['goal']}: {g['by']}, {g['figures']}")
