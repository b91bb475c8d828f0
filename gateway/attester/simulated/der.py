"""Writing the DER of the PCK certificate's SGX extension."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.attester.simulated.facts import Machine

SGX_EXTENSION_OID = "1.2.840.113741.1.13.1"
_OID_PREFIX = bytes.fromhex("2a864886f84d010d01")


def value(tag: int, contents: bytes) -> bytes:
    """Return one DER value (X.690 section 8.1) of fewer than 65,536 bytes of contents."""
    size = len(contents)
    if size < 0x80:
        return bytes((tag, size)) + contents
    if size < 0x100:
        return bytes((tag, 0x81, size)) + contents
    return bytes((tag, 0x82)) + size.to_bytes(2, "big") + contents


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE."""
    return value(0x30, b"".join(parts))


def octets(data: bytes) -> bytes:
    """Return an OCTET STRING."""
    return value(0x04, data)


def integer(number: int) -> bytes:
    """Return a non-negative INTEGER in its shortest form."""
    return value(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def boolean(flag: bool) -> bytes:  # noqa: FBT001 - it is the value, not an option
    """Return a BOOLEAN."""
    return value(0x01, b"\xff" if flag else b"\x00")


def sgx_extension(machine: Machine, ppid: bytes, piid: bytes) -> bytes:
    """Return the extension's value for `machine` (Intel's PCK certificate profile, 1.3.5)."""
    tcb = sequence(
        *(_pair((2, number), integer(svn)) for number, svn in enumerate(machine.cpu_svn, 1)),
        _pair((2, 17), integer(machine.pce_svn)),
        _pair((2, 18), octets(machine.cpu_svn)),
    )
    fields = [
        _pair((1,), octets(ppid)),
        _pair((2,), tcb),
        _pair((3,), octets(machine.pce_id)),
        _pair((4,), octets(machine.fmspc)),
        _pair((5,), value(0x0A, bytes((machine.sgx_type,)))),
    ]
    if not machine.single_package:
        flags = (machine.dynamic_platform, machine.cached_keys, machine.smt_enabled)
        configuration = sequence(
            *(_pair((7, number), boolean(flag)) for number, flag in enumerate(flags, 1))
        )
        fields += [_pair((6,), octets(piid)), _pair((7,), configuration)]
    return sequence(*fields)


def _pair(arcs: tuple[int, ...], contents: bytes) -> bytes:
    return sequence(value(0x06, _OID_PREFIX + bytes(arcs)), contents)
