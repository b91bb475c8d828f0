"""Checks on a boot: what ran, what it stated, which keys it had, who it talked to."""

from __future__ import annotations

from dataclasses import replace

from attestation.report.explanations.model import NOT_MADE, Explanation, python

_NO_GPU = Explanation(
    proves="Evidence of a GPU is signed by a certified device. Not made by this version.",
    stops="A GPU that is none, or whose firmware hands prompts and answers to the host.",
    by_hand="jq -c '[.boots[] | .gpu[], (.statement.gpu_digest | values)]' bundle.json" + NOT_MADE,
    aside="Not made by this version: whatever a file holds of GPU evidence stays open, and the "
    "verdict INCOMPLETE. The script shows what there is.",
)

BOOTS = {
    "MEASUREMENTS": Explanation(
        proves="Image, firmware, boot loader, kernel and the facts of the boot statement are those "
        "of one named tuple of the policy, all of it. This is what says which software ran; "
        "without a policy nothing does.",
        stops="Other software on a genuine platform, and parts of several releases put together.",
        by_hand=python("""
import tomllib
seen = {"config_digest": boot["statement"]["config_digest"]}
for name, start in ("mrtd", 136), ("rtmr0", 328), ("rtmr1", 376), ("rtmr2", 424):
    seen[name] = quote[body + start : body + start + 48].hex()
print(json.dumps(seen, indent=1))
tuples = tomllib.loads(open("policy.toml").read())["reference_values"]
fitting = [one for one in tuples if all(one[key].lower() == seen[key] for key in seen)]
print([one["name"] for one in fitting])
assert fitting
"""),
        aside="For tuples that pin these five, as one text each; the other keys likewise. That "
        "the values are the right ones is for who built or reviewed the image to say.",
    ),
    "EVENT-LOG": Explanation(
        proves="The log of run-time events adds up to the quote's registers, and its last event "
        "names this boot's keys.",
        stops="Keys that another program, or another start of this one, drew in the same domain; "
        "events left out, added or exchanged.",
        by_hand=python("""
register = bytes(48)
for event in boot["event_log"]["data"]:
    content = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha384(content).digest()
    register = hashlib.sha384(register + digest).digest()
    print(digest.hex()[:16], content.decode())
print(register.hex(), quote[body + 472 : body + 520].hex(), sep="\\n")
assert register == quote[body + 472 : body + 520]       # RTMR3
assert (event["event"], event["bootseed"]) == ("receipt.key", boot["statement"]["bootseed"])
assert event["keyset_digest"] == boot["statement"]["keyset_digest"]
"""),
        aside="For the gateway's own log; `attested eventlog bundle.json` shows logs of every "
        "kind.",
    ),
    "BOOT-STATEMENT": Explanation(
        proves="The quote's REPORTDATA is the hash of the statement beside it: the hardware's "
        "signature covers the keys, the log and the settings that the statement names.",
        stops="A genuine quote shown beside somebody else's statement.",
        by_hand="""\
report_data='import base64, json; text = json.load(open("bundle.json"))["boots"][0]["quote"]
raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
print(raw[568 if raw[0] == 4 else 574 :][:64].hex())'
said=$(jq -cjS '.boots[0].statement' bundle.json | sha256sum | cut -c1-64)
seen=$(python3 -c "$report_data")
echo "$said"; echo "$seen"
test "$seen" = "$said$(printf '%064d' 0)\"""",
    ),
    "BOOT-CHAIN": Explanation(
        proves="The boot before signed the checkpoint that this boot continues, no second boot "
        "continues it, no boot precedes itself, and nothing larger than that checkpoint had been "
        "quoted. Skipped where the predecessor is not in the file.",
        stops="A gateway started from an older copy of its log, and two gateways that continue "
        "one log.",
        by_hand="""\
jq -c '.boots[].statement | [.log_origin, .prev]' bundle.json
jq -e '[.boots[].statement.prev | values | .checkpoint] |
  length == (unique | length)' bundle.json""",
        aside="The script shows what each boot continues and that no two continue the same. The "
        "signature of that checkpoint: as under LOG-CHECKPOINT, with the log key of the boot "
        "before.",
    ),
    "KEYSET": Explanation(
        proves="The boot statement commits to this very set of keys, each in one role.",
        stops="Another receipt, log or TLS key beside a genuine statement.",
        by_hand="""\
said=$(jq -r '.boots[0].statement.keyset_digest' bundle.json)
seen=$(jq -cjS '.boots[0].keyset' bundle.json | sha256sum | cut -c1-64)
echo "$said"; echo "$seen"
test "$said" = "$seen\"""",
    ),
    "CHANNEL": Explanation(
        proves="The TLS connection ended at a key of the keyset, which only a live client can "
        "compare.",
        stops="An operator who ends TLS outside the trust domain and reads along, and a relay in "
        "front of a genuine gateway.",
        by_hand="""\
: "${GATEWAY:?set it to HOST:PORT of the running gateway}"
seen=$(openssl s_client -connect "$GATEWAY" </dev/null 2>/dev/null | openssl x509 -pubkey -noout |
  openssl pkey -pubin -outform DER | sha256sum | cut -c1-64)
echo "$seen"
jq -e --arg seen "$seen" \\
  '[.boots[0].keyset.tls[].spki_sha256] | index($seen) != null' bundle.json""",
        aside="GATEWAY is HOST:PORT of the running gateway (`attested demo --keep`). It says "
        "something about this connection only, not about the next one.",
    ),
    "GPU-GENUINE": _NO_GPU,
    "GPU-MEASUREMENTS": replace(
        _NO_GPU,
        proves="The GPU's firmware is as published. Not made by this version.",
        stops="Firmware that was changed, or that has known faults.",
    ),
    "GPU-BINDING": replace(
        _NO_GPU,
        proves="The GPU evidence belongs to this boot. Not made by this version.",
        stops="The evidence of a GPU in somebody else's machine.",
    ),
}
