"""`attested keys`: make, list and revoke API keys; only their digests are ever stored."""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from attestation.errors import UsageError
from gateway.access.grants import (
    MAX_CONCURRENCY,
    MAX_REQUESTS_PER_MINUTE,
    MAX_TOKENS_PER_MINUTE,
    parse_budget,
)
from gateway.access.keyfile import KeyRecord, add_key, load_keys, revoke_key
from gateway.access.principal import ANY, DEFAULT_CONCURRENCY, Grant, Period, Quota, subject_of
from gateway.edge.routes import PATHS

if TYPE_CHECKING:
    from collections.abc import Iterator

HELP = "make, list and revoke API keys"

_EXAMPLES = """examples:
  attested keys add --keys-file keys.json --label build-agent
  attested keys add --keys-file keys.json --models my-model --concurrency 4 --expires 2027-01-31
  attested keys add --keys-file keys.json --requests-per-minute 60 --token-budget 1000000/day
  attested keys list --config gateway.toml
  attested keys revoke --config gateway.toml build-agent

A key is printed once, by `add`; the file holds its SHA-256 only. A running gateway notices a
change within a second.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.epilog = _EXAMPLES
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    common = argparse.ArgumentParser(add_help=False)
    where = common.add_mutually_exclusive_group(required=True)
    where.add_argument("--keys-file", metavar="FILE", type=Path, help="file of hashed keys")
    where.add_argument("--config", metavar="FILE", type=Path, help="take the file from settings")
    common.add_argument("--json", action="store_true", help="one JSON object on stdout")
    actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|revoke")
    _configure_add(actions.add_parser("add", parents=[common], help="make a key and print it once"))
    actions.add_parser("list", parents=[common], help="list keys by label and digest")
    revoke = actions.add_parser(
        "revoke", parents=[common], help="revoke the one key with this label or digest"
    )
    revoke.add_argument("name", metavar="LABEL|DIGEST", help="label, or 8+ characters of digest")


def _configure_add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--label", default="", help="a name for operators, never identity")
    parser.add_argument(
        "--routes", nargs="+", default=[ANY], metavar="PATH", help="paths the key may call (all)"
    )
    parser.add_argument(
        "--models", nargs="+", default=[ANY], metavar="ID", help="models it may ask for (all)"
    )
    parser.add_argument(
        "--concurrency",
        type=int,
        default=DEFAULT_CONCURRENCY,
        metavar="N",
        help=f"requests at once, 1 to {MAX_CONCURRENCY} (default {DEFAULT_CONCURRENCY})",
    )
    parser.add_argument(
        "--requests-per-minute",
        type=int,
        metavar="N",
        help=f"requests, 1 to {MAX_REQUESTS_PER_MINUTE} (no limit)",
    )
    parser.add_argument(
        "--tokens-per-minute",
        type=int,
        metavar="N",
        help=f"tokens in and out together, 1 to {MAX_TOKENS_PER_MINUTE} (no limit)",
    )
    parser.add_argument(
        "--token-budget",
        metavar="N[/day]",
        help="tokens in all, or for each day by UTC (no limit)",
    )
    parser.add_argument(
        "--expires", metavar="TIME", help="unix seconds or RFC 3339 date or time (never)"
    )


def run(args: argparse.Namespace) -> int:
    """Do what was asked; refusals are raised."""
    path = args.keys_file or _path_from_settings(args.config)
    now = int(time.time())
    if args.action == "add":
        _add(path, args, now)
    elif args.action == "list":
        _list(path, args, now)
    else:
        record = revoke_key(path, name=args.name, now=now)
        print(json.dumps(_shown(record, now)) if args.json else f"revoked {_line(record, now)}")
    return 0


def parse_time(text: str) -> int:
    """Return the unix seconds of `text`: digits, or an RFC 3339 date or time (UTC if it is bare).

    Raises `UsageError`.
    """
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            "a time cannot be read",
            code="time",
            expected="unix seconds, 2027-01-31 or 2027-01-31T12:00:00Z",
            observed=ascii(text[:40]),
        ) from None
    return int((instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp())


def _path_from_settings(config: Path) -> Path:
    from gateway.settings import load_settings  # noqa: PLC0415 - needs the server extra

    return load_settings(config).settings.access.keys_file


def _add(path: Path, args: argparse.Namespace, now: int) -> None:
    grant = Grant(
        routes=tuple(args.routes),
        models=tuple(args.models),
        concurrency=args.concurrency,
        expires=parse_time(args.expires) if args.expires else None,
        quota=_quota(args),
    )
    if grant.expires is not None and grant.expires <= now:
        raise UsageError(
            "the key would have expired already",
            code="expires",
            expected="a time to come",
            observed=f"{args.expires}, {now - grant.expires} seconds ago",
        )
    for warning in _warnings(path, args):
        print(f"warning: {warning}", file=sys.stderr)
    key = add_key(path, label=args.label, grant=grant, now=now)
    sub = subject_of(key.encode("ascii")).base64url
    if args.json:
        print(json.dumps({"grant": grant.to_json(), "key": key, "label": args.label, "sub": sub}))
        return
    print(key)
    print(f"this is the only time the key is shown; its digest is {sub}", file=sys.stderr)


def _quota(args: argparse.Namespace) -> Quota | None:
    budget, period = None, Period.TOTAL
    if args.token_budget is not None:
        budget, period = parse_budget(args.token_budget)
    quota = Quota(
        requests_per_minute=args.requests_per_minute,
        tokens_per_minute=args.tokens_per_minute,
        token_budget=budget,
        budget_period=period,
    )
    return None if quota == Quota() else quota


def _warnings(path: Path, args: argparse.Namespace) -> Iterator[str]:
    """What is allowed and yet looks like a mistake."""
    for route in args.routes:
        if route != ANY and route not in PATHS:
            near = get_close_matches(route, PATHS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            yield f"the gateway has no inference route {route!a}{hint}"
    in_use = [r for r in load_keys(path) if r.revoked is None] if path.exists() else []
    alike = sum(record.label == args.label for record in in_use)
    if args.label and alike:
        others = "another key has" if alike == 1 else f"{alike} other keys have"
        yield f"{others} the label {args.label!a}: to revoke one, name it by its digest"


def _list(path: Path, args: argparse.Namespace, now: int) -> None:
    records = load_keys(path)
    if args.json:
        print(json.dumps({"keys": [_shown(record, now) for record in records]}))
        return
    for record in records:
        print(_line(record, now))
    if not records:
        print(f"no keys in {path}", file=sys.stderr)


def _shown(record: KeyRecord, now: int) -> dict[str, object]:
    return record.to_json() | {"state": _state(record, now)}


def _state(record: KeyRecord, now: int) -> str:
    if record.revoked is not None:
        return "revoked"
    expires = record.grant.expires
    return "expired" if expires is not None and now >= expires else "active"


def _line(record: KeyRecord, now: int) -> str:
    grant = record.grant
    expires = "never" if grant.expires is None else _date(grant.expires)
    return (
        f"{record.sub.base64url}  {_state(record, now):<8} {record.label or '-':<24} "
        f"routes={','.join(grant.routes)} models={','.join(grant.models)} "
        f"concurrency={grant.concurrency} {_limits(grant)}expires={expires}"
    )


def _limits(grant: Grant) -> str:
    """The quota in the words of the flags that make it."""
    if grant.quota is None:
        return ""
    shown = grant.quota.to_json()
    period = shown.pop("budget_period", None)
    if period == Period.DAY:
        shown["token_budget"] = f"{shown['token_budget']}/day"
    return "".join(f"{name.replace('_', '-')}={value} " for name, value in shown.items())


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
