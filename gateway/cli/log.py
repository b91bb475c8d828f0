"""`attested log` with addresses as well as folders, and with what needs a boot's own folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from attestation.cli import log
from attestation.cli.log import HELP
from attestation.cli.log_folder import Place, Records, is_address, open_folder
from gateway.cli import log_export, log_records
from gateway.cli.main import lacking_extra

__all__ = ["HELP", "configure", "open_log", "read_records", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = log.configure(parser, open_log, read_records)
    actions.metavar = "verify|monitor|export"
    log_export.configure(
        actions.add_parser(
            "export",
            help=log_export.HELP,
            description=log_export.DESCRIPTION,
            epilog=log_export.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
    )


def run(args: argparse.Namespace) -> int:
    """Run the action that was asked for."""
    return log_export.run(args) if args.action == "export" else log.run(args)


def open_log(name: str) -> list[Place]:
    """Return the log at an address, or those in a folder."""
    if not is_address(name):
        return open_folder(name)
    try:
        # Only here: the folders of an auditor who installed nothing else need no HTTP client.
        from gateway.client.logs import HttpLog, parse_log_address  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error
    source = HttpLog(parse_log_address(name))
    return [Place(name=name, source=source, load_boot=source.load_boot, close=source.close)]


def read_records(name: str) -> list[Records]:
    """Return what boots recorded in a folder; an address shows nothing of that."""
    return [] if is_address(name) else log_records.read_records(Path(name).resolve())
