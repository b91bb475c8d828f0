r"""A chat with the unmodified OpenAI client: every answer checked, every receipt anchored.

    python examples/openai_chat.py                     # against a gateway of its own
    python examples/openai_chat.py --base-url https://gateway:8443 --key-file key \
        --policy policy.toml --model my-model          # against yours

With `--root` (the root of a simulated platform) simulated evidence is accepted, too.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

import openai

# Run from a checkout, the examples' own folder is on the path; they share one helper.
from _gateway import add_arguments, open_target

from attestation.errors import AttestationError, UnavailableError


def main() -> int:
    """Ask once plain and once streaming; 0 if every receipt held and is anchored."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add_arguments(parser)
    parser.add_argument("--prompt", default="Name one use of a receipt.")
    parser.add_argument("--out", type=Path, help="folder to leave bundle and bodies in")
    args = parser.parse_args()
    with ExitStack() as stack:
        try:
            target = open_target(args, stack)
            session = target.session
            # The only difference for the application: where its HTTP client comes from.
            client = stack.enter_context(
                openai.OpenAI(
                    base_url=session.base_url,
                    api_key=target.key,
                    http_client=session.http_client(),
                )
            )
            plain = client.chat.completions.create(
                model=target.model, messages=[{"role": "user", "content": args.prompt}]
            )
            print(plain.choices[0].message.content)
            for chunk in client.chat.completions.create(
                model=target.model,
                messages=[{"role": "user", "content": args.prompt}],
                stream=True,
            ):
                print(chunk.choices[0].delta.content or "" if chunk.choices else "", end="")
            print()
            # Answers were checked when they came; what they are worth for an auditor is settled
            # some seconds later, when the log with their receipts has been quoted.
            report = session.anchor()
        except AttestationError as error:
            print(f"not usable: {error}", file=sys.stderr)
            return error.exit_code
        except openai.APIStatusError as error:
            print(f"the gateway answered {error.status_code}: {error.message}", file=sys.stderr)
            return UnavailableError.exit_code
        for call in session.calls:
            why = report.left.get(call.receipt_id or "", "anchored")
            print(f"receipt {call.receipt_id}: {call.verdict}, {why}", file=sys.stderr)
        if args.out:
            print(f"for the auditor: {session.export(args.out, seconds=0)}", file=sys.stderr)
    return 0 if report.complete else 12


if __name__ == "__main__":
    sys.exit(main())
