"""Which OpenGL MuJoCo renders with on a machine without a screen: EGL where it works, else OSMesa.

dm_control picks its backend once per process, from `MUJOCO_GL`, while it is imported; PyOpenGL likewise. A backend
that fails then cannot be exchanged any more, so the choice is made before either is imported, by asking the system's
libraries themselves.
"""

import ctypes
import os
import sys
from collections.abc import Callable

from fla_sdk.errors import ConfigError

SYSTEM_PACKAGES = "apt-get install -y libegl1 libgl1 libgl1-mesa-dri libosmesa6"
"""The one command (Debian, Ubuntu) that brings both backends."""

NONE = "off"
"""What dm_control calls running without a renderer: physics works, pictures do not."""

_EGL_PLATFORM_DEVICE = 0x313F
_MOST_DEVICES = 10


def egl_works() -> bool:
    """Whether some EGL device (a GPU, or Mesa's software renderer) opens a display without a screen."""
    egl = _library("libEGL.so.1")
    # PyOpenGL takes the drawing functions from one of these, EGL itself does not bring them.
    if egl is None or (_library("libOpenGL.so.0") or _library("libGL.so.1")) is None:
        return False
    egl.eglGetProcAddress.restype = ctypes.c_void_p
    egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
    query_address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
    display_address = egl.eglGetProcAddress(b"eglGetPlatformDisplayEXT")
    if not query_address or not display_address:
        return False
    pointers, count = ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)
    query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, pointers, count)(query_address)
    display_of = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_uint, ctypes.c_void_p, count)(display_address)
    egl.eglInitialize.argtypes = [ctypes.c_void_p, count, count]

    devices, found = (ctypes.c_void_p * _MOST_DEVICES)(), ctypes.c_int()
    if not query(_MOST_DEVICES, devices, ctypes.byref(found)):
        return False
    # Displays stay initialised: they are shared by the whole process, and closing one would take it from others.
    displays = (display_of(_EGL_PLATFORM_DEVICE, device, None) for device in devices[: found.value])
    return any(display and egl.eglInitialize(display, None, None) for display in displays)


def osmesa_works() -> bool:
    """Whether Mesa's off-screen software renderer is installed."""
    return any(_library(f"libOSMesa.so{version}") is not None for version in (".8", ".6", ""))


def choose_backend(
    *,
    wish: str | None = None,
    egl: Callable[[], bool] = egl_works,
    osmesa: Callable[[], bool] = osmesa_works,
) -> str:
    """The value for `MUJOCO_GL`: `wish` where there is one, else the first that works, else `NONE`.

    Raises `ConfigError` when `wish` is a backend that does not work here.
    """
    works = {"egl": egl, "osmesa": osmesa}
    if wish is not None:
        if wish in works and not works[wish]():
            raise ConfigError(
                f"MUJOCO_GL={wish}, but {wish} does not work here; unset it to let fla choose, "
                f"or install the renderers: {SYSTEM_PACKAGES}"
            )
        return wish
    if sys.platform != "linux":
        return "glfw"
    return next((backend for backend, usable in works.items() if usable()), NONE)


def prepare() -> str:
    """Make dm_control import with a backend that works, and return that backend's name.

    Sets `MUJOCO_GL` where the caller has not, so that worker processes inherit the choice. Without effect, but still
    true, when dm_control is already imported.
    """
    if "dm_control._render" not in sys.modules:
        # Otherwise OSMesa draws in a thread of its own, which is gone before dm_control frees its contexts at
        # exit, and complains ("cannot schedule new futures").
        os.environ.setdefault("DISABLE_RENDER_THREAD_OFFLOADING", "1")
        os.environ["MUJOCO_GL"] = choose_backend(wish=os.environ.get("MUJOCO_GL"))
    try:
        from dm_control import _render
    except ModuleNotFoundError:
        raise
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"MUJOCO_GL={os.environ['MUJOCO_GL']!r} cannot be used: {error}") from error
    return _render.BACKEND or NONE


def no_renderer() -> ConfigError:
    """The error for a picture asked of a process without a renderer."""
    return ConfigError(
        "MuJoCo cannot render here: neither EGL nor OSMesa works (or MUJOCO_GL turns rendering off). "
        f"Install both with: {SYSTEM_PACKAGES}"
    )


def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None
