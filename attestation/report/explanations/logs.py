"""Checks on the log: inclusion, checkpoints, epochs, and what contradicts them."""

from __future__ import annotations

from attestation.report.explanations.model import NOT_MADE, WORK, Explanation, python

_PROOF = """\
proof = bundle["receipts"][0]["proof"]
lines, _, note = proof.partition("\\n\\n")
index, path = int(lines.split("\\n")[1].split()[1]), [
    base64.b64decode(line) for line in lines.split("\\n")[2:]]
origin, size, root = note.split("\\n")[:3]
"""

LOGS = {
    "LOG-INCLUSION": Explanation(
        proves="A proof leads from the receipt, at its own index, to the root of a checkpoint. "
        "Ask the gateway again with ?wait=anchored if the receipt has none.",
        stops="Leaving a receipt out of the log, moving it, or putting another in its place.",
        by_hand=python(
            _PROOF
            + """
token = bundle["receipts"][0]["receipt"].rpartition(".")[0].encode()
node = hashlib.sha256(b"\\0" + b"\\1" + hashlib.sha256(token).digest()).digest()
claims, place, last = json.loads(decode(token.decode().partition(".")[2])), index, int(size) - 1
for other in path:                                      # RFC 9162 section 2.1.3.2
    if place & 1 or place == last:
        node = hashlib.sha256(b"\\1" + other + node).digest()
        while not place & 1 and place:
            place, last = place >> 1, last >> 1
    else:
        node = hashlib.sha256(b"\\1" + node + other).digest()
    place, last = place >> 1, last >> 1
print(origin, size, base64.b64encode(node).decode(), root)
assert (last, base64.b64encode(node).decode()) == (0, root)
assert (claims["log"]["i"], claims["log"]["o"]) == (index, origin)
"""
        ),
    ),
    "LOG-CHECKPOINT": Explanation(
        proves="The log key of the receipt's or the epoch's own boot signed the checkpoint, about "
        "its own log.",
        stops="Proofs in a log of the forger's. A stolen key could sign as well: EPOCH-QUOTE is "
        "what a thief cannot make.",
        by_hand=WORK
        + python(
            _PROOF
            + """
name, number, key = boot["keyset"]["log"].split("+", 2)
key = base64.b64decode(key)                             # 1 for Ed25519, then the key (C2SP)
assert name == origin and key[0] == 1
assert hashlib.sha256(name.encode() + b"\\n" + key).hexdigest()[:8] == number
text, _, lines = note.partition("\\n\\n")
own = next(line for line in lines.split("\\n") if line.startswith(f"\\u2014 {name} "))
signature = base64.b64decode(own.split(" ")[2])
assert signature[:4].hex() == number
work = pathlib.Path(os.environ["work"])
(work / "log.der").write_bytes(bytes.fromhex("302a300506032b6570032100") + key[1:])
(work / "log.sig").write_bytes(signature[4:])
(work / "checkpoint").write_text(text + "\\n")
"""
        )
        + """
openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/log.der" -rawin \\
  -in "$work/checkpoint" -sigfile "$work/log.sig\"""",
        aside="With Go's golang.org/x/mod/sumdb/note: note.Open of the proof's last part, and "
        "note.NewVerifier of keyset.log.",
    ),
    "EPOCH-QUOTE": Explanation(
        proves="On an epoch: a genuine quote of the boot's own trust domain and platform reports a "
        "statement about this boot, this checkpoint and counters that add up. On a receipt: the "
        "checkpoint of its proof is the one of an accepted epoch of its own boot. A receipt needs "
        "one epoch.",
        stops="Whoever steals the boot's keys: from the quote on nobody, with whatever keys, makes "
        "another receipt in this one's place.",
        by_hand=python("""
epoch = bundle["epochs"][0]
statement, own = epoch["statement"], decode(epoch["quote"])
text = epoch["checkpoint"].partition("\\n\\n")[0] + "\\n"
jcs = json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()
print(json.dumps(statement, indent=1))
assert own[body + 520 : body + 584] == hashlib.sha256(jcs).digest() + bytes(32)
assert statement["bootseed"] == boot["statement"]["bootseed"]
assert statement["boot_quote_digest"] == hashlib.sha256(signed).hexdigest()
assert statement["checkpoint_digest"] == hashlib.sha256(text.encode()).hexdigest()
assert statement["admitted"] == statement["completed"] + statement["in_flight"]
same = slice(body + 120, body + 520)                    # attributes, XFAM, MRTD, owners, RTMRs
assert own[same] == quote[same]
"""),
        aside="That the epoch's quote is genuine: the commands of QUOTE-GENUINE with "
        'bundle["epochs"][0] in the place of the boot. Which epoch a receipt needs: the one with '
        "the checkpoint of its proof.",
    ),
    "EPOCH-CHAIN": Explanation(
        proves="On `epochs of boot`: every epoch names the quote before it, from the boot's on, "
        "and "
        "nothing that it counts ever falls; missing numbers are named. On `log of boot`: the file "
        "holds every receipt below a quoted size, or what is missing is named. One receipt needs "
        "neither; a policy demands both with [log] require_complete = true.",
        stops="Withholding receipts or epochs from an auditor who asks for all of them, and "
        "quoting a "
        "history that goes back.",
        by_hand=python("""
before, counted = signed, 0
for epoch in sorted(bundle["epochs"], key=lambda one: one["statement"]["epoch"]):
    statement, own = epoch["statement"], decode(epoch["quote"])
    print(statement["epoch"], statement["size"], statement["completed"])
    assert statement["prev_quote_digest"] == hashlib.sha256(before).hexdigest()
    assert statement["completed"] >= counted
    before, counted = own[: len(signed)], statement["completed"]
"""),
        aside="For a file with the epochs from number 0 on. Completeness: put boot statement, "
        "receipts "
        "and epoch statements at their indices and compute the root as under LOG-INCLUSION.",
    ),
    "EQUIVOCATION": Explanation(
        proves="No two receipts share an index, an id or an admission number, no two epochs a "
        "number "
        "or the quote before them, no log has two roots for one size, and no epoch counts less "
        "than "
        "signed receipts show. A failure names the two things that contradict each other: keep the "
        "file, it proves that the gateway told two stories.",
        stops="A gateway that tells two people two histories.",
        by_hand=python("""
claims = [json.loads(decode(one["receipt"].split(".")[1])) for one in bundle["receipts"]]
for name in ("i", "adm"):
    taken = [(one["bootseed"], one["log"][name]) for one in claims]
    assert len(set(taken)) == len(taken), name
ids = [(one["bootseed"], one["jti"]) for one in claims]
assert len(set(ids)) == len(ids)
roots = {(e["statement"]["bootseed"], e["statement"]["size"], e["statement"]["root"])
         for e in bundle["epochs"]}
assert len({(seed, size) for seed, size, _ in roots}) == len(roots)
print(len(claims), "receipts,", len(roots), "quoted states")
"""),
    ),
    "WITNESS": Explanation(
        proves="Independent witnesses signed the checkpoint. Signatures by others are counted and "
        "not checked by this version.",
        stops="Showing one reader another log than the rest of the world, and dates by the guest's "
        "clock alone.",
        by_hand=python("""
for epoch in bundle["epochs"]:
    lines = epoch["checkpoint"].partition("\\n\\n")[2].splitlines()
    own = f"\\u2014 {boot['statement']['log_origin']} "
    others = [line for line in lines if not line.startswith(own)]
    print(epoch["statement"]["epoch"], len(others), "signatures by others")
""")
        + NOT_MADE,
        aside="The script counts them.",
    ),
}
