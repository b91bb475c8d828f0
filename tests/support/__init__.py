"""Builders that tests of several areas share."""
