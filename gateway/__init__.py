"""The gateway inside the trust domain: forwards bytes, and asks the notary for receipts."""
