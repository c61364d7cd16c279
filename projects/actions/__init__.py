"""Every write to projects, as verbs, one module per noun. Only here is a status of theirs assigned."""
