"""The API as a whole: addresses, errors, schema."""
