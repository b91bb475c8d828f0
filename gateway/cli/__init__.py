"""Networked commands: everything here may open sockets, nothing here decides a verdict."""
