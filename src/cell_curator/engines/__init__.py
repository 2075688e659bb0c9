"""Floor 3: whatever needs torch, which is imported inside functions only."""
