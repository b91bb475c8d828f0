"""Endorsements from Intel's service or a cache of it: fetched, verified, stored by digest."""
