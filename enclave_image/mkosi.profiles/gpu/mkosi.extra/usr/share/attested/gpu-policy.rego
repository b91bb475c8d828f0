# The policy that GPUs are accepted by: measured as event gpu.policy, and given to NVIDIA's verifier
# (nvattest --relying-party-policy), which asks for policy.nv_match over its list of claims, one for
# each device. Names and values of claims: NVIDIA's claims guide, version 3. NOT RUN ON HARDWARE.
package policy

import future.keywords.every
import future.keywords.in

default nv_match := false

nv_match {
    count(input) > 0
    every claim in input {
        accepted(claim)
    }
}

# One GPU: secure boot, no debugging, every measurement as in NVIDIA's signed reference values for
# this very driver and its VBIOS, under certificates that are not revoked.
accepted(claim) {
    claim["x-nvidia-device-type"] == "gpu"
    claim.measres == "success"
    claim.dbgstat == "disabled"
    claim["x-nvidia-gpu-driver-version"] == "550.163.01"
    every name in shown {
        claim[name] == true
    }
    every name in chains {
        claim[name]["x-nvidia-cert-status"] == "valid"
        claim[name]["x-nvidia-cert-ocsp-status"] == "good"
    }
}

shown := {
    "secboot",
    "x-nvidia-gpu-arch-check",
    "x-nvidia-gpu-attestation-report-parsed",
    "x-nvidia-gpu-attestation-report-nonce-match",
    "x-nvidia-gpu-attestation-report-signature-verified",
    "x-nvidia-gpu-attestation-report-cert-chain-fwid-match",
    "x-nvidia-gpu-driver-rim-schema-validated",
    "x-nvidia-gpu-driver-rim-signature-verified",
    "x-nvidia-gpu-driver-rim-version-match",
    "x-nvidia-gpu-driver-rim-measurements-available",
    "x-nvidia-gpu-vbios-rim-schema-validated",
    "x-nvidia-gpu-vbios-rim-signature-verified",
    "x-nvidia-gpu-vbios-rim-version-match",
    "x-nvidia-gpu-vbios-rim-measurements-available",
    "x-nvidia-gpu-vbios-index-no-conflict",
}

chains := {
    "x-nvidia-gpu-attestation-report-cert-chain",
    "x-nvidia-gpu-driver-rim-cert-chain",
    "x-nvidia-gpu-vbios-rim-cert-chain",
}
