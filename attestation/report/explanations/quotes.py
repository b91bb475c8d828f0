"""Checks on a quote by itself: form, signatures, endorsements, platform."""

from __future__ import annotations

from attestation.report.explanations.model import AT, DECODE, WORK, Explanation, python

_PARTS = """\
rest = quote[len(signed) + 4 :]                         # signature, key, QE report, chain
def der(raw):                                           # ECDSA as openssl wants it (RFC 3279)
    pair = b"".join(b"\\x02" + bytes([len(n)]) + n for n in (
        i.to_bytes(i.bit_length() // 8 + 1, "big") for i in (
            int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))))
    return b"\\x30" + bytes([len(pair)]) + pair
def pem(kind, data):
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN {kind}-----\\n{text}-----END {kind}-----\\n".encode()
p256 = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")
auth = 584 + int.from_bytes(rest[582:584], "little")
qe_report, chain = rest[134:518], rest[auth + 6 :]
"""

_GENUINE = (
    AT
    + WORK
    + python(
        _PARTS
        + """
assert hashlib.sha256(rest[64:128] + rest[584:auth]).digest() == qe_report[320:352]
files = {"report": signed, "report.sig": der(rest[:64]),
         "key.pem": pem("PUBLIC KEY", p256 + rest[64:128]),
         "qe": qe_report, "qe.sig": der(rest[518:582]), "chain.pem": chain}
lists = bundle["collateral"][boot["collateral"]]
files["crl.pem"] = b"".join(pem("X509 CRL", decode(lists[n])) for n in ("pck_crl", "root_ca_crl"))
for name, data in files.items():
    pathlib.Path(os.environ["work"], name).write_bytes(data)
"""
    )
    + """
openssl x509 -in "$work/chain.pem" -noout -pubkey > "$work/pck.pem"
openssl dgst -sha256 -verify "$work/key.pem" -signature "$work/report.sig" "$work/report" &&
openssl dgst -sha256 -verify "$work/pck.pem" -signature "$work/qe.sig" "$work/qe" &&
openssl verify -attime "$AT" -CAfile root.pem -untrusted "$work/chain.pem" -crl_check_all \\
  -CRLfile "$work/crl.pem" "$work/chain.pem\""""
)

_LEVELS = (
    _PARTS
    + """
leaf = base64.b64decode(b"".join(chain.split(b"-----")[2].split()))
def svn(number):                                        # 1.2.840.113741.1.13.1.2.number
    oid = bytes.fromhex("060b2a864886f84d010d0102") + bytes([number])
    value = leaf[leaf.index(oid) + len(oid) :]
    return int.from_bytes(value[2 : 2 + value[1]], "big")
sgx, pce, tdx = [svn(n) for n in range(1, 17)], svn(17), quote[body : body + 16]
own = bundle["collateral"][boot["collateral"]]
info, identity = json.loads(own["tcb_info"]), json.loads(own["qe_identity"])
def platform(tcb):
    numbers = lambda name: [component["svn"] for component in tcb[name]]
    first = 2 if tdx[1] else 0                          # the module has levels of its own then
    return (all(a >= b for a, b in zip(sgx, numbers("sgxtcbcomponents"))) and pce >= tcb["pcesvn"]
            and all(a >= b for a, b in zip(tdx[first:], numbers("tdxtcbcomponents")[first:])))
found = [next(level for level in info["tcbLevels"] if platform(level["tcb"]))]
if tdx[1]:
    module = next(m for m in info["tdxModuleIdentities"] if m["id"] == f"TDX_{tdx[1]:02}")
    found.append(next(l for l in module["tcbLevels"] if l["tcb"]["isvsvn"] <= tdx[0]))
enclave = int.from_bytes(qe_report[258:260], "little")
found.append(next(l for l in identity["tcbLevels"] if l["tcb"]["isvsvn"] <= enclave))
"""
)

_MACHINE = (
    _PARTS
    + """
leaf = base64.b64decode(b"".join(chain.split(b"-----")[2].split()))
def value(number, size):                                # 1.2.840.113741.1.13.1.number, OCTET STRING
    oid = bytes.fromhex("060a2a864886f84d010d01") + bytes([number, 4, size])
    return leaf[leaf.index(oid) + len(oid) :][:size].hex()
machine = {"ppid": value(1, 16), "fmspc": value(4, 6)}
print(machine)
assert machine["fmspc"] == json.loads(
    bundle["collateral"][boot["collateral"]]["tcb_info"])["fmspc"].lower()
"""
)

QUOTES = {
    "BUNDLE": Explanation(
        proves="The file's bytes are the one canonical form of its contents, with no unknown "
        "member, nothing twice and nothing unused. A file in another form is MALFORMED.",
        stops="Files that two programs read differently: a member twice, a second spelling, "
        "something hidden beside what is checked.",
        by_hand="jq -cjS . bundle.json | cmp - bundle.json",
        aside="jq orders members as RFC 8785 does as long as their names are ASCII, as here. That "
        "no member is unknown or unused takes the format's text.",
    ),
    "QUOTE-FORMAT": Explanation(
        proves="The quote is a TDX quote of version 4 or 5 in the one form that bundles carry.",
        stops="Rewriting what no signature covers: padding, another spelling of the certificates "
        "or of a signature, so that one quote would have many names.",
        by_hand=python("""
key, tee = int.from_bytes(quote[2:4], "little"), int.from_bytes(quote[4:8], "little")
rest = int.from_bytes(quote[len(signed) :][:4], "little")
print(f"version {quote[0]}, key type {key}, TEE {tee:#x}, {len(quote)} bytes")
assert (key, tee, len(signed) + 4 + rest) == (2, 0x81, len(quote))
"""),
        aside="The form of the certificates inside (PEM, in order, nothing between) is not redone.",
    ),
    "QUOTE-GENUINE": Explanation(
        proves="Signatures lead from the quote over the platform's quoting enclave and its "
        "certificates to a root that you accept, and nothing on the way is revoked. It needs "
        "endorsements: in the file, or given with --endorsements.",
        stops="Forged quotes, quotes under a root of the forger's, platforms whose keys Intel has "
        "revoked.",
        by_hand=_GENUINE,
        aside="The quoting enclave's identity and the signatures of TCB info and QE identity are "
        "not redone here. Certificates and revocation lists are judged by the instant AT (Unix "
        "seconds; now if unset). For real quotes, root.pem is Intel's SGX root CA.",
    ),
    "COLLATERAL-FRESH": Explanation(
        proves="Intel's signed data about the platform is within its dates at the instant you "
        "judge by (--at, now if absent), and no older than the policy and your own memory allow. "
        "Otherwise fetch current endorsements, or judge by the instant at which you held them.",
        stops="Stale or rolled-back endorsements that do not know of a weakness yet.",
        by_hand=AT
        + DECODE
        + """\
jq -r '.collateral[] | .pck_crl, .root_ca_crl' bundle.json | while read -r list; do
  echo "$list" | python3 -c "$decode" |
    openssl crl -inform DER -noout -issuer -lastupdate -nextupdate
done
jq -re --argjson at "$AT" '[.collateral[] | .tcb_info, .qe_identity | fromjson] |
  (.[] | [.issueDate, .nextUpdate, .tcbEvaluationDataNumber] | @tsv),
  all((.issueDate | fromdate) <= $at and $at < (.nextUpdate | fromdate))' bundle.json""",
        aside="AT is the instant to judge by (Unix seconds; now if unset). The dates of the "
        "revocation lists are only shown here; the commands of QUOTE-GENUINE judge by them.",
    ),
    "TCB-STATUS": Explanation(
        proves="Firmware, microcode, TDX module and quoting enclave have a patch status that the "
        "policy lists.",
        stops="Platforms that are open to known attacks and say so by their version numbers.",
        by_hand=python(
            _LEVELS
            + """
print([level["tcbStatus"] for level in found])
assert {level["tcbStatus"] for level in found} == {"UpToDate"}
"""
        ),
        aside="The script asks for UpToDate; a policy may list more until a date. Intel publishes "
        "the algorithm with its PCS API (Get TCB Info).",
    ),
    "TCB-ADVISORIES": Explanation(
        proves="Intel names no security advisory for this patch level beyond those that the "
        "policy allows until a date.",
        stops="Platforms that somebody's policy calls good enough while an advisory is open.",
        by_hand=python(
            _LEVELS
            + """
names = [name for level in found for name in level.get("advisoryIDs", [])]
print(names)
assert not names
"""
        ),
    ),
    "TD-ATTRIBUTES": Explanation(
        proves="The trust domain cannot be debugged, migrated or observed by performance counters, "
        "and no service domain is bound to it.",
        stops="A debug domain, whose memory is open to its host, under the right measurements.",
        by_hand=python("""
attributes = int.from_bytes(quote[body + 120 : body + 128], "little")
xfam = int.from_bytes(quote[body + 128 : body + 136], "little")
print(f"TDATTRIBUTES {attributes:#x}, XFAM {xfam:#x}")
assert attributes == 0x10000000 and xfam in (0x602e7, 0x600e7)
assert not any(quote[body + 600 : len(signed)])         # MRSERVICETD, in version 5
"""),
    ),
    "TDX-MODULE": Explanation(
        proves="The module that isolates the domain is a production module signed by Intel, and on "
        "the policy's list if it has one.",
        stops="Another or an old module underneath the domain, which could show anything.",
        by_hand=python("""
print("MRSEAM", quote[body + 16 : body + 64].hex())
assert not any(quote[body + 64 : body + 120])           # MRSIGNERSEAM and SEAMATTRIBUTES
"""),
        aside="Compare MRSEAM with the list in your policy, or with the releases that Intel "
        "publishes.",
    ),
    "PLATFORM": Explanation(
        proves="The machine is on the policy's list, by what its certificate says.",
        stops="Quotes of a machine whose attestation key was extracted by physical attack: they "
        "are forged for its own name only, so that a list limits the harm.",
        by_hand=python(_MACHINE),
        aside="The script shows the machine and that the endorsements are for its kind; compare "
        "the PPID with your list.",
    ),
}
