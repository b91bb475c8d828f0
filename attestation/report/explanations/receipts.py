"""Checks on a receipt: form, signature, what it is bound to, what it commits to."""

from __future__ import annotations

from attestation.report.explanations.model import CLAIMS, NOT_MADE, WORK, Explanation, python

_SPLIT = """\
header, payload, signature = bundle["receipts"][0]["receipt"].split(".")
claims = json.loads(decode(payload))
"""


def _commitment(label: str, claim: str, take: str) -> str:
    """Return the script that opens the commitment `label`; `take` prints the body."""
    return (
        CLAIMS
        + f"""\
bytes='import sys; print(sys.stdin.buffer.read().hex())'
id=$(echo "$claims" | jq -r .jti)
key=$(jq -r '.receipts[0].openings.{label}' bundle.json | python3 -c "$decode" |
  python3 -c "$bytes")
said=$(echo "$claims" | jq -r .{claim})
seen=$({take} | openssl dgst -sha256 -binary |
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64 |
  tr '+/' '-_' | tr -d '=\\n')
echo "$said"; echo "$seen"
test "$said" = "$seen\""""
    )


RECEIPTS = {
    "RECEIPT-FORMAT": Explanation(
        proves="The receipt is a token of its profile in its one form: closed claims, canonical "
        "bytes.",
        stops="Tokens of other kinds and profiles taken for a receipt, unsigned algorithms, and "
        "claims that two programs read differently.",
        by_hand=python(
            _SPLIT
            + """
print(json.dumps(claims, indent=1))
assert json.loads(decode(header))["typ"] == "inference-receipt+jwt"
assert json.loads(decode(header))["alg"] in ("EdDSA", "Ed25519")
for part, value in ((header, json.loads(decode(header))), (payload, claims)):
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical.encode() == decode(part)
"""
        ),
        aside="docs/spec/receipt.cddl lists the claims; the script does not check each of them.",
    ),
    "RECEIPT-SIGNATURE": Explanation(
        proves="The one receipt key of the boot's keyset signed the receipt.",
        stops="Receipts that somebody else wrote, and every change of one.",
        by_hand=WORK
        + python(
            _SPLIT
            + """
key = decode(boot["keyset"]["receipt"][0]["x"])
spki = bytes.fromhex("302a300506032b6570032100") + key  # RFC 8410
work = pathlib.Path(os.environ["work"])
(work / "receipt.der").write_bytes(spki)
(work / "receipt.sig").write_bytes(decode(signature))
(work / "receipt.txt").write_text(f"{header}.{payload}")
"""
        )
        + """
openssl pkeyutl -verify -pubin -keyform DER -inkey "$work/receipt.der" -rawin \\
  -in "$work/receipt.txt" -sigfile "$work/receipt.sig\"""",
    ),
    "RECEIPT-BINDING": Explanation(
        proves="Boot, keyset, quote, log, debug state and time that the receipt names all belong "
        "to "
        "one boot in the file.",
        stops="A receipt of one boot shown with the quote of another.",
        by_hand=python(
            _SPLIT
            + """
statement = boot["statement"]
assert decode(claims["bootseed"]).hex() == statement["bootseed"]
assert decode(claims["keys"]).hex() == statement["keyset_digest"]
assert decode(claims["submods"]["tdx"]["quote"]) == hashlib.sha256(signed).digest()
assert claims["log"]["o"] == statement["log_origin"]
assert (claims["dbgstat"] == "enabled") == bool(quote[body + 120] & 1)
assert claims["iat"] <= boot["keyset"]["not_after"]
"""
        ),
    ),
    "NONCE": Explanation(
        proves="What you drew for this one exchange is in the receipt or under the challenge's "
        "root: it was made afterwards, and for you.",
        stops="An old receipt, or an old answer to a challenge, shown again.",
        by_hand=""": "${NONCE:?set it to what you sent as X-Receipt-Nonce}"\n"""
        + CLAIMS
        + """\
echo "$claims" | jq -e --arg nonce "$NONCE" '.eat_nonce | ., . == $nonce'""",
        aside="NONCE is what you sent as X-Receipt-Nonce.",
    ),
    "REQUEST-BODY": Explanation(
        proves="The receipt commits to the request that you hold, byte for byte.",
        stops="A receipt shown for another request than the one that was made.",
        by_hand=_commitment("req", "req.c", 'cat "bodies/$id.request"'),
    ),
    "FORWARDED-BODY": Explanation(
        proves="The engine was given your bytes, or your bytes with exactly the rewrites that the "
        "receipt lists.",
        stops="A gateway that asks the engine something else than you asked.",
        by_hand=python(
            _SPLIT
            + """
import hmac

said, openings = claims["req"], bundle["receipts"][0]["openings"]
received = pathlib.Path("bodies", claims["jti"] + ".request").read_bytes()
changes, inserted = said.get("mod", []), [decode(text) for text in openings.get("ins", [])]
assert len(changes) == len(inserted)
forwarded, at = b"", 0
for change, piece in zip(changes, inserted):
    print(change, piece)
    assert at <= change["off"] <= len(received) - change["del"]
    assert change["ins_len"] == len(piece)
    forwarded += received[at : change["off"]] + piece
    at = change["off"] + change["del"]
forwarded += received[at:]
if "f" in said:
    digest = hashlib.sha256(forwarded).digest()
    opened = hmac.digest(decode(openings["fwd"]), digest, "sha256")
    assert opened == decode(said["f"])
else:
    assert forwarded == received
"""
        ),
        aside="Without `f` and `mod` nothing was rewritten, and REQUEST-BODY says it all: with "
        "them the script prints each change and opens `f` to your bytes so changed.",
    ),
    "ENGINE-BODY": Explanation(
        proves="What the engine sent is what the receipt commits to.",
        stops="A gateway that changes the engine's answer on its way to you without saying so.",
        by_hand=CLAIMS
        + """\
echo "$claims" | jq -ce '.res | {u, mod}, (has("u") or has("mod") | not)'""",
        aside="Without `u` the engine's bytes are those of RESPONSE-BODY. With it: open `u` with "
        "the "
        "opening `eng` over the engine's bytes. Where `mod` says `padded` those are the answer's, "
        "without the events that are one line `: ppp…` and a blank one.",
    ),
    "RESPONSE-BODY": Explanation(
        proves="The receipt commits to the answer that you hold, byte for byte.",
        stops="An answer that was changed, cut or exchanged after it left the trust domain.",
        by_hand=_commitment("res", "res.c", 'cat "bodies/$id.response"'),
        aside="For an answer without an in-band block. From a stream with one (claim res.o) take "
        "the "
        "block out first: it begins at byte `o` and ends with the next empty line.",
    ),
    "ENGINE-LOCAL": Explanation(
        proves="The engine ran inside the trust domain: every attempt that the receipt lists was "
        "to a socket of this domain, and the engine's arguments and model are what was measured "
        "before the keys.",
        stops="A gateway that hands prompts on to an engine elsewhere.",
        by_hand=CLAIMS
        + """\
echo "$claims" | jq -c '.att[] | {up, local}'
echo "$claims" | jq -e '.att | length > 0 and all(.local)' &&
  said=$(echo "$claims" | jq -er .model.cfg) &&
  seen=$(jq -er '.boots[0].event_log.data[] | select(.event == "engine.args") | .sha256' \\
    bundle.json) &&
  test "$(echo "$said" | python3 -c "$decode" | od -An -tx1 | tr -d ' \\n')" = "$seen\"""",
        aside="In the demo's folder it fails: the stand-in engine is outside, and nothing of it "
        "was "
        "measured. Skipped while nothing measured stands behind it.",
    ),
    "MODEL": Explanation(
        proves="The model's digest is the one that the boot statement names and that was measured "
        "before the keys; with --model-lock, that of the file you hold.",
        stops="Another model under the name that was asked for.",
        by_hand=python(
            _SPLIT
            + """
said, named = claims["model"]["dig"], boot["statement"]["model_digest"]
events = {event["event"]: event.get("sha256") for event in boot["event_log"]["data"]}
print(said, named, events)
assert said is not None, "the receipt names no measured model, as in the demo"
assert decode(said).hex() == named == events["model.lock"], "not the model that was measured"
"""
        ),
        aside="In the demo's folder it fails: no model was measured, the claim is null, and the "
        "name is "
        "the engine's word. Skipped there by the verifier.",
    ),
    "LINEAGE-EDGES": Explanation(
        proves="The parents that the receipt declares exist and precede it. Not made by this "
        "version.",
        stops="Invented histories of a task.",
        by_hand=CLAIMS
        + """\
echo "$claims" | jq -c .lin"""
        + NOT_MADE,
        aside="The script shows what a receipt declares (kind d), and which attempt before it the "
        "gateway says it repeats (kind r).",
    ),
    "LINEAGE-COMPLETE": Explanation(
        proves="No call of the task is missing. Not made by this version.",
        stops="Leaving out the calls of a task that one would rather not show.",
        by_hand="jq -c .tasks bundle.json" + NOT_MADE,
        aside="Task records are not made yet; the script shows what a file holds of them.",
    ),
}
