"""Where quotes come from: one protocol, a provider chosen by URI."""
