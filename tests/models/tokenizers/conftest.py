"""A SentencePiece model of Gemma's kind, trained on the spot."""

import io
import socket
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def sentencepiece_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """512 pieces, `<loc0000>` to `<loc0063>` among them; special ids and bytes as in PaliGemma and Gemma 3."""
    from sentencepiece import SentencePieceTrainer

    corpus = ["pick up the red cube\n", "put it into the bowl\n", "Task: fold, State: 1 2 3;\n", "Action: |"] * 40
    model = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="bpe",
        vocab_size=512,
        user_defined_symbols=["\n", *(f"<loc{i:04d}>" for i in range(64))],
        byte_fallback=True,
        pad_id=0,
        eos_id=1,
        bos_id=2,
        unk_id=3,
        split_digits=True,
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = tmp_path_factory.mktemp("tokenizer") / "trained.model"
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, and no network: whatever is fetched is refused at once, on this machine."""
    for name in ("FLA_DATA_HOME", "OPENPI_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", closed)
    monkeypatch.setenv("HF_ENDPOINT", closed)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("fla_sdk.policy.bucket.PAUSE_S", 0.0)
