from agents.tokens import hash_token, new_token


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(1000)}

    assert len(tokens) == 1000
    assert all(token.startswith("ekr_") and len(token) >= 40 for token in tokens)


def test_a_hash_tells_nothing_and_is_always_the_same() -> None:
    token = new_token()

    assert hash_token(token) == hash_token(token) != hash_token(new_token())
    assert len(hash_token(token)) == 64
    assert token not in hash_token(token)
