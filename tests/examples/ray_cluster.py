"""A Ray instance on this machine with the deployment of `examples/ray_serve`, for its test.

    python ray_cluster.py PORT FOLDER

It serves `scripted:hold` and says `ready`; at each line that comes in it serves what the line names, and says so. It
ends with its input.
"""

import sys

import ray
from deployment import Arguments, app  # pyright: ignore[reportMissingImports]  # a script of the example
from ray import serve


def main(port: str, folder: str) -> None:
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=folder)
        serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
        _serve("scripted:hold")
        print("ready", flush=True)
        for line in sys.stdin:
            _serve(line.strip())
            print(f"serving {line.strip()}", flush=True)
        serve.shutdown()
    finally:
        ray.shutdown()


def _serve(checkpoint: str) -> None:
    serve.run(app(Arguments(checkpoint=checkpoint, embodiment="planar2", min_replicas=2, max_replicas=2, robots=2)))


main(*sys.argv[1:])
