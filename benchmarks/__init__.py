"""What asv times and tracks. No tensor is made at import: a fork server must not hold OpenMP threads."""
