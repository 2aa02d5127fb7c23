import os
import subprocess
import sys

import pytest

from fla_plugins.aloha_sim import rendering
from fla_sdk.errors import ConfigError

LOOK = """
import os
from fla_plugins.aloha_sim import plugin
environment = plugin.make("aloha_sim", camera_height=48, camera_width=64)
environment.reset(0)
print(os.environ["MUJOCO_GL"], environment.observe()["images/top"].std() > 10)
"""
RENDERER_VARIABLES = {"MUJOCO_GL", "PYOPENGL_PLATFORM", "DISABLE_RENDER_THREAD_OFFLOADING"}
WORKS = {"egl": rendering.egl_works, "osmesa": rendering.osmesa_works}


def run(program, **environment):
    """`program` in a fresh Python, where no renderer has been chosen yet."""
    clean = {key: value for key, value in os.environ.items() if key not in RENDERER_VARIABLES}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize(
    ("wish", "egl", "osmesa", "chosen"),
    [
        (None, True, True, "egl"),
        (None, False, True, "osmesa"),
        (None, False, False, rendering.NONE),
        ("osmesa", True, True, "osmesa"),
        ("egl", True, False, "egl"),
        ("glfw", True, True, "glfw"),
    ],
)
def test_egl_then_osmesa_unless_wished_otherwise(monkeypatch, wish, egl, osmesa, chosen):
    monkeypatch.setattr(sys, "platform", "linux")
    assert rendering.choose_backend(wish=wish, egl=lambda: egl, osmesa=lambda: osmesa) == chosen


@pytest.mark.parametrize("wish", ["egl", "osmesa"])
def test_a_wished_renderer_that_is_missing_is_refused_with_the_command_that_brings_it(wish):
    with pytest.raises(ConfigError, match=rf"MUJOCO_GL={wish}.*apt-get install -y"):
        rendering.choose_backend(wish=wish, egl=lambda: False, osmesa=lambda: False)


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_each_renderer_draws_and_ends_in_silence(backend):
    if not WORKS[backend]():
        pytest.skip(f"{backend} does not work here; install it with: {rendering.SYSTEM_PACKAGES}")
    done = run(LOOK, MUJOCO_GL=backend)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [backend, "True"], "")


def test_a_renderer_is_found_where_none_is_named(renderer):
    done = run(LOOK)
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [rendering.choose_backend(), "True"], "")


def test_without_a_renderer_physics_work_and_pictures_name_the_one_command():
    program = """
import numpy
from fla_plugins.aloha_sim import plugin
from fla_sdk.errors import ConfigError
environment = plugin.make("aloha_sim")
environment.reset(0)
print(environment.step(numpy.zeros(14)))
try:
    environment.observe()
except ConfigError as error:
    print(error)
"""
    done = run(program, MUJOCO_GL="off")
    assert done.stderr == ""
    assert done.stdout.startswith("False\n")
    assert rendering.SYSTEM_PACKAGES in done.stdout


def test_a_name_that_is_no_renderer_is_refused():
    done = run(LOOK, MUJOCO_GL="vulkan")
    assert done.returncode == 1
    assert "ConfigError: MUJOCO_GL='vulkan' cannot be used" in done.stderr
