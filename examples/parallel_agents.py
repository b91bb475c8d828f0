r"""Three agents at once, a review that waits for them, and the graph their receipts prove.

    python examples/parallel_agents.py                 # against a gateway of its own
    python examples/parallel_agents.py --base-url https://gateway:8443 --key-file key \
        --policy policy.toml --model my-model          # against yours

All four calls carry one task id and one trace; the review names the receipts it follows from.
What is printed at the end comes from the receipts, not from what this program remembers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
from _gateway import Target, add_arguments, open_target

from attestation.errors import AttestationError, UnavailableError
from attestation.receipt.signing import Receipt

FEATURE = "a function that says whether a year is a leap year"
AGENTS = {
    "implementation": f"Write {FEATURE}, in Python, and nothing else.",
    "tests": f"Write tests for {FEATURE}, in Python, and nothing else.",
    "documentation": f"Write two sentences of documentation for {FEATURE}.",
}
REVIEW = "Review this work in one paragraph.\n\n{work}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one agent delivered, and the id of the receipt for it."""

    agent: str
    text: str
    receipt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What all calls of this run have in common (W3C Trace Context, and a task id)."""

    task_id: str
    trace_id: str

    def headers(self, parents: list[str]) -> dict[str, str]:
        """Lineage headers for one call; every call is a span of its own."""
        headers = {
            "X-Task-Id": self.task_id,
            "traceparent": f"00-{self.trace_id}-{secrets.token_hex(8)}-01",
        }
        if parents:
            headers["X-Receipt-Parents"] = ",".join(parents)
        return headers


async def work(
    client: openai.AsyncOpenAI, model: str, task: Task, agent: str, prompt: str, *parents: str
) -> Work:
    """One agent: a streamed answer, and the id under which its receipt is kept."""
    stream = await client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": prompt}],
        max_tokens=200,
        stream=True,
        extra_headers=task.headers(list(parents)),
    )
    text = ""
    async for chunk in stream:
        text += (chunk.choices[0].delta.content or "") if chunk.choices else ""
    return Work(agent=agent, text=text, receipt_id=stream.response.headers["x-receipt-id"])


async def collaborate(target: Target, task: Task) -> dict[str, str]:
    """Run everybody; returns the agents' names by receipt id."""
    session = target.session
    async with openai.AsyncOpenAI(
        base_url=session.base_url, api_key=target.key, http_client=session.async_http_client()
    ) as client:
        drafts = await asyncio.gather(
            *(work(client, target.model, task, *item) for item in AGENTS.items())
        )
        prompt = REVIEW.format(work="\n\n".join(f"{d.agent}:\n{d.text}" for d in drafts))
        parents = [draft.receipt_id for draft in drafts]
        review = await work(client, target.model, task, "review", prompt, *parents)
    # The log is quoted over all four receipts; what cannot be anchored is said by its verdict.
    await session.async_anchor()
    return {one.receipt_id: one.agent for one in (*drafts, review)}


def graph(target: Target, names: dict[str, str]) -> list[dict[str, Any]]:
    """The calls as their receipts tell it, in the order they were sealed."""
    calls = [(c, r) for c in target.session.calls if (r := c.parse_receipt()) is not None]
    agents = {receipt.digest: names[receipt.claims.jti] for _, receipt in calls}
    rows = []
    for call, receipt in sorted(calls, key=lambda pair: pair[1].claims.lineage.call):
        lineage = receipt.claims.lineage
        rows.append(
            {
                "call": lineage.call,
                "agent": names[receipt.claims.jti],
                "receipt": receipt.claims.jti,
                "task": lineage.txn,
                "end": str(receipt.claims.response.end),
                "parents": sorted(agents[parent.digest] for parent in lineage.parents),
                "follows": agents[lineage.previous] if lineage.previous else None,
                "anchored": call.anchored,
                "verdict": str(call.verdict),
                "tokens": _tokens(receipt),
            }
        )
    return rows


def _tokens(receipt: Receipt) -> int | None:
    return receipt.claims.usage.total if receipt.claims.usage else None


def show(rows: list[dict[str, Any]]) -> str:
    """The graph as text."""
    lines = [f"task {rows[0]['task']}"]
    for row in rows:
        lines.append(
            f"  {row['call']}  {row['agent']:<15} receipt {row['receipt']}  "
            f"{row['end']}, verified: {row['verdict']}{', anchored' * row['anchored']}"
        )
        lines += [f"       └── follows from {parent}" for parent in row["parents"]]
    return "\n".join(lines)


def main() -> int:
    """Run the agents; 0 if every receipt held, is anchored, and the review follows from all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    add_arguments(parser)
    parser.add_argument("--out", type=Path, help="folder to leave bundle and bodies in")
    parser.add_argument("--json", action="store_true", help="the graph as JSON")
    args = parser.parse_args()
    task = Task(task_id=f"leap-year-{secrets.token_hex(4)}", trace_id=secrets.token_hex(16))
    with ExitStack() as stack:
        try:
            target = open_target(args, stack)
            names = asyncio.run(collaborate(target, task))
        except AttestationError as error:
            print(f"not usable: {error}", file=sys.stderr)
            return error.exit_code
        except openai.APIStatusError as error:
            print(f"the gateway answered {error.status_code}: {error.message}", file=sys.stderr)
            return UnavailableError.exit_code
        rows = graph(target, names)
        print(json.dumps(rows) if args.json else show(rows))
        if args.out:
            print(f"for the auditor: {target.session.export(args.out, seconds=0)}", file=sys.stderr)
    if len(rows) != len(AGENTS) + 1 or rows[-1]["parents"] != sorted(AGENTS):
        return 10
    return 12 if target.session.unanchored else 0


if __name__ == "__main__":
    sys.exit(main())
