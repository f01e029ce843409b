"""Mathematics on arrays or symbols; no Keras, no text. Rooms inside load on first use."""
