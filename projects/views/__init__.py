"""The pages of projects, one module per place."""
