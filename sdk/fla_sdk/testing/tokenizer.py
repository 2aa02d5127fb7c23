"""`CharacterTokenizer`: a tokenizer that needs no file and that a person can read back."""


class CharacterTokenizer:
    """One token per character, its code point; 2 begins and 1 ends a text."""

    def encode(self, text: str, *, bos: bool = False, eos: bool = False) -> list[int]:
        """Ids of `text`, with the begin and end marks when asked for."""
        return [2] * bos + [ord(character) for character in text] + [1] * eos
