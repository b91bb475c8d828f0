"""The values of an appraisal policy.

Every default is the strictest value a current Intel platform can meet; what has no safe
default (which software runs) has none, so a policy without reference values does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attestation.checks import ANCHORING, FLOOR

if TYPE_CHECKING:
    from attestation.encoding.digest import Digest

ZERO_48 = bytes(48)
SEPT_VE_DISABLE = 0x1000_0000
ALL_BITS = (1 << 64) - 1
UP_TO_DATE = "UpToDate"
SGX_TYPES = ("standard", "scalable", "scalable-with-integrity")
"""What policies call the SGX types of PCK certificates; the number of each is its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRule:
    """One TCB status that is accepted, at instants before `until` (Unix seconds, None: always)."""

    status: str
    until: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisoryRule:
    """One security advisory that may be open, at instants before `until` (Unix seconds)."""

    id: str
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttributeRule:
    """TDATTRIBUTES: the bits in `mask` must be as in `value`; all 64 by default."""

    value: int = SEPT_VE_DISABLE
    mask: int = ALL_BITS

    def accepts(self, attributes: int) -> bool:
        """Say whether `attributes` agrees with `value` in every bit of `mask`."""
        return attributes & self.mask == self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class TdxRules:
    """What is asked of the platform, the TDX module and the way the domain runs.

    `mrseam` None accepts every module that Intel signed and the endorsements know.
    `min_tcb_date` (Unix seconds) is the earliest date of the platform's TCB level, and
    `min_tee_tcb_svn` (16 bytes) the least TEE_TCB_SVN, each of its components by itself.
    `unbound_keys` accepts a boot whose platform cannot extend RTMR3.
    """

    tcb_status: tuple[StatusRule, ...] = (StatusRule(status=UP_TO_DATE),)
    advisories: tuple[AdvisoryRule, ...] = ()
    min_tcb_evaluation_number: int = 0
    min_tcb_date: int | None = None
    min_tee_tcb_svn: bytes | None = None
    attributes: AttributeRule = AttributeRule()
    xfam: tuple[int, ...] = (0x602E7, 0x600E7)
    mrseam: tuple[bytes, ...] | None = None
    unbound_keys: bool = False
    max_key_events: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RequiredEvent:
    """An RTMR3 event that must stand before the key event: its name and SHA-384 digest."""

    name: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceValues:
    """One named tuple of measurements; all of it must match, never parts of several.

    Registers are 48 bytes.  `rtmr3` None means: by replay of the event log, where exactly
    `events`, in this order, come before the key events.  What is None below is not pinned.
    """

    name: str
    mrtd: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes | None
    events: tuple[RequiredEvent, ...] = ()
    mrconfigid: bytes = ZERO_48
    mrowner: bytes = ZERO_48
    mrownerconfig: bytes = ZERO_48
    config_digest: Digest | None = None
    origin: str | None = None
    image: str | None = None
    model: Digest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedMachine:
    """An entry of a platform list: a value, and when it counts (Unix seconds, None: no end).

    It counts from the instant `since` on and before `until`; `label` is for people.
    """

    value: bytes
    label: str | None = None
    since: int | None = None
    until: int | None = None

    def counts(self, at: int) -> bool:
        """Say whether the entry counts at the instant `at` (Unix seconds)."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRules:
    """Which machines: each list that is given must contain the machine's value.

    `sgx_type` holds places in `SGX_TYPES`.  The
    last three say of a property whether a machine may have it: `False` refuses a machine unless
    its certificate says that it has it not, `True` accepts it, None leaves it an information.
    """

    ppid: tuple[ListedMachine, ...] | None = None
    piid: tuple[ListedMachine, ...] | None = None
    fmspc: tuple[ListedMachine, ...] | None = None
    sgx_type: tuple[int, ...] | None = None
    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt: bool | None = None

    @property
    def names_machines(self) -> bool:
        """Whether any list says which machines, and not only of what kind."""
        return any(each is not None for each in (self.ppid, self.piid, self.fmspc))

    @property
    def demands(self) -> bool:
        """Whether there is anything that a machine could fail to meet."""
        refused = (self.dynamic_platform, self.cached_keys, self.smt)
        return self.names_machines or self.sgx_type is not None or False in refused


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedBy:
    """A signature that was checked: by which key (C2SP vkey), of which version and SHA-256."""

    signer: str
    version: str
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """An appraisal policy; `digest` is the SHA-256 of the file it was read from.

    `version` is what its author calls it.  `signatures` are those of the file by keys that were
    asked for; empty where no signature was checked.
    `max_age_days` bounds the age of the endorsements; `require` names checks that must pass beyond
    the floor.  `require_complete` asks that the file hold every receipt of its logs.
    """

    digest: Digest | None
    version: str | None = None
    signatures: tuple[SignedBy, ...] = ()
    tdx: TdxRules = TdxRules()
    reference_values: tuple[ReferenceValues, ...] = ()
    max_age_days: int | None = None
    platform: PlatformRules = PlatformRules()
    gpu_required: bool = False
    require_anchored: bool = True
    require_complete: bool = False
    lineage_complete: bool = False
    require: frozenset[str] = frozenset()

    @property
    def signers(self) -> tuple[str, ...]:
        """The verifier keys that signed the file, out of those that were asked for."""
        return tuple(one.signer for one in self.signatures)

    @property
    def required(self) -> frozenset[str]:
        """The ids of every check that must pass: the floor, and what this policy adds."""
        floor = FLOOR if self.require_anchored else FLOOR - ANCHORING
        gpu = {"GPU-GENUINE", "GPU-MEASUREMENTS", "GPU-BINDING"} if self.gpu_required else set()
        chain = {"EPOCH-CHAIN"} if self.require_complete else set()
        lineage = {"LINEAGE-COMPLETE"} if self.lineage_complete else set()
        machines = {"PLATFORM"} if self.platform.demands else set()
        return floor | gpu | chain | lineage | machines | self.require


NO_POLICY = Policy(digest=None)
"""The floor with its defaults: enough to refuse, never enough to accept."""
