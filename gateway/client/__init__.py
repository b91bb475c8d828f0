"""For applications and agents: unchanged SDK clients whose every answer has a checked receipt."""
