"""What happens to a document: pure, without input, output or clock."""
