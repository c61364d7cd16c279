"""Every write to agents, as verbs, one module per noun. Only here is a status of theirs assigned."""
