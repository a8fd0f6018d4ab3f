"""What can be read off a model at given parameters."""
