"""What the daemon knows about itself."""
