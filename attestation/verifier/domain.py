"""What runs in the trust domain: attributes, TDX module, measurements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.verifier.words import attributes, short

if TYPE_CHECKING:
    from attestation.policy import Policy, ReferenceValues
    from attestation.statement import BootStatement
    from attestation.tdx.body import TdReport
    from attestation.verifier.ledger import Page

_FACTS = ("config_digest", "origin", "image", "model")


def check_attributes(body: TdReport, policy: Policy, page: Page) -> None:
    """TD-ATTRIBUTES: TDATTRIBUTES, XFAM, and no service domain with a say in this one."""
    rule = policy.tdx.attributes
    if not rule.accepts(body.td_attributes):
        page.not_accepted(
            "TD-ATTRIBUTES",
            "TDATTRIBUTES is not what the policy asks for",
            expected=f"{rule.value:#x} in the bits of {rule.mask:#x}",
            observed=attributes(body),
            hint="0x10000000 is SEPT_VE_DISABLE alone; bit 0 is debug, bit 63 is PERFMON",
        )
    elif body.xfam not in policy.tdx.xfam:
        page.not_accepted(
            "TD-ATTRIBUTES",
            "XFAM (which processor state the domain may use) is on no list of the policy",
            expected=" or ".join(f"{value:#x}" for value in policy.tdx.xfam),
            observed=f"{body.xfam:#x}",
            hint="start the domain with the features that were reviewed, or list the word in "
            "[tdx] xfam",
        )
    elif any(body.mr_service_td or b""):
        page.not_accepted(
            "TD-ATTRIBUTES",
            "a service domain is bound to this one",
            expected="MRSERVICETD all zero",
            observed=short(body.mr_service_td or b""),
            hint="start the domain without one: a service domain can move it to another platform",
        )
    else:
        page.passed(
            "TD-ATTRIBUTES",
            _accepted(body),
            observed=f"TDATTRIBUTES {attributes(body)}, XFAM {body.xfam:#x}",
        )


def _accepted(body: TdReport) -> str:
    if named := ", ".join(body.unusual_attributes):
        return f"no debug; unusual, and accepted by the policy: {named}"
    return "no debug, nothing unusual"


def check_module(body: TdReport, policy: Policy, page: Page) -> None:
    """TDX-MODULE: Intel's signer, no special attributes, on the list if the policy has one."""
    listed = policy.tdx.mrseam
    if any(body.mr_signer_seam) or any(body.seam_attributes):
        page.not_accepted(
            "TDX-MODULE",
            "the TDX module is not a production module of Intel's",
            expected="MRSIGNERSEAM and SEAMATTRIBUTES all zero",
            observed=f"{short(body.mr_signer_seam)} and {short(body.seam_attributes)}",
            hint="load a release of Intel's on the platform; no policy can accept another module",
        )
    elif listed is not None and body.mr_seam not in listed:
        page.not_accepted(
            "TDX-MODULE",
            "the TDX module is not on the policy's list",
            expected=" or ".join(short(value) for value in listed),
            observed=short(body.mr_seam),
            hint="`attested inspect` shows MRSEAM in full: list it in [tdx] mrseam after review",
        )
    else:
        rule = "on the policy's list" if listed else "any module Intel signed (no mrseam list)"
        page.passed("TDX-MODULE", rule, observed=f"MRSEAM {short(body.mr_seam)}")


def check_measurements(
    body: TdReport, statement: BootStatement | None, policy: Policy, page: Page
) -> tuple[ReferenceValues, ...]:
    """MEASUREMENTS: all of one named tuple is seen to agree; returns every tuple that does.

    `statement` None means a quote by itself: what tuples pin about the statement stays open.
    """
    if not policy.reference_values:
        page.skipped(
            "MEASUREMENTS",
            "no policy was given, so nothing says which software is wanted",
            hint="give one with --policy FILE; `attested inspect` shows the values to pin",
        )
        return ()
    compared = [
        (values, _differences(values, body, statement)) for values in policy.reference_values
    ]
    agreeing = tuple(values for values, differences in compared if not differences)
    if not agreeing:
        _no_tuple(compared, page)
        return ()
    # A tuple that is not met in full must not lend its other values to one that is.
    met = tuple(v for v in agreeing if statement is not None or not _pins_statement(v))
    if not met:
        page.skipped(
            "MEASUREMENTS",
            f'the registers match "{agreeing[0].name}", which also pins facts that a quote by '
            "itself does not show",
            hint="verify a bundle, or use a tuple without config_digest, origin, image and model",
        )
        return ()
    page.passed("MEASUREMENTS", "matches " + ", ".join(f'"{v.name}"' for v in met))
    return met


def _no_tuple(compared: list[tuple[ReferenceValues, dict[str, str]]], page: Page) -> None:
    values, differences = min(compared, key=lambda pair: len(pair[1]))
    page.not_accepted(
        "MEASUREMENTS",
        f"the software is none of the {len(compared)} that the policy names; "
        f'nearest is "{values.name}"',
        expected=f'all of "{values.name}"',
        observed="; ".join(f"{name} {text}" for name, text in differences.items()),
        hint="review what changed; pin a new tuple only for software you can account for",
    )


def _differences(
    values: ReferenceValues, body: TdReport, statement: BootStatement | None
) -> dict[str, str]:
    pairs: dict[str, tuple[bytes, bytes]] = {
        "mrtd": (values.mrtd, body.mrtd),
        "rtmr0": (values.rtmr0, body.rtmrs[0]),
        "rtmr1": (values.rtmr1, body.rtmrs[1]),
        "rtmr2": (values.rtmr2, body.rtmrs[2]),
        "mrconfigid": (values.mrconfigid, body.mr_config_id),
        "mrowner": (values.mrowner, body.mr_owner),
        "mrownerconfig": (values.mrownerconfig, body.mr_owner_config),
    }
    if values.rtmr3 is not None:
        pairs["rtmr3"] = (values.rtmr3, body.rtmrs[3])
    differences = {
        name: f"{short(seen)} instead of {short(pinned)}"
        for name, (pinned, seen) in pairs.items()
        if pinned != seen
    }
    return differences | (_statement_differences(values, statement) if statement else {})


def _statement_differences(values: ReferenceValues, statement: BootStatement) -> dict[str, str]:
    seen = {
        "config_digest": statement.config_digest,
        "origin": statement.log_origin.rpartition("/")[0],
        "image": statement.image,
        "model": statement.model_digest,
    }
    pinned = {name: getattr(values, name) for name in _FACTS}
    return {
        name: f"{seen[name]} instead of {value}"
        for name, value in pinned.items()
        if value is not None and value != seen[name]
    }


def _pins_statement(values: ReferenceValues) -> bool:
    return any(getattr(values, name) is not None for name in _FACTS)
