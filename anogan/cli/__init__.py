"""The `anogan` command: thin commands, one file each, that call the recipes.

Exit codes: 0 all is well, 1 a part was rejected (`score`) or a fault was found (`doctor`), 2 the user's
mistake or a machine that cannot do it, 3 a fault of this package, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import os

from anogan.cli._terminal import make_streams_safe


def main() -> None:
    """Entry point of the `anogan` script and of `python -m anogan`; leaves by `SystemExit`."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # It would ask the network at import.
    make_streams_safe()
    from anogan.cli._app import app

    app(prog_name="anogan")
