"""What a log of outcomes says: what was paid and saved, how often it escalated, how long it took."""
