"""What was heard, kept on the disk until all that came of it is stored: messages as they came, before any decoding."""
