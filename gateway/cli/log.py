"""`attested log` with addresses as well as folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attestation.cli import log
from attestation.cli.log import HELP, run
from attestation.cli.log_folder import Place, open_folder
from gateway.cli.main import lacking_extra

if TYPE_CHECKING:
    import argparse

__all__ = ["HELP", "configure", "open_log", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    log.configure(parser, open_log)


def open_log(name: str) -> list[Place]:
    """Return the log at an address, or those in a folder."""
    if "://" not in name and not name.startswith("unix:"):
        return open_folder(name)
    try:
        # Only here: the folders of an auditor who installed nothing else need no HTTP client.
        from gateway.client.logs import HttpLog, parse_log_address  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise lacking_extra(error) from error
    source = HttpLog(parse_log_address(name))
    return [Place(name=name, source=source, load_boot=source.load_boot, close=source.close)]
