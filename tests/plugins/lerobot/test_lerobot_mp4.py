"""Frames are found and decoded as libavformat and plain decoding give them, whatever the encoder did."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from fla_plugins.lerobot.mp4 import read_samples
from fla_plugins.lerobot.video_reader import VideoFiles, read_index
from fla_sdk.errors import DataError

CODINGS: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
    "av1": ("libsvtav1", {"g": "2", "preset": "12", "svtav1-params": "lp=1"}, {}),
    "h264": ("libx264", {"g": "12", "bf": "3"}, {}),
    "h264 all references": ("libx264", {"g": "250", "bf": "0"}, {"movflags": "faststart"}),
    "h264 open groups": ("libx264", {"g": "9", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal"}, {}),
    "hevc": ("libx265", {"g": "10", "x265-params": "log-level=none:pools=1"}, {}),
    "mpeg4": ("mpeg4", {"g": "12", "bf": "2"}, {}),
    "fragments": ("libx264", {"g": "12", "bf": "3"}, {"movflags": "frag_keyframe+empty_moov"}),
    "limited colours": ("libx264", {"g": "12", "colorspace": "bt709", "color_range": "pc"}, {}),
}
PLAIN = {name for name in CODINGS if name != "fragments"}


@pytest.fixture(scope="module", params=CODINGS)
def video(request, tmp_path_factory) -> tuple[str, Path, list[np.ndarray]]:
    """A file, and its frames as plain decoding gives them."""
    codec, options, container_options = CODINGS[request.param]
    path = tmp_path_factory.mktemp("video") / "video.mp4"
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (24, 32, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w", options=container_options) as container:
        stream: Any = container.add_stream(codec, rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for i in range(40):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(scene, 3 * i, 1), format="rgb24")))
        container.mux(stream.encode())
    frames: list[np.ndarray] = []
    with av.open(str(path)) as container:
        frames += [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return request.param, path, frames


def test_the_tables_say_what_libavformat_says(video):
    name, path, frames = video
    with path.open("rb") as file:
        samples = read_samples(file)
    assert (samples is not None) == (name in PLAIN)
    packets: list[Any] = []
    with av.open(str(path)) as container:
        packets += [packet for packet in container.demux(video=0) if packet.pts is not None]
    index = read_index(path)
    assert len(index) == len(frames) == 40 and index.rate == pytest.approx(30, rel=1e-3)
    assert index.positions.tolist() == [packet.pos for packet in packets]
    assert index.sizes.tolist() == [packet.size for packet in packets]
    assert np.argsort(index.packets).tolist() == np.argsort(np.argsort([packet.pts for packet in packets])).tolist()
    assert sorted(index.packets[index.keys]) == [i for i, packet in enumerate(packets) if packet.is_keyframe]


def test_every_order_gives_the_frames_of_plain_decoding(video):
    _, path, frames = video
    rng = np.random.default_rng(0)
    for rows in (range(40), range(39, -1, -1), range(0, 40, 3), rng.integers(0, 40, 60).tolist(), [39, 39, 0, 0]):
        videos = VideoFiles(max_idle=1)
        for row in rows:
            np.testing.assert_array_equal(videos.frame(path, row), frames[row], err_msg=f"frame {row} of {rows}")


def test_a_decoder_goes_from_file_to_file(video, tmp_path):
    _, path, frames = video
    copies = [tmp_path / f"{i}.mp4" for i in range(3)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    videos = VideoFiles(max_idle=1, max_indexed=1)
    for row in range(40):
        np.testing.assert_array_equal(videos.frame(copies[row % 3], row), frames[row])


def test_frames_past_the_end(video):
    _, path, _ = video
    for frame in (-1, 40):
        with pytest.raises(IndexError, match="which has 40"):
            VideoFiles().frame(path, frame)


@pytest.mark.parametrize("content", [b"", b"no video at all" * 9, b"\0\0\0\x08moov", b"\0\0\0\x10moov\0\0\0\x08trak"])
def test_what_is_no_video(tmp_path, content):
    (tmp_path / "video.mp4").write_bytes(content)
    with pytest.raises(DataError, match=r"video\.mp4 is damaged or cut short"):
        read_index(tmp_path / "video.mp4")


def test_another_container_under_the_name_of_mp4(tmp_path):
    path = tmp_path / "video.mp4"
    with av.open(str(path), "w", format="matroska") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="is no mp4"):
        read_index(path)


def test_a_file_that_is_cut_anywhere_is_refused_or_read_right(video, tmp_path):
    _, path, frames = video
    content = path.read_bytes()
    copy = tmp_path / "cut.mp4"
    for end in range(0, len(content), len(content) // 25):
        copy.write_bytes(content[:end])
        try:
            image = VideoFiles().frame(copy, 20)
        except (DataError, IndexError):
            continue
        np.testing.assert_array_equal(image, frames[20])
