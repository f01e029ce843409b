"""Decoding: text out of models. `search` samples and searches, `nbce` reads many contexts at once."""

__all__: list[str] = []
