"""What programs see and do here, over HTTP. Each address translates, calls one action or query, and answers."""
