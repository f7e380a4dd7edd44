"""The folder of a run: settings, facts, vocabulary, checkpoints, records; begun, continued and opened."""
