"""Results for people and for programs."""

from attestation.report.document import RESULT_SCHEMA, RESULTS_SCHEMA, document, documents
from attestation.report.explain import explain
from attestation.report.show import show_bundle, show_openings, show_quote
from attestation.report.text import render_text

__all__ = [
    "RESULTS_SCHEMA",
    "RESULT_SCHEMA",
    "document",
    "documents",
    "explain",
    "render_text",
    "show_bundle",
    "show_openings",
    "show_quote",
]
