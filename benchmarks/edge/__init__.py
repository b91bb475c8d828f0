"""The gateway beside other proxies: processor time, latency and memory under the same load."""
