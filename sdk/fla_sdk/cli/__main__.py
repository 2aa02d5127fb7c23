import sys

from fla_sdk.cli import main

sys.exit(main())
